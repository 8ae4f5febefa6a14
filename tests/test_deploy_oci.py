"""
Oracle's side of the deployment, as far as it can be held without Terraform and an account.

No package registry has Terraform, so a parser reads the files: every reference leads somewhere, every argument is
one that Oracle's provider knows (Pulumi's package is generated from that provider's schema), and what is said twice
is the same.
"""

from __future__ import annotations

import ast
import re
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from packages import wheel
from terraform_files import META, Block, blocks, references, texts

from bundling.contents import FUNCTIONS
from classy.local.functions import read_app, read_function
from classy.settings import Settings

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deploy" / "oci"
MEMORY_MB = {128, 256, 512, 1024, 2048, 3072}  # Oracle's choice
SCHEMA = ("pulumi-oci==5.5.0", "f7f5ff1fe0d1594df77f908971362b0b379c213037b5a1f9dd5fee9b42377446")


def resources() -> list[Block]:
    return [block for block in blocks(FOLDER) if block.kind == "resource"]


def named(address: str) -> Block:
    (found,) = (block for block in blocks(FOLDER) if block.address == address)
    return found


def local(name: str) -> Any:
    (value,) = (block.body[name] for block in blocks(FOLDER) if block.kind == "locals" and name in block.body)
    return value


def test_every_reference_leads_somewhere_and_everything_named_is_used() -> None:
    """A renamed resource or a variable that nothing reads would only show at a user's `terraform plan`."""
    every = blocks(FOLDER)
    there = {block.address for block in every if block.kind in ("resource", "data", "variable")}
    there |= {f"local.{name}" for block in every if block.kind == "locals" for name in block.body}
    used = {reference for block in every for reference in references(block)} - {"each.key", "each.value"}
    assert used - there == set()
    assert {name for name in there if name.startswith(("var.", "local.", "data."))} - used == set()


@pytest.mark.parametrize(
    ("topology", "names"), [("four", ("classy", "downloader", "preprocessor", "vgg")), ("fused", ("fused",))]
)
def test_oracles_functions_are_func_yamls(topology: str, names: tuple[str, ...]) -> None:
    """Names, images, memory and timeouts are what `fn deploy` would give the same functions."""
    found = re.findall(
        r'"?([\w-]+)"?\s*[=:]\s*\{\s*image = "([\w-]+)",\s*memory_mb = (\d+),\s*timeout_s = (\d+)\s*\}',
        str(local(topology)),
    )
    expected = []
    for name in names:
        spec = read_function(ROOT / FUNCTIONS[name].folder)
        called = "classy-func" if name == "fused" else spec.name
        expected.append((called, spec.name, str(spec.memory_mb), str(spec.timeout_s)))
        assert spec.memory_mb in MEMORY_MB
    assert sorted(found) == sorted(expected)


def test_the_defaults_are_the_checkouts() -> None:
    """The application's name is app.yaml's, the tag func.yaml's, the model the settings'."""
    defaults = {block.labels[0]: block.body.get("default") for block in blocks(FOLDER) if block.kind == "variable"}
    assert defaults["name"] == read_app(ROOT / "app.yaml").name
    assert defaults["image_tag"] == read_function(ROOT).version
    assert (defaults["model"], defaults["language"]) == (Settings().model, Settings().language)


def test_every_setting_that_functions_get_is_one() -> None:
    """Settings.from_env() would refuse another name, at the first call."""
    keys = {
        match
        for name in ("shared", "apart", "front")
        for match in re.findall(r"(?:CLASSY|AWS)_[A-Z_]+", str(local(name)))
    }
    known = {line.split("`")[1] for line in Settings.table().splitlines()[2:]}
    assert len(keys) >= 10
    assert {key for key in keys if not key.endswith("_")} <= known


def test_the_rule_fires_for_uploads_to_the_inbox_and_the_bucket_says_so() -> None:
    """Both must be on: the rule waits in vain where the bucket keeps its events to itself."""
    rule = named("oci_events_rule.uploads").body
    assert "com.oraclecloud.objectstorage.createobject" in rule["condition"]
    assert "local.buckets.inbox" in rule["condition"]
    assert rule["actions"][0]["actions"][0]["action_type"] == "FAAS"
    assert named("oci_objectstorage_bucket.classy").body["object_events_enabled"] == '${each.key == "inbox"}'


