// One picture of the history: what each model said of it, when and where it was taken; and its deletion.

import { bars } from "./answer.js";
import { blob, remove } from "./api.js";
import { copier } from "./copy.js";
import { byId, el, tell } from "./dom.js";
import { clock, moment, t } from "./i18n.js";
import { download } from "./history.js";
import { shown } from "./problems.js";
import { columns, placeOf, thumbOf, titleOf } from "./table.js";
import { thumb } from "./thumbs.js";

let doomed = null; // the row that somebody may delete

export function start() {
  byId("confirm-no").addEventListener("click", () => byId("confirm").close());
  byId("confirm-yes").addEventListener("click", destroy);
  byId("picture").addEventListener("click", (event) => event.target === byId("picture") && byId("picture").close());
}

/** Show a picture's details. */
export function open(row) {
  const record = row.newest;
  const dialog = byId("picture");
  const fact = (key, make) => [el("dt", { text: () => t(key) }), el("dd", { text: make })];
  const problem = el("div");
  dialog.replaceChildren(
    el("header", {},
      thumb(thumbOf(row), 160),
      el("h2", { id: "picture-title", class: "name", tabindex: "-1", text: () => titleOf(record) }),
      el("button", { type: "button", class: "icon", "aria-label": () => t("close"), text: "×", on: { click: () => dialog.close() } })),
    el("dl", { class: "facts" },
      ...fact("picture.classified", () => moment(record.classified_at)),
      ...(record.taken_at ? fact("picture.taken", () => clock(record.taken_at)) : []),
      ...(placeOf(record) ? fact("picture.place", () => placeOf(record)) : []),
      ...fact("picture.source", () => record.source.uri || t(`kind.${record.source.kind}`)),
      ...(record.picture_sha256 ? fact("picture.sha256", record.picture_sha256) : [])),
    el("div", { class: "compared" }, ...columns([row]).map((ref) => [ref, row.byModel.get(ref)]).map(([ref, one]) =>
      el("section", { class: "by-model" }, el("h3", { text: ref }),
        one.error ? el("p", { class: "refused", text: `${one.error.message} (${one.error.code})` }) : bars(one.top_k, ref)))),
    problem,
    el("div", { class: "below" },
      copier("json", () => JSON.stringify([...row.byModel.values()], null, 2)),
      record.source.kind === "upload" && record.picture_sha256
        ? el("button", { type: "button", class: "quiet", text: () => t("picture.original"), on: { click: () => original(record, problem) } })
        : null,
      el("button", { type: "button", class: "quiet danger", text: () => t("delete"), on: { click: () => confirmDeletion(row) } })));
  dialog.showModal();
  byId("picture-title").focus();
}

async function original(record, problem) {
  problem.replaceChildren();
  try {
    download(await blob(`api/pictures/${record.picture_sha256}`), titleOf(record));
  } catch (error) {
    problem.replaceChildren(shown(error));
  }
}

/** Ask whether a picture shall go. */
export function confirmDeletion(row) {
  doomed = row;
  byId("confirm-problem").replaceChildren();
  byId("confirm-name").replaceChildren(el("span", { text: () => titleOf(row.newest) }));
  byId("confirm").showModal();
  byId("confirm-no").focus(); // the harmless one
}

async function destroy() {
  const button = byId("confirm-yes");
  button.disabled = true;
  try {
    await remove(`api/records/${doomed.newest.id}`);
  } catch (error) {
    if (error.status !== 404) { // it is gone already
      byId("confirm-problem").replaceChildren(shown(error));
      return;
    }
  } finally {
    button.disabled = false;
  }
  byId("confirm").close();
  byId("picture").close();
  tell("deleted", doomed.picture);
}
