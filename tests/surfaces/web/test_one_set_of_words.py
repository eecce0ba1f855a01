"""One set of words: status, cause, sentences, remedy and command are the same in CLI, REST, page and runbooks."""

from __future__ import annotations

import html
import importlib.util
import json
import re
import typing
from asyncio import to_thread
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from choreo.app.query.why.words import WORDS, Cause
from choreo.cli import list as list_command
from choreo.cli import program
from choreo.core.state import STATUSES
from choreo.core.trace_ids import trace_id
from choreo.surfaces.json_format import Status
from tests.surfaces.web.harness import STATES, Site

ROOT = Path(__file__).parents[3]
RUNBOOKS = ROOT / "docs" / "runbooks"
FAULTS = [cause for cause in Cause if not WORDS[cause].healthy]
NO_ALERT = {
    Cause.PAUSED: "an operator wants it so",
    Cause.VERSION_UNSERVED: "needs a metric of versions",
    Cause.OFFSET_PAST: "shows as no alert: the lag is 0",
    Cause.ORPHAN: "needs a metric of orphans",
}
"""Faults without an alert, each with the reason."""


@pytest_asyncio.fixture(loop_scope="session")
async def client(site: Site) -> typing.AsyncIterator[httpx.AsyncClient]:
    """Yield a client of the running site."""
    async with httpx.AsyncClient(base_url=site.url.removesuffix("/ui"), timeout=30) as client:
        yield client


@pytest.fixture
def typed(site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Return the command line on the site's storage; it answers what it prints."""
    settings = site.app.settings
    monkeypatch.setenv("CHOREO_DATABASE", str(settings.database))
    monkeypatch.setenv("CHOREO_FLOWS", ",".join(settings.flows))
    monkeypatch.setenv("CHOREO_TOPICS", str(settings.topics))

    async def run(*words: str) -> str:
        capsys.readouterr()
        await to_thread(program.run, words)
        return capsys.readouterr().out

    return run


pytestmark = pytest.mark.asyncio(loop_scope="session")
STEADY = sorted(set(STATES) - {"retry-1"})
"""Runs whose sentences do not change while the test asks."""


@pytest.mark.parametrize("key", STEADY)
async def test_a_cause_has_the_same_words_everywhere(
    site: Site, client: httpx.AsyncClient, typed: Any, key: str
) -> None:
    """`choreo why` for people and as JSON, GET …/why, and the page."""
    rest = (await client.get(f"/flows/order/instances/{key}/why")).json()
    printed = json.loads(await typed("why", key, "-o", "json"))
    words = ("status", "cause", "sentence", "remedy", "command", "healthy", "trace")
    assert {name: rest[name] for name in words} == {name: printed[name] for name in words}
    for_people = await typed("why", key)
    page = html.unescape((await client.get(f"/ui/flows/order/instances/{key}")).text)
    for text in (rest["sentence"], rest["remedy"], rest["command"], rest["status"], rest["trace"]):
        assert text in for_people
        assert text in page
    template = WORDS[Cause(rest["cause"])]
    assert re.fullmatch(re.sub(r"\\\{\w+\\\}", ".*", re.escape(template.sentence)), rest["sentence"])
    assert re.fullmatch(re.sub(r"\\\{\w+\\\}", ".*", re.escape(template.remedy)), rest["remedy"])


@pytest.mark.parametrize("key", STEADY)
async def test_waits_have_the_same_sentences_everywhere(
    site: Site, client: httpx.AsyncClient, typed: Any, key: str
) -> None:
    """`choreo show`, GET of the instance, and the page."""
    shown = (await client.get(f"/flows/order/instances/{key}")).json()
    rest = shown["waiting_for"]
    assert json.loads(await typed("show", key, "-o", "json"))["waiting_for"] == rest
    assert shown["trace"] == trace_id(shown["run"]) in await typed("show", key)
    page = html.unescape((await client.get(f"/ui/flows/order/instances/{key}")).text)
    for_people = " ".join((await typed("show", key)).split())
    for sentence in rest:
        assert sentence in page
        assert sentence in for_people


async def test_statuses_are_the_same_everywhere(client: httpx.AsyncClient) -> None:
    """The core's table: options of the CLI, values of the REST view, the page's filter, labels of a metric."""
    assert list_command.STATUSES is STATUSES
    assert typing.get_args(Status) == STATUSES
    page = (await client.get("/ui/flows/order/instances")).text
    chosen = page.partition('<select id="status"')[2].partition("</select>")[0]
    assert re.findall(r"<option[^>]*>(\w+)</option>", chosen)[1:] == list(STATUSES)
    metrics = (await client.get("/metrics")).text
    labels = {re.search(r'status="(\w+)"', line)[1] for line in metrics.splitlines() if line.startswith("choreo_runs{")}  # type: ignore[index]
    assert labels == set(STATUSES)
    described = (await client.get("/openapi.json")).json()["components"]["schemas"]
    assert described["InstanceSummary"]["properties"]["status"]["enum"] == list(STATUSES)


async def test_the_page_of_causes_is_the_table() -> None:
    """Write it again with `python docs/write_causes.py`."""
    spec = importlib.util.spec_from_file_location("write_causes", ROOT / "docs" / "write_causes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = (RUNBOOKS / "causes.md").read_text()
    assert text == module.page()
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == FAULTS


async def test_runbooks_of_alerts_lead_to_causes() -> None:
    """Each link names a cause, and each fault has an alert that leads to it, or a reason why not."""
    linked = {
        name for page in RUNBOOKS.glob("*.md") for name in re.findall(r"\]\(causes\.md#([\w-]+)\)", page.read_text())
    }
    assert linked <= set(FAULTS)
    assert linked | NO_ALERT.keys() == set(FAULTS)
    assert not linked & NO_ALERT.keys()


@pytest.mark.parametrize("cause", FAULTS)
async def test_the_next_command_of_a_cause_exists(cause: Cause) -> None:
    """A command of choreo is one of the program's; the only other one is Kafka's own."""
    begin = WORDS[cause].command.split()
    known = {name for commands in program.COMMANDS.values() for name in commands}
    assert begin[0] == "kafka-consumer-groups.sh" or (begin[0] == "choreo" and begin[1] in known)
