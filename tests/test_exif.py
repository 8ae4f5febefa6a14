"""Time and place out of pictures' EXIF, beside Pillow's own reading, and out of whatever else is sent."""

from __future__ import annotations

import hashlib
import io
import json
import math
import random
import struct
import time
import tracemalloc
import warnings
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from exif_blocks import (
    ASCII,
    DOUBLE,
    EXIF_IFD,
    FORMATS,
    FRACTION,
    GPS_IFD,
    LONG,
    OFFSET,
    SHORT,
    SRATIONAL,
    TAKEN,
    block,
    byte,
    degrees,
    picture,
    rationals,
    text,
)
from PIL import Image

from classy.exif import About, about, about_line, parse_about
from classy.exif_block import exif_block
from classy.records.values import Place

TOKYO = timezone(timedelta(hours=9))
DAY = datetime(2026, 11, 21, 9, 8, 7)  # noqa: DTZ001 - as a camera writes it
GPS = {1: text("N"), 2: degrees(35, 39, 3089), 3: text("E"), 4: degrees(139, 44, 4356)}
PLACE = Place((35 * 3600 + 39 * 60 + 30.89) / 3600, (139 * 3600 + 44 * 60 + 43.56) / 3600)
TIME = {TAKEN: text("2026:11:21 09:08:07")}


def gps(**tags: Any) -> dict[int, Any]:
    """Return GPS tags with some replaced (t2=…), or left out (None)."""
    changed = {**GPS, **{int(name[1:]): value for name, value in tags.items()}}
    return {tag: value for tag, value in changed.items() if value is not None}


def taken(**tags: Any) -> dict[int, Any]:
    names = {"at": TAKEN, "offset": OFFSET, "fraction": FRACTION}
    changed = {**TIME, **{names[name]: value for name, value in tags.items()}}
    return {tag: value for tag, value in changed.items() if value is not None}


def at(latitude_deg: float = PLACE.latitude_deg, longitude_deg: float = PLACE.longitude_deg, **more: Any) -> Place:
    return Place(latitude_deg, longitude_deg, **more)


