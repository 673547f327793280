"""The table of permissions by door and verb, copied by hand."""

import asyncio
import itertools
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawwell.authorisation import ALLOWED, VERBS, DoorKind, Principal, Role, may
from drawwell.broker.control import Control
from drawwell.errors import PermissionRefused, UsageError
from support.principals import OWNER, consumer

TABLE = """
          control     unix  link  tls  stream  https  http  probe  ssh  egd  usb  guest  deposit
owner     DsrRSILVUCGmK DsrR Ds    -    -       -      Dsym  -      k    -    -    -      P
speaker   -           -     -     -    -       -      -     -      k    -    -    -      -
source    -           -     -     -    -       -      -     -      -    -    -    -      P
observer  o           -     o     -    -       -      -     -      -    -    -    -      -
consumer  DsrRm       DsrR  Ds    DsrRm D       Dsym   Dsym  -      Ds   DM   D    Ds     -
expired   r           -     -     r    -       y      -     -      -    -    -    -      -
stranger  -           -     -     -    -       y      y     ym     -    -    -    -      -
"""
"""A letter for each permission, a hyphen for none."""
LETTERS = {
    "D": {"draw"},
    "M": {"stir"},
    "k": {"speak"},
    "P": {"deposit"},
    "r": {"renew"},
    "R": {"rekey"},
    "y": {"ready"},
    "s": {"status", "receipt-key", "brokers"},
    "o": {"status"},
    "m": {"observe"},
    "S": {"source.command", "source.history"},
    "I": {"consumer.invite"},
    "L": {"consumer.list"},
    "V": {"consumer.revoke"},
    "U": {"consumer.quota"},
    "C": {"seed.claim", "seed.settle"},
    "K": {"server.rotate", "fleet.open"},
    "G": {"guest.add", "guest.settle", "guest.remove", "guest.list"},
}


def allowed_by_hand() -> set[tuple[DoorKind, Role, str]]:
    """Read the handwritten table."""
    head, *rows = TABLE.strip().splitlines()
    ways = [DoorKind[name.upper()] for name in head.split()]
    found = set()
    for row in rows:
        standing, *cells = row.split()
        assert len(cells) == len(ways)
        for way, cell in zip(ways, cells, strict=True):
            for letter in cell.replace("-", ""):
                found |= {(way, Role(standing), verb) for verb in LETTERS[letter]}
    return found


BY_HAND = allowed_by_hand()


@pytest.mark.parametrize(("door", "role"), list(itertools.product(DoorKind, Role)))
def test_the_table(door: DoorKind, role: Role) -> None:
    """Each combination of door, role and verb is allowed only by the table."""
    allowed = set()
    for verb in VERBS:
        with suppress(PermissionRefused):
            may(door, Principal(role, "web01"), verb)
            allowed.add((door, role, verb))
    assert allowed == {each for each in BY_HAND if each[:2] == (door, role)}


def test_the_owners_verbs_are_the_owners_and_only_at_the_control_socket() -> None:
    """No network peer can reach a source or the consumers' terms."""
    for way, standing, verb in BY_HAND:
        if verb.partition(".")[0] in {"source", "consumer", "seed", "guest", "server", "fleet"}:
            assert (way, standing) == (DoorKind.CONTROL, Role.OWNER)


@given(st.sampled_from(DoorKind), st.sampled_from(Role), st.text().filter(lambda verb: verb not in VERBS))
def test_what_is_not_named_is_refused(way: DoorKind, standing: Role, verb: str) -> None:
    """Every door refuses an unknown verb."""
    with pytest.raises((PermissionRefused, UsageError)):
        may(way, Principal(standing, "web01"), verb)


def test_every_way_and_every_verb_is_used() -> None:
    """Every door has a row, and every verb is allowed at some door."""
    assert ALLOWED.keys() == set(DoorKind)
    assert {verb for row in ALLOWED.values() for verbs in row.values() for verb in verbs} == VERBS


def test_control_knows_no_verb_that_authorisation_does_not() -> None:
    """A new control verb is refused until the table names it."""

    async def answer(_principal: Principal) -> dict:
        return {}

    control = Control({"consumer.forge": answer, "forge": answer})
    for peer, verb in ((OWNER, "consumer.forge"), (consumer(), "forge"), (OWNER, "forge")):
        with pytest.raises(UsageError, match="forge"):
            asyncio.run(control(peer, verb, {}))
