"""CPythons of a minor version on this machine: only one of the runtime's own can compile for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ASK = "import sys; print(sys.implementation.name, '%d.%d' % sys.version_info[:2])"
ASK_S = 20.0


def compiler_for(python: str, given: Path | None = None) -> Path | None:
    """
    Return a CPython of a minor version; None where there is none.

    Args:
        python: As `3.12`.
        given: The only one that is looked at, if it is given.
    """
    candidates = [given] if given else _candidates(python)
    return next((path for path in candidates if _is_cpython(path, python)), None)


def _candidates(python: str) -> Iterator[Path]:
    yield Path(sys.executable)
    if on_path := shutil.which(f"python{python}"):
        yield Path(on_path)
    # A shim of pyenv's is on the PATH and refuses where that version is not chosen; the version itself works.
    pyenv = Path(os.environ.get("PYENV_ROOT", "") or Path.home() / ".pyenv")
    yield from sorted(pyenv.glob(f"versions/{python}.*/bin/python{python}"), reverse=True)
    if uv := shutil.which("uv"):
        try:
            found = subprocess.run(  # noqa: S603 - own words
                [uv, "python", "find", "--no-python-downloads", python],
                capture_output=True,
                text=True,
                timeout=ASK_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return
        if found.returncode == 0:
            yield Path(found.stdout.strip())


def _is_cpython(path: Path, python: str) -> bool:
    try:
        asked = subprocess.run(  # noqa: S603 - an interpreter that is here
            [str(path), "-I", "-c", ASK], capture_output=True, text=True, timeout=ASK_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.stdout.split() == ["cpython", python]
