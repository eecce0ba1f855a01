"""A reader of the documentation: writes a page's files, types its commands, compares the output.

Knows the marks that a page puts above its fences (`MARKS`).
"""

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.patience import PATIENCE_S

MARKS = {
    "snippet": "FILE: the fence is the content of this file",
    "append": "FILE: the fence comes at the end of this file",
    "run": "the fence is typed in a shell; `until`: again, until it prints the next fence; `background`: it goes on",
    "prints": "each line stands in the output of the command above, where … stands for anything",
    "commands": "NAME: a test of its own types it",
    "example": "WHY: nobody types it, for this reason",
}
"""Written as an HTML comment in the line above: `<!-- run: until -->`."""

READY = "Ctrl-C stops."
_PAUSE_S = 0.05

_FENCE = re.compile(
    r"(?:^(?P<indent> *)<!-- (?P<kind>\w+)(?:: (?P<argument>[^\n]*?))? -->\n)?"
    r"^(?P<inner> *)```(?P<language>[\w-]*)[^\n]*\n(?P<text>.*?)^ *```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A fence of a page, and the instruction in its comment."""

    kind: str
    argument: str
    language: str
    text: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    """Return the fences of a page, in their order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            found["kind"] or "",
            found["argument"] or "",
            found["language"],
            re.sub(rf"^{found['inner']}", "", found["text"], flags=re.MULTILINE),
            text.count("\n", 0, found.start()) + 1,
        )
        for found in _FENCE.finditer(text)
    ]


class Reader:
    """Somebody in front of a shell, in a folder."""

    def __init__(self, folder: Path, variables: Mapping[str, str], replaced: Mapping[str, str] | None = None) -> None:
        """Replace addresses: `replaced` maps a page's addresses to the test's."""
        self.folder = folder
        self._variables = dict(variables)
        self._replaced = dict(replaced or {})
        self._groups: list[int] = []
        self._background: subprocess.Popen[bytes] | None = None

    def follows(self, page: Path) -> int:
        """Follow the page from its begin to its end; return how many blocks it were."""
        output, done = "", 0
        blocks = blocks_of(page)
        for block, after in zip(blocks, [*blocks[1:], None], strict=True):
            where = f"{page.name}:{block.line}"
            match block.kind:
                case "snippet" | "append":
                    self.writes(block.argument, block.text, append=block.kind == "append")
                case "run" if block.argument == "until":
                    assert after is not None, f"{where}: until what?"
                    output = self.sees(block.text, after.text)
                case "run" if block.argument == "background":
                    self.starts(block.text)
                case "run":
                    output = self.types(block.text)
                case "prints":
                    missing = self.misses(block.text, output)
                    assert not missing, f"{where}: {missing[0]!r} was not printed:\n{output}"
                case _:
                    continue
            done += 1
        return done

    def goes_to(self, folder: str) -> None:
        """Change the folder, as `cd` does."""
        self.folder /= folder

    def writes(self, name: str, text: str, *, append: bool = False) -> None:
        """Write a file, or more at the end of one."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a" if append else "w", encoding="utf-8") as file:
            file.write(text)

    def types(self, script: str, *, fails: bool = False) -> str:
        """Run it and return its output; processes in the background go on."""
        shell, output = self._shell(script)
        code = shell.wait(PATIENCE_S)
        printed = output.read_text()
        assert fails or code == 0, f"{script}{printed}"
        return printed

    def starts(self, command: str) -> None:
        """Start a command that goes on, and wait until it is ready; the one before is stopped."""
        if self._background:
            self.ends()
        self._background, self._output = self._shell(f"exec {command}")
        self.hears(READY)

    def hears(self, text: str, *, times: int = 1) -> None:
        """Wait until the command in the background has printed this."""
        assert self._background is not None
        give_up_s = time.monotonic() + PATIENCE_S
        while (printed := self._output.read_text()).count(text) < times:
            assert self._background.poll() is None, printed
            assert time.monotonic() < give_up_s, printed
            with suppress(subprocess.TimeoutExpired):
                self._background.wait(_PAUSE_S)

    def ends(self) -> int:
        """Stop the command in the background; return its exit code."""
        assert self._background is not None
        self._background.terminate()
        return self._background.wait(PATIENCE_S)

    def sees(self, command: str, expected: str) -> str:
        """Type it again and again until it prints this; return the output."""
        give_up_s = time.monotonic() + PATIENCE_S
        while self.misses(expected, printed := self.types(command, fails=True)):
            assert time.monotonic() < give_up_s, f"waited in vain for {expected!r}: {printed}"
        return printed

    def misses(self, expected: str, printed: str) -> list[str]:
        """Return the lines that were not printed; blanks count once."""
        for written, meant in self._replaced.items():
            expected = expected.replace(written, meant)
        shown = " ".join(printed.split())
        lines = [" ".join(line.split()) for line in expected.splitlines()]
        return [line for line in lines if line and not re.search(".*?".join(map(re.escape, _parts(line))), shown)]

    def leaves(self) -> None:
        """Stop processes left in the background."""
        for group in self._groups:
            try:
                os.killpg(group, signal.SIGTERM)
            except ProcessLookupError:
                continue

    def _shell(self, script: str) -> tuple[subprocess.Popen[bytes], Path]:
        for written, meant in self._replaced.items():
            script = script.replace(written, meant)
        output = self.folder / f".output-{len(self._groups)}.txt"
        with output.open("wb") as stream:
            shell = subprocess.Popen(
                ["/bin/bash", "-euo", "pipefail", "-c", script],
                cwd=self.folder,
                env=self._variables,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        self._groups.append(shell.pid)
        return shell, output


def _parts(line: str) -> list[str]:
    return [part.strip() for part in line.split("…")]
