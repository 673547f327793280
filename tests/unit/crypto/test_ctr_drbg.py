"""Limits, counters and secrecy of CTR_DRBG; vectors are in tests/vectors."""

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from drawwell.crypto.ctr_drbg import MAX_REQUEST_BYTES, CtrDrbg, self_test
from drawwell.errors import SelfTestFailure

SEED = bytes(range(48))


def test_self_test_passes() -> None:
    """The known-answer test succeeds on this machine."""
    self_test()


def test_self_test_finds_a_generator_that_is_wrong() -> None:
    """One flipped bit in the output is detected."""

    class Sick(CtrDrbg):
        def generate(self, n: int, additional: bytes = b"") -> bytes:
            output = super().generate(n, additional)
            return output[:-1] + bytes([output[-1] ^ 1])

    with pytest.raises(SelfTestFailure):
        self_test(Sick)


@pytest.mark.parametrize("size", [0, 47, 49])
def test_seed_is_48_bytes(size: int) -> None:
    """Without a derivation function only this seed length is defined."""
    with pytest.raises(ValueError, match="48 bytes"):
        CtrDrbg(bytes(size))
    with pytest.raises(ValueError, match="48 bytes"):
        CtrDrbg(SEED).reseed(bytes(size))


def test_longer_inputs_are_refused() -> None:
    """49 bytes of input would need a derivation function."""
    with pytest.raises(ValueError, match="at most 48"):
        CtrDrbg(SEED, bytes(49))
    with pytest.raises(ValueError, match="at most 48"):
        CtrDrbg(SEED).generate(1, bytes(49))
    with pytest.raises(ValueError, match="at most 48"):
        CtrDrbg(SEED).reseed(SEED, bytes(49))


@pytest.mark.parametrize("n", [-1, MAX_REQUEST_BYTES + 1])
def test_request_out_of_range_is_refused(n: int) -> None:
    """A request must be at most 2^19 bits."""
    with pytest.raises(ValueError, match="a request must be"):
        CtrDrbg(SEED).generate(n)


def test_refused_calls_leave_the_state_alone() -> None:
    """A refused call does not change the next bytes."""
    drbg = CtrDrbg(SEED)
    for call in (lambda: drbg.generate(1, bytes(49)), lambda: drbg.reseed(SEED, bytes(49))):
        with pytest.raises(ValueError, match="at most 48"):
            call()

    assert drbg.generate(32) == CtrDrbg(SEED).generate(32)


def test_odd_sizes_are_the_beginning_of_whole_blocks() -> None:
    """A size that is not a multiple of 16 bytes truncates the same stream."""
    assert CtrDrbg(SEED).generate(37) == CtrDrbg(SEED).generate(48)[:37]


def test_empty_request_moves_the_state() -> None:
    """Every request changes the state, even an empty one."""
    drbg = CtrDrbg(SEED)

    assert drbg.generate(0) == b""
    assert drbg.generate(32) != CtrDrbg(SEED).generate(32)


def test_counter_wraps_at_128_bits() -> None:
    """After a counter of all ones, the next block has counter 0 (10.2.1.2)."""
    aes = Cipher(algorithms.AES(bytes(32)), modes.ECB()).encryptor()
    blocks = aes.update(b"".join(i.to_bytes(16, "big") for i in range(4)))
    seed = blocks[16:48] + bytes(byte ^ 0xFF for byte in blocks[48:])  # makes key 0 and counter 2^128 - 1

    assert CtrDrbg(seed).generate(32) == blocks[:32]


def test_it_counts_bytes_since_its_seed() -> None:
    """The byte count that triggers a reseed restarts at each seed."""
    drbg = CtrDrbg(SEED)
    drbg.generate(100)
    drbg.generate(11)
    assert drbg.generated_since_reseed == 111

    drbg.reseed(SEED)
    assert drbg.generated_since_reseed == 0


def test_reseed_limit_is_kept() -> None:
    """At the limit `generate` fails until a reseed."""
    drbg = CtrDrbg(SEED, reseed_limit=2)
    drbg.generate(1)
    drbg.generate(1)
    with pytest.raises(RuntimeError, match="needs a seed"):
        drbg.generate(1)

    drbg.reseed(SEED)
    assert len(drbg.generate(1)) == 1


def test_wiped_instance_gives_nothing() -> None:
    """A wiped state is zero and cannot be used."""
    drbg = CtrDrbg(SEED)
    drbg.wipe()

    assert not any(drbg._key)
    with pytest.raises(RuntimeError, match="needs a seed"):
        drbg.generate(16)


def test_wiped_instance_owes_nothing_to_its_past() -> None:
    """After a wipe and a reseed, an instance equals a new one."""
    drbg = CtrDrbg(SEED)
    drbg.generate(16)
    drbg.wipe()
    drbg.reseed(SEED[::-1])

    assert drbg.generate(32) == CtrDrbg(SEED[::-1]).generate(32)


def test_personalization_parts_instances() -> None:
    """The same seed with another consumer's name gives different bytes."""
    assert CtrDrbg(SEED, b"web01").generate(32) != CtrDrbg(SEED, b"web02").generate(32)


def test_repr_of_drbg_shows_no_state() -> None:
    """The repr contains neither key nor counter."""
    assert repr(CtrDrbg(SEED)) == "<CtrDrbg, 0 bytes since its seed>"
