"""Hooks of a project into its simulation: make events, prepare gateways before a seed, check them after it.

hooks = Hooks()

@hooks.makes(OrderPlaced)
def placed(chance: Random, key: str) -> OrderPlaced: ...
"""

from __future__ import annotations

import runpy
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, TypeVar

from choreo.core.errors import SettingsError, described

CONVENTIONAL = ("simulation.py",)
"""Files in which a project's hooks are looked for."""

_F = TypeVar("_F", bound=Callable[..., Any])


class EndedRun(NamedTuple):
    """One run at the end of a seed."""

    flow: str
    key: str
    run: str
    status: str


class Hooks:
    """The hooks of a project."""

    def __init__(self) -> None:
        """Have none."""
        self._makers: dict[type[Any], Callable[[Random, str], Any]] = {}
        self._before: list[Callable[[Path], None]] = []
        self._after: list[Callable[[list[EndedRun]], Iterable[str]]] = []

    def makes(self, event_class: type[Any]) -> Callable[[_F], _F]:
        """Register a function of `(chance, key)` that makes events of this class: starts, outside events, failures."""

        def register(maker: _F) -> _F:
            self._makers[event_class] = maker
            return maker

        return register

    def before(self, prepare: _F) -> _F:
        """Register a function that is called before each seed, with an empty folder for the files of gateways."""
        self._before.append(prepare)
        return prepare

    def after(self, check: _F) -> _F:
        """Register a function that is called after each seed with its runs; it returns the sentences of its faults."""
        self._after.append(check)
        return check

    def maker(self, event_class: type[Any]) -> Callable[[Random, str], Any] | None:
        """Return the function that makes events of this class; None: there is none."""
        return self._makers.get(event_class)

    def prepare(self, folder: Path) -> None:
        """Call the functions of `before`."""
        for each in self._before:
            each(folder)

    def faults(self, runs: list[EndedRun]) -> list[str]:
        """Return the faults that the functions of `after` have found; an error of one is a fault."""
        found: list[str] = []
        for each in self._after:
            name = getattr(each, "__name__", "hook")
            try:
                found += [f"{name}: {fault}" for fault in each(runs) or ()]
            except Exception as error:  # noqa: BLE001 - the user's code may raise anything
                found.append(f"{name} raised {described(error)}")
        return found


def load_hooks(file: Path | None, folder: Path) -> Hooks:
    """Return the hooks of a project: those of the file, or of a conventional one; raises SettingsError."""
    path = file or next((folder / name for name in CONVENTIONAL if (folder / name).is_file()), None)
    if path is None:
        return Hooks()
    try:
        values = runpy.run_path(str(path))
    except Exception as error:
        raise SettingsError(
            f"it cannot be run: {described(error)}", where=str(path), remedy="Correct it, then call this again."
        ) from error
    return found_in(values, str(path))


def found_in(values: Mapping[str, Any], where: str) -> Hooks:
    """Return the hooks among a module's values; raises SettingsError."""
    for value in values.values():
        if isinstance(value, Hooks):
            return value
    raise SettingsError(
        "it has no Hooks", where=where, remedy="Write: from choreo.testing import Hooks; hooks = Hooks()."
    )
