"""A OneRNG without hardware: replies, timing, and faults on request.

Source: OneRNG/firmware 81d70bf (Version 3): cdc_app.c (parser, sender, pool), cdc.c (DTR).
Pure: the clock, the host's bytes and uniform noise are arguments. Like the real device, it

- is paused at power-on, and sends only while the host asserts DTR;
- obeys ``cmd`` and one character, and does not rescan a byte that breaks this sequence;
- sends noise in packets of 64 bytes from a pool of 7,168 bytes; XORs noise into a full pool;
- answers pending queries in the order identity, version, image, each kind once, and resumes an
  interrupted image;
- from version 3 on, sends 64 bytes too many after the last reply. The counter of its pool
  then underflows, and up to 65,472 stale bytes follow, mostly zeros.

``cmdS`` (the vendor's anti-tamper challenge) consumes its token and has no reply.
"""

from typing import Final

from drawwell.onerng.commands import HEX, CommandReader, Mode
from drawwell.simulator.firmware_image import simulated_dump
from drawwell.simulator.noise import SimulatedFault, SimulatedNoise, Uniform, xor

PACKET_BYTES: Final = 64
POOL_BYTES: Final = 7 * 1024
NOISE_RATE: Final = 57_000.0
"""Bytes per second: a V3.0 in cmd0 was measured at 57.3 to 59.2 kB/s."""
REPLY_SPEEDUP: Final = 4.0
"""Speed of a dump relative to noise: the vendor's first script allowed 1.5 s for a dump."""
_SLOW_RATE: Final = 500.0
_BURST_S: Final = 0.1  # the most noise to catch up on after a pause of the host, in seconds


class SimulatedOneRng:
    """A simulated device, from power-on to unplugging.

    Args:
        uniform: Returns uniform bytes, which determine all of the noise.
        hardware_id: 16 bytes, the reply to ``cmdI``.
        version: 1, 2 or 3.
        rate: Noise in bytes per second; 0 for no limit.
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
        self._owed = 0.0  # noise due, as a fraction of a byte
        self._allowance = 0.0  # capacity of the bus since the last packet
        self._pool = Pool()
        self._replies = Replies(version, hardware_id)
        self._commands = CommandReader(self._obey, tokens=version >= 3)

    def receive(self, data: bytes) -> None:
        """Process bytes from the host."""
        self._commands.receive(data)

    def advance(self, now: float) -> None:
        """Advance the time and generate noise, which is XORed into a full pool."""
        elapsed, self._now = max(0.0, now - self._now), max(now, self._now)
        if self._rate == 0 and self.fault is not SimulatedFault.SLOW:
            return
        rate = _SLOW_RATE if self.fault is SimulatedFault.SLOW else self._rate
        bus = (self._rate or NOISE_RATE) * REPLY_SPEEDUP
        self._allowance = min(self._allowance + elapsed * bus, bus * _BURST_S + PACKET_BYTES)
        # XORing into the whole pool more than twice has no visible effect.
        self._owed = min(self._owed + elapsed * rate, 2.0 * POOL_BYTES)
        whole = int(self._owed)
        self._owed -= whole
        self._gather(whole)

    def transmit(self, max_bytes: int) -> bytes:
        """Return the packets due, up to `max_bytes`; one packet after a reply."""
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
            piece += self._pool.take(PACKET_BYTES)  # even if the pool contains fewer
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
    """The pending replies (cdc_app.c: ``IDing``, ``versioning``, ``dumping``).

    The identity and version replies share the index ``vind``, so a version reply that follows
    an identity reply lacks its first two characters.
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
        """Whether a reply is pending."""
        return self._identity or self._version or bool(self._image)

    def ask_identity(self) -> None:
        """Start or restart the reply to ``cmdI``."""
        self._identity, self._index = True, 0

    def ask_version(self) -> None:
        """Start or restart the reply to ``cmdv``."""
        self._version, self._index = True, 0

    def ask_image(self, image: bytes) -> None:
        """Start or restart the reply to ``cmdX``."""
        self._image = image

    def take(self, most: int) -> bytes:
        """Return one packet of text, or up to `most` packets of the image."""
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
    """The device's pool: a ring whose 16-bit counter may underflow."""

    def __init__(self) -> None:
        self._memory = bytearray(POOL_BYTES)
        self._in = self._out = self._stir = 0
        self.count = 0

    def put(self, samples: bytes) -> None:
        """Append samples until the pool is full; XOR the rest into its contents."""
        room = max(0, POOL_BYTES - self.count)
        appended, stirred = samples[:room], samples[room:]
        self.count += len(appended)
        self._in = self._write(self._in, appended, stir=False)
        self._stir = self._write(self._stir, stirred, stir=True)

    def take(self, size: int) -> bytes:
        """Return and zero the next `size` bytes, possibly beyond the contents."""
        out = bytearray()
        while len(out) < size:
            end = min(self._out + size - len(out), POOL_BYTES)
            out += self._memory[self._out : end]
            self._memory[self._out : end] = bytes(end - self._out)
            self._out = end % POOL_BYTES
        self.count = (self.count - size) & 0xFFFF
        return bytes(out)

    def forget(self) -> None:
        """Reset the pointers as ``cmdw`` does, without wiping the memory."""
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
