// One model in a thread of its own: fetched, checked, and asked about pictures. Ending the thread frees all its memory.

import { inputOf, Unusable } from "./browser-pixels.js";

let model = null; // a promise of { manifest, session, ort }

addEventListener("message", async ({ data: { id, place, runtime, headers, blob, topK } }) => {
  const began = performance.now();
  const cold = model === null;
  let unloaded = true;
  try {
    model ??= load(place, runtime, headers, (share) => postMessage({ id, share }));
    const { manifest, session, ort } = await model;
    unloaded = false;
    postMessage({ id, share: 1 });
    const input = manifest.input;
    const size = [input.height_px, input.width_px];
    const channels = input.channel_order === "L" ? 1 : 3;
    const shape = input.layout === "NCHW" ? [1, channels, ...size] : [1, ...size, channels];
    const tensor = new ort.Tensor("float32", await inputOf(blob, input), shape);
    const outputs = await session.run({ [input.name]: tensor }, [manifest.output.name]);
    const value = answer(manifest, outputs[manifest.output.name].data, topK);
    postMessage({ id, value: { ...value, timings: [{ name: "browser", ms: performance.now() - began, cold }] } });
  } catch (error) {
    const reason = error instanceof Unusable ? error.reason : "failed";
    postMessage({ id, unloaded, problem: { reason, detail: String(error.message ?? error), status: error.status ?? 0 } });
  }
});

/** Fetch what runs models and the model; `heard` is told which share of it is there. */
async function load(place, runtime, headers, heard) {
  const manifest = await (await got(`${place}manifest.json`, headers)).json();
  const total = runtime.bytes + manifest.files.reduce((sum, file) => sum + file.bytes, 0);
  let there = 0;
  const grown = (bytes) => heard(Math.min(0.999, (there += bytes) / total));
  const [wasm, graph, ...others] = await Promise.all([
    fetched(`${runtime.url}ort-wasm-simd-threaded.wasm`, {}, grown),
    ...manifest.files.map(async (file) => checked(await fetched(`${place}${file.name}`, headers, grown), file)),
  ]);
  const ort = await import(`${runtime.url}ort.wasm.bundle.min.mjs`);
  Object.assign(ort.env.wasm, { numThreads: 1, wasmBinary: wasm });
  const externalData = manifest.files.slice(1).map((file, at) => ({ path: file.name, data: others[at] }));
  const session = await ort.InferenceSession.create(graph, { externalData, executionProviders: ["wasm"] });
  return { manifest, session, ort };
}

async function got(url, headers) {
  let reply;
  try {
    reply = await fetch(url, { headers });
  } catch (error) {
    throw new Unusable("offline", error.message);
  }
  if (!reply.ok) throw Object.assign(new Error(`${new URL(url).pathname}: ${reply.status}`), { status: reply.status });
  return reply;
}

async function fetched(url, headers, grown) {
  const reader = (await got(url, headers)).body.getReader();
  const pieces = [];
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      pieces.push(next.value);
      grown(next.value.length);
    }
  } catch (error) {
    throw new Unusable("offline", error.message);
  }
  return new Uint8Array(await new Blob(pieces).arrayBuffer());
}

/** A model with a flipped bit would most likely run, and answer wrongly. */
async function checked(bytes, file) {
  if (!globalThis.crypto?.subtle) return bytes; // plain http: browsers have no SHA-256 there
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== file.sha256) throw new Error(`${file.name}: SHA-256 ${found}, not ${file.sha256}`);
  return bytes;
}

/** Return the answer as the server gives it. */
function answer({ name, version, files, labels, output }, raw, topK) {
  const probabilities = output.kind === "logits" ? softmax(raw.slice(output.skip)) : raw.slice(output.skip);
  if (!probabilities.every(Number.isFinite)) throw new Error("the model answers with numbers that are none");
  const order = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a] || a - b);
  const found = order.slice(0, topK).map((index) => ({
    class_index: index,
    ...(labels.ids?.length ? { class_id: labels.ids[index] } : {}),
    label: Object.fromEntries(Object.entries(labels.names ?? {}).map(([language, names]) => [language, names[index]])),
    probability: Math.round(probabilities[index] * 1e6) / 1e6,
  }));
  return { Id: 0, ...found[0], top_k: found, model: { name, version, sha256: files[0].sha256 }, in_browser: true };
}

function softmax(logits) {
  const most = logits.reduce((a, b) => Math.max(a, b));
  const parts = Float64Array.from(logits, (value) => Math.exp(value - most));
  const sum = parts.reduce((a, b) => a + b);
  return parts.map((part) => part / sum);
}
