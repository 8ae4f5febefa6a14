// A picture as a model wants it, like classy.pictures.decode does it: upright, over white, resized, cropped, normalised.
// Browsers resize each in their own way, so it is done here: Pillow's kernels, antialiased, rounded after each pass.

const STRIPE_PX = 2_000_000; // of pixels at once; a photo of 40 Mpx would take 160 MB
const PX_MAX = 40_000_000;
const WHITE = "#fff";
const SPLINE = -0.5; // Pillow's; others take -0.75

const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
const KERNELS = {
  bilinear: [1, (x) => Math.max(0, 1 - Math.abs(x))],
  bicubic: [2, (signed) => {
    const x = Math.abs(signed);
    if (x >= 2) return 0;
    return x < 1 ? ((SPLINE + 2) * x - (SPLINE + 3)) * x * x + 1 : (((x - 5) * x + 8) * x - 4) * SPLINE;
  }],
  lanczos: [3, (x) => (Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0)],
};

/** What is no picture for this browser, or too large a one. */
export class Unusable extends Error {
  constructor(reason, detail = "") {
    super(detail);
    this.reason = reason;
  }
}

/**
 * Return a picture file as a model's input, one row of it.
 *
 * @param {Blob} blob
 * @param {Object} spec  A manifest's `input`.
 * @returns {Promise<Float32Array>} (value - mean) / deviation, in the spec's layout and channel order
 */
export async function inputOf(blob, spec) {
  let bitmap;
  try {
    // Profiles are ignored as they are on the server, and as they were when the models were trained.
    bitmap = await createImageBitmap(blob, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  } catch (error) {
    throw new Unusable("unreadable", error.message);
  }
  try {
    const { width, height } = bitmap;
    if (width * height > PX_MAX) throw new Unusable("too-large", `${width} × ${height} px`);
    return normalised(fitted(bitmap, spec), spec);
  } finally {
    bitmap.close();
  }
}

/** Resize and crop; return bytes, row by row, 1 or 3 for each pixel. */
function fitted(bitmap, spec) {
  const channels = spec.channel_order === "L" ? 1 : 3;
  const [width, height] = whole(bitmap, spec);
  const left = Math.floor((width - spec.width_px) / 2);
  const top = Math.floor((height - spec.height_px) / 2);
  const across = taps(bitmap.width, width, left, spec.width_px, spec.interpolation);
  const down = taps(bitmap.height, height, top, spec.height_px, spec.interpolation);
  const first = Math.min(...down.map(({ from }) => from));
  const last = Math.max(...down.map(({ from, weights }) => from + weights.length));
  const line = spec.width_px * channels;
  const narrow = new Uint8ClampedArray((last - first) * line);
  for (const [y, rows] of stripes(bitmap, first, last)) resizedAcross(rows, bitmap.width, across, channels, narrow.subarray((y - first) * line));
  const found = new Uint8ClampedArray(spec.height_px * line);
  for (const [y, { from, weights }] of down.entries()) {
    for (let x = 0; x < line; x += 1) {
      let sum = 0.5;
      for (let tap = 0; tap < weights.length; tap += 1) sum += weights[tap] * narrow[(from - first + tap) * line + x];
      found[y * line + x] = Math.floor(sum);
    }
  }
  return found;
}

/** Return the size of the picture of which the crop is a part. */
function whole({ width, height }, spec) {
  if (spec.resize === "squash") return [spec.width_px, spec.height_px];
  const scale = spec.resize_px / Math.min(width, height);
  return [Math.max(spec.width_px, even(width * scale)), Math.max(spec.height_px, even(height * scale))];
}

/** Round; a half goes to the even neighbour, as in Python. */
function even(value) {
  const up = Math.round(value);
  return up - value === 0.5 && up % 2 ? up - 1 : up;
}

/** Return for each resized pixel which of the picture's it is made of, and how much of each. */
function taps(size, resized, first, count, interpolation) {
  const scale = size / resized;
  if (interpolation === "nearest") return nearest(size, scale, first, count);
  const middles = Array.from({ length: count }, (_, place) => (first + place + 0.5) * scale);
  const [support, kernel] = KERNELS[interpolation];
  const stretch = Math.max(1, scale); // smaller pictures are made of all pixels: that is the antialiasing
  return middles.map((middle) => {
    const from = Math.max(0, Math.floor(middle - support * stretch + 0.5));
    const to = Math.min(size, Math.floor(middle + support * stretch + 0.5));
    const parts = Float64Array.from({ length: to - from }, (_, tap) => kernel((from + tap - middle + 0.5) / stretch));
    const sum = parts.reduce((total, part) => total + part, 0);
    return { from, weights: parts.map((part) => part / sum) };
  });
}

/** As Pillow does it, with the rounding of its sums: between two pixels it decides which of them is taken. */
function nearest(size, scale, first, count) {
  const found = [];
  for (let place = 0, middle = scale * 0.5; place < first + count; place += 1, middle += scale) {
    if (place >= first) found.push({ from: Math.min(size - 1, Math.floor(middle)), weights: [1] });
  }
  return found;
}

/** Yield [first row, RGBA bytes] of some rows at a time, over white. */
function* stripes(bitmap, first, last) {
  const rows = Math.max(1, Math.min(last - first, Math.floor(STRIPE_PX / bitmap.width)));
  const canvas = new OffscreenCanvas(bitmap.width, rows);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = false;
  context.fillStyle = WHITE;
  for (let y = first; y < last; y += rows) {
    const count = Math.min(rows, last - y);
    context.fillRect(0, 0, bitmap.width, rows);
    context.drawImage(bitmap, 0, y, bitmap.width, count, 0, 0, bitmap.width, count);
    yield [y, context.getImageData(0, 0, bitmap.width, count).data];
  }
}

function resizedAcross(rgba, width, across, channels, into) {
  const rows = rgba.length / 4 / width;
  const source = channels === 1 ? grey(rgba) : rgba;
  const step = channels === 1 ? 1 : 4;
  let place = 0;
  for (let y = 0; y < rows; y += 1) {
    for (const { from, weights } of across) {
      const start = (y * width + from) * step;
      for (let channel = 0; channel < channels; channel += 1) {
        let sum = 0.5;
        for (let tap = 0, at = start + channel; tap < weights.length; tap += 1, at += step) sum += weights[tap] * source[at];
        into[place++] = Math.floor(sum);
      }
    }
  }
}

/** Return ITU-R 601's luma as Pillow computes it. */
function grey(rgba) {
  const found = new Uint8Array(rgba.length / 4);
  for (let at = 0; at < found.length; at += 1) {
    found[at] = (19595 * rgba[4 * at] + 38470 * rgba[4 * at + 1] + 7471 * rgba[4 * at + 2] + 0x8000) >> 16;
  }
  return found;
}

function normalised(bytes, { channel_order: order, layout, mean, deviation }) {
  const channels = order === "L" ? 1 : 3;
  const found = new Float32Array(bytes.length);
  const plane = bytes.length / channels;
  for (let pixel = 0; pixel < plane; pixel += 1) {
    for (let channel = 0; channel < channels; channel += 1) {
      const value = bytes[pixel * channels + (order === "BGR" ? 2 - channel : channel)];
      found[layout === "NCHW" ? channel * plane + pixel : pixel * channels + channel] = (value - mean[channel]) / deviation[channel];
    }
  }
  return found;
}
