"""
`python -m bundling`: make the bundles, say what they weigh, fail where one weighs too much.

Run it in the checkout; `make bundle` does.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from packaging.utils import parse_wheel_filename

from bundling.contents import EVERYWHERE, FDK, FUNCTIONS, MB, OWN, TRIMMED, Contents
from bundling.tree import UnusableWheel, compiled_size, digest, replace_tree, settle, size, unpack
from bundling.wheels import Lock, Target, WheelsMissing, locked_wheels, newly_locked, own_wheel, pins

ROOT = Path(__file__).resolve().parents[1]
LOCK = Path(__file__).with_name("wheels.lock")
CACHE = ROOT / "build" / "wheels"
BUNDLE = "bundle"
COMPILE = Path(__file__).with_name("compile_in_image.py")
HEADING = "The wheels in the functions' images; made by `make bundle-lock`."
START = '''"""Start the FDK, as its own console script does; wheels that are unpacked get none."""

from fdk.scripts.fdk import main

main()
'''


def bundle(contents: Contents, target: Target, own: Path, place: Path, *, cache: Path = CACHE) -> None:
    """
    Make one function's bundle: in function/ its func.py, start.py and packages/, beside it what the build needs.

    Args:
        own: Our own wheel.
        place: The folder that it becomes; what was there is gone.

    Raises:
        WheelsMissing, UnusableWheel: see there.
    """
    versions = pins((ROOT / "constraints.txt").read_text(encoding="utf-8"), target)
    names = sorted((*FDK, *contents.distributions))
    wheels = locked_wheels(names, versions, target, Lock.read(LOCK), cache)
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".bundle-") as temporary:
        fresh = Path(temporary, BUNDLE)
        function = fresh / "function"
        (function / "packages").mkdir(parents=True)
        for name, wheel in ((OWN, own), *zip(names, wheels, strict=True)):
            unpack(wheel, function / "packages", without=(*EVERYWHERE, *TRIMMED.get(name, ())))
        (function / "func.py").write_bytes((ROOT / contents.func).read_bytes())
        (function / "start.py").write_text(START, encoding="utf-8")
        (function / "python-version").write_text(f"{target.python}\n", encoding="utf-8")
        shutil.copyfile(COMPILE, fresh / COMPILE.name)
        settle(fresh)
        replace_tree(fresh, place)


def report(contents: Contents, place: Path) -> bool:
    """Print what a bundle weighs; return whether that is little enough."""
    plain, compiled = size(place / "function"), compiled_size(place / "function")
    light = plain + compiled <= contents.limit_mb * MB
    verdict = "" if light else "  TOO LARGE"
    print(
        f"{contents.name:<13} {(plain + compiled) / MB:6.1f} MB of {contents.limit_mb} "
        f"({plain / MB:.1f} and about {compiled / MB:.1f} of .pyc)  {digest(place)[:16]}{verdict}",
        flush=True,
    )
    return light


def lock(target: Target) -> None:
    """Lock the wheels of a target; drop what constraints.txt does not pin any more."""
    versions = pins((ROOT / "constraints.txt").read_text(encoding="utf-8"), target)
    from bundling.packages import LAMBDA, RUNTIME_CLIENT  # which imports this module

    there = [contents.distributions for contents in FUNCTIONS.values()]
    there += [package.distributions for package in LAMBDA.values()]
    names = sorted({*FDK, *RUNTIME_CLIENT, *(name for distributions in there for name in distributions)})
    tags = target.tags()
    kept = {
        filename: sha256
        for filename, sha256 in Lock.read(LOCK).hashes.items()
        if not parse_wheel_filename(filename)[3] & tags
    }
    Lock({**kept, **dict(newly_locked(names, versions, target))}).write(LOCK, HEADING)


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bundling", description=__doc__)
    parser.add_argument("functions", nargs="*", help=f"of {', '.join(FUNCTIONS)}; all by default")
    parser.add_argument("--python", default="3.12", help="the image's CPython (default: 3.12, as Fn's own images)")
    parser.add_argument("--arch", default="x86_64", choices=("x86_64", "aarch64"))
    parser.add_argument("--into", type=Path, help="make FOLDER/FUNCTION/bundle, not each function's own bundle/")
    parser.add_argument("--lock", action="store_true", help="write wheels.lock for this Python and machine instead")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.functions) - set(FUNCTIONS))
    if unknown:
        parser.error(f"no function {', '.join(unknown)}; there are {', '.join(FUNCTIONS)}")
    target = Target(options.python, options.arch)
    try:
        if options.lock:
            lock(target)
            return 0
        print(f"bundles for CPython {target.python} on {target.arch}, glibc 2.28 or newer")
        light = []
        with tempfile.TemporaryDirectory() as temporary:
            own = own_wheel(ROOT, Path(temporary))
            for name in options.functions or FUNCTIONS:
                contents = FUNCTIONS[name]
                place = (options.into / name if options.into else ROOT / contents.folder) / BUNDLE
                bundle(contents, target, own, place)
                light.append(report(contents, place))
    except (WheelsMissing, UnusableWheel) as exc:
        print(f"bundling: {exc}", file=sys.stderr)
        return 1
    return 0 if all(light) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
