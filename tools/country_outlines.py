"""
Make the outlines of countries of npm's world-atlas: classy/countries.bin, which is committed.

    npm pack world-atlas@2.0.2
    python tools/country_outlines.py --atlas world-atlas-2.0.2.tgz --into classy/countries.bin

The atlas is Natural Earth's 1:10 m map, in the public domain: it has islands and coasts that 1:50 m lacks, and
simplified to 700 m, which is about how exact it is, it is not much larger. Borders are cut into pieces of 64 points
at most, so that a look-up reads a few of them; classy/countries.py says what the file holds.
"""

from __future__ import annotations

import argparse
import json
import sys
import tarfile
import zlib
from array import array
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

MEMBER = "package/countries-10m.json"
GRID_DEG = 0.0025  # 280 m
TURN, HALF = round(360 / GRID_DEG), round(180 / GRID_DEG)
TOLERANCE = 2.5  # of the grid: 700 m
PIECE = 64  # points
STEP_MAX = 30_000  # what 16 bits hold

Point = tuple[int, int]
Line = list[Point]

NUMERIC = """
004AF 008AL 010AQ 012DZ 016AS 020AD 024AO 028AG 031AZ 032AR 036AU 040AT 044BS 048BH 050BD 051AM 052BB 056BE
060BM 064BT 068BO 070BA 072BW 074BV 076BR 084BZ 086IO 090SB 092VG 096BN 100BG 104MM 108BI 112BY 116KH 120CM
124CA 132CV 136KY 140CF 144LK 148TD 152CL 156CN 158TW 162CX 166CC 170CO 174KM 175YT 178CG 180CD 184CK 188CR
191HR 192CU 196CY 203CZ 204BJ 208DK 212DM 214DO 218EC 222SV 226GQ 231ET 232ER 233EE 234FO 238FK 239GS 242FJ
246FI 248AX 250FR 254GF 258PF 260TF 262DJ 266GA 268GE 270GM 275PS 276DE 288GH 292GI 296KI 300GR 304GL 308GD
312GP 316GU 320GT 324GN 328GY 332HT 334HM 336VA 340HN 344HK 348HU 352IS 356IN 360ID 364IR 368IQ 372IE 376IL
380IT 384CI 388JM 392JP 398KZ 400JO 404KE 408KP 410KR 414KW 417KG 418LA 422LB 426LS 428LV 430LR 434LY 438LI
440LT 442LU 446MO 450MG 454MW 458MY 462MV 466ML 470MT 474MQ 478MR 480MU 484MX 492MC 496MN 498MD 499ME 500MS
504MA 508MZ 512OM 516NA 520NR 524NP 528NL 531CW 533AW 534SX 535BQ 540NC 548VU 554NZ 558NI 562NE 566NG 570NU
574NF 578NO 580MP 581UM 583FM 584MH 585PW 586PK 591PA 598PG 600PY 604PE 608PH 612PN 616PL 620PT 624GW 626TL
630PR 634QA 638RE 642RO 643RU 646RW 652BL 654SH 659KN 660AI 662LC 663MF 666PM 670VC 674SM 678ST 682SA 686SN
688RS 690SC 694SL 702SG 703SK 704VN 705SI 706SO 710ZA 716ZW 724ES 728SS 729SD 732EH 740SR 744SJ 748SZ 752SE
756CH 760SY 762TJ 764TH 768TG 772TK 776TO 780TT 784AE 788TN 792TR 795TM 796TC 798TV 800UG 804UA 807MK 818EG
826GB 831GG 832JE 833IM 834TZ 840US 850VI 854BF 858UY 860UZ 862VE 876WF 882WS 887YE 894ZM
"""
"""ISO 3166-1: numeric and alpha-2."""

NAMED = {
    "Ashmore and Cartier Is.": "AU",
    "Baikonur": "KZ",  # leased
    "Clipperton I.": "FR",
    "Coral Sea Is.": "AU",
    "Indian Ocean Ter.": "CC",  # but for Christmas Island; see ELSEWHERE
    "USNB Guantanamo Bay": "CU",  # leased
    **dict.fromkeys(("Kosovo", "N. Cyprus", "Somaliland"), ""),
    **dict.fromkeys(("Akrotiri", "Cyprus U.N. Buffer Zone", "Dhekelia", "Siachen Glacier"), ""),
    **dict.fromkeys(("Bajo Nuevo Bank", "Scarborough Reef", "Serranilla Bank", "Spratly Is."), ""),
}
"""What the atlas has no number for: its name and our code; "" where ISO has none, or two states claim it."""

