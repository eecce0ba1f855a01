"""Write files of a project whole or not at all: a full disk or a killed process leaves no half of one behind.

A half-written contract would keep every process of the project from starting.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

CANNOT_BE_WRITTEN = "Free disk space, or name a folder you may write to."


def write_whole(path: Path, text: str, *, new: bool = False) -> None:
    """Write the text in UTF-8 to a file, which has its old content or the new one at every moment.

    With `new` the file must not exist. Raises OSError with the file's name, FileExistsError.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        if new:
            path.open("x").close()
        elif path.exists():
            draft.chmod(path.stat().st_mode & 0o7777)
        draft.replace(path)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        with suppress(OSError):
            draft.unlink()
