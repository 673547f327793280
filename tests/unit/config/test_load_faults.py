"""Reading the configuration: each fault, and all faults at once."""

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from drawwell.config.drivers import DRIVERS
from drawwell.config.load import load
from drawwell.errors import ConfigError, PermissionRefused
from support.configurations import ROOT, faults_of, load_text

CHOICE = " or ".join((", ".join([*DRIVERS][:-1]), [*DRIVERS][-1]))

# ---- faults

PKI = "[pki]\nca='/a'\ncertificate='/b'\nkey='/c'\n"

TEN_MISTAKES = """\
[broker]
reservoir = "12 potatoes"
min_source = 2
low_mark = "90%"
high_mark = "80%"

[[source]]
name = "hw"
driver = "chardev"
path = "/dev/hwrng"

[[source]]
name = "hw"
min_entropy = 9

[tsl]
listen = "*:55000"

[[consumer]]
name = "web01"
quotta = "1MiB/day"
rate = 5

[kernel]
feed = "yes"
"""


def test_ten_mistakes_are_ten_faults(tmp_path: Path) -> None:
    """All faults are reported at once, with line, key and a similar name."""
    assert faults_of(tmp_path, TEN_MISTAKES) == [
        "2: [broker] reservoir: '12 potatoes' is not a size such as 64, 4KiB or 1.5MB",
        "3: [broker] unknown key 'min_source'; did you mean 'min_sources'?",
        "4: [broker] low_mark: 230.4KiB is not below the high mark of 204.8KiB",
        "7: [[source]] min_entropy: is required for driver chardev: drawwell cannot assess the source",
        f"13: [[source]] name: name hw is already used ({tmp_path}/test.toml:8)",
        "14: [[source]] min_entropy: 9 is outside the range 0.01 to 8",
        "16: unknown table 'tsl'; did you mean [tls]?",
        "21: [[consumer]] unknown key 'quotta'; did you mean 'quota'?",
        "22: [[consumer]] rate: 5 is not a string: put it in quotes",
        "25: [kernel] feed: 'yes' is neither true nor false",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("broker = 1", "1: broker is a table: write [broker]"),
        ("[source]\nname='a'", "1: source is a list of tables: write [[source]]"),
        ("[[broker]]\nname='a'", "1: broker is a single table: write [broker]"),
        ("name = 1", "1: unknown key outside any table 'name'"),
        (
            "[tls]\nlisten='55000'",
            "2: [tls] listen: '55000' is not an address and a port such as *:55000 or [::1]:55000",
        ),
        (
            "[tls]\nlisten='*:0'",
            "2: [tls] listen: '*:0' is not an address and a port such as *:55000 or [::1]:55000",
        ),
        (
            "[health]\nlisten='*:80'",
            "2: [health] listen: '*:80' is not a loopback address. Only local connections are allowed here",
        ),
        (
            "[enrol]\nlisten='*:55001'",
            "2: [enrol] listen: enrolment needs the TLS door: set listen in [tls]",
        ),
        (
            "[tls]\nlisten='*:55001'",
            "2: [tls] listen: address *:55001 is already used (default)",
        ),
        ("[pki]\nca='/a'", "2: [pki] ca: your own PKI also needs certificate and key"),
        ("[[source]]\ndriver='exec'\nmin_entropy=1", "1: [[source]] command: is required for driver exec"),
        (
            "[[source]]\nloop=true",
            "2: [[source]] loop: is not valid for driver onerng, only for replay",
        ),
        ("[[source]]\ndriver='replay'", "1: [[source]] path: is required for driver replay"),
        (
            "[[source]]\ndriver='onernng'",
            f"2: [[source]] driver: 'onernng' is not one of {CHOICE}",
        ),
        (
            "[broker]\nmin_sources=2",
            "2: [broker] min_sources: 2 sources are needed; configured: 1",
        ),
        ("[broker]\nhigh_mark='300KiB'", "2: [broker] high_mark: 300KiB is larger than the reservoir"),
        ("[[consumer]]\nrate='1KiB/s'", "1: [[consumer]] name: is required, unless match is given"),
        (
            "[[consumer]]\nmatch='spiffe://td/*'",
            "2: [[consumer]] match: needs certificates of your own PKI: set ca in [pki]",
        ),
        (
            f"{PKI}[[consumer]]\nmatch='spiffe://td/*'\nname='a'",
            "6: [[consumer]] match: cannot be combined with the name a",
        ),
        (
            f"{PKI}[[consumer]]\nmatch='spiffe://td/*'\nuser='root'",
            "7: [[consumer]] user: cannot be combined with match, which is for certificates",
        ),
        (
            f"{PKI}[[consumer]]\nmatch='a b'",
            "6: [[consumer]] match: 'a b' is not a pattern of 1 to 255 printable characters without a space",
        ),
        (
            "[[consumer]]\nname='a'\nuser='missing'",
            "3: [[consumer]] user: user 'missing' does not exist on this machine",
        ),
        (
            "[[consumer]]\nname='a'\nrate='1MiB/s'\nquota='1KiB/day'",
            "4: [[consumer]] quota: is less than the rate allows in one of its periods. Are rate and quota swapped?",
        ),
        (
            "[[upstream]]\nurl='http://x'",
            "2: [[upstream]] url: 'http://x' is not tls://HOST:PORT, ssh://[USER@]HOST[:PORT] or unix:///PATH",
        ),
        ("[[sink]]\nkind='fifo'", "1: [[sink]] path: is required for kind fifo"),
        ("[[sink]]\nkind='stdout'\npath='/x'", "3: [[sink]] path: is not valid for kind stdout"),
        ("[kernel]\ncredit=9", "2: [kernel] credit: 9 is outside the range 0 to 8"),
        (
            "[[egd]]\nlisten='10.0.0.1:8888'\nconsumer='local'",
            "2: [[egd]] listen: '10.0.0.1:8888' is not a loopback address. Only local connections are allowed here",
        ),
        (
            "[[egd]]\nlisten='/run/g.sock'\nconsumer='g'",
            "3: [[egd]] consumer: consumer 'g' does not exist: add a [[consumer]] with that name",
        ),
        (
            "[[egd]]\nlisten='/run/g.sock'\nconsumer='g'\n[[consumer]]\nname='g'\nclass='drbg'",
            "1: [[egd]] class: consumer g may draw only class drbg",
        ),
        (
            "[[egd]]\nlisten='127.0.0.1:8888'\nconsumer='local'",
            "3: [[egd]] consumer: any local user can draw from a port: give consumer local a rate or a quota",
        ),
        (
            "[[egd]]\nlisten='/run/drawwell/draw.sock'\nconsumer='local'",
            "2: [[egd]] listen: address /run/drawwell/draw.sock is already used (default)",
        ),
        ("[ssh]\nuser='missing'", "2: [ssh] user: user 'missing' does not exist on this machine"),
        (
            "[ssh]\nuser='0'",
            "2: [ssh] user: must be a dedicated account, not root or a consumer's user",
        ),
        (
            "[ssh]\nuser='www-data'\n[[consumer]]\nname='a'\nuser='www-data'",
            "2: [ssh] user: must be a dedicated account, not root or a consumer's user",
        ),
        ("[http]\nlisten='*:80'", "2: [http] listen: '*:80' is not an absolute path, or \"\""),
        (
            "[http]\nlisten='/run/drawwell/draw.sock'",
            "2: [http] listen: address /run/drawwell/draw.sock is already used (default)",
        ),
        ("[unix]\npath='draw.sock'", "2: [unix] path: 'draw.sock' is not an absolute path"),
    ],
)
def test_one_fault(tmp_path: Path, text: str, fault: str) -> None:
    """One mistake gives one fault, with a helpful message."""
    assert faults_of(tmp_path, text) == [fault]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("path='{real}'", "path='{link}'"),
        ("driver='replay'\npath='{real}'\nmin_entropy=1", "driver='replay'\npath='{real}'\nmin_entropy=1"),
        (
            "driver='exec'\ncommand=['cat', 'x']\nmin_entropy=1",
            "driver='exec'\ncommand=['cat', 'x']\nmin_entropy=1",
        ),
        ("path='auto'", "path='auto'"),
    ],
    ids=["two names of one node", "one file twice", "one command twice", "the only stick twice"],
)
def test_one_device_is_configured_once(tmp_path: Path, first: str, second: str) -> None:
    """Two sections for one device are a fault, even with different names."""
    real, link = tmp_path / "node", tmp_path / "link"
    real.touch()
    link.symlink_to(real)
    text = f"[[source]]\nname='a'\n{first}\n[[source]]\nname='b'\n{second}".format(real=real, link=link)
    (fault,) = faults_of(tmp_path, text)
    assert re.search(r"\[\[source\]\] (path|command): device .* is already used", fault)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[broker]\nname = 'a", 2),
        ("[broker]\nname =\n\n", 2),
        ("[broker]\nname = 1\nname = 2", 3),
        ("[x\n", 1),
    ],
)
def test_what_is_no_toml_is_a_fault(tmp_path: Path, text: str, line: int) -> None:
    """A TOML syntax error is reported with its line."""
    (fault,) = faults_of(tmp_path, text)
    assert fault.startswith(f"{line}: invalid TOML: ")


