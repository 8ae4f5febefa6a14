"""
The wheels of a bundle: which files those are, and how they come here.

Versions are constraints.txt's; file names and hashes are wheels.lock's. pip fetches what the cache lacks and is
believed only if the hash holds, so neither the index nor the host's own Python decides what an image holds.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename

PIP_S = 600.0
GLIBC_MINORS = range(28, 4, -1)  # 2.28 is Oracle Linux 8's; 2.5 is manylinux1's
OWN_SOURCES = ("classy", "graphpipe_fn", "pyproject.toml", "README.md", "LICENSE", "NOTICE")


class WheelsMissing(RuntimeError):
    """A wheel is not locked, can't be fetched, or is not the locked one; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Target:
    """
    The image's interpreter and machine.

    Args:
        python: CPython's minor version, as `3.12`.
        arch: `x86_64` or `aarch64`.
    """

    python: str
    arch: str

    @property
    def platforms(self) -> list[str]:
        """Return the wheel platforms that glibc 2.28 can load, the best first."""
        return [f"manylinux_2_{minor}_{self.arch}" for minor in GLIBC_MINORS]

    def tags(self) -> frozenset[Tag]:
        """Return every wheel tag that suits."""
        version = tuple(int(part) for part in self.python.split("."))
        interpreter = f"cp{version[0]}{version[1]}"
        return frozenset(
            [
                *cpython_tags(version, platforms=self.platforms),
                *compatible_tags(version, interpreter, self.platforms),
            ]
        )

    def markers(self) -> dict[str, str]:
        """Return what environment markers ask of it."""
        return {
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
            "os_name": "posix",
            "sys_platform": "linux",
            "platform_system": "Linux",
            "platform_machine": self.arch,
            "python_version": self.python,
            "python_full_version": f"{self.python}.0",
        }


def pins(constraints: str, target: Target) -> dict[str, str]:
    """Return the versions that a constraints file pins for a target, by normalised name."""
    found: dict[str, str] = {}
    for line in constraints.splitlines():
        text = line.partition("#")[0].strip()
        if text:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({**target.markers(), "extra": ""}):
                (version,) = requirement.specifier
                found[canonicalize_name(requirement.name)] = version.version
    return found


@dataclass(frozen=True, slots=True)
class Lock:
    """File names and their SHA-256 in hex, as `sha256sum` writes them."""

    hashes: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> Lock:
        """Read a lock file; one that is not there locks nothing."""
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return cls({name: sha256 for sha256, name in (line.split() for line in lines if not line.startswith("#"))})

    def write(self, path: Path, heading: str) -> None:
        """Write it, sorted."""
        lines = (f"{sha256}  {name}\n" for name, sha256 in sorted(self.hashes.items()))
        path.write_text(f"# {heading}\n{''.join(lines)}", encoding="utf-8")

    def named(self, name: str, version: str, target: Target) -> str:
        """
        Return the file of a distribution for a target.

        Raises:
            WheelsMissing: there is none.
        """
        tags = target.tags()
        for filename in self.hashes:
            found, at, _, theirs = parse_wheel_filename(filename)
            if found == name and str(at) == version and theirs & tags:
                return filename
        raise WheelsMissing(
            f"wheels.lock has no {name} {version} for CPython {target.python} on {target.arch}; "
            f"`make bundle-lock BUNDLE_PYTHON={target.python} BUNDLE_ARCH={target.arch}` adds it"
        )


def locked_wheels(
    names: Iterable[str], versions: Mapping[str, str], target: Target, lock: Lock, cache: Path
) -> list[Path]:
    """
    Return the wheels of some distributions, fetched unless they are in the cache.

    Raises:
        WheelsMissing: see there.
    """
    found = []
    for name in names:
        filename = lock.named(name, versions[name], target)
        path = cache / filename
        if not path.exists():
            _fetch(f"{name}=={versions[name]}", target, cache)
        if not path.exists():
            raise WheelsMissing(
                f"pip found another wheel of {name} {versions[name]} than {filename}; look at its index"
            )
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        if sha256 != lock.hashes[filename]:
            path.unlink()
            raise WheelsMissing(f"{filename} has SHA-256 {sha256}, not {lock.hashes[filename]}; look at pip's index")
        found.append(path)
    return found


def newly_locked(names: Iterable[str], versions: Mapping[str, str], target: Target) -> Iterator[tuple[str, str]]:
    """Ask pip's index for each distribution's wheel; yield file names and hashes."""
    for name in names:
        with tempfile.TemporaryDirectory() as into:
            _fetch(f"{name}=={versions[name]}", target, Path(into))
            (path,) = Path(into).glob("*.whl")
            yield path.name, hashlib.sha256(path.read_bytes()).hexdigest()


def own_wheel(root: Path, into: Path) -> Path:
    """
    Build our own wheel.

    The sources are copied first: setuptools would pack what an earlier build left in `build/`, and leave its own.

    Raises:
        WheelsMissing: it can't be built.
    """
    with tempfile.TemporaryDirectory() as copy:
        for name in OWN_SOURCES:
            source = root / name
            if source.is_dir():
                shutil.copytree(source, Path(copy, name), ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy)
        _pip("wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={into}", copy, what="our own wheel")
    (wheel,) = into.glob("classy_fn-*.whl")
    return wheel


def _fetch(requirement: str, target: Target, into: Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    platforms = [f"--platform={platform}" for platform in target.platforms]
    choice = [f"--python-version={target.python}", "--implementation=cp", "--only-binary=:all:", "--no-deps"]
    _pip("download", *choice, *platforms, f"--dest={into}", requirement, what=requirement)


def _pip(command: str, *arguments: str, what: str) -> None:
    whole = [sys.executable, "-m", "pip", command, "--no-input", "--disable-pip-version-check", *arguments]
    try:
        done = subprocess.run(whole, capture_output=True, text=True, timeout=PIP_S, check=False)  # noqa: S603 - own words
    except subprocess.TimeoutExpired as exc:
        raise WheelsMissing(f"pip took longer than {PIP_S:g} s for {what}; check its index") from exc
    if done.returncode:
        raise WheelsMissing(f"pip {command} failed for {what}:\n{done.stderr.strip() or done.stdout.strip()}")
