"""The simulated device as a program, with third-party tools."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import pytest

from drawwell.testing.waiting import DEADLINE_S

DRAWWELL = (sys.executable, "-m", "drawwell")

# Like onerng.sh: set the terminal to raw mode, and echo commands into it.
SHELL_DUMP = """
set -e
exec 3<>"$1"
stty raw -echo clocal -crtscts <&3
echo cmdo >&3; echo cmd4 >&3; echo cmdw >&3
echo cmdO >&3; echo cmdX >&3
head -c 262157 <&3 >"$2"
echo cmdo >&3
"""


def drawwell(*arguments: str, config: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DRAWWELL_CONFIG": str(config)}
    return subprocess.run(
        [*DRAWWELL, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=DEADLINE_S,
    )


@contextmanager
def simulator(link: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run `drawwell source simulate` until it has printed its path."""
    command = [*DRAWWELL, "source", "simulate", "--link", str(link), "--seed", "1", "--rate", "0", *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert "simulated" in process.stdout.readline()
            yield process
        finally:
            process.kill()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a configuration without a broker: commands open the device."""
    path = tmp_path / "drawwell.toml"
    path.write_text(f'[broker]\nrun_dir = "{tmp_path / "run"}"\n')
    return path


def said(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline()


def test_verify_prints_verified_and_simulated(tmp_path: Path, config: Path) -> None:
    """The output has the verdict, the key, and that it proves nothing; exit 0."""
    with simulator(tmp_path / "onerng"):
        done = drawwell("onerng", "verify", str(tmp_path / "onerng"), config=config)
    assert done.returncode == 0, done.stderr
    assert "image signature verified, as reported by the device" in done.stdout
    assert "SHA256" in done.stdout
    assert re.search(r"version +3 \(.*header, which is not signed\)", done.stdout), done.stdout
    assert "simulated" in done.stderr


def test_verify_of_bad_firmware_exits_1(tmp_path: Path, config: Path) -> None:
    """A bad signature gives exit 1, with the reason and what to do."""
    with simulator(tmp_path / "onerng", "--fault", "bad-firmware"):
        done = drawwell("onerng", "verify", str(tmp_path / "onerng"), config=config)
    assert done.returncode == 1
    assert "not verified" in done.stdout
    assert "hint:" in done.stderr


def dumped(tmp_path: Path, config: Path) -> Path:
    with simulator(tmp_path / "onerng"):
        done = drawwell(
            "onerng", "dump", str(tmp_path / "onerng"), "-o", str(tmp_path / "dump"), config=config
        )
    assert done.returncode == 0, done.stderr
    return tmp_path / "dump"


def test_a_dump_is_judged_as_a_file(tmp_path: Path, config: Path) -> None:
    """Only --test-key accepts an image signed by the test key."""
    dump = dumped(tmp_path, config)
    assert dump.stat().st_mode & 0o777 == 0o600
    assert drawwell("onerng", "verify", str(dump), config=config).returncode == 1
    assert drawwell("onerng", "verify", str(dump), "--test-key", config=config).returncode == 0
    dump.write_bytes(dump.read_bytes()[:-1])
    short = drawwell("onerng", "verify", str(dump), "--test-key", "--json", config=config)
    assert short.returncode == 65
    assert json.loads(short.stdout)["outcome"] == "could not check"


@pytest.mark.parametrize("verb", ["info", "flush", "pause", "resume", "verify"])
def test_verbs_answer_with_one_json_document(tmp_path: Path, config: Path, verb: str) -> None:
    """With --json standard output is one document that names the device."""
    with simulator(tmp_path / "onerng"):
        done = drawwell("onerng", verb, str(tmp_path / "onerng"), "--json", config=config)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["path"] == str(tmp_path / "onerng")


def test_a_mode_is_set(tmp_path: Path, config: Path) -> None:
    """`mode` sets the mode and explains it."""
    with simulator(tmp_path / "onerng"):
        done = drawwell("onerng", "mode", "cmd3", str(tmp_path / "onerng"), config=config)
    assert "avalanche+RF, raw" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["onerng", "verify", "no-such-source"], 64),
        (["onerng", "info", "/dev/no-such-node"], 69),
        (["onerng", "info", "/dev/null"], 65),
        (["onerng", "mode", "cmd4", "/dev/null"], 64),
        (["onerng", "dump"], 64),
        (["onerng"], 64),
        (["source", "simulate"], 64),
        (["source", "simulate", "--link", "/no/such/directory/link"], 64),
        (["source", "simulate", "--link", "/tmp/link", "--fault", "tired"], 64),
    ],
)
def test_errors_have_a_code_and_a_hint(config: Path, arguments: list[str], code: int) -> None:
    """Every error has its sysexits code and a hint, without a traceback."""
    done = drawwell(*arguments, config=config)
    assert done.returncode == code, done.stderr
    assert "hint:" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_simulator_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    """The exit code is 0, and the link is removed."""
    with simulator(tmp_path / "onerng") as process:
        assert (tmp_path / "onerng").is_char_device()
        process.send_signal(number)
        assert process.wait(DEADLINE_S) == 0
    assert not (tmp_path / "onerng").is_symlink()


def test_sigusr1_unplugs_and_plugs_in(tmp_path: Path) -> None:
    """Each SIGUSR1 toggles the device, with a message."""
    with simulator(tmp_path / "onerng") as process:
        process.send_signal(signal.SIGUSR1)
        assert "simulated OneRNG: unplug" in said(process.stderr)
        assert not (tmp_path / "onerng").is_symlink()
        process.send_signal(signal.SIGUSR1)
        assert "simulated OneRNG: replug" in said(process.stderr)
        assert (tmp_path / "onerng").is_char_device()


def test_lines_on_standard_input_change_the_device(tmp_path: Path) -> None:
    """`fault NAME`, `unplug` and `replug` work; other input is refused."""
    with simulator(tmp_path / "onerng") as process:
        assert process.stdin is not None
        for line, answer in [
            ("fault stuck", "simulated OneRNG: fault stuck"),
            ("unplug", "not plugged in"),
            ("replug", "simulated OneRNG: replug"),
            ("dance", "unknown command 'dance'"),
        ]:
            process.stdin.write(f"{line}\n")
            process.stdin.flush()
            assert answer in said(process.stderr)
        assert process.poll() is None


def test_the_same_seed_is_the_same_device(tmp_path: Path, config: Path) -> None:
    """Two runs with one seed have one hardware ID."""
    infos = []
    for run in range(2):
        with simulator(tmp_path / f"onerng{run}"):
            done = drawwell("onerng", "info", str(tmp_path / f"onerng{run}"), "--json", config=config)
        infos.append(json.loads(done.stdout)["hardware_id"])
    assert infos[0] == infos[1] != ""


def vendors_algorithm(stream: bytes) -> tuple[bytes, bytes, int]:
    """Split a dump like the vendor's script, by its description."""
    magic, state, at = bytes.fromhex("feedbeef2014"), 0, 0
    while state < len(magic):
        state = state + 1 if stream[at] == magic[state] else 0
        at += 1
    length = stream[at] | stream[at + 1] << 8 | stream[at + 2] << 16
    version = stream[at + 3] | stream[at + 4] << 8
    image = stream[at + 7 : at + 7 + length]
    assert len(image) == length, "Bad image"
    end = length - (680 if version >= 3 else 600)
    size = image[end] | image[end + 1] << 8
    return image[:end], image[end + 2 : end + 2 + size], version


def gpg_verifies(stream: bytes, key: Path, scratch: Path) -> bool:
    """Run `gpg --verify` with its own keyring, like python-gnupg."""
    signed, signature, _version = vendors_algorithm(stream)
    (scratch / "signature").write_bytes(signature)
    with TemporaryDirectory(prefix="dw-gpg-") as home:
        gpg = ["gpg", "--homedir", home, "--batch", "--quiet"]
        subprocess.run([*gpg, "--import", str(key)], check=True, capture_output=True)
        verified: Any = subprocess.run(
            [*gpg, "--verify", str(scratch / "signature"), "-"],
            input=signed,
            capture_output=True,
            check=False,
        )
    return bool(verified.returncode == 0)


@pytest.mark.parametrize("version", ["1", "2", "3"])
def test_a_shell_script_and_gnupg_take_it_for_real(tmp_path: Path, version: str) -> None:
    """The vendor's algorithm with gpg accepts a dump but not a changed one."""
    key = tmp_path / "key.asc"
    with simulator(tmp_path / "onerng", "--firmware", version, "--export-key", str(key)):
        command = ["sh", "-c", SHELL_DUMP, "sh", str(tmp_path / "onerng"), str(tmp_path / "dump")]
        subprocess.run(command, check=True, timeout=DEADLINE_S)
    dump = (tmp_path / "dump").read_bytes()
    assert vendors_algorithm(dump)[2] == int(version)
    assert gpg_verifies(dump, key, tmp_path)
    assert not gpg_verifies(dump[:5000] + b"\x00\x01" + dump[5002:], key, tmp_path)


def test_our_dump_passes_the_vendors_algorithm(tmp_path: Path, config: Path) -> None:
    """The vendor's verifier can read the output of ``drawwell onerng dump``."""
    key = tmp_path / "key.asc"
    assert drawwell("source", "simulate", "--export-key", str(key), config=config).returncode == 0
    assert gpg_verifies(dumped(tmp_path, config).read_bytes(), key, tmp_path)
