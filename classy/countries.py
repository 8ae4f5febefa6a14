"""
In which country a point lies, and what countries are called; offline, and by nothing but the standard library.

The rule for borders that are not agreed upon: a code says which entry of ISO 3166-1 a place belongs to, and nothing
of whose it ought to be. An area with an entry of its own (Taiwan, Palestine, the whole of Western Sahara, Hong Kong,
the Falklands) has its own code. An area without one that governs itself (Kosovo, Somaliland, northern Cyprus with the
buffer zone) has none; nor have DISPUTED, inhabited areas that one state holds and another one claims, for which
disputed_area() has names; nor reefs that several claim. All else follows Natural Earth 4.1, which maps who holds it.

countries.bin holds the outlines, made by tools/country_outlines.py: zlib's stream of a line of JSON (the grid, the
numbers of pieces and of steps, each country's code and number of pieces), and then little-endian arrays: each
country's pieces (uint16); of each piece the least and the greatest x, the same of y, x and y of its first point
(int32), and its number of steps (uint8); x of all steps and y of all steps (int16, all low bytes and then all high
ones). x is from the antimeridian to the east, y from the equator to the north. A piece may bound two countries.

Source: Natural Earth 1:10m (public domain) by way of npm's world-atlas 2.0.2 (ISC), simplified to 700 m: coasts and
borders are right to about a kilometre. A point at sea within COAST_KM of a country is in it: beaches, piers, and what
the outlines leave out. countries.tsv: Unicode CLDR.
"""

from __future__ import annotations

import json
import math
import sys
import zlib
from array import array
from collections.abc import Sequence
from functools import cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Literal, NamedTuple, get_args

Language = Literal["en", "ja", "zh"]
COAST_KM = 5.0
_FOLDER = Path(__file__).parent
_KM_PER_DEG = 111.2  # of latitude
_WESTERN_SAHARA_DEG = 27 + 40 / 60  # south of it what Morocco holds is not Morocco's in ISO 3166-1
_VATICAN = ((12.4458, 41.9003), (12.4465, 41.9039), (12.453, 41.9074), (12.458, 41.906), (12.4583, 41.9019))


class Area(NamedTuple):
    """
    An area that two states claim.

    Args:
        names: In each Language.
        outline: Longitude and latitude of its corners, in degrees; coarse, to some ten kilometres.
    """

    names: tuple[str, str, str]
    outline: tuple[tuple[float, float], ...]


DISPUTED = (
    Area(
        ("Abyei", "アビエイ", "阿卜耶伊"),
        ((27.83, 10.17), (29.0, 10.17), (29.0, 9.65), (28.0, 9.32), (27.83, 9.55)),
    ),
    Area(
        ("Arunachal Pradesh / Zangnan", "アルナーチャル・プラデーシュ／蔵南", "阿鲁纳恰尔邦／藏南"),
        (
            *((91.65, 27.48), (91.65, 27.75), (92.7, 28.1), (93.4, 28.7), (94.6, 29.35), (96.0, 29.45), (96.6, 28.8)),
            *((97.4, 28.2), (97.0, 27.7), (96.9, 27.2), (96.1, 27.15), (95.2, 26.75), (95.4, 27.05), (96.0, 27.4)),
            *((95.9, 27.95), (95.4, 27.95), (94.8, 27.75), (94.2, 27.6), (93.8, 27.1), (93.0, 26.93), (92.1, 26.9)),
        ),
    ),
    Area(
        ("Crimea", "クリミア", "克里米亚"),
        (
            *(
                (32.3, 44.9),
                (32.3, 45.6),
                (33.5, 46.12),
                (34.2, 46.05),
                (34.75, 45.95),
                (35.05, 45.65),
                (35.4, 45.42),
            ),
            *((36.66, 45.5), (36.66, 45.38), (36.5, 45.25), (36.5, 44.9), (35.0, 44.5), (33.9, 44.2), (33.2, 44.4)),
        ),
    ),
    Area(
        ("Golan Heights", "ゴラン高原", "戈兰高地"),
        (
            *((35.655, 32.69), (35.645, 32.86), (35.63, 33.0), (35.63, 33.2), (35.66, 33.27), (35.8, 33.34)),
            *((35.9, 33.2), (35.87, 33.0), (35.86, 32.88), (35.77, 32.74)),
        ),
    ),
    Area(
        ("Hala’ib Triangle", "ハラーイブ・トライアングル", "哈拉伊卜三角区"),
        ((33.98, 22.0), (34.7, 22.3), (35.1, 22.75), (35.5, 23.3), (36.3, 22.85), (37.1, 22.0)),
    ),
    Area(
        ("Ilemi Triangle", "イレミ・トライアングル", "伊莱米三角区"),
        ((34.38, 4.61), (35.26, 5.0), (35.81, 5.33), (35.95, 4.62)),
    ),
    Area(
        ("Kashmir", "カシミール", "克什米尔"),
        (
            *(
                (73.9, 33.0),
                (74.3, 32.8),
                (74.65, 32.65),
                (74.75, 32.48),
                (75.1, 32.45),
                (75.35, 32.33),
                (75.9, 32.65),
            ),
            *((76.9, 33.0), (77.9, 32.9), (78.4, 32.5), (78.9, 32.3), (79.5, 32.7), (79.2, 33.3), (80.2, 34.0)),
            *((80.3, 35.5), (78.0, 36.1), (76.0, 36.7), (75.4, 36.95), (74.6, 37.05), (73.2, 36.85), (72.5, 36.3)),
            *((72.7, 35.8), (73.3, 35.4), (74.0, 35.0), (73.45, 34.4), (73.55, 34.0), (73.6, 33.4), (73.65, 33.1)),
        ),
    ),
    Area(
        ("Southern Kuril Islands / Northern Territories", "南クリル諸島／北方領土", "南千岛群岛／北方四岛"),
        (
            *((145.37, 43.65), (145.37, 43.95), (145.55, 44.45), (146.3, 44.75), (147.0, 45.5), (149.1, 45.9)),
            *((149.15, 45.2), (147.0, 43.8), (146.5, 43.2), (145.9, 43.36), (145.75, 43.5)),
        ),
    ),
)
"""Inhabited areas that one state holds and another claims, as far as we know them: nobody's list is everybody's."""


