"""What the checks share: the packages, made once, and a deployment for each module."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from photos import PHOTOS, photo

from aws.cloud import Cloud
from aws.deployed import Deployment, make_packages
from aws.parts import function_python, missing_programs


@pytest.fixture(scope="session", autouse=True)
def programs() -> None:
    """Install what a bare Debian lacks. The sandbox alone may be missing: its own checks are skipped then."""
    why = missing_programs()
    if why and not (shutil.which("curl") and shutil.which("openssl")):
        pytest.skip(why)


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the functions' zips, made for the Python that will run them."""
    folder = tmp_path_factory.mktemp("packages")
    make_packages(folder, function_python().minor)
    return folder


@pytest.fixture(scope="module")
def deployment(packages: Path) -> Iterator[Deployment]:
    """Deploy to a cloud of this module's own, and publish the default model."""
    with Cloud() as cloud:
        deployed = Deployment(cloud)
        shutil.copytree(packages, deployed.folder / "build" / "packages")
        deployed.deploy()
        deployed.publish_model()
        yield deployed


@pytest.fixture(scope="session")
def photos() -> dict[str, bytes]:
    """Return photos of known classes by their names."""
    return {name: photo(name) for name in PHOTOS}
