"""The contract stays readable in both directions for ever; the error for a breach names field and remedy."""

import enum
import itertools
import json
import re
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import UUID4, Field, StringConstraints, constr

from choreo.adapters.avro.codec import AVRO, AvroCodec
from choreo.adapters.avro.frozen import check, freeze, versions
from choreo.core.errors import SchemaError
from choreo.event.event import Event, Part


def made(base: type, name: str, **fields: Any) -> Any:
    """Return a class of this name with these fields; a pair gives type and default."""
    annotations = {field: kind[0] if isinstance(kind, tuple) else kind for field, kind in fields.items()}
    defaults = {field: kind[1] for field, kind in fields.items() if isinstance(kind, tuple)}
    return type(base)(name, (base,), {"__annotations__": annotations, "__module__": __name__, **defaults})


def event(**fields: Any) -> Any:
    """Return a version of the event Paid."""
    return made(Event, "Paid", order_id=str, **fields)


def item(**fields: Any) -> Any:
    """Return a version of the part Item."""
    return made(Part, "Item", **fields)


def colour(*symbols: str) -> Any:
    """Return a version of the enum Colour."""
    return enum.Enum("Colour", {symbol.upper(): symbol for symbol in symbols})


def money(digits: int, places: int) -> Any:
    """Return a decimal of that many digits."""
    return Annotated[Decimal, Field(max_digits=digits, decimal_places=places)]


def stripped() -> Any:
    """Return a text that loses the blanks at its ends."""
    return Annotated[str, StringConstraints(strip_whitespace=True)]


def limited(kind: Any, **rules: Any) -> Any:
    """Return the type with these rules of pydantic's Field."""
    return Annotated[kind, Field(**rules)]


