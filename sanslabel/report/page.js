"use strict";
const specs = JSON.parse(document.getElementById("specs").textContent);
const maps = JSON.parse(document.getElementById("maps").textContent);
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

/** Returns an element that shows an enlarged thumbnail of a map. */
function thumb(map, row) {
  const side = map.side * (map.side < 24 ? 4 : 2);
  const element = document.createElement("span");
  element.className = `thumb ${map.style}`;
  element.style.width = element.style.height = `${side}px`;
  const rows = Math.ceil(map.names.length / map.columns);
  element.style.backgroundSize = `${side * map.columns}px ${side * rows}px`;
  element.style.backgroundPosition = `${-side * (row % map.columns)}px ${-side * Math.floor(row / map.columns)}px`;
  return element;
}

/** Returns the name of an image, and its class if it has one. */
function caption(map, row) {
  return map.names[row] + (map.labels.length ? `, ${map.labels[row]}` : "");
}

/** Shows an image and its nearest neighbors. A click on a neighbor shows that image and its neighbors. */
function show(id, row) {
  const map = maps[id];
  const panel = document.getElementById(`${id}-panel`);
  const image = document.createElement("p");
  image.append(thumb(map, row), document.createElement("br"), caption(map, row));
  const neighbors = Object.assign(document.createElement("div"), { className: "neighbors" });
  for (const other of map.neighbors[row]) {
    const button = document.createElement("button");
    const name = document.createElement("span");
    name.textContent = caption(map, other);
    button.append(thumb(map, other), name);
    button.addEventListener("click", () => show(id, other));
    neighbors.append(button);
  }
  const title = Object.assign(document.createElement("h3"), { textContent: "Nearest neighbors" });
  panel.replaceChildren(image, title, neighbors);
  document.getElementById(`${id}-row`).value = row + 1;
}

/** Shows the image of the point under the pointer. A click on a point shows the neighbors of its image. */
function listen(id, view) {
  const map = maps[id];
  view.addEventListener("mousemove", (event, item) => {
    const row = item && item.datum ? item.datum.row : undefined;
    hover.hidden = row === undefined;
    if (hover.hidden) return;
    hover.replaceChildren(thumb(map, row), document.createElement("br"), caption(map, row));
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
    const renderer = element.id in maps ? "canvas" : "svg";
    const chart = await vegaEmbed(element, specs[element.id], { actions: false, renderer, config: theme() });
    window.views[element.id] = chart.view;
    if (element.id in maps) listen(element.id, chart.view);
  }
  document.body.dataset.drawn = dark.matches ? "dark" : "light";
}

for (const [id, map] of Object.entries(maps)) {
  // All thumbnails of a map share one style rule, which holds the sprite.
  map.style = `thumbnails-${id}`;
  const textContent = `.${map.style} { background-image: url(${map.sprite}) }`;
  document.head.append(Object.assign(document.createElement("style"), { textContent }));
  const field = document.getElementById(`${id}-row`);
  field.addEventListener("change", () => {
    const row = Math.round(Number(field.value)) - 1;
    show(id, Math.min(Math.max(row, 0), map.names.length - 1));
  });
  show(id, 0);
}
dark.addEventListener("change", draw);
draw();
