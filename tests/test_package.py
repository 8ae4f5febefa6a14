"""Lambda's packages: what they hold, that nothing but their inputs decides their bytes, and that they run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bundling.__main__ import ROOT
from bundling.contents import FUNCTIONS, MB
from bundling.interpreters import compiler_for
from bundling.packages import LAMBDA, RUNTIMES, NotCompiled, Package, _compile, main, report, task_folder, write_zip
from bundling.tree import file_digest, size
from bundling.wheels import Lock, Target, WheelsMissing, own_wheel

HERE = Target(f"{sys.version_info.major}.{sys.version_info.minor}", os.uname().machine)
LOCK = ROOT / "bundling" / "wheels.lock"
UNCHECKED = 0b01  # PEP 552: the .pyc belongs to its source whatever that says


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return our own wheel."""
    return own_wheel(ROOT, tmp_path_factory.mktemp("wheel"))


def _packaged(name: str, target: Target, own: Path, into: Path, *, compiler: Path | None) -> tuple[Path, Path]:
    try:
        task_folder(LAMBDA[name], target, own, into / "task", compiler=compiler)
    except WheelsMissing as exc:
        if "pip download failed" in str(exc):
            pytest.skip(str(exc).splitlines()[0])
        raise
    write_zip(into / "task", into / f"{name}.zip")
    return into / "task", into / f"{name}.zip"


@pytest.fixture(scope="session")
def downloader(own: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the smallest package, for this Python: its folder and its zip."""
    return _packaged("downloader", HERE, own, tmp_path_factory.mktemp("downloader"), compiler=Path(sys.executable))


def test_the_same_inputs_give_the_same_zip(
    downloader: tuple[Path, Path], own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere, later, under another umask, another hash seed and another time zone."""
    before = os.umask(0o077)
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    try:
        _, again = _packaged("downloader", HERE, own, tmp_path / "else where", compiler=Path(sys.executable))
    finally:
        os.umask(before)
    assert file_digest(again) == file_digest(downloader[1])


def test_every_module_is_compiled_and_nobody_checks_its_source(downloader: tuple[Path, Path]) -> None:
    """/var/task is read-only: what is not compiled here is compiled at every cold start. Tracebacks name it."""
    task, _ = downloader
    sources = sorted(task.rglob("*.py"))
    assert len(sources) > 100
    for source in sources:
        compiled = source.parent / "__pycache__" / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
        data = compiled.read_bytes()
        assert int.from_bytes(data[4:8], "little") == UNCHECKED, source
    assert (
        b"/var/task/classy/settings.py"
        in (task / "classy" / "__pycache__" / f"settings.{sys.implementation.cache_tag}.pyc").read_bytes()
    )


def test_a_zip_says_nothing_of_who_made_it(downloader: tuple[Path, Path]) -> None:
    """One date and one mode, which everybody may read: Lambda's user is none of ours."""
    task, archive = downloader
    with zipfile.ZipFile(archive) as opened:
        entries = opened.infolist()
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.external_attr >> 16 for entry in entries} == {0o100644}
    assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)
    assert len(entries) == len([path for path in task.rglob("*") if path.is_file()])
    assert "lambda_function.py" in {entry.filename for entry in entries}


def test_no_package_has_what_the_runtime_brings_or_fn_alone_needs() -> None:
    """The FDK comes with 37 MB of build tools; boto3 is there already."""
    for package in LAMBDA.values():
        assert {"fdk", "httptools", "boto3", "botocore", "cython", "sqlalchemy"}.isdisjoint(package.distributions)
        assert {*FUNCTIONS[package.name].distributions} <= {*package.distributions}


@pytest.mark.parametrize("python", RUNTIMES)
@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_every_runtime_has_its_wheels_locked(python: str, arch: str) -> None:
    """For both machines, none for a newer glibc than 2.28; Amazon Linux 2023 has 2.34."""
    from bundling.wheels import pins

    target, lock = Target(python, arch), Lock.read(LOCK)
    versions = pins((ROOT / "constraints.txt").read_text(encoding="utf-8"), target)
    for name in {name for package in LAMBDA.values() for name in package.distributions}:
        assert len(lock.hashes[lock.named(name, versions[name], target)]) == 64


def test_a_compiler_is_of_the_runtimes_own_minor_version() -> None:
    """Whichever is asked for; one that is not, or is no Python, compiles nothing."""
    assert compiler_for(HERE.python, Path(sys.executable)) == Path(sys.executable)
    assert compiler_for("3.5", Path(sys.executable)) is None
    assert compiler_for(HERE.python, Path("/bin/true")) is None
    assert compiler_for(HERE.python, Path("/nowhere/python")) is None


