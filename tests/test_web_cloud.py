"""The page of `classy up`: one more process in front of the same functions, records and pictures."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from photos import photo

from classy.local.state import read_state

if TYPE_CHECKING:
    from clouds import Cloud

APP = "classy-fn"


def page_url(cloud: Cloud) -> str:
    """Return where the cloud says that its page is."""
    state = read_state(cloud.log_dir.parent)
    assert state is not None
    return state.page_url


def fetch(url: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
    """Return the status and the JSON of an answer."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urlopen(Request(url, body, sent), timeout=60) as answer:
            return answer.status, json.load(answer)
    except HTTPError as exc:
        with exc:
            return exc.code, json.load(exc)


def test_the_page_classifies_as_the_function_does(cloud: Cloud) -> None:
    """The same picture by the page, by the trigger and by the function is one record, with a thumbnail."""
    page, coffee = page_url(cloud), photo("coffee.png")
    status, mine = fetch(f"{page}api/classify?language=en", coffee, Content_Type="image/png")
    assert (status, mine["class_index"], mine["recorded"]) == (200, 967, True)
    for url in (f"{cloud.agent_url}/t/{APP}/api/classify", cloud.url("classy-func")):
        assert fetch(url, coffee, Content_Type="image/png")[1]["record_id"] == mine["record_id"]
    status, record = fetch(f"{page}api/records/{mine['record_id']}")
    assert (status, record["class_id"]) == (200, "n07920052")
    with urlopen(f"{page}api/thumbnails/{record['picture_sha256']}", timeout=60) as thumbnail:
        assert thumbnail.headers["Content-Type"] == "image/webp"
    status, found = fetch(f"{cloud.agent_url}/t/{APP}/api/records?picture={record['picture']}")
    assert [each["id"] for each in found["records"]] == [mine["record_id"]]


def test_triggers_keep_their_statuses_and_their_paths(cloud: Cloud) -> None:
    """What has no trigger is the agent's own 404."""
    base = f"{cloud.agent_url}/t/{APP}"
    assert fetch(f"{base}/api/models")[1]["default"].startswith("efficientnet-lite0@")
    assert fetch(f"{base}/api/classify", b"nonsense", Content_Type="image/png")[0] == 422
    assert fetch(f"{base}/api/records?limit=0")[1]["code"] == 40011
    assert fetch(f"{base}/api/records/{'0' * 64}")[1] == {"message": "Trigger not found"}


def test_a_page_that_ends_by_itself_comes_back(cloud: Cloud) -> None:
    """At the same place."""
    page = page_url(cloud)
    pid = next(
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _is_page(entry, page.rstrip("/").rpartition(":")[2])
    )
    os.kill(pid, signal.SIGKILL)
    deadline_s = time.monotonic() + 30
    while True:
        assert time.monotonic() < deadline_s
        try:
            if fetch(f"{page}api/health")[0] == 200 and not Path(f"/proc/{pid}").exists():
                break
        except (URLError, ConnectionError):
            time.sleep(0.05)


def _is_page(process: Path, port: str) -> bool:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return words[-4:-1] == [b"web", b"--port", port.encode()] and b"classy.cli" in words
