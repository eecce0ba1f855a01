"""A command whose module is imported when it is called: help and completion of the whole need only its name.

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
    """Stands for `module:name`, which is a command's function, or a Typer with commands below it."""

    def __init__(self, name: str, target: str, says: str) -> None:
        """Remember where the command is."""
        super().__init__(name, help=says, rich_markup_mode=None)
        self.target = target

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Import the command and let it read its arguments; the context is the real command's."""
        module, _, attribute = self.target.partition(":")
        real = get_command(_typer_of(getattr(importlib.import_module(module), attribute)))
        return real.make_context(info_name, args, parent, **extra)


class Sections(TyperGroup):
    """A group whose help lists its commands in sections."""

    def __init__(self, **settings: Any) -> None:
        """Begin with none."""
        super().__init__(**settings)
        self.sections: dict[str, list[str]] = {}

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - Typer's hook
        """A block for each section; the same column throughout."""
        width = max(map(len, self.commands))
        for section, names in self.sections.items():
            with formatter.section(section):
                formatter.write_dl([(name.ljust(width), self.commands[name].help or "") for name in names])


def group(says: str) -> typer.Typer:
    """What commands below a command are declared on, be it only one: `choreo dlq list`."""
    cli = _plain(help=says)
    cli.callback()(_nothing)
    return cli


def _typer_of(target: typer.Typer | Callable[..., None]) -> typer.Typer:
    if isinstance(target, typer.Typer):
        return target
    cli = _plain()
    cli.command()(target)
    return cli


def _plain(**settings: Any) -> typer.Typer:
    """Plain help as that of the whole, no completion of its own; errors are left to the program."""
    return typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False, **settings)


def _nothing() -> None:
    """A callback is what makes Typer see a group."""
