// Asking a model for every picture that it has not seen: slice after slice, so it can be stopped and gone on with.

import { post } from "./api.js";
import { byId, el, fill, hear, say, tell } from "./dom.js";
import { nameOf, number, t } from "./i18n.js";
import { ordered } from "./models.js";
import { shown } from "./problems.js";

const SLICE = 20; // pictures per request: a function has half a minute
const CHANGES_SHOWN = 10;

let run = null; // {model, after, done, failed, agreed, changed, changes, all, ended}
let abort = null;

export function start() {
  byId("redo").addEventListener("submit", (event) => {
    event.preventDefault();
    go();
  });
  byId("redo-stop").addEventListener("click", () => abort?.abort());
  byId("redo-model").addEventListener("change", () => {
    run = null; // another model, another run
    fill(byId("redo-start"), { text: () => t("redo.start") });
  });
  hear("models", () => {
    const select = byId("redo-model");
    const before = select.value;
    select.replaceChildren(...ordered().map(({ ref }) => el("option", { value: ref, text: ref })));
    if (ordered().some(({ ref }) => ref === before)) select.value = before;
  });
}

async function go() {
  const model = byId("redo-model").value;
  if (!model || abort) return;
  run ??= { model, after: "", done: 0, failed: [], agreed: 0, changed: 0, changes: new Map(), all: 0, ended: false };
  abort = new AbortController();
  const begun = { at: performance.now(), handled: handled() };
  busy(true);
  progress(begun);
  let problem = null;
  try {
    do {
      add(await post("api/reclassify", { model, after: run.after, limit: SLICE }, { signal: abort.signal }));
      progress(begun);
    } while (run.after && !abort.signal.aborted);
  } catch (error) {
    if (!error.cancelled) problem = error;
  }
  abort = null;
  busy(false);
  finish(problem);
}

const handled = () => run.done + run.failed.length;

function add(slice) {
  run.done += slice.done;
  run.failed.push(...slice.failed);
  run.agreed += slice.agreed;
  run.changed += slice.changed;
  for (const change of slice.changes) {
    const key = JSON.stringify([change.from, change.to]);
    const known = run.changes.get(key);
    run.changes.set(key, { ...change, count: change.count + (known?.count ?? 0) });
  }
  run.after = slice.next;
  run.ended = slice.next === "";
  // What failed is still left, unless the model refused it for good: known exactly at the end only.
  run.all = run.ended ? handled() : Math.max(handled(), run.done + slice.left);
}

function busy(on) {
  byId("redo-start").hidden = on;
  byId("redo-stop").hidden = !on;
  byId("redo-model").disabled = on;
  const next = byId(on ? "redo-stop" : "redo-start");
  if (document.activeElement === document.body || !document.activeElement?.checkVisibility?.()) next.focus();
}

function progress(begun) {
  const done = handled();
  const here = done - begun.handled;
  const left_s = here > 0 ? ((performance.now() - begun.at) / 1000 / here) * (run.all - done) : 0;
  const text = () => [
    run.all ? t("redo.progress", { done: number(done), all: number(run.all) }) : t("waiting"),
    left_s > 1 ? t("redo.left", { time: left_s < 90 ? t("seconds", { n: number(left_s) }) : t("minutes", { n: number(left_s / 60) }) }) : "",
  ].filter(Boolean).join(" · ");
  byId("redo-progress").replaceChildren(
    el("progress", { max: run.all || 1, value: run.all ? done : null, "aria-label": () => t("redo.title") }),
    el("p", { class: "state", role: "status", text }),
    summary() ?? "");
}

function finish(problem) {
  const ended = !problem && run.ended;
  const counts = { done: number(run.done), failed: number(run.failed.length), all: number(run.all) };
  const key = ended ? (handled() ? "redo.done" : "redo.nothing") : "redo.stopped";
  const line = el("p", { role: "status", text: () => t(key, ended ? counts : { ...counts, done: number(handled()) }) });
  byId("redo-progress").replaceChildren(
    ...(run.all ? [el("progress", { max: run.all, value: handled(), "aria-label": () => t("redo.title") })] : []),
    problem ? shown(problem, go) : line,
    summary() ?? "");
  fill(byId("redo-start"), { text: () => t(ended ? "redo.start" : "redo.resume") });
  say(line.textContent);
  const any = run.done > 0;
  if (ended) run = null;
  if (any) tell("reclassified");
}

function summary() {
  const compared = run.agreed + run.changed;
  if (!compared && !run.failed.length) return null;
  const changes = [...run.changes.values()].sort((a, b) => b.count - a.count).slice(0, CHANGES_SHOWN);
  const figures = { agreed: number(run.agreed), changed: number(run.changed), compared: number(compared) };
  const name = (labels) => nameOf({ label: labels });
  const head = (key) => el("th", { scope: "col", text: () => t(key) });
  return el("div", { class: "summary" },
    compared ? el("p", { text: () => t("redo.agreed", figures) }) : null,
    changes.length ? el("table", {},
      el("caption", { text: () => t("redo.changes") }),
      el("thead", {}, el("tr", {}, head("redo.from"), head("redo.to"), head("redo.count"))),
      el("tbody", {}, ...changes.map((change) => el("tr", {},
        el("td", { text: () => name(change.from) }), el("td", { text: () => name(change.to) }),
        el("td", { class: "count", text: () => number(change.count) }))))) : null,
    run.failed.length ? el("details", {},
      el("summary", { text: () => `${t("redo.failures")}: ${number(run.failed.length)}` }),
      el("ul", {}, ...run.failed.slice(0, 50).map((one) => el("li", { class: "name", text: `${one.picture}: ${one.message} (${one.code})` })))) : null);
}
