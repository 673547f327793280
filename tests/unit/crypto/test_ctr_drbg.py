"""What CTR_DRBG refuses, counts and hides; its bytes are held against vectors in tests/vectors."""

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from drawwell.crypto.ctr_drbg import MAX_REQUEST_BYTES, CtrDrbg, self_test
from drawwell.errors import SelfTestFailure

SEED = bytes(range(48))


def test_self_test_passes() -> None:
    """The known answer comes out on this machine."""
    self_test()


def test_self_test_finds_a_generator_that_is_wrong() -> None:
    """One flipped bit in what it gives is found."""

    class Sick(CtrDrbg):
        def generate(self, n: int, additional: bytes = b"") -> bytes:
            output = super().generate(n, additional)
            return output[:-1] + bytes([output[-1] ^ 1])

    with pytest.raises(SelfTestFailure):
        self_test(Sick)


@pytest.mark.parametrize("size", [0, 47, 49])
def test_seed_is_48_bytes(size: int) -> None:
    """Without a derivation function no other seed length has a meaning."""
    with pytest.raises(ValueError, match="48 bytes"):
        CtrDrbg(bytes(size))
    with pytest.raises(ValueError, match="48 bytes"):
        CtrDrbg(SEED).reseed(bytes(size))


def test_longer_inputs_are_refused() -> None:
    """Additional input and personalization of 49 bytes would need a derivation function."""
    with pytest.raises(ValueError, match="at most 48"):
        CtrDrbg(SEED, bytes(49))
    with pytest.raises(ValueError, match="at most 48"):
        CtrDrbg(SEED).generate(1, bytes(49))
    with pytest.raises(ValueError, match="at most 48"):
        CtrDrbg(SEED).reseed(SEED, bytes(49))


@pytest.mark.parametrize("n", [-1, MAX_REQUEST_BYTES + 1])
def test_request_out_of_range_is_refused(n: int) -> None:
    """A request is at most 2^19 bits."""
    with pytest.raises(ValueError, match="a request is"):
        CtrDrbg(SEED).generate(n)


def test_refused_calls_leave_the_state_alone() -> None:
    """After a refusal the next bytes are those that would have come anyway."""
    drbg = CtrDrbg(SEED)
    for call in (lambda: drbg.generate(1, bytes(49)), lambda: drbg.reseed(SEED, bytes(49))):
        with pytest.raises(ValueError, match="at most 48"):
            call()

    assert drbg.generate(32) == CtrDrbg(SEED).generate(32)


def test_odd_sizes_are_the_beginning_of_whole_blocks() -> None:
    """A request that is no multiple of 16 bytes is cut from the same stream."""
    assert CtrDrbg(SEED).generate(37) == CtrDrbg(SEED).generate(48)[:37]


def test_empty_request_moves_the_state() -> None:
    """Two requests never share a state, not even after one for nothing."""
    drbg = CtrDrbg(SEED)

    assert drbg.generate(0) == b""
    assert drbg.generate(32) != CtrDrbg(SEED).generate(32)


def test_counter_wraps_at_128_bits() -> None:
    """With a counter of all ones the next block is that of zero (10.2.1.2, step 2.1)."""
    aes = Cipher(algorithms.AES(bytes(32)), modes.ECB()).encryptor()
    blocks = aes.update(b"".join(i.to_bytes(16, "big") for i in range(4)))
    seed = blocks[16:48] + bytes(byte ^ 0xFF for byte in blocks[48:])  # makes key 0 and counter 2^128 - 1

    assert CtrDrbg(seed).generate(32) == blocks[:32]


def test_it_counts_bytes_since_its_seed() -> None:
    """The count that decides upon a reseed starts again with each."""
    drbg = CtrDrbg(SEED)
    drbg.generate(100)
    drbg.generate(11)
    assert drbg.generated_since_reseed == 111

    drbg.reseed(SEED)
    assert drbg.generated_since_reseed == 0


def test_reseed_limit_is_kept() -> None:
    """At the limit of requests nothing comes until a reseed, and then it goes on."""
    drbg = CtrDrbg(SEED, reseed_limit=2)
    drbg.generate(1)
    drbg.generate(1)
    with pytest.raises(RuntimeError, match="needs a seed"):
        drbg.generate(1)

    drbg.reseed(SEED)
    assert len(drbg.generate(1)) == 1


def test_wiped_instance_gives_nothing() -> None:
    """A wiped state is zero, and is never generated from."""
    drbg = CtrDrbg(SEED)
    drbg.wipe()

    assert not any(drbg._key)
    with pytest.raises(RuntimeError, match="needs a seed"):
        drbg.generate(16)


def test_wiped_instance_owes_nothing_to_its_past() -> None:
    """A reseed after wiping makes an instance like a new one."""
    drbg = CtrDrbg(SEED)
    drbg.generate(16)
    drbg.wipe()
    drbg.reseed(SEED[::-1])

    assert drbg.generate(32) == CtrDrbg(SEED[::-1]).generate(32)


def test_personalization_parts_instances() -> None:
    """The same seed with another consumer's name gives other bytes."""
    assert CtrDrbg(SEED, b"web01").generate(32) != CtrDrbg(SEED, b"web02").generate(32)


def test_repr_of_drbg_shows_no_state() -> None:
    """Neither key nor counter reaches a string."""
    assert repr(CtrDrbg(SEED)) == "<CtrDrbg, 0 bytes since its seed>"