def test_a_result_never_triggers_the_rule_that_made_it() -> None:
    """Inbox and results are two buckets; one would classify its own answers for ever."""
    assert len({*local("buckets").values()}) == 3


def test_nobody_may_do_more_than_classy_does() -> None:
    """No statement spans the tenancy, and none lets anything be deleted."""
    statements = [
        text
        for block in resources()
        if block.labels[0] == "oci_identity_policy"
        for text in texts(block.body["statements"])
    ]
    assert len(statements) >= 4
    for statement in statements:
        assert " in compartment id ${var.compartment_id}" in statement
        assert not re.search(r"all-resources|any-user|DELETE|manage (?!objects)", statement)
        if " manage objects " in statement:
            assert "request.permission = 'OBJECT_CREATE'" in statement


def test_every_variable_says_what_it_is() -> None:
    """And the example sets each that has no default."""
    variables = [block for block in blocks(FOLDER) if block.kind == "variable"]
    example = (FOLDER / "terraform.tfvars.example").read_text()
    assert all(block.body.get("description") and block.body.get("type") for block in variables)
    required = {block.labels[0] for block in variables if "default" not in block.body}
    assert required == set(re.findall(r"^(\w+) +=", example, re.MULTILINE))


@cache
def _schema(service: str, module: str) -> dict[str, tuple[frozenset[str], frozenset[str]]]:
    """Return the arguments of each class in a module of the schema package: all, and those that must be given."""
    with zipfile.ZipFile(wheel(SCHEMA[0], SCHEMA[1], pure=True)) as archive:
        source = archive.read(f"pulumi_oci/{service}/{module}.py").decode()
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and node.name.endswith("Args") and not node.name.startswith("_"):
            (init,) = (item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__")
            names = [argument.arg for argument in (*init.args.args[1:], *init.args.kwonlyargs)]
            defaults = [*init.args.defaults, *(default for default in init.args.kw_defaults if default is not None)]
            found[node.name.removesuffix("Args")] = (frozenset(names), frozenset(names[: len(names) - len(defaults)]))
    return found


def _faults(service: str, kind: str, body: dict[str, Any], where: str, schema: dict[str, Any]) -> Iterator[str]:
    known, needed = schema[kind]
    blocks_here = {
        name: inner
        for name, inner in body.items()
        if isinstance(inner, list) and inner and isinstance(inner[0], dict)
    }
    dynamic = {
        label.strip('"'): inner["content"]
        for entry in blocks_here.pop("dynamic", [])
        for label, inner in entry.items()
    }
    blocks_here |= dynamic
    plain = {_plural(name, known) for name in body if name not in META | {"dynamic"}} | {
        _plural(name, known) for name in dynamic
    }
    yield from (f"{where} has no {name}" for name in plain - known)
    yield from (f"{where} lacks {name}" for name in needed - plain)
    nested = _schema(service, "_inputs")
    for name, entries in blocks_here.items():
        inner = next((kind + camel for camel in _camels(name) if kind + camel in nested), None)
        if inner is None:
            yield f"{where}.{name} is no block"
            continue
        for entry in entries:
            yield from _faults(service, inner, entry, f"{where}.{name}", nested)


def _plural(name: str, known: frozenset[str]) -> str:
    """Return a block's name as the schema package has it: repeated blocks are lists there."""
    return next((other for other in (name, f"{name}s", name.removesuffix("s")) if other in known), name)


def _camels(name: str) -> list[str]:
    camel = "".join(word.capitalize() for word in name.split("_"))
    return [camel, camel.removesuffix("s"), camel.removesuffix("ies") + "y"]


@pytest.mark.slow
@pytest.mark.parametrize("block", resources(), ids=lambda block: block.address)
def test_every_argument_is_one_that_oracles_provider_has(block: Block) -> None:
    """What `terraform validate` would say first: no unknown argument, none missing."""
    service, _, name = block.labels[0].removeprefix("oci_").partition("_")
    schema = _schema(service, name)
    kind = "".join(word.capitalize() for word in name.split("_"))
    assert list(_faults(service, kind, block.body, block.address, schema)) == []
