"""A real browser, Debian's Chromium driven by Playwright; and axe-core, out of a package that carries it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from packages import member

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

APT_S = 600
PACKAGES = {"chromium": "chromium", "fonts-noto-cjk": "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc"}
AXE = ("axe-playwright-python==0.1.8", "fdd263c998388f1a8e67cad02677e612d946248bd44d163be5e8650ea31f95f8")
AXE_FILE = "axe_playwright_python/axe.min.js"
SERIOUS = ("serious", "critical")
# A camera that shows a moving pattern; nobody is asked. In a container root has no sandbox, and /dev/shm is small.
ARGUMENTS = [
    *("--use-fake-device-for-media-stream", "--disable-component-update", "--no-first-run"),
    "--disable-dev-shm-usage",
]


class NoBrowser(Exception):
    """There is no Chromium here, and it can't be installed."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """
    Run a browser.

    Raises:
        NoBrowser: see there.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as exc:
        raise NoBrowser("Playwright is not installed; `make test-page` installs it") from exc
    path = _installed()
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*ARGUMENTS, *sandbox])
        try:
            yield browser
        finally:
            browser.close()


def _installed() -> str:
    """Return Chromium's path; install it and a font with Chinese and Japanese letters where that is possible."""
    missing = [package for package, found in PACKAGES.items() if not (shutil.which(found) or os.path.exists(found))]
    if missing:
        if os.geteuid() or shutil.which("apt-get") is None:
            raise NoBrowser(f"not installed, and only root can: apt-get install {' '.join(missing)}")
        print(f"installing {' and '.join(missing)} with apt-get …", flush=True)
        environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *missing]):
            done = subprocess.run(["apt-get", *command], env=environ, capture_output=True, text=True, timeout=APT_S)
            if done.returncode:
                raise NoBrowser(f"apt-get {command[0]} failed: {done.stderr.strip().splitlines()[-1:]}")
    found = shutil.which("chromium")
    assert found is not None
    return found


def violations(page: Page) -> list[str]:
    """Return what axe-core finds serious on the page as it is now, one line for each element."""
    axe = member(*AXE, AXE_FILE, pure=True).decode()
    if not page.evaluate("typeof axe !== 'undefined'"):
        page.evaluate(axe)
    result: dict[str, Any] = page.evaluate(
        "axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] })"
    )
    assert len(result["passes"]) > 10, "axe has looked at nothing"
    return [
        f"{found['impact']} {found['id']}: {node['html'][:160]} {node['failureSummary'][:300]}"
        for found in result["violations"]
        if found["impact"] in SERIOUS
        for node in found["nodes"]
    ]
