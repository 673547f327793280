"""The plans for containers: exact text, and refused values."""

import pytest

from drawwell.errors import UsageError
from drawwell.guests.docker import plan as plan_containers
from drawwell.guests.incus import plan as plan_incus
from drawwell.guests.lxc import plan as plan_lxc
from drawwell.guests.lxc.plan import Container
from drawwell.guests.model import Attachment, Guest, GuestKind, Plan

CONTAINERS = (GuestKind.LXC, GuestKind.INCUS, GuestKind.DOCKER, GuestKind.PODMAN)
NEW = Container("/var/lib/lxc/web1")
MAPPED = Container("/var/lib/lxc/web1", uid=100000, gid=100000, closed=False)


def plan(guest: Guest, container: Container = NEW) -> Plan:
    """Return the plan from the module of this kind."""
    if guest.kind is GuestKind.LXC:
        return plan_lxc.plan(guest, container)
    return plan_incus.plan(guest) if guest.kind is GuestKind.INCUS else plan_containers.plan(guest)


def texts(guest: Guest, container: Container = NEW) -> dict[str, str]:
    """Return the plan's texts by destination."""
    return {piece.into: piece.text for piece in plan(guest, container).pieces}


def test_lxc_gets_the_directory_of_the_socket_below_a_run_of_its_own() -> None:
    """/run is mounted first; otherwise systemd would mount it over the socket."""
    assert texts(Guest(GuestKind.LXC, "web1", Attachment.SOCKET)) == {
        "/var/lib/lxc/web1/config": (
            "# drawwell: guest web1 begins; remove it with 'drawwell guest apply lxc web1 --remove'\n"
            "lxc.mount.entry = tmpfs run tmpfs nosuid,nodev,mode=755,size=20%,create=dir 0 0\n"
            "lxc.mount.entry = /run/drawwell/guests/web1 run/drawwell none bind,ro,create=dir,optional 0 0\n"
            "# drawwell: guest web1 ends\n"
        )
    }


def test_lxc_mounts_no_second_run() -> None:
    """If the configuration or an include mounts /run, the plan does not."""
    own = "lxc.include = /x.conf\n"
    container = plan_lxc.container_of("/c/web1", own, lambda _: "lxc.mount.entry = tmpfs run tmpfs rw 0 0")
    assert container.run_mounted
    assert "tmpfs" not in plan_lxc.block(Guest(GuestKind.LXC, "web1", Attachment.SOCKET), container).text()


def test_privileged_lxc_gets_keys_of_both_cgroups_and_a_hook() -> None:
    """The hook uses vendor and product, not a ttyACM number of the host."""
    planned = texts(Guest(GuestKind.LXC, "web1", Attachment.DEVICE))
    config, hook = planned["/var/lib/lxc/web1/config"], planned["/var/lib/lxc/web1/drawwell-autodev"]
    assert "lxc.cgroup2.devices.allow = c 166:* rwm\nlxc.cgroup.devices.allow = c 166:* rwm\n" in config
    assert "lxc.autodev = 1\nlxc.hook.autodev = /var/lib/lxc/web1/drawwell-autodev\n" in config
    assert "= 1d50:6086 ]" in hook
    assert hook.count("ttyACM") == hook.count("ttyACM0") == 3  # the comment, the message, the name in there


def test_a_named_stick_is_mounted_into_lxc_by_its_link() -> None:
    """The link is resolved at each start; allow keys accompany the entry."""
    link = "/dev/serial/by-path/pci-0000:00:1d.0-usb-0:1.2:1.0"
    (config,) = texts(Guest(GuestKind.LXC, "web1", Attachment.DEVICE, device=link)).values()
    assert f"lxc.mount.entry = {link} dev/ttyACM0 none bind,create=file,optional 0 0\n" in config
    assert "lxc.cgroup2.devices.allow = c 166:* rwm" in config
    assert "hook" not in config


def test_unprivileged_lxc_gets_the_entry_and_its_root_the_stick() -> None:
    """There is no hook, no needless allow key, and the rule names the owner."""
    planned = texts(Guest(GuestKind.LXC, "web1", Attachment.DEVICE), MAPPED)
    assert "devices.allow" not in planned["/var/lib/lxc/web1/config"]
    assert "lxc.mount.entry = /dev/onerng dev/ttyACM0 " in planned["/var/lib/lxc/web1/config"]
    assert planned["/etc/udev/rules.d/79-drawwell-onerng.rules"].endswith(
        'SYMLINK+="onerng", OWNER="100000"\n'
    )


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("lxc.uts.name = x\n", (None, None, False)),
        ("lxc.cgroup2.devices.deny = a\n", (None, None, True)),
        ("lxc.cgroup2.devices.deny = a\nlxc.cgroup2.devices.deny =\n", (None, None, False)),
        ("lxc.idmap = u 0 100000 65536\nlxc.idmap = g 0 200000 65536\n", (100000, 200000, False)),
        ("lxc.id_map = b 0 100000 65536\n", (100000, 100000, False)),
        ("lxc.idmap = u 1000 1000 1\n#lxc.idmap = u 0 5 6\n", (None, None, False)),
        ("lxc.idmap = u 0 100000 0\nlxc.idmap = nonsense\n", (None, None, False)),
    ],
)
def test_a_configuration_names_its_root_s_ids_and_what_is_denied(config: str, expected: object) -> None:
    """Old and new keys are read in order; comments and nonsense are ignored."""
    found = plan_lxc.container_of("/c/web1", config, lambda _: "")
    assert (found.uid, found.gid, found.closed) == expected


def test_an_include_that_includes_itself_ends() -> None:
    """A loop of includes is read only a few times."""
    assert not plan_lxc.container_of("/c/web1", "lxc.include = x\n", lambda _: "lxc.include = x\n").closed


