"""The package that `make deb` builds: dependencies, files, lintian."""

import os
import re
import shutil
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from drawwell import __version__
from drawwell.config.devices import DEVICES
from drawwell.config.load import load
from lab.cache import program
from lab.package import TREE, field
from support.documents import LINK

RULES = TREE / "packaging" / "udev" / "60-drawwell.rules"
GENERATOR = TREE / "packaging" / "systemd-generator" / "drawwell-container"


@pytest.fixture(scope="module")
def members(deb: Path) -> dict[str, tarfile.TarInfo]:
    with _content(deb) as content:
        return {member.name.removeprefix("."): member for member in content}


def _content(deb: Path) -> tarfile.TarFile:
    data = subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], capture_output=True, check=True).stdout
    return tarfile.open(fileobj=BytesIO(data))


def _text(deb: Path, path: str) -> str:
    with _content(deb) as content:
        found = content.extractfile(f".{path}")
        assert found is not None
        return found.read().decode()


def test_it_is_one_package_for_every_machine(deb: Path) -> None:
    """Architecture, version and dependencies fit Debian 12 and 13."""
    assert field(deb, "Architecture") == "all"
    assert field(deb, "Version").replace("~", ".") == __version__
    depends = {each.strip() for each in field(deb, "Depends").split(",")}
    assert {"python3 (>= 3.11)", "python3-cryptography (>= 38.0.4)", "python3-h11 (>= 0.14)"} <= depends
    assert all(each.startswith("python3") for each in depends)
    assert {each.strip() for each in field(deb, "Recommends").split(",")} == {
        "libdivsufsort3",
        "python3-numpy",
        "python3-psycopg (>= 3.1.7)",
    }


def test_what_the_documents_name_is_in_it(members) -> None:
    """Every path in /usr/share/doc that a page names is in the package."""
    pages = [path.read_text() for path in (TREE / "docs").rglob("*.md")]
    named = {
        path.rstrip(".") for text in pages for path in re.findall(r"/usr/share/doc/drawwell/[\w./-]+", text)
    }
    assert named - {path.rstrip("/") for path in members} == set()


def test_it_has_every_module_and_nothing_compiled(members) -> None:
    """The package has the tree's modules and data, and no bytecode."""
    inside = {
        name.partition("dist-packages/")[2]
        for name, member in members.items()
        if "/dist-packages/drawwell/" in name and member.isfile()
    }
    tree = [path for path in (TREE / "src" / "drawwell").rglob("*") if path.is_file()]
    assert inside == {str(path.relative_to(TREE / "src")) for path in tree if "__pycache__" not in path.parts}
    assert not [name for name in members if "__pycache__" in name]


def test_what_is_installed_belongs_to_root_and_no_other_user_may_write(members) -> None:
    """All files belong to root; none is setuid or writable by others."""
    for name, member in members.items():
        assert (member.uid, member.gid) == (0, 0), name
        if not member.issym():
            assert not member.mode & 0o6022, name


@pytest.mark.parametrize(
    "path",
    [
        "/usr/bin/drawwell",
        "/etc/drawwell/drawwell.toml",
        "/etc/drawwell/conf.d/",
        "/usr/lib/udev/rules.d/60-drawwell.rules",
        "/usr/lib/sysctl.d/00-drawwell.conf",
        "/usr/lib/systemd/system-generators/drawwell-container",
        "/usr/lib/systemd/system-generators/drawwell-sources",
        "/usr/share/bash-completion/completions/drawwell",
        "/usr/share/zsh/vendor-completions/_drawwell",
        "/usr/share/fish/vendor_completions.d/drawwell.fish",
        "/usr/share/man/man1/drawwell.1.gz",
        "/usr/share/man/man5/drawwell.toml.5.gz",
        "/usr/share/man/man7/drawwell.7.gz",
        "/usr/share/man/man8/drawwell.8.gz",
    ],
)
def test_everything_is_where_debian_looks(members, path: str) -> None:
    """Program, configuration, rules, units, manual and completions exist."""
    assert path.rstrip("/") in members


def test_the_configuration_changes_nothing_until_it_is_edited(deb: Path, tmp_path: Path) -> None:
    """The conffile explains every setting and sets none."""
    file = tmp_path / "drawwell.toml"
    file.write_text(_text(deb, "/etc/drawwell/drawwell.toml"))
    assert set(load(str(file)).origins.values()) <= {"default"}
    assert all(not line or line.startswith("#") for line in file.read_text().splitlines())


