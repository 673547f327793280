"""config/migrate: settings of the vendor's package and of rng-tools."""

import re
import shutil
import subprocess
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawwell.config.load import load
from drawwell.config.migrate.rngd import from_rng_tools, options
from drawwell.config.migrate.settings import Migration, OptionFate, assignments, from_onerng
from drawwell.config.migrate.units import from_unit, is_unit

SHIPPED = """#!/bin/sh
# set to 0 to not start rngd
export ONERNG_START_RNGD="1"
export ONERNG_MODE_COMMAND="cmd0"
export ONERNG_VERIFY_FIRMWARE="1"
export ONERNG_AES_WHITEN="1"
export ONERNG_URANDOM_RESEED="0"
export ONERNG_ENTROPY=".93750"
#export ONERNG_FEED_KERNEL="1"
#export ONERNG_FEED_RATE="5"
"""


def onerng(text: str) -> Migration:
    migration = Migration()
    from_onerng("onerng.conf", text, migration)
    return migration


def rngd(text: str, kind: str | None = "") -> Migration:
    migration = Migration()
    from_rng_tools("rng-tools", text, migration, lambda _: kind)
    return migration


def verdicts(migration: Migration) -> dict[str, str]:
    return {answer.option: str(answer.verdict) for answer in migration.answers}


def test_every_option_that_the_vendor_ships_is_answered() -> None:
    """Each option of the shipped file is kept or obsolete, with a reason."""
    found = onerng(SHIPPED)
    assert verdicts(found) == {
        "ONERNG_START_RNGD": "kept",
        "ONERNG_MODE_COMMAND": "obsolete",
        "ONERNG_VERIFY_FIRMWARE": "kept",
        "ONERNG_AES_WHITEN": "obsolete",
        "ONERNG_URANDOM_RESEED": "obsolete",
        "ONERNG_ENTROPY": "obsolete",
    }
    assert all(answer.words for answer in found.answers)  # wording: a JSON key
    assert [answer.line for answer in found.answers] == [3, 4, 5, 6, 7, 8]


def test_the_shipped_file_feeds_the_kernel_from_a_verified_stick() -> None:
    """The configuration matches the defaults of the vendor's package."""
    assert tomllib.loads(onerng(SHIPPED).toml()) == {
        "source": [{"name": "onerng", "driver": "onerng", "verify_firmware": "require"}],
        "kernel": {"feed": True},
    }


@pytest.mark.parametrize(
    ("line", "table", "expected"),
    [
        ("ONERNG_START_RNGD=0", "kernel", {"feed": False}),
        ("ONERNG_MODE_COMMAND=cmd3", "source", {"mode": "cmd3"}),
        ("ONERNG_VERIFY_FIRMWARE=0", "source", {"verify_firmware": "off"}),
        ("ONERNG_ENTROPY=.5", "source", {"min_entropy": 4}),
        ("ONERNG_FEED_RATE=30", "kernel", {"interval": "30s"}),
        ("ONERNG_FEED_RATE=0", "kernel", {"interval": "1s"}),
    ],
)
def test_what_the_owner_changed_is_kept(line: str, table: str, expected: dict[str, object]) -> None:
    """A changed option with an equivalent becomes a drawwell setting."""
    document = tomllib.loads(onerng(line).toml())
    section = document[table][0] if table == "source" else document[table]
    assert expected.items() <= section.items()


@pytest.mark.parametrize("line", ["ONERNG_MODE_COMMAND=cmd9", "ONERNG_FEED_RATE=soon", "ONERNG_TYPO=1"])
def test_an_unknown_option_is_reported_and_not_guessed(line: str) -> None:
    """An invalid value or option is reported and sets nothing."""
    assert set(verdicts(onerng(line)).values()) == {"not known"}
    assert onerng(line).settings == onerng("").settings


RNG_TOOLS = 'HRNGDEVICE=/dev/hwrng\nRNGDOPTIONS="--fill-watermark=90% --feed-interval=1 -s 128 -H 0.75 -p /run/x -n 1"'


def test_rngd_options_are_answered_one_by_one() -> None:
    """Both spellings of each option are read, with their values."""
    assert verdicts(rngd(RNG_TOOLS)) == {
        "HRNGDEVICE": "kept",
        "--fill-watermark": "obsolete",
        "--feed-interval": "kept",
        "--random-step": "kept",
        "--rng-entropy": "kept",
        "--pid-file": "obsolete",
        "--no-tpm": "obsolete",
    }


def test_rng_tools_become_a_configuration_that_loads(tmp_path) -> None:
    """The device becomes a source with a cautious claim, the rest [kernel]."""
    file = tmp_path / "migrated.toml"
    file.write_text(rngd(RNG_TOOLS).toml())
    config = load(str(file))
    (source,) = config.sources
    assert (source.name, source.driver, source.path, source.min_entropy) == (
        "hwrng",
        "chardev",
        "/dev/hwrng",
        1,
    )
    kernel = config.kernel
    assert (kernel.feed, kernel.interval, kernel.amount, kernel.credit) == (True, 1, 128, 6)


