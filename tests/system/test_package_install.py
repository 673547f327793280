"""The package installed, upgraded, removed, purged and installed again: with systemd, and without."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from drawwell.testing.waiting import wait_until
from lab.cache import or_skip
from lab.installed import UNIT, install, pass_through, ready
from lab.package import newer
from lab.roots import Root, chroot, container
from support.daemon import StickThread

NOISE = """[[source]]
name = "noise"
driver = "chardev"
path = "/dev/urandom"
allow_os_generator = true
min_entropy = 1.0
"""
"""A source for a machine that has none."""
OF_APT = (
    "var/cache/apt/",
    "var/cache/debconf/",
    "var/lib/apt/",
    "var/lib/dpkg/",
    "var/log/",
    "var/lib/systemd/",
    "etc/.pwd.lock",
)
"""What changes with every package that is installed."""
ACCOUNTS = {
    f"etc/{name}{suffix}" for name in ("passwd", "group", "shadow", "gshadow") for suffix in ("", "-")
}
"""Users stay, locked, when the package is purged."""


def changed(before: dict[str, tuple[int, ...]], after: dict[str, tuple[int, ...]]) -> list[str]:
    """What is there now and was not, or the other way round."""
    ours = {path for path in before.keys() ^ after.keys() if not path.startswith(OF_APT)}
    return sorted(ours - ACCOUNTS - {"root/drawwell.deb", "console.log"})


@pytest.fixture
def bare(deb: Path, request: pytest.FixtureRequest) -> Iterator[Root]:
    """A root without systemd, of Debian 12 where nothing else is asked for."""
    with or_skip(), chroot(getattr(request, "param", "bookworm")) as root:
        yield root


@pytest.mark.parametrize("bare", ["bookworm", pytest.param("trixie", marks=pytest.mark.long)], indirect=True)
def test_without_systemd(bare: Root, deb: Path) -> None:
    """Installed with apt where there is no systemd: it runs in the foreground and serves; purged, nothing is left."""
    before = bare.files()
    said = install(bare, deb)
    assert "rror" not in said, said
    (bare.path / "etc/drawwell/conf.d/noise.toml").write_text(NOISE)
    served = bare.run("sh", "-ec", _SERVE).stdout
    assert "ready" in served
    assert len(served.split()[-1]) == 64
    bare.run("apt-get", "remove", "--yes", "drawwell")
    assert (bare.path / "etc/drawwell/drawwell.toml").exists()
    assert not (bare.path / "usr/bin/drawwell").exists()
    install(bare, deb)
    bare.run("apt-get", "purge", "--yes", "drawwell")
    assert changed(before, bare.files()) == []
    assert "locked" in bare.says("sh", "-c", "getent shadow drawwell | grep -q ':!' && echo locked")


_SERVE = """drawwell run >/run/log 2>&1 &
for try in $(seq 3000); do drawwell --quiet status --require ready >/dev/null 2>&1 && break; sleep 0.1; done
drawwell status
drawwell draw 32 --hex
kill $!; wait
"""


def test_an_upgrade_keeps_what_was_edited(bare: Root, deb: Path) -> None:
    """The configuration is a conffile: an edited one stays, and dpkg asks nothing when ours did not change."""
    install(bare, deb)
    edited = bare.path / "etc/drawwell/drawwell.toml"
    edited.write_text(edited.read_text() + NOISE)
    with newer(deb, "9.0") as next_one:
        install(bare, next_one)
    assert edited.read_text().endswith(NOISE)
    assert "9.0" in bare.says("dpkg-query", "--show", "drawwell")


def test_other_programs_are_named_and_left_alone(bare: Root, deb: Path) -> None:
    """The package says that rng-tools is installed and how to go over, and touches nothing of its."""
    status = bare.path / "var/lib/dpkg/status"
    stanza = "Package: rng-tools5\nStatus: install ok installed\nVersion: 5-4\nArchitecture: all\n"
    status.write_text(f"{status.read_text().rstrip()}\n\n{stanza}Maintainer: x\nDescription: x\n\n")
    (bare.path / "etc/default").mkdir(exist_ok=True)
    (bare.path / "etc/default/rng-tools5").write_text('RNGDOPTIONS="--feed-interval=5"\n')
    said = install(bare, deb)
    assert "rng-tools5" in said
    answers = bare.run("drawwell", "migrate", "-o", "/etc/drawwell/conf.d/migrated.toml").stdout
    assert "--feed-interval" in answers
    assert "feed the kernel 64B every 5 s" in bare.run("drawwell", "config", "check").stdout
    assert (bare.path / "etc/default/rng-tools5").read_text().startswith("RNGDOPTIONS")


# ---- with systemd, in a container

GROUP = 4711
"""Whatever group the node has on the host."""


@pytest.fixture(scope="module")
def stick(tmp_path_factory) -> Iterator[str]:
    """The node of a simulated stick, as it would be passed through."""
    link = tmp_path_factory.mktemp("host") / "stick"
    with StickThread(link):
        node = os.path.realpath(link)
        os.chown(node, 0, GROUP)
        os.chmod(node, 0o660)
        yield node


@pytest.fixture(scope="module")
def booted(deb: Path, stick: str) -> Iterator[Root]:
    """A container with systemd and the stick's node, and a sysfs that says what it is."""
    with or_skip(), container("bookworm", f"--bind={stick}:/dev/noise") as root:
        pass_through(root, stick)
        yield root