def test_a_draw_that_could_starve_is_a_fault(tmp_path: Path) -> None:
    """The largest draw plus a seed must fit under the low mark."""
    good = '[broker]\nreservoir = "1024KiB"\nlow_mark = "4KiB"\nmax_draw = '
    assert load_text(tmp_path, good + "4048\n").broker.max_draw == 4048
    (fault,) = faults_of(tmp_path, good + "4049\n")
    assert fault.startswith("4: [broker] max_draw: 3.954KiB plus a seed of 48B exceeds the low mark of 4KiB")


@pytest.mark.parametrize("path", ["/dev/random", "/dev/urandom", "/dev/../dev/urandom"])
def test_the_os_generator_must_be_asked_for(tmp_path: Path, path: str) -> None:
    """The operating system's generator is a source only by explicit setting."""
    source = f'[[source]]\ndriver = "chardev"\npath = "{path}"\nmin_entropy = 1.0\n'
    assert "Set allow_os_generator = true to use it anyway" in faults_of(tmp_path, source)[0]
    assert load_text(tmp_path, source + "allow_os_generator = true\n").sources[0].path == path


def test_a_broker_that_takes_deposits_needs_no_source_of_its_own(tmp_path: Path) -> None:
    """The broker serves without a [[source]] and does not open a OneRNG."""
    doors = '[tls]\nlisten = "*:55000"\n[[upstream]]\nurl = "unix:///run/other.sock"\n'
    config = load_text(tmp_path, f"[broker]\ndeposits = true\nmin_sources = 2\n{doors}")
    assert (config.serves, config.sources) == (True, ())
    assert config.broker.source_socket == "/run/drawwell/source.sock"
    assert any(each.name == "local" for each in config.consumers)
    assert "a door needs a source" in faults_of(tmp_path, doors)[0]
    assert load_text(tmp_path, "").written_sources == ()
    assert len(load_text(tmp_path, "[[source]]\n").written_sources) == 1


