"""Compares a real OneRNG with the simulator.

Each observation contains the simulator's assumption and the actual result, but no noise.
"""

import argparse
import asyncio
import json
import math
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from typing import Any

from drawwell import __version__
from drawwell.cli.output import Output
from drawwell.drivers.discovery import device_of, find_onerng
from drawwell.drivers.onerng_dialogue import Dialogue
from drawwell.drivers.tty import BUFFER_BYTES, Tty
from drawwell.errors import SourceError, UsageError
from drawwell.onerng.commands import Command, Mode
from drawwell.onerng.image import UnreadableImage
from drawwell.onerng.verify import SIMULATOR, VENDOR, verify_image
from drawwell.reports import Firmware
from drawwell.simulator.device import NOISE_RATE, PACKET_BYTES, POOL_BYTES

_QUIET_S = 0.5
_TOLERANCE = 0.1
_STALE_BYTES = 65_472  # simulator/device.py: the pool's counter underflows
_CLAIM_BITS = 6.0  # config/drivers.py: the default claim for a byte
_PERSON_S = 120.0
"""How long a user may take to plug in or unplug the device."""
Ask = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Observation:
    """A fact about the device; `differs` is None if a person must judge."""

    what: str
    assumed: str
    seen: str
    differs: bool | None


def run(args: argparse.Namespace, out: Output) -> int:
    """Observe the device, write the file, and show the differences."""
    path = args.path or find_onerng().path
    fd = os.open(args.output, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        try:
            document = asyncio.run(_document(path, args.seconds, out))
        except BaseException:
            os.unlink(args.output)
            raise
        json.dump(document, file, indent=2)
    rows = [("OBSERVED", "ASSUMED", "SEEN", "")]
    marks = {True: "!", False: "+", None: "-"}
    rows += [(o["what"], o["assumed"], o["seen"], marks[o["differs"]]) for o in document["observations"]]
    differs = sum(o["differs"] is True for o in document["observations"])
    kind = "a simulated device" if document["simulated"] else "this device"
    text = f"{out.style.table(rows)}\n\n{kind}: {differs} of {len(rows) - 1} differ; details are in {args.output}"
    out.result(document, text)
    if not document["simulated"]:
        out.say(f"please send {args.output} in a bug report, even if it shows no differences")
    return 1 if differs else 0


async def _document(path: str, seconds: float, out: Output) -> dict[str, Any]:
    device = device_of(path)
    observations = []
    tty = Tty.open(path)
    simulated = tty.is_pty
    try:
        async for each in _alone(tty, seconds, simulated=simulated):
            observations.append(each)
            out.say(f"{each.what}: {each.seen}")
    finally:
        tty.close()
    async for each in _with_a_person(path, _asker(out)):
        observations.append(each)
        out.say(f"{each.what}: {each.seen}")
    return {
        "drawwell": __version__,
        "kernel": os.uname().release,
        "path": path,
        "stable_name": device.stable_name if device else "",
        "simulated": simulated,
        "observations": [asdict(each) for each in observations],
    }


async def _alone(tty: Tty, seconds: float, *, simulated: bool) -> AsyncIterator[Observation]:
    """Make the observations that need no user, with a newly opened device."""
    dialogue = Dialogue(tty)
    first = await _count(tty, 1.0)
    yield Observation("bytes before any command", "0", str(first), differs=first > 0)
    await dialogue.wake()
    version = await dialogue.version()
    yield Observation("firmware version", "1, 2 or 3", str(version), differs=version not in {1, 2, 3})
    identity = await dialogue.hardware_id()
    yield Observation("digits of the ID", "32 since version 3", str(len(identity)),
                      differs=len(identity) != (32 if version >= 3 else 0))  # fmt: skip
    yield await _stale(tty, dialogue, version)
    async for each in _image(dialogue, simulated=simulated):
        yield each
    for mode in (Mode.DEFAULT, Mode.RAW, Mode.RF, Mode.RF | Mode.RAW):
        async for each in _noise(tty, dialogue, mode, seconds):
            yield each
    yield await _pausing(tty, dialogue)
    yield await _silent(tty, dialogue)


async def _count(tty: Tty, seconds: float) -> int:
    """Return the number of bytes that arrive within `seconds`."""
    end, count = time.monotonic() + seconds, 0
    while (left := end - time.monotonic()) > 0:
        count += len(await tty.read(BUFFER_BYTES, left))
    return count


async def _stale(tty: Tty, dialogue: Dialogue, version: int) -> Observation:
    """Count the bytes after the reply to the version query."""
    await dialogue.stop()
    await dialogue.tell(Command.SILENT.value, Command.FLUSH.value, Command.VERSION.value, Command.RUN.value)
    data = bytearray()
    while piece := await tty.read(BUFFER_BYTES, _QUIET_S):
        data += piece
    await dialogue.stop()
    most = PACKET_BYTES + (_STALE_BYTES if version >= 3 else 0)
    zeros = data.count(0)
    return Observation("bytes in and after a reply", f"up to {most:,}, mostly zeros",
                       f"{len(data):,}, {zeros:,} zeros", differs=len(data) > most + PACKET_BYTES)  # fmt: skip


async def _image(dialogue: Dialogue, *, simulated: bool) -> AsyncIterator[Observation]:
    begun = time.monotonic()
    try:
        image = await dialogue.image()
    except UnreadableImage as error:
        yield Observation("firmware image", "complete within 10 s", str(error), differs=True)
        return
    took = time.monotonic() - begun
    yield Observation("seconds for the image", "up to 10", f"{took:.1f}", differs=took > 10)
    verdict = verify_image(image, SIMULATOR if simulated else VENDOR)
    yield Observation("signature", str(Firmware.VERIFIED), f"{verdict.outcome}; {verdict.detail}",
                      differs=verdict.outcome is not Firmware.VERIFIED)  # fmt: skip


async def _noise(tty: Tty, dialogue: Dialogue, mode: Mode, seconds: float) -> AsyncIterator[Observation]:
    """Observe one mode: rate, sizes of reads, and most common value."""
    await dialogue.start(mode)
    counts: Counter[int] = Counter()
    odd, begun = 0, time.monotonic()
    while (passed := time.monotonic() - begun) < seconds:
        piece = await tty.read(BUFFER_BYTES, seconds - passed)
        counts.update(piece)
        odd += len(piece) % PACKET_BYTES > 0
    await dialogue.stop()
    n = counts.total()
    rate = n / seconds
    expected = f"{NOISE_RATE:,.0f} bytes/s" if mode is Mode.DEFAULT else "unknown"
    differs = abs(rate / NOISE_RATE - 1) > _TOLERANCE if mode is Mode.DEFAULT else None
    yield Observation(f"rate in {mode}", expected, f"{rate:,.0f} bytes/s", differs=differs)
    if not n:
        return
    bits = -math.log2(max(counts.values()) / n)
    yield Observation(f"most common value in {mode}", f"at least {_CLAIM_BITS:g} bits per byte",
                      f"{bits:.2f} bits per byte over {n:,}", differs=bits < _CLAIM_BITS)  # fmt: skip
    if mode is Mode.DEFAULT:
        yield Observation("reads that end within a packet", "a few, on a terminal", str(odd), differs=None)


async def _pausing(tty: Tty, dialogue: Dialogue) -> Observation:
    await dialogue.start(Mode.DEFAULT)
    await _count(tty, _QUIET_S)
    await dialogue.tell(Command.PAUSE.value)
    late = await _count(tty, _QUIET_S)
    after = await _count(tty, _QUIET_S)
    return Observation("bytes after a pause", f"up to {POOL_BYTES:,}, then 0", f"{late:,}, then {after:,}",
                       differs=late > 2 * POOL_BYTES or after > 0)  # fmt: skip


async def _silent(tty: Tty, dialogue: Dialogue) -> Observation:
    await dialogue.stop()
    await dialogue.tell(Command.SILENT.value, Command.FLUSH.value, Command.RUN.value)
    count = await _count(tty, 2 * _QUIET_S)
    await dialogue.stop()
    return Observation("bytes in a mode without noise", "0", str(count), differs=count > 0)


def _asker(out: Output) -> Ask:
    def ask(question: str) -> str:
        out.say(question)
        answer = sys.stdin.readline()
        if not answer:
            raise UsageError("no answer", hint="Type each answer on a line of standard input.")
        return answer.strip()

    return ask


async def _with_a_person(path: str, ask: Ask) -> AsyncIterator[Observation]:
    """Make the observations that need a user."""
    tty = Tty.open(path)
    try:
        dialogue = Dialogue(tty)
        await dialogue.start(Mode.DEFAULT)
        led = await asyncio.to_thread(ask, "look at the sending device's LED: on, off, dim or flickering?")
        yield Observation("LED while sending", "dim or flickering", led, differs=None)
        await dialogue.stop()
        led = await asyncio.to_thread(ask, "look at the paused device's LED: on, off, dim or flickering?")
        yield Observation("LED while paused", "on", led, differs=led not in {"on", ""})
        await dialogue.start(Mode.DEFAULT)
        await asyncio.to_thread(ask, "press Enter, then unplug the device within two minutes")
        error = await _until_gone(tty)
        yield Observation("error when unplugged", "unplugged", error, differs="unplugged" not in error)
    finally:
        tty.close()
    there = _there(path)
    yield Observation("node after unplugging", "gone", "present" if there else "gone", differs=there)
    await asyncio.to_thread(ask, "press Enter, then plug the device into the same port within two minutes")
    async for each in _until_back(path):
        yield each


def _there(path: str) -> bool:
    return os.path.exists(path)


async def _until_gone(tty: Tty) -> str:
    end = time.monotonic() + _PERSON_S
    try:
        while time.monotonic() < end:
            await tty.read(BUFFER_BYTES, _QUIET_S)
    except SourceError as error:
        return str(error)
    return "no error"


async def _until_back(path: str) -> AsyncIterator[Observation]:
    end = time.monotonic() + _PERSON_S
    while not _there(path) and time.monotonic() < end:  # noqa: ASYNC110  a node appears without an event
        await asyncio.sleep(_QUIET_S / 10)
    back = _there(path)
    yield Observation("node after plugging in", path, path if back else "missing", differs=not back)
    if back:
        tty = Tty.open(path)
        try:
            begun = time.monotonic()
            await Dialogue(tty).wake()
            took = time.monotonic() - begun
        finally:
            tty.close()
        yield Observation("seconds to the first byte", "up to 5", f"{took:.1f}", differs=took > 5)
