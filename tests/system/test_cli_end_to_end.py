"""The command line with a real daemon and a simulated stick."""

import base64
import json
import os
import pty
import signal
import stat
import subprocess
import tempfile
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from drawwell.cli.style import SGR
from drawwell.testing.waiting import DEADLINE_S, wait_until
from support.daemon import PROGRAM, Daemon, StickThread, command, environment, hinted
from support.station import Site

pytestmark = pytest.mark.slow

MORE = """\
[[consumer]]
name = "poor"
user = "daemon"
quota = "100B/day"
"""


class Town:
    """A running broker, and another machine that has not joined it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.site = Site(folder, more=MORE)
        self.machine = folder / "machine.toml"
        self.machine.write_text(
            f'[broker]\nstate_dir = "{folder}/machine"\nrun_dir = "{folder}/machine-run"\n'
        )
        text = self.site.path.read_text()
        self.site.path.write_text(text.replace('verify_firmware = "off"\n', ""))

    def here(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command on the broker's machine."""
        return command(*arguments, config=self.site.path)

    def there(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command on the other machine."""
        return command(*arguments, config=self.machine)


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    """Run one daemon for all tests here; each test restores its state."""
    with tempfile.TemporaryDirectory(prefix="dw-") as name:
        town = Town(Path(name))
        stick = StickThread(town.folder / "stick", seed=1, rate=0)
        with stick, Daemon("run", config=town.site.path, log=town.folder / "log") as daemon:
            daemon.wait_for_text("healthy")
            wait_until(lambda: town.here("status", "--require", "ready").returncode == 0, "it is ready")
            yield town
            assert daemon.stop() == 0


def on_terminal(*arguments: str, config: Path) -> tuple[int, bytes]:
    """Run a command on a terminal; return its exit code and output."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    try:
        run = subprocess.run(
            [*PROGRAM, *arguments], stdout=slave, stderr=subprocess.PIPE, env=environment(config), check=False
        )
        os.close(slave)
        os.set_blocking(master, False)
        try:
            shown = os.read(master, 65_536)
        except OSError:
            shown = b""
    finally:
        os.close(master)
    return run.returncode, shown


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("source", "list"),
        ("source", "verify"),
        ("config", "check"),
    ],
)
def test_what_people_read_fits_their_terminal(town, arguments) -> None:
    """On a terminal of 80 columns no line is longer, and states are coloured."""
    code, shown = on_terminal(*arguments, config=town.site.path)
    assert code == 0
    plain = SGR.sub("", shown.decode())
    assert max(map(len, plain.splitlines())) <= 80
    assert (plain != shown.decode()) == (arguments[0] != "config")


# ---- status ---------------------------------------------------------------------------------


def test_no_arguments_mean_status(town) -> None:
    """`drawwell` alone shows the broker, its simulated stick and consumers."""
    shown = town.here()
    assert shown.returncode == 0
    assert "stick" in shown.stdout
    assert "simulated" in shown.stdout
    assert "poor" in shown.stdout


def test_status_as_json_is_one_document(town) -> None:
    """--json prints the whole report as one document, and nothing else."""
    shown = town.here("status", "--json")
    report = json.loads(shown.stdout)
    assert (report["name"], report["ready"], shown.stderr) == ("well", True, "")
    assert (
        report["sources"][0]["identity"]["firmware"] == "image signature verified, as reported by the device"
    )


def test_status_requires(town) -> None:
    """--require passes, or exits with 69 and names the missing condition."""
    assert town.here("status", "--require", "ready", "--require", "verified").returncode == 0
    shown = town.here("status", "--require", "hardware")
    assert shown.returncode == 69
    assert "simulated" in shown.stderr


def test_source_list_names_the_running_stick(town) -> None:
    """The list has the source with its state; --json has it as a document."""
    assert "stick" in town.here("source", "list").stdout
    listed = json.loads(town.here("source", "list", "--json").stdout)
    assert [source["identity"]["name"] for source in listed["sources"]] == ["stick"]


