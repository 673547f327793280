"""A OneRNG without the hardware: what it answers, when it sends, and what is wrong with it on request.

Source: OneRNG/firmware 81d70bf (Version 3): cdc_app.c (parser, sender, pool), cdc.c (DTR). Pure: the clock, the
host's bytes and uniform bytes for the noise are arguments. Its oddities are the real one's:

- powers on paused, and sends only while the host holds DTR up;
- obeys ``cmd`` and one character; a byte that breaks it off is not looked at again;
- sends noise in packets of 64 bytes, out of a pool of 7,168 bytes that is stirred when full;
- owes each kind of reply once, the identity before the version before the image, and goes on with an image that
  another reply broke into;
- from version 3 on it sends 64 bytes that it does not have after the last reply it owes; the counter of its pool
  runs below zero, and up to 65,472 stale bytes follow, mostly zeros.

``cmdS`` (the vendor's anti-tamper challenge) takes its token and gives no answer.
"""

from typing import Final

from drawwell.onerng.commands import HEX, CommandReader, Mode
from drawwell.simulator.firmware_image import simulated_dump
from drawwell.simulator.noise import SimulatedFault, SimulatedNoise, Uniform, xor

PACKET_BYTES: Final = 64
POOL_BYTES: Final = 7 * 1024
NOISE_RATE: Final = 57_000.0
"""Bytes per second: 57.3 to 59.2 kB/s were measured on a V3.0 in cmd0."""
REPLY_SPEEDUP: Final = 4.0
"""How much faster a dump comes than noise: the vendor's first script gave 262,157 bytes 1.5 s."""
_SLOW_RATE: Final = 500.0
_BURST_S: Final = 0.1  # a host that did not look for longer gets no more than this at once


