// Places on a flat map: which part of the Earth is seen, and which places are too close together to be told apart.

/** Return a longitude from −180 up to 180. */
export const wrapped = (east) => ((((east + 180) % 360) + 360) % 360) - 180;

/** Return how far a longitude lies from another, the short way round, −180 to 180. */
export const apart = (east, from) => wrapped(east - from);

/**
 * Return groups of places that lie within `near` degrees of their group's first one.
 *
 * @param {{north: number, east: number}[]} places
 * @param {number} near
 * @param {number} middle  The map's middle longitude: what lies on both sides of its edge is far apart.
 */
export function clusters(places, near, middle) {
  const groups = [];
  for (const place of places) {
    const x = apart(place.east, middle);
    const group = groups.find((one) => Math.abs(one.x - x) <= near && Math.abs(one.north - place.north) <= near);
    if (group) group.places.push(place);
    else groups.push({ x, north: place.north, places: [place] });
  }
  for (const group of groups) {
    group.x = group.places.reduce((sum, place) => sum + apart(place.east, middle), 0) / group.places.length;
    group.north = group.places.reduce((sum, place) => sum + place.north, 0) / group.places.length;
  }
  return groups;
}

/**
 * Return the box between two points of the map as the API takes it: WEST,SOUTH,EAST,NORTH.
 *
 * The points' longitudes may lie beyond ±180; where the box crosses the antimeridian, west is the greater.
 */
export function boxOf(a, b) {
  const [left, right] = [Math.min(a.x, b.x), Math.max(a.x, b.x)];
  const [south, north] = [Math.min(a.north, b.north), Math.max(a.north, b.north)].map((value) => Math.max(-90, Math.min(90, value)));
  const [west, east] = right - left >= 360 ? [-180, 180] : [wrapped(left), wrapped(right)];
  return [west, south, east, north].map((value) => Number(value.toFixed(2))).join(",");
}

/** Return the numbers of a box, the east made greater than the west; null for no box. */
export function parsedBox(text) {
  const parts = text.split(",").map(Number);
  if (parts.length !== 4 || !parts.every(Number.isFinite)) return null;
  const [west, south, east, north] = parts;
  return { west, south, east: east < west ? east + 360 : east, north };
}
