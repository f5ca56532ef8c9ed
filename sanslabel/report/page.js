"use strict";
const specs = JSON.parse(document.getElementById("specs").textContent);
const maps = JSON.parse(document.getElementById("maps").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const hover = made("div", { id: "hover", hidden: true });
document.body.append(hover);
/** pictures that a search shows at most */
const HITS = 12;

/** Returns an element with properties and children. */
function made(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function theme() {
  const ink = dark.matches ? "#e7ebef" : "#1c2126";
  const line = dark.matches ? "#39424b" : "#d5dbe1";
  const text = { labelColor: ink, titleColor: ink };
  return {
    background: "transparent",
    axis: { ...text, gridColor: line, domainColor: line, tickColor: line },
    legend: text,
    view: { stroke: line },
  };
}

function address(map, row) {
  return `data:image/webp;base64,${map.thumbnails[row]}`;
}

/** Returns an element that shows a whole picture. A small one is enlarged, with its pixels as squares. */
function thumb(map, row) {
  const image = made("img", { alt: map.names[row], src: address(map, row) });
  image.decode().then(() => image.classList.toggle("small", Math.max(image.naturalWidth, image.naturalHeight) < 64));
  return made("span", { className: "thumb picture" }, image);
}

/** Returns a text that may be broken after slashes and underscores, and before the suffix. */
function breakable(text) {
  const element = made("span", { className: "name" });
  for (const piece of text.split(/(?<=[/_])|(?=\.\w+$)/)) element.append(piece, made("wbr"));
  return element;
}

/** Returns the name of a picture, and its class unless the name begins with it. */
function caption(map, row) {
  const name = map.names[row], label = map.labels[row];
  return breakable(label && !`${map.folder}${name}`.includes(`${label}/`) ? `${name}, ${label}` : name);
}

/** Returns a button with a picture, which shows the picture's neighbors. In short, it has the name without folders. */
function choice(id, row, short, ...words) {
  const name = caption(maps[id], row), title = name.textContent;
  const button = made("button", { title }, thumb(maps[id], row), short ? breakable(title.split("/").pop()) : name,
    ...words);
  button.setAttribute("aria-label", [title, ...words.map((element) => `distance ${element.textContent}`)].join(", "));
  button.addEventListener("click", () => {
    show(id, row);
    document.getElementById(`${id}-panel`).closest(".map").scrollIntoView({ block: "nearest" });
  });
  return button;
}

function distance(number) {
  return made("span", { className: "dim", title: "distance" }, number.toFixed(number < 0.1 ? 3 : 2));
}

/** Returns pictures in rows; on a narrow screen, in one row that scrolls. */
function gallery(...children) {
  return made("div", { className: "gallery scroll" }, ...children);
}

function pairs(...children) {
  return made("div", { className: "gallery pairs scroll" }, ...children);
}

/** Shows a picture and its nearest neighbors. A click on a neighbor shows that picture and its neighbors. */
function show(id, row) {
  const map = maps[id];
  const name = made("p", {}, thumb(map, row), made("br"), caption(map, row));
  if (map.links[row]) name.append(" ", made("a", { href: map.links[row], target: "_blank" }, "open the file"));
  const neighbors = map.neighbors[row].map((other, i) => choice(id, other, false, distance(map.distances[row][i])));
  const help = made("div", { className: "dim" }, "The number is the distance: 0 for ", map.samples,
    " that are the same to the encoder, 1 for unrelated ones. ");
  if (map.folder) help.append("All names begin with ", breakable(map.folder));
  const panel = document.getElementById(`${id}-panel`);
  panel.replaceChildren(name, made("h3", {}, "Nearest neighbors"), gallery(...neighbors), help);
  document.getElementById(`${id}-row`).value = row + 1;
  window.views[id]?.signal("chosen", [row, ...map.neighbors[row]]).runAsync();
}

/** Shows the pictures whose name or class has a text in it. */
function search(id, text) {
  const map = maps[id], hits = document.getElementById(`${id}-hits`), wanted = text.trim().toLowerCase();
  const rows = [];
  if (wanted) map.names.forEach((name, row) => {
    if (`${name} ${map.labels[row] || ""}`.toLowerCase().includes(wanted)) rows.push(row);
  });
  const count = rows.length > HITS ? `${HITS} of ${rows.length} ${map.samples}` : `${rows.length} ${map.samples}`;
  hits.replaceChildren(...rows.slice(0, HITS).map((row) => choice(id, row, true)));
  if (wanted) hits.prepend(made("p", { className: "dim" }, rows.length ? count : "No name has this in it."));
}

/** Makes a button for each class or cluster of the map. A click lets its points stand out. */
function legend(id) {
  const view = window.views[id], figure = document.getElementById(id).closest("figure");
  const grouping = view.signal("colored");
  const buttons = (maps[id].groups[grouping] || []).map((group) => {
    const swatch = made("span", { className: "swatch", style: `background:${group.color}` });
    const button = made("button", {}, swatch, `${group.name || "no class"} (${group.count})`);
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") === "false";
      for (const other of buttons) other.setAttribute("aria-pressed", String(on && other === button));
      view.signal("standout", on ? group.name : "").runAsync();
    });
    return button;
  });
  figure.querySelector(".legend")?.remove();
  view.signal("standout", "").runAsync();
  const box = made("div", { className: "legend" }, ...buttons);
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", `colors by ${grouping}; a button lets its ${maps[id].samples} stand out`);
  figure.querySelector(".chart").after(box);
}