def test_a_stick_that_rngd_read_becomes_one_by_its_kind() -> None:
    """A OneRNG's node is migrated by device kind, not by its changing number."""
    document = tomllib.loads(rngd("HRNGDEVICE=/dev/ttyACM0", "OneRNG").toml())
    assert document["source"] == [{"name": "onerng", "driver": "onerng"}]


@pytest.mark.parametrize("device", ["/dev/random", "/dev/urandom", "/dev/null", ""])
def test_what_is_no_source_is_not_taken_over(device: str) -> None:
    """The kernel's own generator is reported as not being a source."""
    found = rngd(f"HRNGDEVICE={device}")
    assert set(verdicts(found).values()) == {"obsolete"}
    assert "source" not in tomllib.loads(found.toml())


def test_both_together_are_two_sources(tmp_path) -> None:
    """The vendor's stick and rng-tools' device form one valid configuration."""
    migration = Migration()
    from_onerng("onerng.conf", SHIPPED, migration)
    from_rng_tools("rng-tools", RNG_TOOLS, migration, lambda _: "")
    file = tmp_path / "migrated.toml"
    file.write_text(migration.toml())
    assert [source.name for source in load(str(file)).sources] == ["onerng", "hwrng"]


@given(st.text(max_size=400))
def test_no_text_is_too_odd(text: str) -> None:
    """Any text in these files gives answers and valid TOML, never an error."""
    migration = Migration()
    from_onerng("onerng.conf", text, migration)
    from_rng_tools("rng-tools", text, migration, lambda _: "")
    tomllib.loads(migration.toml())
    assert all(answer.verdict in OptionFate for answer in migration.answers)


@given(st.text(max_size=200))
def test_no_device_or_option_is_too_odd(text: str) -> None:
    """Any device or option of rngd gives valid TOML."""
    line = "'" + text.replace("'", "") + "'"
    migration = rngd(f"HRNGDEVICE={line}\nRNGDOPTIONS={line}")
    tomllib.loads(migration.toml())
    assert list(options(text)) is not None


def test_assignments_are_read_as_a_shell_does() -> None:
    """Quotes, exports, comments and several per line work; others are skipped."""
    text = 'export A="x y" B=1\n# C=2\nif true; then\nD=3 # why\nE="open\n'
    assert [(each.line, each.name, each.value) for each in assignments(text)] == [
        (1, "A", "x y"), (1, "B", "1"), (4, "D", "3"),
    ]  # fmt: skip


@pytest.mark.parametrize("path", ["/dev/\udcff", "/dev/a\x7fb", "/dev/a\ufffd", "/dev/a\x01"])
def test_a_path_that_no_configuration_can_hold_is_not_taken_over(path: str) -> None:
    """Invalid UTF-8 or control characters get an answer, but no setting."""
    found = rngd(f'HRNGDEVICE="{path}"')
    assert verdicts(found) == {"HRNGDEVICE": "not known"}
    assert set(tomllib.loads(found.toml())) == {"kernel"}


def unit(text: str, kind: str | None = "") -> Migration:
    migration = Migration()
    from_unit("rngd.service", text, migration, lambda _: kind)
    return migration


DROP_IN = """[Service]
Environment=DEVICE=/dev/chaoskey0 "MORE=-W 80% -q"
ExecStart=
ExecStart=-/usr/sbin/rngd -f \\
  -r ${DEVICE} $MORE -t 5
Restart=always
"""


def test_the_command_line_of_a_unit_is_answered() -> None:
    """ExecStart with variables and a continued line gives device and interval."""
    assert is_unit(DROP_IN)
    assert not is_unit(RNG_TOOLS)
    found = unit(DROP_IN)
    document = tomllib.loads(found.toml())
    assert document["source"][0]["path"] == "/dev/chaoskey0"
    assert document["kernel"] == {"feed": True, "interval": "5s"}
    assert "not known" not in verdicts(found).values()
    assert {"Environment", "ExecStart", "--rng-device", "--quiet", "Restart"} <= set(verdicts(found))


def test_a_unit_of_another_program_sets_nothing() -> None:
    """A unit of another program than rngd or the vendor's script is reported."""
    found = unit("[Service]\nExecStart=/usr/sbin/haveged -F\n")
    assert (verdicts(found), found.settings) == ({"ExecStart": "not known"}, {})


def test_a_node_without_a_device_is_not_guessed() -> None:
    """An absent device gives no source, and the answer names the next step."""
    found = rngd("HRNGDEVICE=/dev/ttyACM0", None)
    assert verdicts(found) == {"HRNGDEVICE": "not known"}
    assert "Plug it in" in found.answers[0].words  # wording: a JSON key
    assert "source" not in tomllib.loads(found.toml())


