"""The command line: one file for each command. A command calls the use cases, knows no adapter and decides nothing.

A command's module is imported when the command is called, so that `choreo --help` answers at once.
"""

from choreo.cli.program import main

__all__ = ["main"]
