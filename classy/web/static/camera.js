// The camera: one picture, or one every two seconds; and the camera's own app, which needs no permission.

import { byId, hear } from "./dom.js";
import { t } from "./i18n.js";
import { classify } from "./jobs.js";
import { asked } from "./models.js";

const LIVE_MS = 2000;
const SIDE_MAX_PX = 1024; // classifiers look at 224
let stream = null;
let live = null; // the run of pictures that goes on
let card = null;

export function start() {
  byId("camera-start").addEventListener("click", open);
  byId("camera-take").addEventListener("click", () => take());
  byId("camera-live").addEventListener("click", () => goLive(!live));
  byId("camera-stop").addEventListener("click", () => stop({ focus: true }));
  const capture = byId("capture");
  capture.addEventListener("change", () => {
    for (const file of capture.files) {
      classify({ name: t("camera.name"), blob: file, type: file.type || "image/jpeg" }, asked("photo"));
    }
    capture.value = "";
  });
  document.addEventListener("visibilitychange", () => document.hidden && goLive(false)); // nobody looks
  hear("view", (view) => view === "classify" || stop());
  if (!navigator.mediaDevices?.getUserMedia) {
    byId("camera-start").hidden = true;
    byId("camera-problem").dataset.t = "camera.insecure";
  }
}

/** Let the camera go; its light goes out. */
export function stop({ focus = false } = {}) {
  if (!stream) return;
  goLive(false);
  for (const track of stream.getTracks()) track.stop();
  stream = null;
  byId("video").srcObject = null;
  draw();
  if (focus) byId("camera-start").focus();
}

async function open() {
  const problem = byId("camera-problem");
  problem.textContent = "";
  delete problem.dataset.t;
  let opened;
  try {
    opened = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
  } catch {
    problem.dataset.t = "camera.denied";
    problem.textContent = t("camera.denied");
    return;
  }
  if (byId("panel-camera").hidden || stream) { // somebody has gone on meanwhile
    for (const track of opened.getTracks()) track.stop();
    return;
  }
  stream = opened;
  const video = byId("video");
  video.srcObject = stream;
  draw();
  await video.play().catch(() => null); // it was stopped before it began
  if (stream) byId("camera-take").focus();
}

function draw() {
  const on = stream !== null;
  byId("video").hidden = !on;
  byId("camera-start").hidden = on;
  byId("camera-app").hidden = on;
  for (const name of ["take", "live", "stop"]) byId(`camera-${name}`).hidden = !on;
}

async function take(options) {
  const blob = await frame();
  return blob && classify({ name: t("camera.name"), blob, type: "image/jpeg" }, asked("photo"), options);
}

async function frame() {
  const video = byId("video");
  if (!video.videoWidth) return null; // the first picture has not come yet
  const scale = Math.min(1, SIDE_MAX_PX / Math.max(video.videoWidth, video.videoHeight));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(video.videoWidth * scale);
  canvas.height = Math.round(video.videoHeight * scale);
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.9));
}

function goLive(on) {
  if (on === Boolean(live)) return;
  live = on ? {} : null;
  byId("camera-live").setAttribute("aria-pressed", String(on));
  if (on) {
    card = null;
    watch(live);
  }
}

async function watch(run) {
  while (live === run) {
    const begun = performance.now();
    const made = await take({ instead: card }); // one card that changes, not one for each picture
    card = made || card;
    await new Promise((resolve) => setTimeout(resolve, Math.max(100, LIVE_MS - (performance.now() - begun))));
  }
}
