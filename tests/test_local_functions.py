"""Function folders: what func.yaml and app.yaml may say, and what is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from classy.local.functions import FunctionSpec, UnusableFolder, read_app, read_function

HEAD = "schema_version: 20180708\nname: f\n"


def _folder(tmp_path: Path, text: str) -> Path:
    (tmp_path / "func.yaml").write_text(text)
    return tmp_path


def test_defaults_are_fns(tmp_path: Path) -> None:
    """A func.yaml that says no more than it must gets Fn's own limits."""
    expected = FunctionSpec(name="f", folder=tmp_path.resolve())
    assert expected == read_function(_folder(tmp_path, HEAD))
    assert (expected.memory_mb, expected.timeout_s, expected.idle_timeout_s) == (128, 30, 30)


def test_every_field(tmp_path: Path) -> None:
    """All that a local run can use is read; what only a build needs is ignored."""
    text = f"""{HEAD}version: 0.0.7
runtime: python
build_image: fnproject/python:3.11-dev
entrypoint: /python/bin/fdk /function/other.py main
memory: 512
timeout: 60
idle_timeout: 120
config: {{A: 1, B: "x", C: true}}
annotations: {{own: [1]}}
triggers:
- {{name: t, type: http, source: /x}}
- {{name: u}}
"""
    expected = FunctionSpec(
        name="f",
        folder=tmp_path.resolve(),
        config={"A": "1", "B": "x", "C": "True"},
        memory_mb=512,
        timeout_s=60,
        idle_timeout_s=120,
        triggers={"t": "/x", "u": "/u"},
        version="0.0.7",
        file="other.py",
        handler="main",
        annotations={"own": [1]},
    )
    assert expected == read_function(_folder(tmp_path, text))
    assert expected.image == "local/f:0.0.7"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("- a list", "mapping"),
        ("a: b: c", "can't be read"),
        ("name: f", "schema_version"),
        ("schema_version: 20180708", "name"),
        (HEAD + "memory: 0", "memory"),
        (HEAD + "memory: 8193", "memory"),
        (HEAD + "memory: lots", "memory"),
        (HEAD + "timeout: true", "timeout"),
        (HEAD + "timeout: 301", "timeout"),
        (HEAD + "idle_timeout: 3601", "idle_timeout"),
        (HEAD + "config: [A]", "config"),
        (HEAD + "config: {A: [1]}", "config"),
        (HEAD + "triggers: [x]", "trigger"),
        (HEAD + "triggers: [{name: t, type: timer}]", "trigger"),
        (HEAD + "triggers: [{name: t, source: x}]", "trigger"),
        (HEAD + "entrypoint: node func.js", "entrypoint"),
    ],
)
def test_refusals_name_the_file_and_the_field(tmp_path: Path, text: str, named: str) -> None:
    """What can't be used is refused with the file's path and the field."""
    with pytest.raises(UnusableFolder) as caught:
        read_function(_folder(tmp_path, text))
    assert "func.yaml" in caught.value.message
    assert named in caught.value.message


def test_a_folder_without_func_yaml_is_refused(tmp_path: Path) -> None:
    """A folder that is no function's says so."""
    with pytest.raises(UnusableFolder, match="no such file"):
        read_function(tmp_path)


def test_app_yaml(tmp_path: Path) -> None:
    """An app.yaml gives the app's name and what all its functions get."""
    (tmp_path / "app.yaml").write_text("name: a\nconfig: {K: 1}\n")
    app = read_app(tmp_path / "app.yaml")
    assert (app.name, app.config) == ("a", {"K": "1"})
