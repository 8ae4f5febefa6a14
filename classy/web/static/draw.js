// Drawing a digit: mouse, finger, pen or keyboard. What is sent is centred as MNIST's digits are.

import { byId, say } from "./dom.js";
import { t } from "./i18n.js";
import { classify } from "./jobs.js";
import { asked } from "./models.js";

const SIDE_PX = 280; // ten times MNIST's 28
const DIGIT_PX = 200; // MNIST's digits fill 20 of 28, and their centre of mass is the picture's centre
const STROKE_PX = 20;
const STEP_PX = 10; // of an arrow key

const canvas = byId("canvas");
const context = canvas.getContext("2d", { willReadFrequently: true });
const pen = { x: SIDE_PX / 2, y: SIDE_PX / 2, down: false };
let strokes = []; // lists of [x, y, width]
let stroke = null;

export function start() {
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || stroke) return; // a second finger draws nothing
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    canvas.focus({ preventScroll: true });
    begin(at(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!stroke || !canvas.hasPointerCapture(event.pointerId)) return;
    const points = event.getCoalescedEvents?.() ?? [];
    for (const one of points.length ? points : [event]) stroke.push(at(one));
    draw();
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (stroke = null));
  canvas.addEventListener("keydown", typed);
  canvas.addEventListener("blur", () => {
    pen.down = false;
    draw();
  });
  canvas.addEventListener("focus", draw);
  byId("draw-ask").addEventListener("click", ask);
  byId("draw-undo").addEventListener("click", () => change(() => strokes.pop()));
  byId("draw-clear").addEventListener("click", () => change(() => (strokes = [])));
  draw();
}

function begin(point) {
  stroke = [point];
  strokes.push(stroke);
  draw();
}

function change(how) {
  how();
  stroke = null;
  pen.down = false;
  draw();
}

function at(event) {
  const box = canvas.getBoundingClientRect();
  const press = event.pointerType === "pen" && event.pressure ? 0.6 + 0.8 * event.pressure : 1;
  return [((event.clientX - box.left) * SIDE_PX) / box.width, ((event.clientY - box.top) * SIDE_PX) / box.height, STROKE_PX * press];
}

function typed(event) {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (step) {
    event.preventDefault();
    pen.x = Math.min(SIDE_PX - STEP_PX, Math.max(STEP_PX, pen.x + step[0] * STEP_PX));
    pen.y = Math.min(SIDE_PX - STEP_PX, Math.max(STEP_PX, pen.y + step[1] * STEP_PX));
    if (pen.down) stroke.push([pen.x, pen.y, STROKE_PX]);
    draw();
  } else if (event.key === " ") {
    event.preventDefault();
    pen.down = !pen.down;
    say(t(pen.down ? "draw.down" : "draw.up"));
    if (pen.down) begin([pen.x, pen.y, STROKE_PX]);
    else stroke = null;
  } else if (event.key === "Enter") {
    event.preventDefault();
    ask();
  } else if (event.key === "Backspace") {
    event.preventDefault();
    change(() => strokes.pop());
  }
}

// Ink is black on white in the dark theme too: that is what the models were trained on.
function draw() {
  paint(context, strokes);
  byId("draw-undo").disabled = byId("draw-clear").disabled = strokes.length === 0;
  if (document.activeElement === canvas && canvas.matches(":focus-visible")) {
    context.strokeStyle = context.fillStyle = "#0f6b5c";
    context.lineWidth = 2;
    context.beginPath();
    context.arc(pen.x, pen.y, STROKE_PX / 2 + 3, 0, 2 * Math.PI);
    context.stroke();
  }
}

function paint(into, lines) {
  into.fillStyle = "#fff";
  into.fillRect(0, 0, SIDE_PX, SIDE_PX);
  into.strokeStyle = into.fillStyle = "#000";
  into.lineCap = into.lineJoin = "round";
  for (const line of lines) {
    const [[x, y, width]] = line;
    into.beginPath();
    into.arc(x, y, width / 2, 0, 2 * Math.PI); // a tap is a dot
    into.fill();
    for (let place = 1; place < line.length; place += 1) {
      into.lineWidth = line[place][2];
      into.beginPath();
      into.moveTo(line[place - 1][0], line[place - 1][1]);
      into.lineTo(line[place][0], line[place][1]);
      into.stroke();
    }
  }
}

async function ask() {
  if (!strokes.length) {
    say(t("draw.empty"));
    return;
  }
  const drawing = centred();
  change(() => (strokes = []));
  const blob = await new Promise((resolve) => drawing.toBlob(resolve, "image/png"));
  await classify({ name: t("draw.name"), blob, type: "image/png" }, asked("drawn"));
}

/** Return the drawing scaled to DIGIT_PX, its strokes' width kept, with the middle of its ink in the middle. */
function centred() {
  const points = strokes.flat();
  const [left, right] = [Math.min(...points.map(([x]) => x)), Math.max(...points.map(([x]) => x))];
  const [top, bottom] = [Math.min(...points.map(([, y]) => y)), Math.max(...points.map(([, y]) => y))];
  const scale = Math.min((DIGIT_PX - STROKE_PX) / Math.max(right - left, bottom - top, 1), 4);
  const scaled = strokes.map((line) => line.map(([x, y, width]) => [(x - left) * scale, (y - top) * scale, width]));
  const drawing = document.createElement("canvas");
  drawing.width = drawing.height = SIDE_PX;
  const into = drawing.getContext("2d", { willReadFrequently: true });
  const moved = (dx, dy) => scaled.map((line) => line.map(([x, y, width]) => [x + dx, y + dy, width]));
  const [dx, dy] = [(SIDE_PX - (right - left) * scale) / 2, (SIDE_PX - (bottom - top) * scale) / 2];
  paint(into, moved(dx, dy));
  const [x, y] = middle(into.getImageData(0, 0, SIDE_PX, SIDE_PX).data);
  paint(into, moved(dx + SIDE_PX / 2 - x, dy + SIDE_PX / 2 - y));
  return drawing;
}

function middle(pixels) {
  let [ink, across, down] = [0, 0, 0];
  for (let place = 0; place < pixels.length / 4; place += 1) {
    const dark = 255 - pixels[4 * place];
    ink += dark;
    across += dark * (place % SIDE_PX);
    down += dark * Math.floor(place / SIDE_PX);
  }
  return [across / ink, down / ink];
}
