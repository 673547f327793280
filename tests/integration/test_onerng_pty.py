"""The driver with a simulated device on a real pseudo-terminal."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from drawwell.drivers.onerng import OneRngSource
from drawwell.drivers.onerng_dialogue import Dialogue
from drawwell.errors import SourceRejected, SourceUnavailable, UsageError
from drawwell.onerng.verify import SIMULATOR, verify_dump
from drawwell.reports import Firmware
from drawwell.simulator.device import NOISE_RATE, Pool
from drawwell.simulator.firmware_image import simulated_dump
from drawwell.simulator.pty import PtyDevice
from integration.pty_scene import play, read_bytes, refusal_of


async def until_sent(device: PtyDevice, wanted: int) -> None:
    while device.sent_bytes < wanted:  # noqa: ASYNC110 - a byte count has no event
        await asyncio.sleep(0)


def test_a_device_is_opened_verified_and_read(tmp_path: Path) -> None:
    """The identity has the device, `simulated` and the firmware's key."""

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
    """Versions 1 and 2 have other layouts and no hardware ID."""

    async def scene(_: PtyDevice, source: OneRngSource) -> None:
        await source.open()
        assert source.identity.firmware is Firmware.VERIFIED
        assert source.identity.hardware_id == ""
        assert (await source.command("info", {}))["version"] == version

    play(tmp_path, scene, device={"version": version})


def test_bad_firmware_is_rejected(tmp_path: Path) -> None:
    """A bad signature is not retried, and no samples can be read."""

    async def scene(_: PtyDevice, source: OneRngSource) -> None:
        assert isinstance(await refusal_of(source.open()), SourceRejected)
        assert source.identity.firmware is Firmware.NOT_VERIFIED
        assert isinstance(await refusal_of(source.read(64)), SourceRejected)

    play(tmp_path, scene, device={"fault": "bad-firmware"})


def test_bad_firmware_is_reported_when_the_operator_allows_it(tmp_path: Path) -> None:
    """With `report` the device works, and each report marks it unverified."""

    async def scene(_: PtyDevice, source: OneRngSource) -> None:
        await source.open()
        assert source.identity.firmware is Firmware.NOT_VERIFIED
        assert await read_bytes(source, 1000)

    play(tmp_path, scene, device={"fault": "bad-firmware"}, verify="report")


def test_verification_on_demand_stops_a_source_whose_firmware_changed(tmp_path: Path) -> None:
    """If required, a bad signature in a later check ends reading."""

    async def scene(device: PtyDevice, source: OneRngSource) -> None:
        await source.open()
        device.set_fault("bad-firmware")
        assert (await source.command("verify", {}))["outcome"] == "not verified"
        assert isinstance(await refusal_of(source.read(64)), SourceRejected)

    play(tmp_path, scene)


def test_stale_zeros_never_reach_a_reader(tmp_path: Path) -> None:
    """The padding of V3 firmware after replies is dropped."""

    async def scene(_: PtyDevice, source: OneRngSource) -> None:
        await source.open()
        samples = await read_bytes(source, 70_000)
        for verb in ("verify", "info", "flush"):
            await source.command(verb, {})
            samples += await read_bytes(source, 70_000)
        assert bytes(32) not in samples
        assert b"Version" not in samples

    play(tmp_path, scene)


