// The published models, and which of them are asked: one or more for photos, one or more for drawings.

import { get } from "./api.js";
import { byId, el, remember, remembered, tell } from "./dom.js";
import { number, t } from "./i18n.js";

let models = [];
let fallback = "";
let runner = null;
let drawing = false; // which of the two lists is shown
let settle;
const settled = new Promise((resolve) => (settle = resolve));
const chosen = { photo: new Set(), drawn: new Set() };

/** Return every published model. */
export const all = () => models;

/** Return where that is which runs models in the browser; null on a server that has no such thing. */
export const runtime = () => runner;

/** Return the models that are asked about photos or about drawings, in the list's order. */
export function asked(kind) {
  return models.filter((model) => chosen[kind].has(model.ref)).map((model) => model.ref);
}

/** Return the same once it is known which there are; [""], the server's own choice, where nobody knows. */
export async function toAsk(kind) {
  await settled;
  const found = asked(kind);
  return found.length ? found : [""];
}

/** Return whether any model takes drawings. */
export const anyDrawn = () => models.some((model) => model.drawn);

/** Return whether a model was trained on drawings; false for one that is no longer published. */
export const isDrawn = (ref) => models.some((model) => model.ref === ref && model.drawn);

/** Return a model's name for people: the version only where there are several. */
export function shortName(ref) {
  const [name] = ref.split("@");
  return models.filter((model) => model.name === name).length > 1 ? ref : name;
}

/** Fetch the list, and choose what was chosen the last time. */
export async function load() {
  const found = await get("api/models").catch((problem) => {
    settle();
    throw problem;
  });
  models = found.models ?? [];
  fallback = found.default ?? "";
  runner = found.runtime ?? null;
  for (const kind of ["photo", "drawn"]) {
    const fitting = models.filter((model) => Boolean(model.drawn) === (kind === "drawn"));
    const before = remembered(`models.${kind}`, "").split(" ");
    const kept = fitting.filter((model) => before.includes(model.ref));
    const first = fitting.find((model) => model.ref === fallback) ?? fitting.find((model) => model.current) ?? fitting[0];
    chosen[kind] = new Set((kept.length ? kept : first ? [first] : []).map((model) => model.ref));
  }
  settle();
  draw();
  tell("models", models);
}

/** Show the models for photos, or those for drawings. */
export function show(kind) {
  drawing = kind === "drawn";
  draw();
}

/** Return the default model first, then the others by name, the newest version first. */
export function ordered(list = models) {
  const rank = (model) => [model.ref === fallback ? 0 : 1, model.current ? 0 : 1];
  return [...list].sort((a, b) => rank(a)[0] - rank(b)[0] || rank(a)[1] - rank(b)[1] || a.ref.localeCompare(b.ref));
}

function draw() {
  const kind = drawing ? "drawn" : "photo";
  const fitting = ordered().filter((model) => Boolean(model.drawn) === drawing);
  const now = fitting.filter((model) => model.current || chosen[kind].has(model.ref));
  const older = fitting.filter((model) => !now.includes(model));
  const list = byId("model-list");
  list.replaceChildren(...now.map((model) => choice(model, kind)));
  if (!fitting.length) list.append(el("p", { class: "muted", text: () => t("models.none") }));
  if (older.length) {
    const others = older.map((model) => choice(model, kind));
    list.append(el("details", {}, el("summary", { text: () => t("models.older") }), ...others));
  }
  if (fitting.length > 1) list.append(el("p", { class: "muted small", text: () => t("models.hint") }));
}

function choice(model, kind) {
  const box = el("input", { type: "checkbox", value: model.ref });
  box.checked = chosen[kind].has(model.ref);
  box.addEventListener("change", () => {
    if (box.checked) chosen[kind].add(model.ref);
    else if (chosen[kind].size > 1) chosen[kind].delete(model.ref);
    else box.checked = true; // somebody has to answer
    remember(`models.${kind}`, asked(kind).join(" "));
  });
  const about = () => [t("models.classes", { n: number(model.classes) }), model.licence].filter(Boolean).join(" · ");
  return el("label", { class: "choice", title: model.description },
    box,
    el("span", {}, el("span", { class: "name", text: shortName(model.ref) }), el("span", { class: "muted small", text: about })));
}
