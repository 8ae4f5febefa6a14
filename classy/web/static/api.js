// The server's API. Every address is relative to the page, so that the page works under any path.

import { tell } from "./dom.js";

let key = session("get") ?? "";

/** What the server, or the way to it, says instead of an answer. */
export class Problem extends Error {
  constructor({ status = 0, code = 0, detail = "", requestId = "", retryAfterS = 0, cancelled = false, type = "" }) {
    super(detail);
    Object.assign(this, { status, code, detail, requestId, retryAfterS, cancelled, type });
  }
}

/** Use a key for all further requests of this tab. */
export function useKey(value) {
  key = value;
  session("set", value);
  tell("key");
}
export const hasKey = () => key !== "";

/** Return an address of the API with its query; empty values are left out, lists are repeated. */
export function address(path, query = {}) {
  const found = new URL(path, document.baseURI);
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== "" && one !== null && one !== undefined) found.searchParams.append(name, one);
    }
  }
  return found.href;
}

/** GET JSON. */
export async function get(path, query = {}, { signal } = {}) {
  return (await ask(address(path, query), { signal })).json();
}

/** DELETE, and return the JSON. */
export const remove = async (path) => (await ask(address(path), { method: "DELETE" })).json();

/** GET bytes as a Blob. */
export const blob = async (path, query = {}) => (await ask(address(path, query), {})).blob();

/** POST JSON, and return JSON. */
export async function post(path, value, { signal } = {}) {
  const headers = { "Content-Type": "application/json" };
  return (await ask(address(path), { method: "POST", body: JSON.stringify(value), headers, signal })).json();
}

async function ask(url, { headers = {}, ...options }) {
  let reply;
  try {
    reply = await fetch(url, { ...options, headers: { Accept: "application/json", ...headers, ...own() } });
  } catch (error) {
    throw new Problem({ cancelled: error.name === "AbortError" });
  }
  if (!reply.ok) throw problem(reply.status, await reply.text().catch(() => ""), (name) => reply.headers.get(name));
  return reply;
}

/**
 * POST a picture. Only XMLHttpRequest says how much of it has left.
 *
 * @param {Blob} body
 * @param {{query: Object, type: string, signal: AbortSignal, sent: function(number): void}} options  `sent` hears the
 *   share that was sent, 0 to 1.
 */
export function upload(path, body, { query, type, signal, sent }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const stop = () => request.abort();
    const done = (then, value) => {
      signal.removeEventListener("abort", stop);
      then(value);
    };
    request.open("POST", address(path, query));
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("Content-Type", type);
    for (const [name, value] of Object.entries(own())) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", (event) => sent(event.total ? event.loaded / event.total : 0));
    request.upload.addEventListener("load", () => sent(1));
    request.addEventListener("load", () => {
      if (request.status < 300) done(resolve, parsed(request.responseText));
      else done(reject, problem(request.status, request.responseText, (name) => request.getResponseHeader(name)));
    });
    request.addEventListener("error", () => done(reject, new Problem({})));
    request.addEventListener("abort", () => done(reject, new Problem({ cancelled: true })));
    signal.addEventListener("abort", stop);
    if (signal.aborted) stop();
    else request.send(body);
  });
}

function problem(status, text, header) {
  const value = parsed(text);
  const found = new Problem({
    status,
    code: value.code,
    type: value.type,
    detail: value.detail ?? value.error?.message ?? "",
    requestId: value.request_id ?? header("X-Request-Id") ?? "",
    retryAfterS: Number(header("Retry-After")) || 0,
  });
  if (status === 401) tell("key-needed");
  return found;
}

function parsed(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}

/** Return the headers that name this person. */
export const own = () => (key ? { "X-Api-Key": key } : {});

function session(verb, value) {
  try {
    return verb === "get" ? sessionStorage.getItem("classy.key") : sessionStorage.setItem("classy.key", value);
  } catch {
    return null;
  }
}
