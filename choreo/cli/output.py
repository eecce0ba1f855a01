"""Print answers: tables for people, JSON for programs. The only writer to stdout.

JSON is one document, or one line an item for streams; its fields are those of the REST view and stay. Text from the log
has its control characters escaped, so that a payload cannot drive a terminal.
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from choreo.cli.failures import PIPE_CLOSED
from choreo.core.wording import counted

WIDE = 100_000
"""Table width where stdout is no terminal: nothing is cut for a program that reads the table."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class ClosedPipeError(Exception):
    """The reader of stdout has closed the pipe, as `head` does: nobody reads the output."""


class Format(StrEnum):
    """The forms of an answer."""

    TABLE = "table"
    JSON = "json"


Output = Annotated[Format, typer.Option("--output", "-o", help="A table for people, or JSON.")]
"""The option that every command has."""


def write(text: str) -> None:
    """Print this text and a newline; raises ClosedPipeError."""
    try:
        sys.stdout.write(f"{text}\n")
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding
        sys.stdout.write(f"{text.encode(encoding, 'backslashreplace').decode(encoding)}\n")
    except BrokenPipeError as error:
        raise ClosedPipeError from error


def remark(text: str) -> None:
    """Print a line on stderr: a remark for people beside the answer."""
    sys.stderr.write(f"{plain(text)}\n")
    sys.stderr.flush()


def flush() -> None:
    """Flush stdout, so that its reader gets the output now; raises ClosedPipeError."""
    try:
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise ClosedPipeError from error


def let_go() -> int:
    """Give the interpreter a stdout that it can flush at its exit; return the exit code."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    return PIPE_CLOSED


def document(value: Any) -> None:
    """Print one JSON document."""
    import msgspec  # noqa: PLC0415 - only answers in JSON need it, --help does not

    write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def line(value: Any) -> None:
    """Print one JSON value on a line of its own, at once: an item of a stream."""
    import msgspec  # noqa: PLC0415 - only answers in JSON need it, --help does not

    write(msgspec.json.encode(value).decode())
    flush()


def frozen_files(written: Sequence[Path], unchanged: str, output: Format) -> None:
    """Print the files that a freeze has written; `unchanged` tells that there was nothing to write."""
    if output is Format.JSON:
        document({"written": [str(path) for path in written]})
        return
    for path in written:
        write(f"wrote {path}")
    count, them = counted(len(written), "file"), "it" if len(written) == 1 else "them"
    write(f"{count} written; commit {them}." if written else unchanged)


def plain(text: object) -> str:
    """Return the text with control characters and direction marks as escapes."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, styles: Sequence[str] = ()) -> None:
    """Print a table; a terminal gets its own width and, unless NO_COLOR is set, styles (Rich's, one a row)."""
    from rich import box  # noqa: PLC0415 - 60 ms that only a table needs
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    shown = Table(box=box.SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False, header_style="bold")
    for name in columns:
        shown.add_column(name, overflow="fold")
    for number, row in enumerate(rows):
        style = styles[number] if number < len(styles) else ""
        shown.add_row(*(Text(plain(cell)) for cell in row), style=style)
    write(rendered(shown))


def rendered(shown: Any) -> str:
    """Return a Rich renderable as text: coloured for a terminal, plain and uncut for anything else."""
    from rich.console import Console  # noqa: PLC0415 - 60 ms that only a table needs

    tty = sys.stdout.isatty()
    buffer = io.StringIO()
    Console(file=buffer, force_terminal=tty, width=None if tty else WIDE, highlight=False).print(shown)
    return "\n".join(text.rstrip() for text in buffer.getvalue().rstrip("\n").split("\n"))
