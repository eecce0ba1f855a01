"""Every code of a finding, with its title and severity: the one table that checks, tools and documentation share.

A code keeps its meaning; a new kind of fault gets a new number. The hundreds: 0 tool and declaration, 1 names, 2 graph,
3 compensation, 4 waits and time, 5 between flows and attributes, 6 topics, 7 schemas, 8 versions and deployments.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

Level: TypeAlias = Literal["error", "warning"]


class Code(NamedTuple):
    """A kind of finding. A flow with an error does not start; a warning does not prevent the start."""

    code: str
    level: Level
    title: str


# fmt: off
_TABLE: tuple[Code, ...] = (
    Code("C001", "error", "A suppression is refused"),
    Code("C002", "warning", "A suppression is not used"),
    Code("C003", "error", "A file is no flow"),
    Code("C010", "error", "A declaration is refused"),

    Code("C101", "error", "A name cannot be used"),
    Code("C102", "error", "A flow has no steps"),
    Code("C103", "error", "Two parts have one name"),
    Code("C104", "error", "An event has a name that cannot be used"),
    Code("C105", "error", "The fields of an event are not listed"),
    Code("C106", "error", "An event lacks the flow's key"),
    Code("C107", "error", "The tracker cannot fill in an event"),
    Code("C108", "warning", "A reason is too narrow"),
    Code("C109", "error", "An event has two meanings"),
    Code("C110", "error", "Two waits share an event"),
    Code("C111", "warning", "Two compensations share an event"),
    Code("C112", "warning", "Two emitters cannot be told apart"),
    Code("C113", "error", "Two services have one name"),

    Code("C201", "error", "Nothing emits an event that is awaited"),
    Code("C202", "error", "Nothing emits the event that completes the flow"),
    Code("C203", "error", "A step or wait can never be reached"),
    Code("C204", "error", "The end of the flow is out of reach"),
    Code("C205", "warning", "Nothing reacts to an event"),
    Code("C206", "warning", "A path never reaches the end"),
    Code("C207", "error", "A step is its own trigger"),
    Code("C208", "error", "A cycle has no bound"),
    Code("C209", "warning", "A bound has no cycle"),
    Code("C210", "error", "max_hops is below 0"),
    Code("C211", "warning", "The paths are too many to check"),
    Code("C221", "error", "A condition compares a field that it cannot"),
    Code("C222", "warning", "Conditions have too many values to check"),
    Code("C223", "error", "A condition never holds"),
    Code("C224", "warning", "A condition always holds"),
    Code("C225", "warning", "otherwise() never holds"),
    Code("C226", "warning", "Two branches overlap"),
    Code("C227", "warning", "A value falls between the branches"),
    Code("C231", "error", "A join needs a failure"),
    Code("C232", "error", "A join needs events of which only one comes"),
    Code("C233", "error", "Nothing emits an event that is needed"),
    Code("C234", "error", "A needed event may be missing"),
    Code("C235", "warning", "A needed event may come too late"),
    Code("C236", "warning", "A needed event is never there"),

    Code("C301", "error", "An effect has no way back from a failure"),
    Code("C302", "warning", "An effect has no way back from an error"),
    Code("C303", "warning", "A compensation is never called"),
    Code("C304", "warning", "A step without effect has a compensation"),
    Code("C305", "warning", "A compensation cannot take None"),
    Code("C306", "warning", "A gateway bars no keys"),
    Code("C307", "warning", "A compensation needs an event that never comes before it"),
    Code("C308", "warning", "Two steps side by side touch one effect"),
    Code("C309", "warning", "An effect in doubt has no way back"),

    Code("C401", "error", "A wait has no time-out"),
    Code("C402", "error", "A wait opens on a failure"),
    Code("C403", "error", "A wait is for the event that opens it"),
    Code("C404", "error", "A wait names an event twice"),
    Code("C405", "error", "The time-out of a wait has no event, or two"),
    Code("C406", "error", "The time of a timer is not clear"),
    Code("C407", "error", "A timer is moved by an event that cannot move it"),
    Code("C408", "warning", "The moment of a timer may lie beyond the deadline"),
    Code("C409", "warning", "A timer may be moved beyond the deadline"),
    Code("C410", "error", "Of two waits only one can be satisfied"),
    Code("C411", "warning", "Of two waits only one may be satisfied"),
    Code("C412", "error", "A reminder is not complete"),
    Code("C413", "error", "A reminder comes after the time-out"),
    Code("C414", "warning", "Not all reminders can come"),
    Code("C415", "error", "A timer is no wait"),
    Code("C416", "warning", "An optional wait is closed at once"),
    Code("C417", "warning", "A run may wait for ever"),
    Code("C421", "error", "A duration leaves no time"),
    Code("C422", "error", "An attempt may outlast its step"),
    Code("C423", "error", "A heartbeat is longer than an attempt"),
    Code("C424", "error", "A retry rule makes no sense"),
    Code("C425", "warning", "A deadline leaves no time for a retry"),
    Code("C426", "error", "The deadline of the flow is shorter than a part"),
    Code("C427", "warning", "The deadline of the flow is shorter than a path"),

    Code("C501", "error", "A flow carries an event that it does not have"),
    Code("C502", "error", "A flow carries the event of a timer"),
    Code("C503", "error", "A flow of the project is missing"),
    Code("C504", "error", "A carried event is not taken"),
    Code("C505", "error", "A carried event lacks the key"),
    Code("C506", "error", "Flows start each other for ever"),
    Code("C511", "error", "Children start on a failure"),
    Code("C512", "error", "A join of children is not clear"),
    Code("C513", "warning", "Children outlast their step"),
    Code("C514", "warning", "Children are forgotten too early"),
    Code("C521", "error", "A search attribute cannot have its name"),
    Code("C522", "error", "A search attribute has no source"),
    Code("C523", "error", "A search attribute hides a field"),

    Code("C601", "error", "A flow has no topic"),
    Code("C602", "error", "A topic has another key"),
    Code("C603", "error", "A topic lacks an event"),
    Code("C604", "error", "A topic names an event that the flow does not have"),
    Code("C605", "error", "A topic forgets too early"),
    Code("C606", "error", "A topic has no number of partitions"),
    Code("C607", "error", "A topic cannot be read"),

    Code("C701", "error", "An event is not frozen"),
    Code("C702", "error", "An event breaks its readers"),
    Code("C703", "error", "An event has changed since it was frozen"),
    Code("C704", "error", "A frozen schema cannot be read"),
    Code("C705", "error", "Two event classes share one type"),

    Code("C801", "error", "A change breaks runs in flight"),
    Code("C802", "error", "A flow has changed since it was frozen"),
    Code("C803", "error", "A version is not frozen"),
    Code("C804", "error", "A frozen flow cannot be read"),
    Code("C811", "error", "Runs in flight are of a version that is lost"),
    Code("C812", "error", "Runs in flight need a step that is gone"),
    Code("C813", "error", "Runs in flight need a step that has changed"),
)
# fmt: on

CODES: dict[str, Code] = {each.code: each for each in _TABLE}
"""Code → its title and severity."""