# EXIF tags, GPS tags, and what they mean.
PLACES: list[Any] = [
    pytest.param(gps(), PLACE, id="north-east"),
    pytest.param(gps(t1=text("S")), at(-PLACE.latitude_deg), id="south"),
    pytest.param(gps(t3=text("W")), at(longitude_deg=-PLACE.longitude_deg), id="west"),
    pytest.param(gps(t1=text("s"), t3=text("w")), at(-PLACE.latitude_deg, -PLACE.longitude_deg), id="lower case"),
    pytest.param(gps(t5=byte(0), t6=rationals((5825, 100))), at(altitude_m=58.25), id="altitude"),
    pytest.param(gps(t5=byte(1), t6=rationals((5825, 100))), at(altitude_m=-58.25), id="below the sea"),
    pytest.param(gps(t6=rationals((3776, 1))), at(altitude_m=3776.0), id="altitude without its reference"),
    pytest.param(gps(t6=rationals((0, 0))), PLACE, id="altitude 0/0"),
    pytest.param(gps(t5=byte(9), t6=rationals((1, 1))), PLACE, id="altitude of an unknown reference"),
    pytest.param(gps(t6=rationals((4_000_000_000, 1))), PLACE, id="altitude in space"),
    pytest.param(gps(t2=rationals((356_585_805, 10_000_000), (0, 1), (0, 1))), at(35.6585805), id="decimal degrees"),
    pytest.param(gps(t2=rationals((0, 1), (0, 1), (0, 1))), at(0.0), id="on the equator"),
    pytest.param(gps(t2=degrees(90, 0, 0), t4=degrees(180, 0, 0)), at(90.0, 180.0), id="at the pole"),
    pytest.param(gps(t2=degrees(0, 0, 0), t4=degrees(0, 0, 0)), None, id="0°, 0°"),
    pytest.param(gps(t2=rationals((0, 0), (0, 0), (0, 0))), None, id="0/0"),
    pytest.param(gps(t4=rationals((139, 1), (44, 1), (0, 0))), None, id="seconds 0/0"),
    pytest.param(gps(t2=degrees(91, 0, 0)), None, id="north of the pole"),
    pytest.param(gps(t4=degrees(180, 0, 1)), None, id="east of 180°"),
    pytest.param(gps(t2=degrees(35, 61, 0)), None, id="61 minutes"),
    pytest.param(gps(t1=None), None, id="no reference of the latitude"),
    pytest.param(gps(t3=None), None, id="no reference of the longitude"),
    pytest.param(gps(t3=text("N")), None, id="a reference of the other axis"),
    pytest.param(gps(t1=text("")), None, id="an empty reference"),
    pytest.param(gps(t1=text("NS")), None, id="both references"),
    pytest.param(gps(t4=None), None, id="no longitude"),
    pytest.param(gps(t2=rationals((35, 1), (39, 1))), None, id="two numbers"),
    pytest.param(gps(t2=rationals(*[(35, 1)] * 9)), None, id="nine numbers"),
    pytest.param(gps(t2=text("35.6585 N")), None, id="a text for a latitude"),
    pytest.param(gps(t2=(SRATIONAL, 3, struct.pack("<6l", -35, 1, 0, 1, 0, 1))), None, id="signed"),
    pytest.param({}, None, id="an empty directory"),
]
TIMES: list[Any] = [
    pytest.param(taken(), DAY, id="naive"),
    pytest.param(taken(offset=text("+09:00")), DAY.replace(tzinfo=TOKYO), id="aware"),
    pytest.param(
        taken(offset=text("-03:30")), DAY.replace(tzinfo=timezone(-timedelta(hours=3, minutes=30))), id="west of UTC"
    ),
    pytest.param(taken(offset=text("+00:00")), DAY.replace(tzinfo=UTC), id="UTC"),
    pytest.param(taken(fraction=text("123456")), DAY.replace(microsecond=123456), id="microseconds"),
    pytest.param(taken(fraction=text("5")), DAY.replace(microsecond=500_000), id="tenths"),
    pytest.param(taken(fraction=text("1234567890")), DAY.replace(microsecond=123456), id="nanoseconds"),
    pytest.param(taken(fraction=text("-1")), DAY, id="a fraction that is none"),
    pytest.param(taken(fraction=text("²")), DAY, id="a digit that is none"),
    pytest.param(taken(offset=text("   :  ")), DAY, id="blank offset"),
    pytest.param(taken(offset=text("+25:00")), DAY, id="an offset of more than a day"),
    pytest.param(taken(offset=text("+09:75")), DAY, id="75 minutes"),
    pytest.param(taken(offset=text("JST")), DAY, id="a zone's name"),
    pytest.param(taken(at=text("0000:00:00 00:00:00")), None, id="all zeros"),
    pytest.param(taken(at=text("    :  :     :  :  ")), None, id="all blank"),
    pytest.param(taken(at=text("2026:02:30 09:08:07")), None, id="30 February"),
    pytest.param(taken(at=text("2026:11:21 24:00:00")), None, id="hour 24"),
    pytest.param(taken(at=text("1601:01:01 00:00:00")), None, id="before photography"),
    pytest.param(taken(at=text("9999:12:31 23:59:59")), None, id="the last second"),
    pytest.param(taken(at=text("2026-11-21T09:08:07")), None, id="ISO 8601"),
    pytest.param(taken(at=text("٢٠٢٦:11:21 09:08:07")), None, id="Arabic digits"),
    pytest.param(taken(at=(LONG, 1, struct.pack("<L", 7))), None, id="a number"),
    pytest.param(taken(at=(ASCII, 5000, b"2" * 5000)), None, id="a long text"),
    pytest.param(taken(at=None, offset=text("+09:00")), None, id="an offset alone"),
    pytest.param({}, None, id="an empty directory"),
]


@pytest.mark.parametrize(("tags", "place"), PLACES)
def test_a_place_is_right_or_absent(tags: dict[int, Any], place: Place | None) -> None:
    """Hemispheres count, and nonsense is no place."""
    found = about(picture("JPEG", block(TIME, tags)))
    assert (found.place, found.taken_at) == (place, DAY)


@pytest.mark.parametrize(("tags", "taken_at"), TIMES)
def test_a_time_is_right_or_absent(tags: dict[int, Any], taken_at: datetime | None) -> None:
    """It is naive unless the camera wrote how far its clock was from UTC."""
    found = about(picture("PNG", block(tags, GPS)))
    assert (found.taken_at, found.taken_at and found.taken_at.tzinfo) == (taken_at, taken_at and taken_at.tzinfo)
    assert found.place == PLACE


