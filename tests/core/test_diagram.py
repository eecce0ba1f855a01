"""The picture of a flow: everything that is declared is in it, and it is the same each time."""

from __future__ import annotations

from msgspec.structs import replace

from choreo.core.conditions import Compare, Every, Otherwise
from choreo.core.definition import FlowDefinition, export, load
from choreo.core.diagram import mermaid
from choreo.core.fields import FieldType
from tests.core.plain import CHARGE, CONFIRM_PICKED, PICK, RESERVE, TELL, flow, step

ORDER = flow(RESERVE, CHARGE, CONFIRM_PICKED, TELL, waits=(PICK,), fails="OrderCancelled")


def test_the_picture_of_an_order() -> None:
    """Events are edges; failures cross to the start of compensation, compensations are dashed, waits are hexagons."""
    assert (
        mermaid(ORDER)
        == """\
flowchart TD
    start(["OrderPlaced"])
    subgraph service0["stock"]
        step0["stock.reserve"]
        undo0["undo stock.reserve"]:::undo
    end
    subgraph service1["payment"]
        step1["payment.charge"]
        undo1["undo payment.charge"]:::undo
    end
    subgraph service2["mail"]
        step2["mail.confirm"]
        step3["mail.tell"]
    end
    wait0{{"wait for Picked, 1h"}}
    done(["completed"]):::ends
    compensation(["compensation: undone newest first"]):::ends
    start --> step0
    step0 -->|"StockReserved"| step1
    step0 --x|"StockRejected"| compensation
    step0 -.-|"StockReleased"| undo0
    step1 -->|"PaymentCharged"| wait0
    step1 --x|"PaymentDeclined"| compensation
    step1 -.-|"PaymentRefunded"| undo1
    step2 -->|"OrderConfirmed"| done
    wait0 -->|"Picked"| step2
    wait0 --x|"PickTimedOut"| compensation
    compensation -->|"OrderCancelled"| step3
    classDef undo stroke-dasharray: 4 3
    classDef ends stroke-width: 3px
"""
    )


def test_everything_declared_is_in_the_picture() -> None:
    """Also an event to which nobody reacts, and a reaction to an undo."""
    noted = step("mail.note", "PaymentRefunded", "RefundNoted")
    drawn = mermaid(replace(ORDER, steps=(*ORDER.steps, noted)))
    for part in ORDER.steps:
        assert f'"{part.name}"' in drawn
        for type_ in (*part.emits, *part.fails, *(part.compensation.emits if part.compensation else ())):
            assert f'|"{type_}"|' in drawn
    assert 'event0(["RefundNoted"])' in drawn
    assert 'undo1 -.->|"PaymentRefunded"| step4' in drawn


def test_the_picture_depends_on_the_definition_only() -> None:
    """Drawn from JSON it is the same text."""
    assert mermaid(load(export(ORDER))) == mermaid(ORDER)


def test_no_name_is_taken_for_markup() -> None:
    """A wrong definition is drawn too: the picture may be what shows the mistake."""
    wrong = FlowDefinition("x", "id", 'Start"#', "Done", ())
    assert 'start(["Start#quot;#35;"])' in mermaid(wrong)


def test_a_condition_stands_on_the_edge_to_its_step() -> None:
    """In the words of the declaration, and no character of it is read as Mermaid syntax."""
    small = Compare("amount", "<", 100, FieldType("number"))
    plain = Every((small, Compare("shop", "==", "A|B", FieldType("text"))))
    steps = (
        replace(RESERVE, when=plain),
        replace(CHARGE, when=Otherwise()),
        step("mail.note", "OrderPlaced", "Noted", when=Otherwise()),
    )
    drawn = mermaid(flow(*steps, completes="PaymentCharged"))
    assert 'start -->|"if amount #lt; 100 #amp; shop == #quot;A#124;B#quot;"| step0' in drawn
    assert 'start -->|"otherwise"| step2' in drawn
    assert 'step0 -->|"StockReserved, otherwise"| step1' in drawn
