"""
Compile a function's folder with the image's own Python: `compile_in_image.py FOLDER`, the build stage's one step.
For Lambda's zips a Python of the runtime's version runs it, and says where the folder will lie: `… FOLDER /var`.

The root is read-only where functions run, so what is not compiled here is compiled at every cold start. Unchecked:
no file's time is looked at, neither now nor then. It is copied into the bundle and imports nothing of ours.
"""

import compileall
import os
import py_compile
import sys

EPOCH_S = 315_532_800  # one time for every file: the same image layer from the same files


def main(folder: str, root: str = "/") -> None:
    """Compile everything, or say why this Python is not the bundle's."""
    have = f"{sys.version_info.major}.{sys.version_info.minor}"
    with open(os.path.join(folder, "python-version"), encoding="utf-8") as file:
        want = file.read().strip()
    if have != want:
        sys.exit(f"bundle/ is for CPython {want} and the base image has {have}: make bundle BUNDLE_PYTHON={have}")
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    above = os.path.dirname(folder)  # tracebacks name the files where they will lie: /function/…, /var/task/…
    if not compileall.compile_dir(
        folder, quiet=1, maxlevels=50, stripdir=above, prependdir=root, invalidation_mode=mode
    ):
        sys.exit("a file can't be compiled, see above")
    for place, _, names in os.walk(folder, topdown=False):
        for path in (*(os.path.join(place, name) for name in names), place):
            os.utime(path, (EPOCH_S, EPOCH_S))


if __name__ == "__main__":
    main(*sys.argv[1:])