@pytest.mark.parametrize("order", ["<", ">"], ids=["little-endian", "big-endian"])
@pytest.mark.parametrize("format_name", FORMATS)
def test_every_format_tells_what_pillow_reads_in_it(format_name: str, order: str) -> None:
    """In both byte orders, and Pillow's own reader agrees."""
    place = {
        1: text("S"), 2: degrees(33, 51, 2451, order), 3: text("E"), 4: degrees(151, 12, 4050, order),
        5: byte(0), 6: rationals((5825, 100), order=order),
    }  # fmt: skip
    data = picture(format_name, block(taken(offset=text("+11:00"), fraction=text("25")), place, order=order))
    with Image.open(io.BytesIO(data)) as opened:
        exif = opened.getexif()
        witness, theirs = exif.get_ifd(GPS_IFD), exif.get_ifd(EXIF_IFD)
    found = about(data)
    assert found.place is not None
    assert found.taken_at is not None
    assert found.sha256 == hashlib.sha256(data).hexdigest()
    for tag, value in ((2, -found.place.latitude_deg), (4, found.place.longitude_deg)):
        parts = [float(part) for part in witness[tag]]
        assert value == pytest.approx(parts[0] + parts[1] / 60 + parts[2] / 3600, abs=1e-12)
    assert found.place.altitude_m == float(witness[6]) == 58.25
    assert found.taken_at.isoformat() == "2026-11-21T09:08:07.250000+11:00"
    assert (theirs[TAKEN], theirs[OFFSET]) == ("2026:11:21 09:08:07", "+11:00")


HALF_PAST = timezone(timedelta(hours=5, minutes=30))
NEWFOUNDLAND = timezone(-timedelta(hours=3, minutes=30))
NAN = (DOUBLE, 3, struct.pack("<3d", math.nan, math.nan, math.nan))
# What every format must tell alike: EXIF tags, GPS tags, when and where.
VARIANTS: list[Any] = [
    pytest.param(TIME, gps(), DAY, PLACE, id="north-east"),
    pytest.param(TIME, gps(t1=text("S")), DAY, at(-PLACE.latitude_deg), id="south-east"),
    pytest.param(TIME, gps(t3=text("W")), DAY, at(longitude_deg=-PLACE.longitude_deg), id="north-west"),
    pytest.param(
        TIME, gps(t1=text("S"), t3=text("W")), DAY, at(-PLACE.latitude_deg, -PLACE.longitude_deg), id="south-west"
    ),
    pytest.param(TIME, gps(t4=degrees(180, 0, 0)), DAY, at(longitude_deg=180.0), id="on the antimeridian"),
    pytest.param(TIME, gps(t5=byte(1), t6=rationals((86, 10))), DAY, at(altitude_m=-8.6), id="below the sea"),
    pytest.param(TIME, gps(t2=degrees(0, 0, 0), t4=degrees(0, 0, 0)), DAY, None, id="0°, 0°"),
    pytest.param(TIME, gps(t2=rationals((0, 0), (0, 0), (0, 0))), DAY, None, id="latitude 0/0"),
    pytest.param(TIME, gps(t4=rationals((139, 1), (0, 0), (0, 1))), DAY, None, id="minutes 0/0"),
    pytest.param(TIME, gps(t6=rationals((0, 0))), DAY, PLACE, id="altitude 0/0"),
    pytest.param(TIME, gps(t2=degrees(91, 0, 0)), DAY, None, id="beyond the pole"),
    pytest.param(TIME, gps(t1=None), DAY, None, id="no reference of the latitude"),
    pytest.param(TIME, gps(t3=None), DAY, None, id="no reference of the longitude"),
    pytest.param(TIME, gps(t2=None), DAY, None, id="no latitude"),
    pytest.param(TIME, None, DAY, None, id="no GPS"),
    pytest.param(None, gps(), None, PLACE, id="no time"),
    pytest.param(taken(offset=text("+05:30")), gps(), DAY.replace(tzinfo=HALF_PAST), PLACE, id="offset east"),
    pytest.param(taken(offset=text("-03:30")), gps(), DAY.replace(tzinfo=NEWFOUNDLAND), PLACE, id="offset west"),
    pytest.param(taken(offset=text("Z")), gps(), DAY, PLACE, id="an offset that is none"),
    pytest.param(taken(fraction=text("25")), gps(), DAY.replace(microsecond=250_000), PLACE, id="a fraction"),
    pytest.param(taken(at=text("0000:00:00 00:00:00")), gps(), None, PLACE, id="a clock that was never set"),
    pytest.param(taken(at=text("2026:02:30 09:08:07")), gps(), None, PLACE, id="30 February"),
]  # fmt: skip


