"""The inputs of sp80090b_reference.json, and four restart matrices.

There are 11, long and short, one sample per byte. Every byte comes from SHAKE-256(seed |
label), and only integers are compared, so they are equal for every NumPy; the JSON file has
their SHA-256. Run as a program, this writes them to files for NIST's tools.
"""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.uint8]

SEED = b"entropy-reference-v1"
LONG = 1_000_000
SHORT = 20_000
"""Samples in an input whose name ends in "-s"."""


def xof(label: str, size: int) -> Samples:
    stream = hashlib.shake_256(SEED + b"|" + label.encode()).digest(size)
    return np.frombuffer(stream, dtype=np.uint8).copy()


def words32(label: str, size: int) -> NDArray[np.uint32]:
    return xof(label, 4 * size).view("<u4")


def probability(numerator: int, denominator: int) -> int:
    """Return the limit for 32-bit words with this probability."""
    return numerator * (1 << 32) // denominator


def choice(label: str, size: int, weights: list[int]) -> Samples:
    """Create independent symbols 0 to k - 1 with integer weights."""
    edges = [probability(sum(weights[: each + 1]), sum(weights)) for each in range(len(weights) - 1)]
    drawn = words32(label, size).astype(np.uint64)
    return np.searchsorted(np.array(edges, dtype=np.uint64), drawn, side="right").astype(np.uint8)


def rand8(size: int, label: str) -> Samples:
    """Create uniform bytes."""
    return xof(label, size)


def rand1(size: int, label: str) -> Samples:
    """Create uniform bits."""
    return np.unpackbits(xof(label, (size + 7) // 8))[:size]


def bias1_p60(size: int, label: str) -> Samples:
    """Create independent bits with 60 % ones."""
    return (words32(label, size) < probability(60, 100)).astype(np.uint8)


def sym4(size: int, label: str) -> Samples:
    """Create 4-bit symbols, the last almost twice as likely as the first."""
    return choice(label, size, list(range(17, 33)))


def markov1(size: int, label: str) -> Samples:
    """Create bits that stay 0 in 75 % of cases, and 1 in 65 %."""
    stay = probability(75, 100), probability(65, 100)
    state, out = 0, bytearray(size)
    for at, drawn in enumerate(words32(label, size).tolist()):
        state ^= drawn >= stay[state]
        out[at] = state
    return np.frombuffer(bytes(out), dtype=np.uint8)


def markov3(size: int, label: str) -> Samples:
    """Create symbols 0 to 7: 60 % follow the previous one, 40 % are uniform."""
    follow = (words32(label, size) < probability(60, 100)).tolist()
    jumps = (xof(label + "/jump", size) & 7).tolist()
    state, out = 0, bytearray(size)
    for at in range(size):
        state = (5 * state + 1) & 7 if follow[at] else jumps[at]
        out[at] = state
    return np.frombuffer(bytes(out), dtype=np.uint8)


def period37(size: int, label: str) -> Samples:
    """Repeat 37 bytes."""
    return np.tile(xof(label + "/pattern", 37), size // 37 + 1)[:size]


def period37n(size: int, label: str) -> Samples:
    """Repeat 37 bytes, with 5 % replaced by noise."""
    noisy = words32(label, size) < probability(5, 100)
    return np.where(noisy, xof(label + "/noise", size), period37(size, label)).astype(np.uint8)


def ramp8(size: int, label: str) -> Samples:
    """Repeat 0 to 255."""
    return (np.arange(size) & 255).astype(np.uint8)


def sparse8(size: int, label: str) -> Samples:
    """Create four different symbols of 256."""
    return np.array([3, 17, 40, 200], dtype=np.uint8)[choice(label, size, [5, 4, 4, 3])]


def binom8(size: int, label: str) -> Samples:
    """Create a bell curve, like a converter: 96 plus the ones among 64 bits."""
    bits = np.unpackbits(xof(label, 8 * size)).reshape(size, 64)
    return (96 + bits.sum(axis=1)).astype(np.uint8)


GENERATORS: dict[str, tuple[int, Callable[[int, str], Samples]]] = {
    "rand8": (8, rand8), "rand1": (1, rand1), "bias1_p60": (1, bias1_p60), "sym4": (4, sym4),
    "markov1": (1, markov1), "markov3": (3, markov3), "period37": (8, period37),
    "period37n": (8, period37n), "ramp8": (8, ramp8), "sparse8": (8, sparse8), "binom8": (8, binom8),
}  # fmt: skip
"""Bits per sample, and the function from label and size to samples."""


def samples(name: str) -> Samples:
    """Return one input, such as "rand8", or "rand8-s" for the short one."""
    return GENERATORS[name.removesuffix("-s")][1](SHORT if name.endswith("-s") else LONG, name)


def restart(name: str) -> Samples:
    """Return restart matrix restart_rand8, _bias1, _sym4 or _bad by rows."""
    if name == "restart_bad":  # each restart has the same first 200 samples
        matrix = rand8(LONG, name).reshape(1000, 1000)
        matrix[:, :200] = xof("restart_bad/boot", 200)
        return matrix.reshape(-1)
    made = {"restart_rand8": rand8, "restart_bias1": bias1_p60, "restart_sym4": sym4}
    return made[name](LONG, name)


RESTARTS = {"restart_rand8": 8, "restart_bias1": 1, "restart_sym4": 4, "restart_bad": 8}
"""Bits per sample of each matrix."""


def main(folder: str) -> None:
    for name in (*GENERATORS, *(f"{name}-s" for name in GENERATORS)):
        (Path(folder) / f"{name}.bin").write_bytes(samples(name).tobytes())
    for name in RESTARTS:
        (Path(folder) / f"{name}.bin").write_bytes(restart(name).tobytes())


if __name__ == "__main__":
    main(sys.argv[1])