def units(root: Root) -> list[str]:
    """The lines of our units that systemd has loaded."""
    words = ("--all", "--state=loaded", "--plain", "--no-legend", "drawwell*", "system-drawwell*")
    return root.says("systemctl", "list-units", *words).splitlines()


def configured_and_installed(root: Root, deb: Path) -> None:
    """Install where the stick may be used without a signature, and wait until it serves."""
    folder = root.path / "etc/drawwell/conf.d"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stick.toml").write_text('[[source]]\ndriver = "onerng"\nverify_firmware = "off"\n')
    assert "Failed to resolve user" not in install(root, deb)
    try:
        wait_until(lambda: ready(root), "the stick serves")
    except AssertionError as error:
        raise AssertionError(root.says("systemctl", "status", "--no-pager", "drawwell*")) from error


BY_HAND = "/etc/systemd/system/multi-user.target.wants/drawwell-named@hand.service"
"""What `systemctl enable` makes for a unit of a source that an operator started."""


def test_with_systemd_in_a_container(booted: Root, deb: Path) -> None:
    """Installed, a stick that was passed through is found and serves; purged, nothing of it is left."""
    before = booted.files()
    for ending in ("purge", "remove", "purge"):
        configured_and_installed(booted, deb)
        assert booted.says("systemctl", "is-active", UNIT) == "active"
        assert len(booted.says("drawwell", "draw", "32", "--hex")) == 64
        assert booted.says("systemctl", "list-units", "--failed", "--plain", "--no-legend", "drawwell*") == ""
        booted.run("ln", "-sf", "/usr/lib/systemd/system/drawwell-named@.service", BY_HAND)
        booted.run("apt-get", ending, "--yes", "drawwell")
        wait_until(lambda: units(booted) == [], "systemd has forgotten its units")
        assert booted.says("pgrep", "-f", "bin/drawwell") == ""
        assert (booted.path / "etc/drawwell").exists() is (ending == "remove")
    assert changed(before, booted.files()) == []
    assert not list((booted.path / "run").glob("drawwell*"))


def broker_pid(root: Root) -> str:
    return root.says("systemctl", "show", "--property=MainPID", "--value", "drawwell-broker.service")


def test_an_upgrade_starts_the_new_program(booted: Root, deb: Path) -> None:
    """The units run the new version, serve again, and have forgotten nothing."""
    configured_and_installed(booted, deb)
    served = booted.says("drawwell", "draw", "32", "--hex")
    old = broker_pid(booted)
    with newer(deb, "9.0") as next_one:
        install(booted, next_one)
    wait_until(lambda: ready(booted), "it serves again")
    assert broker_pid(booted) not in {old, "0"}
    assert booted.says("drawwell", "draw", "32", "--hex") != served
    booted.run("apt-get", "purge", "--yes", "drawwell")


def test_an_upgrade_with_a_broken_configuration_leaves_what_runs(booted: Root, deb: Path) -> None:
    """What runs goes on as it was; apt and the journal say what is wrong with the configuration."""
    configured_and_installed(booted, deb)
    old = broker_pid(booted)
    broken = booted.path / "etc/drawwell/conf.d/z.toml"
    broken.write_text("[brokr]\n")
    with newer(deb, "9.0") as next_one:
        said = install(booted, next_one)
    assert "did you mean [broker]" in said
    assert broker_pid(booted) == old
    assert len(booted.says("drawwell", "-c", "/dev/null", "draw", "32", "--hex")) == 64
    wait_until(
        lambda: "did you mean [broker]" in booted.says("journalctl", "--unit=drawwell-broker"), "it is said"
    )
    assert "did you mean [broker]" in booted.says("drawwell", "status")
    broken.unlink()
    booted.run("apt-get", "purge", "--yes", "drawwell")
