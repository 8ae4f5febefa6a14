"""The world outline: closed rings that never jump across the map, made of the atlas as it says."""

from __future__ import annotations

import json
import re
import tarfile
from itertools import pairwise
from typing import Any

import pytest
from mnist import npm_package

from classy.web.page import STATIC
from tools.world_outline import GRID_DEG, MEMBER, POLE, TURN, outline

WORLD = json.loads((STATIC / "world.json").read_text())


def subpaths(path: str) -> list[list[tuple[int, int]]]:
    """Return the points of each part of an SVG path of ours."""
    found = []
    for part in path.split("M")[1:]:
        start, _, steps = part.partition("l")
        numbers = [int(number) for number in re.findall(r"-?\d+", steps)]
        x, y = map(int, start.split())
        points = [(x, y)]
        for dx, dy in zip(numbers[::2], numbers[1::2], strict=True):
            x, y = x + dx, y + dy
            points.append((x, y))
        found.append(points)
    return found


def test_land_never_jumps_across_the_map() -> None:
    """A ring that crosses the antimeridian goes on beyond it; only Antarctica's way round the pole is long."""
    for ring in subpaths(WORLD["land"]):
        steps = [abs(a[0] - b[0]) for a, b in pairwise(ring)]
        assert max(steps) <= TURN / 2 or any(y == POLE for _, y in ring)
        assert all(abs(x) <= TURN and abs(y) <= POLE for x, y in ring)


@pytest.mark.parametrize(
    ("latitude_deg", "longitude_deg", "land"),
    [(36.2, 138.2, True), (-17.8, 178.0, True), (66.0, 178.0, True), (66.0, -172.0, True), (0.0, -140.0, False),
     (47.0, 2.5, True), (45.0, -35.0, False), (-85.0, 10.0, True)],
    ids=["Honshu", "Fiji", "Chukotka, east", "Chukotka, west", "Pacific", "France", "Atlantic", "Antarctica"],
)  # fmt: skip
def test_land_is_where_it_is(latitude_deg: float, longitude_deg: float, land: bool) -> None:
    """A point on land is inside an odd number of rings, in one of the worlds that the page draws side by side."""
    inside = 0
    for turn in (-360, 0, 360):
        x, y = (longitude_deg + turn) / GRID_DEG, -latitude_deg / GRID_DEG
        for ring in subpaths(WORLD["land"]):
            crossings = 0
            for (x1, y1), (x2, y2) in zip(ring, [*ring[1:], ring[0]], strict=True):
                if (y1 > y) != (y2 > y) and x < x1 + (y - y1) / (y2 - y1) * (x2 - x1):
                    crossings += 1
            inside += crossings % 2
    assert bool(inside % 2) == land


def topology(arcs: list[list[list[int]]], rings: list[list[int]]) -> dict[str, Any]:
    """Return a TopoJSON of whole degrees with one country."""
    geometry = {"type": "Polygon", "arcs": rings}
    return {
        "transform": {"scale": [1, 1], "translate": [0, 0]},
        "arcs": arcs,
        "objects": {name: {"geometries": [geometry]} for name in ("land", "countries")},
    }


def test_a_ring_across_the_antimeridian_is_unwrapped() -> None:
    """From 179° E one degree further is 180°, though the atlas calls it −180°."""
    square = [[[179, 0], [-358, 0], [0, 2], [358, 0], [0, -2]]]
    (ring,) = subpaths(outline(topology(square, [[0]]))["land"])
    assert [x * GRID_DEG for x, _ in ring] == pytest.approx([179, 181, 181, 179, 179])


def test_a_border_is_what_two_countries_share() -> None:
    """An arc of one country only is a coast, and no border."""
    atlas = topology([[[0, 0], [0, 2]], [[0, 2], [-2, -1], [2, -1]], [[0, 2], [2, -1], [-2, -1]]], [[0, 1]])
    atlas["objects"]["countries"] = {
        "geometries": [{"type": "Polygon", "arcs": [[0, 1]]}, {"type": "Polygon", "arcs": [[-1, -3]]}]
    }
    assert subpaths(outline(atlas)["borders"]) == [[(0, 0), (0, -round(2 / GRID_DEG))]]


@pytest.mark.slow
def test_the_outline_is_made_of_the_atlas() -> None:
    """The committed file is what the committed program makes of the package that NOTICE names."""
    with tarfile.open(npm_package("world-atlas@2.0.2", "world-atlas-2.0.2.tgz")) as archive:
        file = archive.extractfile(MEMBER)
        assert file is not None
        assert outline(json.load(file)) == WORLD