ELSEWHERE = (
    ("FR", "GF", (-55, 2, -51, 6)),
    ("FR", "GP", (-62, 15.8, -60.9, 16.6)),
    ("FR", "MQ", (-61.4, 14.3, -60.7, 15)),
    ("FR", "RE", (55, -21.5, 56, -20.8)),
    ("FR", "YT", (44.9, -13.1, 45.4, -12.5)),
    ("NL", "BQ", (-69, 11, -62, 18)),
    ("NO", "SJ", (-10, 70, 36, 72)),
    ("NO", "SJ", (8, 74, 36, 82)),
    ("NO", "BV", (3, -55, 4, -54)),
    ("NZ", "TK", (-173, -10, -171, -8)),
    ("CC", "CX", (105, -11, 106, -10)),
)
"""Parts of what the atlas has as one country: its code, theirs, and west, south, east and north of where they are."""


def outlines(atlas: dict[str, Any]) -> bytes:
    """Return the file's contents; see classy/countries.py."""
    arcs = [simplified(list(_points(arc, atlas["transform"]))) for arc in atlas["arcs"]]
    codes = {entry[:3]: entry[3:] for entry in NUMERIC.split()}
    of_country: dict[str, set[int]] = {}
    for geometry in atlas["objects"]["countries"]["geometries"]:
        name = geometry["properties"]["name"]
        code = NAMED[name] if name in NAMED else codes[geometry["id"]]
        polygons = geometry["arcs"] if geometry["type"] == "MultiPolygon" else [geometry["arcs"]]
        for polygon in polygons:
            used = {arc if arc >= 0 else ~arc for ring in polygon for arc in ring}
            of_country.setdefault(_elsewhere(code, arcs[min(used)][0]), set()).symmetric_difference_update(used)
    return packed(arcs, of_country)


def packed(arcs: list[Line], of_country: dict[str, set[int]]) -> bytes:
    """Return arcs and the countries that they bound as the file's contents; an arc of nobody is left out."""
    pieces: list[Line] = []
    of_arc: dict[int, range] = {}
    for number in sorted(set().union(*of_country.values())):
        first = len(pieces)
        pieces += _pieces(arcs[number])
        of_arc[number] = range(first, len(pieces))
    countries, members = [], array("H")
    for code, used in sorted(of_country.items()):
        own = sorted(piece for number in used for piece in of_arc[number])
        countries.append([code, len(own)])
        members.extend(own)
    bounds = [
        array("i", [end(point[axis] for point in piece) for piece in pieces]) for axis in (0, 1) for end in (min, max)
    ]
    starts = [array("i", [piece[0][axis] for piece in pieces]) for axis in (0, 1)]
    counts = array("B", [len(piece) - 1 for piece in pieces])
    steps = [array("h", [b[axis] - a[axis] for piece in pieces for a, b in pairwise(piece)]) for axis in (0, 1)]
    head = json.dumps({"grid_deg": GRID_DEG, "pieces": len(pieces), "steps": len(steps[0]), "countries": countries})
    parts = [members, *bounds, *starts, counts]
    if sys.byteorder == "big":
        for part in (*parts, *steps):
            part.byteswap()
    # Low bytes, then high ones, which are nearly all alike: a sixth less to store.
    halves = [part.tobytes()[half::2] for part in steps for half in (0, 1)]
    return zlib.compress(head.encode() + b"\n" + b"".join((*(part.tobytes() for part in parts), *halves)), 9)


