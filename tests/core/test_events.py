"""The envelope: CloudEvents headers in binary mode, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from choreo.core.events import SENT_ON, Envelope, from_headers, sent_on, to_headers

text = st.text(st.characters(exclude_categories=("Cs",)))
number = st.integers(min_value=0, max_value=2**53)
sendable = text.filter(lambda value: sent_on(value) == value)
envelopes = st.builds(
    Envelope,
    id=text,
    type=text,
    key=text,
    flow=text,
    run=text,
    step=text,
    causation=text,
    trigger=text,
    attempt=number,
    version=number,
    hops=number,
    certain=st.booleans(),
    entry=text,
    round=number,
    n=number,
    outcome=st.integers(min_value=-1, max_value=2**53),
    due_ms=number,
    deadline_ms=number,
    reason=text,
    source=st.text(min_size=1),
    time_ms=st.integers(min_value=0, max_value=253_402_300_799_999),  # the end of the year 9999
    traceparent=sendable,
    tracestate=sendable,
    baggage=sendable,
    content_type=text,
    data=st.binary(),
)


@given(envelopes)
def test_an_envelope_survives_its_headers(event: Envelope) -> None:
    """Every field comes back as it was."""
    headers = to_headers(event)
    assert from_headers(headers, key=event.key, flow=event.flow, data=event.data) == event
    assert all(isinstance(value, str) for value in headers.values())


@pytest.mark.parametrize("header", sorted(SENT_ON))
@pytest.mark.parametrize("text", ["a\r\nb", "\x00", "a\x1f", "a\x7f"])
def test_a_header_that_handlers_send_on_holds_no_control_characters(header: str, text: str) -> None:
    """It is ignored: in a call to another system it could end the header and begin another."""
    assert getattr(from_headers({header: text}, key="", flow="", data=b""), header) == ""
    assert getattr(from_headers({header: "a=\tb"}, key="", flow="", data=b""), header) == "a=\tb"


def test_headers_carry_what_cloudevents_asks_for_and_leave_out_what_says_nothing() -> None:
    """id, source, type, time and specversion always; an extension at its default is not sent."""
    event = Envelope(id="e-1", type="OrderPlaced", key="o-1", flow="order", time_ms=1_767_225_600_250)
    assert to_headers(event) == {
        "ce_specversion": "1.0",
        "ce_id": "e-1",
        "ce_type": "OrderPlaced",
        "ce_source": "choreo/order",
        "ce_time": "2026-01-01T00:00:00.250000Z",
        "ce_choreoflow": "order",
    }


def test_a_foreign_record_needs_only_key_and_type() -> None:
    """kcat, Java and curl take part: what they leave out is empty, the flow is the topic's."""
    event = from_headers({"ce_type": "ShipmentPicked"}, key="o-1", flow="order", data=b"{}")
    assert event == Envelope(id="", type="ShipmentPicked", key="o-1", flow="order", data=b"{}")


def test_a_time_without_a_zone_is_utc() -> None:
    """The same record means the same on every machine."""
    plain, zoned = (
        from_headers({"ce_time": f"2026-01-01T00:00:00{zone}"}, key="", flow="", data=b"") for zone in ("", "Z")
    )
    assert plain.time_ms == zoned.time_ms == 1_767_225_600_000


@pytest.mark.parametrize(
    "headers",
    [
        {"ce_choreoattempt": "two"},
        {"ce_choreodue": ""},
        {"ce_choreohops": "1_0"},
        {"ce_choreon": "\u0661"},
        {"ce_choreon": " 1"},
        {"ce_time": "yesterday"},
    ],
)
def test_a_malformed_header_is_refused(headers: dict[str, str]) -> None:
    """A log adapter turns the ValueError into a dead letter; nothing is guessed."""
    with pytest.raises(ValueError, match=r"no number|yesterday"):
        from_headers(headers, key="o-1", flow="order", data=b"")


@pytest.mark.parametrize("header", ["ce_choreodue", "ce_choreoattempt", "ce_choreohops", "ce_choreooutcome"])
def test_a_number_that_no_store_holds_is_refused(header: str) -> None:
    """A foreign header may hold anything; a number that passes is added to, shown and kept in 64 bits."""
    with pytest.raises(ValueError, match="beyond 2"):
        from_headers({header: "9" * 20}, key="o-1", flow="order", data=b"")


@pytest.mark.parametrize("time_ms", [-(10**18), 10**18])
def test_a_moment_beyond_the_calendar_is_written_as_its_end(time_ms: int) -> None:
    """Such an event is still shown and sent."""
    written = to_headers(Envelope(id="e", type="T", key="k", flow="f", time_ms=time_ms))["ce_time"]
    assert from_headers({"ce_time": written}, key="k", flow="f", data=b"").time_ms


def test_an_envelope_is_a_value() -> None:
    """Equal parts make equal envelopes."""
    event = Envelope(id="e", type="T", key="k", flow="f")
    assert replace(event) == event
    assert hash(replace(event)) == hash(event)
