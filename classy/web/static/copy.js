// An answer for a terminal or a program: the same question as curl, and the answer as JSON.

import { address, hasKey } from "./api.js";
import { byId, el, fill } from "./dom.js";
import { current, t } from "./i18n.js";

/** Return a text in single quotes for a POSIX shell, whatever it holds. */
export const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** Return the curl command that asks the same question. */
export function curl(source, model, topK) {
  const key = hasKey() ? ' \\\n  -H "X-Api-Key: $CLASSY_API_KEY"' : "";
  const options = { top_k: topK, language: current(), ...(model ? { model } : {}) };
  if (source.url) {
    const body = JSON.stringify({ name: source.url, ...options });
    return `curl -X POST ${quoted(address("api/classify"))} \\\n  -H 'Content-Type: application/json'${key} \\\n  --data ${quoted(body)}`;
  }
  const file = source.name === "-" ? "./-" : source.name; // - would be the standard input
  return `curl -X POST ${quoted(address("api/classify", options))} \\\n  -H ${quoted(`Content-Type: ${source.type}`)}${key} \\\n  --data-binary ${quoted(`@${file}`)}`;
}

/**
 * Return a button that copies what `make` returns, and says so.
 *
 * @param {"curl"|"json"} what
 */
export function copier(what, make) {
  const key = `copy.${what}`;
  const first = { text: () => t(key) };
  const button = el("button", { type: "button", class: "quiet", ...first });
  button.addEventListener("click", async () => {
    const done = await copied(make(), button);
    byId("said").textContent = t(done ? "copied" : "copy.failed");
    fill(button, { text: () => t(done ? "copied" : "copy.failed") });
    setTimeout(() => fill(button, first), 2000);
  });
  return button;
}

async function copied(text, beside) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch { /* no clipboard on plain http, or not allowed: the old way */ }
  const area = el("textarea", { class: "unseen", "aria-hidden": "true", readonly: true });
  area.value = text;
  beside.after(area); // inside the dialog where there is one, for nothing else can be selected then
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  beside.focus();
  return done;
}