def test_what_an_admin_may_change_survives_upgrades(deb: Path) -> None:
    """Files in /etc are conffiles, and no others are."""
    with tarfile.open(
        fileobj=BytesIO(subprocess.check_output(["dpkg-deb", "--ctrl-tarfile", deb]))
    ) as control:
        found = control.extractfile("./conffiles")
        assert found is not None
        conffiles = found.read().decode().split()
    with _content(deb) as content:
        in_etc = [each.name[1:] for each in content if each.name.startswith("./etc/") and each.isfile()]
    assert conffiles == in_etc


def test_the_units_of_the_tree_are_in_it(members) -> None:
    """Every unit file and drop-in is in systemd's folder in /usr."""
    units = TREE / "packaging" / "systemd"
    wanted = [
        path
        for path in units.rglob("*")
        if path.is_file() and re.search(r"\.(service|socket|target)", str(path))
    ]
    for path in wanted:
        assert f"/usr/lib/systemd/system/{path.relative_to(units)}" in members
    assert wanted


@pytest.mark.slow
def test_the_build_is_reproducible(deb: Path, tmp_path: Path) -> None:
    """Two builds of one tree are identical."""
    program(TREE / "tools" / "deb", tmp_path)
    (again,) = tmp_path.glob("*.deb")
    assert again.read_bytes() == deb.read_bytes()


