"""A flow as a Mermaid flowchart, drawn from its definition: steps, waits and other flows as nodes, events as edges.

Failures lead to the start of compensation, compensations are dashed. The same definition gives the same text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from choreo.core.conditions import text
from choreo.core.definition import FlowDefinition, WaitDefinition
from choreo.core.durations import human

_Arrow: TypeAlias = tuple[str, str, str, str]

_STYLES = (
    "classDef undo stroke-dasharray: 4 3",
    "classDef ends stroke-width: 3px",
)


def mermaid(flow: FlowDefinition) -> str:
    """Return the flow as Mermaid text with a final newline; it shows every step, wait, compensation and event."""
    return "\n".join(["flowchart TD", *(f"    {line}" for line in (*_nodes(flow), *_edges(flow), *_STYLES)), ""])


def _nodes(flow: FlowDefinition) -> Iterator[str]:
    yield f"start([{_text(flow.starts)}])"
    for number, service in enumerate(dict.fromkeys(step.service for step in flow.steps)):
        yield f"subgraph service{number}[{_text(service)}]"
        for place, step in enumerate(flow.steps):
            if step.service == service:
                if step.all_of:
                    yield f"    join{place}{{{_text('all of')}}}"
                yield f"    step{place}[{_text(step.name)}]"
                if step.children:
                    yield f"    children{place}[[{_text(f'children: flow {step.children.flow}')}]]"
                elif step.compensation:
                    yield f"    undo{place}[{_text(f'undo {step.name}')}]:::undo"
        yield "end"
    for place, wait in enumerate(flow.waits):
        yield f"wait{place}{{{{{_text(shown_wait(wait))}}}}}"
    for place, carry in enumerate(flow.carries):
        said = " or ".join(carry.says)
        yield f"carry{place}[[{_text(f'flow {carry.to}: {said}')}]]"
    for type_, node in _unconsumed(flow).items():
        yield f"{node}([{_text(type_)}])"
    yield f"done([{_text('completed')}]):::ends"
    yield f"compensation([{_text('compensation: undone newest first')}]):::ends"


def _edges(flow: FlowDefinition) -> Iterator[str]:
    consumers = {**{type_: [node] for type_, node in _unconsumed(flow).items()}, **_consumers(flow)}
    conditions = {f"step{place}": text(step.when) for place, step in enumerate(flow.steps) if step.when is not None}
    for source, arrow, target, type_ in _arrows(flow, consumers):
        label = ", ".join(filter(None, (type_, _if(conditions.get(target, "")))))
        yield f"{source} {arrow}" + (f"|{_text(label)}| " if label else " ") + target


def _arrows(flow: FlowDefinition, consumers: Mapping[str, list[str]]) -> Iterator[_Arrow]:
    """Return the edges: source, arrow, target, and the event between them where it is labelled."""
    yield from _links("start", "-->", consumers.get(flow.starts, ()), "")
    for place, step in enumerate(flow.steps):
        if step.all_of:
            yield from _links(f"join{place}", "-->", (f"step{place}",), "")
        for type_ in step.emits:
            yield from _links(f"step{place}", "-->", consumers[type_], type_)
        if step.children:
            yield from _links(f"step{place}", "<-->", (f"children{place}",), "")
        for type_ in step.fails:
            yield from _links(f"step{place}", "--x", ("compensation", *consumers.get(type_, ())), type_)
        for type_ in step.compensation.emits if step.compensation else ():
            yield from _links(f"step{place}", "-.-", (f"undo{place}",), type_)
            yield from _links(f"undo{place}", "-.->", consumers.get(type_, ()), type_)
    yield from _edges_of_waits(flow, consumers)
    if flow.fails:
        yield from _links("compensation", "-->", consumers.get(flow.fails, ()), flow.fails)


def _edges_of_waits(flow: FlowDefinition, consumers: Mapping[str, Sequence[str]]) -> Iterator[_Arrow]:
    for place, wait in enumerate(flow.waits):
        for type_ in wait.leads_to:
            yield from _links(f"wait{place}", "-->", consumers.get(type_, ()), type_)
        for type_ in wait.says:
            yield from _links(f"wait{place}", "-.->", consumers.get(type_, ()), type_)
        for type_ in filter(None, (wait.refused, wait.fails)):
            yield from _links(f"wait{place}", "--x", ("compensation", *consumers.get(type_, ())), type_)


def _consumers(flow: FlowDefinition) -> dict[str, list[str]]:
    """Return type → the nodes that it leads to, the end included."""
    found: dict[str, list[str]] = {}
    for place, step in enumerate(flow.steps):
        for type_ in step.triggers:
            found.setdefault(type_, []).append(f"join{place}" if step.all_of else f"step{place}")
    for place, wait in enumerate(flow.waits):
        for type_ in filter(None, (wait.on, wait.moved_by)):
            found.setdefault(type_, []).append(f"wait{place}")
    for type_ in flow.ends:
        found.setdefault(type_, []).append("done")
    for place, carry in enumerate(flow.carries):
        found.setdefault(carry.on, []).append(f"carry{place}")
    return found


def _unconsumed(flow: FlowDefinition) -> dict[str, str]:
    """Return each success to which no step reacts → a node of its own, so that the diagram shows it."""
    consumers = _consumers(flow)
    types = dict.fromkeys(type_ for step in flow.steps for type_ in step.emits if type_ not in consumers)
    return {type_: f"event{place}" for place, type_ in enumerate(types)}


def shown_wait(wait: WaitDefinition) -> str:
    """Return a wait or timer as the text of a box."""
    after = human(wait.timeout_ms)
    if not wait.is_timer:
        said = [
            f"wait for {wait.shown}",
            *([after] if wait.timeout_ms else []),
            *(["optional"] if wait.optional else []),
        ]
        said += [f"reminds every {human(wait.remind_ms)}, {wait.reminds_max} at most"] if wait.remind else []
        said += [f"escalates after {human(wait.escalate_ms)}"] if wait.escalate else []
        return ", ".join(said)
    moved = f", moved by {wait.moved_by}" if wait.moved_by else ""
    return f"{wait.name}, " + (f"at {wait.at}" if wait.at else f"after {after}") + moved


def _links(source: str, arrow: str, targets: Iterable[str], type_: str) -> Iterator[_Arrow]:
    for target in targets:
        yield source, arrow, target, type_


def _if(condition: str) -> str:
    return condition if condition in ("", "otherwise") else f"if {condition}"


_CODES = {"#": "#35;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "&": "#amp;", "|": "#124;"}


def _text(text: str) -> str:
    """Quote a text, so that no character of a name or condition is read as Mermaid syntax."""
    return '"' + "".join(_CODES.get(letter, letter) for letter in text) + '"'