def test_source_verify_shows_what_was_verified_and_tested(town) -> None:
    """The result has the signature, its origin, the tests and cutoffs."""
    shown = town.here("source", "verify")
    assert shown.returncode == 0
    assert "image signature verified, as reported by the device" in shown.stdout
    assert "repetition count" in shown.stdout
    assert "adaptive proportion" in shown.stdout


def test_source_watch_once(town) -> None:
    """--once shows rate and margins one time, and ends."""
    shown = town.here("source", "watch", "--once")
    assert shown.returncode == 0
    assert shown.stdout.startswith("stick (simulated): healthy")


def test_onerng_info_goes_through_the_running_broker(town) -> None:
    """The command works by name, node or link, and the source stays healthy."""
    node = os.path.realpath(town.folder / "stick")
    for name in ((), ("stick",), (str(town.folder / "stick"),), (node,)):
        info = json.loads(town.here("onerng", "info", *name, "--json").stdout)
        assert (info["version"], info["mode"], info["paused"]) == (3, "cmd1", False)
    assert town.here("status", "--require", "ready").returncode == 0


def test_onerng_pause_shows_paused_and_resume_serves(town) -> None:
    """While paused, a draw exits with 69; after resume it succeeds."""
    assert town.here("onerng", "pause").returncode == 0
    try:
        assert "paused" in town.here("status").stdout
        drawn = town.here("draw", "8", "--hex")
        assert (drawn.returncode, drawn.stdout) == (69, "")
        refused = town.here("source", "verify")
        assert refused.returncode != 0
        assert "resume" in hinted(refused)[0]
    finally:
        assert town.here("onerng", "resume").returncode == 0
    assert town.here("draw", "8", "--hex", "--wait", "5m").returncode == 0


# ---- drawing --------------------------------------------------------------------------------


def test_draw_prints_hexadecimal_digits(town) -> None:
    """`draw 32 --hex` prints 64 digits and a newline, and two draws differ."""
    first, second = (town.here("draw", "32", "--hex") for _ in range(2))
    assert (first.returncode, len(first.stdout), first.stderr) == (0, 65, "")
    assert bytes.fromhex(first.stdout.strip()) != bytes.fromhex(second.stdout.strip())


def test_draw_in_every_form_gives_as_many_bytes_as_asked(town) -> None:
    """Base64, JSON, stdout and a large file have the requested size."""
    assert len(base64.b64decode(town.here("draw", "33", "--base64").stdout)) == 33
    document = json.loads(town.here("draw", "4KiB", "--class", "drbg", "--json").stdout)
    assert (document["bytes"], document["class"]) == (4096, "drbg")
    assert len(base64.b64decode(document["data"])) == 4096
    raw = subprocess.run(
        [*PROGRAM, "draw", "1000"], capture_output=True, check=True, env=environment(town.site.path)
    )
    assert len(raw.stdout) == 1000
    path = town.folder / "bytes"
    assert town.here("draw", "320KiB", "-o", str(path)).returncode == 0
    assert (path.stat().st_size, stat.S_IMODE(path.stat().st_mode)) == (320 * 1024, 0o600)


def test_draw_never_puts_bytes_on_a_terminal_unasked(town) -> None:
    """Raw bytes to a terminal are refused before a draw; digits are printed."""
    before = json.loads(town.here("status", "--json").stdout)["ledger"]["delivered_bits"]
    code, shown = on_terminal("draw", "32", config=town.site.path)
    assert (code, shown) == (64, b"")
    assert json.loads(town.here("status", "--json").stdout)["ledger"]["delivered_bits"] == before
    code, shown = on_terminal("draw", "32", "--hex", config=town.site.path)
    assert (code, len(bytes.fromhex(shown.decode().strip()))) == (0, 32)


def test_draw_over_an_existing_file_is_refused_and_the_file_stays(town) -> None:
    """-o never replaces a file; it then draws nothing."""
    path = town.folder / "mine"
    path.write_text("mine")
    drawn = town.here("draw", "32", "-o", str(path))
    assert drawn.returncode not in {0, 1}
    assert drawn.stderr.startswith("drawwell: ")
    assert hinted(drawn)
    assert path.read_text() == "mine"


