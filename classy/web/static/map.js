// The map of places: an offline outline, clusters as buttons, and an area that is marked by dragging.

import { address } from "./api.js";
import { byId, el, fill, hear, say } from "./dom.js";
import { apart, boxOf, clusters, parsedBox, wrapped } from "./earth.js";
import { query, setBox } from "./filters.js";
import { nameOf, number, t } from "./i18n.js";
import { open } from "./picture.js";
import { degrees, thumbOf, titleOf } from "./table.js";
import { thumb } from "./thumbs.js";

const SVG = "http://www.w3.org/2000/svg";
const TARGET_PX = 44; // of a finger; closer places become one button
const ZOOM_MAX = 64;
const [TOP, BOTTOM] = [84, -60]; // without most of Antarctica, where few pictures are taken
const map = byId("map");
const view = { x: 0, north: 12, zoom: 1 };

let svg = null;
let rows = [];
let marking = null; // the first corner while an area is drawn
let moving = null;

export function start() {
  hear("view", (name) => name === "history" && show());
  hear("rows", (found) => {
    rows = found.filter((row) => row.newest.place);
    byId("map-found").replaceChildren();
    if (svg) draw();
  });
  byId("map-in").addEventListener("click", () => zoom(2));
  byId("map-out").addEventListener("click", () => zoom(1 / 2));
  byId("map-all").addEventListener("click", () => {
    Object.assign(view, { x: 0, north: 12, zoom: 1 });
    if (query().box) setBox("");
    draw();
  });
  byId("map-select").addEventListener("click", () => mark(byId("map-select").getAttribute("aria-pressed") !== "true"));
  map.addEventListener("keydown", typed);
  map.addEventListener("pointerdown", pressed);
  map.addEventListener("pointermove", dragged);
  for (const name of ["pointerup", "pointercancel"]) map.addEventListener(name, released);
  new ResizeObserver(() => svg && draw()).observe(map);
}

async function show() {
  if (svg) return draw();
  svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("preserveAspectRatio", "none"); // the box has the view's proportions already
  map.append(svg, el("div", { class: "marks" }));
  const world = await fetch(address("static/world.json")).then((reply) => reply.json()).catch(() => null);
  if (world) outline(world);
  return draw();
}

function outline(world) {
  const shape = (name, attributes, into) => {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    into.append(node);
    return node;
  };
  const defs = shape("defs", {}, svg);
  const group = shape("g", { id: "world", transform: `scale(${world.grid_deg})` }, defs);
  shape("path", { d: world.land, class: "land" }, group);
  shape("path", { d: world.borders, class: "borders", "vector-effect": "non-scaling-stroke" }, group);
  for (const turn of [-360, 0, 360]) shape("use", { href: "#world", x: turn }, svg);
  shape("rect", { class: "area", "vector-effect": "non-scaling-stroke" }, svg);
}

const span = () => 360 / view.zoom;
const scale = () => (map.clientWidth || 1) / span(); // px per degree
const tall = () => (map.clientHeight || 1) / scale();

function draw() {
  view.x = wrapped(view.x);
  const half = tall() / 2;
  const [least, most] = [BOTTOM - 6 + half, TOP + 6 - half];
  view.north = least > most ? (TOP + BOTTOM) / 2 : Math.min(most, Math.max(least, view.north));
  svg.setAttribute("viewBox", `${view.x - span() / 2} ${-view.north - half} ${span()} ${tall()}`);
  area(parsedBox(query().box));
  const places = rows.map((row) => ({
    row, north: row.newest.place.latitude_deg, east: row.newest.place.longitude_deg,
  }));
  const groups = clusters(places, TARGET_PX / scale(), view.x).filter(inside);
  // From west to east, as the tab key goes through them.
  map.lastElementChild.replaceChildren(...groups.sort((a, b) => a.x - b.x).map(button));
  fill(byId("map-note"), { text: () => (byId("map-select").getAttribute("aria-pressed") === "true" ? t("map.marking")
    : `${query().box ? `${t("map.marked")} ` : ""}${t("map.count", { n: number(rows.length) })}`) });
  byId("map-in").disabled = view.zoom >= ZOOM_MAX;
  byId("map-out").disabled = view.zoom <= 1;
}

