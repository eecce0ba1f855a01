"""`choreo dev`: it can be asked once it says so, and starts again when a file of the project changes."""

from __future__ import annotations

from tests.support.reader import Reader

LIMIT = "AMOUNT_MAX = Decimal(1_000)"


def test_a_changed_handler_runs_without_a_new_start_by_hand(newcomer: Reader) -> None:
    """An order that was too dear is paid after the limit was raised; a file that cannot be imported is survived."""
    newcomer.types("choreo new shop")
    newcomer.goes_to("shop")
    payment = newcomer.folder / "services" / "payment.py"
    first, broken = payment.read_text(), "import a_module_that_is_not_there\n"
    newcomer.starts("choreo dev --reload")
    _orders(newcomer, "o-1", "compensated")

    payment.write_text(first + broken)
    newcomer.hears("No module named 'a_module_that_is_not_there'")
    payment.write_text(first.replace(LIMIT, "AMOUNT_MAX = Decimal(9_000)"))
    newcomer.hears("Ctrl-C stops.", times=2)
    _orders(newcomer, "o-2", "completed")
    assert newcomer.ends() == 0


def test_it_says_so_once_it_can_be_asked(newcomer: Reader) -> None:
    """Nobody who asks after the last line is refused a connection."""
    newcomer.types("choreo new shop")
    newcomer.goes_to("shop")
    newcomer.starts("choreo dev")
    assert newcomer.types("curl --fail --silent http://127.0.0.1:8080/livez")


def test_a_file_that_is_no_code_restarts_nothing(newcomer: Reader) -> None:
    """The log itself changes all the time; only code, settings and contracts count."""
    from watchfiles import Change

    from choreo.cli.reload import CODE

    watched = {name for name in _NAMES if CODE(Change.modified, f"/project/{name}")}
    assert watched == {"flow.py", "pyproject.toml", "schemas/Placed.1.avsc", "topics/order.yaml"}


_NAMES = (
    "flow.py",
    "pyproject.toml",
    "schemas/Placed.1.avsc",
    "topics/order.yaml",
    ".choreo/choreo.db-wal",
    ".venv/lib/python3.11/site-packages/choreo/__init__.py",
    "__pycache__/flow.cpython-311.pyc",
    "README.md",
)


def _orders(newcomer: Reader, key: str, end: str) -> None:
    newcomer.types(
        f"choreo publish order OrderPlaced --field order_id={key} --field article=lamp --field quantity=1"
        " --field amount=4990"
    )
    newcomer.sees(f"choreo show {key}", f"order {key} {end}")
