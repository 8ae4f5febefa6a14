// What went wrong, in the page's language, with what the server says of it.

import { el } from "./dom.js";
import { has, t } from "./i18n.js";

/** Return the title of a problem. */
export function titleOf(problem) {
  if (problem.title) return t(problem.title);
  if (problem.status === 0) return t("problem.offline");
  const exact = `problem.${problem.status}`;
  if (has(exact)) return t(exact);
  if ([502, 504, 507].includes(problem.status)) return t("problem.503");
  return t(problem.status >= 500 ? "problem.500" : "problem.400");
}

/**
 * Return a problem as an element.
 *
 * @param {Problem} problem
 * @param {function(): void} [retry]  Where asking again may help; it waits as long as the server asks for.
 */
export function shown(problem, retry) {
  const detail = () => problem.detail || (problem.status === 0 ? t("problem.offline.hint") : "");
  return el("div", { class: "problem", role: "alert" },
    el("p", {}, el("strong", { text: () => titleOf(problem) })),
    el("p", { class: "detail", text: detail }),
    problem.requestId && problem.status >= 500 && !problem.detail.includes(problem.requestId)
      ? el("p", { class: "muted small", text: () => t("problem.request", { id: problem.requestId }) })
      : null,
    retry ? again(problem, retry) : null);
}

function again(problem, retry) {
  let left = Math.min(Math.ceil(problem.retryAfterS), 3600);
  const button = el("button", {
    type: "button",
    text: () => (left > 0 ? t("retry.in", { n: left }) : t("retry")),
    disabled: left > 0,
    on: { click: retry },
  });
  const timer = left > 0 && setInterval(() => {
    left -= 1;
    button.textContent = left > 0 ? t("retry.in", { n: left }) : t("retry");
    if (left <= 0) {
      button.disabled = false;
      clearInterval(timer);
    }
  }, 1000);
  return el("p", { class: "actions" }, button);
}
