"""LXC's files: edited, restored, or refused with a hint."""

import os
import stat
from pathlib import Path

import pytest

from drawwell.errors import ConfigError, GuestUnavailable, PermissionRefused, UsageError
from drawwell.guests.lxc import Lxc, hypervisor
from drawwell.guests.model import Attachment, Guest, GuestKind

WEB1 = Guest(GuestKind.LXC, "web1", Attachment.SOCKET)
STICK = Guest(GuestKind.LXC, "web1", Attachment.DEVICE)
CLOSED = "lxc.uts.name = web1\nlxc.cgroup2.devices.deny = a\n"


@pytest.fixture
def config(folder: Path) -> Path:
    """Return a container's configuration, as an editor left it."""
    path = folder / "web1" / "config"
    path.parent.mkdir()
    path.write_text(CLOSED)
    path.chmod(0o640)
    return path


def everything(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return all files below, with their modes."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("guest", [WEB1, STICK])
@pytest.mark.parametrize("text", [CLOSED, "", "no line end", "#\udcff\n", "a = b\r\n"])
def test_what_was_applied_is_removed_without_a_trace(
    folder: Path, config: Path, guest: Guest, text: str
) -> None:
    """The file has its old bytes and mode, and there are no other files."""
    config.write_text(text, errors="surrogateescape", newline="")
    before, lxc = everything(folder), Lxc(str(folder))
    assert {change.where for change in lxc.apply(guest)} >= {str(config)}
    assert everything(folder) != before
    lxc.remove(guest)
    assert everything(folder) == before


def test_a_second_time_changes_nothing(folder: Path, config: Path) -> None:
    """A second apply or remove changes nothing and reports nothing."""
    lxc = Lxc(str(folder))
    lxc.apply(STICK)
    once = everything(folder)
    assert lxc.apply(STICK) == []
    assert everything(folder) == once
    lxc.remove(STICK)
    assert lxc.remove(STICK) == []


def test_an_edit_round_the_block_survives_and_nothing_stays(folder: Path, config: Path) -> None:
    """Text around the block stays; the backup is removed with the block."""
    lxc = Lxc(str(folder))
    lxc.apply(WEB1)
    config.write_text(f"# above\n{config.read_text()}# below\n")
    lxc.apply(STICK)
    lxc.remove(STICK)
    assert config.read_text() == f"# above\n{CLOSED}# below\n"
    assert [each.name for each in config.parent.iterdir()] == ["config"]


def test_the_backup_is_the_file_before_the_block(folder: Path, config: Path) -> None:
    """The backup stays while the block changes; a new block replaces it."""
    lxc, backup = Lxc(str(folder)), config.with_name("config.before-drawwell")
    lxc.apply(WEB1)
    lxc.apply(STICK)
    assert backup.read_text() == CLOSED
    config.write_text("lxc.uts.name = later\n")
    lxc.apply(WEB1)
    assert backup.read_text() == "lxc.uts.name = later\n"


def test_a_block_deleted_by_hand_leaves_no_backup(folder: Path, config: Path) -> None:
    """`remove` deletes the backup, and leaves the file as it was edited."""
    lxc = Lxc(str(folder))
    lxc.apply(WEB1)
    config.write_text("lxc.uts.name = later\n")
    lxc.remove(WEB1)
    assert config.read_text() == "lxc.uts.name = later\n"
    assert [each.name for each in config.parent.iterdir()] == ["config"]


def test_a_damaged_block_keeps_the_backup(folder: Path, config: Path) -> None:
    """`remove` refuses, changes nothing, and the original is still there."""
    lxc = Lxc(str(folder))
    lxc.apply(WEB1)
    config.write_text(config.read_text().replace("# drawwell: guest web1 ends\n", ""))
    before = everything(folder)
    with pytest.raises(ConfigError, match="damaged"):
        lxc.remove(WEB1)
    assert everything(folder) == before
    assert config.with_name("config.before-drawwell").read_text() == CLOSED


def test_from_the_stick_to_the_socket_the_hook_goes(folder: Path, config: Path) -> None:
    """Another attachment replaces the block and deletes unused files."""
    lxc = Lxc(str(folder))
    lxc.apply(STICK)
    assert os.access(config.parent / "drawwell-autodev", os.X_OK)
    lxc.apply(WEB1)
    assert not (config.parent / "drawwell-autodev").exists()
    assert "devices.allow" not in config.read_text()


def test_unprivileged_the_rule_comes_and_goes(folder: Path, config: Path) -> None:
    """The root's user ID on the host owns stick and socket; the rule goes."""
    config.write_text("lxc.idmap = u 0 100000 65536\nlxc.idmap = g 0 100000 65536\n")
    rule = folder / "79.rules"
    lxc = Lxc(str(folder), rules=str(rule))
    assert lxc.owner(STICK) == (100000, 100000)
    lxc.apply(STICK)
    assert 'OWNER="100000"' in rule.read_text()
    lxc.remove(STICK)
    assert not rule.exists()


def test_another_node_than_a_stick_is_allowed_by_its_own_number(folder: Path, config: Path) -> None:
    """The cgroup rule allows only the node behind the link."""
    link = folder / "stick"
    link.symlink_to("/dev/null")
    Lxc(str(folder)).apply(Guest(GuestKind.LXC, "web1", Attachment.DEVICE, device=str(link)))
    assert "lxc.cgroup.devices.allow = c 1:3 rwm\n" in config.read_text()


def test_a_plan_is_made_before_there_is_a_container(folder: Path) -> None:
    """The plan is for a privileged container, and nothing is created."""
    (piece,) = Lxc(str(folder)).plan(WEB1).pieces
    assert piece.into == str(folder / "web1" / "config")
    assert everything(folder) == {}


def test_no_container_half_a_block_and_a_bad_name_are_refused(folder: Path, config: Path) -> None:
    """Each has a separate error with a hint."""
    lxc = Lxc(str(folder))
    with pytest.raises(GuestUnavailable, match="no container web2") as missing:
        lxc.apply(Guest(GuestKind.LXC, "web2", Attachment.SOCKET))
    assert "lxc-create" in (missing.value.hint or "")
    with pytest.raises(UsageError):
        lxc.apply(Guest(GuestKind.LXC, "web1", Attachment.SOCKET, domain="../web1"))
    config.write_text("# drawwell: guest web1 ends\n")
    with pytest.raises(ConfigError) as half:
        lxc.apply(WEB1)
    assert "Delete every line" in (half.value.hint or "")


def test_a_file_without_permission_is_refused(folder: Path, config: Path) -> None:
    """A missing permission is reported differently from a missing file."""
    config.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)  # an unprivileged user, because root can read everything
    try:
        with pytest.raises(PermissionRefused):
            Lxc(str(folder)).apply(WEB1)
    finally:
        if root:
            os.seteuid(0)


