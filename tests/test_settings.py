from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from classy.settings import BadSetting, Settings

DOCS = Path(__file__).parent.parent / "docs" / "settings.md"


def test_an_empty_environment_gives_the_defaults() -> None:
    """Nothing has to be set, and an empty value is as good as none."""
    assert Settings.from_env({}) == Settings.from_env({"CLASSY_TOP_K": " "}) == Settings()


READ: list[Any] = [
    ("CLASSY_TOPOLOGY", "hybrid", "topology", "hybrid"),
    ("CLASSY_TOP_K", "3", "top_k", 3),
    ("CLASSY_DOWNLOAD_TIMEOUT", "2.5", "download_timeout_s", 2.5),
    ("CLASSY_BUCKETS", "a b,c", "buckets", frozenset({"a", "b", "c"})),
    ("CLASSY_EXACT_JPEG", "true", "exact_jpeg", True),
    ("AWS_ENDPOINT_URL", "http://127.0.0.1:4566", "s3_endpoint", "http://127.0.0.1:4566"),
]


@pytest.mark.parametrize(("name", "text", "field", "value"), READ)
def test_a_setting_is_read_into_its_type(name: str, text: str, field: str, value: Any) -> None:
    """The stages get numbers, flags and sets, never texts to read once more."""
    assert getattr(Settings.from_env({name: text}), field) == value


BAD: list[Any] = [
    ("CLASSY_TOPOLOGY", "nested", "CLASSY_TOPOLOGY is 'nested'; it takes one of in-process, caller-led"),
    ("CLASSY_TOP_K", "0", "CLASSY_TOP_K is '0'; it takes a number of at least 1"),
    ("CLASSY_TOP_K", "five", "CLASSY_TOP_K is 'five'; it takes a number"),
    ("CLASSY_DOWNLOAD_TIMEOUT", "nan", "it takes a number of at least 0.1"),
    ("CLASSY_DOWNLOAD_TIMEOUT", "inf", "it takes a number of at least 0.1"),
    ("CLASSY_EXACT_JPEG", "maybe", "it takes 0 or 1"),
    (
        "CLASSY_MODEL_STORE",
        "http://x",
        "CLASSY_MODEL_STORE is 'http://x'; it takes an address that starts with s3://",
    ),
    ("CLASSY_RESULTS", "s3://", "it takes an address that starts with s3://"),
    ("AWS_ENDPOINT_URL", "foo", "it takes an address that starts with http://"),
    ("CLASSY_LANGUAGE", "fr", "it takes one of en, ja"),
    ("CLASSY_TOPK", "5", "unknown setting CLASSY_TOPK; docs/settings.md lists all of them"),
]


@pytest.mark.parametrize(("name", "text", "complaint"), BAD)
def test_a_bad_setting_is_named_with_what_it_takes(name: str, text: str, complaint: str) -> None:
    """The complaint is enough to mend it."""
    with pytest.raises(BadSetting) as refused:
        Settings.from_env({name: text})
    assert complaint in str(refused.value)


def test_a_missing_setting_is_named_with_its_meaning() -> None:
    """A function that can't do without says which."""
    with pytest.raises(BadSetting, match="CLASSY_MODEL_STORE is not set; it is: where models are published"):
        Settings().require("model_store")


def test_secrets_are_not_shown() -> None:
    """Neither a repr nor a log of it gives a key away."""
    settings = Settings.from_env({"AWS_SECRET_ACCESS_KEY": "hidden", "AWS_SESSION_TOKEN": "hidden"})
    assert "hidden" not in repr(settings)


def test_the_page_lists_every_setting_as_it_is() -> None:
    """docs/settings.md holds what `classy settings` prints."""
    assert Settings.table() in DOCS.read_text()