def country_at(latitude_deg: float, longitude_deg: float) -> str:
    """
    Return the country that a point lies in.

    The outlines are loaded at the first call (30 ms), and kept.

    Args:
        latitude_deg: -90 to 90.
        longitude_deg: -180 to 180.

    Returns:
        Its code of ISO 3166-1 alpha-2; "" at sea and where borders are disputed, as said above.
    """
    if _disputed(latitude_deg, longitude_deg) is not None:
        return ""
    if _within(_VATICAN, latitude_deg, longitude_deg):  # smaller than the outlines' grid
        return "VA"
    code = _outlines().country(latitude_deg, longitude_deg)
    return "EH" if code == "MA" and latitude_deg < _WESTERN_SAHARA_DEG else code


def disputed_area(latitude_deg: float, longitude_deg: float, language: Language = "en") -> str:
    """Return what the area is called that two states claim and a point lies in; "" for none."""
    return disputed_names(latitude_deg, longitude_deg).get(language, "")


def disputed_names(latitude_deg: float, longitude_deg: float) -> dict[str, str]:
    """Return what the area is called in each language; none for a point that nobody disputes."""
    area = _disputed(latitude_deg, longitude_deg)
    return dict(zip(get_args(Language), area.names, strict=True)) if area else {}


def country_name(code: str, language: Language = "en") -> str:
    """Return what a country is called in a language; the code itself where it is none."""
    names = _names().get(code)
    return names[get_args(Language).index(language)] if names else code


def country_codes() -> tuple[str, ...]:
    """Return every code of ISO 3166-1 alpha-2."""
    return tuple(_names())


