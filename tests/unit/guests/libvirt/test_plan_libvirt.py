"""The plan for libvirt: every attachment, with escaped values."""

import shlex
import shutil
import subprocess
from pathlib import Path
from xml.dom import minidom

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawwell.errors import UsageError
from drawwell.guests.libvirt import plan as plan_libvirt
from drawwell.guests.libvirt.domain_xml import Domain, Record, holds, parsed, source_path, written
from drawwell.guests.model import ATTACHMENTS, Attachment, Guest, GuestKind, Plan
from drawwell.guests.qemu.plan import PERIOD_MS, REQUEST_BYTES
from drawwell.units import Allowance

MACHINE = ATTACHMENTS[GuestKind.LIBVIRT]
DOMAIN = (
    "<domain type='qemu'><name>x</name><memory>65536</memory><os><type arch='x86_64'>hvm</type></os>"
    "<devices></devices></domain>"
)


def guest(via: Attachment = Attachment.VIRTIO, rate: Allowance | None = None, **more: str) -> Guest:
    return Guest(GuestKind.LIBVIRT, "web01", via, rate=rate, **more)


def piece(plan: Plan, into: str) -> str:
    return next(each.text for each in plan.pieces if each.into == into)


@pytest.mark.parametrize("via", MACHINE)
@pytest.mark.skipif(not shutil.which("virt-xml-validate"), reason="virt-xml-validate is not installed")
def test_libvirts_own_schema_accepts_a_domain_with_the_plan(via: Attachment, tmp_path: Path) -> None:
    """A domain with the device, generation ID and record is valid."""
    domain = Domain(DOMAIN)
    domain.add(
        plan_libvirt.device(guest(via, Allowance(1024, 1.0)), (1, 4) if via is Attachment.USB else None)
    )
    domain.add_generation_id()
    domain.write_record(Record("web01", via, genid=True))
    file = tmp_path / "domain.xml"
    file.write_text(str(domain))
    done = subprocess.run(["virt-xml-validate", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("via", MACHINE)
@pytest.mark.skipif(not shutil.which("virt-install"), reason="virt-install (virtinst) is not installed")
def test_virt_install_makes_the_same_device_of_its_options(via: Attachment) -> None:
    """virt-install creates the planned device and a generation ID."""
    options = shlex.split(piece(plan_libvirt.plan(guest(via, Allowance(64, 1.0))), "virt-install"))
    machine = ["--name", "x", "--memory", "64", "--disk", "none", "--import", "--osinfo", "generic"]
    command = ["virt-install", "--connect", "test:///default", *machine, "--dry-run", "--print-xml", *options]
    made = Domain(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert len(made.like(plan_libvirt.device(guest(via, Allowance(64, 1.0))))) == 1
    assert made.has_generation_id


def test_the_limit_is_a_multiple_of_a_request_and_only_with_a_rate() -> None:
    """With a rate, the limit is above it; without a rate, there is none."""
    (element,) = plan_libvirt.device(guest(rate=Allowance(1000, 1.0))).getElementsByTagName("rate")
    assert element.getAttribute("period") == str(PERIOD_MS)
    limit = int(element.getAttribute("bytes"))
    assert (limit % REQUEST_BYTES, limit >= 1000 * PERIOD_MS // 1000) == (0, True)
    assert not plan_libvirt.device(guest(rate=None)).getElementsByTagName("rate")


def test_a_container_s_way_is_refused() -> None:
    """A machine is not given a container's way in."""
    with pytest.raises(UsageError, match="do not support --via socket"):
        plan_libvirt.device(guest(Attachment.SOCKET))


def test_the_stick_is_named_by_its_place_when_there_are_two() -> None:
    """One stick is found by its IDs, one of several also by its number."""
    one, two = (
        written(plan_libvirt.device(guest(Attachment.USB))),
        written(plan_libvirt.device(guest(Attachment.USB), (3, 7))),
    )
    assert ("<address" in one, '<address bus="3" device="7"/>' in two) == (False, True)
    assert 'startupPolicy="optional"' in one


def test_the_hook_runs_for_its_domain_alone(tmp_path: Path) -> None:
    """Only its own domain's start reseeds the guest; quoting is safe."""
    said = tmp_path / "said"
    fake = tmp_path / "drawwell"
    fake.write_text(f'#!/bin/sh\necho "$@" >>{said}\n')
    fake.chmod(0o755)
    script = plan_libvirt.hook(guest(domain="it's $(mine)")).replace("setsid -f drawwell", str(fake))
    script = script.replace(">/dev/null 2>&1", "")
    for arguments in (("other", "started"), ("it's $(mine)", "prepare"), ("it's $(mine)", "started")):
        subprocess.run(["sh", "-c", script, "hook", *arguments, "begin", "-"], check=True, input=b"<domain/>")
    assert said.read_text().split()[:3] == ["guest", "reseed", "web01"]
    assert len(said.read_text().splitlines()) == 1


def test_what_confines_guests_gets_a_rule_for_the_sockets() -> None:
    """AppArmor's rule has the sockets' directory; unsafe paths are refused."""
    assert (
        piece(plan_libvirt.plan(guest()), plan_libvirt.APPARMOR_FILE) == "/run/drawwell/guests/*/*.sock rw,\n"
    )
    with pytest.raises(UsageError, match="AppArmor"):
        plan_libvirt.plan(guest(run_dir="/run/x, /** rwx"))


TEXTS = st.text(max_size=60) | st.text(alphabet="<>&'\"/]-!\\ \n\t\0x", max_size=30)


@given(run_dir=TEXTS, via=st.sampled_from(MACHINE))
def test_no_path_leaves_its_place_in_the_xml(run_dir: str, via: Attachment) -> None:
    """Any path is preserved and adds no element, or is refused."""
    bytes_for = guest(via, run_dir=f"/{run_dir}")
    try:
        made = plan_libvirt.device(bytes_for)
    except UsageError:
        return
    domain = Domain(DOMAIN)
    domain.add(made)
    (read,) = Domain(str(domain)).devices()
    plain = plan_libvirt.device(guest(via))
    shape = [each.tagName for each in read.getElementsByTagName("*")]
    assert shape == [each.tagName for each in plain.getElementsByTagName("*")]
    assert holds(read, made)
    if bytes_for.socket:
        assert source_path(read) == bytes_for.socket


@given(name=TEXTS, via=TEXTS)
def test_no_name_leaves_its_place_in_the_record(name: str, via: str) -> None:
    """A record is preserved and adds no elements, or is refused."""
    domain = Domain(DOMAIN)
    try:
        domain.write_record(Record(name, via, genid=True, controllers=("5", "6")))
    except UsageError:
        return
    again = Domain(str(domain))
    assert again.record == Record(name, via, genid=True, controllers=("5", "6"))
    assert (
        len(minidom.parseString(str(domain)).getElementsByTagName("*"))
        == len(parsed(DOMAIN).getElementsByTagName("*")) + 3
    )
