"""``drawwell guest``: refusals before any change, and the changes."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.daemon import Daemon, StickThread, command

VIRTIO = "-device virtio-rng-pci,id=drawwell-vm1,rng=drawwell-vm1"


@pytest.fixture
def alone(folder: Path) -> Path:
    """Return a configuration with its own run directory, without a broker."""
    config = folder / "drawwell.toml"
    config.write_text(
        f'[broker]\nname = "well"\nstate_dir = "{folder}/state"\nrun_dir = "{folder}/run"\n'
        f'[[source]]\nname = "stick"\npath = "{folder}/stick"\nverify_firmware = "off"\n'
    )
    return config


@pytest.fixture
def broker(folder: Path, alone: Path) -> Iterator[Path]:
    """Return the same with a running broker."""
    with StickThread(folder / "stick"), Daemon("run", config=alone, log=folder / "log") as running:
        running.wait_for_text("healthy")
        yield alone


def guests(config: Path) -> list[dict[str, Any]]:
    return list(json.loads(command("guest", "list", "--json", config=config).stdout)["guests"])


NAMES = [
    "../etc",
    "a/b",
    "a'b",
    'a"b',
    "<a>",
    "a;b",
    "$(a)",
    "a b",
    "A",
    "-a",
    "a\nb",
    "a..b",
    "a,b",
    "",
    "x" * 64,
]
VERBS = [("plan", "qemu"), ("apply", "lxc"), ("verify", "libvirt"), ("reseed",), ("apply", "docker")]


@pytest.mark.parametrize(("name", "verb"), list(zip(NAMES, VERBS * 3, strict=True)), ids=repr)
def test_a_name_that_means_something_elsewhere_is_refused(
    alone: Path, name: str, verb: tuple[str, ...]
) -> None:
    """An unsafe name is refused first, with exit code 64 and a hint."""
    done = command("guest", *verb, "--json", "--", name, config=alone)
    assert done.returncode == 64, done.stderr
    assert json.loads(done.stderr)["hint"]
    assert done.stdout == ""
    assert not os.path.exists(alone.parent / "run")


@pytest.mark.parametrize(
    "argv",
    [
        ("--domain", "a;b"),
        ("--domain", "../b"),
        ("--domain", "<x/>"),
        ("--via", "socket"),
        ("--via", "usb", "--device", "1-1,id=x"),
        ("--device", "1-1"),
        ("--rate", "fast"),
        ("--quota", "4"),
    ],
)
def test_other_arguments_are_checked_too(alone: Path, argv: tuple[str, ...]) -> None:
    """A bad domain, attachment, stick or limit gives exit code 64 and a hint."""
    done = command("guest", "plan", "qemu", "vm1", *argv, config=alone)
    assert (done.returncode, "hint: " in done.stderr) == (64, True), done.stderr


@pytest.mark.slow
def test_a_plan_needs_no_broker_and_touches_nothing(alone: Path) -> None:
    """Every kind has a plan for each attachment, and creates no directory."""
    before = sorted(os.listdir(alone.parent))
    ways = {
        "qemu": ("virtio", "usb-virtual", "usb", "fifo", "builtin"),
        "libvirt": ("virtio", "usb-virtual", "usb", "fifo", "builtin"),
        **dict.fromkeys(("lxc", "incus", "docker", "podman"), ("socket", "device")),
    }
    for kind, each in ways.items():
        for via in each:
            done = command("guest", "plan", kind, "vm1", "--via", via, "--json", config=alone)
            assert done.returncode == 0, (kind, via, done.stderr)
            plan = json.loads(done.stdout)
            assert (plan["kind"], plan["via"], plan["name"]) == (kind, via, "vm1")
            assert all(piece["text"].endswith("\n") for piece in plan["pieces"]), (kind, via)
    assert sorted(os.listdir(alone.parent)) == before


def test_without_a_broker_nothing_is_applied(alone: Path) -> None:
    """apply and list exit with 69; verify reports the guest as unknown."""
    assert command("guest", "apply", "qemu", "vm1", config=alone).returncode == 69
    assert command("guest", "list", config=alone).returncode == 69
    verified = command("guest", "verify", "qemu", "vm1", config=alone)
    assert verified.returncode == 1
    assert "host side only" in verified.stdout


def test_stopped_software_is_reported_and_is_no_error(alone: Path) -> None:
    """audit reports a stopped daemon, and exits with 69 if its kind is given."""
    down = {"PATH": f"{alone.parent}/bin:{os.environ['PATH']}"}
    program = alone.parent / "bin" / "docker"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    program.chmod(0o755)
    every = command("guest", "audit", "--json", config=alone, env=down)
    assert "docker" in json.loads(every.stdout)["unanswered"]
    wrong = [f for g in json.loads(every.stdout)["guests"] for f in g["findings"] if f["verdict"] == "fails"]
    assert every.returncode == bool(wrong)
    assert "not checked: docker" in every.stderr
    assert command("guest", "audit", "docker", config=alone, env=down).returncode == 69
    assert command("guest", "audit", "--connect", "/x", config=alone, env=down).returncode == 64


@pytest.mark.slow
def test_an_unknown_name_makes_no_guest(broker: Path) -> None:
    """An unknown guest exits with 69 and a hint; --new adds it."""
    program = broker.parent / "bin" / "podman"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho vm1-web\n")
    program.chmod(0o755)
    path = {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    for kind in ("qemu", "podman", "nspawn"):
        done = command("guest", "apply", kind, "vm1-wbe", config=broker, env=path)
        assert (done.returncode, "add --new" in done.stderr, done.stdout) == (69, True, ""), done
        assert ("Did you mean vm1-web?" in done.stderr) == (kind == "podman")
    assert guests(broker) == []
    assert command("guest", "apply", "podman", "vm1-wbe", "--new", config=broker, env=path).returncode == 0
    assert [each["name"] for each in guests(broker)] == ["vm1-wbe"]


@pytest.mark.slow
def test_a_container_to_create_again_is_added_with_new(broker: Path) -> None:
    """A refusal leaves the broker as it was; the hint can be followed."""
    described = '[{"Name": "vm1", "Config": {}, "HostConfig": {}, "State": {"Running": true}}]'
    program = broker.parent / "bin" / "podman"
    program.parent.mkdir()
    existing = f"#!/bin/sh\n[ $1 = container ] && echo '{described}' || echo vm1\n"
    program.write_text(existing)
    program.chmod(0o755)
    path = {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    refused = command("guest", "apply", "podman", "vm1", config=broker, env=path)
    assert (refused.returncode, "run this again with --new" in refused.stderr) == (69, True), refused
    assert guests(broker) == []
    program.write_text("#!/bin/sh\n")
    added = command("guest", "apply", "podman", "vm1", "--new", config=broker, env=path)
    assert added.returncode == 0, added
    source = broker.parent / "run/guests/vm1"
    assert (source.is_dir(), f"source={source}," in refused.stderr) == (True, True)
    program.write_text(existing)
    other = command("guest", "apply", "podman", "vm1", "--via", "device", config=broker, env=path)
    assert (other.returncode, [each["via"] for each in guests(broker)]) == (69, ["socket"]), other
    assert (source / "draw.sock").exists()


@pytest.mark.slow
def test_a_guest_is_added_changed_and_removed(broker: Path) -> None:
    """apply adds the guest once and changes its limits; --remove removes it."""
    added = command("guest", "apply", "qemu", "vm1", "--new", "--rate", "4KiB/s", config=broker)
    assert (added.returncode, "added guest vm1" in added.stdout) == (0, True), added.stderr
    assert VIRTIO in added.stderr
    again = command("guest", "apply", "qemu", "vm1", "--rate", "4KiB/s", config=broker)
    assert again.stdout == "vm1: nothing to change\n"
    changed = command("guest", "apply", "qemu", "vm1", "--quota", "1MiB/day", "-q", config=broker)
    assert (changed.stdout, changed.stderr) == ("changed guest vm1: quota 1MiB/day (broker)\n", "")
    (entry,) = guests(broker)
    assert (entry["rate"], entry["quota"], entry["connected"]) == ("4KiB/s", "1MiB/day", 0)
    for via in ("usb-virtual", "virtio"):  # possible because no machine is running
        moved = command("guest", "apply", "qemu", "vm1", "--via", via, "-q", config=broker)
        assert moved.stdout == f"changed guest vm1: via {via} (broker)\n"
    (entry,) = guests(broker)
    assert entry["socket"].endswith("/run/guests/vm1/egd.sock")
    assert "max-bytes=32832" in command("guest", "plan", "qemu", "vm1", config=broker).stdout
    removed = command("guest", "apply", "qemu", "vm1", "--remove", config=broker)
    assert removed.stdout == "removed guest vm1 and its consumer (broker)\n"
    assert guests(broker) == []
    assert (
        command("guest", "apply", "qemu", "vm1", "--remove", config=broker).stdout
        == "vm1: nothing to change\n"
    )


@pytest.mark.slow
def test_a_guest_that_never_ran_is_removed_without_a_source(folder: Path, alone: Path) -> None:
    """--remove works without a source if the guest never ran."""
    with Daemon("run", config=alone, log=folder / "log") as running:
        running.wait_for_text("retrying")
        assert command("guest", "apply", "qemu", "vm1", "--new", config=alone).returncode == 0
        # short: the wait cannot succeed
        done = command("guest", "apply", "qemu", "vm1", "--remove", "--timeout", "1s", config=alone)
        assert done.returncode == 0, done.stderr
        assert guests(alone) == []


@pytest.mark.slow
def test_what_the_host_refuses_leaves_no_guest(broker: Path) -> None:
    """If a machine cannot be reached, apply fails and adds no guest."""
    nowhere = str(broker.parent / "nowhere")
    done = command("guest", "apply", "qemu", "vm1", "--connect", nowhere, config=broker)
    assert (done.returncode, "cannot reach" in done.stderr) == (69, True), done.stderr
    assert guests(broker) == []


@pytest.mark.slow
def test_a_rate_above_the_supply_shows_how_it_is_shared(broker: Path) -> None:
    """The plan shows the equal share only if the rate exceeds the supply."""
    high = command("guest", "plan", "qemu", "vm1", "--rate", "1GiB/s", config=broker).stdout
    assert "equal shares" in high
    assert (
        "equal shares" not in command("guest", "plan", "qemu", "vm1", "--rate", "1B/s", config=broker).stdout
    )
