"""A command with an import delayed until the call: help and completion need only its name.

Knows Typer; knows no command.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command


class Deferred(TyperCommand):
    """A placeholder for `module:name`: the function of a command, or a Typer with commands below it."""

    def __init__(self, name: str, target: str, help_text: str) -> None:
        """Keep the place of the command and its line of help."""
        super().__init__(name, help=help_text, rich_markup_mode=None)
        self.target = target

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Import the command and parse its arguments; the context returned is the real command's."""
        module, _, attribute = self.target.partition(":")
        real = get_command(_typer_of(getattr(importlib.import_module(module), attribute)))
        return real.make_context(info_name, args, parent, **extra)


class Sections(TyperGroup):
    """A group that lists its commands in sections."""

    def __init__(self, **settings: Any) -> None:
        """Start without sections."""
        super().__init__(**settings)
        self.sections: dict[str, list[str]] = {}

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - Typer's hook
        """Write a block for each section, all with the same column width."""
        width = max(map(len, self.commands))
        for section, names in self.sections.items():
            with formatter.section(section):
                formatter.write_dl([(name.ljust(width), self.commands[name].help or "") for name in names])


def group(help_text: str) -> typer.Typer:
    """Return the Typer for commands below a command, also for a single one: `choreo dlq list`."""
    cli = _plain(help=help_text)
    cli.callback()(_nothing)
    return cli


def _typer_of(target: typer.Typer | Callable[..., None]) -> typer.Typer:
    if isinstance(target, typer.Typer):
        return target
    cli = _plain()
    cli.command()(target)
    return cli


def _plain(**settings: Any) -> typer.Typer:
    """Return a Typer with plain help and without completion of its own; errors are left to the program."""
    return typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False, **settings)


def _nothing() -> None:
    """Do nothing: Typer needs a callback to make a group."""
