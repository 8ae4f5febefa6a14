"""
Classy's own local cloud: the four function folders, configured to find each other, the storage and the model.

Fn and Oracle Functions are where to run this at scale; here it is one machine's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from classy.local.functions import AppSpec, FunctionSpec, UnusableFolder, read_app, read_function
from classy.local.local_cloud import CloudSettings, LocalCloud
from classy.local.up import detach as run_detached
from classy.local.up import run
from classy.models.default import ensure_default_model
from classy.models.manifest import Manifest
from classy.models.publish import publish
from classy.models.store import ModelStore
from classy.objects import ObjectStorage
from classy.s3 import Storage
from classy.settings import OTHERS, Settings

INBOX, RESULTS, MODELS, PHOTOS = "classy-inbox", "classy-results", "classy-models", "classy-photos"
PICTURES = "classy-pictures"
BUCKETS = (INBOX, RESULTS, MODELS, PHOTOS, PICTURES)
MODEL_STORE = f"s3://{MODELS}"
RECORDS = "records.db"  # in the state folder
FRONT, STAGES = "classy-func", ("downloader", "preprocessor", "vgg")


def start(state_dir: Path, environ: Mapping[str, str], *, detach: bool = False, port: int = 0) -> int:
    """
    Run the local cloud, in the foreground or in the background.

    Args:
        state_dir: Keeps the model, the objects, the logs and the state.
        environ: Of the process in the background.
        detach: Return once it is ready.
        port: Of the Fn-compatible endpoint; 0 for the usual one.

    Returns:
        The exit status.
    """
    theirs = settings_of(environ)
    manifest = default_model(state_dir)
    if detach:
        command = [sys.executable, "-m", "classy.cli", "--state-dir", str(state_dir), "up", "--port", str(port)]
        return run_detached(command, state_dir, environ)
    root = checkout()
    settings = CloudSettings(state_dir=state_dir, agent_port=port, buckets=BUCKETS, inbox=INBOX, results=RESULTS)
    with LocalCloud(settings) as cloud:
        app = read_app(root / "app.yaml")
        functions = configured(
            cloud, app, root / "functions", state_dir=state_dir, theirs={"CLASSY_MODEL": manifest.name, **theirs}
        )
        front = next(spec for spec in functions if spec.name == FRONT)
        prepare = partial(publish_folder, cloud, model_folder(state_dir))
        return run(cloud, app, functions, prepare, page=front.config)


def settings_of(environ: Mapping[str, str]) -> dict[str, str]:
    """
    Return a person's own settings for the functions: every CLASSY_ one of the environment, and OpenTelemetry's.

    Raises:
        BadSetting: one that can't be used, before anything is started.
    """
    Settings.from_env({name: value for name, value in environ.items() if name.startswith("CLASSY_")})
    theirs = {name: value for name, value in environ.items() if name.startswith(("CLASSY_", "OTEL_"))}
    return {name: value for name, value in theirs.items() if name not in OTHERS}


def checkout() -> Path:
    """
    Return the folder that holds app.yaml and functions/.

    Raises:
        UnusableFolder: neither the working directory nor this package's parent is one.
    """
    for root in (Path.cwd(), Path(__file__).resolve().parents[2]):
        if (root / "app.yaml").is_file() and (root / "functions").is_dir():
            return root
    raise UnusableFolder("there is no app.yaml beside a functions folder here; run this in a checkout of Classy")


def configured(
    cloud: LocalCloud, app: AppSpec, folder: Path, *, state_dir: Path, theirs: Mapping[str, str]
) -> list[FunctionSpec]:
    """
    Return the functions of a folder with the settings that this cloud needs.

    The stages hand on by their own setting where a request names no route, so that the original's contract (URLs in,
    probabilities out) holds at the downloader; Classy asks each stage itself.

    Args:
        theirs: A person's own settings; those that wire the cloud together win over them.
    """
    urls = {stage: cloud.invoke_url(app.name, stage) for stage in STAGES}
    shared = {
        **theirs,
        **cloud.storage.environment,
        "CLASSY_MODEL_STORE": MODEL_STORE,
        "CLASSY_MODEL_CACHE": str((state_dir / "model-cache").absolute()),
    }
    storage = cloud.storage.endpoint.removeprefix("http://")
    own = {
        "downloader": {
            "CLASSY_NEXT": urls["preprocessor"],
            "CLASSY_ALLOWED_HOPS": " ".join(urls.values()),
            "CLASSY_DOWNLOAD_ALLOW": storage,
            "CLASSY_BUCKETS": f"{INBOX} {PHOTOS}",
        },
        "preprocessor": {"CLASSY_NEXT": urls["vgg"]},
        FRONT: {
            "CLASSY_TOPOLOGY": "caller-led",
            "CLASSY_RESULTS": f"s3://{RESULTS}",
            "CLASSY_PICTURES": f"s3://{PICTURES}",
            "CLASSY_RECORDS": f"sqlite:///{(state_dir / RECORDS).absolute()}",
            **{f"CLASSY_{stage.upper()}": url for stage, url in urls.items()},
        },
    }
    specs = [read_function(path.parent) for path in sorted(folder.glob("*/func.yaml"))]
    return [replace(spec, config={**shared, **own.get(spec.name, {}), **spec.config}) for spec in specs]


def model_folder(state_dir: Path) -> Path:
    """Return where the default model is made, ready to be published."""
    return state_dir / "default-model"


def default_model(state_dir: Path, progress: Callable[[str], None] = print) -> Manifest:
    """Make the default model, and publish it to the store in the state folder that `classy classify` reads."""
    manifest = ensure_default_model(model_folder(state_dir), progress=progress)
    store = ModelStore(ObjectStorage(Storage()), (state_dir / "models").absolute().as_uri())
    publish(model_folder(state_dir), store)
    return manifest


def publish_folder(cloud: LocalCloud, folder: Path) -> Manifest:
    """Publish a model folder to the cloud's own storage."""
    return publish(folder, ModelStore(ObjectStorage(storage_of(cloud.storage.environment)), MODEL_STORE))


def storage_of(environment: dict[str, str]) -> Storage:
    """Return the storage that AWS's environment variables name."""
    return Storage(
        endpoint=environment["AWS_ENDPOINT_URL"],
        region=environment["AWS_REGION"],
        access_key_id=environment["AWS_ACCESS_KEY_ID"],
        secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )
