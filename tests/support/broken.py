"""Examples of broken flows as texts: each is declared, loaded or read, and answered with the codes of its findings.

In an example every name in CamelCase is an event class with the field `order_id`; `stock`, `payment` and `mail` are
services. JSON changes a sound flow, YAML is a topic of that flow, TOML are settings of `choreo check`.
"""

from __future__ import annotations

import builtins
import functools
import json
import operator
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from msgspec.structs import replace

import choreo
from choreo import Event, Flow, Service
from choreo.adapters.topics_yaml import check_topics, load_topics
from choreo.app.bridge import findings as between
from choreo.cli.check.found import of_error
from choreo.cli.check.suppressions import applied
from choreo.core.checks.checks import check
from choreo.core.definition import FlowDefinition, export, load
from choreo.core.errors import ChoreoError, DeclarationError
from tests.core.plain import flow, step

SOUND: FlowDefinition = flow(
    step("stock.reserve", "OrderPlaced", "StockReserved", effect=False),
    step("mail.confirm", "StockReserved", "OrderConfirmed", effect=False),
)
_BLOCK = re.compile(
    r"^## (?P<title>[^\n]+)\n(?P<prose>.*?)^```(?P<language>\w+)\n(?P<text>.*?)^```(?P<rest>.*?)(?=^## |\Z)",
    re.MULTILINE | re.DOTALL,
)
_ALSO = re.compile(r"<!-- also (?P<codes>[^>]*) -->")
_CODE = re.compile(r"C\d{3}")


class Example(NamedTuple):
    """A broken flow, and the codes that `choreo check` finds in it."""

    title: str
    language: str
    text: str
    codes: frozenset[str]


def examples(page: str) -> Iterator[Example]:
    """Yield the examples of a page: one fence below each heading, which begins with the codes it shows."""
    for block in _BLOCK.finditer(page):
        also = _ALSO.search(block["rest"])
        codes = [*_CODE.findall(block["title"]), *(_CODE.findall(also["codes"]) if also else ())]
        yield Example(block["title"], block["language"], block["text"], frozenset(codes))


class Names(dict[str, Any]):
    """Names of an example: a class of an event for each name that nothing has declared."""

    def __missing__(self, name: str) -> Any:
        """Return a new event class of this name; raises KeyError for other names."""
        if not name[:1].isupper() or hasattr(builtins, name):
            raise KeyError(name)
        self[name] = type(name, (Event,), {"__annotations__": {"order_id": str}, "__module__": __name__})
        return self[name]


def declared(text: str) -> dict[str, Flow]:
    """Return the flows that an example declares; raises DeclarationError."""
    known = {name: getattr(choreo, name) for name in choreo.__all__}
    known |= {"Literal": Literal, "Iterable": Iterable, "datetime": datetime}
    known |= {"functools": functools, "operator": operator, "__name__": __name__}
    names = Names({**known, **{name: Service(name) for name in ("stock", "payment", "mail")}})
    exec(compile(text, "example.py", "exec", dont_inherit=True), known, names)  # noqa: S102 - a text of this repository
    return {value.name: value for value in names.values() if isinstance(value, Flow)}


def changed(text: str) -> FlowDefinition:
    """Return the sound flow with the changes of an example in JSON."""
    changes = json.loads(text)
    whole = load(json.dumps(_merged(json.loads(export(SOUND)), changes)).encode())
    unlisted = dict.fromkeys(whole.types - whole.events.keys() - changes.get("events", {}).keys(), ("order_id",))
    return replace(whole, events={**whole.events, **unlisted})


def _merged(old: Any, new: Any) -> Any:
    """Return a value with changes: parts of objects by name, items of lists by their `name`; null removes."""
    if isinstance(old, dict) and isinstance(new, dict):
        both = {**old, **{name: _merged(old.get(name), value) for name, value in new.items()}}
        return {name: value for name, value in both.items() if value is not None or name not in new}
    if isinstance(old, list) and isinstance(new, list) and new and all("name" in each for each in (*old, *new)):
        names = {each["name"]: each for each in old}
        for each in new:
            names[each["name"]] = _merged(names.get(each["name"], {}), each)
        return list(names.values())
    return new


def _python(text: str, folder: Path) -> list[str]:
    flows = declared(text)
    found = [finding.code for flow in flows.values() for finding in flow.findings()]
    return found + [finding.code for finding in between(flows)]


def _json(text: str, folder: Path) -> list[str]:
    return [finding.code for finding in check(changed(text))]


def _yaml(text: str, folder: Path) -> list[str]:
    (folder / "topic.yaml").write_text(text, encoding="utf-8")
    try:
        problems = check_topics([SOUND], load_topics(folder))
    except ChoreoError as error:
        problems = [error]  # type: ignore[list-item]
    return [of_error("topics", problem).code for problem in problems]


def _toml(text: str, folder: Path) -> list[str]:
    config = tomllib.loads(text)["tool"]["choreo"]["check"]
    return [found.code for found in applied(config, []).findings]


READERS: dict[str, Callable[[str, Path], list[str]]] = {
    "python": _python,
    "json": _json,
    "yaml": _yaml,
    "toml": _toml,
}
"""Language of an example → the function that returns the codes found in it."""


def codes_of(example: Example, folder: Path) -> frozenset[str]:
    """Return the codes of the findings in an example."""
    try:
        return frozenset(READERS[example.language](example.text, folder))
    except DeclarationError as error:
        return frozenset({error.code or "C010"})
