from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent
README = (CHECKOUT / "README.md").read_text()
MAKEFILE = (CHECKOUT / "Makefile").read_text()


def test_the_python_in_the_readme_prints_what_it_says() -> None:
    """Who pastes it gets the same."""
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (said,) = re.findall(r"It prints `(.*?)` and `(.*?)`", README)
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout.splitlines(), done.stderr) == (list(said), "")


@pytest.mark.parametrize("target", sorted(set(re.findall(r"^make ([a-z-]+)$", README, re.MULTILINE))))
def test_every_make_command_of_the_readme_is_there(target: str) -> None:
    """A renamed target would leave the reader with an error."""
    assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(((?!https?:)[^)#]+)\)", README))))
def test_every_link_leads_somewhere(path: str) -> None:
    """Pages that are named exist."""
    assert (CHECKOUT / path).exists()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(CLASSY_[A-Z_]+)[`=]", README))))
def test_every_setting_that_is_named_is_one(name: str) -> None:
    """A typing mistake in the README is one in a user's shell."""
    assert f"`{name}`" in (CHECKOUT / "docs" / "settings.md").read_text()