def test_a_reader_that_is_too_slow_has_the_pool_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow reader flushes the pool before it reads stirred samples."""
    flushes: list[int] = []
    forget = Pool.forget
    monkeypatch.setattr(Pool, "forget", lambda pool: (flushes.append(pool.count), forget(pool))[1])

    async def scene(_: PtyDevice, source: OneRngSource) -> None:
        await source.open()
        await source.read(1)
        flushes.clear()
        while not flushes:
            await source.read(1)
            await asyncio.sleep(0)

    play(tmp_path, scene, device={"rate": NOISE_RATE})


def test_what_is_sent_at_a_pause_is_not_lost(tmp_path: Path) -> None:
    """A paused dump continues without losses."""

    async def scene(device: PtyDevice, source: OneRngSource) -> None:
        await source.open()
        tty = source._terminal
        await Dialogue(tty).stop()
        await tty.write(b"cmd4cmdwcmdXcmdO")
        while not device._pending:  # noqa: ASYNC110 - a full line has no event
            await asyncio.sleep(0)
        stream = b""
        for command in (b"cmdo", b"cmdO"):
            await tty.write(command)
            while data := await tty.read(4096, 0.2):
                stream += data
        assert stream.startswith(simulated_dump(2))

    play(tmp_path, scene, device={"version": 2})


def test_unplugging_in_the_middle_of_a_read_is_named(tmp_path: Path) -> None:
    """The reader gets SourceUnavailable; after a replug it can reopen."""

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
    """An incomplete dump means an unplugged device, not bad firmware."""

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
    """The device's link disappears and returns with the device."""

    async def scene(device: PtyDevice, source: OneRngSource) -> None:
        assert not device.link.is_symlink()
        assert "does not exist" in str(await refusal_of(source.open()))
        device.replug()
        await source.open()

    play(tmp_path, scene, device={"fault": "unplugged"})


def test_a_stall_is_named(tmp_path: Path) -> None:
    """A device that falls silent is unavailable after the bounded wait."""

    async def scene(device: PtyDevice, source: OneRngSource) -> None:
        await source.open()
        device.set_fault("silent")
        with pytest.raises(SourceUnavailable, match=r"no sample .* within 1 s"):
            await read_bytes(source, 100_000)

    play(tmp_path, scene, stall_s=1.0)  # short: the time is the fact


@pytest.mark.slow
def test_a_device_that_never_answers_is_unavailable(tmp_path: Path) -> None:
    """The number of start-up retries is limited."""

    async def scene(_: PtyDevice, source: OneRngSource) -> None:
        assert "sends nothing" in str(await refusal_of(source.open()))

    play(tmp_path, scene, device={"fault": "silent"})


@pytest.mark.slow
def test_a_short_dump_could_not_be_checked(tmp_path: Path) -> None:
    """A dump without data is retried; then the firmware is "unknown"."""

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
    """A paused source refuses reads, and works again when resumed."""

    async def scene(_: PtyDevice, source: OneRngSource) -> None:
        await source.open()
        await source.command("pause", {})
        assert (await source.command("info", {}))["paused"]
        assert "paused" in str(await refusal_of(source.read(64)))
        await source.command("resume", {})
        assert await read_bytes(source, 1000)

    play(tmp_path, scene)


def test_a_mode_takes_effect_at_once(tmp_path: Path) -> None:
    """A stuck source shows in raw mode only; the identity has the mode."""

    async def scene(_: PtyDevice, source: OneRngSource) -> None:
        await source.open()
        assert set(await read_bytes(source, 1000)) == {0xA5}
        answer = await source.command("mode", {"mode": "cmd0"})
        assert answer["words"] == "avalanche, whitened"  # wording: a JSON key
        assert len(set(await read_bytes(source, 10_000))) > 100
        assert source.identity.noise == "after the maker's conditioning"

    play(tmp_path, scene, device={"fault": "stuck"})


@pytest.mark.parametrize("mode", ["cmd4", "cmd5", "cmd9", "", None])
def test_a_mode_without_noise_is_refused(tmp_path: Path, mode: str | None) -> None:
    """The command is refused, and the old mode continues."""

    async def scene(_: PtyDevice, source: OneRngSource) -> None:
        source.attach()
        assert isinstance(await refusal_of(source.command("mode", {"mode": mode})), UsageError)

    play(tmp_path, scene)


def test_a_dump_is_written_to_a_new_private_file(tmp_path: Path) -> None:
    """The dump file has mode 0600; an existing file is not overwritten."""
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
    """Unknown verbs and arguments are refused, and reading continues."""

    async def scene(_: PtyDevice, source: OneRngSource) -> None:
        source.attach()
        assert isinstance(await refusal_of(source.command(verb, args)), UsageError)

    play(tmp_path, scene)
