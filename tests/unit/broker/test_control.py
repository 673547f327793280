"""The control verbs: who may ask what, with whatever arguments come from outside."""

import asyncio
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


def controlled(*names: str) -> tuple[Workbench, Control]:
    """A bench with sources of those names."""
    bench = Workbench(
        *(ScriptedSource(name, seed=n) for n, name in enumerate(names)),
        terms={"web01": UNLIMITED, "db01": UNLIMITED},
        capacity_bytes=4096,
    )

    async def report(_most: int) -> BrokerReport:
        return replace(bench.broker.report(), consumers=bench.broker.book.busiest(2))

    health = HealthRecord(HealthRows(":memory:"), lambda: 0.0)
    control = Control(
        {
            **OwnVerbs(bench.broker, report, health, lambda: ["db01"]).handlers(),
            "consumer.invite": _answered,
            "renew": _answered,
        }
    )
    return bench, control


def asked(names: tuple[str, ...], peer: Principal, verb: str, args: dict) -> dict:
    async def run() -> dict:
        bench, control = controlled(*names)
        async with bench.run():
            await bench.until_filled()
            return await control(peer, verb, args)

    return run_virtually(run())


def test_a_consumer_sees_itself_and_nothing_of_the_others() -> None:
    """A consumer's status holds its own account and whether the broker is ready; no source, no other consumer."""
    status = asked(("stick",), consumer(), "status", {})

    assert [consumer["name"] for consumer in status["consumers"]] == ["web01"]
    assert set(status) == {"name", "version", "ready", "not_ready_because", "evidence", "consumers"}


def test_the_owner_sees_everything() -> None:
    """The owner's status has every source and every consumer."""
    status = asked(("stick",), OWNER, "status", {})

    assert [consumer["name"] for consumer in status["consumers"]] == ["web01", "db01"]
    assert [source["identity"]["name"] for source in status["sources"]] == ["stick"]


@pytest.mark.parametrize(("peer", "names"), [(OWNER, True), (consumer("db01"), True), (ANYONE, False)])
def test_names_are_for_the_owner_and_observers(peer: Principal, names: bool) -> None:
    """Owner and listed observers may see names, a peer that is not known may not."""
    seen = asked(("stick",), peer, "observe", {})
    assert seen["names"] is names
    assert [source["identity"]["name"] for source in seen["report"]["sources"]] == ["stick"]


def test_a_consumer_observes_nothing_unless_it_is_listed() -> None:
    """Another consumer is refused, with the setting to change."""
    with pytest.raises(PermissionRefused, match="may not observe") as refused:
        asked(("stick",), consumer("web01"), "observe", {})
    assert "[health] observers" in str(refused.value.hint)


@pytest.mark.parametrize("verb", ["source.command", "consumer.invite"])
def test_the_owners_verbs_are_not_for_consumers(verb) -> None:
    """A consumer that asks for a verb of the owner is refused and told who may."""
    with pytest.raises(PermissionRefused, match="only the broker's owner") as refused:
        asked(("stick",), consumer(), verb, {"source": "stick", "verb": "info"})
    assert refused.value.hint


@pytest.mark.parametrize("peer", [OWNER, consumer()])
def test_an_unknown_verb_is_refused(peer) -> None:
    """Nobody gets an answer to a verb that does not exist."""
    with pytest.raises(UsageError, match="'dance'"):
        asked(("stick",), peer, "dance", {})


def test_a_consumer_is_named_by_its_door_and_not_by_its_words() -> None:
    """A verb works on the peer's own name, and a name in its arguments is refused."""
    assert asked(("stick",), consumer(), "renew", {"csr": "x"}) == {"asked by": "web01"}
    with pytest.raises(UsageError, match="renew takes no 'name'"):
        asked(("stick",), consumer(), "renew", {"csr": "x", "name": "db01"})


def test_the_only_source_needs_no_name() -> None:
    """With one source, a verb without a name goes to it."""
    assert asked(("stick",), OWNER, "source.command", {"verb": "info"}) == {"done": "info"}


def test_with_two_sources_one_must_be_named() -> None:
    """With two sources, a verb without a name is refused with their names; with one it goes there."""
    with pytest.raises(SourceUnavailable, match="which source") as refused:
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
        {"verb": "info", "source": "nobody"},
        {"verb": "", "source": "a"},
        {"verb": "capture", "source": "a", "args": {"bytes": "many"}},
    ],
)
def test_any_arguments_are_answered_with_an_error_of_ours(args) -> None:
    """Whatever stands in the arguments, the answer is a usage or a source error, and the source goes on."""

    async def run() -> None:
        bench, control = controlled("a", "b")
        async with bench.run():
            await bench.until_filled()
            with pytest.raises((UsageError, SourceUnavailable)):
                await control(OWNER, "source.command", args)
            await asyncio.sleep(1)
            assert all(source.healthy for source in bench.sources)

    run_virtually(run())
