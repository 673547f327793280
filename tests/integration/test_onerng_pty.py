"""The driver and the simulated device on a real pseudo-terminal."""

import asyncio
import fcntl
import os
import subprocess
import termios
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from drawwell.drivers.onerng import OneRngSource
from drawwell.errors import DrawwellError, SourceRejected, SourceUnavailable, UsageError
from drawwell.onerng.verify import SIMULATOR, verify_dump
from drawwell.ports import NoiseSource
from drawwell.reports import Firmware
from drawwell.simulator.pty import PtyDevice
from drawwell.testing.waiting import until

LFLAG = 3
TIOCGEXCL = 0x80045440  # asm-generic/ioctls.h
Scene = Callable[[PtyDevice, OneRngSource], Awaitable[None]]


def play(tmp_path: Path, scene: Scene, *, device: dict[str, Any] | None = None, **source: Any) -> None:
    """Run a scene with a device that is plugged in and a source that is not open."""

    async def run() -> None:
        async with PtyDevice(tmp_path / "onerng", **{"seed": 1, "rate": 0, **(device or {})}) as plugged:
            driver = OneRngSource("stick", str(plugged.link), **source)
            try:
                await scene(plugged, driver)
            finally:
                await driver.aclose()

    asyncio.run(run())


async def read_bytes(source: NoiseSource, wanted: int) -> bytes:
    samples = b""
    while len(samples) < wanted:
        samples += (await source.read(4096)).data
    return samples


async def refusal_of(awaitable: Awaitable[Any]) -> DrawwellError:
    with pytest.raises(DrawwellError) as caught:
        await awaitable
    return caught.value


async def until_sent(device: PtyDevice, wanted: int) -> None:
    while device.sent_bytes < wanted:  # noqa: ASYNC110 - a byte count has no event
        await asyncio.sleep(0)


