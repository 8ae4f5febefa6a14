// Questions that run: one card per picture, one column per model, each with its progress, answer or problem.

import { answer } from "./answer.js";
import { post, Problem, upload } from "./api.js";
import * as browserInference from "./browser-inference.js";
import { byId, el, say, tell } from "./dom.js";
import { current, nameOf, percent, t } from "./i18n.js";
import { shortName } from "./models.js";
import { shown, titleOf } from "./problems.js";
import { thumb } from "./thumbs.js";

export const TOP_K = 5;
const COLD_MS = 1500; // after which somebody wonders whether anything happens
const CARDS_MAX = 20;
const LANES = 2; // pictures at once; a browser opens six connections, and functions start one by one

let running = 0;
const waiting = [];

/**
 * Ask models about a picture.
 *
 * @param {{name: string, blob?: Blob, type?: string, url?: string}} source
 * @param {string[]} models
 * @param {{instead?: HTMLElement}} options  `instead`: the card that this one replaces once it is answered.
 * @returns {Promise<HTMLElement>} the card, when all is answered
 */
export async function classify(source, models, { instead } = {}) {
  const job = card(source, models);
  byId("empty").hidden = true;
  if (!instead?.isConnected) {
    byId("answers").prepend(job.card);
    // Where the answers stand below the question, nobody would see that something happens.
    if (matchMedia("(max-width: 860px)").matches) job.card.scrollIntoView({ block: "nearest" });
  }
  prune();
  await lane();
  try {
    await Promise.all(job.runs.map((run) => run()));
  } finally {
    running -= 1;
    delete job.card.dataset.busy;
    waiting.shift()?.();
  }
  if (instead?.isConnected) instead.replaceWith(job.card);
  tell("answered");
  return job.card;
}

async function lane() {
  if (running >= LANES) await new Promise((resolve) => waiting.push(resolve));
  running += 1;
}

/** Drop the oldest answers; what still runs stays. */
function prune() {
  for (const old of [...byId("answers").children].slice(CARDS_MAX)) if (!("busy" in old.dataset)) old.remove();
}

function card(source, models) {
  const best = new Map();
  const verdict = el("p", { class: "verdict", hidden: true });
  const preview = el("div", { class: "preview" });
  if (source.blob) picture(preview, source.blob);
  const columns = models.map((model) => column(source, model, (value) => {
    best.set(model, value.class_id || nameOf(value));
    if (!source.blob && !preview.firstChild && value.recorded) preview.append(thumb(value.picture_sha256, 160));
    if (models.length > 1 && best.size === models.length) {
      verdict.hidden = false;
      const same = new Set(best.values()).size === 1;
      verdict.classList.toggle("differs", !same);
      verdict.replaceChildren(el("span", { text: () => t(same ? "agree" : "differ") }));
    }
  }));
  const whole = el("article", { class: "card answer", "data-busy": true },
    el("header", {},
      preview,
      el("h3", { class: "name", text: source.name }),
      el("button", {
        type: "button", class: "icon", "aria-label": () => t("dismiss"), text: "×",
        on: { click: () => dismiss(whole, columns) },
      })),
    verdict,
    el("div", { class: "compared" }, ...columns.map(({ node }) => node)));
  return { card: whole, runs: columns.map(({ run }) => run) };
}

function picture(preview, blob) {
  const image = el("img", { alt: "" });
  image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
  image.addEventListener("error", () => image.remove()); // no picture; the server says so in words
  image.src = URL.createObjectURL(blob);
  preview.append(image);
}

function dismiss(whole, columns) {
  for (const { stop } of columns) stop();
  const next = whole.nextElementSibling ?? whole.previousElementSibling;
  whole.remove();
  byId("empty").hidden = byId("answers").childElementCount > 0;
  (next?.querySelector(".icon") ?? byId("answers-title")).focus();
}

function column(source, model, answered) {
  const body = el("div", { class: "body" }, el("p", { class: "muted", text: () => t("queued") }));
  const node = el("section", { class: "by-model" }, el("h4", { hidden: !model, text: () => shortName(model) }), body);
  let abort = new AbortController();
  const run = async () => {
    const progress = asking(() => abort.abort());
    body.replaceChildren(progress.node);
    try {
      if (abort.signal.aborted) throw new Problem({ cancelled: true });
      const value = await ask(source, model, abort.signal, progress.sent);
      body.replaceChildren(...answer(value, source, model, TOP_K).filter(Boolean));
      say(t("said.answer", { name: source.name, label: nameOf(value), share: percent(value.probability) }));
      answered(value);
    } catch (error) {
      failed(error);
    } finally {
      progress.end();
    }
  };
  const failed = (error) => {
    if (!(error instanceof Problem)) throw error;
    const retry = () => {
      abort = new AbortController();
      run();
      body.querySelector("button")?.focus();
    };
    if (error.cancelled) {
      const again = el("button", { type: "button", text: () => t("retry"), on: { click: retry } });
      body.replaceChildren(el("p", { class: "muted", text: () => t("cancelled") }), el("p", { class: "actions" }, again));
      say(t("cancelled"));
      if (node.contains(document.activeElement) || document.activeElement === document.body) again.focus();
      return;
    }
    body.replaceChildren(shown(error, retry));
    say(t("said.problem", { name: source.name, title: titleOf(error) }));
  };
  return { node, run, stop: () => abort.abort() };
}

async function ask(source, model, signal, sent) {
  const options = { top_k: TOP_K, language: current(), ...(model ? { model } : {}) };
  if (browserInference.wanted()) return browserInference.classify(source, model, { topK: TOP_K, signal, sent });
  if (source.url) {
    sent(1);
    return post("api/classify", { name: source.url, ...options }, { signal });
  }
  return upload("api/classify", source.blob, { query: options, type: source.type, signal, sent });
}

function asking(cancel) {
  let share = 0;
  let doing = "sending";
  const bar = el("progress", { max: 1, value: 0, "aria-label": () => t("waiting") });
  const state = () => (share < 1 ? t(doing, { share: percent(share) }) : t("waiting"));
  const line = el("p", { class: "state", text: state });
  const hint = el("p", { class: "muted small", role: "status" });
  const button = el("button", { type: "button", text: () => t("cancel"), on: { click: cancel } });
  const timer = setTimeout(() => hint.append(el("span", { text: () => t("cold") })), COLD_MS);
  return {
    node: el("div", { class: "asking" }, line, bar, hint, el("p", { class: "actions" }, button)),
    sent: (now, what = doing) => {
      share = now;
      doing = what;
      line.textContent = state();
      if (now < 1) bar.value = now;
      else bar.removeAttribute("value"); // it is not known how long the answer takes
    },
    end: () => clearTimeout(timer),
  };
}
