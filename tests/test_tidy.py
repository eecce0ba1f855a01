"""The limits of the house, checked on the source as text and as a syntax tree. Limits only ever go down."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("choreo", "services", "schemas", "bench", "tests")

FUNCTION_LINES = 50
CLASS_LINES = 250
MODULE_LINES = 400
HEAD_LINES = 8

# Spelt in classes of one letter, so that this file passes its own check.
LEFTOVERS = re.compile(r"\b(?:[F]IXME|[T]ODO|[H]ACK|[X]XX)\b|[N]otImplementedError")
MACHINE_PATHS = re.compile(r"(?<![\w.])/(?:work|root|home/\w+|tmp/\w+)/")

# fmt: off
CORE_MAY_IMPORT = frozenset({
    "__future__", "abc", "bisect", "choreo", "collections", "dataclasses", "datetime", "decimal", "difflib", "enum",
    "fractions", "functools", "graphlib", "hashlib", "heapq", "inspect", "itertools", "json", "math", "msgspec",
    "operator", "re", "string", "textwrap", "types", "typing", "uuid",
})
# fmt: on
CORE_MAY_NOT_CALL = frozenset({"now", "utcnow", "today", "uuid1", "uuid4"})


def sources(*folders: str) -> list[Path]:
    """Return every Python file of these folders."""
    return [
        path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")) if "__pycache__" not in path.parts
    ]


def named(path: Path) -> str:
    """Return the path as the failing test shows it."""
    return str(path.relative_to(ROOT))


def lines_of(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    """Return how many lines a definition takes, decorators and docstring included."""
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return (node.end_lineno or node.lineno) - first + 1


def too_long(tree: ast.Module) -> Iterator[str]:
    """Yield a sentence for each function and class above its limit."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and lines_of(node) > FUNCTION_LINES:
            yield f"line {node.lineno}: {node.name}() has {lines_of(node)} lines, at most {FUNCTION_LINES}"
        if isinstance(node, ast.ClassDef) and lines_of(node) > CLASS_LINES:
            yield f"line {node.lineno}: class {node.name} has {lines_of(node)} lines, at most {CLASS_LINES}"


def imported(tree: ast.Module) -> Iterator[str]:
    """Yield the top-level name of every module imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def called(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Yield the last name of every call, with the call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute):
                yield node.func.attr, node
            if isinstance(node.func, ast.Name):
                yield node.func.id, node


def waits(call: ast.Call) -> bool:
    """Return whether a call waits: sleep(0) only lets other tasks run; anything else waits."""
    return not (call.args and isinstance(call.args[0], ast.Constant) and call.args[0].value == 0)


@pytest.mark.parametrize("path", sources(*FOLDERS), ids=named)
def test_a_module_is_short_and_says_at_its_head_what_it_knows(path: Path) -> None:
    """A file fits in the head: its length, its definitions, its rule in 1–8 lines at the top."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    head = ast.get_docstring(tree) or ""
    assert len(text.splitlines()) <= MODULE_LINES
    assert 1 <= len(head.splitlines()) <= HEAD_LINES, "the module docstring has 1 to 8 lines"
    assert not list(too_long(tree))


@pytest.mark.parametrize("path", sources(*FOLDERS), ids=named)
def test_a_module_leaves_nothing_for_later_and_names_no_machine(path: Path) -> None:
    """Work is done or an issue, and a path of one machine is of no use on another."""
    text = path.read_text(encoding="utf-8")
    assert not LEFTOVERS.findall(text)
    assert not MACHINE_PATHS.findall(text)


@pytest.mark.parametrize("path", sources("choreo/core"), ids=named)
def test_the_core_imports_values_only(path: Path) -> None:
    """Same input, same output: the core has no clock, no chance and no I/O to reach for."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not set(imported(tree)) - CORE_MAY_IMPORT
    assert not {name for name, _ in called(tree)} & CORE_MAY_NOT_CALL


@pytest.mark.parametrize("path", sources("tests"), ids=named)
def test_a_test_waits_for_facts_not_for_time(path: Path) -> None:
    """A sleep is too short on a busy machine and too long on every other; a mock of our own code tests the mock."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not [call.lineno for name, call in called(tree) if name == "sleep" and waits(call)]
    assert "unittest" not in set(imported(tree))


@pytest.mark.parametrize("path", sources("choreo/wiring"), ids=named)
def test_wiring_names_a_backend_only_in_its_table(path: Path) -> None:
    """Another backend or store is a package, a setting and a line in `backends.py`: nothing else asks which it is."""
    if path.name == "backends.py":
        return
    adapters = ROOT / "choreo" / "adapters"
    backends = {found.parent.name for name in ("backend", "stores") for found in adapters.glob(f"*/{name}.py")}
    assert {"kafka", "memory", "postgres", "redis", "sqlite"} <= backends
    tree = ast.parse(path.read_text(encoding="utf-8"))
    words = {
        word
        for node in ast.walk(tree)
        for name in (
            [node.attr]
            if isinstance(node, ast.Attribute)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
        for word in name.split(".")
    }
    assert not words & backends


def test_a_script_of_the_tests_hides_no_module_of_python() -> None:
    """A program's folder is searched first: beside a `numbers.py` nothing could be imported that needs Python's own."""
    assert not [path for path in (ROOT / "tests").rglob("*.py") if path.stem in sys.stdlib_module_names]


def test_the_lock_files_name_no_index() -> None:
    """A lock that names the index it was made with does not install elsewhere."""
    for lock in ROOT.glob("requirements*.lock"):
        text = lock.read_text(encoding="utf-8")
        assert "://" not in text
        assert "--hash=sha256:" in text


def private_names() -> frozenset[str]:
    """Return the private names that choreo defines: functions, classes and attributes."""
    names: set[str] = set()
    for node in (node for path in sources("choreo") for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return frozenset(name for name in names if name.startswith("_") and not name.startswith("__"))


def test_tests_touch_nothing_private() -> None:
    """A test that reaches inside breaks when the inside moves, and shows nothing that a user sees."""
    names = private_names() - {"_replace", "_asdict"}  # of named tuples, which are public
    found = [
        f"{named(path)}:{node.lineno} {ast.unparse(node)}"
        for path in sources("tests")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in names
        if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    ]
    assert not found, "`choreo.testing.faults` makes faults on purpose:\n" + "\n".join(found)
