"""The chardev driver on real FIFOs, pseudo-terminals and devices."""

import asyncio
import os
import pty
import stat
import termios
from pathlib import Path

import pytest

from drawwell.drivers.chardev import OS_GENERATOR, UNKNOWN, CharDeviceSource
from drawwell.errors import SourceRejected, SourceUnavailable, UsageError
from drawwell.reports import CONDITIONED, SourceIdentity
from drawwell.testing.waiting import DEADLINE_S

HWRNG = "/dev/hwrng"
CURRENT = Path("/sys/class/misc/hw_random/rng_current")


def hwrng_missing() -> str:
    """Return why the real /dev/hwrng cannot be read, or ""."""
    if not os.access(HWRNG, os.R_OK):
        return f"{HWRNG} is not there or may not be read"
    return "no hardware generator is behind it" if CURRENT.read_text().strip() == "none" else ""


def source(path, stall_s=DEADLINE_S, **more) -> CharDeviceSource:
    return CharDeviceSource("test", str(path), stall_s=stall_s, **more)


@pytest.fixture
def fifo(tmp_path):
    os.mkfifo(tmp_path / "noise")
    return tmp_path / "noise"


def writer_of(fifo) -> int:
    return os.open(fifo, os.O_RDWR | os.O_NONBLOCK)


def opened(path, scenario, **more):
    """Run a scenario with the open source, and close it at the end."""

    async def run():
        noise = source(path, **more)
        await noise.open()
        try:
            return await scenario(noise)
        finally:
            await noise.aclose()

    return asyncio.run(run())


def test_a_fifo_gives_its_bytes_in_order(fifo):
    """Written bytes are read, at most as many as requested."""
    writer = writer_of(fifo)

    async def scenario(noise):
        os.write(writer, b"abcdef")
        return [(await noise.read(4)).data, (await noise.read(4)).data]

    assert opened(fifo, scenario) == [b"abcd", b"ef"]
    os.close(writer)


def test_what_a_fifo_held_before_it_was_opened_is_dropped(fifo):
    """Bytes already in the FIFO are never used as samples."""
    writer = writer_of(fifo)
    os.write(writer, b"stale" * 2000)

    async def scenario(noise):
        os.write(writer, b"fresh")
        return (await noise.read(4096)).data

    assert opened(fifo, scenario) == b"fresh"
    os.close(writer)


def test_a_read_waits_for_a_sample(fifo):
    """A sample that arrives within the stall time is delivered."""
    writer = writer_of(fifo)

    async def scenario(noise):
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(noise.read(10))
            asyncio.get_running_loop().call_later(0.01, os.write, writer, b"late")
        return reading.result().data

    assert opened(fifo, scenario, stall_s=DEADLINE_S) == b"late"
    os.close(writer)


def test_silence_is_named_after_the_stall_time(fifo):
    """A stalled source is unavailable; the error names the time."""
    writer = writer_of(fifo)

    with pytest.raises(SourceUnavailable, match=r"no sample from .* within 0.05 s"):
        opened(fifo, lambda noise: noise.read(10), stall_s=0.05)  # short: the time is the fact
    os.close(writer)


def test_a_writer_that_goes_in_the_middle_of_a_read_is_named(fifo):
    """EOF of a FIFO during a read makes the source unavailable."""

    async def scenario(noise):
        writer = os.open(fifo, os.O_WRONLY)
        os.write(writer, b"x")
        await noise.read(10)
        async with asyncio.TaskGroup() as group:
            group.create_task(noise.read(10))
            asyncio.get_running_loop().call_soon(os.close, writer)

    with pytest.raises(ExceptionGroup) as caught:
        opened(fifo, scenario, stall_s=DEADLINE_S)
    (error,) = caught.value.exceptions
    assert isinstance(error, SourceUnavailable)
    assert "is gone: the writer closed it" in str(error)


def test_a_writer_that_goes_is_noticed_at_once(fifo):
    """The writer's end is detected before its last 60 KiB are read."""

    async def scenario(noise):
        writer = os.open(fifo, os.O_WRONLY)
        os.write(writer, b"x" * 60_000)
        await noise.read(10)
        os.close(writer)
        await noise.read(10)

    with pytest.raises(SourceUnavailable, match="is gone: the writer closed it"):
        opened(fifo, scenario, stall_s=DEADLINE_S)


def test_a_fifo_without_a_writer_is_unavailable(fifo):
    """Without a writer the source is silent, without a busy loop."""
    with pytest.raises(SourceUnavailable, match="no sample"):
        opened(fifo, lambda noise: noise.read(10), stall_s=0.05)  # short: the time is the fact


