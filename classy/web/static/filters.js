// Which pictures are wanted: the form above the history, as the API's query.

import { byId, el, fill, hear } from "./dom.js";
import { country, t } from "./i18n.js";
import { ordered } from "./models.js";

const form = byId("filters");

/** Call `changed` whenever somebody asks for other pictures. */
export function start(changed) {
  const apply = () => {
    counted();
    changed();
  };
  byId("filter-box").open = matchMedia("(min-width: 721px)").matches; // a phone shows pictures first
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    apply();
  });
  form.addEventListener("reset", () => setTimeout(apply)); // after the fields are empty
  counted();
  hear("models", () => {
    const { model } = form.elements;
    const before = model.value;
    model.replaceChildren(model.options[0], ...ordered().map(({ ref }) => el("option", { value: ref, text: ref })));
    model.value = before;
    if (model.selectedIndex < 0) model.value = "";
  });
  hear("language", countries);
  countries();
}

/** Return the API's query for what the form says. */
export function query() {
  const { since, until, label, model, source, country: where, box } = form.elements;
  return {
    since: startOf(since.value, 0),
    until: startOf(until.value, 1), // the last day counts
    label: label.value.trim(),
    model: model.value,
    source: source.value,
    country: where.value,
    box: box.value.replaceAll(/\s/g, ""),
  };
}

/** Say how many filters are on, for they may be folded away. */
function counted() {
  const on = Object.values(query()).filter(Boolean).length;
  fill(byId("filter-summary"), { text: () => t("filters") + (on ? ` (${on})` : "") });
}

/** Ask for one part of the Earth; "" for all of it. */
export function setBox(text) {
  form.elements.box.value = text;
  form.requestSubmit();
}

/** Offer the classes that were seen, in the page's language. */
export function offer(labels) {
  byId("known-labels").replaceChildren(...[...labels].sort().map((value) => el("option", { value })));
}

function startOf(day, plus) {
  if (!day) return "";
  const [year, month, date] = day.split("-").map(Number);
  return new Date(year, month - 1, date + plus).toISOString(); // midnight where the person is
}

// All that are in use; a browser knows their names, so no list of them is needed.
function countries() {
  const letters = [..."ABCDEFGHIJKLMNOPQRSTUVWXYZ"];
  const codes = letters.flatMap((first) => letters.map((second) => first + second));
  const known = codes.filter((code) => !NONE.has(code) && inUse(code) && country(code) !== code);
  const named = known.map((code) => [country(code), code]).sort(([a], [b]) => a.localeCompare(b, document.documentElement.lang));
  const select = form.elements.country;
  const before = select.value;
  fill(select.options[0], { text: () => t("any") });
  select.replaceChildren(select.options[0], ...named.map(([text, value]) => el("option", { value, text })));
  select.value = before;
}

const NONE = new Set(["EU", "EZ", "UN", "QO", "ZZ", "XA", "XB"]); // unions, tests, and no country at all

// A code that was given up stands for another one now.
const inUse = (code) => {
  try {
    return new Intl.Locale(`und-${code}`).region === code && Intl.getCanonicalLocales(`und-${code}`)[0] === `und-${code}`;
  } catch {
    return false;
  }
};
