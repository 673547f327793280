"""Probes that run inside a guest: inspect, read and draw."""

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
    NO_CLIENT,
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
"""The number of requests for one FIPS 140-2 block and the 32-bit word before it."""
_SLACK_S: Final = 60.0
"""A busy guest without hardware virtualisation needs seconds to start a few programs."""
_WELCOME_BYTES: Final = 12
_GRANT_BYTES: Final = 19


def look(inside: Inside) -> Look:
    """Return the guest's report about its generator.

    Raises:
        GuestUnavailable: the guest cannot be reached, or has no shell.
        RemoteProtocolError: the report cannot be parsed.
    """
    return parse_look(_shell(inside, LOOK))


def read_hwrng(inside: Inside, requests: int, within_s: float) -> bytes:
    """Return up to `requests` * 64 bytes read from /dev/hwrng in `within_s`.

    Raises:
        GuestUnavailable: as for `look`.
        RemoteProtocolError: the guest sent more bytes than requested.
    """
    return _read(inside, READ, HWRNG, requests, within_s)


def read_stick(inside: Inside, tty: str, requests: int, within_s: float) -> bytes:
    """Read noise from a OneRNG at ``/dev/<tty>``; same errors as `read_hwrng`."""
    return _read(inside, STICK, f"/dev/{tty}", requests, within_s)


def _read(inside: Inside, script: str, path: str, requests: int, within_s: float) -> bytes:
    arguments = (str(requests), f"{within_s:g}", path)
    data = _shell(inside, script, *arguments, within_s=within_s)
    if len(data) > requests * REQUEST_BYTES:
        raise RemoteProtocolError(
            f"the guest sent {len(data)} bytes, but {requests * REQUEST_BYTES} were requested",
            hint="Another program in the guest answers instead of its shell or agent. Check the guest.",
        )
    return data


def select(inside: Inside, generator: str, requests: int = 0, within_s: float = 0.0) -> None:
    """Switch the guest's kernel to a generator such as ``virtio_rng.1``.

    Args:
        inside: Access to the guest.
        generator: One of `Look.available`.
        requests: If not 0, read this many times and then switch back.
        within_s: The timeout for these reads.
    """
    _shell(inside, SELECT, generator, str(requests), f"{within_s:g}", within_s=within_s)


def draw(inside: Inside, path: str, draw_class: DrawClass, *, names_bytes: int, within_s: float) -> int:
    """Draw 64 bytes from the socket in the guest; return the number received.

    Args:
        inside: Access to the guest.
        path: The path of the socket in the guest.
        draw_class: The class to request.
        names_bytes: The length of the broker's name plus the consumer's name in the answer.
        within_s: The timeout.

    Raises:
        GuestUnavailable: the guest has no socket or client program, or nothing listens.
        RemoteProtocolError: the answer cannot be parsed.
        Refused: the broker refused the draw.
    """
    request = (
        Hello((PROTOCOL_VERSION,), "drawwell guest verify").encode()
        + Draw(REQUEST_BYTES, draw_class, request_id=1).encode()
    )
    wanted = _WELCOME_BYTES + names_bytes + _GRANT_BYTES + REQUEST_BYTES
    outcome = inside.run(
        ["sh", "-c", CONVERSE, "sh", path, str(wanted), f"{within_s:g}"],
        stdin=request,
        timeout_s=within_s + _SLACK_S,
    )
    if outcome.status == NO_CLIENT:
        raise GuestUnavailable(
            "no program in the guest can connect to a Unix socket",
            hint="Install python3, perl, socat or nc in the guest.",
        )
    if outcome.status and not outcome.output:
        raise GuestUnavailable(
            f"nothing answers on {path} in the guest", hint="Check the socket's mount and the broker."
        )
    return _granted(outcome.output, draw_class)


def _granted(answer: bytes, draw_class: DrawClass) -> int:
    """Return the number of drawn bytes in the answer; 0 for a refusal."""
    session = ClientSession()
    session.hello()
    session.receive_data(answer[:MAX_OUTPUT_BYTES])
    if session.next_event() is None:
        return 0
    session.draw(DrawRequest(REQUEST_BYTES, draw_class))
    return _bytes_of(session.next_event())


def _bytes_of(frame: Frame | None) -> int:
    if isinstance(frame, Refusal):
        raise GuestUnavailable(f"the broker refused: {frame.message}", hint=frame.hint or None)
    return len(frame.data) if isinstance(frame, Granted) else 0


