"""Visits: a page of a fresh browser that reports what must not happen: errors, and requests to anybody else."""

from __future__ import annotations

import io
import re
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from looks import FIRST, Look
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PATIENCE_MS = 20_000  # of one step; the first answer of a server loads the model
FAILED_LOAD = re.compile(r"Failed to load resource: the server responded with a status of (\d{3})")


@dataclass(frozen=True)
class Site:
    """A running site, the URL of somebody else's pictures, and its settings for another one like it."""

    url: str
    pictures: str
    settings: dict[str, str]


@dataclass
class Watched:
    """
    What a page did that it must not do.

    Args:
        expected: HTTP statuses that a test provokes; the browser writes them to the console.
    """

    expected: set[int] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)


@dataclass
class Visit:
    """Open pages, and watch them."""

    browser: Browser
    stack: ExitStack
    watched: Watched

    def __call__(self, url: str, look: Look = FIRST, *, permissions: tuple[str, ...] = (), **more: Any) -> Page:
        """Return a page of a browser that has never been there."""
        context = self.browser.new_context(**{**look.context, **more})
        self.stack.callback(context.close)
        context.set_default_timeout(PATIENCE_MS)
        if permissions:
            context.grant_permissions(list(permissions))
        page = context.new_page()
        origin = urlsplit(url)[:2]
        page.on("console", self._logged)
        page.on("pageerror", lambda error: self.watched.complaints.append(f"error: {error}"))
        page.on("request", lambda request: self._requested(request.url, origin))
        page.goto(url)
        page.locator("#models .choice, #models .muted, #models .problem").first.wait_for(state="attached")
        return page

    def _logged(self, message: Any) -> None:
        if message.type not in ("error", "warning"):
            return
        status = FAILED_LOAD.match(message.text)
        if status and int(status[1]) in self.watched.expected:
            return
        if "net::ERR_" in message.text and 0 in self.watched.expected:
            return
        self.watched.complaints.append(f"console {message.type}: {message.text}")

    def _requested(self, url: str, origin: tuple[str, str]) -> None:
        if urlsplit(url)[:2] != origin and not url.startswith(("data:", "blob:")):
            self.watched.complaints.append(f"request to {url}")


def with_place(picture: bytes, latitude_deg: float, longitude_deg: float) -> bytes:
    """Return a picture as JPEG with the place where it was taken."""
    exif = Image.Exif()
    exif.get_ifd(0x8825).update(
        {
            1: "N" if latitude_deg >= 0 else "S",
            2: (abs(latitude_deg), 0, 0),
            3: "E" if longitude_deg >= 0 else "W",
            4: (abs(longitude_deg), 0, 0),
        }
    )
    exif.get_ifd(0x8769).update({0x9003: "2026:05:03 10:11:12", 0x9011: "+09:00"})
    file = io.BytesIO()
    Image.open(io.BytesIO(picture)).convert("RGB").save(file, "JPEG", exif=exif, quality=90)
    return file.getvalue()


def upload(name: str, data: bytes, kind: str = "image/png") -> Any:
    """Return a file as Playwright puts it into an input."""
    return {"name": name, "mimeType": kind, "buffer": data}