@pytest.mark.parametrize("orientation", [None, 6], ids=["upright", "rotated"])
@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize(("exif", "place_tags", "taken_at", "place"), VARIANTS)
def test_every_format_tells_the_same(
    format_name: str,
    orientation: int | None,
    exif: dict[int, Any] | None,
    place_tags: dict[int, Any] | None,
    taken_at: datetime | None,
    place: Place | None,
) -> None:
    """The right time and place, or none, wherever the file has its EXIF and however the camera was held."""
    found = about(picture(format_name, block(exif, place_tags, orientation=orientation)))
    assert (found.taken_at, found.taken_at and found.taken_at.tzinfo) == (taken_at, taken_at and taken_at.tzinfo)
    assert found.place == place


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize(
    ("tags", "place"),
    [
        pytest.param(gps(t2=NAN), None, id="latitude"),
        pytest.param(gps(t6=(DOUBLE, 1, NAN[2][:8])), PLACE, id="altitude"),
    ],
)
def test_not_a_number_is_no_place(format_name: str, tags: dict[int, Any], place: Place | None) -> None:
    """Where a file has real floating-point numbers, and NaN among them."""
    exif = block(TIME, tags)
    data = exif if format_name == "TIFF" else picture(format_name, exif)  # Pillow itself fails at such a TIFF
    assert (about(data).taken_at, about(data).place) == (DAY, place)


def test_a_rotated_picture_was_taken_when_and_where_it_says() -> None:
    """Other tags of IFD0, before and between, change nothing."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "Maker with a long name"
    exif[EXIF_IFD] = {TAKEN: "2026:11:21 09:08:07", 0x829A: 0.004, 0x927C: b"maker's note" * 300}
    exif[GPS_IFD] = {1: "N", 2: (35.0, 39.0, 30.89), 3: "E", 4: (139.0, 44.0, 43.56), 29: "2026:11:21"}
    found = about(picture("JPEG", exif.tobytes()))
    assert found.taken_at == DAY
    assert found.place is not None
    assert (found.place.latitude_deg, found.place.longitude_deg) == pytest.approx(
        (PLACE.latitude_deg, PLACE.longitude_deg), abs=1e-9
    )


def test_exif_after_the_pixels_is_found() -> None:
    """A PNG may have it at its end."""
    plain, exif = picture("PNG"), block(TIME, GPS)
    chunk = struct.pack(">L", len(exif)) + b"eXIf" + exif + b"\0\0\0\0"
    assert about(plain[:-12] + chunk + plain[-12:]) == About(
        hashlib.sha256(plain[:-12] + chunk + plain[-12:]).hexdigest(), DAY, PLACE
    )


def test_exif_behind_another_segment_and_fill_bytes_is_found() -> None:
    """A JPEG may have XMP, a profile or fill bytes before it."""
    data = picture("JPEG", block(TIME, GPS))
    assert data[2:4] == b"\xff\xe0"  # JFIF
    segment = b"\xff\xe1" + struct.pack(">H", 31) + b"http://ns.adobe.com/xap/1.0/\0"
    assert about(data[:2] + segment + b"\xff\xff\xff" + data[2:]).place == PLACE


@pytest.mark.parametrize("format_name", [*FORMATS, "GIF", "BMP"])
def test_a_picture_without_exif_has_its_hash_alone(format_name: str) -> None:
    """And one line of JSON says so."""
    data = picture(format_name)
    assert about(data) == About(hashlib.sha256(data).hexdigest())
    assert json.loads(about_line(data)) == {"sha256": hashlib.sha256(data).hexdigest()}


LINES: list[Any] = [
    ("", About()),
    ("no JSON\n[]\n7", About()),
    ('{"sha256": "zz"}', About()),
    ('{"sha256": 7, "taken_at": 7, "latitude_deg": "1", "longitude_deg": []}', About()),
    ('{"taken_at": "yesterday"}\n{"latitude_deg": 91, "longitude_deg": 0}', About()),
    ('{"taken_at": "0001-01-01T00:00:00+14:00"}', About()),
    ('{"latitude_deg": NaN, "longitude_deg": 1}', About()),
    ('{"latitude_deg": 1, "longitude_deg": 2, "altitude_m": Infinity}', About()),
    ('{"latitude_deg": 1, "longitude_deg": 2}\n{"altitude_m": 3.5}', About(place=Place(1, 2, 3.5))),
    ("[" * 100_000, About()),
]


@pytest.mark.parametrize(("lines", "told"), LINES, ids=[repr(row[0])[:40] for row in LINES])
def test_what_another_stage_says_is_checked(lines: str, told: About) -> None:
    """A stage may be somebody else's, and rubbish is left out."""
    assert parse_about(lines) == told


@pytest.mark.parametrize("told", [about(picture("JPEG", block(taken(offset=text("-09:30")), gps())))])
def test_what_is_told_arrives(told: About) -> None:
    """The line of JSON holds all of it, exactly."""
    assert parse_about(about_line(picture("JPEG", block(taken(offset=text("-09:30")), gps())))) == told