def simplified(line: Line) -> Line:
    """
    Return a line without the points that lie within TOLERANCE of what is left.

    Source: Douglas and Peucker, 1973.
    """
    if len(line) < 12:  # an islet stays one
        return line
    kept = {0, len(line) - 1}
    todo = [(0, len(line) - 1)]
    while todo:
        first, last = todo.pop()
        if last - first < 2:
            continue
        far_2, far = max(
            (_distance_2(line[place], line[first], line[last]), place) for place in range(first + 1, last)
        )
        if far_2 > TOLERANCE**2:
            kept.add(far)
            todo += [(first, far), (far, last)]
    return [line[place] for place in sorted(kept)]


def _distance_2(point: Point, one: Point, other: Point) -> float:
    (x, y), (dx, dy) = (point[0] - one[0], point[1] - one[1]), (other[0] - one[0], other[1] - one[1])
    length_2 = dx * dx + dy * dy
    along = max(0.0, min(1.0, (x * dx + y * dy) / length_2)) if length_2 else 0.0
    return (x - along * dx) ** 2 + (y - along * dy) ** 2


def _points(arc: Iterable[list[int]], transform: dict[str, list[float]]) -> Iterator[Point]:
    """Yield an arc's points on our grid, going on beyond ±180° where it crosses the antimeridian."""
    (across, up), (left, bottom) = transform["scale"], transform["translate"]
    x = y = 0
    before = None
    for dx, dy in arc:
        x, y = x + dx, y + dy
        point = (round((x * across + left) / GRID_DEG) + HALF, round((y * up + bottom) / GRID_DEG))
        if before is not None:
            point = (before + (point[0] - before + HALF) % TURN - HALF, point[1])
            if abs(point[0] - before) == HALF:
                raise ValueError(f"which way round does a line go from {before} to {point}?")
        before = point[0]
        yield point


def _pieces(line: Line) -> list[Line]:
    """Return a line in pieces that are short, have short steps, and don't cross the antimeridian."""
    pieces: list[Line] = []
    piece: Line = [_turned(line[0], line[0][0] // TURN)]
    for one, other in pairwise(line):
        for a, b in _steps(one, other):
            turn = min(a[0], b[0]) // TURN
            begin, end = _turned(a, turn), _turned(b, turn)
            if piece[-1] != begin or len(piece) == PIECE:
                pieces.append(piece)
                piece = [begin]
            piece.append(end)
    pieces.append(piece)
    return [piece for piece in pieces if len(piece) > 1]


def _steps(one: Point, other: Point) -> Iterator[tuple[Point, Point]]:
    """Yield the parts of a step between which it meets the antimeridian, or is too long."""
    low, high = sorted((one, other))
    marks = [x for x in range(low[0] // TURN * TURN, high[0] + 1, TURN) if low[0] < x < high[0]]
    count = max(abs(other[0] - one[0]), abs(other[1] - one[1])) // STEP_MAX
    marks += [low[0] + (high[0] - low[0]) * place // (count + 1) for place in range(1, count + 1)]
    between = [
        (x, low[1] + round((high[1] - low[1]) * (x - low[0]) / (high[0] - low[0]))) for x in sorted(set(marks))
    ]
    points = [low, *between, high]
    if one != low:
        points.reverse()
    yield from pairwise(points)


def _turned(point: Point, turn: int) -> Point:
    return point[0] - turn * TURN, point[1]


def _elsewhere(code: str, point: Point) -> str:
    longitude, latitude = (point[0] % TURN - HALF) * GRID_DEG, point[1] * GRID_DEG
    for whole, part, (west, south, east, north) in ELSEWHERE:
        if code == whole and west <= longitude <= east and south <= latitude <= north:
            return part
    return code


def main() -> None:
    """Read the atlas and write the file."""
    parser = argparse.ArgumentParser(description="Make the outlines of countries.")
    parser.add_argument("--atlas", type=Path, required=True, metavar="TGZ", help="npm's world-atlas-2.0.2.tgz")
    parser.add_argument("--into", type=Path, required=True, metavar="FILE", help="classy/countries.bin")
    args = parser.parse_args()
    with tarfile.open(args.atlas) as archive:
        member = archive.extractfile(MEMBER)
        assert member is not None
        atlas = json.load(member)
    data = outlines(atlas)
    args.into.write_bytes(data)
    print(f"{args.into}: {len(data):,} bytes")


if __name__ == "__main__":
    main()
