"use strict";
const specs = JSON.parse(document.getElementById("specs").textContent);
const atlases = JSON.parse(document.getElementById("atlases").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const hover = Object.assign(document.createElement("div"), { id: "hover", hidden: true });
document.body.append(hover);

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

/** An element that shows one of an atlas's thumbnails, twice as large as it is. */
function thumb(atlas, row) {
  const side = atlas.side * (atlas.side < 24 ? 4 : 2);
  const element = document.createElement("span");
  element.className = `thumb ${atlas.look}`;
  element.style.width = element.style.height = `${side}px`;
  const rows = Math.ceil(atlas.names.length / atlas.columns);
  element.style.backgroundSize = `${side * atlas.columns}px ${side * rows}px`;
  element.style.backgroundPosition = `${-side * (row % atlas.columns)}px ${-side * Math.floor(row / atlas.columns)}px`;
  return element;
}

function told(atlas, row) {
  return atlas.names[row] + (atlas.labels.length ? `, ${atlas.labels[row]}` : "");
}

/** Shows an image and its nearest neighbors, each a button that leads on. */
function show(id, row) {
  const atlas = atlases[id];
  const panel = document.getElementById(`${id}-panel`);
  const image = document.createElement("p");
  image.append(thumb(atlas, row), document.createElement("br"), told(atlas, row));
  const near = Object.assign(document.createElement("div"), { className: "neighbors" });
  for (const other of atlas.neighbors[row]) {
    const button = document.createElement("button");
    const name = document.createElement("span");
    name.textContent = told(atlas, other);
    button.append(thumb(atlas, other), name);
    button.addEventListener("click", () => show(id, other));
    near.append(button);
  }
  const head = Object.assign(document.createElement("h3"), { textContent: "Its nearest neighbors" });
  panel.replaceChildren(image, head, near);
  document.getElementById(`${id}-row`).value = row + 1;
}

function follow(id, view) {
  const atlas = atlases[id];
  view.addEventListener("mousemove", (event, item) => {
    const row = item && item.datum ? item.datum.row : undefined;
    hover.hidden = row === undefined;
    if (hover.hidden) return;
    hover.replaceChildren(thumb(atlas, row), document.createElement("br"), told(atlas, row));
    hover.style.left = `${Math.min(event.clientX + 14, innerWidth - 140)}px`;
    hover.style.top = `${Math.min(event.clientY + 14, innerHeight - 110)}px`;
  });
  view.addEventListener("mouseout", () => { hover.hidden = true; });
  view.addEventListener("click", (event, item) => {
    if (item && item.datum && item.datum.row !== undefined) show(id, item.datum.row);
  });
}

window.views = {};
async function draw() {
  for (const element of document.querySelectorAll(".chart")) {
    const renderer = element.id in atlases ? "canvas" : "svg";
    const made = await vegaEmbed(element, specs[element.id], { actions: false, renderer, config: theme() });
    window.views[element.id] = made.view;
    if (element.id in atlases) follow(element.id, made.view);
  }
  document.body.dataset.drawn = dark.matches ? "dark" : "light";
}

for (const [id, atlas] of Object.entries(atlases)) {
  // One rule holds the thumbnails of all elements that show one.
  atlas.look = `look-${id}`;
  const look = Object.assign(document.createElement("style"), { textContent: `.${atlas.look} { background-image: url(${atlas.sprite}) }` });
  document.head.append(look);
  const field = document.getElementById(`${id}-row`);
  field.addEventListener("change", () => {
    const row = Math.round(Number(field.value)) - 1;
    show(id, Math.min(Math.max(row, 0), atlases[id].names.length - 1));
  });
  show(id, 0);
}
dark.addEventListener("change", draw);
draw();
