"""
Settings: every name, unit, default and complaint in one place.

Only `functions/*/func.py` and the command lines hand `os.environ` in; nothing else reads the environment.
`classy settings` prints the table that docs/settings.md holds, and a test holds the two together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import field, fields
from typing import Any, Literal, get_args

from classy.labels import LANGUAGES
from graphpipe_fn.values import dataclass

Topology = Literal["in-process", "caller-led", "server-led", "hybrid", "continued"]
TELEMETRY = frozenset({"log", "emf", "prometheus", "traces"})
Places = Literal["off", "country", "coarse", "exact"]


class BadSetting(ValueError):
    """A setting can't be used; the message names it, its value and what it takes."""


def _setting(name: str, default: Any, read: Callable[[str], Any], meaning: str, *, secret: bool = False) -> Any:
    return field(
        default=default,
        metadata={"name": name, "read": read, "meaning": meaning, "secret": secret},
        repr=not secret,
    )


def _number(kind: Callable[[str], Any], least: float) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not least <= value < math.inf:
            raise ValueError(f"a number of at least {least:g}")
        return value

    return read


def _choice(*choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            raise ValueError("one of " + ", ".join(choices))
        return text

    return read


def _place(*schemes: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not any(text.startswith(scheme) and len(text) > len(scheme) for scheme in schemes):
            raise ValueError("an address that starts with " + " or ".join(schemes))
        return text.rstrip("/")

    return read


def _words(text: str) -> frozenset[str]:
    return frozenset(text.replace(",", " ").split())


def _flag(text: str) -> bool:
    if text.lower() not in ("0", "1", "true", "false"):
        raise ValueError("0 or 1")
    return text.lower() in ("1", "true")


def _records(text: str) -> str:
    if not text.startswith(("sqlite:////", "postgresql://", "mariadb://", "mysql://", "dynamodb:")):
        raise ValueError(
            "sqlite:////FOLDER/records.db (an absolute path), postgresql://USER:PASSWORD@HOST/DATABASE, mariadb://… "
            "or mysql://… in the same way, or dynamodb:TABLE"
        )
    return text


def _key(text: str) -> str:
    if not text.isascii() or not text.isprintable():  # browsers and servers disagree about all other headers' bytes
        raise ValueError("printable ASCII")
    return text


def _telemetry(text: str) -> frozenset[str]:
    kinds = _words(text)
    if not kinds <= TELEMETRY | {"none"}:
        raise ValueError(f"any of {', '.join(sorted(TELEMETRY))}, separated by spaces, or none")
    return kinds - {"none"}


def _origins(text: str) -> frozenset[str]:
    origins = _words(text)
    if any(origin != "*" and not origin.startswith(("http://", "https://")) for origin in origins):
        raise ValueError("origins like https://example.org, separated by spaces, or *")
    return origins


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the functions and the command line can be told; see each field's `meaning`."""

    topology: Topology = _setting(
        "CLASSY_TOPOLOGY", "in-process", _choice(*get_args(Topology)),
        "who calls the next stage: nobody (all in one process), Classy, each stage, the request's route, or (on "
        "Lambda, for uploads) each stage, without waiting",
    )  # fmt: skip
    downloader: str = _setting("CLASSY_DOWNLOADER", "", str, "GraphPipe URI of the downloader")
    preprocessor: str = _setting("CLASSY_PREPROCESSOR", "", str, "GraphPipe URI of the preprocessor")
    vgg: str = _setting("CLASSY_VGG", "", str, "GraphPipe URI of the classifier")
    next_hop: str = _setting(
        "CLASSY_NEXT", "", str, "GraphPipe URI that this stage hands on to when a request's config names no route"
    )
    allowed_hops: frozenset[str] = _setting(
        "CLASSY_ALLOWED_HOPS", frozenset(), _words, "further GraphPipe URIs that a request's config may name as hops"
    )
    front: str = _setting("CLASSY_FRONT", "", str, "GraphPipe URI of Classy itself, where continued uploads end")
    handover: str = _setting(
        "CLASSY_HANDOVER", "", _place("s3://"),
        "where messages over Lambda's limits wait: s3://BUCKET[/PREFIX], with a rule that deletes them after a day",
    )  # fmt: skip
    hop_timeout_s: float = _setting(
        "CLASSY_HOP_TIMEOUT", 28.0, _number(float, 0.1), "how long one call of another stage may take, in seconds"
    )

    model: str = _setting("CLASSY_MODEL", "efficientnet-lite0", str, "NAME or NAME@VERSION of the published model")
    model_store: str = _setting(
        "CLASSY_MODEL_STORE",
        "",
        _place("s3://", "file:///"),
        "where models are published: s3://BUCKET[/PREFIX] or file:///FOLDER",
    )
    model_cache: str = _setting(
        "CLASSY_MODEL_CACHE", "/tmp/classy-models", str, 'folder for fetched models, or "memory"'  # noqa: S108
    )  # fmt: skip
    model_alias_age_s: float = _setting(
        "CLASSY_MODEL_ALIAS_AGE", 60.0, _number(float, 0), "how long a NAME's current version is trusted, in seconds"
    )
    threads: int = _setting("CLASSY_THREADS", 1, _number(int, 1), "threads of one inference")
    limit_rows: int = _setting("CLASSY_LIMIT_ROWS", 64, _number(int, 1), "pictures in one request, at most")

    language: str = _setting("CLASSY_LANGUAGE", "ja", _choice(*LANGUAGES), "language of an answer's Message")
    top_k: int = _setting("CLASSY_TOP_K", 5, _number(int, 1), "labels in an answer")
    results: str = _setting(
        "CLASSY_RESULTS", "", _place("s3://"), "where uploads' results are written: s3://BUCKET[/PREFIX]"
    )

    dead_letters: str = _setting(
        "CLASSY_DEAD_LETTERS", "", _place("http://", "https://"),
        "on Lambda, URL of the SQS queue for messages that are given up, each with its reason; empty: SQS moves them",
    )  # fmt: skip
    deliveries: int = _setting(
        "CLASSY_DELIVERIES", 5, _number(int, 1), "after how many deliveries of a message it is given up"
    )

    records: str = _setting(
        "CLASSY_RECORDS", "", _records,
        "where every classification is recorded: sqlite:////FOLDER/records.db, postgresql://…, mariadb://…, "
        "mysql://… or dynamodb:TABLE; empty for nowhere", secret=True,
    )  # fmt: skip
    places: Places = _setting(
        "CLASSY_PLACES", "coarse", _choice(*get_args(Places)),
        "what records keep of the place in a picture's EXIF: nothing, its country, also a point of a 0.1° grid, or "
        "all of it",
    )  # fmt: skip
    pictures: str = _setting(
        "CLASSY_PICTURES", "", _place("s3://", "file:///"),
        "where pictures that callers send are kept, and thumbnails of all: s3://BUCKET[/PREFIX] or file:///FOLDER; "
        "empty for nowhere",
    )  # fmt: skip

    telemetry: frozenset[str] = _setting(
        "CLASSY_TELEMETRY", frozenset({"log"}), _telemetry,
        "what is told of each call: log (a line of JSON), emf (the same with CloudWatch's metrics), prometheus, "
        "traces (OpenTelemetry), separated by spaces; or none",
    )  # fmt: skip
    api_key: str = _setting(
        "CLASSY_API_KEY", "", _key, "what callers of /api must send as X-Api-Key; empty for nothing", secret=True
    )
    rate_limit: int = _setting(
        "CLASSY_RATE_LIMIT", 0, _number(int, 0), "requests of one client per minute and process; 0 for no limit"
    )
    trusted_proxies: int = _setting(
        "CLASSY_TRUSTED_PROXIES", 0, _number(int, 0),
        "how many proxies of yours stand in front and add to X-Forwarded-For; 0: that header is not believed",
    )  # fmt: skip
    cors_origins: frozenset[str] = _setting(
        "CLASSY_CORS_ORIGINS", frozenset(), _origins, "other origins whose pages may call /api, or *"
    )

    download_timeout_s: float = _setting(
        "CLASSY_DOWNLOAD_TIMEOUT", 20.0, _number(float, 0.1), "for one download with all its redirects, in seconds"
    )
    download_allow: str = _setting(
        "CLASSY_DOWNLOAD_ALLOW", "", str,
        "hosts, HOST:PORTs or networks that are opened although they are not public, separated by spaces",
    )  # fmt: skip
    buckets: frozenset[str] = _setting(
        "CLASSY_BUCKETS", frozenset(), _words, "buckets that s3:// sources may name, separated by spaces"
    )
    limit_bytes: int = _setting("CLASSY_LIMIT_BYTES", 20_000_000, _number(int, 1), "size of one picture, in bytes")
    limit_request_bytes: int = _setting(
        "CLASSY_LIMIT_REQUEST_BYTES", 48_000_000, _number(int, 1),
        "size of all pictures of one request together, in bytes; those beyond it are refused, the others answered",
    )  # fmt: skip
    limit_px: int = _setting("CLASSY_LIMIT_PX", 40_000_000, _number(int, 1), "width × height of one picture")
    picture_time_s: float = _setting(
        "CLASSY_PICTURE_TIME", 2.0, _number(float, 0.1), "CPU time for decoding one picture, in seconds"
    )
    exact_jpeg: bool = _setting(
        "CLASSY_EXACT_JPEG", False, _flag, "1 decodes JPEGs at full scale: slower, and a little closer to training"
    )

    s3_endpoint: str = _setting(
        "AWS_ENDPOINT_URL", "", _place("http://", "https://"), "S3-compatible endpoint; empty for AWS itself"
    )
    s3_region: str = _setting("AWS_REGION", "us-east-1", str, "region of the object storage")
    s3_access_key_id: str = _setting("AWS_ACCESS_KEY_ID", "", str, "as usual on AWS")
    s3_secret_access_key: str = _setting("AWS_SECRET_ACCESS_KEY", "", str, "as usual on AWS", secret=True)
    s3_session_token: str = _setting("AWS_SESSION_TOKEN", "", str, "as usual on AWS", secret=True)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """
        Read settings from a mapping; an empty value means the default.

        Raises:
            BadSetting: a value can't be used, or a name starts with CLASSY_ and is none of ours (a typing mistake
                would otherwise go unnoticed).
        """
        values = {}
        for item in fields(cls):
            text = environ.get(item.metadata["name"], "").strip()
            if not text:
                continue
            try:
                values[item.name] = item.metadata["read"](text)
            except ValueError as exc:
                shown = "…" if item.metadata["secret"] else repr(text)
                raise BadSetting(f"{item.metadata['name']} is {shown}; it takes {exc}") from exc
        known = {item.metadata["name"] for item in fields(cls)} | OTHERS
        unknown = sorted(name for name in environ if name.startswith("CLASSY_") and name not in known)
        if unknown:
            raise BadSetting(f"unknown setting {', '.join(unknown)}; docs/settings.md lists all of them")
        return cls(**values)

    @classmethod
    def table(cls) -> str:
        """Return every setting as a Markdown table: docs/settings.md."""
        lines = ["| name | default | meaning |", "| --- | --- | --- |"]
        for item in fields(cls):
            default = item.default if not isinstance(item.default, frozenset) else " ".join(sorted(item.default))
            shown = f"`{int(default) if isinstance(default, bool) else default}`" if default != "" else ""
            lines.append(f"| `{item.metadata['name']}` | {shown} | {item.metadata['meaning'].replace('|', ' or ')} |")
        return "\n".join(lines)

    def require(self, *names: str) -> None:
        """
        Complain about settings that this function can't do without.

        Raises:
            BadSetting: the first of them that is empty.
        """
        for item in fields(self):
            if item.name in names and not getattr(self, item.name):
                raise BadSetting(f"{item.metadata['name']} is not set; it is: {item.metadata['meaning']}")


# Names that start with CLASSY_ and are read by the command line, the Makefile or the tests, not by a function.
OTHERS = frozenset({"CLASSY_STATE_DIR", "CLASSY_TEST_CACHE", "CLASSY_FN_BIN"})