@contextmanager
def sleeper_on(node: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program that has the node open and takes no lock."""
    with open(node, "rb", buffering=0) as file:
        sleeper = subprocess.Popen(["sleep", "60"], stdin=file)
    try:
        yield sleeper
    finally:
        sleeper.kill()
        sleeper.wait()


def test_a_device_is_opened_verified_and_read(tmp_path: Path) -> None:
    """The identity says what it is, that it is simulated, and which key signed its firmware."""

    async def scene(_: PtyDevice, source: OneRngSource) -> None:
        await source.open()
        identity = source.identity
        assert identity.simulated
        assert identity.firmware is Firmware.VERIFIED
        assert "test key" in identity.firmware_detail
        assert len(identity.hardware_id) == 32
        assert identity.noise == "raw noise"
        assert len(set(await read_bytes(source, 20_000))) == 256

    play(tmp_path, scene)


@pytest.mark.parametrize("version", [1, 2])
def test_older_firmware_is_verified_too(tmp_path: Path, version: int) -> None:
    """Versions 1 and 2 have another layout and no hardware ID."""

    async def scene(_: PtyDevice, source: OneRngSource) -> None:
        await source.open()
        assert source.identity.firmware is Firmware.VERIFIED
        assert source.identity.hardware_id == ""
        assert (await source.command("info", {}))["version"] == version

    play(tmp_path, scene, device={"version": version})


def test_bad_firmware_is_rejected(tmp_path: Path) -> None:
    """A bad signature is not retried, and no sample can be read."""

    async def scene(_: PtyDevice, source: OneRngSource) -> None:
        assert isinstance(await refusal_of(source.open()), SourceRejected)
        assert source.identity.firmware is Firmware.NOT_VERIFIED
        assert isinstance(await refusal_of(source.read(64)), SourceRejected)

    play(tmp_path, scene, device={"fault": "bad-firmware"})


def test_bad_firmware_is_reported_when_the_operator_says_so(tmp_path: Path) -> None:
    """With ``report`` the device is used, and every report says that it is not verified."""

    async def scene(_: PtyDevice, source: OneRngSource) -> None:
        await source.open()
        assert source.identity.firmware is Firmware.NOT_VERIFIED
        assert await read_bytes(source, 1000)

    play(tmp_path, scene, device={"fault": "bad-firmware"}, verify="report")


def test_verification_on_demand_stops_a_source_whose_firmware_changed(tmp_path: Path) -> None:
    """When an operator's verify finds a bad signature, reading ends where verification is required."""

    async def scene(device: PtyDevice, source: OneRngSource) -> None:
        await source.open()
        device.set_fault("bad-firmware")
        assert (await source.command("verify", {}))["outcome"] == "not verified"
        assert isinstance(await refusal_of(source.read(64)), SourceRejected)

    play(tmp_path, scene)


def test_stale_zeros_never_reach_a_reader(tmp_path: Path) -> None:
    """What V3 firmware sends after each special reply is dropped: no 32 zeros in a row, ever."""

    async def scene(_: PtyDevice, source: OneRngSource) -> None:
        await source.open()
        samples = await read_bytes(source, 70_000)
        for verb in ("verify", "info", "flush"):
            await source.command(verb, {})
            samples += await read_bytes(source, 70_000)
        assert bytes(32) not in samples
        assert b"Version" not in samples

    play(tmp_path, scene)


def test_unplugging_in_the_middle_of_a_read_is_named(tmp_path: Path) -> None:
    """The reader gets SourceUnavailable and no sample; after a replug it opens again."""

    async def scene(device: PtyDevice, source: OneRngSource) -> None:
        await source.open()
        device.set_fault("silent")
        await source.command("flush", {})
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(refusal_of(source.read(4096)))
            await asyncio.sleep(0)
            device.unplug()
        assert isinstance(reading.result(), SourceUnavailable)
        assert "unplugged" in str(reading.result())
        device.set_fault("none")
        await source.open()
        assert source.identity.firmware is Firmware.VERIFIED
        assert await read_bytes(source, 1000)

    play(tmp_path, scene)


def test_unplugging_in_the_middle_of_a_dump_is_named(tmp_path: Path) -> None:
    """A dump that ends in the middle is an unplugged device, not bad firmware."""

    async def scene(device: PtyDevice, source: OneRngSource) -> None:
        async with asyncio.TaskGroup() as group:
            opening = group.create_task(refusal_of(source.open()))
            await until_sent(device, 100_000)
            device.unplug()
        assert isinstance(opening.result(), SourceUnavailable)
        assert "unplugged" in str(opening.result())
        assert source.identity.firmware is Firmware.COULD_NOT_CHECK

    play(tmp_path, scene, device={"rate": 400_000})


def test_an_unplugged_device_is_not_there(tmp_path: Path) -> None:
    """Its link is gone, and comes back with it."""

    async def scene(device: PtyDevice, source: OneRngSource) -> None:
        assert not device.link.is_symlink()
        assert "not there" in str(await refusal_of(source.open()))
        device.replug()
        await source.open()

    play(tmp_path, scene, device={"fault": "unplugged"})


def test_a_stall_is_named(tmp_path: Path) -> None:
    """A device that falls silent is unavailable after the bounded wait."""

    async def scene(device: PtyDevice, source: OneRngSource) -> None:
        await source.open()
        device.set_fault("silent")
        with pytest.raises(SourceUnavailable, match=r"no sample .* within 0\.1 s"):
            await read_bytes(source, 100_000)

    play(tmp_path, scene, stall_s=0.1)


@pytest.mark.slow
def test_a_device_that_never_answers_is_unavailable(tmp_path: Path) -> None:
    """Start-up retries are bounded."""

    async def scene(_: PtyDevice, source: OneRngSource) -> None:
        assert "gives no byte" in str(await refusal_of(source.open()))

    play(tmp_path, scene, device={"fault": "silent"})


@pytest.mark.slow
def test_a_short_dump_could_not_be_checked(tmp_path: Path) -> None:
    """A device that goes silent in its dump is asked again, and then nothing is said about its firmware."""

    async def scene(device: PtyDevice, source: OneRngSource) -> None:
        await source.open()
        before = device.sent_bytes
        async with asyncio.TaskGroup() as group:
            verifying = group.create_task(source.command("verify", {}))
            await until_sent(device, before + 100_000)
            device.set_fault("silent")
        assert verifying.result()["outcome"] == "could not check"
        assert "image" in verifying.result()["reason"]

    play(tmp_path, scene, device={"rate": 400_000})


def test_pause_and_resume(tmp_path: Path) -> None:
    """A paused source refuses to be read, and reads again when resumed."""

    async def scene(_: PtyDevice, source: OneRngSource) -> None:
        await source.open()
        await source.command("pause", {})
        assert (await source.command("info", {}))["paused"]
        assert "paused" in str(await refusal_of(source.read(64)))
        await source.command("resume", {})
        assert await read_bytes(source, 1000)

    play(tmp_path, scene)


def test_a_mode_takes_effect_at_once(tmp_path: Path) -> None:
    """A stuck source shows as itself in raw mode and hides behind the whitener; the identity says which it is."""

    async def scene(_: PtyDevice, source: OneRngSource) -> None:
        await source.open()
        assert set(await read_bytes(source, 1000)) == {0xA5}
        answer = await source.command("mode", {"mode": "cmd0"})
        assert answer["words"] == "avalanche, whitened"
        assert len(set(await read_bytes(source, 10_000))) > 100
        assert source.identity.noise == "after the maker's conditioning"

    play(tmp_path, scene, device={"fault": "stuck"})


@pytest.mark.parametrize("mode", ["cmd4", "cmd5", "cmd9", "", None])
def test_a_mode_without_noise_is_refused(tmp_path: Path, mode: str | None) -> None:
    """The command refuses it and goes on in the old mode."""

    async def scene(_: PtyDevice, source: OneRngSource) -> None:
        source.attach()
        assert isinstance(await refusal_of(source.command("mode", {"mode": mode})), UsageError)

    play(tmp_path, scene)


def test_a_dump_is_written_to_a_new_private_file(tmp_path: Path) -> None:
    """The file has mode 0600 and holds a verified dump; an existing file is left alone."""
    dump = tmp_path / "dump"

    async def scene(_: PtyDevice, source: OneRngSource) -> None:
        await source.open()
        answer = await source.command("dump", {"path": str(dump)})
        assert answer == {"path": str(dump), "simulated": True, "bytes": 262_157, "version": 3}
        assert dump.stat().st_mode & 0o777 == 0o600
        assert verify_dump(dump.read_bytes(), SIMULATOR).outcome is Firmware.VERIFIED
        assert isinstance(await refusal_of(source.command("dump", {"path": str(dump)})), UsageError)
        assert await read_bytes(source, 1000)

    play(tmp_path, scene)


@pytest.mark.parametrize(
    ("verb", "args"), [("dump", {}), ("dump", {"path": "relative"}), ("dump", {"path": 7}), ("reboot", {})]
)
def test_what_makes_no_sense_is_a_usage_error(tmp_path: Path, verb: str, args: dict[str, Any]) -> None:
    """Unknown verbs and arguments are refused, and the source reads on."""

    async def scene(_: PtyDevice, source: OneRngSource) -> None:
        source.attach()
        assert isinstance(await refusal_of(source.command(verb, args)), UsageError)

    play(tmp_path, scene)


def test_a_second_opener_is_refused(tmp_path: Path) -> None:
    """Two sources cannot share a device; when the first lets go the second may have it."""

    async def scene(device: PtyDevice, source: OneRngSource) -> None:
        second = OneRngSource("second", str(device.link), verify="off")
        await source.open()
        assert "held open" in str(await refusal_of(second.open()))
        await source.aclose()
        await second.open()
        await second.aclose()

    play(tmp_path, scene)


def test_a_device_that_another_program_reads_is_refused_by_name(tmp_path: Path) -> None:
    """A program that had it open before, without a lock, would get half of the noise: it is named."""

    async def scene(device: PtyDevice, source: OneRngSource) -> None:
        with sleeper_on(device.node) as other:
            assert f"sleep (process {other.pid})" in str(await refusal_of(source.open()))
        source.attach()

    play(tmp_path, scene)


def test_a_full_pool_is_not_read(tmp_path: Path) -> None:
    """After a wait in which the pool was stirred, what is read is fresh: a counter still counts."""

    async def scene(_: PtyDevice, source: OneRngSource) -> None:
        await source.open()
        await source.read(4096)
        await asyncio.sleep(0.3)  # the fact is about time passing: the pool fills in 0.13 s
        samples = (await source.read(4096)).data
        assert samples == bytes((samples[0] + step) % 256 for step in range(len(samples)))

    play(tmp_path, scene, device={"rate": 57_000, "fault": "counter"}, verify="off")


def test_the_terminal_is_raw_without_echo_and_keeps_hupcl(tmp_path: Path) -> None:
    """Echo would send noise back to the device; HUPCL, and so what DTR does at close, is not ours to change."""

    def flags_of(node: str, change: int = 0) -> tuple[int, int]:
        fd = os.open(node, os.O_RDWR | os.O_NOCTTY)
        attributes = termios.tcgetattr(fd)
        if change:
            attributes[LFLAG] |= change
            attributes[2] |= termios.HUPCL
            termios.tcsetattr(fd, termios.TCSANOW, attributes)
        os.close(fd)
        return attributes[LFLAG], attributes[2]

    async def scene(device: PtyDevice, source: OneRngSource) -> None:
        flags_of(device.node, termios.ECHO | termios.ICANON | termios.ISIG)
        source.attach()
        source.detach()
        local, control = flags_of(device.node)
        assert local & (termios.ECHO | termios.ICANON | termios.ISIG) == 0
        assert control & termios.HUPCL
        assert control & termios.CLOCAL
        assert not control & termios.CRTSCTS

    play(tmp_path, scene)


def test_a_killed_reader_leaves_a_simulated_device_usable(tmp_path: Path) -> None:
    """TIOCEXCL would outlive its holder on a pseudo-terminal and lock out all but root, so it is not set there."""

    async def scene(device: PtyDevice, source: OneRngSource) -> None:
        source.attach()
        fd = os.open(device.node, os.O_RDWR | os.O_NOCTTY)
        exclusive = fcntl.ioctl(fd, TIOCGEXCL, bytes(4))
        os.close(fd)
        assert exclusive == bytes(4)

    play(tmp_path, scene)


def test_what_is_no_terminal_is_rejected(tmp_path: Path) -> None:
    """A regular file is not a device."""
    (tmp_path / "file").write_bytes(b"noise")
    with pytest.raises(SourceRejected, match="not a terminal"):
        OneRngSource("file", str(tmp_path / "file")).attach()


@pytest.mark.parametrize("arguments", [{"mode": "cmd4"}, {"mode": "fast"}, {"verify": "maybe"}])
def test_a_source_that_makes_no_sense_is_a_usage_error(arguments: dict[str, str]) -> None:
    """Mode and policy are judged before a device is touched."""
    with pytest.raises(UsageError):
        OneRngSource("stick", "/dev/null", **arguments)


def test_closing_pauses_the_device(tmp_path: Path) -> None:
    """A device that was closed cleanly sends nothing to whoever opens it next."""

    async def scene(device: PtyDevice, source: OneRngSource) -> None:
        await source.open()
        await source.aclose()
        await until(lambda: not device._device.dtr, "the device sees that it was closed")
        assert device._device.paused
        fd = os.open(device.node, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        before = device.sent_bytes
        os.write(fd, b"cmdv")
        for _ in range(50):
            await asyncio.sleep(0)
        assert device.sent_bytes == before
        os.close(fd)

    play(tmp_path, scene)


def test_closing_twice_and_without_a_device_is_fine(tmp_path: Path) -> None:
    """aclose never raises."""

    async def scene(device: PtyDevice, source: OneRngSource) -> None:
        await source.aclose()
        await source.open()
        device.unplug()
        await source.aclose()
        await source.aclose()
        assert isinstance(await refusal_of(source.read(1)), SourceUnavailable)

    play(tmp_path, scene)


def test_no_sample_reaches_a_repr(tmp_path: Path) -> None:
    """Neither the block nor the source shows what was read."""

    async def scene(_: PtyDevice, source: OneRngSource) -> None:
        await source.open()
        assert repr(await source.read(64)) == "RawBlock()"

    play(tmp_path, scene, verify="off")


def test_the_link_replaces_nothing_but_an_old_link(tmp_path: Path) -> None:
    """A file in the way is refused; a stale link to a terminal is replaced; at the end the link is gone."""
    taken, stale = tmp_path / "taken", tmp_path / "stale"
    taken.write_bytes(b"mine")
    stale.symlink_to("/dev/pts/99999")

    async def run() -> None:
        with pytest.raises(UsageError, match="File exists"):
            async with PtyDevice(taken):
                pass
        async with PtyDevice(stale) as device:
            assert os.readlink(stale) == device.node

    asyncio.run(run())
    assert taken.read_bytes() == b"mine"
    assert not stale.is_symlink()


def test_an_unknown_fault_is_refused(tmp_path: Path) -> None:
    """The hint lists the faults."""
    with pytest.raises(UsageError) as caught:
        PtyDevice(tmp_path / "link", fault="tired")
    assert "bad-firmware" in str(caught.value.hint)