def test_a_receipt_fits_its_bytes_and_no_others(town) -> None:
    """A receipt verifies its bytes, but not a changed byte."""
    receipt, data = str(town.folder / "key.receipt"), town.folder / "key"
    assert town.here("draw", "32", "-o", str(data), "--receipt", receipt).returncode == 0
    verified = town.here("receipt", "verify", receipt, "--data", str(data))
    assert verified.returncode == 0
    assert "well" in verified.stdout
    changed = bytearray(data.read_bytes())
    changed[0] ^= 1
    data.write_bytes(changed)
    assert town.here("receipt", "verify", receipt, "--data", str(data)).returncode != 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("draw", "none"), 64),
        (("draw", "0"), 64),
        (("draw", "-5"), 64),
        (("draw", "32", "--hex", "--wait", "soon"), 64),
        (("draw", "32", "--hex", "--base64"), 64),
        (("draw", "32", "--hxe"), 64),
        (("drow",), 64),
        (("source", "verify", "no-such"), 69),
        (("source", "capture", "-n", "0", "-o", "/tmp/never"), 64),
        (("onerng", "mode", "cmd9"), 64),
        (("draw", "32", "--hex", "--via", "nowhere"), 64),
        (("consumer", "invite", "No Name"), 64),
        (("consumer", "revoke", "no-such"), 64),
        (("-c", "/nonexistent", "status"), 78),
        (("status", "-c", "/nonexistent"), 78),
    ],
)
def test_a_wrong_command_has_its_own_error_and_hint(town, arguments, code) -> None:
    """Each wrong command prints one error with a hint, only on stderr."""
    run = town.here(*arguments)
    assert (run.returncode, run.stdout) == (code, "")
    assert run.stderr.startswith("drawwell: ")
    assert len(hinted(run)) == 1
    assert "Traceback" not in run.stderr


def test_errors_are_json_when_results_are(town) -> None:
    """With --json an error is one document with hint and exit code."""
    run = town.here("consumer", "revoke", "no-such", "--json")
    error = json.loads(run.stderr)
    assert (run.stdout, error["exit_code"]) == ("", run.returncode)
    assert error["hint"]


# ---- other machines -------------------------------------------------------------------------


def test_a_machine_is_invited_joins_draws_and_is_revoked(town) -> None:
    """Commands of a consumer's lifetime: invite, join, draw, renew, revoke."""
    invited = town.here("consumer", "invite", "web01", "--rate", "4KiB/s", "--quota", "10MiB/day")
    token = next(word for word in invited.stdout.split() if word.startswith("dw1."))
    assert town.there("draw", "8", "--hex").returncode == 69
    assert town.there("join", token, "--name", "well").returncode == 0
    assert town.here("consumer", "invite", "web02").returncode == 0  # so that the door stays open
    again = town.there("join", token, "--name", "again")
    assert again.returncode == 77
    assert "used" in again.stderr
    drawn = town.there("draw", "32", "--hex", "--via", "well")
    assert (drawn.returncode, len(drawn.stdout)) == (0, 65)
    assert len(town.there("draw", "32", "--hex").stdout) == 65
    receipt = str(town.folder / "web.receipt")
    path = str(town.folder / "web.bytes")
    assert town.there("draw", "32", "-o", path, "--receipt", receipt).returncode == 0
    assert town.there("receipt", "verify", receipt, "--data", path).returncode == 0
    assert town.there("renew").returncode == 0
    assert town.here("consumer", "quota", "web01", "--quota", "8B/day").returncode == 0
    refused = town.there("draw", "1", "--hex")
    assert refused.returncode == 75
    assert "retry after" in refused.stderr
    listed = json.loads(town.here("consumer", "list", "--json").stdout)["consumers"]
    assert [row["quota"] for row in listed if row["name"] == "web01"] == ["8B/day"]
    assert town.here("consumer", "revoke", "web01").returncode == 0
    assert town.there("draw", "1", "--hex").returncode == 77


