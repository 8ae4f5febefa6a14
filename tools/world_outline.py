"""
Make the page's world outline of npm's world-atlas: classy/web/static/world.json, which is committed.

    npm pack world-atlas@2.0.2
    python tools/world_outline.py --atlas world-atlas-2.0.2.tgz --into classy/web/static/world.json

The outline is two SVG paths on a grid of 0.05°, x to the east and y to the south of 0° 0°: the land, and the borders
between countries. Land that lies across the antimeridian goes on beyond ±180°, for the page draws the world more than
once. The atlas is Natural Earth's 1:110 m map, in the public domain.
"""

from __future__ import annotations

import argparse
import json
import tarfile
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

MEMBER = "package/countries-110m.json"
GRID_DEG = 0.05  # 5.6 km; the atlas's own points lie further apart
SOURCE = "Natural Earth 1:110m (public domain), by way of npm world-atlas@2.0.2 (ISC)"

TURN = round(360 / GRID_DEG)
POLE = round(90 / GRID_DEG)

Point = tuple[int, int]


def outline(atlas: dict[str, Any]) -> dict[str, Any]:
    """Return the outline of a TopoJSON atlas: its source, its grid, and the SVG paths of land and borders."""
    arcs = [list(_points(arc, atlas["transform"])) for arc in atlas["arcs"]]
    land = [ring for geometry in atlas["objects"]["land"]["geometries"] for ring in _rings(geometry)]
    uses = Counter(
        arc if arc >= 0 else ~arc
        for geometry in atlas["objects"]["countries"]["geometries"]
        for ring in _rings(geometry)
        for arc in ring
    )
    return {
        "source": SOURCE,
        "grid_deg": GRID_DEG,
        "land": "".join(_path(_closed(_unwrapped(_joined(ring, arcs)))) + "z" for ring in land),
        "borders": "".join(_path(_unwrapped(arcs[arc])) for arc, times in sorted(uses.items()) if times > 1),
    }


def _points(arc: Iterable[list[int]], transform: dict[str, list[float]]) -> Iterable[Point]:
    (across, down), (left, bottom) = transform["scale"], transform["translate"]
    x = y = 0
    for dx, dy in arc:
        x, y = x + dx, y + dy
        yield round((x * across + left) / GRID_DEG), -round((y * down + bottom) / GRID_DEG)


def _rings(geometry: dict[str, Any]) -> list[list[int]]:
    parts = geometry.get("arcs", [])
    return [ring for polygon in parts for ring in polygon] if geometry["type"] == "MultiPolygon" else parts


def _joined(ring: list[int], arcs: list[list[Point]]) -> list[Point]:
    points: list[Point] = []
    for arc in ring:
        part = arcs[arc] if arc >= 0 else arcs[~arc][::-1]
        points += part[1:] if points else part
    return points


def _unwrapped(points: list[Point]) -> list[Point]:
    """Return points whose steps are the short way round: x may leave ±180°."""
    done, turns = [points[0]], 0
    for (before, _), (x, y) in pairwise(points):
        turns -= round((x - before) / TURN)
        done.append((x + turns * TURN, y))
    return done


def _closed(ring: list[Point]) -> list[Point]:
    """Return a ring that is closed; the one that goes round the south pole is led there."""
    if ring[0][0] == ring[-1][0]:
        return ring
    return [*ring, (ring[-1][0], POLE), (ring[0][0], POLE)]


def _path(points: list[Point]) -> str:
    """Return points as one path of whole steps, without those that the grid makes fall together."""
    (x, y), text = points[0], ""
    for next_x, next_y in points[1:]:
        dx, dy = next_x - x, next_y - y
        if dx or dy:
            text += f"{' ' if text and dx >= 0 else ''}{dx}{' ' if dy >= 0 else ''}{dy}"
        x, y = next_x, next_y
    return f"M{points[0][0]} {points[0][1]}l{text or '0 0'}"


def main() -> None:
    """Read the atlas, write the outline."""
    parser = argparse.ArgumentParser(description="Make the page's world outline.")
    parser.add_argument("--atlas", type=Path, required=True, metavar="TGZ", help="npm pack world-atlas@2.0.2")
    parser.add_argument("--into", type=Path, required=True, metavar="FILE", help="where the outline goes")
    arguments = parser.parse_args()
    with tarfile.open(arguments.atlas) as archive:
        file = archive.extractfile(MEMBER)
        assert file is not None, f"{arguments.atlas} has no {MEMBER}"
        made = outline(json.load(file))
    arguments.into.write_text(json.dumps(made, indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
