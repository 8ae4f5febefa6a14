"""
Serverless Framework 3.40, the last of the original's free versions, deploys the same file.

It asks AWS's own hosts, whatever an environment variable says, so it is given a proxy that leads them to the local
AWS. It is a development dependency of nobody: npm installs 546 packages for this check alone.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from aws.cloud import Cloud
from aws.deployed import FUNCTIONS, Deployment, leftovers
from aws.parts import npm_packages

SERVERLESS = {"serverless": "3.40.0"}


@pytest.fixture(scope="module")
def by_version_3(packages: Path) -> Iterator[Deployment]:
    parts = npm_packages(SERVERLESS)
    with Cloud() as cloud:
        proxied = {
            "HTTPS_PROXY": cloud.front.endpoint,
            "cafile": str(cloud.front.certificate),
            "NODE_EXTRA_CA_CERTS": str(cloud.front.certificate),
            "SLS_INTERACTIVE_SETUP_ENABLE": "0",
        }
        deployed = Deployment(cloud, parts=parts, params={"validation": "warn"}, environ=proxied)
        shutil.copytree(packages, deployed.folder / "build" / "packages")
        deployed.deploy()
        deployed.publish_model()
        yield deployed


def test_version_3_deploys_and_removes_the_same_file(
    by_version_3: Deployment, photos: dict[str, bytes], tmp_path: Path
) -> None:
    """All functions are there, the API answers a picture, and nothing stays behind."""
    for function in FUNCTIONS:
        assert by_version_3.name(function) in by_version_3.told
    (tmp_path / "cup.png").write_bytes(photos["coffee.png"])
    told = json.loads(
        by_version_3.cloud.curl(f"{by_version_3.url}/api/classify", "-F", f"image=@{tmp_path / 'cup.png'}")
    )
    assert told.get("class_index") == 967, told
    assert told["picture_sha256"] == hashlib.sha256(photos["coffee.png"]).hexdigest()
    by_version_3.remove()
    assert leftovers(by_version_3.cloud) == []
