"""Noise of the simulated device, as documented or faulty.

Sources: OneRNG/firmware c3ae00c ("better avalanche random"): a V3 byte is eight samples XORed
with the next eight. The vendor's page on randomness: the avalanche diode sends "about 5% more
1s", the radio 0.14 %. idle_pool in cdc_app.c drops the ninth and later equal bytes (00 or FF)
from the diode.
"""

import re
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from drawwell.onerng.commands import Mode

Uniform = Callable[[int], bytes]
"""Returns the requested number of uniformly distributed bytes."""

AVALANCHE_ONES: Final = (269, 9)
"""p(1) = 269/512 = 0.5254 for each sample of the avalanche diode."""
RF_ONES: Final = (1027, 11)
"""p(1) = 1027/2048 = 0.5015 for each sample of the radio."""
SICK_ONES: Final = (3, 2)
"""p(1) = 0.75 for fault ``biased``: 3.3 bits of min-entropy per byte; the source claims 6."""
STUCK_SAMPLE: Final = 0xA5
LOOP_BYTES: Final = 4096
_LONG_RUN: Final = re.compile(rb"(\x00{8})\x00+|(\xff{8})\xff+")
_RUN_BYTES: Final = 8  # MAX_00_S, MAX_FF_S
_BLOCK_BYTES: Final = 2048  # fixed-size blocks of samples, so timing does not affect the noise


class SimulatedFault(StrEnum):
    """Faults of the simulated device."""

    NONE = "none"
    STUCK = "stuck"
    """The same sample is sent forever."""
    ZEROS = "zeros"
    """A stuck diode: after eight zero bytes, the firmware drops the rest."""
    COUNTER = "counter"
    """0, 1, 2 … 255, 0 …"""
    LOOP = "loop"
    """4,096 good bytes, repeated."""
    BIASED = "biased"
    """p(1) = 0.75 in every bit."""
    SILENT = "silent"
    """Accepts commands and never replies."""
    SLOW = "slow"
    """500 bytes per second."""
    BAD_FIRMWARE = "bad-firmware"
    """A dump with one changed byte in the code."""
    UNPLUGGED = "unplugged"
    """Not plugged in."""


class SimulatedNoise:
    """The sequence of samples of one device.

    The whitener maps each byte to one byte by a CRC-16. It hides a fault from a bias test and
    adds no entropy. Undocumented differences in rate between modes are not simulated.
    """

    def __init__(self, uniform: Uniform, *, version: int) -> None:
        self._uniform = uniform
        self._samples_per_bit = 2 if version >= 3 else 1
        self._ready = b""
        self._ready_for: tuple[Mode, SimulatedFault] | None = None
        self._loop = b""
        self._last = b""  # the diode's last equal bytes, up to the run limit
        self._crc = 0x0101  # two writes of RNDL = 1 (cdc_app.c)

    def take(self, size: int, mode: Mode, fault: SimulatedFault) -> bytes:
        """Return the next `size` samples, without those that the firmware drops."""
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
        if fault is SimulatedFault.ZEROS and Mode.RF in mode:  # the radio's bytes are not filtered
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
        """Return the CRC's high byte after each byte (x^16 + x^15 + x^2 + 1)."""
        crc, whitened = self._crc, bytearray(len(raw))
        for at, byte in enumerate(raw):
            crc = (crc << 8 & 0xFFFF) ^ _CRC16[crc >> 8 ^ byte]
            whitened[at] = crc >> 8
        self._crc = crc
        return bytes(whitened)


def biased(uniform: Uniform, size: int, ones: tuple[int, int]) -> bytes:
    """Return independent bits with P(1) = ``ones[0] / 2**ones[1]``.

    For each binary digit of P(1), last digit first, uniform bits are ORed (1) or ANDed (0).
    """
    numerator, digits = ones
    bits = 0
    for digit in range(digits):
        word = int.from_bytes(uniform(size), "little")
        bits = bits | word if numerator >> digit & 1 else bits & word
    return bits.to_bytes(size, "little")


def xor(left: bytes, right: bytes) -> bytes:
    mixed = int.from_bytes(left, "little") ^ int.from_bytes(right, "little")
    return mixed.to_bytes(len(left), "little")


def _crc16_entry(byte: int) -> int:
    crc = byte << 8
    for _ in range(8):
        crc = crc << 1 ^ (0x18005 if crc & 0x8000 else 0)
    return crc


_CRC16: Final = tuple(_crc16_entry(byte) for byte in range(256))
