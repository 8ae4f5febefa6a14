"""One browser and one site for all tests of the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from chromium import NoBrowser, chromium
from photos import photo
from site_under_test import files_served, publish_models, served
from visits import Site, Visit, Watched

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Run Chromium."""
    with ExitStack() as stack:
        try:
            running = stack.enter_context(chromium())
        except NoBrowser as exc:
            pytest.skip(f"no page is checked: {exc}")
        yield running


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve some pictures as another site."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "dog <b>bold<b>.png").write_bytes(photo("coffee.png"))
    (folder / "coffee.png").write_bytes(photo("coffee.png"))
    with files_served(folder) as url:
        yield url


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, pictures: str) -> Iterator[Site]:
    """Run a site with every model; its history grows with the tests."""
    folder = tmp_path_factory.mktemp("site")
    settings = {
        "CLASSY_MODEL_STORE": (folder / "models").as_uri(),
        "CLASSY_DOWNLOAD_ALLOW": urlsplit(pictures).netloc,
    }
    publish_models(settings["CLASSY_MODEL_STORE"], folder / "made")
    with served(folder / "state", settings) as url:
        yield Site(url, pictures, settings)


@pytest.fixture
def another(site: Site, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Return a function that runs a site of its own: with an empty history, and with other settings."""
    with ExitStack() as stack:

        def run(prefix: str = "", **settings: str) -> str:
            given = {**site.settings, **settings}
            return stack.enter_context(served(tmp_path / "state", given, prefix=prefix))

        yield run


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Return what opens pages; fails the test if one of them complained or asked another origin for anything."""
    with ExitStack() as stack:
        opened = Visit(browser, stack, Watched())
        yield opened
        assert opened.watched.complaints == []