def test_without_a_compiler_the_sources_go_alone_and_a_warning_says_what_that_costs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The package still works; who deploys it knows why it starts slowly, and what would help."""
    try:
        status = main(["downloader", "--python", "3.12", "--compiler", "/nowhere/python", "--into", str(tmp_path)])
    except WheelsMissing as exc:
        pytest.skip(str(exc))
    told = capsys.readouterr()
    if "pip download failed" in told.err:
        pytest.skip(told.err.splitlines()[-1])
    assert status == 0
    assert "no CPython 3.12 here, so every cold start compiles" in told.err
    assert json.loads((tmp_path / "latest.json").read_text()) == {"python": "3.12", "arch": "x86_64"}
    with zipfile.ZipFile(tmp_path / "python3.12-x86_64" / "downloader.zip") as archive:
        assert not [name for name in archive.namelist() if name.endswith(".pyc")]


def test_a_python_of_another_version_does_not_compile(tmp_path: Path) -> None:
    """Its .pyc files would be ignored, silently."""
    (tmp_path / "python-version").write_text("3.5\n")
    with pytest.raises(NotCompiled, match=r"for CPython 3\.5"):
        _compile(tmp_path, Path(sys.executable))


def test_a_package_that_is_too_heavy_fails(downloader: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """And is named."""
    task, archive = downloader
    heavy = Package(name="downloader", files=(), distributions=(), limit_mb=1)
    assert report(LAMBDA["downloader"], task, archive, compiled=True)
    assert not report(heavy, task, archive, compiled=True)
    assert "of 1 unzipped" in capsys.readouterr().out.splitlines()[-1]


# Runs a package's handler with nothing to import from but the package, and says what was loaded.
RUN = """
import sys; sys.path.insert(0, ".")
import json, lambda_function
class Context:
    aws_request_id = "test"
    def get_remaining_time_in_millis(self): return 30_000
at_start = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps([at_start, lambda_function.handler(json.loads(sys.argv[1]), Context())]), file=sys.stderr)
"""


def _handled(task: Path, event: object, environ: dict[str, str]) -> tuple[set[str], dict[str, object]]:
    done = subprocess.run(
        [sys.executable, "-S", "-c", RUN, json.dumps(event)],
        cwd=task,
        env={"PATH": "/usr/bin:/bin", "ORT_DISABLE_TELEMETRY": "1", **environ},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    at_start, answer = json.loads(done.stderr.splitlines()[-1])
    return set(at_start), answer


def test_the_downloader_runs_from_its_package(downloader: tuple[Path, Path]) -> None:
    """With its own wheels alone, and nothing that it does not need."""
    loaded, answer = _handled(downloader[0], {"warmup": True}, {})
    assert answer["function"] == "downloader"
    assert loaded.isdisjoint({"numpy", "onnxruntime", "PIL", "fdk", "boto3", "flask", "sqlalchemy"})


PAGE = {
    "version": "2.0",
    "rawPath": "/api/health",
    "headers": {"host": "x"},
    "requestContext": {"http": {"method": "GET"}, "stage": "$default"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LAMBDA)
def test_a_package_is_light_and_runs(name: str, own: Path, model_store: str, tmp_path: Path) -> None:
    """Unzipped and compiled it is under its bar, and it does its work without what was cut."""
    task, archive = _packaged(name, HERE, own, tmp_path, compiler=Path(sys.executable))
    assert size(task) < LAMBDA[name].limit_mb * MB
    assert archive.stat().st_size < 50 * MB  # what Lambda takes without a bucket
    environ = {"CLASSY_MODEL_STORE": model_store, "CLASSY_MODEL_CACHE": "memory"}
    if name == "classy":
        environ |= {"CLASSY_TOPOLOGY": "caller-led"}
        environ |= {f"CLASSY_{stage}": "http://127.0.0.1:9/" for stage in ("DOWNLOADER", "PREPROCESSOR", "VGG")}
    if name in ("classy", "fused"):
        loaded, answer = _handled(task, PAGE, environ)
        assert json.loads(str(answer["body"]))["health"] == "ok"
        assert loaded.isdisjoint({"flask", "werkzeug", "fdk", "boto3", "sqlalchemy"})  # not before they are needed
    if name == "fused":
        _, answer = _handled(task, {}, environ)
        assert answer == {"return": "espresso (score = 0.65994)"}
    if name in ("preprocessor", "vgg"):
        _, answer = _handled(task, {"warmup": True}, environ)
        assert answer["function"] == name
        assert "error" not in answer


@pytest.mark.slow
def test_compiled_packages_import_faster(own: Path, tmp_path: Path) -> None:
    """What keeping the .pyc files is for; `slim` of serverless-python-requirements strips them."""
    compiled, _ = _packaged("downloader", HERE, own, tmp_path / "compiled", compiler=Path(sys.executable))
    plain, _ = _packaged("downloader", HERE, own, tmp_path / "plain", compiler=None)
    took: dict[Path, list[float]] = {compiled: [], plain: []}
    for _ in range(3):
        for task, seconds in took.items():
            before = os.times()
            _handled(task, {"warmup": True}, {"PYTHONDONTWRITEBYTECODE": "1"})
            after = os.times()
            seconds.append(
                after.children_user + after.children_system - before.children_user - before.children_system
            )
    assert min(took[compiled]) * 1.5 < min(took[plain])
