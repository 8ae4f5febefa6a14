// The history's table: on a wide page with one column per model, on a narrow one as cards of the same rows.

import { el } from "./dom.js";
import { clock, country, moment, nameOf, number, percent, t } from "./i18n.js";
import { ordered, shortName } from "./models.js";
import { confirmDeletion, open } from "./picture.js";
import { thumb } from "./thumbs.js";

/** Return what a person calls a picture: the last part of its address, or the first letters of its SHA-256. */
export function titleOf(record) {
  const { kind, uri = "", key = "" } = record.source ?? {};
  if (kind === "upload" || !(key || uri)) return t("row.sent", { id: (record.picture_sha256 ?? record.id).slice(0, 8) });
  const text = key || uri;
  const last = text.split("/").filter(Boolean).pop() ?? text;
  try {
    return key ? last : decodeURIComponent(last);
  } catch {
    return last; // a lone % in an address
  }
}

/** Return where a picture was taken, in words: its country or what a disputed area is called, its point, or nothing. */
export function placeOf(record) {
  const { latitude_deg: north, longitude_deg: east } = record.place ?? {};
  const point = north === undefined ? "" : `${degrees(north, "N", "S")}, ${degrees(east, "E", "W")}`;
  const area = record.country ? country(record.country) : record.disputed_area && nameOf({ label: record.disputed_area });
  return [area, point].filter(Boolean).join(" · ");
}

/** Return degrees as people write them, 35.7° N. */
export const degrees = (value, plus, minus) => `${number(Math.abs(value), 2)}° ${value < 0 ? minus : plus}`;

/** Return the SHA-256 under which a row's thumbnail lies; "" where no model could read the picture. */
export const thumbOf = (row) => ([...row.byModel.values()].some((record) => !record.error) ? row.newest.picture_sha256 : "");

/** Return a table of rows; the roles stay when a narrow page shows its rows as blocks. */
export function table(rows) {
  const models = columns(rows);
  const head = (make) => el("th", { scope: "col", role: "columnheader", text: make });
  return el("table", { role: "table", "aria-labelledby": "list-title" },
    el("thead", { role: "rowgroup" }, el("tr", { role: "row" },
      head(() => t("column.picture")), head(() => t("column.when")),
      ...models.map((ref) => head(() => shortName(ref))),
      el("th", { scope: "col", role: "columnheader" }, el("span", { class: "unseen", text: () => t("column.actions") })))),
    el("tbody", { role: "rowgroup" }, ...rows.map((row) => line(row, models))));
}

/** Return the models that answered, the default one first, those that are gone last. */
export function columns(rows) {
  const seen = new Set(rows.flatMap((row) => [...row.byModel.keys()]));
  const known = ordered().map((model) => model.ref).filter((ref) => seen.has(ref));
  return [...known, ...[...seen].filter((ref) => !known.includes(ref)).sort()];
}

function line(row, models) {
  const record = row.newest;
  const cell = (props, ...children) => el("td", { role: "cell", ...props }, ...children);
  return el("tr", { role: "row", "data-picture": row.picture },
    el("th", { scope: "row", role: "rowheader" },
      el("button", { type: "button", class: "picture", "aria-label": () => t("row.open", { name: titleOf(record) }), on: { click: () => open(row) } },
        thumb(thumbOf(row)), el("span", { class: "name", text: () => titleOf(record) }))),
    cell({ class: "when" },
      el("span", { text: () => moment(record.classified_at) }),
      record.taken_at ? el("span", { class: "muted small", text: () => t("row.taken", { time: clock(record.taken_at) }) }) : null,
      placeOf(record) ? el("span", { class: "muted small", text: () => placeOf(record) }) : null),
    ...models.map((ref) => cell({ class: "said", "data-model": shortName(ref) },
      el("span", { class: "model-name muted small", "aria-hidden": "true", text: () => shortName(ref) }),
      ...said(row.byModel.get(ref)))),
    cell({ class: "act" },
      el("button", {
        type: "button", class: "icon", text: "×", "aria-label": () => t("delete.one", { name: titleOf(record) }),
        on: { click: () => confirmDeletion(row) },
      })));
}

function said(record) {
  if (!record) return [el("span", { class: "muted small", text: () => t("row.none") })];
  if (record.error) {
    return [el("span", { class: "refused", text: () => t("row.refused"), title: record.error.message })];
  }
  return [
    el("span", { class: "label", text: () => nameOf(record) }),
    el("span", { class: "share muted small", text: () => percent(record.probability) }),
    el("span", { class: "bar", "aria-hidden": "true", style: { "--share": `${record.probability * 100}%` } }, el("span")),
  ];
}
