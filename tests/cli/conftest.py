"""The command line as tests call it: in this process, in the folder of a small project, with a storage of its own."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from choreo.cli.program import run
from choreo.settings import load
from choreo.wiring import App, open_app

T = TypeVar("T")
DESK = Path(__file__).parent / "desk"
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Answer:
    """The result of a call."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Return the one document that was printed."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """Return the JSON lines that were printed."""
        return [json.loads(text) for text in self.out.splitlines()]


class Desk:
    """The project, and the command line called in it."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        self.folder = folder
        """Where its storage and its frozen schemas are."""

    def __call__(self, *arguments: str, stdin: bytes = b"") -> Answer:
        """Call `choreo` with these arguments."""
        self._capsys.readouterr()
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = run(arguments)
        return replace(self.printed(), code=code)

    def printed(self) -> Answer:
        """Return the output since the last call, which did not return."""
        printed = self._capsys.readouterr()
        return Answer(-1, printed.out, printed.err)

    def within(self, work: Callable[[App], Awaitable[T]]) -> T:
        """Do this with the opened project."""

        async def opened() -> T:
            async with open_app(load()) as app:
                return await work(app)

        return asyncio.run(opened())

    def opened(self, key: str, *, seated: bool = False) -> None:
        """Put a ticket of that key into the log and the read model; seated: its first step is done."""

        async def work(app: App) -> None:
            await app.publisher.publish("desk", {"ticket_id": key}, type_="TicketOpened")
            if seated:
                await app.publisher.publish("desk", {"ticket_id": key}, type_="SeatTaken", force=True)

        self.within(work)
        self.fold()

    def fold(self) -> None:
        """Let a tracker read everything."""
        assert self("projections", "rebuild").code == 0


@pytest.fixture
def desk(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Desk:
    """Return the small project, as the current folder."""
    monkeypatch.chdir(DESK)
    monkeypatch.setenv("CHOREO_DATABASE", str(tmp_path / "choreo.db"))
    monkeypatch.setenv("CHOREO_SCHEMAS", str(tmp_path / "schemas"))
    return Desk(capsys, monkeypatch, tmp_path)


@contextmanager
def own_desk_flow(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Copy the small project and make it the current folder; yield the module with its flow, which is imported anew."""
    project = shutil.copytree(Path.cwd(), folder / "project", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(project)
    known = sys.modules.pop("desk_flow")
    yield project / "desk_flow.py"
    sys.modules["desk_flow"] = known


@pytest.fixture
def redeclared(desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    """Yield a way to declare the flow otherwise, with a ticket for a taken seat and one that has just been opened."""
    desk.opened("t-1", seated=True)
    desk.opened("t-2")
    with own_desk_flow(tmp_path, monkeypatch) as module:
        text = module.read_text()

        def declare(*changes: tuple[str, str]) -> Desk:
            changed = text
            for before, after in changes:
                assert before in changed
                changed = changed.replace(before, after)
            module.write_text(changed)
            return desk

        yield declare


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a copy of the demo's part of the checkout."""
    for folder in ("services", "schemas", "topics"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path