INCOMPATIBLE = [
    (
        event(),
        event(a=int),
        "Paid.a: was added without a default, so events written before lack it (against version 1)",
    ),
    (
        event(a=int),
        event(),
        "Paid.a: was removed though it had no default, so older readers miss it (against version 1)",
    ),
    (
        event(a=int),
        event(a=str),
        "Paid.a: changed from long to string (against version 1). Keep the type and add a new",
    ),
    (event(a=int), event(a=float), "Paid.a: changed from long to double"),
    (event(a=str), event(a=bytes), "Paid.a: changed from string to bytes"),
    (event(a=str), event(a=str | None), "Paid.a: changed from string to string or null"),
    (event(a=(str | None, None)), event(a=(str, "")), "Paid.a: changed from null or string to string"),
    (event(a=(str | None, None)), event(a=(int | None, None)), "Paid.a: changed from null or string to null or long"),
    (event(a=money(12, 2)), event(a=money(12, 3)), "Paid.a: changed from decimal(12, 2) to decimal(12, 3)"),
    (event(a=money(12, 2)), event(a=money(14, 2)), "Paid.a: changed from decimal(12, 2) to decimal(14, 2)"),
    (event(a=list[int]), event(a=list[str]), "Paid.a[]: changed from long to string"),
    (event(a=list[int]), event(a=dict[str, int]), "Paid.a: changed from list of long to map of long"),
    (event(a=dict[str, int]), event(a=dict[str, bool]), "Paid.a{}: changed from long to boolean"),
    (event(a=list[item(x=int)]), event(a=list[item(x=str)]), "Paid.a[].x: changed from long to string"),
    (event(a=item(x=int)), event(a=item(x=int, y=int)), "Paid.a.y: was added without a default"),
    (event(a=item(x=int)), event(a=made(Part, "Article", x=int)), "Paid.a: changed from Item to Article"),
    (
        event(a=colour("red")),
        event(a=colour("red", "blue")),
        "Paid.a: may now be 'blue', which older readers do not know",
    ),
    (event(a=colour("red", "blue")), event(a=colour("red")), "Paid.a: may no longer be 'blue', which the log may hold"),
    (event(a=Literal["x", "y"]), event(a=Literal["x"]), "Paid.a: may no longer be 'y', which the log may hold"),
    (event(a=Literal["x"]), event(a=Literal["x", "y"]), "Paid.a: may now be 'y', which older readers do not know"),
    (event(a=str), event(a=Literal["x"]), "Paid.a: may now be only 'x'; the log may hold others"),
    (event(a=Literal[1, 2]), event(a=int), "Paid.a: may now be other than 1, 2, which older readers refuse"),
    (event(a=str), event(a=limited(str, max_length=5)), "Paid.a: must now be at most 5 long; the log may hold others"),
    (
        event(a=limited(str, max_length=9)),
        event(a=limited(str, max_length=5)),
        "Paid.a: must now be at most 5 long, bef",
    ),
    (event(a=limited(int, ge=0)), event(a=limited(int, gt=0)), "Paid.a: must now be above 0; the log may hold others"),
    (event(a=limited(int, le=9)), event(a=limited(int, lt=9)), "Paid.a: must now be below 9; the log may hold others"),
    (event(a=int), event(a=limited(int, multiple_of=5)), "Paid.a: must now be a multiple of 5; the log may hold"),
    (event(a=uuid.UUID), event(a=UUID4), "Paid.a: must now be a UUID of version 4; the log may hold others"),
    (event(a=str), event(a=constr(to_lower=True)), "Paid.a: must now be in lower case; the log may hold others"),
    (event(a=str), event(a=stripped()), "Paid.a: must now be without blanks at its ends; the log may hold others"),
    (event(a=list[str]), event(a=list[stripped()]), "Paid.a[]: must now be without blanks at its ends; the log"),
    (
        event(a=limited(str, pattern=re.compile("^a", re.IGNORECASE))),
        event(a=limited(str, pattern=re.compile("^a"))),
        "Paid.a: must now be like '^a', before like '(?i)^a'; the log may hold others",
    ),
    (event(a=str), event(a=limited(str, pattern="^a")), "Paid.a: must now be like '^a'; the log may hold others"),
    (event(a=list[str]), event(a=list[limited(str, min_length=1)]), "Paid.a[]: must now be at least 1 long"),
    (event(a=list[str]), event(a=limited(list[str], min_length=1)), "Paid.a: must now be at least 1 long"),
    (event(a=dict[str, int]), event(a=dict[str, limited(int, lt=3)]), "Paid.a{}: must now be below 3"),
    (event(a=(int | None, None)), event(a=(limited(int | None, lt=3), None)), "Paid.a: must now be below 3"),
    (event(a=item(x=int)), event(a=item(x=limited(int, gt=0))), "Paid.a.x: must now be above 0"),
    (
        event(a=datetime),
        event(a=limited(datetime, gt=datetime(2026, 1, 1, tzinfo=UTC))),
        "Paid.a: must now be above 2026",
    ),
    (event(), event(a=(uuid.UUID, Field(default_factory=uuid.uuid4))), "Paid.a: was added without a default"),
]


@pytest.mark.parametrize(("old", "new", "sentence"), INCOMPATIBLE, ids=[case[2][:45] for case in INCOMPATIBLE])
def test_an_incompatible_change_is_named_and_not_frozen(old: Any, new: Any, sentence: str, tmp_path: Path) -> None:
    """`check` reports it, `freeze` refuses it and writes nothing."""
    freeze([old], tmp_path)
    [problem] = check([new], tmp_path)
    assert problem.sentence.startswith(sentence)
    assert problem.remedy
    with pytest.raises(SchemaError) as refused:
        freeze([new], tmp_path)
    assert refused.value.sentence == problem.sentence
    assert [path.name for path in tmp_path.iterdir()] == ["Paid.1.avsc"]


