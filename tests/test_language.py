"""The project's language, measured: docstrings, comments and documents in plain English with the field's words.

Three counts over the source as text. Limits only ever fall: lower one when a change allows it, never raise it.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

RELATIVE_WORDS_PER_1000 = {"choreo": 1.0, "tests": 2.5}
"""Of "who" and "what" in their forms, over docstrings and comments: seven admired projects have 0 to 1.7."""
VERBS_FIRST = 0.99
"""Share of the function docstrings of choreo/ that begin with a verb ("Return the partition of a key.")."""
PLACES = ("choreo", "services", "schemas", "bench", "tests", "docs", "README.md", "CHANGELOG.md")
"""Folders and files without a sentence that begins with a banned word or holds a banned phrase."""

RELATIVE = re.compile(r"\b(?:who|whom|whose|whoever|what|whatever)\b", re.IGNORECASE)
WORD = re.compile(r"[A-Za-z']+")
OPENER = re.compile(r"(?:^|(?<=[.:;!?] )|(?<=\n\n))(?:What|Who|Whose|Whoever|Whatever|That)\b")
PHRASE = re.compile(
    r"\b(?:is|are|was|were) (?:said|told)\b|\bread back\b|\bin hand\b|\bits own witness\b", re.IGNORECASE
)
QUOTED = re.compile(r"```.*?```|`[^`\n]*`|\"[^\"\n]*\"", re.DOTALL)

VERBS = frozenset((ROOT / "tests/support/verbs.txt").read_text(encoding="utf-8").split())
"""The base form of each verb that a docstring of this project may begin with."""


def sources(folder: str) -> list[Path]:
    """Return every Python file below a folder of the project."""
    return [path for path in sorted((ROOT / folder).rglob("*.py")) if "__pycache__" not in path.parts]


def docstrings(tree: ast.Module) -> Iterator[tuple[ast.AST | None, str]]:
    """Yield each docstring with the node it describes; None for the text below an attribute or a constant."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if text := ast.get_docstring(node):
                yield node, text
            for part in node.body[1:]:
                value = part.value if isinstance(part, ast.Expr) else None
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield None, value.value


def comments(text: str) -> Iterator[str]:
    """Yield each block of comment lines as one text."""
    block: list[str] = []
    last = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            if block and token.start[0] != last + 1:
                yield "\n".join(block)
                block = []
            block.append(token.string.lstrip("#!: "))
            last = token.start[0]
    if block:
        yield "\n".join(block)


def prose(path: Path) -> list[str]:
    """Return the texts of a file: its docstrings and comments, or the paragraphs of a document."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return [*(text for _, text in docstrings(ast.parse(text))), *comments(text)]
    return [re.sub(r"\s*\n\s*", " ", part).lstrip("#->*|0123456789. ") for part in QUOTED.sub("x", text).split("\n\n")]


def offences(path: Path) -> Iterator[str]:
    """Yield each banned opener and phrase of a file, with some text behind it."""
    for text in prose(path):
        flat = QUOTED.sub("x", text)
        flat = re.sub(r"(?<!\n)\n(?!\n)", " ", flat)
        for pattern in (OPENER, PHRASE):
            for found in pattern.finditer(flat):
                yield f"{path.relative_to(ROOT)}: {flat[found.start() : found.start() + 60]!r}"


@pytest.mark.parametrize("folder", RELATIVE_WORDS_PER_1000)
def test_who_and_what_are_rare(folder: str) -> None:
    """A relative clause without a noun makes the reader search for the noun."""
    texts = [text for path in sources(folder) for text in prose(path)]
    words = sum(len(WORD.findall(text)) for text in texts)
    found = sum(len(RELATIVE.findall(text)) for text in texts)
    assert 1000 * found / words <= RELATIVE_WORDS_PER_1000[folder], f"{1000 * found / words:.2f} of {words} words"


def test_a_functions_docstring_begins_with_a_verb() -> None:
    """The first word says that something is done: return, write, raise, wait."""
    firsts = [
        text.split()[0].strip(".,:;").lower()
        for path in sources("choreo")
        for node, text in docstrings(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    verbs = sum(word in VERBS for word in firsts)
    assert verbs / len(firsts) >= VERBS_FIRST, f"{verbs} of {len(firsts)}"


@pytest.mark.parametrize("place", PLACES)
def test_sentences_have_a_subject(place: str) -> None:
    """Each sentence has a subject that acts: a noun opens it, and its verb is active."""
    root = ROOT / place
    paths = [root] if root.is_file() else [*sources(place), *sorted(root.rglob("*.md"))]
    found = [offence for path in paths for offence in offences(path)]
    assert not found, "\n".join([f"{len(found)} sentences:", *found])
