"""The whole table of who may do what by which door, written down a second time, by hand."""

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawwell.authorisation import ALLOWED, VERBS, DoorKind, Principal, Role, may
from drawwell.broker.control import Control
from drawwell.errors import PermissionRefused, UsageError
from support.principals import OWNER, consumer

TABLE = """
          control     unix  link  tls  stream  https  http  probe  ssh  egd  usb  guest  deposit
owner     DsrRSILVUCGm DsrR Ds    -    -       -      Dsym  -      k    -    -    -      P
speaker   -           -     -     -    -       -      -     -      k    -    -    -      -
source    -           -     -     -    -       -      -     -      -    -    -    -      P
observer  o           -     o     -    -       -      -     -      -    -    -    -      -
consumer  DsrRm       DsrR  Ds    DsrRm D       Dsym   Dsym  -      Ds   DM   D    Ds     -
expired   r           -     -     r    -       y      -     -      -    -    -    -      -
stranger  -           -     -     -    -       y      y     ym     -    -    -    -      -
"""
"""One letter for what may be done, a hyphen for nothing."""
LETTERS = {
    "D": {"draw"},
    "M": {"stir"},
    "k": {"speak"},
    "P": {"deposit"},
    "r": {"renew"},
    "R": {"rekey"},
    "y": {"ready"},
    "s": {"status", "receipt-key"},
    "o": {"status"},
    "m": {"observe"},
    "S": {"source.command", "source.history"},
    "I": {"consumer.invite"},
    "L": {"consumer.list"},
    "V": {"consumer.revoke"},
    "U": {"consumer.quota"},
    "C": {"seed.claim", "seed.settle"},
    "G": {"guest.add", "guest.settle", "guest.remove", "guest.list"},
}


def allowed_by_hand() -> set[tuple[DoorKind, Role, str]]:
    """Read the table."""
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
EVERYTHING = list(itertools.product(DoorKind, Role, sorted(VERBS)))


@pytest.mark.parametrize(("way", "standing", "verb"), EVERYTHING)
def test_the_table(way: DoorKind, standing: Role, verb: str) -> None:
    """Each of all combinations of door, identity and verb is allowed exactly if the table says so."""
    try:
        may(way, Principal(standing, "web01"), verb)
        hint = None
    except PermissionRefused as refused:
        hint = refused.hint
    assert (hint is None) == ((way, standing, verb) in BY_HAND)


def test_the_owners_verbs_are_the_owners_and_only_at_the_control_socket() -> None:
    """No path from the network leads to a source or to the consumers' terms."""
    for way, standing, verb in BY_HAND:
        if verb.partition(".")[0] in {"source", "consumer", "seed", "guest"}:
            assert (way, standing) == (DoorKind.CONTROL, Role.OWNER)


@given(st.sampled_from(DoorKind), st.sampled_from(Role), st.text().filter(lambda verb: verb not in VERBS))
def test_what_is_not_named_is_refused(way: DoorKind, standing: Role, verb: str) -> None:
    """A verb that does not exist is allowed to nobody by any door."""
    with pytest.raises((PermissionRefused, UsageError)):
        may(way, Principal(standing, "web01"), verb)


def test_every_way_and_every_verb_is_used() -> None:
    """No door is without a row, and each verb is allowed to somebody somewhere."""
    assert ALLOWED.keys() == set(DoorKind)
    assert {verb for row in ALLOWED.values() for verbs in row.values() for verb in verbs} == VERBS


def test_control_knows_no_verb_that_authorisation_does_not() -> None:
    """Whatever answers are added to the control verbs, they are refused until the table names them."""

    async def answer(_principal: Principal) -> dict:
        return {}

    control = Control({"consumer.forge": answer, "forge": answer})
    for peer, verb in ((OWNER, "consumer.forge"), (consumer(), "forge"), (OWNER, "forge")):
        with pytest.raises(UsageError, match="forge"):
            asyncio.run(control(peer, verb, {}))