def test_who_may_deposit_is_an_account_of_its_own(tmp_path: Path) -> None:
    """The depositing account must not be a shared or a consumer's account."""
    users = {"drawwell-source": 977, "www-data": 33, "nobody": 65_534}  # wording: a user's name
    machine = replace(ROOT, uid_of=users.get)
    assert load_text(tmp_path, "").broker.source_uid is None
    assert load_text(tmp_path, "", machine).broker.source_uid == 977
    assert load_text(tmp_path, '[broker]\nsource_user = "www-data"\n', machine).broker.source_uid == 33
    for user, more in (
        ("ann", ""),
        ("nobody", ""),  # wording: a user's name
        ("www-data", '[[consumer]]\nname = "web"\nuser = "www-data"\n'),
    ):
        with pytest.raises(ConfigError) as caught:
            load_text(tmp_path, f'[broker]\nsource_user = "{user}"\n{more}', machine)
        assert "[broker] source_user" in caught.value.faults[0]


def test_faults_of_several_files_are_reported_together(tmp_path: Path) -> None:
    """All files are read in order, even if one of them is invalid."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "drawwell.toml").write_text("[broker\n")
    (tmp_path / "conf.d" / "1.toml").write_bytes(b"[broker]\nname = '\xff'\n")
    (tmp_path / "conf.d" / "2.toml").write_text("[broker]\nmin_sources = 0\n")
    with pytest.raises(ConfigError) as caught:
        load(None, directory=str(tmp_path), machine=ROOT)
    assert [fault.removeprefix(f"{tmp_path}/").split(": ")[0] for fault in caught.value.faults] == [
        "drawwell.toml:1",
        "conf.d/1.toml:2",
        "conf.d/2.toml:2",
    ]


def test_a_world_writable_file_is_a_fault(tmp_path: Path) -> None:
    """A configuration that any user could have written is not used."""
    file = tmp_path / "test.toml"
    file.write_text("")
    file.chmod(0o646)
    with pytest.raises(ConfigError) as caught:
        load(str(file), machine=ROOT)
    assert caught.value.faults == (f"{file}: every user can write to {file}: Run 'chmod o-w {file}'.",)


@contextlib.contextmanager
def not_as_root() -> Iterator[None]:
    """Drop root's rights temporarily, because root can read everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_missing_file_is_a_fault(tmp_path: Path) -> None:
    """A named file must exist; a directory is not a file."""
    for path, reason in ((tmp_path / "none.toml", "no such file or directory"), (tmp_path, "is a directory")):
        with pytest.raises(ConfigError) as caught:
            load(str(path), machine=ROOT)
        assert caught.value.faults == (f"{path}: cannot be read: {reason}",)


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    """A file without read permission is a permission error."""
    file = tmp_path / "test.toml"
    file.write_text("")
    file.chmod(0)
    with not_as_root(), pytest.raises(PermissionRefused, match="permission denied"):
        load(str(file), machine=ROOT)
