"""The exec driver with real programs, and replay with real files."""

import asyncio
import os
import random
import sys

import pytest

from drawwell.drivers.execute import ExecSource, OneShotSource
from drawwell.drivers.replay import ReplaySource
from drawwell.errors import SourceRejected, SourceUnavailable, UsageError
from drawwell.reports import NOT_NOISE
from drawwell.testing.waiting import DEADLINE_S

ENDLESS = "import os,sys\nwhile True: os.write(1, bytes(range(256)))"


def python(program: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-c", program, *arguments)


def opened(noise, scenario):
    async def run():
        await noise.open()
        try:
            return await scenario(noise)
        finally:
            await noise.aclose()

    return asyncio.run(run())


async def read_exactly(noise, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += (await noise.read(size - len(data))).data
    return data


def test_a_program_gives_its_standard_output():
    """The samples are the program's output, in order."""
    noise = ExecSource("test", python(ENDLESS))

    assert opened(noise, lambda noise: read_exactly(noise, 1000)) == (bytes(range(256)) * 4)[:1000]


def test_no_shell_reads_the_arguments():
    """Arguments are passed unchanged."""
    noise = ExecSource(
        "test", python("import sys, time; print(sys.argv[1], flush=True); time.sleep(600)", "$(id); *")
    )

    assert opened(noise, lambda noise: read_exactly(noise, 8)) == b"$(id); *"


async def its_end(noise) -> str:
    """Read until the program's end is detected; return the message."""
    try:
        while True:
            await noise.read(1)
    except SourceUnavailable as error:
        return str(error)


def test_a_program_that_ends_is_named_with_its_status_and_lengths():
    """The log has the exit status, the output size and stderr's length."""
    program = "import os,sys; os.write(1, b'noise'); os.write(2, b'no device'); sys.exit(3)"
    noise = ExecSource("test", python(program))

    assert opened(noise, its_end) == (
        f"{sys.executable} exited with status 3 after 5 bytes, and wrote 9 bytes to standard error"
    )


def test_a_program_that_a_signal_ends_is_named():
    """A crash is reported differently from an exit."""
    noise = ExecSource("test", python("import os; os.kill(os.getpid(), 9)"))

    assert "was killed by signal 9" in opened(noise, its_end)


def test_much_on_standard_error_does_not_stop_the_program():
    """Standard error is read while the program runs."""
    program = "import os\nfor _ in range(40): os.write(2, b'x' * 10000)\nos.write(1, b'done')"
    noise = ExecSource("test", python(program), stall_s=DEADLINE_S)

    assert opened(noise, its_end).endswith("after 4 bytes, and wrote 400,000 bytes to standard error")


def test_the_end_of_a_program_is_noticed_at_once():
    """A program's end is detected before its buffered output is read."""
    program = "import os; os.write(1, b'x' * 60000)"
    noise = ExecSource("test", python(program), stall_s=DEADLINE_S)

    async def scenario(noise):
        await noise._program._process.wait()
        with pytest.raises(SourceUnavailable, match="exited with status 0 after 60,000 bytes") as caught:
            await noise.read(4096)
        return caught.value.hint

    assert 'manner = "one-shot"' in opened(noise, scenario)


ONE_SHOT = "import os, time; os.write(1, b'%f;' % time.monotonic() + b'x' * 90000)"


def test_a_one_shot_program_is_run_again_and_again():
    """Each run's complete output is used; runs start at the set interval."""
    noise = OneShotSource("test", python(ONE_SHOT), stall_s=DEADLINE_S, every_s=0.3)

    async def scenario(noise):
        runs = b""
        while runs.count(b";") < 3:
            runs += (await noise.read(4096)).data
        return [float(run.split(b"x")[-1]) for run in runs.split(b";")[:-1]]

    first, second, third = opened(noise, scenario)
    assert min(second - first, third - second) > 0.1  # an interpreter starts slowly


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import os; os.write(1, b'some'); os._exit(3)", "exited with status 3 after 4 bytes"),
        ("pass", "exited with status 0 after 0 bytes"),
        ("import os; [os.write(1, bytes(4096)) for _ in range(300)]", "printed more than 1,048,576 bytes"),
    ],
)
def test_a_run_that_fails_gives_nothing(program, message):
    """A failed, empty or oversized run yields no sample."""
    noise = OneShotSource("test", python(program), stall_s=DEADLINE_S)

    with pytest.raises(SourceUnavailable, match=message):
        opened(noise, lambda noise: noise.read(4096))


def test_a_silent_program_is_named_after_the_stall_time():
    """A program without output is reported as stalled."""
    # short: the time is the fact
    noise = ExecSource("test", python("import time; time.sleep(600)"), stall_s=0.05)

    with pytest.raises(SourceUnavailable, match=r"no sample from .* within 0.05 s"):
        opened(noise, lambda noise: noise.read(1))


def test_a_missing_program_is_unavailable():
    """The error for a program that cannot be started has the reason."""
    with pytest.raises(SourceUnavailable, match="cannot start /no/such/program: No such file"):
        opened(ExecSource("test", ("/no/such/program",)), None)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("deaf", [False, True])
