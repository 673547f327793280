"""Installing, upgrading, removing and purging, with systemd or without."""

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
"""A source for a machine without one."""
OF_APT = (
    "var/cache/apt/",
    "var/cache/debconf/",
    "var/lib/apt/",
    "var/lib/dpkg/",
    "var/log/",
    "var/lib/systemd/",
    "etc/.pwd.lock",
)
"""Files that change with every installed package."""
ACCOUNTS = {
    f"etc/{name}{suffix}" for name in ("passwd", "group", "shadow", "gshadow") for suffix in ("", "-")
}
"""Users stay, locked, when the package is purged."""


def changed(before: dict[str, tuple[int, ...]], after: dict[str, tuple[int, ...]]) -> list[str]:
    """Return the paths that were added or removed."""
    ours = {path for path in before.keys() ^ after.keys() if not path.startswith(OF_APT)}
    return sorted(ours - ACCOUNTS - {"root/drawwell.deb", "console.log"})


@pytest.fixture
def bare(deb: Path, request: pytest.FixtureRequest) -> Iterator[Root]:
    """Return a root without systemd, Debian 12 by default."""
    with or_skip(), chroot(getattr(request, "param", "bookworm")) as root:
        yield root


@pytest.mark.parametrize("bare", ["bookworm", pytest.param("trixie", marks=pytest.mark.long)], indirect=True)
def test_without_systemd(bare: Root, deb: Path) -> None:
    """Without systemd it serves in the foreground; purging removes everything."""
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
    assert "locked" in bare.output("sh", "-c", "getent shadow drawwell | grep -q ':!' && echo locked")


_SERVE = """drawwell run >/run/log 2>&1 &
for try in $(seq 3000); do drawwell --quiet status --require ready >/dev/null 2>&1 && break; sleep 0.1; done
drawwell status
drawwell draw 32 --hex
kill $!; wait
"""


def test_an_upgrade_keeps_what_was_edited(bare: Root, deb: Path) -> None:
    """An edited configuration stays; dpkg does not ask if ours is unchanged."""
    install(bare, deb)
    edited = bare.path / "etc/drawwell/drawwell.toml"
    edited.write_text(edited.read_text() + NOISE)
    with newer(deb, "9.0") as next_one:
        install(bare, next_one)
    assert edited.read_text().endswith(NOISE)
    assert "9.0" in bare.output("dpkg-query", "--show", "drawwell")


def test_other_programs_are_named_and_left_alone(bare: Root, deb: Path) -> None:
    """The package only names rng-tools and the way to migrate."""
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
"""The group that the node has on the host."""


@pytest.fixture(scope="module")
def stick(tmp_path_factory) -> Iterator[str]:
    """Return the node of a simulated stick, as passed through."""
    link = tmp_path_factory.mktemp("host") / "stick"
    with StickThread(link):
        node = os.path.realpath(link)
        os.chown(node, 0, GROUP)
        os.chmod(node, 0o660)
        yield node


@pytest.fixture(scope="module")
def booted(deb: Path, stick: str) -> Iterator[Root]:
    """Boot a container with systemd, the stick's node, and its sysfs."""
    with or_skip(), container("bookworm", f"--bind={stick}:/dev/noise") as root:
        pass_through(root, stick)
        yield root


def units(root: Root) -> list[str]:
    """Return the lines of our units that systemd has loaded."""
    options = ("--all", "--state=loaded", "--plain", "--no-legend", "drawwell*", "system-drawwell*")
    return root.output("systemctl", "list-units", *options).splitlines()


def configured_and_installed(root: Root, deb: Path) -> None:
    """Install, allow an unsigned stick, and wait until draws are served."""
    folder = root.path / "etc/drawwell/conf.d"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stick.toml").write_text('[[source]]\ndriver = "onerng"\nverify_firmware = "off"\n')
    assert "Failed to resolve user" not in install(root, deb)
    try:
        wait_until(lambda: ready(root), "the stick serves")
    except AssertionError as error:
        raise AssertionError(root.output("systemctl", "status", "--no-pager", "drawwell*")) from error


BY_HAND = "/etc/systemd/system/multi-user.target.wants/drawwell-named@hand.service"
"""The links that `systemctl enable` creates for an operator's source unit."""


def test_with_systemd_in_a_container(booted: Root, deb: Path) -> None:
    """A passed-through stick is found and serves; purging removes everything."""
    before = booted.files()
    for ending in ("purge", "remove", "purge"):
        configured_and_installed(booted, deb)
        assert booted.output("systemctl", "is-active", UNIT) == "active"
        assert len(booted.output("drawwell", "draw", "32", "--hex")) == 64
        assert (
            booted.output("systemctl", "list-units", "--failed", "--plain", "--no-legend", "drawwell*") == ""
        )
        booted.run("ln", "-sf", "/usr/lib/systemd/system/drawwell-named@.service", BY_HAND)
        booted.run("apt-get", ending, "--yes", "drawwell")
        wait_until(lambda: units(booted) == [], "systemd has forgotten its units")
        assert booted.output("pgrep", "-f", "bin/drawwell") == ""
        assert (booted.path / "etc/drawwell").exists() is (ending == "remove")
    assert changed(before, booted.files()) == []
    assert not list((booted.path / "run").glob("drawwell*"))


def broker_pid(root: Root) -> str:
    return root.output("systemctl", "show", "--property=MainPID", "--value", "drawwell-broker.service")


def test_an_upgrade_starts_the_new_program(booted: Root, deb: Path) -> None:
    """The units run the new version, serve again, and keep their state."""
    configured_and_installed(booted, deb)
    served = booted.output("drawwell", "draw", "32", "--hex")
    old = broker_pid(booted)
    with newer(deb, "9.0") as next_one:
        install(booted, next_one)
    wait_until(lambda: ready(booted), "it serves again")
    assert broker_pid(booted) not in {old, "0"}
    assert booted.output("drawwell", "draw", "32", "--hex") != served
    booted.run("apt-get", "purge", "--yes", "drawwell")


def test_an_upgrade_with_a_broken_configuration_leaves_what_runs(booted: Root, deb: Path) -> None:
    """Processes keep running; apt and journal report the faults."""
    configured_and_installed(booted, deb)
    old = broker_pid(booted)
    broken = booted.path / "etc/drawwell/conf.d/z.toml"
    broken.write_text("[brokr]\n")
    with newer(deb, "9.0") as next_one:
        said = install(booted, next_one)
    assert "did you mean [broker]" in said
    assert broker_pid(booted) == old
    assert len(booted.output("drawwell", "-c", "/dev/null", "draw", "32", "--hex")) == 64
    wait_until(
        lambda: "did you mean [broker]" in booted.output("journalctl", "--unit=drawwell-broker"),
        "it is logged",
    )
    assert "did you mean [broker]" in booted.output("drawwell", "status")
    broken.unlink()
    booted.run("apt-get", "purge", "--yes", "drawwell")