def fips(data: bytes) -> GuestFinding:
    """Run the FIPS 140-2 tests on a block, on the host and not in the guest."""
    what = "the bytes pass the FIPS 140-2 tests"
    if len(data) < BLOCK_BYTES + WORD_BYTES:
        needed = BLOCK_BYTES + WORD_BYTES
        return _inside(what, GuestVerdict.UNKNOWN, f"only {len(data)} of {needed} bytes arrived in time")
    verdict = BlockTester(data[:WORD_BYTES]).judge(data[WORD_BYTES : WORD_BYTES + BLOCK_BYTES])
    if verdict == PASS:
        return _inside(
            what, GuestVerdict.HOLDS, "one block of 20,000 bits passes, as for any seeded generator"
        )
    failed = ", ".join(test.title for test in verdict)
    hint = "One in 1,000 good blocks fails. Verify again; if a second block fails, check the source."
    return _inside(what, GuestVerdict.FAILS, f"the block fails: {failed}", hint)


def findings(seen: Look) -> Iterator[GuestFinding]:
    """Judge a machine's report about its generator."""
    yield _driver(seen)
    yield _current(seen)
    yield _quality(seen)
    held = ", ".join(seen.holders)
    detail = f"open in {held}, which also takes the guest's bytes" if held else "no process holds it open"
    hint = "The kernel reads /dev/hwrng by itself; rngd is not needed." if held else ""
    node = GuestVerdict.HOLDS if seen.hwrng else GuestVerdict.FAILS
    yield _inside("/dev/hwrng exists", node, detail if seen.hwrng else "it does not exist", hint)
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
            "the module exists but is not loaded",
            "In the guest: modprobe virtio_rng.",
        )
    if seen.driver == "none":
        return _inside(
            what,
            GuestVerdict.FAILS,
            "this kernel has no driver for virtio-rng",
            "Boot a kernel with HW_RANDOM_VIRTIO.",
        )
    return _inside(
        what,
        GuestVerdict.FAILS,
        "the driver exists but the device does not",
        "Apply the guest's plan, or restart the guest.",
    )


def _current(seen: Look) -> GuestFinding:
    what = "the kernel reads virtio-rng"
    if seen.current.startswith("virtio_rng"):
        return _inside(what, GuestVerdict.HOLDS, f"current: {seen.current}")
    available = [each for each in seen.available if each.startswith("virtio_rng")]
    hint = f"In the guest: echo {available[0]} > /sys/class/misc/hw_random/rng_current." if available else ""
    return _inside(what, GuestVerdict.FAILS, f"current: {seen.current or 'none'}", hint)


def _quality(seen: Look) -> GuestFinding:
    what = "virtio-rng feeds the kernel"
    if seen.quality is None:
        return _inside(what, GuestVerdict.UNKNOWN, "this kernel does not report the quality")
    if seen.quality:
        return _inside(what, GuestVerdict.HOLDS, f"quality {seen.quality} of 1024")
    hint = "In the guest: echo 1000 > /sys/class/misc/hw_random/rng_quality."
    return _inside(what, GuestVerdict.FAILS, "quality 0: only programs read it", hint)


def _kernel(seen: Look) -> GuestFinding:
    what = "the guest's generator is seeded"
    if seen.pool_bits is None or seen.entropy_bits is None:
        return _inside(what, GuestVerdict.UNKNOWN, f"Linux {seen.kernel} does not report this")
    detail = f"Linux {seen.kernel}: {seen.entropy_bits} of {seen.pool_bits} bits"
    if seen.pool_bits >= 4096:
        return _inside(
            what,
            GuestVerdict.HOLDS if seen.entropy_bits >= 128 else GuestVerdict.FAILS,
            f"{detail}, in an old pool that drains",
        )
    return _inside(
        what, GuestVerdict.HOLDS if seen.entropy_bits >= seen.pool_bits else GuestVerdict.FAILS, detail
    )


def _generation(seen: Look) -> GuestFinding:
    what = "the kernel can detect a copy"
    if seen.generation:
        return _inside(what, GuestVerdict.HOLDS, "VM generation ID with its driver")
    hint = "Use Linux 5.18 or later with VMGENID, and 'drawwell guest reseed' after restoring a snapshot."
    return _inside(what, GuestVerdict.UNKNOWN, "no driver for a VM generation ID", hint)


def _inside(what: str, verdict: GuestVerdict, detail: str, hint: str = "") -> GuestFinding:
    return GuestFinding(what, verdict, detail, inside=True, hint=hint)


def _shell(inside: Inside, script: str, *arguments: str, within_s: float = 0.0) -> bytes:
    outcome = inside.run(["sh", "-c", script, "sh", *arguments], timeout_s=within_s + _SLACK_S)
    if outcome.status:
        raise GuestUnavailable(
            f"the guest's shell exited with status {outcome.status}",
            hint="The guest needs /bin/sh. Try to start /bin/sh in the guest by hand.",
        )
    return outcome.output
