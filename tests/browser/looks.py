"""Who looks at the page: languages, colours and widths, each pair of them in one look at least."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

PHONE, DESKTOP = 390, 1280
LOCALES = {"en": "en-GB", "ja": "ja-JP", "zh": "zh-CN"}


@dataclass(frozen=True)
class Look:
    """One person's language, colours and width in px."""

    language: str
    theme: str
    width: int

    @property
    def context(self) -> dict[str, Any]:
        """Return what Playwright makes a browser context of."""
        phone = {"has_touch": True, "is_mobile": True, "device_scale_factor": 2} if self.width == PHONE else {}
        return {
            "locale": LOCALES[self.language],
            "color_scheme": self.theme,
            "viewport": {"width": self.width, "height": 844 if self.width == PHONE else 900},
            "timezone_id": "Asia/Tokyo",
            **phone,
        }


LOOKS = (
    Look("en", "light", DESKTOP),
    Look("en", "dark", PHONE),
    Look("ja", "dark", DESKTOP),
    Look("ja", "light", PHONE),
    Look("zh", "light", DESKTOP),
    Look("zh", "dark", PHONE),
)
FIRST = LOOKS[0]
every_look = pytest.mark.parametrize(
    "look", LOOKS, ids=lambda look: f"{look.language}-{look.theme}-{'phone' if look.width == PHONE else 'desktop'}"
)
