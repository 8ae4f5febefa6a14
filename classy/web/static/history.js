// What was classified: one row per picture, one column per model, loaded page by page.

import { blob, get } from "./api.js";
import { byId, el, fill, hear, say, tell } from "./dom.js";
import * as filters from "./filters.js";
import { nameOf, number, t } from "./i18n.js";
import { shown } from "./problems.js";
import { table } from "./table.js";

const PAGE = 50; // records; a picture has one per model
const TOGETHER = 40; // pictures in one query: their names are 64 letters each, and an address has its limits
const RECORDS_MAX = 1000;

let pictures = new Map(); // picture → {picture, newest, byModel}
let next = "";
let stale = true; // something was classified since it was loaded
let visible = false;
let latest = null; // the load that counts; older ones are dropped

export function start() {
  filters.start(() => load());
  byId("history-reload").addEventListener("click", () => load());
  byId("history-more").addEventListener("click", () => more());
  byId("history-csv").addEventListener("click", save);
  hear("answered", () => (stale = true));
  hear("reclassified", () => load());
  hear("deleted", (picture) => {
    pictures.delete(picture);
    draw();
    say(t("deleted"), "history-said");
    byId("history-table").focus();
  });
  hear("key", () => visible && load());
  hear("view", (view) => {
    visible = view === "history";
    if (visible && stale) load();
  });
  hear("language", () => offer());
}

/** Load the first page of what the filters say. */
async function load() {
  pictures = new Map();
  next = "";
  stale = false;
  await page({ first: true });
}

/** Load the page after the last one, and lead the keyboard to its first row. */
async function more() {
  const before = pictures.size;
  await page({});
  byId("history-table").querySelectorAll("tbody tr")[before]?.querySelector("button")?.focus();
}

async function page({ first = false }) {
  const mine = (latest = {});
  byId("history-problem").replaceChildren();
  byId("history-more").disabled = true;
  say(t("history.loading"), "history-said");
  try {
    const found = await get("api/records", { ...filters.query(), limit: PAGE, after: next });
    const fresh = [...new Set(found.records.map(pictureOf))].filter((picture) => !pictures.has(picture));
    const records = await every(fresh);
    if (mine !== latest) return;
    // In the order of the page: newest first, whichever model it was.
    for (const picture of fresh) pictures.set(picture, { picture, byModel: new Map(), newest: null });
    for (const record of [...records, ...found.records]) put(record);
    next = found.next ?? "";
    draw();
  } catch (error) {
    if (mine !== latest) return;
    if (first) draw();
    say("", "history-said");
    const none = error.status === 404 || error.status === 501;
    if (none) byId("history-problem").replaceChildren(el("p", { class: "muted", text: () => t("history.nothing-kept") }));
    else byId("history-problem").replaceChildren(shown(error, () => (first ? load() : more())));
  } finally {
    if (mine === latest) byId("history-more").disabled = false;
  }
}

/** Return all models' records of pictures. */
async function every(wanted) {
  const parts = [];
  for (let from = 0; from < wanted.length; from += TOGETHER) parts.push(wanted.slice(from, from + TOGETHER));
  return (await Promise.all(parts.map(all))).flat();
}

async function all(picture) {
  const records = [];
  let after = "";
  do {
    const found = await get("api/records", { picture, limit: RECORDS_MAX, after });
    records.push(...found.records);
    after = found.next ?? "";
  } while (after);
  return records;
}

const pictureOf = (record) => record.picture ?? record.id;
const refOf = (record) => `${record.model.name}@${record.model.version}`;

function put(record) {
  const row = pictures.get(pictureOf(record));
  if (!row) return;
  row.byModel.set(refOf(record), record);
  if (!row.newest || record.classified_at > row.newest.classified_at) row.newest = record;
}

function draw() {
  const rows = [...pictures.values()];
  byId("history-table").replaceChildren(...(rows.length ? [table(rows)] : []));
  byId("history-more").hidden = next === "";
  fill(byId("history-said"), {
    text: () => (rows.length ? t(next ? "history.counted.more" : "history.count", { n: number(rows.length) }) : t("history.none")),
  });
  offer();
  tell("rows", rows);
}

function offer() {
  const records = [...pictures.values()].flatMap((row) => [...row.byModel.values()]);
  filters.offer(new Set(records.filter((record) => record.label).map(nameOf)));
}

async function save() {
  byId("history-problem").replaceChildren();
  try {
    const csv = await blob("api/records", { ...filters.query(), limit: RECORDS_MAX, format: "csv" });
    download(csv, "classy-records.csv");
  } catch (error) {
    byId("history-problem").replaceChildren(shown(error, save));
  }
}

/** Save bytes as a file; a link alone could not send the key. */
export function download(bytes, name) {
  const link = el("a", { href: URL.createObjectURL(bytes), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
