"""Where points lie: in countries of all shapes, at sea, where borders are disputed; and what countries are called."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from classy import countries
from classy.countries import country_at, country_codes, country_name, disputed_area
from tools import country_outlines

# Latitude, longitude, and the country.
POINTS: dict[str, tuple[float, float, str]] = {
    "Tokyo": (35.6812, 139.7671, "JP"),
    "São Paulo": (-23.55, -46.63, "BR"),
    "a city state, Singapore": (1.29, 103.85, "SG"),
    "its neighbour, Johor Bahru": (1.49, 103.74, "MY"),
    "a country within another, Lesotho": (-29.6, 28.2, "LS"),
    "the country around it": (-29.1, 26.2, "ZA"),
    "San Marino": (43.94, 12.45, "SM"),
    "the Vatican": (41.9022, 12.4533, "VA"),
    "the city around it": (41.9, 12.49, "IT"),
    "Monaco": (43.735, 7.42, "MC"),
    "Liechtenstein": (47.14, 9.52, "LI"),
    "Gibraltar": (36.13, -5.35, "GI"),
    "an exclave, Kaliningrad": (54.71, 20.5, "RU"),
    "an exclave, Nakhchivan": (39.2, 45.4, "AZ"),
    "an exclave, Cabinda": (-5.55, 12.2, "AO"),
    "west of the antimeridian, Suva": (-18.14, 178.44, "FJ"),
    "just west of it, Taveuni": (-16.9, 179.98, "FJ"),
    "just east of it, Taveuni": (-16.88, -179.95, "FJ"),
    "west of it, Anadyr": (64.73, 177.5, "RU"),
    "east of it, Provideniya": (64.42, -173.2, "RU"),
    "east of it, Uelen": (66.16, -169.8, "RU"),
    "on it, Wrangel Island": (71.2, 180.0, "RU"),
    "on it, from the other side": (71.2, -180.0, "RU"),
    "across it, Attu": (52.9, 172.9, "US"),
    "Big Diomede": (65.78, -169.06, "RU"),
    "Little Diomede": (65.75, -168.94, "US"),
    "the south pole": (-90.0, 0.0, "AQ"),
    "the south pole, seen from the antimeridian": (-90.0, 180.0, "AQ"),
    "McMurdo": (-77.85, 166.67, "AQ"),
    "the north pole": (90.0, 0.0, ""),
    "the north pole, seen from the antimeridian": (90.0, -180.0, ""),
    "the Atlantic": (30.0, -40.0, ""),
    "0°, 0°": (0.0, 0.0, ""),
    "the Pacific, on the antimeridian": (0.0, 180.0, ""),
    "the Caspian Sea": (41.0, 50.8, ""),
    "an island, Reykjavík": (64.15, -21.94, "IS"),
    "an island, Rishiri": (45.18, 141.24, "JP"),
    "an atoll, Malé": (4.175, 73.51, "MV"),
    "an atoll, Funafuti": (-8.52, 179.2, "TV"),
    "an atoll, Kiritimati": (1.87, -157.4, "KI"),
    "Nauru": (-0.53, 166.93, "NR"),
    "Easter Island": (-27.15, -109.43, "CL"),
    "the Chatham Islands": (-43.95, -176.55, "NZ"),
    "a harbour, Tokyo's Odaiba": (35.63, 139.775, "JP"),
    "a fjord, Tromsø": (69.65, 18.96, "NO"),
    "10 km off Hawaii": (21.16, -157.87, ""),
    "a code of its own, Greenland": (64.18, -51.72, "GL"),
    "a code of its own, Puerto Rico": (18.4, -66.1, "PR"),
    "a code of its own, French Guiana": (4.92, -52.31, "GF"),
    "a code of its own, Réunion": (-20.88, 55.45, "RE"),
    "a code of its own, Guadeloupe": (16.24, -61.53, "GP"),
    "a code of its own, Martinique": (14.61, -61.07, "MQ"),
    "a code of its own, Mayotte": (-12.78, 45.23, "YT"),
    "a code of its own, Svalbard": (78.22, 15.64, "SJ"),
    "a code of its own, Jan Mayen": (71.0, -8.4, "SJ"),
    "a code of its own, Bonaire": (12.15, -68.27, "BQ"),
    "a code of its own, Christmas Island": (-10.45, 105.65, "CX"),
    "a code of its own, the Cocos Islands": (-12.19, 96.83, "CC"),
    "a code of its own, Hong Kong": (22.32, 114.17, "HK"),
    "beyond its border, Shenzhen": (22.55, 114.06, "CN"),
    "a code of its own, Macao": (22.19, 113.55, "MO"),
    "a code of its own, Taiwan": (25.03, 121.56, "TW"),
    "a code of its own, Gaza": (31.5, 34.46, "PS"),
    "a code of its own, Ramallah": (31.9, 35.2, "PS"),
    "a code of its own, the Falklands": (-51.69, -57.86, "FK"),
    "Western Sahara, in the west of the berm": (27.15, -13.2, "EH"),
    "Western Sahara, in the east of it": (26.35, -9.6, "EH"),
    "beyond its border, Tarfaya": (27.94, -12.92, "MA"),
    "leased, Baikonur": (45.62, 63.31, "KZ"),
    "leased, Guantánamo Bay": (19.9, -75.13, "CU"),
    "no code, Kosovo": (42.66, 21.16, ""),
    "no code, near Kosovo's border": (42.9, 21.2, ""),
    "no code, Somaliland": (9.56, 44.06, ""),
    "no code, northern Nicosia": (35.2, 33.36, ""),
    "the south of the same island, Limassol": (34.7, 33.03, "CY"),
}
# Latitude, longitude, and what the area is called in English.
CLAIMED: dict[str, tuple[float, float, str]] = {
    "Simferopol": (44.95, 34.1, "Crimea"),
    "Kerch": (45.35, 36.47, "Crimea"),
    "Srinagar": (34.08, 74.8, "Kashmir"),
    "Leh": (34.15, 77.58, "Kashmir"),
    "Gilgit": (35.92, 74.31, "Kashmir"),
    "Muzaffarabad": (34.36, 73.47, "Kashmir"),
    "Aksai Chin": (35.2, 79.3, "Kashmir"),
    "Siachen": (35.4, 77.1, "Kashmir"),
    "Katzrin": (32.99, 35.69, "Golan Heights"),
    "Quneitra": (33.12, 35.82, "Golan Heights"),
    "Abyei": (9.6, 28.43, "Abyei"),
    "Hala’ib": (22.22, 36.64, "Hala’ib Triangle"),
    "Shalateen": (23.13, 35.58, "Hala’ib Triangle"),
    "Kibish": (5.2, 35.75, "Ilemi Triangle"),
    "Yuzhno-Kurilsk": (44.03, 145.86, "Southern Kuril Islands / Northern Territories"),
    "Itanagar": (27.08, 93.6, "Arunachal Pradesh / Zangnan"),
    "Tawang": (27.58, 91.86, "Arunachal Pradesh / Zangnan"),
}
# Cities beside those areas, which nobody else claims.
BESIDE: dict[str, tuple[float, float, str]] = {
    "Kherson": (46.64, 32.6, "UA"),
    "Henichesk": (46.17, 34.8, "UA"),
    "Taman": (45.21, 36.72, "RU"),
    "Islamabad": (33.69, 73.05, "PK"),
    "Sialkot": (32.49, 74.53, "PK"),
    "Chitral": (35.85, 71.79, "PK"),
    "Amritsar": (31.63, 74.87, "IN"),
    "Pathankot": (32.27, 75.65, "IN"),
    "Manali": (32.24, 77.19, "IN"),
    "Tiberias": (32.79, 35.53, "IL"),
    "Daraa": (32.62, 36.1, "SY"),
    "Abu Simbel": (22.35, 31.62, "EG"),
    "Lodwar": (3.12, 35.6, "KE"),
    "Nemuro": (43.33, 145.58, "JP"),
    "Rausu": (44.02, 145.19, "JP"),
    "Dibrugarh": (27.47, 94.91, "IN"),
    "Tezpur": (26.65, 92.79, "IN"),
    "Lhasa": (29.65, 91.1, "CN"),
}


def cases(table: dict[str, tuple[float, float, str]]) -> Any:
    return [pytest.param(*row, id=name) for name, row in table.items()]


@pytest.mark.parametrize(("latitude_deg", "longitude_deg", "code"), cases(POINTS))
def test_a_point_is_in_its_country(latitude_deg: float, longitude_deg: float, code: str) -> None:
    """Enclaves, holes, islets, both poles and both sides of the antimeridian; at sea there is none."""
    assert country_at(latitude_deg, longitude_deg) == code
    assert disputed_area(latitude_deg, longitude_deg) == ""


@pytest.mark.parametrize(("latitude_deg", "longitude_deg", "name"), cases(CLAIMED))
def test_what_two_states_claim_has_a_name_and_no_country(
    latitude_deg: float, longitude_deg: float, name: str
) -> None:
    """Whoever holds it; the name is there in every language."""
    assert country_at(latitude_deg, longitude_deg) == ""
    assert disputed_area(latitude_deg, longitude_deg) == name
    names = {disputed_area(latitude_deg, longitude_deg, language) for language in ("en", "ja", "zh")}
    assert len(names) == 3
    assert "" not in names


@pytest.mark.parametrize(("latitude_deg", "longitude_deg", "code"), cases(BESIDE))
def test_what_lies_beside_it_has_its_own(latitude_deg: float, longitude_deg: float, code: str) -> None:
    """The coarse outlines of disputed areas swallow no city that nobody disputes."""
    assert country_at(latitude_deg, longitude_deg) == code


def test_any_point_is_in_one_country_or_none() -> None:
    """Of 3,000 at random, three in ten are on land, as on the Earth, and no look-up raises."""
    dice = random.Random(5)
    found = []
    for _ in range(3_000):
        # Evenly over the sphere.
        latitude_deg = math.degrees(math.asin(dice.uniform(-1, 1)))
        found.append(country_at(latitude_deg, dice.uniform(-180, 180)))
    assert set(found) - {""} <= set(country_codes())
    assert 0.27 < sum(map(bool, found)) / len(found) < 0.33


def test_the_antimeridian_is_one_line() -> None:
    """-180° and 180° are the same places, all the way from pole to pole."""
    for tenth in range(-900, 901):
        assert country_at(tenth / 10, 180.0) == country_at(tenth / 10, -180.0)


NAMES: list[Any] = [
    ("JP", "Japan", "日本", "日本"),
    ("TW", "Taiwan", "台湾", "台湾"),
    ("PS", "Palestine", "パレスチナ", "巴勒斯坦"),
    ("HK", "Hong Kong", "香港", "香港"),
    ("EH", "Western Sahara", "西サハラ", "西撒哈拉"),
    ("CI", "Côte d’Ivoire", "コートジボワール", "科特迪瓦"),
    ("", "", "", ""),
    ("XK", "XK", "XK", "XK"),
]


@pytest.mark.parametrize(("code", "en", "ja", "zh"), NAMES)
def test_a_country_has_a_name_in_each_language(code: str, en: str, ja: str, zh: str) -> None:
    """And what is no country is called what it was given as."""
    assert (country_name(code), country_name(code, "ja"), country_name(code, "zh")) == (en, ja, zh)


def test_every_country_on_the_map_has_names() -> None:
    """In three languages, of which Japanese and Chinese are written in their own scripts."""
    mapped = {code for code, _, _ in countries._outlines()._countries} - {""}
    assert mapped == set(country_codes())
    for code in country_codes():
        assert not country_name(code, "ja").isascii()
        assert not country_name(code, "zh").isascii()


def atlas(*countries: tuple[str, list[list[int]]], arcs: list[list[tuple[float, float]]]) -> dict[str, Any]:
    """Return a TopoJSON atlas in hundredths of a degree: countries by their number and the arcs of their rings."""
    relative = []
    for arc in arcs:
        points = [(0, 0), *((round(x * 100) + 18_000, round(y * 100) + 9_000) for x, y in arc)]
        relative.append([[x1 - x0, y1 - y0] for (x0, y0), (x1, y1) in pairwise(points)])
    return {
        "transform": {"scale": [0.01, 0.01], "translate": [-180, -90]},
        "arcs": relative,
        "objects": {
            "countries": {
                "geometries": [
                    {"type": "Polygon", "id": number, "properties": {"name": number}, "arcs": rings}
                    for number, rings in countries
                ]
            }
        },
    }


def square(west: float, south: float, east: float, north: float) -> list[tuple[float, float]]:
    return [(west, south), (east, south), (east, north), (west, north), (west, south)]


MADE: list[Any] = [
    pytest.param(0.0, 179.0, "JP", id="west of the antimeridian"),
    pytest.param(0.0, -179.0, "JP", id="east of it"),
    pytest.param(7.0, 180.0, "JP", id="on it"),
    pytest.param(3.0, 180.0, "FJ", id="in the hole"),
    pytest.param(3.0, -178.5, "FJ", id="in the hole, east"),
    pytest.param(0.0, 169.0, "", id="outside, west"),
    pytest.param(0.0, -169.0, "", id="outside, east"),
    pytest.param(0.0, 169.97, "JP", id="near the coast"),
    pytest.param(-60.0, 12.0, "AQ", id="around the pole"),
    pytest.param(-90.0, -77.0, "AQ", id="at the pole"),
    pytest.param(-49.0, 12.0, "", id="north of it"),
]


@pytest.mark.parametrize(("latitude_deg", "longitude_deg", "code"), MADE)
def test_outlines_are_made_of_any_atlas(latitude_deg: float, longitude_deg: float, code: str) -> None:
    """One that lies across the antimeridian, one in its hole, and one around the pole without an edge there."""
    hole = square(178, 2, -178, 4)
    belt = [(float(x), -50.0) for x in (-180, -90, 0, 90, 180)]
    data = country_outlines.outlines(
        atlas(("392", [[0], [1]]), ("242", [[1]]), ("010", [[2]]), arcs=[square(170, -8, -170, 8), hole, belt])
    )
    assert countries._Outlines(data).country(latitude_deg, longitude_deg) == code


def test_the_data_are_read_at_the_first_question_only() -> None:
    """Whoever keeps no places pays nothing: the module opens no file."""
    code = (
        "import sys\n"
        "opened = []\n"
        "sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == 'open' else None)\n"
        "import classy.countries as countries\n"
        "before = [name for name in opened if 'countries.' in name and not name.endswith(('.py', '.pyc'))]\n"
        "countries.country_at(0, 0)\n"
        "print(before, any(name.endswith('countries.bin') for name in opened))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "[] True\n"


def test_the_data_are_small() -> None:
    """Every function's package that keeps records holds them."""
    folder = Path(countries.__file__).parent
    assert (folder / "countries.bin").stat().st_size < 600_000
    assert (folder / "countries.tsv").stat().st_size < 20_000
