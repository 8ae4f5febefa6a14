// The page's language: its texts, its labels, its numbers and dates.

import { refresh, remember, remembered } from "./dom.js";
import en from "./i18n/en.js";
import ja from "./i18n/ja.js";
import zh from "./i18n/zh.js";

const TEXTS = { en, ja, zh };
const TAGS = { en: "en", ja: "ja", zh: "zh-Hans" };
export const LANGUAGES = Object.keys(TEXTS);

let language = "en";

/** Return the page's language, "en", "ja" or "zh". */
export const current = () => language;

/** Return a text in the page's language, with {names} replaced. */
export function t(key, values = {}) {
  const text = TEXTS[language][key] ?? TEXTS.en[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/** Return whether there is such a text. */
export const has = (key) => key in TEXTS.en;

/** Return a class's name in the page's language, or in the first that it has. */
export function nameOf(entry) {
  const names = entry.label ?? {};
  return names[language] ?? Object.values(names)[0] ?? `#${entry.class_index}`;
}

export const percent = (share) =>
  new Intl.NumberFormat(TAGS[language], { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 }).format(share);
export const number = (value, digits = 0) =>
  new Intl.NumberFormat(TAGS[language], { maximumFractionDigits: digits }).format(value);
export const moment = (iso) =>
  new Intl.DateTimeFormat(TAGS[language], { dateStyle: "medium", timeStyle: "short" }).format(new Date(iso));

/** Return the time that a camera's clock showed, wherever whoever reads it is. */
export const clock = (iso) =>
  new Intl.DateTimeFormat(TAGS[language], { dateStyle: "medium", timeStyle: "short", timeZone: "UTC" })
    .format(new Date(`${iso.slice(0, 19)}Z`));

/** Return a country's name; the code where the browser knows none. */
export function country(code) {
  try {
    return new Intl.DisplayNames([TAGS[language]], { type: "region" }).of(code) ?? code;
  } catch {
    return code;
  }
}

/** Return the language that was chosen, or the browser's first that there is. */
export function preferred() {
  const wanted = [remembered("language", ""), ...navigator.languages].map((tag) => tag.slice(0, 2));
  return wanted.find((tag) => tag in TEXTS) ?? "en";
}

/** Turn the page into a language, and remember it. */
export function speak(tag, { keep = true } = {}) {
  language = tag in TEXTS ? tag : "en";
  if (keep) remember("language", language);
  document.documentElement.lang = TAGS[language];
  for (const node of document.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of document.querySelectorAll("[data-t-aria-label]")) {
    node.setAttribute("aria-label", t(node.dataset.tAriaLabel));
  }
  refresh();
}
