"""The command line: one file a command, each a door to the use cases; they know no adapter and decide nothing.

A command's module is imported when the command is called, so that `choreo --help` answers at once.
"""

from choreo.cli.program import main

__all__ = ["main"]
