"""The page's files as they lie there: nothing inline, nothing from elsewhere, every text in every language."""

from __future__ import annotations

import json
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest
from setuptools import glob

from classy.labels import LANGUAGES
from classy.models import digits
from classy.web.page import STATIC, TYPES

PACKAGE = Path(__file__).parents[1] / "classy"
MODULES = sorted(STATIC.glob("*.js"))
INDEX = (STATIC / "index.html").read_text()
TEXT_FILES = [path for path in sorted(STATIC.rglob("*")) if path.suffix in (".js", ".css", ".html", ".svg")]
LINES_MAX = 250
# What would make markup, code or style of a text.
FORBIDDEN = re.compile(
    r"\.(inner|outer)HTML|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser|srcdoc"
    r"|\beval\(|new Function|setTimeout\(\s*[\"'`]|javascript:|cssText"
)
NAMESPACES = {"http://www.w3.org/2000/svg"}
# Keys that are made while running: problem.STATUS, kind.SOURCE, nav.VIEW and copy.WHAT.
MADE = re.compile(r"^(problem\.\d{3}|kind\.\w+|nav\.(classify|history)|copy\.(curl|json))$")


def texts(language: str) -> dict[str, str]:
    """Return the page's texts in one language."""
    body = (STATIC / "i18n" / f"{language}.js").read_text().partition("export default ")[2]
    found: dict[str, str] = json.loads(body.strip().removesuffix(";").replace(",\n}", "\n}"))
    return found


class Tags(HTMLParser):
    """Collect the tags of a page with their attributes, and the texts of scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.inline: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember a tag."""
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        """Remember what stands inside a script or a style."""
        if self.tags and self.tags[-1][0] in ("script", "style") and data.strip():
            self.inline.append(data)


def index_tags() -> list[tuple[str, dict[str, str]]]:
    """Return index.html's tags."""
    parser = Tags()
    parser.feed(INDEX)
    assert parser.inline == []
    return parser.tags


def test_the_page_has_nothing_inline_and_only_relative_addresses() -> None:
    """A strict CSP has nothing to refuse, and the page works below any path."""
    for tag, attributes in index_tags():
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (tag, attributes)
        for name in ("src", "href", "action"):
            address = attributes.get(name, "")
            assert not re.match(r"[a-z]+:|/", address), (tag, address)
            if address.startswith("static/"):
                assert (STATIC / address.removeprefix("static/")).is_file(), address


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_texts_never_become_markup_and_modules_stay_small(path: Path) -> None:
    """Labels, file names and errors go through textContent: nothing that makes markup or code of a text is there."""
    source = path.read_text()
    assert FORBIDDEN.findall(source) == []
    assert len(source.splitlines()) <= LINES_MAX


@pytest.mark.parametrize("path", TEXT_FILES, ids=lambda path: path.relative_to(STATIC).as_posix())
def test_no_file_names_another_site(path: Path) -> None:
    """No request can leave the origin, for no other one is named."""
    found = set(re.findall(r"https?://[\w.][^\s\"'`)]*", path.read_text()))
    assert found - NAMESPACES == set()
    assert path.suffix != ".css" or not re.search(r"url\(|@import", path.read_text())


def test_every_module_is_used_and_every_import_is_there() -> None:
    """What main.js leads to is what lies there, so nothing is missing at run time and nothing is dead."""
    reached, left = set(), ["main.js"]
    while left:
        name = left.pop()
        if name in reached:
            continue
        reached.add(name)
        folder = (STATIC / name).parent
        for target in re.findall(r'(?:from |import |new URL\()"(\./[\w./-]+)"', (STATIC / name).read_text()):
            path = (folder / target).resolve()
            assert path.is_file(), f"{name} imports {target}"
            left.append(path.relative_to(STATIC.resolve()).as_posix())
    there = {path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*.js") if "vendor" not in path.parts}
    assert there - reached == {"appearance.js"}  # it runs before the first paint, without imports


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_every_text_with_the_same_places(language: str) -> None:
    """A missing text would show up in English, and a missing {place} would hide a number."""
    english, other = texts("en"), texts(language)
    assert list(other) == list(english)
    assert {key: sorted(re.findall(r"\{\w+\}", text)) for key, text in other.items()} == {
        key: sorted(re.findall(r"\{\w+\}", text)) for key, text in english.items()
    }
    assert all(text.strip() for text in other.values())


def test_every_text_that_is_used_exists_and_every_one_that_exists_is_used() -> None:
    """Neither a key on the screen instead of words, nor words that nobody sees."""
    code = "".join(path.read_text() for path in MODULES)
    marks = ("data-t", "data-t-aria-label")
    marked = {attributes[mark] for _, attributes in index_tags() for mark in marks if mark in attributes}
    english = set(texts("en"))
    assert marked - english == set()
    literals = set(re.findall(r'"([a-z0-9-]+(?:\.[a-z0-9-]+)*)"', code))
    called = set(re.findall(r'\bt\("([\w.-]+)"', code))
    assert called - english == set()
    assert {key for key in english - marked - literals if not MADE.match(key)} == set()


def test_index_says_in_english_what_the_texts_say() -> None:
    """The page reads the same before its script has run."""
    shown = dict(re.findall(r'data-t="([\w.-]+)"[^>]*>([^<]*)<', INDEX))
    english = texts("en")
    assert {key: text for key, text in shown.items() if text != english[key]} == {}


def test_a_wheel_holds_all_of_it() -> None:
    """Every file of the page, and the digit model, match the package data's patterns, and have a type."""
    table = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())
    patterns = table["tool"]["setuptools"]["package-data"]["classy"]
    packed = {Path(found) for pattern in patterns for found in glob.glob(str(PACKAGE / pattern), recursive=True)}
    files = {path for path in STATIC.rglob("*") if path.is_file()}
    assert {*files, digits.GRAPH} - packed == set()
    assert {path.suffix for path in files if "vendor" not in path.parts} <= set(TYPES)