def test_a_cancelled_read_delivers_nothing_later(fifo):
    """After a cancelled read, the next read gets the next bytes."""
    writer = writer_of(fifo)

    async def scenario(noise):
        reading = asyncio.ensure_future(noise.read(10))  # noqa: TID251 - cancelled on purpose
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        os.write(writer, b"next")
        return (await noise.read(10)).data

    assert opened(fifo, scenario) == b"next"
    os.close(writer)


def test_a_terminal_is_raw_simulated_and_ours_alone():
    """A pseudo-terminal passes all bytes, is exclusive, counts as simulated."""
    master, slave = pty.openpty()
    path = os.ttyname(slave)
    os.close(slave)
    every_value = bytes(range(256))

    async def scenario(noise):
        os.write(master, every_value)
        data = b""
        while len(data) < 256:
            data += (await noise.read(256)).data
        with pytest.raises(SourceUnavailable):
            await source(path).open()
        return data, noise.identity.simulated, termios.tcgetattr(master)[3] & termios.ECHO

    assert opened(path, scenario) == (every_value, True, 0)
    os.close(master)


def test_a_terminal_that_is_unplugged_in_the_middle_of_a_read_is_named():
    """A hang-up ends the read that is waiting."""
    master, slave = pty.openpty()
    path = os.ttyname(slave)
    os.close(slave)

    async def scenario(noise):
        async with asyncio.TaskGroup() as group:
            group.create_task(noise.read(10))
            asyncio.get_running_loop().call_later(0.01, os.close, master)

    with pytest.raises(ExceptionGroup) as caught:
        opened(path, scenario, stall_s=DEADLINE_S)
    assert [type(error) for error in caught.value.exceptions] == [SourceUnavailable]


def test_a_file_is_refused_and_replay_is_named(tmp_path):
    """A recording is not a source; the hint names the replay driver."""
    (tmp_path / "recording").write_bytes(b"x")

    with pytest.raises(SourceRejected) as caught:
        opened(tmp_path / "recording", None)
    assert "replay" in str(caught.value.hint)


def test_a_directory_is_refused(tmp_path):
    """Only devices and FIFOs can be read."""
    with pytest.raises(SourceRejected, match="neither a character device nor a FIFO"):
        opened(tmp_path, None)


def test_a_missing_device_is_unavailable(tmp_path):
    """A device that is not there may be plugged in: the role tries again."""
    with pytest.raises(SourceUnavailable, match="does not exist"):
        opened(tmp_path / "none", None)


@pytest.mark.parametrize("path", ["/dev/random", "/dev/urandom"])
def test_the_generator_of_the_operating_system_is_refused_unasked(path):
    """The forbidden fallback is refused and not retried."""
    with pytest.raises(SourceRejected, match="not a noise source"):
        opened(path, None)


def test_the_generator_of_the_operating_system_is_named_as_such():
    """If configured, it is read, and its identity names the generator."""

    async def scenario(noise):
        return len(await noise.read(64)), noise.identity.noise

    assert opened("/dev/urandom", scenario, allow_os_generator=True) == (64, OS_GENERATOR)


def test_a_second_name_of_the_generator_is_recognised(tmp_path):
    """The device decides, not its name."""
    (tmp_path / "hardware").symlink_to("/dev/urandom")

    with pytest.raises(SourceRejected, match="operating system's generator"):
        opened(tmp_path / "hardware", None)


def test_a_device_that_cannot_be_polled_is_read_too():
    """/dev/zero, like /dev/hwrng, cannot be polled but can be read."""

    async def scenario(noise):
        return (await noise.read(100)).data

    assert opened("/dev/zero", scenario) == bytes(100)


def test_a_device_at_its_end_is_unavailable():
    """/dev/null is at EOF immediately."""
    with pytest.raises(SourceUnavailable, match="is gone"):
        opened("/dev/null", lambda noise: noise.read(10))


@pytest.mark.skipif(bool(hwrng_missing()), reason=hwrng_missing())
def test_hwrng_gives_samples_and_names_what_is_behind_it():
    """The kernel's hardware generator is read as conditioned noise."""

    async def scenario(noise):
        data = b""
        while len(data) < 256:
            data += (await noise.read(256)).data
        return data, noise.identity

    data, identity = opened(HWRNG, scenario, stall_s=DEADLINE_S)
    assert len(set(data)) > 16
    assert identity.noise == (UNKNOWN if identity.stable_name.startswith("virtio") else CONDITIONED)
    assert identity.stable_name == CURRENT.read_text().strip()


@pytest.mark.skipif(bool(hwrng_missing()), reason=hwrng_missing())
def test_a_cancelled_read_of_hwrng_leaves_it_usable():
    """A cancel and a close do not disturb the reading thread."""

    async def scenario(noise):
        for _ in range(5):
            reading = asyncio.ensure_future(noise.read(4096))  # noqa: TID251 - cancelled on purpose
            await asyncio.sleep(0)
            reading.cancel()
            await asyncio.wait([reading])
        return len(await noise.read(32))

    assert opened(HWRNG, scenario, stall_s=DEADLINE_S) > 0