def test_incus_gets_a_disk_and_the_keys_of_the_next_start() -> None:
    """The disk appears at once; raw.lxc mounts /run, then the directory."""
    planned = texts(Guest(GuestKind.INCUS, "web1", Attachment.SOCKET))
    assert planned["command"] == (
        "incus config device add web1 drawwell disk source=/run/drawwell/guests/web1 path=/run/drawwell "
        "readonly=true required=false\n"
    )
    raw = planned["incus config edit: raw.lxc"].splitlines()
    assert [line.split()[2:4] for line in raw[1:-1]] == [
        ["tmpfs", "run"],
        ["/run/drawwell/guests/web1", "run/drawwell"],
    ]


def test_incus_knows_the_stick_by_vendor_and_product() -> None:
    """unix-hotplug is for the only stick, unix-char for a named link."""
    assert plan_incus.device(Guest(GuestKind.INCUS, "web1", Attachment.DEVICE)) == {
        "type": "unix-hotplug", "vendorid": "1d50", "productid": "6086", "required": "false",
        "gid": "20", "mode": "0660",
    }  # fmt: skip
    named = plan_incus.device(
        Guest(GuestKind.INCUS, "web1", Attachment.DEVICE, device="/dev/serial/by-path/a:b")
    )
    assert (named["type"], named["source"], named["path"]) == (
        "unix-char",
        "/dev/serial/by-path/a:b",
        "/dev/ttyACM0",
    )


def test_incus_takes_no_stick_from_elsewhere() -> None:
    """Incus refuses a source outside /dev, so the plan refuses it first."""
    with pytest.raises(UsageError, match="only devices in /dev"):
        plan(Guest(GuestKind.INCUS, "web1", Attachment.DEVICE, device="/run/stick"))


def test_docker_gets_an_option_and_a_compose_file() -> None:
    """Docker does not create a missing directory, which root would own."""
    planned = texts(Guest(GuestKind.DOCKER, "web1", Attachment.SOCKET))
    assert planned["paste"] == (
        "docker run --name web1 "
        "--mount type=bind,source=/run/drawwell/guests/web1,target=/run/drawwell,readonly IMAGE\n"
    )
    assert planned["drawwell-web1.yaml"].endswith(
        'services:\n  "web1":\n    volumes:\n      - type: bind\n        source: "/run/drawwell/guests/web1"\n'
        '        target: "/run/drawwell"\n        read_only: true\n        bind:\n          create_host_path: false\n'
    )


def test_podman_gets_an_option_and_lines_for_its_unit() -> None:
    """The unit starts after the broker, whose directory it mounts."""
    planned = texts(Guest(GuestKind.PODMAN, "web1", Attachment.SOCKET))
    assert planned["/etc/containers/systemd/web1.container"].splitlines()[1:-1] == [
        "[Unit]", "Wants=drawwell-broker.service", "After=drawwell-broker.service",
        "[Container]", "Volume=/run/drawwell/guests/web1:/run/drawwell:ro",
    ]  # fmt: skip
    device = texts(Guest(GuestKind.PODMAN, "web1", Attachment.DEVICE))
    assert "\nAddDevice=-/dev/onerng:/dev/ttyACM0\n" in device["/etc/containers/systemd/web1.container"]
    assert device["paste"] == "podman run --name web1 --device /dev/onerng:/dev/ttyACM0 IMAGE\n"


@pytest.mark.parametrize("kind", CONTAINERS)
def test_every_plan_notes_that_the_kernel_is_shared(kind: GuestKind) -> None:
    """The plan states that most containers need nothing."""
    for via in (Attachment.SOCKET, Attachment.DEVICE):
        assert any("Most containers need nothing" in note for note in plan(Guest(kind, "web1", via)).notes)


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.parametrize(
    "domain",
    [
        "../web1",
        "web1/..",
        "-web1",
        ".",
        "we b1",
        'web"1',
        "web'1",
        "web$1",
        "web`1",
        "web;1",
        "web\n1",
        "wéb1",
        "w" * 64,
    ],
)
def test_a_name_that_means_something_to_a_shell_or_a_file_is_refused(kind: GuestKind, domain: str) -> None:
    """A name with special characters is refused rather than quoted."""
    with pytest.raises(UsageError, match="is not a container name"):
        plan(Guest(kind, "web1", Attachment.SOCKET, domain=domain))


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.parametrize(
    "run_dir", ["run", "/run/../etc", "/run//x", "/run/a b", '/run/"', "/run/$x", "/run/a,b", "/run/\n"]
)
def test_a_path_that_means_something_to_some_format_is_refused(kind: GuestKind, run_dir: str) -> None:
    """Blanks, commas, quotes and ".." are refused, with a hint."""
    with pytest.raises(UsageError, match="cannot be written safely") as caught:
        plan(Guest(kind, "web1", Attachment.SOCKET, run_dir=run_dir))
    assert caught.value.hint


@pytest.mark.parametrize("kind", CONTAINERS)
def test_a_stick_by_its_number_is_refused(kind: GuestKind) -> None:
    """ttyACM0 may be a modem tomorrow."""
    with pytest.raises(UsageError, match="is not a stable name"):
        plan(Guest(kind, "web1", Attachment.DEVICE, device="/dev/ttyACM0"))


@pytest.mark.parametrize("kind", CONTAINERS)
def test_a_container_has_no_virtio(kind: GuestKind) -> None:
    """A virtual machine's attachment is refused; the hint has a container's."""
    with pytest.raises(UsageError, match="does not support --via virtio") as caught:
        plan(Guest(kind, "web1", Attachment.VIRTIO))
    assert "--via socket or --via device" in (caught.value.hint or "")