@pytest.mark.slow
def test_lintian_has_nothing_against_it(deb: Path) -> None:
    """lintian reports neither errors nor warnings."""
    if not shutil.which("lintian"):
        pytest.skip("lintian is not installed")
    done = subprocess.run(
        ["lintian", "--allow-root", "--fail-on", "error,warning", deb],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_every_override_has_its_reason() -> None:
    """Each overridden tag has a comment above it."""
    file = TREE / "debian" / "drawwell.lintian-overrides"
    blocks = file.read_text().strip().split("\n\n")
    assert all(block.startswith("# ") and len(block.splitlines()) >= 2 for block in blocks)


# ---- devices


def _udev_ids() -> dict[str, str]:
    pattern = r'ATTR\{idVendor\}=="(\w+)", ATTR\{idProduct\}=="(\w+)", ENV\{DRAWWELL_KIND\}="([^"]+)"'
    return {f"{vendor}:{product}": kind for vendor, product, kind in re.findall(pattern, RULES.read_text())}


def test_the_rules_know_devices_by_the_names_that_the_program_has() -> None:
    """Rules and container generator have the same devices."""
    ids = _udev_ids()
    assert ids == {usb_id: kind.name for kind in DEVICES.values() if kind.node for usb_id in kind.usb}
    assert set(re.findall(r"[0-9a-f]{4}:[0-9a-f]{4}", GENERATOR.read_text())) == set(ids)


def test_the_rules_start_nothing_that_is_named_by_a_number() -> None:
    """The unit has the port's name and our group; ModemManager ignores it."""
    text = RULES.read_text()
    assert 'SYMLINK+="drawwell/$env{DRAWWELL_NAME}"' in text
    assert "%k" not in text
    for setting in (
        'ENV{ID_MM_DEVICE_IGNORE}="1"',
        'ENV{ID_MM_PORT_IGNORE}="1"',
        'GROUP="drawwell-source"',
        'TAG+="systemd"',
    ):
        assert setting in text


def test_the_generator_writes_nowhere_but_in_its_output_directory() -> None:
    """Run by hand it fails, because /tmp could contain another user's links."""
    assert subprocess.run([GENERATOR], capture_output=True, check=False).returncode != 0


@pytest.fixture
def container(tmp_path: Path) -> Path:
    """Create a sysfs with a stick at a port, and a /dev with its node."""
    if os.geteuid() != 0:
        pytest.skip("making a device node needs root")
    if not shutil.which("systemd-escape"):
        pytest.skip("systemd is not installed")
    device = tmp_path / "sys/devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1.2"
    interface = device / "1-1.2:1.0"
    (interface / "tty/ttyACM0").mkdir(parents=True)
    (device / "idVendor").write_text("1d50\n")
    (device / "idProduct").write_text("6086\n")
    (interface / "tty/ttyACM0/device").symlink_to(interface)
    (tmp_path / "sys/bus/pci").mkdir(parents=True)
    for place in ("0000:00:14.0",):
        (tmp_path / "sys/devices/pci0000:00" / place / "subsystem").symlink_to(tmp_path / "sys/bus/pci")
    (tmp_path / "sys/dev/char").mkdir(parents=True)
    (tmp_path / "sys/dev/char/166:0").symlink_to(interface / "tty/ttyACM0")
    (tmp_path / "dev").mkdir()
    os.mknod(tmp_path / "dev/noise", 0o020660, os.makedev(166, 0))
    os.mknod(tmp_path / "dev/other", 0o020660, os.makedev(166, 1))
    (tmp_path / "bin").mkdir()
    return tmp_path


def _generate(place: Path, *, in_container: bool) -> Path:
    detect = place / "bin/systemd-detect-virt"
    detect.write_text(f"#!/bin/sh\nexit {0 if in_container else 1}\n")
    detect.chmod(0o755)
    out = place / "out"
    out.mkdir()
    env = {"PATH": f"{place / 'bin'}:{os.environ['PATH']}", "DRAWWELL_SYS": str(place / "sys")}
    subprocess.run([GENERATOR, out], env=env | {"DRAWWELL_DEV": str(place / "dev")}, check=True)
    return out


UNIT = r"drawwell-source@pci\x2d0000:00:14.0\x2dusb\x2d0:1.2.service"


def test_a_node_in_a_container_gets_its_unit(container: Path) -> None:
    """The node is found by number, with any name, and bound to no device unit."""
    out = _generate(container, in_container=True)
    assert [path.name for path in (out / "multi-user.target.wants").iterdir()] == [UNIT]
    assert os.readlink(out / "drawwell-source@.service.d" / "10-device.conf") == "/dev/null"


@pytest.mark.parametrize(
    ("group", "mode", "right"),
    [
        (0, 0o660, "SupplementaryGroups=0"),
        (0, 0o600, "AmbientCapabilities=CAP_DAC_OVERRIDE"),
        (4711, 0o660, "AmbientCapabilities=CAP_DAC_OVERRIDE"),
    ],
)
def test_the_node_is_opened_with_the_least_right(container: Path, group: int, mode: int, right: str) -> None:
    """The unit joins the node's group if possible, or gets CAP_DAC_OVERRIDE."""
    node = container / "dev/noise"
    os.chown(node, 0, group)
    os.chmod(node, mode)
    before = os.stat(node)
    drop_in = (_generate(container, in_container=True) / f"{UNIT}.d" / "50-container.conf").read_text()
    rights = [line for line in drop_in.splitlines() if line.startswith(("SupplementaryGroups", "Ambient"))]
    assert rights == [right]
    assert os.stat(node) == before


def test_on_a_host_the_generator_makes_nothing(container: Path) -> None:
    """On a host udev starts the units."""
    assert list(_generate(container, in_container=False).iterdir()) == []


def test_the_right_to_open_all_opens_no_way_to_be_root(container: Path) -> None:
    """With root's right to open, secrets and container sockets are hidden."""
    os.chmod(container / "dev/noise", 0o600)
    drop_in = (_generate(container, in_container=True) / f"{UNIT}.d" / "50-container.conf").read_text()
    hidden = set(" ".join(re.findall(r"^InaccessiblePaths=(.*)$", drop_in, re.MULTILINE)).split())
    assert {"-/run/docker.sock", "-/run/podman", "-/etc/shadow", "-/etc/ssh", "-/var/lib/drawwell"} <= hidden


def test_links_of_the_pages_lead_somewhere(deb: Path, members: dict[str, tarfile.TarInfo]) -> None:
    """Every page is installed, and each link leads to an installed file."""
    folder = "/usr/share/doc/drawwell"
    pages = [name for name in members if name.startswith(folder) and name.endswith(".md")]
    assert {f"{folder}/docs/guests/lxc.md", f"{folder}/docs/tasks/one-host.md"} <= set(pages)
    for page in pages:
        links = [link for link in LINK.findall(_text(deb, page)) if "://" not in link]
        there = {link: os.path.normpath(os.path.join(os.path.dirname(page), link)) for link in links}
        assert [link for link, path in there.items() if path not in members] == [], page
