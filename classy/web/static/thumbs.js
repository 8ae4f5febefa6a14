// Thumbnails, which the server made and which hold no EXIF.

import { blob, hasKey } from "./api.js";
import { el } from "./dom.js";

const MISSES_MAX = 3;
let misses = 0; // a server that keeps no thumbnails is not asked for each of them

/**
 * Return a picture of a record, or a plain square where there is none.
 *
 * @param {string} sha256  Of the picture's file; "" where nobody got hold of it.
 */
export function thumb(sha256, px = 72) {
  const frame = el("span", { class: "thumb", "aria-hidden": "true" });
  if (!/^[0-9a-f]{64}$/.test(sha256 ?? "") || misses >= MISSES_MAX) return frame;
  const path = `api/thumbnails/${sha256}`;
  const image = el("img", { alt: "", width: px, height: px, loading: "lazy", decoding: "async" });
  image.addEventListener("error", () => {
    misses += 1;
    image.remove();
  });
  image.addEventListener("load", () => (misses = 0));
  if (hasKey()) {
    blob(path).then((bytes) => {
      image.src = URL.createObjectURL(bytes);
      image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
    }, () => image.remove());
  } else {
    image.src = path;
  }
  frame.append(image);
  return frame;
}