const inside = (group) => Math.abs(group.x) <= span() / 2 && Math.abs(group.north - view.north) <= tall() / 2;

function button(group) {
  const [first] = group.places;
  const count = group.places.length;
  const place = () => `${degrees(group.north, "N", "S")}, ${degrees(wrapped(view.x + group.x), "E", "W")}`;
  const label = () => (count > 1 ? t("map.cluster", { n: number(count), place: place() })
    : t("map.one", { label: first.row.newest.label ? nameOf(first.row.newest) : titleOf(first.row.newest), place: place() }));
  return el("button", {
    type: "button", class: count > 1 ? "mark many" : "mark", "aria-label": label, title: label,
    on: { click: () => (count > 1 ? list(group, place) : open(first.row)) },
    style: { "--x": `${50 + (100 * group.x) / span()}%`, "--y": `${50 + (100 * (view.north - group.north)) / tall()}%` },
  }, el("span", { text: count > 1 ? () => number(count) : "" }));
}

/** List a cluster's pictures, and look closer where that tells them apart. */
function list(group, place) {
  const found = group.places.map(({ row }) =>
    el("li", {}, el("button", { type: "button", class: "picture", on: { click: () => open(row) } },
      thumb(thumbOf(row), 56),
      el("span", { class: "name", text: () => (row.newest.label ? nameOf(row.newest) : titleOf(row.newest)) }))));
  const title = el("h3", { tabindex: "-1", text: () => t("map.found", { n: number(found.length), place: place() }) });
  byId("map-found").replaceChildren(title, el("ul", { class: "found" }, ...found));
  view.x += group.x;
  view.north = group.north;
  if (view.zoom < ZOOM_MAX) zoom(2);
  title.focus({ preventScroll: true });
}

function area(box) {
  const rect = svg.querySelector(".area");
  if (!rect) return;
  const shown = box && { x: view.x + apart((box.west + box.east) / 2, view.x) - (box.east - box.west) / 2, y: -box.north,
    width: box.east - box.west, height: box.north - box.south };
  for (const [name, value] of Object.entries(shown ?? { width: 0, height: 0 })) rect.setAttribute(name, value);
}

function zoom(by) {
  view.zoom = Math.min(ZOOM_MAX, Math.max(1, view.zoom * by));
  draw();
}

function typed(event) {
  if (event.target !== map) return;
  const step = span() / 8;
  const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step / 2], ArrowDown: [0, -step / 2] };
  if (moves[event.key]) {
    view.x += moves[event.key][0];
    view.north += moves[event.key][1];
    draw();
  } else if (event.key === "+" || event.key === "=") zoom(2);
  else if (event.key === "-") zoom(1 / 2);
  else return;
  event.preventDefault();
}

function mark(on) {
  byId("map-select").setAttribute("aria-pressed", String(on));
  map.classList.toggle("marking", on);
  marking = null;
  draw();
}

function at(event) {
  const box = map.getBoundingClientRect();
  return {
    x: view.x + ((event.clientX - box.left) / box.width - 0.5) * span(),
    north: view.north - ((event.clientY - box.top) / box.height - 0.5) * tall(),
  };
}

function pressed(event) {
  if (event.button !== 0 || event.target.closest("button")) return;
  map.setPointerCapture(event.pointerId);
  if (map.classList.contains("marking")) marking = at(event);
  else moving = at(event);
}

function dragged(event) {
  if (marking) area(parsedBox(boxOf(marking, at(event))));
  else if (moving) {
    const now = at(event);
    view.x += moving.x - now.x;
    view.north += moving.north - now.north;
    draw();
  }
}

function released(event) {
  const from = marking;
  moving = marking = null;
  if (!from) return;
  const to = at(event);
  const wide = Math.min(Math.abs(to.x - from.x), Math.abs(to.north - from.north)) * scale();
  if (event.type === "pointerup" && wide > 4) { // a click marks nothing
    mark(false);
    setBox(boxOf(from, to));
    say(t("map.marked"));
  } else draw();
}
