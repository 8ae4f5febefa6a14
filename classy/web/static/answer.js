// One model's answer to one picture: bars with texts, what it cost, and the answer for a terminal or a program.

import { copier, curl } from "./copy.js";
import { el } from "./dom.js";
import { nameOf, number, percent, t } from "./i18n.js";

/** Return the likeliest classes as bars; the text says it all, the bar only shows it. */
export function bars(classes, model) {
  const items = classes.map((entry) =>
    el("li", { style: { "--share": `${entry.probability * 100}%` } },
      el("span", { class: "label", text: () => nameOf(entry) }),
      el("span", { class: "share", text: () => percent(entry.probability) }),
      el("span", { class: "bar", "aria-hidden": "true" }, el("span"))));
  return el("ol", { class: "bars", "aria-label": () => t("classes.of", { model }) }, ...items);
}

/** Return an answer's whole content below the model's name. */
export function answer(value, source, model, topK) {
  const here = value.in_browser ? el("p", { class: "muted small", text: () => t("browser.done") }) : null;
  const note = value.recorded === false
    ? el("p", { class: "muted small", text: () => t("recorded.not", { reason: value.recorded_error?.message ?? "" }) })
    : null;
  return [
    bars(value.top_k ?? [], model),
    here,
    note,
    el("div", { class: "below" },
      el("span", { class: "muted small", text: () => cost(value.timings ?? []) }),
      copier("curl", () => curl(source, model, topK)),
      copier("json", () => JSON.stringify(value, null, 2))),
  ];
}

function cost(timings) {
  const ms = number(timings.reduce((sum, hop) => sum + hop.ms, 0));
  return t(timings.some((hop) => hop.cold) ? "took.cold" : "took", { ms });
}
