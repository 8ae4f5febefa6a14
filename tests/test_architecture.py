"""The picture in docs/architecture.md, held against the imports of every module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("graphpipe_fn", "classy")
LINES_MAX, LINES_SHOWN, FUNC_LINES_MAX = 400, 300, 30


@dataclass(frozen=True)
class Import:
    """One import: the module's full name, and whether it runs when the importing module is imported."""

    name: str
    at_start: bool
    line: int


@cache
def modules() -> dict[str, Path]:
    """Return every module of the two packages by its dotted name."""
    paths = (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))
    named = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}
    return {name.removesuffix(".__init__"): path for name, path in named.items()}


@cache
def imports(path: Path) -> tuple[Import, ...]:
    """Return what a file imports, but for what only type checkers see."""
    return tuple(_imports(ast.parse(path.read_text()).body, at_start=True))


def _imports(nodes: list[ast.stmt], *, at_start: bool) -> Iterator[Import]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, at_start, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield Import(inner if inner in modules() else str(node.module), at_start, node.lineno)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _imports(node.orelse, at_start=at_start)
        else:
            inside = at_start and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.stmt):
                    yield from _imports([child], at_start=inside)
                elif isinstance(child, ast.ExceptHandler | ast.match_case):
                    yield from _imports(child.body, at_start=inside)


def within(name: str, *packages: str) -> bool:
    """Return whether a module is one of these, or inside one."""
    return any(name == package or name.startswith(package + ".") for package in packages)


# Whoever stands further right may import whoever stands further left, never the other way round. Modules that are
# not named here (the Models around Models, the command line) may import any of these and are imported by none.
LAYERS = [
    ("errors", "values"),
    ("messages",),
    ("model", "tensors", "deadline"),
    ("binding", "rows", "codec", "server_timing", "loading", "base64_text"),
    ("headers", "chain", "routed", "handover"),
    ("server", "client"),
    ("transports", "adapters"),
    ("remote", "aio"),
]
CORE = [f"graphpipe_fn.{name}" for layer in LAYERS[:6] for name in layer]
FOREIGN_TO_THE_CORE = (
    "boto3",
    "botocore",
    "fdk",
    "flask",
    "http",
    "httpcore",
    "obstore",
    "onnxruntime",
    "PIL",
    "requests",
    "socket",
    "socketserver",
    "ssl",
    "urllib",
    "werkzeug",
    "wsgiref",
)
HEAVY = ("numpy", "boto3", "botocore", "fdk", "flask", "PIL", "onnx", "onnxruntime", "obstore", "httpcore", "lmdb")

# Beside the function folders: who starts processes or reads a person's settings.
READ_THE_ENVIRONMENT = {
    "classy.cli": "the command line",
    "classy.ranges": "obstore takes a proxy from there",
    "graphpipe_fn.cli": "the command line",
    "graphpipe_fn.onnx_session": "a library that it loads takes one switch from there only",
}


def rank(name: str) -> int:
    """Return a module's place in LAYERS; beyond them all for the modules that are not named."""
    for place, layer in enumerate(LAYERS):
        if within(name, *(f"graphpipe_fn.{member}" for member in layer)):
            return place
    return len(LAYERS)


@pytest.mark.parametrize("name", [name for name in modules() if within(name, "graphpipe_fn")])
def test_the_librarys_arrows_point_one_way(name: str) -> None:
    """No module imports one of a higher layer, or of another part of its own."""
    for found in imports(modules()[name]):
        if not within(found.name, "graphpipe_fn") or found.name == "graphpipe_fn":
            continue
        part, other = name.split(".")[1:2], found.name.split(".")[1:2]
        where = f"{name}:{found.line} imports {found.name}"
        assert rank(found.name) <= rank(name), (
            f"{where}: turn the arrow round, or give that module its place in LAYERS"
        )
        if name != "graphpipe_fn" and rank(name) in (0, 1, 5, 6) and part != other:
            assert rank(found.name) < rank(name), f"{where}, which stands beside it"