COMPATIBLE = [
    (event(), event(a=(int, 0)), "Paid.a: was added since version 1 was frozen"),
    (event(), event(a=(str | None, None)), "Paid.a: was added"),
    (event(a=(int, 0)), event(), "Paid.a: was removed"),
    (event(a=(int, 0)), event(a=(int, 1)), "Paid.a: has another default"),
    (event(a=int), event(a=(int, 1)), "Paid.a: has another default"),
    (event(a=list[item(x=int)]), event(a=list[item(x=int, y=(int, 0))]), "Paid.a[].y: was added"),
    (event(a=int, b=int), event(b=int, a=int), "Paid.: stands in another order: order_id, b, a; before order_id, a, b"),
    (event(a=colour("red", "blue")), event(a=colour("blue", "red")), "Paid.a: stands in another order: blue, red"),
    (event(a=item(x=int, y=int)), event(a=item(y=int, x=int)), "Paid.a: stands in another order: y, x"),
    (event(a=limited(int, gt=5)), event(a=limited(int, ge=5)), "Paid.a: need no longer be above 5"),
    (event(a=limited(int, gt=5)), event(a=int), "Paid.a: need no longer be above 5"),
    (
        event(a=limited(str, max_length=5)),
        event(a=limited(str, max_length=9)),
        "Paid.a: must now be at most 9 long, before",
    ),
    (
        event(a=limited(int, multiple_of=6)),
        event(a=limited(int, multiple_of=3)),
        "Paid.a: must now be a multiple of 3, bef",
    ),
]


@pytest.mark.parametrize(("old", "new", "sentence"), COMPATIBLE, ids=[case[2] for case in COMPATIBLE])
def test_a_compatible_change_becomes_the_next_version(old: Any, new: Any, sentence: str, tmp_path: Path) -> None:
    """Until it is frozen, `check` asks for it."""
    freeze([old], tmp_path)
    problem = check([new], tmp_path)[0]
    assert problem.sentence.startswith(sentence)
    assert "Run `choreo schemas freeze`" in problem.remedy
    assert [path.name for path in freeze([new], tmp_path)] == ["Paid.2.avsc"]
    assert check([new], tmp_path) == []


@pytest.mark.parametrize(
    ("second", "third"),
    [
        (event(b=int, a=int), event(b=int, a=int, c=(str, ""))),
        (event(a=int, b=int), event(a=int, b=int, c=(str, ""))),
    ],
)
def test_what_was_written_in_another_order_is_read_by_every_version(second: Any, third: Any, tmp_path: Path) -> None:
    """The fingerprint names the order, so the order is frozen too."""
    first = event(a=int, b=int)
    versions_of_it = (first, second, third)
    for one in versions_of_it:
        freeze([one], tmp_path)
    codec = AvroCodec(tmp_path)
    for writer, reader in itertools.product(versions_of_it, versions_of_it):
        read = codec.decode(reader, AVRO, codec.encode(writer(order_id="o", a=1, b=2)))
        assert (read.order_id, read.a, read.b) == ("o", 1, 2)


def test_a_renamed_class_is_the_same_event_by_its_type(tmp_path: Path) -> None:
    """The type in the log is the schema's name, so nothing changes, and each version reads the other."""

    class Payment(Event):
        event_type: ClassVar[str] = "Paid"
        order_id: str
        note: str = ""

    old = event()
    freeze([old], tmp_path)
    freeze([Payment], tmp_path)
    codec = AvroCodec(tmp_path)
    assert codec.decode(Payment, AVRO, codec.encode(old(order_id="o"))) == Payment(order_id="o")
    assert codec.decode(old, AVRO, codec.encode(Payment(order_id="o"))) == old(order_id="o")


def test_a_named_type_may_move_to_a_new_optional_field(tmp_path: Path) -> None:
    """The old events hold the type at another place than the reader's schema defines it."""
    part, hue = item(x=int), colour("red", "blue")
    old = event(sold=part, hue=hue)
    new = made(Event, "Paid", order_id=str, gift=(part | None, None), tint=(hue | None, None), sold=part, hue=hue)
    freeze([old], tmp_path)
    freeze([new], tmp_path)
    codec = AvroCodec(tmp_path)
    read = codec.decode(new, AVRO, codec.encode(old(order_id="o", sold=part(x=1), hue="red")))
    assert read == new(order_id="o", sold=part(x=1), hue="red")
    back = codec.decode(old, AVRO, codec.encode(new(order_id="o", gift=part(x=2), sold=part(x=1), hue="red")))
    assert back == old(order_id="o", sold=part(x=1), hue="red")


