"""The control verbs: permissions, and arguments from peers."""

import asyncio
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest

from drawwell.authorisation import ANYONE, Principal
from drawwell.broker.control import Control
from drawwell.broker.health_record import HealthRecord
from drawwell.broker.own_verbs import OwnVerbs
from drawwell.errors import PermissionRefused, SourceUnavailable, UsageError
from drawwell.reports import BrokerReport
from drawwell.state.health_rows import HealthRows
from drawwell.testing.scripted import ScriptedSource
from drawwell.testing.virtual_time import run_virtually
from support.principals import OWNER, consumer
from support.workbench import UNLIMITED, Workbench


async def _answered(principal: Principal, **_arguments: object) -> dict:
    return {"asked by": principal.name}


@contextmanager
def controlled(*names: str) -> Iterator[tuple[Workbench, Control]]:
    """Yield a bench with sources of these names."""
    bench = Workbench(
        *(ScriptedSource(name, seed=n) for n, name in enumerate(names)),
        terms={"web01": UNLIMITED, "db01": UNLIMITED},
        capacity_bytes=4096,
    )

    async def report(_most: int) -> BrokerReport:
        return replace(bench.broker.report(), consumers=bench.broker.book.busiest(2))

    with closing(HealthRows(":memory:")) as rows:
        verbs = OwnVerbs(bench.broker, report, HealthRecord(rows, lambda: 0.0), lambda: ["db01"])
        yield bench, Control({**verbs.handlers(), "consumer.invite": _answered, "renew": _answered})


def asked(names: tuple[str, ...], peer: Principal, verb: str, args: dict) -> dict:
    async def run() -> dict:
        with controlled(*names) as (bench, control):
            async with bench.run():
                await bench.until_filled()
                return await control(peer, verb, args)

    return run_virtually(run())


def test_a_consumer_sees_itself_and_nothing_of_the_others() -> None:
    """A consumer's status has readiness and its own account, no other name."""
    status = asked(("stick",), consumer(), "status", {})

    assert [consumer["name"] for consumer in status["consumers"]] == ["web01"]
    assert set(status) == {
        "name", "version", "ready", "not_ready_because", "evidence", "devices", "consumers",
    }  # fmt: skip


def test_the_owner_sees_everything() -> None:
    """The owner's status has every source and every consumer."""
    status = asked(("stick",), OWNER, "status", {})

    assert [consumer["name"] for consumer in status["consumers"]] == ["web01", "db01"]
    assert [source["identity"]["name"] for source in status["sources"]] == ["stick"]


@pytest.mark.parametrize(("peer", "names"), [(OWNER, True), (consumer("db01"), True), (ANYONE, False)])
def test_names_are_for_the_owner_and_observers(peer: Principal, names: bool) -> None:
    """The owner and listed observers can see names; other peers cannot."""
    seen = asked(("stick",), peer, "observe", {})
    assert seen["names"] is names
    assert [source["identity"]["name"] for source in seen["report"]["sources"]] == ["stick"]


def test_a_consumer_observes_nothing_unless_it_is_listed() -> None:
    """An unlisted consumer is refused, and the hint names the setting."""
    with pytest.raises(PermissionRefused, match="may not observe") as refused:
        asked(("stick",), consumer("web01"), "observe", {})
    assert "observers in [health]" in str(refused.value.hint)


@pytest.mark.parametrize("verb", ["source.command", "consumer.invite"])
def test_the_owners_verbs_are_not_for_consumers(verb) -> None:
    """A consumer is refused an owner's verb; the error names who may use it."""
    with pytest.raises(PermissionRefused, match="only the broker's owner") as refused:
        asked(("stick",), consumer(), verb, {"source": "stick", "verb": "info"})
    assert refused.value.hint


@pytest.mark.parametrize("peer", [OWNER, consumer()])
def test_an_unknown_verb_is_refused(peer) -> None:
    """No peer gets an answer to a verb that does not exist."""
    with pytest.raises(UsageError, match="'dance'"):
        asked(("stick",), peer, "dance", {})


def test_a_consumer_is_named_by_its_door_and_not_by_its_arguments() -> None:
    """A verb applies to the caller itself; a name as an argument is refused."""
    assert asked(("stick",), consumer(), "renew", {"csr": "x"}) == {"asked by": "web01"}
    with pytest.raises(UsageError, match="renew: unknown argument 'name'"):
        asked(("stick",), consumer(), "renew", {"csr": "x", "name": "db01"})


def test_the_only_source_needs_no_name() -> None:
    """With one source, a verb without a name goes to it."""
    assert asked(("stick",), OWNER, "source.command", {"verb": "info"}) == {"done": "info"}


def test_with_two_sources_one_must_be_named() -> None:
    """Without a name, the refusal lists the names; with a name, the verb runs."""
    with pytest.raises(SourceUnavailable, match="name is missing") as refused:
        asked(("a", "b"), OWNER, "source.command", {"verb": "info"})
    assert "a, b" in str(refused.value.hint)
    assert asked(("a", "b"), OWNER, "source.command", {"source": "b", "verb": "info"}) == {"done": "info"}


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"verb": None},
        {"verb": ["info"]},
        {"verb": "info", "args": "x"},
        {"verb": "info", "args": []},
        {"verb": "info", "source": []},
        {"verb": "info", "source": {"a": 1}},
        {"verb": "info", "source": 7},
        {"verb": "info", "source": ""},
        {"verb": "info", "source": "missing"},
        {"verb": "", "source": "a"},
        {"verb": "capture", "source": "a", "args": {"bytes": "many"}},
    ],
)
def test_any_arguments_are_answered_with_an_error_of_ours(args) -> None:
    """Any arguments give a usage or source error; the source keeps running."""

    async def run() -> None:
        with controlled("a", "b") as (bench, control):
            async with bench.run():
                await bench.until_filled()
                with pytest.raises((UsageError, SourceUnavailable)):
                    await control(OWNER, "source.command", args)
                await asyncio.sleep(1)
                assert all(source.healthy for source in bench.sources)

    run_virtually(run())
