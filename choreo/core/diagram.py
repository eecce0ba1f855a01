"""A flow as a Mermaid flowchart, drawn from its definition: steps and waits as nodes, events as the edges between them.

Failures cross to where the run turns, compensations are dashed. The same definition gives the same text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from choreo.core.definition import FlowDefinition
from choreo.core.durations import human

_STYLES = (
    "classDef undo stroke-dasharray: 4 3",
    "classDef ends stroke-width: 3px",
)


def mermaid(flow: FlowDefinition) -> str:
    """The flow as Mermaid text, ending in a newline; it shows every step, wait, compensation and event."""
    return "\n".join(["flowchart TD", *(f"    {line}" for line in (*_nodes(flow), *_edges(flow), *_STYLES)), ""])


def _nodes(flow: FlowDefinition) -> Iterator[str]:
    yield f"start([{_text(flow.starts)}])"
    for number, service in enumerate(dict.fromkeys(step.service for step in flow.steps)):
        yield f"subgraph service{number}[{_text(service)}]"
        for place, step in enumerate(flow.steps):
            if step.service == service:
                yield f"    step{place}[{_text(step.name)}]"
                if step.compensation:
                    yield f"    undo{place}[{_text(f'undo {step.name}')}]:::undo"
        yield "end"
    for place, wait in enumerate(flow.waits):
        yield f"wait{place}{{{{{_text(f'wait for {wait.until}, {human(wait.timeout_ms)}')}}}}}"
    for type_, node in _unheard(flow).items():
        yield f"{node}([{_text(type_)}])"
    yield f"done([{_text('completed')}]):::ends"
    yield f"turn([{_text('turned: undone newest first')}]):::ends"


def _edges(flow: FlowDefinition) -> Iterator[str]:
    heard = {**{type_: [node] for type_, node in _unheard(flow).items()}, **_heard(flow)}
    yield from _links("start", "-->", heard.get(flow.starts, ()), "")
    for place, step in enumerate(flow.steps):
        for type_ in step.emits:
            yield from _links(f"step{place}", "-->", heard[type_], type_)
        for type_ in step.fails:
            yield from _links(f"step{place}", "--x", ("turn", *heard.get(type_, ())), type_)
        for type_ in step.compensation.emits if step.compensation else ():
            yield from _links(f"step{place}", "-.-", (f"undo{place}",), type_)
            yield from _links(f"undo{place}", "-.->", heard.get(type_, ()), type_)
    for place, wait in enumerate(flow.waits):
        yield from _links(f"wait{place}", "-->", heard.get(wait.until, ()), wait.until)
        yield from _links(f"wait{place}", "--x", ("turn", *heard.get(wait.fails, ())), wait.fails)
    if flow.fails:
        yield from _links("turn", "-->", heard.get(flow.fails, ()), flow.fails)


def _heard(flow: FlowDefinition) -> dict[str, list[str]]:
    """Type → the nodes that it leads to, the end included."""
    found: dict[str, list[str]] = {}
    for place, step in enumerate(flow.steps):
        found.setdefault(step.on, []).append(f"step{place}")
    for place, wait in enumerate(flow.waits):
        found.setdefault(wait.on, []).append(f"wait{place}")
    found.setdefault(flow.completes, []).append("done")
    return found


def _unheard(flow: FlowDefinition) -> dict[str, str]:
    """Successes to which nobody reacts → a node of their own, so that they are seen."""
    heard = _heard(flow)
    types = dict.fromkeys(type_ for step in flow.steps for type_ in step.emits if type_ not in heard)
    return {type_: f"event{place}" for place, type_ in enumerate(types)}


def _links(source: str, arrow: str, targets: Iterable[str], type_: str) -> Iterator[str]:
    label = f"|{_text(type_)}|" if type_ else ""
    for target in targets:
        yield f"{source} {arrow}{label} {target}"


def _text(text: str) -> str:
    """Quoted, so that no character of a name is taken for Mermaid's own."""
    return '"' + text.replace("#", "#35;").replace('"', "#quot;") + '"'