class SimulatedOneRng:
    """One simulated device from power-on to unplugging.

    Args:
        uniform: Gives uniform bytes; decides all of the noise.
        hardware_id: 16 bytes, what ``cmdI`` answers.
        version: 1, 2 or 3.
        rate: Noise in bytes per second; 0 for as fast as it is taken.
        now: The time of power-on in seconds.
    """

    def __init__(
        self,
        uniform: Uniform,
        *,
        hardware_id: bytes,
        version: int = 3,
        rate: float = NOISE_RATE,
        now: float = 0.0,
    ) -> None:
        self.fault = SimulatedFault.NONE
        self.dtr = False
        self.paused = True
        self.mode = Mode.DEFAULT
        self._version = version
        self._noise = SimulatedNoise(uniform, version=version)
        self._rate = rate
        self._now = now
        self._owed = 0.0  # noise that is due and not yet a whole byte
        self._allowance = 0.0  # what the bus could have carried since the last packet
        self._pool = Pool()
        self._replies = Replies(version, hardware_id)
        self._commands = CommandReader(self._obey, tokens=version >= 3)

    def receive(self, data: bytes) -> None:
        """Take bytes from the host."""
        self._commands.receive(data)

    def advance(self, now: float) -> None:
        """Let time pass: noise is gathered, also while paused, and stirred into a full pool."""
        elapsed, self._now = max(0.0, now - self._now), max(now, self._now)
        if self._rate == 0 and self.fault is not SimulatedFault.SLOW:
            return
        rate = _SLOW_RATE if self.fault is SimulatedFault.SLOW else self._rate
        bus = (self._rate or NOISE_RATE) * REPLY_SPEEDUP
        self._allowance = min(self._allowance + elapsed * bus, bus * _BURST_S + PACKET_BYTES)
        # Stirring the pool more than twice over changes nothing that can be seen.
        self._owed = min(self._owed + elapsed * rate, 2.0 * POOL_BYTES)
        whole = int(self._owed)
        self._owed -= whole
        self._gather(whole)

    def transmit(self, max_bytes: int) -> bytes:
        """Return the packets that go to the host now: `max_bytes` at most, and one packet after a reply."""
        if self.paused or not self.dtr or self.fault is SimulatedFault.SILENT:
            return b""
        unthrottled = self._rate == 0 and self.fault is not SimulatedFault.SLOW
        room = max_bytes if unthrottled else min(max_bytes, int(self._allowance))
        out = bytearray()
        while room - len(out) >= PACKET_BYTES:
            if unthrottled:
                self._gather(POOL_BYTES - self._pool.count)
            packets = self._next_packets((room - len(out)) // PACKET_BYTES)
            if not packets:
                break
            out += packets
        if not unthrottled:
            self._allowance -= len(out)
        return bytes(out)

    def _next_packets(self, most: int) -> bytes:
        if self._replies.owed:
            return self._next_of_reply(most)
        whole_packets = min(most, self._pool.count // PACKET_BYTES)
        return self._pool.take(whole_packets * PACKET_BYTES)

    def _next_of_reply(self, most: int) -> bytes:
        piece = self._replies.take(most)
        if not self._replies.owed and self._version >= 3:
            piece += self._pool.take(PACKET_BYTES)  # without looking whether they are there
        return piece

    def _gather(self, size: int) -> None:
        if size > 0:
            self._pool.put(self._noise.take(size, self.mode, self.fault))

    def _obey(self, character: int) -> None:
        if character in HEX:
            self.mode = Mode(int(chr(character), 16) & 7)
            return
        match chr(character):
            case "O":
                self.paused = False
            case "o":
                self.paused = True
            case "w":
                self._pool.forget()
            case "v":
                self._replies.ask_version()
            case "X":
                self._replies.ask_image(self._dump())
            case "I" if self._version >= 3:
                self._replies.ask_identity()

    def _dump(self) -> bytes:
        dump = simulated_dump(self._version)
        if self.fault is not SimulatedFault.BAD_FIRMWARE:
            return dump
        return dump[:1000] + bytes([dump[1000] ^ 1]) + dump[1001:]


class Replies:
    """What the device was asked and has not answered yet (cdc_app.c: ``IDing``, ``versioning``, ``dumping``).

    Identity and version share one index, ``vind``: a version that is told after an identity lacks its first two
    characters.
    """

    def __init__(self, version: int, hardware_id: bytes) -> None:
        self._version_text = f"\r\nVersion {version}\r\n".encode("ascii")
        self._identity_packets = (
            b"\r\n________", hardware_id.hex().upper().encode("ascii"), b"________\r\n",
        )  # fmt: skip
        self._identity = self._version = False
        self._index = 0
        self._image = b""

    @property
    def owed(self) -> bool:
        """Is there anything to be answered?"""
        return self._identity or self._version or bool(self._image)

    def ask_identity(self) -> None:
        """``cmdI``; one that is under way begins again."""
        self._identity, self._index = True, 0

    def ask_version(self) -> None:
        """``cmdv``."""
        self._version, self._index = True, 0

    def ask_image(self, image: bytes) -> None:
        """``cmdX``; one that is under way begins again."""
        self._image = image

    def take(self, most: int) -> bytes:
        """Return one packet of words, or up to `most` packets of the image."""
        if self._identity:
            piece = self._identity_packets[self._index]
            self._identity = piece is not self._identity_packets[-1]
            self._index += self._identity
        elif self._version:
            piece, self._version = self._version_text[self._index :], False
        else:
            size = most * PACKET_BYTES
            piece, self._image = self._image[:size], self._image[size:]
        return piece


class Pool:
    """The device's pool, byte for byte: a ring with a 16-bit counter that nobody keeps from running below zero."""

    def __init__(self) -> None:
        self._memory = bytearray(POOL_BYTES)
        self._in = self._out = self._stir = 0
        self.count = 0

    def put(self, samples: bytes) -> None:
        """Append while there is room; XOR the rest over what is there."""
        room = max(0, POOL_BYTES - self.count)
        appended, stirred = samples[:room], samples[room:]
        self.count += len(appended)
        self._in = self._write(self._in, appended, stir=False)
        self._stir = self._write(self._stir, stirred, stir=True)

    def take(self, size: int) -> bytes:
        """Return and zero the next `size` bytes, whether they are there or not."""
        out = bytearray()
        while len(out) < size:
            end = min(self._out + size - len(out), POOL_BYTES)
            out += self._memory[self._out : end]
            self._memory[self._out : end] = bytes(end - self._out)
            self._out = end % POOL_BYTES
        self.count = (self.count - size) & 0xFFFF
        return bytes(out)

    def forget(self) -> None:
        """``cmdw``: set the pointers back; the memory is not wiped."""
        self._in = self._out = self._stir = 0
        self.count = 0

    def _write(self, at: int, samples: bytes, *, stir: bool) -> int:
        done = 0
        while done < len(samples):
            end = min(at + len(samples) - done, POOL_BYTES)
            piece = samples[done : done + end - at]
            self._memory[at:end] = xor(bytes(self._memory[at:end]), piece) if stir else piece
            done += len(piece)
            at = end % POOL_BYTES
        return at
