"""Find the file and line of a finding's declaration: a step's function, an event's class, a flow's line, a topic's.

A place that cannot be found is left out; a finding is complete without it.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from msgspec.structs import replace

from choreo.cli.check.found import Found, relative
from choreo.core.declare.flow import Flow

_PACKAGE = str(Path(__file__).parents[2])
_FILE = re.compile(r"(?P<path>[^\s:]+\.(?:ya?ml|json|avsc))(?::(?P<line>\d+))?")

At: TypeAlias = tuple[str, int]


def in_file(found: Found, path: str, line: int = 0) -> Found:
    """Return the finding with its file and line."""
    return replace(found, file=relative(path), line=line)


def of_raised(found: Found, error: BaseException) -> Found:
    """Return a finding with the line of the project's own code that raised its error."""
    own = [each for each in traceback.extract_tb(error.__traceback__) if _is_own(each.filename)]
    return in_file(found, own[-1].filename, own[-1].lineno or 0) if own else found


class Places:
    """Where the parts of a project's flows are declared."""

    def __init__(self, names: Iterable[str], flows: Iterable[Flow]) -> None:
        """Index steps, waits, events and flows; `names` are the flows' names in the settings."""
        self._flows: dict[str, Flow] = {flow.name: flow for flow in flows}
        self._modules: dict[str, tuple[ModuleType, str]] = dict(_modules(names, self._flows))
        self._calls: dict[str, Mapping[str, At]] = {}

    def of(self, found: Found) -> Found:
        """Return the finding with the place of its innermost named part; unchanged if none is known."""
        if found.file:
            return found
        if file := _FILE.search(found.where):
            return in_file(found, file["path"], int(file["line"] or 0))
        flow = next((self._flows[name] for name in found.names if name in self._flows), None)
        candidates = [flow] if flow is not None else list(self._flows.values())
        for name in reversed(found.names):
            for each in candidates:
                if at := self._part(each, name):
                    return in_file(found, *at)
        return found

    def _part(self, flow: Flow, name: str) -> At | None:
        step = flow.steps.get(name)
        if step is not None:
            return _of_function(step.handler)
        cls = _classes(flow).get(name.partition(".")[0])
        if cls is not None:
            return _of_class(cls)
        if flow.name not in self._calls:
            self._calls[flow.name] = _calls(*self._modules[flow.name]) if flow.name in self._modules else {}
        return self._calls[flow.name].get("" if name == flow.name else name)


def _classes(flow: Flow) -> Mapping[str, Any]:
    """Return the event classes of a flow; none of one whose classes disagree, which is a finding itself."""
    try:
        return flow.event_classes
    except Exception:  # noqa: BLE001 - a user's class may raise anything; the check reports it
        return {}


def _is_own(path: str) -> bool:
    """Return whether a file belongs to the project, and not to choreo or Python."""
    return not path.startswith((_PACKAGE, "<", sys.prefix, sys.base_prefix))


def _of_function(function: Callable[..., Any]) -> At | None:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return (code.co_filename, code.co_firstlineno) if code is not None else None


def _of_class(cls: Any) -> At | None:
    try:
        path, (_, line) = inspect.getsourcefile(cls), inspect.findsource(cls)
    except (OSError, TypeError):
        return None
    return (path, line + 1) if path else None


def _modules(names: Iterable[str], flows: Mapping[str, Flow]) -> Iterator[tuple[str, tuple[ModuleType, str]]]:
    """Yield each flow's module and its name there."""
    for name in tuple(names) or ("flow:",):
        module_name, _, attribute = name.partition(":")
        module = sys.modules.get(module_name)
        for known, value in list(vars(module).items()) if module is not None else []:
            if known in (attribute, known if not attribute else "") and any(value is flow for flow in flows.values()):
                yield value.name, (module, known)  # type: ignore[misc]


def _calls(module: ModuleType, name: str) -> dict[str, At]:
    """Return the lines of a flow's declaration (key "") and of its waits and timers, by their names."""
    path = getattr(module, "__file__", None)
    if not path:
        return {}
    found: dict[str, At] = {}
    for node in ast.walk(ast.parse(Path(path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                found[""] = (path, node.lineno)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            on = node.func.value
            if isinstance(on, ast.Name) and on.id == name and (part := _named(node.func.attr, node)):
                found[part] = (path, node.lineno)
    return found


def _named(method: str, call: ast.Call) -> str:
    """Return the name of the wait, timer or attribute that a call declares; "" for other calls."""
    given = call.args[0] if call.args else next((each.value for each in call.keywords if each.arg == "name"), None)
    name = given.value if isinstance(given, ast.Constant) else None
    if method == "wait" and name is None:
        until = next((each.value for each in call.keywords if each.arg == "until"), None)
        first = until.elts[0] if isinstance(until, ast.Tuple | ast.List) and until.elts else until
        name = first.id if isinstance(first, ast.Name) else getattr(first, "attr", None)
    prefix = {"wait": "wait.", "timer": "timer.", "attribute": ""}.get(method)
    return f"{prefix}{name}" if prefix is not None and isinstance(name, str) else ""