/** Shows the most unusual pictures, the most alike pairs, and examples of each cluster. */
function galleries(id) {
  const map = maps[id], place = document.getElementById(`${id}-galleries`);
  const add = (title, words, ...blocks) => place.append(
    made("h3", {}, title), made("p", { className: "dim" }, words), ...blocks);
  if (map.unusual.length) add("Most unusual", `The ${map.samples} that are farthest from their neighbors.`,
    gallery(...map.unusual.map((row) => choice(id, row, true))));
  if (map.pairs.length) add("Most alike pairs", "Copies and near copies stand here first, if there are any.",
    pairs(...map.pairs.map(([first, second, number]) => made("div", { className: "pair" },
      choice(id, first, true), choice(id, second, true), made("span", { className: "dim" }, "distance ", distance(number))))));
  if (map.clusters.length) add("Clusters", "Groups that the encoder puts together, found without classes, and the most "
    + `typical ${map.samples} of each.`, ...map.clusters.map((cluster) => {
    const group = map.groups.cluster.find((group) => group.name === cluster.name);
    const swatch = made("span", { className: "swatch", style: `background:${group.color}` });
    const words = `${cluster.size} ${map.samples}${cluster.commonest ? `, ${cluster.commonest}` : ""}`;
    return made("div", { className: "cluster" }, swatch, made("strong", {}, cluster.name),
      made("span", { className: "dim" }, words), gallery(...cluster.examples.map((row) => choice(id, row, true))));
  }));
}

/** Shows the picture of the point under the pointer. A click on a point shows the neighbors of its picture. */
function listen(id, view) {
  const map = maps[id];
  view.addEventListener("mousemove", (event, item) => {
    const row = item && item.datum ? item.datum.row : undefined;
    hover.hidden = row === undefined;
    if (hover.hidden) return;
    hover.replaceChildren(thumb(map, row), caption(map, row));
    hover.style.left = `${Math.min(event.clientX + 14, innerWidth - 140)}px`;
    hover.style.top = `${Math.min(event.clientY + 14, innerHeight - 150)}px`;
  });
  view.addEventListener("mouseout", () => { hover.hidden = true; });
  view.addEventListener("click", (event, item) => {
    if (item && item.datum && item.datum.row !== undefined) show(id, item.datum.row);
  });
  view.addSignalListener("colored", () => legend(id));
  legend(id);
  show(id, Number(document.getElementById(`${id}-row`).value) - 1);
}

window.views = {};
async function draw() {
  for (const element of document.querySelectorAll(".chart")) {
    const renderer = element.id in maps ? "canvas" : "svg";
    const chart = await vegaEmbed(element, specs[element.id], { actions: false, renderer, config: theme() });
    window.views[element.id] = chart.view;
    if (element.id in maps) listen(element.id, chart.view);
  }
  document.body.dataset.drawn = dark.matches ? "dark" : "light";
}

for (const [id, map] of Object.entries(maps)) {
  for (const row of map.spread) specs[id].data.values[row].url = address(map, row);
  const field = document.getElementById(`${id}-row`);
  field.addEventListener("change", () => {
    const row = Math.round(Number(field.value)) - 1;
    show(id, Math.min(Math.max(row, 0), map.names.length - 1));
  });
  const text = document.getElementById(`${id}-search`);
  text.addEventListener("input", () => search(id, text.value));
  galleries(id);
}
// Charts have no width while they are folded.
for (const element of document.querySelectorAll("details"))
  element.addEventListener("toggle", () => window.dispatchEvent(new Event("resize")));
dark.addEventListener("change", draw);
draw();
