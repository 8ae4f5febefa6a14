// Where a picture comes from: a file that is chosen, dropped or pasted, or an address. The tabs that lead there.

import { stop as stopCamera } from "./camera.js";
import { byId, hear } from "./dom.js";
import { t } from "./i18n.js";
import { classify } from "./jobs.js";
import { anyDrawn, show, toAsk } from "./models.js";

const TABS = ["file", "url", "camera", "draw"];
const tabs = TABS.map((name) => byId(`tab-${name}`));
let depth = 0; // of elements that something is dragged over

/** Ask the chosen models about files. */
export async function classifyFiles(files, name = "") {
  const given = [...files]; // an input's list is empty once it is cleared
  const models = await toAsk("photo");
  for (const file of given) classify({ name: name || file.name || t("pasted"), blob: file, type: typeOf(file) }, models);
}

// A type that is no picture's would have the server look for JSON in the file.
const typeOf = (file) => (/^image\/[\w.+-]+$/.test(file.type) ? file.type : "image/x-unknown");

export function start() {
  for (const [place, tab] of tabs.entries()) {
    tab.addEventListener("click", () => select(place));
    tab.addEventListener("keydown", (event) => walk(event, place));
  }
  hear("models", () => {
    byId("tab-draw").hidden = !anyDrawn();
    if (!anyDrawn() && byId("tab-draw").ariaSelected === "true") select(0);
  });

  const file = byId("file");
  file.addEventListener("change", () => {
    classifyFiles(file.files);
    file.value = ""; // the same file may be chosen again
  });
  byId("url-form").addEventListener("submit", (event) => {
    event.preventDefault();
    classifyURL(byId("url").value);
  });
  document.addEventListener("paste", pasted);
  document.addEventListener("dragenter", (event) => dragged(event, 1));
  document.addEventListener("dragleave", (event) => dragged(event, -1));
  document.addEventListener("dragover", (event) => welcome(event) && event.preventDefault());
  document.addEventListener("drop", dropped);
}

function select(place, { focus = false } = {}) {
  for (const [at, tab] of tabs.entries()) {
    const on = at === place;
    tab.ariaSelected = String(on);
    tab.tabIndex = on ? 0 : -1;
    byId(`panel-${TABS[at]}`).hidden = !on;
  }
  if (focus) tabs[place].focus();
  show(TABS[place] === "draw" ? "drawn" : "photo");
  if (TABS[place] !== "camera") stopCamera();
}

function walk(event, place) {
  const shown = tabs.map((tab, at) => at).filter((at) => !tabs[at].hidden);
  const at = shown.indexOf(place);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: shown.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  select(shown[(to + shown.length) % shown.length], { focus: true });
}

async function classifyURL(text) {
  const url = text.trim();
  if (url) classify({ name: url, url }, await toAsk("photo"));
}

function pasted(event) {
  const files = [...event.clipboardData.files];
  if (files.length) {
    event.preventDefault();
    location.hash = "#classify";
    // A browser calls every pasted picture image.png.
    classifyFiles(files, files.length === 1 && files[0].name === "image.png" ? t("pasted") : "");
    return;
  }
  const text = event.clipboardData.getData("text/plain").trim();
  if (!event.target.closest?.("input, textarea") && /^https?:\/\/\S+$/.test(text)) {
    location.hash = "#classify";
    classifyURL(text);
  }
}

const welcome = (event) => [...(event.dataTransfer?.types ?? [])].some((type) => type === "Files" || type === "text/uri-list");

function dragged(event, by) {
  if (!welcome(event)) return;
  depth = Math.max(0, depth + by);
  byId("drop-anywhere").hidden = depth === 0;
}

function dropped(event) {
  depth = 0;
  byId("drop-anywhere").hidden = true;
  if (!welcome(event)) return;
  event.preventDefault();
  location.hash = "#classify";
  const files = [...event.dataTransfer.files];
  if (files.length) classifyFiles(files);
  else classifyURL(event.dataTransfer.getData("text/uri-list").split("\n").find((line) => !line.startsWith("#")) ?? "");
}
