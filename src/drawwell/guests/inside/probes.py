"""What is done inside a guest, whatever the way in: look, read and draw."""

from collections.abc import Iterator
from typing import Final

from drawwell.assess.fips140.blocks import BlockTester
from drawwell.assess.fips140.verdict import BLOCK_BYTES, PASS, WORD_BYTES
from drawwell.entropy.blocks import DrawClass, DrawRequest
from drawwell.errors import GuestUnavailable, RemoteProtocolError
from drawwell.guests.inside.scripts import (
    CONVERSE,
    LOOK,
    MAX_OUTPUT_BYTES,
    NOBODY_CONVERSES,
    READ,
    SELECT,
    STICK,
    Look,
    parse_look,
)
from drawwell.guests.model import GuestFinding, GuestVerdict, Inside
from drawwell.wire.frames import Draw, Frame, Granted, Hello, Refusal
from drawwell.wire.limits import PROTOCOL_VERSION
from drawwell.wire.session import ClientSession

HWRNG: Final = "/dev/hwrng"
REQUEST_BYTES: Final = 64
FIPS_REQUESTS: Final = -(-(BLOCK_BYTES + WORD_BYTES) // REQUEST_BYTES)
"""So many requests make a block of the FIPS 140-2 tests, and the word before it."""
_SLACK_S: Final = 20.0
"""A guest may be slow to start a shell."""
_WELCOME_BYTES: Final = 12
_GRANT_BYTES: Final = 19


def look(inside: Inside) -> Look:
    """Return what the guest says of itself.

    Raises:
        GuestUnavailable: there is no way in, or no shell behind it.
        RemoteProtocolError: it says something else.
    """
    return parse_look(_shell(inside, LOOK))


def read_hwrng(inside: Inside, requests: int, within_s: float) -> bytes:
    """Return what /dev/hwrng gave within that time: up to `requests` times 64 bytes, none where a read waits for ever.

    Raises:
        GuestUnavailable: as `look`.
        RemoteProtocolError: the guest sends more than was read.
    """
    return _read(inside, READ, HWRNG, requests, within_s)


def read_stick(inside: Inside, tty: str, requests: int, within_s: float) -> bytes:
    """Return noise of the OneRNG at ``/dev/<tty>`` in the guest, real or virtual; raises as `read_hwrng`."""
    return _read(inside, STICK, f"/dev/{tty}", requests, within_s)


def _read(inside: Inside, script: str, path: str, requests: int, within_s: float) -> bytes:
    arguments = (str(requests), f"{within_s:g}", path)
    data = _shell(inside, script, *arguments, within_s=within_s)
    if len(data) > requests * REQUEST_BYTES:
        raise RemoteProtocolError(
            f"the guest sends {len(data)} bytes where {requests * REQUEST_BYTES} were read",
            hint="Somebody in the guest answers in the place of its shell or its agent: look there.",
        )
    return data


def select(inside: Inside, generator: str, requests: int = 0, within_s: float = 0.0) -> None:
    """Have the guest's kernel read that generator, such as ``virtio_rng.1``; raises as `look`.

    Args:
        inside: The way in.
        generator: One of `Look.available`.
        requests: If not 0, so many are read from it, and then the one before is current again.
        within_s: How long they may take.
    """
    _shell(inside, SELECT, generator, str(requests), f"{within_s:g}", within_s=within_s)


def draw(inside: Inside, path: str, draw_class: DrawClass, *, names_bytes: int, within_s: float) -> int:
    """Draw 64 bytes through the broker's socket at `path` in the guest; return how many came.

    Args:
        inside: The way in.
        path: Where the socket is in there.
        draw_class: What is asked for.
        names_bytes: How long the broker's and the consumer's names are together; the answer is so much longer.
        within_s: How long it may take.

    Raises:
        GuestUnavailable: there is no way in, no socket, or nobody listens; or no program there that could ask.
        RemoteProtocolError: what came back is no answer.
        Refused: the broker refuses.
    """
    said = (
        Hello((PROTOCOL_VERSION,), "drawwell guest verify").encode()
        + Draw(REQUEST_BYTES, draw_class, request_id=1).encode()
    )
    wanted = _WELCOME_BYTES + names_bytes + _GRANT_BYTES + REQUEST_BYTES
    outcome = inside.run(
        ["sh", "-c", CONVERSE, "sh", path, str(wanted), f"{within_s:g}"],
        stdin=said,
        timeout_s=within_s + _SLACK_S,
    )
    if outcome.status == NOBODY_CONVERSES:
        raise GuestUnavailable(
            "nothing in the guest can speak with a Unix socket",
            hint="Install one of python3, perl, socat or nc there.",
        )
    if outcome.status and not outcome.output:
        raise GuestUnavailable(
            f"nobody answers at {path} in the guest", hint="Is the socket mounted, and does the broker run?"
        )
    return _granted(outcome.output, draw_class)


def _granted(answer: bytes, draw_class: DrawClass) -> int:
    """How many bytes the answer to `draw` brings; 0 when it is a refusal."""
    session = ClientSession()
    session.hello()
    session.receive_data(answer[:MAX_OUTPUT_BYTES])
    if session.next_event() is None:
        return 0
    session.draw(DrawRequest(REQUEST_BYTES, draw_class))
    return _bytes_of(session.next_event())


def _bytes_of(frame: Frame | None) -> int:
    if isinstance(frame, Refusal):
        raise GuestUnavailable(f"the broker refuses: {frame.message}", hint=frame.hint or None)
    return len(frame.data) if isinstance(frame, Granted) else 0


def fips(data: bytes) -> GuestFinding:
    """Judge a block of what was read by the FIPS 140-2 tests, here and not in the guest."""
    what = "the bytes pass the FIPS 140-2 tests"
    if len(data) < BLOCK_BYTES + WORD_BYTES:
        needed = BLOCK_BYTES + WORD_BYTES
        return _inside(what, GuestVerdict.UNKNOWN, f"only {len(data)} of {needed} bytes came in time")
    verdict = BlockTester(data[:WORD_BYTES]).judge(data[WORD_BYTES : WORD_BYTES + BLOCK_BYTES])
    if verdict == PASS:
        return _inside(
            what, GuestVerdict.HOLDS, "one block of 20,000 bits passes; of a seeded generator all do"
        )
    failed = ", ".join(test.title for test in verdict)
    hint = "One of 1,000 good blocks fails: verify again, and look at the source when it does so twice."
    return _inside(what, GuestVerdict.FAILS, f"it fails: {failed}", hint)


def findings(seen: Look) -> Iterator[GuestFinding]:
    """Judge what a machine said of its generator."""
    yield _driver(seen)
    yield _current(seen)
    yield _quality(seen)
    held = ", ".join(seen.holders)
    words = f"held open by {held}: it competes for the guest's bytes" if held else "nobody holds it open"
    hint = "The kernel feeds itself from it; rngd is not needed." if held else ""
    node = GuestVerdict.HOLDS if seen.hwrng else GuestVerdict.FAILS
    yield _inside("/dev/hwrng is there", node, words if seen.hwrng else "it is not", hint)
    yield _kernel(seen)
    yield _generation(seen)


def _driver(seen: Look) -> GuestFinding:
    what = "virtio-rng has a driver"
    if seen.virtio_rng:
        return _inside(what, GuestVerdict.HOLDS, f"{', '.join(seen.virtio_rng)}, driver {seen.driver}")
    if seen.driver == "module":
        return _inside(
            what,
            GuestVerdict.FAILS,
            "the module is there and not loaded",
            "In the guest: modprobe virtio_rng.",
        )
    if seen.driver == "none":
        return _inside(
            what,
            GuestVerdict.FAILS,
            "this kernel has no driver for it",
            "Boot a kernel with HW_RANDOM_VIRTIO.",
        )
    return _inside(
        what,
        GuestVerdict.FAILS,
        "the driver is there, the device is not",
        "Apply the guest's plan, or start it anew.",
    )


def _current(seen: Look) -> GuestFinding:
    what = "the kernel reads virtio-rng"
    if seen.current.startswith("virtio_rng"):
        return _inside(what, GuestVerdict.HOLDS, f"current: {seen.current}")
    available = [each for each in seen.available if each.startswith("virtio_rng")]
    hint = f"In the guest: echo {available[0]} > /sys/class/misc/hw_random/rng_current." if available else ""
    return _inside(what, GuestVerdict.FAILS, f"current: {seen.current or 'none'}", hint)


def _quality(seen: Look) -> GuestFinding:
    what = "the kernel feeds itself from it"
    if seen.quality is None:
        return _inside(what, GuestVerdict.UNKNOWN, "this kernel does not say what it believes of it")
    if seen.quality:
        return _inside(what, GuestVerdict.HOLDS, f"quality {seen.quality} of 1024")
    hint = "In the guest: echo 1000 > /sys/class/misc/hw_random/rng_quality."
    return _inside(what, GuestVerdict.FAILS, "quality 0: it is read by programs only", hint)


def _kernel(seen: Look) -> GuestFinding:
    what = "the guest's generator is seeded"
    if seen.pool_bits is None or seen.entropy_bits is None:
        return _inside(what, GuestVerdict.UNKNOWN, f"Linux {seen.kernel} does not say")
    words = f"Linux {seen.kernel}: {seen.entropy_bits} of {seen.pool_bits} bits"
    if seen.pool_bits >= 4096:
        return _inside(
            what,
            GuestVerdict.HOLDS if seen.entropy_bits >= 128 else GuestVerdict.FAILS,
            f"{words}, an old pool that drains",
        )
    return _inside(
        what, GuestVerdict.HOLDS if seen.entropy_bits >= seen.pool_bits else GuestVerdict.FAILS, words
    )


def _generation(seen: Look) -> GuestFinding:
    what = "its kernel learns that it was copied"
    if seen.generation:
        return _inside(what, GuestVerdict.HOLDS, "VM generation id, with its driver")
    hint = "Use Linux 5.18 or later with VMGENID, and 'drawwell guest reseed' after a snapshot was restored."
    return _inside(what, GuestVerdict.UNKNOWN, "it has no driver of a VM generation id", hint)


def _inside(what: str, verdict: GuestVerdict, detail: str, hint: str = "") -> GuestFinding:
    return GuestFinding(what, verdict, detail, inside=True, hint=hint)


def _shell(inside: Inside, script: str, *arguments: str, within_s: float = 0.0) -> bytes:
    outcome = inside.run(["sh", "-c", script, "sh", *arguments], timeout_s=within_s + _SLACK_S)
    if outcome.status:
        raise GuestUnavailable(
            f"the guest's shell ended with status {outcome.status}",
            hint="The guest needs /bin/sh; try the same in it by hand.",
        )
    return outcome.output