def test_a_token_that_is_none_is_refused_without_a_word_on_the_wire(town) -> None:
    """Garbage and a changed token are usage errors with a hint."""
    for token in ("dw1.garbage", "x", "dw1." + "A" * 200):
        run = town.there("join", token)
        assert run.returncode == 64
        assert hinted(run)


def test_interrupting_a_draw_that_waits_ends_it_at_once(town) -> None:
    """Ctrl-C during `draw --wait` exits with 130, without traceback or file."""
    invited = town.here("consumer", "invite", "slow", "--rate", "1B/s", "--quota", "10B/day")
    token = next(word for word in invited.stdout.split() if word.startswith("dw1."))
    config = town.folder / "slow.toml"
    config.write_text(f'[broker]\nstate_dir = "{town.folder}/slow"\nrun_dir = "{town.folder}/slow-run"\n')
    assert command("join", token, config=config).returncode == 0
    path = town.folder / "slow.bytes"
    process = subprocess.Popen(
        [*PROGRAM, "draw", "9", "-o", str(path), "--wait", "1h"],
        stderr=subprocess.PIPE,
        env=environment(config),
        text=True,
    )

    def waits() -> bool:
        report = json.loads(town.here("status", "--json").stdout)
        return any(c["name"] == "slow" and c["refused"] for c in report["consumers"])

    wait_until(waits, "the draw was refused once and waits")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert not path.exists()


# ---- samples, failures ----------------------------------------------------------------------


def test_capture_writes_a_new_private_file_of_raw_samples(town) -> None:
    """`source capture` writes the requested samples to a new file, mode 0600."""
    path = town.folder / "raw"
    run = town.here("source", "capture", "-n", "100KiB", "-o", str(path))
    assert run.returncode == 0
    assert (path.stat().st_size, stat.S_IMODE(path.stat().st_mode)) == (102_400, 0o600)
    again = town.here("source", "capture", "-n", "1KiB", "-o", str(path))
    assert again.returncode not in {0, 1}
    assert hinted(again)
    assert path.stat().st_size == 102_400


def test_reset_starts_the_source_again(town) -> None:
    """`source reset` of a healthy source runs its start-up tests."""
    assert town.here("source", "reset", "stick").returncode == 0
    assert town.here("draw", "8", "--hex", "--wait", "5m").returncode == 0


def test_without_a_broker_every_verb_shows_how_to_start_one(folder) -> None:
    """Without a broker, every command exits with 69 and a hint, also as JSON."""
    site = Site(folder)
    for arguments in (("status",), (), ("draw", "32", "--hex"), ("source", "watch", "--once"), ("source", "reset"),
                  ("consumer", "list"), ("consumer", "invite", "web01")):  # fmt: skip
        run = command(*arguments, config=site.path)
        assert (run.returncode, run.stdout) == (69, "")
        assert "drawwell run" in hinted(run)[0]


def test_without_a_broker_a_stick_is_verified_and_captured_directly(folder) -> None:
    """Without a broker `verify` and `capture` open the device, and report it."""
    site = Site(folder)
    with StickThread(folder / "stick", seed=2, rate=0):
        verified = command("source", "verify", config=site.path)
        assert verified.returncode == 0
        assert "opening" in verified.stderr
        captured = command("source", "capture", "-n", "10000", "-o", str(folder / "raw"), config=site.path)
        assert captured.returncode == 0
        assert (folder / "raw").stat().st_size == 10_000


def test_a_sick_stick_is_found_out_by_verify(folder) -> None:
    """`source verify` of a stuck stick exits with 1 and shows the state."""
    site = Site(folder)
    with StickThread(folder / "stick", seed=3, rate=0, fault="stuck"):
        verified = command("source", "verify", config=site.path)
        assert verified.returncode == 1
        assert "failure" in verified.stdout


def test_the_demonstration_proves_itself() -> None:
    """`drawwell demo` exits with 0 and all findings met, marked as simulated."""
    run = command("demo", "--seconds", "2", "--json")
    proof = json.loads(run.stdout)
    assert (run.returncode, proof["proved"]) == (0, True)
    assert "simulated" in run.stderr