def test_a_default_made_each_time_is_no_default_of_the_contract(tmp_path: Path) -> None:
    """Two readers would fill in two values; a frozen class fits its file however often it is looked at."""
    stamped = event(id=(uuid.UUID, Field(default_factory=uuid.uuid4)), tags=(list[str], Field(default_factory=list)))
    [path] = freeze([stamped], tmp_path)
    fields = json.loads(path.read_text())["fields"]
    assert "default" not in fields[1]
    assert fields[2]["default"] == []
    assert check([stamped], tmp_path) == []
    assert freeze([stamped], tmp_path) == []


def test_a_docstring_is_no_new_version(tmp_path: Path) -> None:
    """Documentation counts for nothing."""
    freeze([event(a=int)], tmp_path)
    assert freeze([event(a=Annotated[int, Field(description="how many")])], tmp_path) == []


def test_a_class_never_frozen_is_reported(tmp_path: Path) -> None:
    """A reader with only the files could not read its first events."""
    [problem] = check([event()], tmp_path)
    assert problem.sentence.startswith("Paid: is not frozen. Run `choreo schemas freeze`")


def test_every_version_counts_not_only_the_newest(tmp_path: Path) -> None:
    """A field that came back with another type agrees with version 2, where it was gone, and not with version 1."""
    freeze([event(a=(int, 0))], tmp_path)
    freeze([event()], tmp_path)
    [problem] = check([event(a=(str, ""))], tmp_path)
    assert problem.sentence.startswith("Paid.a: changed from long to string (against version 1)")


def test_ten_versions_stay_in_their_order(tmp_path: Path) -> None:
    """Version 10 is newer than 9, though its name sorts before 2."""
    for count in range(10):
        freeze([event(**{f"f{n}": (int, 0) for n in range(count)})], tmp_path)
    assert [version.number for version in versions(tmp_path)["Paid"]] == list(range(1, 11))


def test_a_frozen_file_is_an_avro_schema_for_everybody(tmp_path: Path) -> None:
    """Plain JSON of the specification's words, with the documentation."""
    [path] = freeze([event(a=(int, 3))], tmp_path)
    declaration = json.loads(path.read_text())
    assert declaration["name"] == "Paid"
    assert declaration["fields"][1] == {"name": "a", "type": "long", "default": 3}


DAMAGED = [
    ("Paid.1.avsc", "{", "Paid.1.avsc: cannot be read as an Avro schema"),
    ("Paid.1.avsc", "[]", "Paid.1.avsc: is not the schema of a record"),
    ("Paid.1.avsc", '{"type": "record", "name": "Paid"}', "Paid.1.avsc: is not the schema of a record"),
    (
        "Paid.1.avsc",
        '{"type": "record", "name": "Paid", "fields": [{"name": "a", "type": "strin"}]}',
        "Paid.1.avsc: cannot be read as an Avro schema",
    ),
    ("Paid.avsc", "{}", "Paid.avsc: this name has no event and version. Call it such as OrderPlaced.1.avsc"),
    (
        "Paid.2.avsc",
        '{"type": "record", "name": "Paid", "fields": []}',
        "Paid.1.avsc: version 1 is missing. Restore it",
    ),
]


@pytest.mark.parametrize(("name", "text", "sentence"), DAMAGED)
def test_a_damaged_file_is_named_with_the_remedy(name: str, text: str, sentence: str, tmp_path: Path) -> None:
    """Nothing is guessed about a contract."""
    (tmp_path / name).write_text(text)
    with pytest.raises(SchemaError) as refused:
        check([event()], tmp_path)
    assert refused.value.sentence.startswith(f"{tmp_path}/{sentence}")
    assert refused.value.remedy
