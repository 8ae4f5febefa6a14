// Classifying in this browser: who wants it asks the server for a model once, and for nothing about any picture.

import { address, own, Problem } from "./api.js";
import { byId, el, hear, remember, remembered } from "./dom.js";
import { number, t } from "./i18n.js";
import { all, runtime } from "./models.js";

const IDLE_MS = 120_000; // after which a model's memory is given back
const able = typeof OffscreenCanvas === "function" && typeof WebAssembly === "object";
const workers = new Map(); // by model
let questions = 0;

export function start() {
  hear("models", draw);
}

/** Return whether pictures stay here. */
export const wanted = () => able && (Boolean(runtime()?.url) || !all().length) && remembered("in-browser", "no") === "yes";

function draw() {
  const offered = able && runtime() && all().some((model) => model.browser);
  byId("in-browser").replaceChildren(...(offered ? (runtime().url ? choice() : hint()) : []));
}

function choice() {
  const box = el("input", { type: "checkbox", id: "in-browser-box" });
  box.checked = wanted();
  box.addEventListener("change", () => {
    remember("in-browser", box.checked ? "yes" : "no");
    if (!box.checked) for (const model of [...workers.keys()]) free(model);
  });
  const about = () => t("browser.about", { mb: number(runtime().bytes / 1e6) });
  return [el("label", { class: "choice" }, box,
    el("span", {}, el("span", { class: "name", text: () => t("browser") }), el("span", { class: "muted small", text: about })))];
}

const hint = () => [el("p", { class: "muted small", text: () => t("browser.hint", { command: runtime().command }) })];

/**
 * Classify a picture here.
 *
 * @param {{blob?: Blob}} source
 * @param {string} ref  Of the model.
 * @param {{topK: number, signal: AbortSignal, sent: function(number, string): void}} options  `sent` hears which share
 *   of the model is there.
 * @returns {Promise<Object>} what the server would answer, with `in_browser`
 */
export function classify(source, ref, { topK, signal, sent }) {
  const model = all().find((one) => one.ref === ref);
  if (!source.blob) return Promise.reject(refused("browser.address"));
  if (!all().length) return Promise.reject(new Problem({})); // nobody knows whether there is a model to run here
  if (!model?.browser) return Promise.reject(refused("browser.too-large"));
  return new Promise((resolve, reject) => {
    const { worker, pending } = workerOf(ref);
    const id = (questions += 1);
    const end = (then, value) => {
      signal.removeEventListener("abort", stop);
      pending.delete(id);
      then(value);
      if (workers.has(ref)) rest(ref);
    };
    const stop = () => {
      end(reject, new Problem({ cancelled: true }));
      if (!pending.size) free(ref); // which ends a download too
    };
    pending.set(id, ({ share, value, problem }) => {
      if (share !== undefined) sent(share, "browser.loading");
      else if (value) end(resolve, value);
      else end(reject, problemOf(problem));
    });
    signal.addEventListener("abort", stop);
    sent(0, "browser.loading");
    const { url, bytes } = runtime();
    worker.postMessage({ id, place: address(model.browser.url), runtime: { url: address(url), bytes }, headers: own(), blob: source.blob, topK });
  });
}

function workerOf(ref) {
  if (!workers.has(ref)) {
    const worker = new Worker(new URL("./browser-worker.js", import.meta.url), { type: "module" });
    const pending = new Map();
    const lost = (problem) => {
      for (const tell of [...pending.values()]) tell({ problem });
      free(ref); // the next question starts with another one
    };
    worker.addEventListener("message", ({ data }) => (data.unloaded ? lost(data.problem) : pending.get(data.id)?.(data)));
    worker.addEventListener("error", (event) => lost({ reason: "failed", detail: event.message ?? "" }));
    workers.set(ref, { worker, pending, timer: 0 });
  }
  const found = workers.get(ref);
  clearTimeout(found.timer);
  return found;
}

function rest(ref) {
  const found = workers.get(ref);
  clearTimeout(found.timer);
  if (!found.pending.size) found.timer = setTimeout(() => free(ref), IDLE_MS);
}

function free(ref) {
  const found = workers.get(ref);
  if (!found) return;
  workers.delete(ref);
  clearTimeout(found.timer);
  found.worker.terminate();
  for (const tell of [...found.pending.values()]) tell({ problem: { reason: "stopped" } });
}

function problemOf({ reason, detail = "", status = 0 }) {
  if (reason === "stopped") return new Problem({ cancelled: true });
  if (reason === "offline") return new Problem({});
  if (reason === "too-large") return new Problem({ status: 413, detail });
  if (reason === "unreadable") return refused("browser.unreadable");
  if (status) return new Problem({ status, detail });
  return Object.assign(new Problem({ status: 500, detail }), { title: "browser.failed" });
}

const refused = (key) => Object.assign(new Problem({ status: 422, detail: t(key) }), { title: "browser.cannot" });
