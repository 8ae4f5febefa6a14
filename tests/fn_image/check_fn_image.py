"""
The images for real: built as the fn CLI builds them, run with Fn's limits, and a photo through all of them.

`make test-fn-image` runs it. It is skipped, with the reason, where no Docker engine can run; it is no part of
`make test`, because it may install packages and needs root.
"""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from debian_base import PYTHON, base_tar
from default_model import default_model
from docker_engine import Engine, NoEngine, engine
from fn_container import FnContainer
from fn_gateway import gateway
from photos import photo

from bundling.__main__ import main as make_bundles
from bundling.contents import FUNCTIONS, LEFT_OUT, MB
from classy.local.cloud import storage_of
from classy.local.functions import read_function
from classy.local.ports import free_port
from classy.local.reaper import Reaper
from classy.local.storage import LocalStorage, StorageSettings
from classy.models.publish import publish
from classy.models.store import ModelStore
from classy.objects import ObjectStorage
from graphpipe_fn.transports import connect

CHECKOUT = Path(__file__).parents[2]
BASE = "classy-check/base:1"
STAGES = ("downloader", "preprocessor", "vgg")
INBOX, MODELS = "inbox", "models"


@pytest.fixture(scope="session")
def docker() -> Iterator[Engine]:
    """Run an engine with the base image."""
    try:
        with engine() as running:
            running.load(base_tar(), BASE)
            yield running
    except NoEngine as exc:
        pytest.skip(f"no container is checked: {exc}")


@pytest.fixture(scope="session")
def folders(docker: Engine) -> dict[str, Path]:
    """Return each function's folder, copied beside its bundle for the base's own Python."""
    into = docker.folder / "checkout"
    assert make_bundles(["--python", PYTHON, "--into", str(into)]) == 0
    for name, contents in FUNCTIONS.items():
        for file in ("Dockerfile", ".dockerignore", "func.yaml"):
            shutil.copy(CHECKOUT / contents.folder / file, into / name)
    return {name: into / name for name in FUNCTIONS}


@pytest.fixture(scope="session")
def images(docker: Engine, folders: dict[str, Path]) -> dict[str, str]:
    """Build each image with the very command that `fn deploy` runs."""
    built = {}
    for name, folder in folders.items():
        spec = read_function(folder)
        built[name] = f"classy-check/{spec.name}:{spec.version}"
        docker.docker(*_build(folder, built[name]), cwd=folder)
    return built


def _build(folder: Path, image: str) -> list[str]:
    arguments = ["build", "-t", image, "-f", str(folder / "Dockerfile"), "--build-arg", f"BASE={BASE}"]
    return [*arguments, "--build-arg", "HTTP_PROXY", "--build-arg", "HTTPS_PROXY", "."]


@dataclass(frozen=True)
class Deployed:
    """The running containers, and where the photos are."""

    containers: dict[str, FnContainer]
    photos: str
    gateway: str


@pytest.fixture(scope="session")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStorage]:
    """Run an object storage with the default model and a photo."""
    folder, reaper = tmp_path_factory.mktemp("storage"), Reaper()
    settings = StorageSettings(data_dir=folder, log_file=folder / "storage.log", buckets=(MODELS, INBOX), inbox=INBOX)
    local = LocalStorage(settings, reaper, port=free_port())
    try:
        local.start()
        objects = ObjectStorage(storage_of(local.environment))
        publish(default_model()[0], ModelStore(objects, f"s3://{MODELS}"))
        objects.put(f"s3://{INBOX}/coffee.png", photo("coffee.png"))
        yield local
    finally:
        local.stop()
        reaper.stop()


@pytest.fixture(scope="session")
def deployed(
    docker: Engine, images: dict[str, str], folders: dict[str, Path], storage: LocalStorage
) -> Iterator[Deployed]:
    """Run every function in its container; the front finds the stages behind a gateway."""
    containers: dict[str, FnContainer] = {}
    with gateway(containers) as url:
        shared = {**storage.environment, "CLASSY_MODEL_STORE": f"s3://{MODELS}", "CLASSY_BUCKETS": INBOX}
        shared["CLASSY_DOWNLOAD_ALLOW"] = storage.endpoint.removeprefix("http://")
        hops = {f"CLASSY_{stage.upper()}": f"{url}{stage}" for stage in STAGES}
        own = {"classy": {"CLASSY_TOPOLOGY": "caller-led", **hops}}
        for name, image in images.items():
            spec = read_function(folders[name])
            config = {**shared, **own.get(name, {})}
            containers[name] = FnContainer(
                docker, image, name, config, memory_mb=spec.memory_mb, timeout_s=spec.timeout_s
            )
        yield Deployed(containers, f"{storage.endpoint}/{INBOX}", url)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_image_adds_little_to_its_base(docker: Engine, images: dict[str, str], name: str) -> None:
    """Each stays under its own bar, with the .pyc files that the build makes."""
    added = (docker.size(images[name]) - docker.size(BASE)) / MB
    print(f"\nimage of {name}: {added:.1f} MB over its base, of {FUNCTIONS[name].limit_mb}")
    assert added < FUNCTIONS[name].limit_mb