@pytest.mark.parametrize("current", ["none"])
def test_hwrng_without_hardware_behind_it_is_unavailable(tmp_path, current):
    """A node without a device is refused: the kernel reports "none"."""
    if not os.path.exists(HWRNG):
        pytest.skip(f"{HWRNG} is not there")
    (tmp_path / "class/misc/hw_random").mkdir(parents=True)
    (tmp_path / "class/misc/hw_random/rng_current").write_text(f"{current}\n")

    with pytest.raises(SourceUnavailable, match="has no hardware generator"):
        opened(HWRNG, None, sysfs=str(tmp_path))


@pytest.mark.skipif(bool(hwrng_missing()), reason=hwrng_missing())
def test_a_block_is_discarded_when_the_generator_behind_hwrng_changed_meanwhile(tmp_path):
    """If the kernel switches generators during a read, the read fails."""
    (tmp_path / "class/misc/hw_random").mkdir(parents=True)
    current = tmp_path / "class/misc/hw_random/rng_current"
    current.write_text("chaoskey-hw-1.0-3\n")

    async def run():
        noise = source(HWRNG, sysfs=str(tmp_path))
        await noise.open()
        first = noise.identity
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(_failing(noise.read(4096)))
            await asyncio.sleep(0)
            current.write_text("tpm-rng-0\n")
        await noise.open()
        second = noise.identity
        await noise.aclose()
        return first.stable_name, reading.result(), second.stable_name

    first, error, second = asyncio.run(run())
    assert (first, second) == ("chaoskey-hw-1.0-3", "tpm-rng-0")
    assert "changed from chaoskey-hw-1.0-3 to tpm-rng-0" in str(error)


async def _failing(read):
    with pytest.raises(SourceUnavailable) as caught:
        await read
    return caught.value


def test_hwrng_of_a_virtual_machines_host_is_not_vouched_for(tmp_path):
    """virtio_rng passes on any generator of the host; a chip is a real device."""
    if not os.path.exists(HWRNG):
        pytest.skip(f"{HWRNG} is not there")
    (tmp_path / "class/misc/hw_random").mkdir(parents=True)
    found = []
    for current in ("virtio_rng.0", "tpm-rng-0", ""):
        (tmp_path / "class/misc/hw_random/rng_current").write_text(f"{current}\n")
        found.append(CharDeviceSource("hwrng", HWRNG, sysfs=str(tmp_path))._identify(os.stat(HWRNG)))
    assert [each.noise for each in found] == [UNKNOWN, CONDITIONED, UNKNOWN]


def test_no_verbs_are_taken(fifo):
    """A character device accepts no commands."""
    with pytest.raises(UsageError):
        asyncio.run(source(fifo).command("pause", {}))


def test_reading_before_opening_is_unavailable(fifo):
    """A source that is not open has no samples."""
    with pytest.raises(SourceUnavailable, match="is not open"):
        asyncio.run(source(fifo).read(1))


def test_the_node_keeps_its_mode(fifo):
    """Opening the node changes nothing on disk."""
    before = stat.S_IMODE(os.stat(fifo).st_mode)

    opened(fifo, lambda _noise: asyncio.sleep(0))

    assert stat.S_IMODE(os.stat(fifo).st_mode) == before


def test_a_node_is_one_device_under_all_its_names(tmp_path):
    """A link and both names of the kernel's generator count as one device."""
    link, fifo = tmp_path / "link", tmp_path / "fifo"
    link.symlink_to("/dev/urandom")
    os.mkfifo(fifo)
    paths = ("/dev/urandom", str(link), "/dev/random", str(fifo))

    async def run():
        sources = [CharDeviceSource(path, path, allow_os_generator=True) for path in paths]
        writer = os.open(fifo, os.O_RDWR)
        for source in sources:
            await source.open()
            await source.aclose()
        os.close(writer)
        return [source.identity.is_same_device(sources[0].identity) for source in sources]

    assert asyncio.run(run()) == [True, True, True, False]


def test_a_path_that_changes_while_it_is_opened_is_refused(tmp_path, fifo):
    """The identity is that of the opened file, even if the path changes."""
    path = tmp_path / "device"
    path.symlink_to("/dev/zero")

    class Raced(CharDeviceSource):
        def _identify(self, status: os.stat_result) -> SourceIdentity:
            path.unlink()
            path.symlink_to(fifo)
            return super()._identify(status)

    async def run() -> None:
        noise = Raced("test", str(path), stall_s=DEADLINE_S)
        with pytest.raises(SourceUnavailable, match="replaced while it was being opened"):
            await noise.open()

    writer = writer_of(fifo)
    asyncio.run(run())
    os.close(writer)