def test_closing_ends_the_program(deaf):
    """Closing the source ends the program, even one that ignores SIGTERM."""
    ignore = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" if deaf else ""
    sleep = "import os,time\nprint(os.getpid(), flush=True)\nwhile True: time.sleep(600)"
    noise = ExecSource("test", python(ignore + sleep))

    async def scenario(noise):
        return int((await noise.read(4096)).data)

    assert gone(opened(noise, scenario))


def test_a_program_is_started_again_after_its_end():
    """Reopening the source runs the program again."""
    noise = ExecSource("test", python("import os; os.write(1, b'once')"))

    async def scenario(noise):
        first = await its_end(noise)
        await noise.open()
        return first == await its_end(noise)

    assert opened(noise, scenario)


def test_a_cancelled_open_leaves_no_program_behind():
    """After a cancel at any moment, closing ends the started program."""

    async def run():
        noise = ExecSource("test", python(ENDLESS))
        reading = asyncio.ensure_future(noise.open())  # noqa: TID251 - cancelled on purpose
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])
        await noise.aclose()
        return noise.identity.kind

    assert asyncio.run(run()) == "exec"


@pytest.fixture
def recording(tmp_path):
    (tmp_path / "recording").write_bytes(random.Random(40).randbytes(1000))
    return tmp_path / "recording"


def test_a_recording_is_played_once_and_ends(recording):
    """All bytes are played in order, followed by a named end."""
    noise = ReplaySource("test", str(recording))

    async def scenario(noise):
        data = await read_exactly(noise, 1000)
        with pytest.raises(SourceUnavailable, match="has no more bytes"):
            await noise.read(1)
        return data

    assert opened(noise, scenario) == recording.read_bytes()


def test_reopening_goes_on_and_never_plays_a_byte_twice(recording):
    """Reopening repeats no byte; a finished recording stays finished."""
    noise = ReplaySource("test", str(recording))

    first = opened(noise, lambda noise: read_exactly(noise, 600))
    second = opened(noise, lambda noise: read_exactly(noise, 400))
    with pytest.raises(SourceUnavailable, match="has no more bytes"):
        opened(noise, None)

    assert first + second == recording.read_bytes()


def test_a_looped_recording_begins_again(recording):
    """With loop, the start follows the end."""
    noise = ReplaySource("test", str(recording), loop=True)

    assert opened(noise, lambda noise: read_exactly(noise, 2500)) == (recording.read_bytes() * 3)[:2500]


def test_a_read_leaves_the_loop_to_others(recording):
    """File reads yield to the event loop in between."""
    noise = ReplaySource("test", str(recording))
    happened = []

    async def scenario(noise):
        asyncio.get_running_loop().call_soon(happened.append, "meanwhile")
        await noise.read(100)
        happened.append("read")

    opened(noise, scenario)
    assert happened == ["meanwhile", "read"]


def test_a_recording_calls_itself_no_noise_source(recording):
    """Every report shows that it is not a noise source."""
    identity = ReplaySource("test", str(recording)).identity

    assert (identity.noise, identity.simulated) == (NOT_NOISE, True)


@pytest.mark.parametrize("path", ["/dev/zero", "/"])
def test_only_files_are_played(path):
    """A device is not a recording."""
    with pytest.raises(SourceRejected, match="is not a file"):
        opened(ReplaySource("test", path), None)


def test_an_empty_or_missing_recording_is_unavailable(tmp_path):
    """An empty or missing file is an error."""
    (tmp_path / "empty").touch()

    with pytest.raises(SourceUnavailable, match="has no more bytes"):
        opened(ReplaySource("test", str(tmp_path / "empty"), loop=True), None)
    with pytest.raises(SourceUnavailable, match="cannot open"):
        opened(ReplaySource("test", str(tmp_path / "none")), None)


def test_neither_takes_verbs(recording):
    """Programs and recordings accept no commands."""
    for noise in (ReplaySource("test", str(recording)), ExecSource("test", ("true",))):
        with pytest.raises(UsageError):
            asyncio.run(noise.command("pause", {}))


def same_device(one, other) -> bool:
    async def identities():
        for noise in (one, other):
            await noise.open()
            await noise.aclose()
        return one.identity.is_same_device(other.identity)

    return asyncio.run(identities())


def test_a_file_is_one_device_under_all_its_names(tmp_path):
    """A hard link is the same recording; a copy is another file."""
    first, link, copy = (tmp_path / name for name in ("first", "link", "copy"))
    first.write_bytes(b"noise")
    os.link(first, link)
    copy.write_bytes(b"noise")

    assert same_device(ReplaySource("a", str(first)), ReplaySource("b", str(link)))
    assert not same_device(ReplaySource("a", str(first)), ReplaySource("b", str(copy)))


def test_a_command_is_one_device_and_another_argument_is_another():
    """A program that can read several devices counts as several."""
    one, again, other = (
        ExecSource(name, python(ENDLESS, which)) for name, which in (("a", "0"), ("b", "0"), ("c", "1"))
    )

    assert same_device(one, again)
    assert not same_device(one, other)
