"""
`python -m bundling.packages`: make the zips for AWS Lambda, say what they weigh, fail where one is too heavy.

They hold what the images hold but for the FDK, compiled by a CPython of the runtime's own minor version: /var/task is
read-only, so what is not compiled here is compiled at every cold start. The same inputs and the same CPython give the
same bytes. Run it in the checkout; `make package` does.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bundling.__main__ import CACHE, COMPILE, LOCK, ROOT
from bundling.contents import EVERYWHERE, FUNCTIONS, MB, OWN, TRIMMED
from bundling.interpreters import compiler_for
from bundling.tree import UnusableWheel, compiled_size, file_digest, replace_tree, settle, size, unpack
from bundling.wheels import Lock, Target, WheelsMissing, locked_wheels, own_wheel, pins

RUNTIMES = ("3.12", "3.13", "3.14")  # AWS's on Amazon Linux 2023; its 3.11 has glibc 2.26, too old for the wheels
ARCHITECTURES = {"x86_64": "x86_64", "arm64": "aarch64"}  # Lambda's names and the wheels'
PACKAGES = ROOT / "build" / "packages"
TASK = "task"  # /var/task
DOCKERFILE = ROOT / "deploy" / "aws" / "Dockerfile"
DATE = (1980, 1, 1, 0, 0, 0)
COMPILE_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """
    One function's zip.

    Args:
        files: What lies beside the packages, relative to the checkout.
        distributions: What is unpacked beside our own wheel; the runtime brings boto3.
        limit_mb: The most that it may weigh unzipped. Lambda's own limit is 262 MB.
    """

    name: str
    files: tuple[str, ...]
    distributions: tuple[str, ...]
    limit_mb: int


def _package(name: str, limit_mb: int) -> Package:
    # What the image holds, but for the FDK; Flask is behind serverless-wsgi here.
    folder = "classy" if name == "fused" else name
    files = (
        f"functions/{folder}/lambda_function.py",
        *(["functions/classy/sample.jpg"] if folder == "classy" else []),
    )
    gateway = ("serverless-wsgi",) if "flask" in FUNCTIONS[name].distributions else ()
    return Package(
        name=name, files=files, distributions=(*FUNCTIONS[name].distributions, *gateway), limit_mb=limit_mb
    )


# Lambda's runtimes bring it; a container image brings its own.
RUNTIME_CLIENT = ("awslambdaric", "simplejson", "snapshot-restore-py")
LIMITS_MB = {"classy": 100, "downloader": 100, "preprocessor": 120, "vgg": 200, "fused": 250}
LAMBDA = {name: _package(name, limit_mb) for name, limit_mb in LIMITS_MB.items()}


def task_folder(
    package: Package, target: Target, own: Path, place: Path, *, compiler: Path | None, also: tuple[str, ...] = ()
) -> None:
    """
    Make what lies at /var/task.

    Args:
        own: Our own wheel.
        place: The folder that it becomes; what was there is gone.
        compiler: A CPython of the target's minor version; None leaves the sources as they are.
        also: More distributions.

    Raises:
        WheelsMissing, UnusableWheel: see there.
        NotCompiled: a file can't be.
    """
    versions = pins((ROOT / "constraints.txt").read_text(encoding="utf-8"), target)
    names = sorted((*package.distributions, *also))
    wheels = locked_wheels(names, versions, target, Lock.read(LOCK), CACHE)
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".package-") as temporary:
        task = Path(temporary, TASK)
        task.mkdir()
        for name, wheel in ((OWN, own), *zip(names, wheels, strict=True)):
            unpack(wheel, task, without=(*EVERYWHERE, *TRIMMED.get(name, ())))
        for file in package.files:
            shutil.copyfile(ROOT / file, task / Path(file).name)
        (task / "python-version").write_text(f"{target.python}\n", encoding="utf-8")
        if compiler is not None:
            _compile(task, compiler)
        settle(task)
        replace_tree(task, place)


class NotCompiled(RuntimeError):
    """A CPython could not compile a package; the message is its own."""


def _compile(task: Path, compiler: Path) -> None:
    # -I: nothing of the caller's environment; a fixed hash seed besides, for whatever iterates over a set.
    command = [str(compiler), "-I", "-X", "utf8", str(COMPILE), str(task), "/var"]
    done = subprocess.run(  # noqa: S603 - own words
        command, env={"PYTHONHASHSEED": "0"}, capture_output=True, text=True, timeout=COMPILE_S, check=False
    )
    if done.returncode:
        raise NotCompiled(done.stderr.strip() or done.stdout.strip())


def image_folder(name: str, target: Target, own: Path, place: Path) -> None:
    """Make what deploy/aws/Dockerfile builds an image from: task/, with the runtime client, and what compiles it."""
    task_folder(LAMBDA[name], target, own, place / TASK, compiler=None, also=RUNTIME_CLIENT)
    shutil.copyfile(COMPILE, place / COMPILE.name)
    shutil.copyfile(DOCKERFILE, place / DOCKERFILE.name)


def write_zip(task: Path, place: Path) -> None:
    """Write a folder as a zip: the same bytes for the same folder and the same zlib."""
    place.unlink(missing_ok=True)
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        files = {path.relative_to(task).as_posix(): path for path in task.rglob("*") if path.is_file()}
        for name, path in sorted(files.items()):
            entry = zipfile.ZipInfo(name, DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, path.read_bytes())


def report(package: Package, task: Path, archive: Path, *, compiled: bool) -> bool:
    """Print what a package weighs; return whether that is little enough."""
    total = size(task) + (0 if compiled else compiled_size(task))
    light = total <= package.limit_mb * MB
    print(
        f"{package.name:<13} {total / MB:6.1f} MB of {package.limit_mb} unzipped, "
        f"{archive.stat().st_size / MB:5.1f} MB zipped  {file_digest(archive)[:16]}{'' if light else '  TOO LARGE'}",
        flush=True,
    )
    return light


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bundling.packages", description=__doc__)
    parser.add_argument("functions", nargs="*", help=f"of {', '.join(LAMBDA)}; all by default")
    parser.add_argument("--python", default="3.12", help=f"the runtime's CPython, of {', '.join(RUNTIMES)}")
    parser.add_argument("--arch", default="x86_64", choices=tuple(ARCHITECTURES))
    parser.add_argument("--compiler", type=Path, help="a CPython of that version (default: whichever is found)")
    parser.add_argument("--image", action="store_true", help="make what deploy/aws/Dockerfile builds, no zips")
    parser.add_argument("--into", type=Path, default=PACKAGES, help="folder (default: build/packages)")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.functions) - set(LAMBDA))
    if unknown:
        parser.error(f"no function {', '.join(unknown)}; there are {', '.join(LAMBDA)}")
    target = Target(options.python, ARCHITECTURES[options.arch])
    folder = options.into / f"python{target.python}-{options.arch}"
    compiler = compiler_for(target.python, options.compiler)
    print(f"packages for AWS Lambda's python{target.python} on {options.arch}, compiled by {compiler or 'nobody'}")
    if compiler is None:
        print(
            f"WARNING: there is no CPython {target.python} here, so every cold start compiles what it imports, "
            f"2 to 3.6 times as slow. Install one, name it with COMPILER=…, or set PACKAGE_PYTHON to one of "
            f"{', '.join(there) if (there := [one for one in RUNTIMES if compiler_for(one)]) else 'AWS’s runtimes'}.",
            file=sys.stderr,
        )
    if target.python not in RUNTIMES:
        print(f"note: AWS has no python{target.python} that these wheels run on; this is for a local cloud only")
    try:
        light = []
        with tempfile.TemporaryDirectory() as temporary:
            own = own_wheel(ROOT, Path(temporary))
            for name in options.functions or LAMBDA:
                if options.image:
                    image_folder(name, target, own, folder / f"{name}-image")
                    print(f"docker build --tag classy-{name} {folder / f'{name}-image'}", flush=True)
                    continue
                task, archive = folder / name / TASK, folder / f"{name}.zip"
                task_folder(LAMBDA[name], target, own, task, compiler=compiler)
                write_zip(task, archive)
                light.append(report(LAMBDA[name], task, archive, compiled=compiler is not None))
    except (WheelsMissing, UnusableWheel, NotCompiled) as exc:
        print(f"bundling: {exc}", file=sys.stderr)
        return 1
    if options.image:
        return 0
    # serverless.yml reads it, so that `serverless deploy` takes what was packaged last.
    latest = {"python": target.python, "arch": options.arch}
    (options.into / "latest.json").write_text(json.dumps(latest) + "\n", encoding="utf-8")
    return 0 if all(light) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
