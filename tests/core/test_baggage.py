"""The baggage header: read leniently, written strictly, merged in log order."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from choreo.core.baggage import (
    BYTES_MAX,
    MEMBERS_MAX,
    BaggageHeader,
    Carried,
    after,
    cleaned,
    header_of,
    merged,
    traced_by,
)
from choreo.core.errors import BaggageError
from tests.core.shop import context

NAMES = st.text("abcXYZ019!#$%&'*+-.^_`|~", min_size=1, max_size=12)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)


@given(st.dictionaries(NAMES, TEXTS, max_size=MEMBERS_MAX // 2))
def test_every_text_comes_back_as_it_was(values: dict[str, str]) -> None:
    """Any Unicode text is a value; the header itself is plain ASCII without spaces."""
    header = header_of(values)
    assert dict(BaggageHeader(header).values) == values
    assert header.isascii()
    assert " " not in header


@given(st.text(max_size=200) | st.lists(st.sampled_from('a=1,; %\tö"\\'), max_size=60).map("".join))
def test_a_foreign_header_never_raises(header: str) -> None:
    """The rest of it is well-formed: cleaned again it stays as it is."""
    once = cleaned(header)
    assert cleaned(once) == once
    assert list(BaggageHeader(once).values) == list(BaggageHeader(header).values)


@pytest.mark.parametrize(
    ("header", "values"),
    [
        ("tenant=a", {"tenant": "a"}),
        (" tenant = a , user=Jo%C3%A3o ;secret;ttl=5", {"tenant": "a", "user": "João"}),
        ("a=1,a=2", {"a": "2"}),
        ("a=", {"a": ""}),
        ("a=x=y", {"a": "x=y"}),
        ('broken,a=1,=2,b c=3,d=e f,g="h",i=1;j k', {"a": "1"}),
        ("a=%FF,b=%", {"a": "\ufffd", "b": "%"}),
        ("ä=1,b=ü", {}),
        ("a=" + "x" * BYTES_MAX, {}),
        ("", {}),
    ],
)
def test_malformed_members_are_dropped(header: str, values: dict[str, str]) -> None:
    """By member; a header beyond the limit of bytes is dropped whole."""
    assert dict(BaggageHeader(header).values) == values


def test_properties_of_a_member_are_passed_on() -> None:
    """They mean nothing to choreo, and may mean something to others."""
    header = BaggageHeader("user=jo;ttl=5")
    header.set("tenant", "a")
    assert header.text == "user=jo;ttl=5,tenant=a"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("a b", "1", "baggage: 'a b' is no name for a member. Use letters"),
        ("", "1", "baggage: '' is no name"),
        ("a", 1, "baggage a: int is no text. Give a str."),
        ("a", "\ud800", "baggage a: the value has half of a surrogate pair"),
        ("a", "x" * BYTES_MAX, "baggage a: it would have 1 members and 8,194 bytes, and at most 64 and 8,192"),
    ],
)
def test_a_member_that_cannot_be_carried_is_refused(name: str, value: str, says: str) -> None:
    """With the remedy; the baggage stays as it was."""
    ctx = context()
    ctx.set_baggage("tenant", "a")
    with pytest.raises(BaggageError) as caught:
        header_of({name: value})
    assert says in str(caught.value)
    with pytest.raises(BaggageError):
        ctx.set_baggage(name, value)
    assert dict(ctx.baggage) == {"tenant": "a"}


def test_a_member_too_many_is_refused() -> None:
    """The 65th; a known one may still change."""
    ctx = context()
    for number in range(MEMBERS_MAX):
        ctx.set_baggage(f"n{number}", "1")
    with pytest.raises(BaggageError, match="65 members"):
        ctx.set_baggage("more", "1")
    ctx.set_baggage("n0", "2")
    assert ctx.baggage["n0"] == "2"


def test_the_mapping_is_read_only() -> None:
    """A handler changes it by set_baggage alone."""
    ctx = context(baggage_header=BaggageHeader("tenant=a"))
    with pytest.raises(TypeError):
        ctx.baggage["tenant"] = "b"  # type: ignore[index]


def test_of_one_name_the_later_member_counts() -> None:
    """Beyond a limit the earlier ones are dropped."""
    assert merged("a=1,b=2", "b=3,c=4") == "a=1,b=3,c=4"
    assert merged("", "a=1") == merged("a=1", "") == merged("a=1", "a=1") == "a=1"
    early, late = header_of({f"a{n}": "1" for n in range(60)}), header_of({f"b{n}": "1" for n in range(10)})
    assert list(BaggageHeader(merged(early, late)).values) == [f"a{n}" for n in range(6, 60)] + [
        f"b{n}" for n in range(10)
    ]
    large = merged(header_of({"x": "1" * 5_000}), header_of({"y": "1" * 5_000}))
    assert list(BaggageHeader(large).values) == ["y"]


@given(*[st.dictionaries(NAMES, TEXTS, max_size=5).map(header_of)] * 3)
@settings(max_examples=50)
def test_merging_is_one_fold_however_it_is_grouped(first: str, second: str, third: str) -> None:
    """A host that has merged two of three comes to the same as one that merges all."""
    left, right = merged(merged(first, second), third), merged(first, merged(second, third))
    assert dict(BaggageHeader(left).values) == dict(BaggageHeader(right).values)


def test_two_events_carry_the_later_trace() -> None:
    """A gate keeps the trace of its trigger, if that has one."""
    first, second = Carried("a=1", "00-a", "x=1"), Carried("b=2")
    assert after(first, second) == Carried("a=1,b=2", "00-a", "x=1")
    assert after(second, first) == Carried("b=2,a=1", "00-a", "x=1")
    assert after(None, first) is after(first, None) is after(first, first)
    assert traced_by(second, first) == Carried("b=2", "00-a", "x=1")
    assert traced_by(first, second) == first
