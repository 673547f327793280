"""The consumers' Hash_DRBG: limits, wiping and bulk output."""

import os

import pytest

from drawwell.crypto.ctr_drbg import CtrDrbg
from drawwell.crypto.drbg import BULK_BYTES, MAX_REQUEST_BYTES, Drbg, self_test
from drawwell.errors import SelfTestFailure

SEED = bytes(range(48))


def test_hash_drbg_self_test_passes() -> None:
    """The known-answer test succeeds on this machine."""
    self_test()


def test_hash_drbg_self_test_finds_a_wrong_generator() -> None:
    """One flipped bit in the output is detected."""

    class Sick(Drbg):
        def generate(self, n: int, additional: bytes = b"") -> bytes:
            output = super().generate(n, additional)
            return output[:-1] + bytes([output[-1] ^ 1])

    with pytest.raises(SelfTestFailure):
        self_test(Sick)


def test_a_short_seed_is_refused() -> None:
    """The first seed must have at least 48 bytes, a later one 32."""
    with pytest.raises(ValueError, match="48 bytes"):
        Drbg(bytes(47))
    with pytest.raises(ValueError, match="32 bytes"):
        Drbg(SEED).reseed(bytes(31))


@pytest.mark.parametrize("n", [-1, MAX_REQUEST_BYTES + 1])
def test_a_request_out_of_range_is_refused_and_moves_nothing(n: int) -> None:
    """A request must be at most 2^19 bits; a refused one changes nothing."""
    drbg = Drbg(SEED)
    with pytest.raises(ValueError, match="a request must be"):
        drbg.generate(n)
    assert drbg.generate(32) == Drbg(SEED).generate(32)


def test_a_request_for_nothing_moves_the_state() -> None:
    """Every request changes the state, even an empty one."""
    drbg = Drbg(SEED)
    assert drbg.generate(0) == b""
    assert drbg.generate(32) != Drbg(SEED).generate(32)


def test_the_reseed_limit_holds_to_the_last_request() -> None:
    """The last request at the limit is served; the next needs a new seed."""
    drbg = Drbg(SEED, reseed_limit=3)
    for _ in range(3):
        drbg.generate(1)
    with pytest.raises(RuntimeError, match="needs a seed"):
        drbg.generate(1)
    drbg.reseed(SEED)
    assert len(drbg.generate(1)) == 1


def test_a_wiped_instance_gives_nothing() -> None:
    """After a wipe, requests and new seeds are refused."""
    drbg = Drbg(SEED)
    drbg.wipe()
    with pytest.raises(RuntimeError):
        drbg.generate(1)
    with pytest.raises(RuntimeError):
        drbg.reseed(SEED)


def test_bulk_comes_from_a_ctr_drbg_that_this_one_seeds() -> None:
    """One byte over the limit comes from a CTR_DRBG with a 48-byte seed."""
    seed = Drbg(SEED).generate(48, b"more")
    assert Drbg(SEED).generate(BULK_BYTES + 1, b"more") == CtrDrbg(seed).generate(BULK_BYTES + 1)
    assert Drbg(SEED).generate(BULK_BYTES, b"more")[:48] == seed


def test_two_bulk_requests_share_no_bytes() -> None:
    """Each bulk request has its own CTR_DRBG."""
    drbg = Drbg(SEED)
    assert drbg.generate(4096)[:64] != drbg.generate(4096)[:64]


@pytest.mark.parametrize("n", [32, BULK_BYTES + 1])
def test_a_forked_process_gives_other_bytes(n: int) -> None:
    """Two copies of a state differ at once, because each adds fresh bytes."""
    drbg = Drbg(SEED)
    ours, theirs = os.pipe()
    if os.fork() == 0:
        os.write(theirs, drbg.generate(n, os.urandom(32))[:32])
        os._exit(0)
    mine = drbg.generate(n, os.urandom(32))[:32]
    os.wait()
    assert os.read(ours, 32) != mine
    os.close(ours)
    os.close(theirs)


def test_a_state_does_not_tell_what_was_given_before() -> None:
    """Backtracking resistance: each request replaces the state."""
    drbg = Drbg(SEED)
    before = drbg._state
    drbg.generate(32)
    assert drbg._state != before


def test_the_state_is_not_shown() -> None:
    """The repr contains neither seed nor state."""
    assert repr(Drbg(SEED)) == "<Drbg>"