class _Outlines:
    """What countries.bin holds."""

    def __init__(self, data: bytes) -> None:
        data = zlib.decompress(data)
        at = data.index(b"\n") + 1
        head = json.loads(data[:at])
        self._grid_deg: float = head["grid_deg"]
        self._turn = round(360 / self._grid_deg)

        def numbers(kind: str, count: int) -> array[int]:
            nonlocal at
            found = array(kind)
            end = at + count * found.itemsize
            found.frombytes(data[at:end])
            at = end
            if sys.byteorder == "big":
                found.byteswap()
            return found

        def steps(count: int) -> array[int]:
            nonlocal at
            halves = bytearray(2 * count)
            halves[::2], halves[1::2] = data[at : at + count], data[at + count : at + 2 * count]
            at += 2 * count
            found = array("h")
            found.frombytes(halves)
            if sys.byteorder == "big":
                found.byteswap()
            return found

        countries, pieces = head["countries"], head["pieces"]
        members = numbers("H", sum(count for _, count in countries))
        self._west, self._east, self._south, self._north, self._x, self._y = (numbers("i", pieces) for _ in range(6))
        self._count = numbers("B", pieces)
        self._first = array("i", accumulate(self._count, initial=0))
        self._dx, self._dy = steps(head["steps"]), steps(head["steps"])
        self._countries: list[tuple[str, tuple[int, int, int, int], array[int]]] = []
        start = 0
        for code, count in countries:
            own = members[start : start + count]
            start += count
            box = (
                *(min(self._west[piece] for piece in own), max(self._east[piece] for piece in own)),
                *(min(self._south[piece] for piece in own), max(self._north[piece] for piece in own)),
            )
            self._countries.append((code, box, own))

    def country(self, latitude_deg: float, longitude_deg: float) -> str:
        """Return the country that a point lies in, or the nearest one if that is near enough; else ""."""
        x = (longitude_deg + 180) / self._grid_deg % self._turn
        y = latitude_deg / self._grid_deg
        wests, easts, norths = self._west, self._east, self._north
        for code, (west, east, _, north), own in self._countries:
            if not (west <= x <= east and y <= north):
                continue
            # Inside, if the way to the north pole, which is in no country, crosses its border an odd number of times.
            # That holds across the antimeridian, around holes, and around the south pole.
            met = [piece for piece in own if wests[piece] <= x <= easts[piece] and norths[piece] >= y]
            if sum(self._crossed(piece, x, y) for piece in met) % 2:
                return code
        return self._nearest(x, y, math.cos(math.radians(latitude_deg)))

    def _crossed(self, piece: int, x: float, y: float) -> int:
        """Return how often a piece crosses the way from a point to the north; perhaps but for a multiple of two."""
        if self._south[piece] <= y:
            return _crossings(self._line(piece), x, y)
        begin, end = self._first[piece], self._first[piece + 1]
        return (self._x[piece] <= x) != (self._x[piece] + sum(self._dx[begin:end]) <= x)

    def _nearest(self, x: float, y: float, narrowing: float) -> str:
        """
        Return the country whose border is nearest, if it is as near as COAST_KM.

        Args:
            narrowing: A degree of longitude, in degrees of latitude.
        """
        limit = COAST_KM / _KM_PER_DEG / self._grid_deg
        margin = min(limit / max(narrowing, 1e-6), self._turn / 2)
        best, nearest = "", limit
        for at in {
            x,
            *([x + self._turn] if x < margin else []),
            *([x - self._turn] if x > self._turn - margin else []),
        }:
            for code, (west, east, south, north), own in self._countries:
                if not (west - margin <= at <= east + margin and south - limit <= y <= north + limit):
                    continue
                low, high, left, right = y - limit, y + limit, at - margin, at + margin
                norths, souths, easts, wests = self._north, self._south, self._east, self._west
                for piece in [p for p in own if norths[p] >= low and souths[p] <= high and easts[p] >= left]:
                    if wests[piece] <= right:
                        distance = _distance([((a - at) * narrowing, b - y) for a, b in self._line(piece)])
                        if distance < nearest:
                            best, nearest = code, distance
        return best

    def _line(self, piece: int) -> list[tuple[int, int]]:
        begin, end = self._first[piece], self._first[piece + 1]
        xs = accumulate(self._dx[begin:end], initial=self._x[piece])
        return list(zip(xs, accumulate(self._dy[begin:end], initial=self._y[piece]), strict=True))


def _crossings(line: Sequence[tuple[float, float]], x: float, y: float) -> int:
    """Return how often a line crosses the way from a point to the north."""
    crossed = 0
    for (x0, y0), (x1, y1) in pairwise(line):
        if (x0 <= x) != (x1 <= x) and y0 + (y1 - y0) * (x - x0) / (x1 - x0) > y:
            crossed += 1
    return crossed


def _distance(line: Sequence[tuple[float, float]]) -> float:
    """Return how far a line is from the origin."""
    nearest = math.inf
    for (x0, y0), (x1, y1) in pairwise(line):
        dx, dy = x1 - x0, y1 - y0
        length_2 = dx * dx + dy * dy
        along = max(0.0, min(1.0, -(x0 * dx + y0 * dy) / length_2)) if length_2 else 0.0
        nearest = min(nearest, math.hypot(x0 + along * dx, y0 + along * dy))
    return nearest


def _within(outline: Sequence[tuple[float, float]], latitude_deg: float, longitude_deg: float) -> bool:
    return _crossings([*outline, outline[0]], longitude_deg, latitude_deg) % 2 == 1


def _disputed(latitude_deg: float, longitude_deg: float) -> Area | None:
    return next((area for area in DISPUTED if _within(area.outline, latitude_deg, longitude_deg)), None)


@cache
def _outlines() -> _Outlines:
    return _Outlines((_FOLDER / "countries.bin").read_bytes())


@cache
def _names() -> dict[str, list[str]]:
    lines = (_FOLDER / "countries.tsv").read_text(encoding="utf-8").splitlines()
    return {code: names for code, *names in (line.split("\t") for line in lines if not line.startswith("#"))}
