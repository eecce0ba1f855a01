"""The documentation page in a real Chromium without the internet: it works, and its patterns are JavaScript's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from choreo.adapters.clock import SystemClock
from choreo.surfaces.rest import UseCases, create_app
from choreo.surfaces.rest.patterns import ecma
from tests.app.harness import Shop
from tests.support.browser import chromium
from tests.support.serving import served


def patterns(part: Any) -> Iterator[str]:
    """Yield every pattern in a description."""
    if isinstance(part, dict):
        if isinstance(part.get("pattern"), str):
            yield part["pattern"]
        for value in part.values():
            yield from patterns(value)
    elif isinstance(part, list):
        for value in part:
            yield from patterns(value)


async def test_the_page_works_without_the_internet() -> None:
    """It asks nobody but this process, and an order can be placed from it."""
    shop = await Shop(SystemClock()).open()
    app = create_app(UseCases(shop.flows, shop.publisher, shop.operator, shop.queries, shop.clock))
    async with served(app) as port, chromium() as browser:
        page = await browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await page.goto(f"http://127.0.0.1:{port}/")
        await page.click("#operations-flows-publishEvent")
        await page.click("#operations-flows-publishEvent .try-out__btn")
        await page.fill("#operations-flows-publishEvent input[placeholder=flow]", "order")
        await page.fill(
            "#operations-flows-publishEvent textarea", '{"type": "OrderPlaced", "fields": {"order_id": "o-1"}}'
        )
        await page.click("#operations-flows-publishEvent .execute")
        await page.wait_for_selector("#operations-flows-publishEvent .live-responses-table .response-col_status")
        shown = await page.inner_text("#operations-flows-publishEvent .live-responses-table")
        assert "201" in shown
        assert all(url.startswith((f"http://127.0.0.1:{port}/", "data:")) for url in asked), asked
        assert await page.evaluate(BROKEN, list(patterns(app.openapi()))) == []


BROKEN = "given => given.filter(one => { try { new RegExp(one, 'u'); return false } catch { return true } })"

# Patterns that pydantic's engine takes, a text that fits, and one that does not.
TRANSLATED = [
    (r"\A[A-Z]{2}-\d+\z", "AB-1", "xAB-1"),
    (r"^(?P<year>\d{4})-\d\d$", "2026-11", "26-11"),
    (r"^a\-b\_c\@d$", "a-b_c@d", "a-b-c@d"),
    (r"^[\w\-\.]+$", "a-b.c", "a b"),
    (r"^\x{1F600}|\U0001F600$", "😀", "x"),
    (r"^\p{Lu}\P{Lu}$", "Ab", "AB"),
    (r"^\\A$", "\\A", "A"),
]
LEFT_OUT = [r"(?i)abc", r"(?x) a b", r"[[:alpha:]]+", r"[a-z&&[^b]]", r"a\Qb", r"(?#note)a"]


async def test_a_pattern_of_an_event_class_means_the_same_in_javascript() -> None:
    """Or it is not in the description."""
    assert [ecma(pattern) for pattern in LEFT_OUT] == [None] * len(LEFT_OUT)
    async with chromium() as browser:
        page = await browser.new_page()
        for pattern, fits, does_not in TRANSLATED:
            found = await page.evaluate(
                "([one, ...texts]) => texts.map(text => new RegExp(one, 'u').test(text))",
                [ecma(pattern), fits, does_not],
            )
            assert found == [True, False], pattern
            assert validated(pattern, fits) is True
            assert validated(pattern, does_not) is False


def validated(pattern: str, text: str) -> bool:
    """Return pydantic's verdict."""
    try:
        TypeAdapter(Annotated[str, Field(pattern=pattern)]).validate_python(text)
    except ValidationError:
        return False
    return True
