// Elements made of values. Texts go through textContent alone: a label or a file name is never markup.

const makers = new WeakMap();

/**
 * Make an element.
 *
 * @param {string} tag
 * @param {Object} props  `text` and attributes; a function is asked again when the language changes. `on` holds
 *   listeners, `style` custom properties.
 * @param {...(Node|null)} children
 */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  fill(node, props);
  node.append(...children.filter(Boolean));
  return node;
}

/** Set an element's text, attributes and listeners; see el(). */
export function fill(node, { on = {}, style = {}, ...props }) {
  const live = makers.get(node) ?? {};
  for (const [name, value] of Object.entries(props)) {
    if (typeof value === "function") {
      live[name] = value;
      node.dataset.live = "";
    } else {
      delete live[name];
    }
    put(node, name, typeof value === "function" ? value() : value);
  }
  makers.set(node, live);
  for (const [event, listener] of Object.entries(on)) node.addEventListener(event, listener);
  for (const [name, value] of Object.entries(style)) node.style.setProperty(name, value);
  return node;
}

/** Ask every text that depends on the language again. */
export function refresh(root = document) {
  for (const node of root.querySelectorAll("[data-live]")) {
    for (const [name, make] of Object.entries(makers.get(node) ?? {})) put(node, name, make());
  }
}

function put(node, name, value) {
  if (name === "text") node.textContent = value ?? "";
  else if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else node.setAttribute(name, value === true ? "" : value);
}

/** Return the element of an id; the page has all of them. */
export const byId = (id) => document.getElementById(id);

/** Say something to screen readers without moving anything. */
export function say(text, where = "said") {
  byId(where).textContent = text;
}

/** Tell the other parts of the page that something happened. */
export const tell = (name, detail) => document.dispatchEvent(new CustomEvent(`classy:${name}`, { detail }));
export const hear = (name, then) => document.addEventListener(`classy:${name}`, (event) => then(event.detail));

/** Read or write a preference; a browser may forbid both. */
export function remembered(name, fallback) {
  try {
    return localStorage.getItem(`classy.${name}`) ?? fallback;
  } catch {
    return fallback;
  }
}
export function remember(name, value) {
  try {
    localStorage.setItem(`classy.${name}`, value);
  } catch { /* then it is forgotten with the page */ }
}
