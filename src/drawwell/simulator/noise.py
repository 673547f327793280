"""The noise of the simulated device: biased as documented, or sick on request. Uniform bytes are an argument.

Source: OneRNG/firmware c3ae00c ("better avalanche random"): a V3 byte is eight samples XOR the next eight; the
site's random page: about 5 % more ones than zeros from the avalanche diode, 0.14 % from the radio; idle_pool in
cdc_app.c: of equal bytes 00 or FF from the diode, all after the eighth are dropped.
"""

import re
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from drawwell.onerng.commands import Mode

Uniform = Callable[[int], bytes]
"""Gives so many uniformly distributed bytes."""

AVALANCHE_ONES: Final = (269, 9)
"""p(1) = 269/512 = 0.5254 for each sample of the avalanche diode."""
RF_ONES: Final = (1027, 11)
"""p(1) = 1027/2048 = 0.5015 for each sample of the radio."""
SICK_ONES: Final = (3, 2)
"""p(1) = 0.75 for fault ``biased``: 3.3 bits of min-entropy a byte, where 6.0 are claimed."""
STUCK_SAMPLE: Final = 0xA5
LOOP_BYTES: Final = 4096
_LONG_RUN: Final = re.compile(rb"(\x00{8})\x00+|(\xff{8})\xff+")
_RUN_BYTES: Final = 8  # MAX_00_S, MAX_FF_S
_BLOCK_BYTES: Final = 2048  # noise is made in blocks, so that its sequence does not depend on timing


class SimulatedFault(StrEnum):
    """What may be wrong with a simulated device."""

    NONE = "none"
    STUCK = "stuck"
    """The same sample for ever."""
    ZEROS = "zeros"
    """The diode is stuck: eight zero bytes, then nothing, since the firmware drops the rest."""
    COUNTER = "counter"
    """0, 1, 2 … 255, 0 …"""
    LOOP = "loop"
    """4,096 good bytes, again and again."""
    BIASED = "biased"
    """p(1) = 0.75 in every bit."""
    SILENT = "silent"
    """Takes commands and never answers."""
    SLOW = "slow"
    """500 bytes a second."""
    BAD_FIRMWARE = "bad-firmware"
    """A dump with one changed byte in the code."""
    UNPLUGGED = "unplugged"
    """Not there."""


class SimulatedNoise:
    """Samples of one device, one after the other.

    The whitener is a CRC-16 that takes a byte and gives a byte: it hides a fault from a test of bias and adds no
    entropy. That per-mode rates differ is left out: they are not documented.
    """

    def __init__(self, uniform: Uniform, *, version: int) -> None:
        self._uniform = uniform
        self._samples_per_bit = 2 if version >= 3 else 1
        self._ready = b""
        self._ready_for: tuple[Mode, SimulatedFault] | None = None
        self._loop = b""
        self._last = b""  # the diode's last bytes that were let pass, as long as a run may be
        self._crc = 0x0101  # two writes of RNDL = 1 (cdc_app.c)

    def take(self, size: int, mode: Mode, fault: SimulatedFault) -> bytes:
        """Return the next `size` samples, less those that the firmware drops; none in a mode without a source."""
        if mode.silent:
            return b""
        if self._ready_for != (mode, fault):
            self._ready, self._ready_for = b"", (mode, fault)
        pieces, have = [self._ready], len(self._ready)
        while have < size:
            pieces.append(self._block(mode, fault))
            have += _BLOCK_BYTES
        made = b"".join(pieces)
        self._ready = made[size:]
        return made[:size]

    def _block(self, mode: Mode, fault: SimulatedFault) -> bytes:
        if (
            fault is SimulatedFault.ZEROS and Mode.RF in mode
        ):  # the radio's bytes are not looked at, and go on
            raw = biased(self._uniform, _BLOCK_BYTES, RF_ONES)
        else:
            raw = self._sick_block(fault) or self._healthy_block(mode)
            raw = raw if Mode.RF in mode else self._without_long_runs(raw)
        return raw if Mode.RAW in mode else self._whiten(raw)

    def _sick_block(self, fault: SimulatedFault) -> bytes:
        match fault:
            case SimulatedFault.STUCK:
                return bytes([STUCK_SAMPLE]) * _BLOCK_BYTES
            case SimulatedFault.ZEROS:
                return bytes(_BLOCK_BYTES)
            case SimulatedFault.COUNTER:
                return bytes(range(256)) * (_BLOCK_BYTES // 256)
            case SimulatedFault.BIASED:
                return biased(self._uniform, _BLOCK_BYTES, SICK_ONES)
            case SimulatedFault.LOOP:
                return self._looped_block()
            case _:
                return b""

    def _without_long_runs(self, raw: bytes) -> bytes:
        kept = _LONG_RUN.sub(rb"\1\2", self._last + raw)
        passed, self._last = kept[len(self._last) :], kept[-_RUN_BYTES:]
        return passed

    def _looped_block(self) -> bytes:
        if not self._loop:
            self._loop = b"".join(self._healthy_block(Mode.RAW) for _ in range(LOOP_BYTES // _BLOCK_BYTES))
        self._loop = self._loop[_BLOCK_BYTES:] + self._loop[:_BLOCK_BYTES]
        return self._loop[:_BLOCK_BYTES]

    def _healthy_block(self, mode: Mode) -> bytes:
        if not mode.avalanche:
            return biased(self._uniform, _BLOCK_BYTES, RF_ONES)
        if Mode.RF not in mode:
            return self._avalanche(_BLOCK_BYTES)
        both = bytearray(_BLOCK_BYTES)
        both[::2] = self._avalanche(_BLOCK_BYTES // 2)
        both[1::2] = biased(self._uniform, _BLOCK_BYTES // 2, RF_ONES)
        return bytes(both)

    def _avalanche(self, size: int) -> bytes:
        samples = biased(self._uniform, size, AVALANCHE_ONES)
        if self._samples_per_bit == 1:
            return samples
        return xor(samples, biased(self._uniform, size, AVALANCHE_ONES))

    def _whiten(self, raw: bytes) -> bytes:
        """Give the high byte of the CRC after each byte (CC253x user's guide: x^16 + x^15 + x^2 + 1)."""
        crc, whitened = self._crc, bytearray(len(raw))
        for at, byte in enumerate(raw):
            crc = (crc << 8 & 0xFFFF) ^ _CRC16[crc >> 8 ^ byte]
            whitened[at] = crc >> 8
        self._crc = crc
        return bytes(whitened)


def biased(uniform: Uniform, size: int, ones: tuple[int, int]) -> bytes:
    """Return bytes whose bits are one with probability ``ones[0] / 2**ones[1]``, independently.

    Each binary digit of the probability, from the last to the first, ORs (1) or ANDs (0) uniform bits in.
    """
    numerator, digits = ones
    bits = 0
    for digit in range(digits):
        word = int.from_bytes(uniform(size), "little")
        bits = bits | word if numerator >> digit & 1 else bits & word
    return bits.to_bytes(size, "little")


def xor(left: bytes, right: bytes) -> bytes:
    """XOR two strings of the same length."""
    mixed = int.from_bytes(left, "little") ^ int.from_bytes(right, "little")
    return mixed.to_bytes(len(left), "little")


def _crc16_entry(byte: int) -> int:
    crc = byte << 8
    for _ in range(8):
        crc = crc << 1 ^ (0x18005 if crc & 0x8000 else 0)
    return crc


_CRC16: Final = tuple(_crc16_entry(byte) for byte in range(256))
