"""What the fn CLI will find in this checkout, and what its files promise each other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bundling.contents import FUNCTIONS, OWN
from classy.local.functions import MAX_TIMEOUT_S, read_app, read_function

ROOT = Path(__file__).parents[1]
NAMES = {
    "classy": "classy-func",
    "downloader": "downloader",
    "preprocessor": "preprocessor",
    "vgg": "vgg",
    "fused": "classy-fused",
}
# The CLI writes a bumped func.yaml anew: its own fields, in its own order, without comments.
CLI_ORDER = (
    *(
        "schema_version",
        "name",
        "version",
        "runtime",
        "build_image",
        "run_image",
        "cmd",
        "entrypoint",
        "content_type",
    ),
    *("format", "type", "memory", "timeout", "idle_timeout", "config", "annotations", "build", "expects", "triggers"),
)


def test_all_deploys_the_four_functions_and_the_fused_one() -> None:
    """`fn deploy --all` walks every folder, hidden ones and virtual environments too."""
    walked = (Path(folder, name) for folder, _, names in os.walk(ROOT) for name in names)
    found = {path.relative_to(ROOT) for path in walked if path.name in ("func.yaml", "func.yml", "func.json")}
    assert found == {Path(contents.folder, "func.yaml") for contents in FUNCTIONS.values()}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_func_yaml_survives_the_clis_bump(name: str) -> None:
    """Only the version's line differs after `fn deploy`: fields in the CLI's order, no comment to lose."""
    lines = (ROOT / FUNCTIONS[name].folder / "func.yaml").read_text().splitlines()
    fields = [line.partition(":")[0] for line in lines if not line.startswith((" ", "-"))]
    assert fields == [field for field in CLI_ORDER if field in fields]
    assert not any("#" in line for line in lines)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_functions_build_step_makes_its_own_bundle(name: str) -> None:
    """The CLI runs it in the function's folder; make then has a rule for it."""
    folder = ROOT / FUNCTIONS[name].folder
    (step,) = re.findall(r"^- (make .+)$", (folder / "func.yaml").read_text(), re.MULTILINE)
    assert step.endswith(f" bundle-{name}")
    done = subprocess.run([*step.split(), "--dry-run"], cwd=folder, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert f"-m bundling --python 3.12 --arch x86_64 {name}" in done.stdout


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_what_its_folder_says(name: str) -> None:
    """Name, runtime and limits; the local agent reads the same files."""
    spec = read_function(ROOT / FUNCTIONS[name].folder)
    assert (spec.name, spec.file, spec.handler) == (NAMES[name], "func.py", "handler")
    assert (ROOT / FUNCTIONS[name].func).is_file()
    assert spec.timeout_s <= MAX_TIMEOUT_S


def test_the_docker_files_are_one() -> None:
    """A build context can't reach outside its folder, so each has its copy."""
    for file in ("Dockerfile", ".dockerignore"):
        assert len({(ROOT / contents.folder / file).read_text() for contents in FUNCTIONS.values()}) == 1


def test_nothing_but_the_bundle_goes_to_the_docker_engine() -> None:
    """The fused function's context is the whole checkout: its environment and its history stay here."""
    assert (ROOT / ".dockerignore").read_text().split() == ["*", "!bundle"]
    ignored = subprocess.run(
        ["git", "check-ignore", *(str(Path(contents.folder, "bundle", "x")) for contents in FUNCTIONS.values())],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    if ignored.returncode == 128:
        pytest.skip("no git checkout")
    assert len(ignored.stdout.split()) == len(FUNCTIONS)


def test_the_app_is_the_talks() -> None:
    """`fn list functions classy-fn` is what the talk shows."""
    assert read_app(ROOT / "app.yaml").name == "classy-fn"


def _requirements(name: str) -> set[str]:
    return set(re.findall(rf"{OWN}\[(\w+)\]", (ROOT / "functions" / name / "requirements.txt").read_text()))


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "fused"])
def test_a_functions_requirements_are_its_extra(name: str) -> None:
    """Its requirements.txt, for other ways to build it, asks for the extra of its name."""
    assert _requirements(name) == {name}


def test_a_check_that_cannot_run_says_so_and_succeeds() -> None:
    """`make test-fn-server` without a server is no failure, and no silence."""
    environ = {name: value for name, value in os.environ.items() if name not in ("FN_API_URL", "CLASSY_FN_BIN")}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/fn_server/check_fn_server.py"]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    assert "set FN_API_URL and CLASSY_FN_BIN" in done.stdout


def test_docs_name_every_function_and_setting_file() -> None:
    """docs/deploy-fn.md tells of all five, of the Terraform files and of both checks."""
    text = (ROOT / "docs" / "deploy-fn.md").read_text()
    for word in (*NAMES.values(), "deploy/oci", "make test-fn-image", "make test-fn-server", "make bundle"):
        assert word in text