def test_a_photo_goes_through_all_four_containers(deployed: Deployed) -> None:
    """The talk's own call, cold and warm: every stage answers in its own container."""
    front = deployed.containers["classy"]
    for when in ("cold", "warm"):
        began_s = time.monotonic()
        reply = front.call(json.dumps({"name": f"{deployed.photos}/coffee.png"}).encode())
        print(f"\n{when}: {(time.monotonic() - began_s) * 1000:.0f} ms  {reply.json}")
        assert (reply.status, reply.json["class_index"]) == (200, 967), front.log()
        assert reply.json["Message"].startswith("result_class=エスプレッソ, probability=0.95")
        hops = {hop["name"]: hop.get("cold") for hop in reply.json["timings"]}
        assert {*STAGES, "classy"} <= set(hops)
        assert all(hops[stage] is (when == "cold") for stage in STAGES)


def test_one_function_does_it_all(deployed: Deployed) -> None:
    """The fused image needs no other function; a bucket's object will do, and a picture as the body."""
    fused = deployed.containers["fused"]
    by_uri = fused.call(json.dumps({"name": f"s3://{INBOX}/coffee.png"}).encode())
    by_body = fused.call(photo("coffee.png"), {"Content-Type": "image/png"})
    assert [reply.json.get("class_index") for reply in (by_uri, by_body)] == [967, 967], fused.log()


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_speaks_graphpipe(deployed: Deployed, stage: str) -> None:
    """A stage's metadata comes over HTTP and the socket as it comes from any GraphPipe server."""
    client = connect(f"{deployed.gateway}{stage}")
    try:
        assert len(client.metadata().inputs) == 1
    finally:
        client.close()


def test_a_bad_address_is_refused_by_name(deployed: Deployed) -> None:
    """An error crosses three containers and still says what to do."""
    reply = deployed.containers["classy"].call(json.dumps({"name": f"{deployed.photos}/missing.png"}).encode())
    assert reply.json["error"]["code"] == 42413
    assert "missing.png" in reply.json["error"]["message"]


@pytest.mark.parametrize("kind", ["TIFF", "AVIF"])
def test_a_picture_that_is_decoded_apart_is(deployed: Deployed, kind: str) -> None:
    """The decoder's own process starts under Fn's limits too: no writable folder, few processes, no HOME."""
    from PIL import Image

    file = io.BytesIO()
    Image.open(io.BytesIO(photo("coffee.png"))).save(file, kind)
    reply = deployed.containers["classy"].call(file.getvalue(), {"Content-Type": f"image/{kind.lower()}"})
    assert reply.json.get("class_index") == 967, reply.json


def test_the_largest_picture_and_the_largest_batch_fit(deployed: Deployed, storage: LocalStorage) -> None:
    """40 megapixels in one picture, 64 pictures in one request: the defaults' limits, within func.yaml's memory."""
    from PIL import Image

    largest = io.BytesIO()
    Image.open(io.BytesIO(photo("coffee.png"))).convert("RGB").resize((8000, 5000)).save(largest, "PNG")
    objects = ObjectStorage(storage_of(storage.environment))
    objects.put(f"s3://{INBOX}/largest.png", largest.getvalue())
    one = json.dumps({"name": f"{deployed.photos}/largest.png"}).encode()
    many = json.dumps({"images": [f"{deployed.photos}/coffee.png"] * 64}).encode()
    for front in (deployed.containers["classy"], deployed.containers["fused"]):
        assert front.call(one).json.get("class_index") == 967
        assert [entry.get("class_index") for entry in front.call(many).json["results"]] == [967] * 64