@pytest.mark.parametrize("name", modules())
def test_the_library_does_not_know_the_application(name: str) -> None:
    """graphpipe_fn never imports classy, and neither imports the functions or the tests."""
    forbidden = ("functions", "tests", *(("classy",) if within(name, "graphpipe_fn") else ()))
    found = [found for found in imports(modules()[name]) if within(found.name, *forbidden)]
    assert found == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports at start form no circle, in either package."""
    arrows = {
        name: {found.name for found in imports(path) if found.at_start and found.name in modules()} - {name}
        for name, path in modules().items()
    }
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " → ".join((*path[path.index(name) :], name))
        if name not in done:
            for other in sorted(arrows[name]):
                visit(other, (*path, name))
            done.add(name)

    for name in sorted(arrows):
        visit(name, ())


@pytest.mark.parametrize("name", [name for name in modules() if within(name, *CORE)])
def test_the_core_knows_no_platform(name: str) -> None:
    """Messages, codec, server and client speak bytes; HTTP, sockets and SDKs are at the edges."""
    found = [found for found in imports(modules()[name]) if within(found.name, *FOREIGN_TO_THE_CORE)]
    assert found == []


@pytest.mark.parametrize(
    "name", [name for name in modules() if within(name, *CORE, "graphpipe_fn.transports", "graphpipe_fn.adapters")]
)
def test_nothing_heavy_is_imported_before_it_is_needed(name: str) -> None:
    """Imports are the cold start: numpy and SDKs come with the first call that needs them."""
    found = [found for found in imports(modules()[name]) if found.at_start and within(found.name, *HEAVY)]
    assert found == []


@pytest.mark.parametrize("name", modules())
def test_only_the_outermost_reads_the_environment(name: str) -> None:
    """Settings are read once, at the edge; no library code asks for a variable."""
    tree = ast.parse(modules()[name].read_text())
    used = [
        node.lineno
        for node in ast.walk(tree)
        if (
            isinstance(node, ast.Attribute)
            and node.attr in ("environ", "environb", "getenv", "putenv")
            and not ast.unparse(node).endswith("request.environ")  # WSGI's, of one request
        )
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and {a.name for a in node.names} & {"environ", "getenv"}
        )
    ]
    assert used == [] or name in READ_THE_ENVIRONMENT, f"{name} reads the environment in lines {used}"


@pytest.mark.parametrize("name", modules())
def test_a_module_can_be_read_in_one_sitting(name: str) -> None:
    """No module has over 400 lines; those over 300 are shown."""
    lines = len(modules()[name].read_text().splitlines())
    if lines > LINES_SHOWN:
        print(f"{name}: {lines} lines")
    assert lines <= LINES_MAX


@pytest.mark.parametrize("path", sorted((ROOT / "functions").glob("*/func.py")), ids=lambda path: path.parent.name)
def test_a_function_folder_wires_and_does_not_work(path: Path) -> None:
    """func.py builds one model and hands it to an adapter."""
    tree = ast.parse(path.read_text())
    assert len(path.read_text().splitlines()) <= FUNC_LINES_MAX
    assert [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.For | ast.While | ast.Try)] == []


def test_the_rules_see_what_they_forbid() -> None:
    """Imports are found in functions, branches and handlers; those for type checkers are skipped."""
    source = """
import a
from b import c
if TYPE_CHECKING:
    import d
else:
    import e
def f():
    import g
    try:
        import h
    except ImportError:
        import i
class J:
    import k
    def l(self):
        with x:
            from m import n
"""
    found = {(each.name, each.at_start) for each in _imports(ast.parse(source).body, at_start=True)}
    assert found == {
        ("a", True),
        ("b", True),
        ("e", True),
        ("g", False),
        ("h", False),
        ("i", False),
        ("k", True),
        ("m", False),
    }
    assert rank("graphpipe_fn.codec.reader") == rank("graphpipe_fn.codec") < rank("graphpipe_fn.server")
    assert len(modules()) > 40