def _loops() -> bytes:
    """Return a block whose directories point to each other and to themselves."""
    head = b"II*\0" + struct.pack("<L", 8)
    entries = [struct.pack("<HHLL", tag, LONG, 1, 8) for tag in (EXIF_IFD, GPS_IFD)]
    return head + struct.pack("<H", len(entries)) + b"".join(entries)


def _avif(*, extents: int, items: int) -> bytes:
    """Return boxes that promise many items of many pieces, none of which takes a byte."""

    def box(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">L4s", 8 + len(body), kind) + body

    infe = box(b"infe", b"\2\0\0\0" + struct.pack(">HH4s", 60_000, 0, b"Exif") + b"\0")
    iinf = box(b"iinf", b"\0\0\0\0" + struct.pack(">H", 1) + infe)
    iloc = box(b"iloc", b"\0\0\0\0\0\0" + struct.pack(">H", items) + struct.pack(">HHH", 1, 0, extents) * items)
    return box(b"ftyp", b"avif\0\0\0\0avif") + box(b"meta", b"\0\0\0\0" + iinf + iloc)


HOSTILE: list[Any] = [
    pytest.param(b"", id="nothing"),
    pytest.param(b"\xff\xd8" + b"\xff" * 20_000_000, id="20 MB of fill bytes"),
    pytest.param(b"\xff\xd8" + b"\xff\xe2\0\2" * 5_000_000, id="5,000,000 empty segments"),
    pytest.param(b"\x89PNG\r\n\x1a\n" + (b"\0\0\0\0eXIf" + b"\0" * 4) * 1_600_000, id="1,600,000 empty chunks"),
    pytest.param(b"RIFF\0\0\0\0WEBP" + b"JUNK\0\0\0\0" * 2_500_000, id="2,500,000 empty RIFF chunks"),
    pytest.param(b"\0\0\0\x0cftypavif" + b"\0\0\0\x08free" * 2_500_000, id="2,500,000 empty boxes"),
    pytest.param(_avif(extents=65_535, items=65_535), id="65,535 items of 65,535 pieces"),
    pytest.param(_avif(extents=64, items=65_535), id="65,535 items of 64 pieces"),
    pytest.param(
        b"II*\0\x08\0\0\0\xff\xff" + struct.pack("<HHLL", 1, SHORT, 0xFFFF, 8) * 65_535 + bytes(10_000_000),
        id="a TIFF of 65,535 tags",
    ),
    pytest.param(b"II*\0\xff\xff\xff\xff", id="a directory beyond the end"),
    pytest.param(_loops(), id="directories in a circle"),
    pytest.param(b"\xff\xd8\xff\xe1\xff\xffExif\0\0" + _loops(), id="a segment longer than the file"),
]


@pytest.mark.parametrize("data", HOSTILE)
def test_a_hostile_file_costs_little_and_tells_nothing(data: bytes) -> None:
    """Bounded steps and no copies: within 0.3 s and 4 MB, the hash apart."""
    started_s = time.process_time()
    found = exif_block(data)
    spent_s = time.process_time() - started_s
    tracemalloc.start()
    try:
        exif_block(data)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (about(data).taken_at, about(data).place) == (None, None)
    assert len(found) <= len(data)
    assert spent_s < 0.3
    assert peak_bytes < 4_000_000


@pytest.mark.parametrize("format_name", FORMATS)
def test_no_damage_makes_it_raise(format_name: str) -> None:
    """Cut anywhere, or with any bytes changed, a file tells the truth, something else, or nothing."""
    data = picture(format_name, block(taken(offset=text("+09:00")), gps(t6=rationals((1, 3)))))
    for cut in range(0, len(data), 3):
        about_line(data[:cut])
    dice = random.Random(format_name)
    for _ in range(1_500):
        changed = bytearray(data)
        for _ in range(dice.randint(1, 6)):
            changed[dice.randrange(min(len(data), 700))] = dice.choice(
                (0, 1, 2, 0x7F, 0x80, 0xFF, dice.randrange(256))
            )
        told = about(bytes(changed))
        assert parse_about(about_line(bytes(changed))) == told


def test_pillow_warns_of_nothing_in_our_samples() -> None:
    """The blocks that the tests write are good ones."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for order in "<>":
            with Image.open(io.BytesIO(picture("JPEG", block(TIME, {1: text("N")}, order=order)))) as opened:
                assert opened.getexif().get_ifd(EXIF_IFD)[TAKEN] == "2026:11:21 09:08:07"