LIMITS = """
import errno, json, os, resource, subprocess, threading
def failed(call):
    try:
        call()
    except OSError as exc:
        return errno.errorcode[exc.errno]
    return ""
def write(path, data=b"x"):
    with open(path, "wb") as file:
        file.write(data)
program = "/tmp/program"
write(program, b"#!/bin/sh")
os.chmod(program, 0o755)
seen = {
    "uid": os.getuid(),
    "root": failed(lambda: write("/function/x")),
    "exec": failed(lambda: subprocess.run([program])),
    "home": os.path.exists(os.environ["HOME"]),
    "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
}
os.unlink(program)
stop, threads = threading.Event(), []
try:
    while len(threads) < 60:
        threads.append(threading.Thread(target=stop.wait))
        threads[-1].start()
except RuntimeError:
    threads.pop()
stop.set()
for thread in threads:
    thread.join()
print(json.dumps({**seen, "few threads": len(threads) < 50}))
"""


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_limits_are_fns(deployed: Deployed, name: str) -> None:
    """What was answered above was answered under these, so nothing needs more."""
    expected = {"uid": 1000, "root": "EROFS", "exec": "EACCES", "home": False, "files": 350, "few threads": True}
    assert deployed.containers[name].run(LIMITS) == expected


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_image_holds_only_its_own_packages(deployed: Deployed, name: str) -> None:
    """No stage carries another's, and nobody the FDK's test tools."""
    modules = {name: _module(name) for contents in FUNCTIONS.values() for name in contents.distributions}
    modules |= {name: _module(name) for name in LEFT_OUT}
    code = "import importlib.util as u, json; print(json.dumps([n for n in %r if u.find_spec(n)]))"
    found = deployed.containers[name].run(code % sorted(modules.values()))
    assert found == sorted(modules[distribution] for distribution in FUNCTIONS[name].distributions)


def _module(distribution: str) -> str:
    odd = {"pillow": "PIL", "cython": "Cython", "protobuf": "google"}
    return odd.get(distribution, distribution.replace("-", "_"))


COMPILED = """
import json, sys
from pathlib import Path
sources = list(Path("/function").rglob("*.py"))
from importlib.util import cache_from_source
missing = [str(path) for path in sources if not Path(cache_from_source(path)).exists()]
flags = {Path(cache_from_source(path)).read_bytes()[4] for path in sources if str(path) not in missing}
print(json.dumps([missing, sorted(flags)]))
"""


@pytest.mark.parametrize("name", FUNCTIONS)
def test_everything_is_compiled_and_never_checked(deployed: Deployed, name: str) -> None:
    """PEP 552's flags say 1: by hash, and without looking at the source."""
    assert deployed.containers[name].run(COMPILED) == [[], [1]]


def test_a_frozen_container_goes_on(deployed: Deployed) -> None:
    """Fn freezes whatever has nothing to do, with its connections to the other functions open."""
    ask = json.dumps({"name": f"{deployed.photos}/coffee.png"}).encode()
    for container in deployed.containers.values():
        container.freeze()
    time.sleep(2)  # not a wait for something: the pause itself is under test
    for container in deployed.containers.values():
        container.thaw()
    assert deployed.containers["classy"].call(ask).json["class_index"] == 967


def test_a_bundle_for_another_python_is_refused_by_name(
    docker: Engine, folders: dict[str, Path], tmp_path: Path
) -> None:
    """A base image with another Python says so when the image is built, not when it is called."""
    folder = tmp_path / "downloader"
    shutil.copytree(folders["downloader"], folder)
    (folder / "bundle" / "function" / "python-version").write_text("3.12\n")
    done = docker.docker(*_build(folder, "classy-check/other:1"), cwd=folder, check=False)
    assert done.returncode != 0
    assert f"bundle/ is for CPython 3.12 and the base image has {PYTHON}" in done.stdout + done.stderr


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_lives_within_its_memory(deployed: Deployed, name: str) -> None:
    """After all of the above its peak leaves a tenth of func.yaml's memory free, and nothing was killed for it."""
    container = deployed.containers[name]
    peak_mb, state = container.peak_mb(), container.state()
    print(
        f"\n{name}: peak {peak_mb:.0f} of {container.memory_mb} MB; socket after {container.socket_s * 1000:.0f} ms"
    )
    assert peak_mb < 0.9 * container.memory_mb
    assert (state["Running"], state["OOMKilled"]) == (True, False)
    assert "Traceback" not in container.log()


@pytest.mark.parametrize("name", ["vgg", "fused"])
def test_onnxruntime_reports_to_nobody(deployed: Deployed, name: str) -> None:
    """Its telemetry is off: it neither looks for a place for a device's id nor complains that it found none."""
    assert "telemetry" not in deployed.containers[name].log().lower()