def test_a_link_is_followed_and_stays_one(folder: Path, config: Path) -> None:
    """If the configuration is a link into a repository, its target is edited."""
    real = folder / "real"
    config.rename(real)
    config.symlink_to(real)
    Lxc(str(folder)).apply(WEB1)
    assert config.is_symlink()
    assert "drawwell" in real.read_text()


def test_every_container_of_the_directory_is_audited(folder: Path, config: Path) -> None:
    """All are audited, with or without the block; missing ones are no error."""
    (folder / "plain").mkdir()
    (folder / "plain" / "config").write_text(CLOSED)
    (folder / "none").mkdir()
    lxc = Lxc(str(folder))
    lxc.apply(WEB1)
    assert [(each.name, each.running, "drawwell" in each.backend) for each in lxc.audit()] == [
        ("plain", False, False),
        ("web1", False, True),
    ]
    assert Lxc(str(folder / "missing")).audit() == []


PROXMOX = "# web\narch: amd64\nunprivileged: 1\n{lines}\n[before]\nlxc.mount.entry: /x run none bind 0 0\n"
LINES = (
    "lxc.mount.entry: tmpfs run tmpfs nosuid,nodev,mode=755,size=20%,create=dir 0 0\n"
    "lxc.mount.entry: /run/drawwell/guests/web1 run/drawwell none bind,ro,create=dir,optional 0 0\n"
)


@pytest.fixture
def proxmox(folder: Path) -> Path:
    """Return Proxmox's configuration of a container that LXC knows too."""
    path = folder / "pve" / "web1.conf"
    path.parent.mkdir()
    path.write_text(PROXMOX.format(lines=""))
    return path


def test_a_container_of_proxmox_is_edited_by_its_owner(folder: Path, config: Path, proxmox: Path) -> None:
    """apply and --remove print Proxmox's lines, and never write a file."""
    lxc = Lxc(str(folder), proxmox=str(proxmox.parent))
    (piece,) = lxc.plan(WEB1).pieces
    assert (piece.into, piece.text) == (str(proxmox), LINES)
    before = everything(folder)
    with pytest.raises(GuestUnavailable, match=r"web1\.conf lacks the plan's lines") as refused:
        lxc.apply(WEB1)
    assert all(f"'{line}'" in str(refused.value.hint) for line in LINES.splitlines())
    assert lxc.remove(WEB1) == []
    assert everything(folder) == before

    proxmox.write_text(PROXMOX.format(lines=LINES))
    before = everything(folder)
    assert lxc.apply(WEB1) == []
    with pytest.raises(GuestUnavailable, match="still has the plan's lines") as refused:
        lxc.remove(WEB1)
    assert all(f"'{line}'" in str(refused.value.hint) for line in LINES.splitlines())
    assert everything(folder) == before


def test_a_container_of_proxmox_has_proxmox_s_ids(folder: Path, proxmox: Path) -> None:
    """The socket's owner follows the container's mapping, or Proxmox's."""
    lxc = Lxc(str(folder), proxmox=str(proxmox.parent))
    assert lxc.owner(WEB1) == (100000, 100000)
    proxmox.write_text(PROXMOX.format(lines="lxc.idmap: u 0 200000 65536\nlxc.idmap = g 0 300000 65536\n"))
    assert lxc.owner(WEB1) == (200000, 300000)
    proxmox.write_text("unprivileged: 0\n")
    assert lxc.owner(WEB1) == (None, None)


def test_the_stick_is_not_passed_to_a_container_of_proxmox(folder: Path, proxmox: Path) -> None:
    """Proxmox has its own setting for a device node."""
    for work in (lxc := Lxc(str(folder), proxmox=str(proxmox.parent))).plan, lxc.apply:
        with pytest.raises(UsageError, match="does not pass the stick") as refused:
            work(STICK)
        assert "pct set web1 --dev0" in str(refused.value.hint)


def test_proxmox_s_directory_belongs_to_the_default_directory(
    folder: Path, config: Path, proxmox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --connect, a container is not looked up in Proxmox."""
    monkeypatch.setattr("drawwell.guests.lxc.proxmox.CONFIGS", str(proxmox.parent))
    (usual,), (given,) = (hypervisor(where).plan(WEB1).pieces for where in ("", str(folder)))
    assert (usual.into, given.into) == (str(proxmox), str(config))