def test_the_vendors_stick_is_not_taken_twice() -> None:
    """With onerng.conf, a missing numbered node is taken for the stick's."""
    migration = onerng(SHIPPED)
    from_rng_tools("rng-tools", "HRNGDEVICE=/dev/ttyACM0", migration, lambda _: None)
    assert [each["driver"] for each in tomllib.loads(migration.toml())["source"]] == ["onerng"]


def test_the_generator_that_debian_selects_is_the_wanted_one() -> None:
    """HRNGSELECT becomes the required generator of /dev/hwrng."""
    (source,) = tomllib.loads(rngd("HRNGSELECT=virtio_rng.0").toml())["source"]
    assert (source["path"], source["hwrng"]) == ("/dev/hwrng", "virtio_rng.0")


def test_another_programs_file_feeds_nothing() -> None:
    """haveged's settings are ignored and do not enable kernel feeding."""
    found = rngd('DAEMON_ARGS="-w 1024"')
    assert (verdicts(found), found.settings) == ({"DAEMON_ARGS": "not known"}, {})


def test_every_line_is_answered() -> None:
    """A line that is no assignment, comment or blank is reported by number."""
    found = rngd("# why\n\nif true; then\nHRNGDEVICE=/dev/hwrng\nfi")
    assert [(each.line, each.option) for each in found.answers] == [
        (4, "HRNGDEVICE"), (3, "if true; then"), (5, "fi"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("-fv -r /dev/x", [("--foreground", ""), ("--verbose", ""), ("--rng-device", "/dev/x")]),
        ("-n -b", [("--no-tpm", ""), ("--background", "")]),
        ("--feed-interval 5 -q", [("--feed-interval", "5"), ("--quiet", "")]),
        ("-R viapadlock -R 300", [("--rng-driver", "viapadlock"), ("--force-reseed", "300")]),
        ("-s64 --timeout 3", [("--random-step", "64"), ("--timeout", "3")]),
    ],
)
def test_a_value_is_distinguished_from_an_option(line: str, expected: list[tuple[str, str]]) -> None:
    """Joined short options, optional values and ambiguous letters work."""
    assert list(options(line)) == expected


RNGD_5 = (
    (
        "--background --no-drng=1 --foreground --no-tpm=1 --random-device=/dev/random --pid-file=/run/rngd.pid "
        "--quiet --rng-device=/dev/hwrng --random-step=64 --verbose --fill-watermark=2048"
    ),
    "-b -d 1 -f -n 1 -o /dev/random -p /run/rngd.pid -q -r /dev/hwrng -s 64 -v -W 2048",
)
"""The options listed by the program in Debian's rng-tools5 5-4.1."""
RNGD_6 = (
    (
        "--debug --foreground --ignorefail --background --exclude=2 --include=3 --list --option=jitter:threads:4 "
        "--random-device=/dev/random --rng-device=/dev/hwrng --test --pid-file=/run/rngd.pid --random-step=64 "
        "--fill-watermark=2048 --quiet --version --entropy-count=4"
    ),
    (
        "-d -f -i -b -x 2 -n 3 -l -O jitter:threads:4 -o /dev/random -r /dev/hwrng -t -p /run/rngd.pid -s 64 "
        "-W 2048 -q -v -e 4"
    ),
)
"""The options in argp_option of rngd.c in rng-tools 6."""


@pytest.mark.parametrize(("long", "short"), [RNGD_5, RNGD_6])
def test_every_option_of_rng_tools_5_and_6_is_known(long: str, short: str) -> None:
    """Long and short forms are known, and none is mistaken for a value."""
    for line in (long, short):
        found = verdicts(rngd(f'RNGDOPTIONS="{line}"'))
        assert {each for each, verdict in found.items() if verdict == "not known"} == set()
        assert len(list(options(line))) == len(long.split())
    assert [value for _, value in options(short) if value] == [
        each.partition("=")[2] for each in long.split() if "=" in each
    ]


@pytest.mark.skipif(not shutil.which("rngd", path="/usr/sbin:/usr/bin"), reason="rngd is not installed")
def test_every_option_of_the_installed_rngd_is_known() -> None:
    """No option in the program's own help is reported as unknown."""
    usage = subprocess.run(["/usr/sbin/rngd", "--help"], check=True, capture_output=True, text=True).stdout
    listed = re.findall(r"^ +(?:-., +)?--([a-z-]+)(=?)", usage, re.MULTILINE)
    line = " ".join(f"--{name}=1" if value else f"--{name}" for name, value in listed)
    found = rngd(f'RNGDOPTIONS="{line} --rng-device=/dev/hwrng"')
    assert len(listed) > 15
    assert {each for each, verdict in verdicts(found).items() if verdict == "not known"} == set()
