// The page: starts its parts, and knows which view is shown.

import { useKey } from "./api.js";
import * as browserInference from "./browser-inference.js";
import * as camera from "./camera.js";
import { byId, hear, remember, remembered, tell } from "./dom.js";
import * as draw from "./draw.js";
import * as history from "./history.js";
import { current, preferred, speak, t } from "./i18n.js";
import * as map from "./map.js";
import * as models from "./models.js";
import * as picture from "./picture.js";
import { shown } from "./problems.js";
import * as reclassify from "./reclassify.js";
import * as sources from "./sources.js";

const VIEWS = ["classify", "history"];

function view({ focus = true } = {}) {
  const name = VIEWS.find((one) => location.hash === `#${one}`) ?? VIEWS[0];
  for (const one of VIEWS) byId(`view-${one}`).hidden = one !== name;
  for (const link of document.querySelectorAll("nav [data-view]")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${t(`nav.${name}`)} · Classy`;
  if (focus) byId(`${name}-title`).focus({ preventScroll: true });
  tell("view", name);
}

function appearance() {
  const language = byId("language");
  language.value = current();
  language.addEventListener("change", () => {
    speak(language.value);
    document.title = `${t(`nav.${byId("view-history").hidden ? "classify" : "history"}`)} · Classy`;
    tell("language");
  });
  const theme = byId("theme");
  theme.value = remembered("theme", "auto");
  theme.addEventListener("change", () => {
    remember("theme", theme.value);
    document.documentElement.dataset.theme = theme.value;
  });
}

function key() {
  hear("key-needed", () => {
    byId("key").hidden = false;
    byId("key-value").value = "";
    byId("key-value").focus();
  });
  byId("key").addEventListener("submit", (event) => {
    event.preventDefault();
    byId("key").hidden = true;
    useKey(byId("key-value").value);
    load();
  });
}

async function load() {
  const list = byId("model-list");
  try {
    await models.load();
  } catch (problem) {
    list.replaceChildren(shown(problem, load));
  }
}

speak(preferred(), { keep: false });
for (const part of [appearance, key, browserInference.start, sources.start, camera.start, draw.start, history.start, picture.start, map.start, reclassify.start]) part();
addEventListener("hashchange", () => view());
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address names the view
  byId("main").focus();
});
view({ focus: false });
load();
