"""The fifteen inputs of fips140_rngtest.json.

Run as a program, this writes them to files. Every byte comes from SHAKE-256(seed | label),
and only integers are compared, so they are equal everywhere; the JSON file has their SHA-256.
Layout: a bootstrap of four bytes, then blocks of 2,500 bytes (two inputs end in a partial
one). Bits are numbered from the top of each byte.
"""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

SEED = b"entropy-reference-v1"
BLOCK_BITS = 20_000
BLOCK = BLOCK_BITS // 8
BOOT = 4
BLOCKS = 400


def xof(label: str, size: int) -> bytes:
    return hashlib.shake_256(SEED + b"|fips/" + label.encode()).digest(size)


def below(label: str, size: int, limit: int) -> str:
    """Return `size` digits: "1" where a little-endian number is below `limit`."""
    numbers = xof(label, 4 * size)
    digits = bytearray(numbers[3::4].translate(b"1" * (limit >> 24) + b"?" + b"0" * (255 - (limit >> 24))))
    at = digits.find(b"?")
    while at >= 0:
        less = int.from_bytes(numbers[4 * at : 4 * at + 4], "little") < limit
        digits[at] = ord("1") if less else ord("0")
        at = digits.find(b"?", at + 1)
    return digits.decode()


def probability(numerator: int, denominator: int) -> int:
    return numerator * (1 << 32) // denominator


def uniform(label: str, blocks: int = BLOCKS, extra: int = BOOT) -> bytes:
    return xof(label, BLOCK * blocks + extra)


def biased(label: str, ones: int) -> bytes:
    """Create bits that are one with probability ones/1000."""
    size = BOOT + BLOCK * BLOCKS
    return int(below(label, 8 * size, probability(ones, 1000)), 2).to_bytes(size, "big")


def sticky() -> bytes:
    """Create bits that repeat the previous bit with probability 0.51."""
    size = BOOT + BLOCK * BLOCKS
    flips = int(below("sticky", 8 * size, probability(51, 100)), 2) ^ ((1 << 8 * size) - 1)
    shift = 1
    while shift < 8 * size:  # each bit becomes the parity of all flips so far
        flips ^= flips >> shift
        shift *= 2
    return flips.to_bytes(size, "big")


def nibble() -> bytes:
    """Make the high nibble zero slightly too often."""
    chosen = below("nibble/u", BOOT + BLOCK * BLOCKS, probability(1, 100))
    return bytes(
        byte & 0x0F if hit == "1" else byte for byte, hit in zip(uniform("nibble"), chosen, strict=True)
    )


def with_runs(label: str, runs: list[tuple[int, int]]) -> bytes:
    """Set runs of ones, given as (first bit, length), between two zeros."""
    data = uniform(label)
    size = len(data) * 8
    bits = int.from_bytes(data, "big")
    for first, length in runs:
        bits &= ~(((1 << length + 2) - 1) << size - first - length - 1)
        bits |= ((1 << length) - 1) << size - first - length
    return bits.to_bytes(len(data), "big")


def longrun() -> bytes:
    """Put 26 ones into every tenth block, and 25 into the fifth after it."""
    runs = [(32 + BLOCK_BITS * k + 7001 + 13 * k, 26 if k % 10 == 0 else 25) for k in range(0, BLOCKS, 5)]
    return with_runs("longrun", runs)


def longrun_edge() -> bytes:
    """Put 26 ones across a boundary (not found), or next to it (found)."""
    edges = range(1, BLOCKS - 1, 6)
    runs = [(32 + BLOCK_BITS * k - (13, 26, 0)[k // 6 % 3], 26) for k in edges]
    return with_runs("longrun_edge", runs)


def contrun() -> bytes:
    """Repeat 32-bit words, also across a boundary, and unaligned (passes)."""
    data = bytearray(uniform("contrun"))
    data[4:8] = data[0:4]
    for k in range(3, BLOCKS - 1, 7):
        at = BOOT + BLOCK * k + (1000, 2500, 1002)[k // 7 % 3]
        data[at : at + 4] = data[at - 4 : at]
    return bytes(data)


INPUTS: dict[str, Callable[[], bytes]] = {
    "alt": lambda: b"\x55" * (BOOT + BLOCK * BLOCKS),
    "bias505": lambda: biased("bias505", 505),
    "bias510": lambda: biased("bias510", 510),
    "bias515": lambda: biased("bias515", 515),
    "contrun": contrun,
    "longrun": longrun,
    "longrun_edge": longrun_edge,
    "nibble": nibble,
    "ones": lambda: b"\xff" * (BOOT + BLOCK * BLOCKS),
    "partial": lambda: uniform("partial", 10, BOOT + 1234),
    "ramp": lambda: bytes(range(256)) * 3906 + bytes(range(68)),
    "random": lambda: uniform("random", 4000),
    "sticky": sticky,
    "tiny": lambda: uniform("tiny", 0, BOOT + BLOCK - 1),
    "zero": lambda: bytes(BOOT + BLOCK * BLOCKS),
}

if __name__ == "__main__":
    for name, make in INPUTS.items():
        (Path(sys.argv[1]) / f"{name}.bin").write_bytes(make())
