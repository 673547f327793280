"""A domain's XML: finding drawwell's devices, and removing them."""

import pytest

from drawwell.errors import GuestUnavailable
from drawwell.guests.libvirt.audit import facts, owner_of, shared_sockets
from drawwell.guests.libvirt.domain_xml import (
    Domain,
    Record,
    attribute,
    children,
    compact,
    described,
    element,
    source_path,
)
from drawwell.guests.model import GuestFacts, GuestVerdict

EGD = (
    "<rng model='virtio'>{rate}<backend model='egd' type='unix'><source mode='connect' path='{path}'>{again}</source>"
    "</backend><alias name='rng0'/><address type='pci' bus='0x06'/></rng>"
)
AGAIN = "<reconnect enabled='yes' timeout='1'/>"


def domain(devices: str = "", more: str = "") -> Domain:
    return Domain(f"<domain type='qemu'><name>vm</name>{more}<devices>{devices}</devices></domain>")


def egd(path: str = "/run/drawwell/guests/a/egd.sock", rate: str = "", again: str = AGAIN) -> str:
    return EGD.format(path=path, rate=rate, again=again)


def verdicts(found: GuestFacts) -> dict[str, GuestVerdict]:
    return {each.what: each.verdict for each in found.findings}


@pytest.mark.parametrize(
    "text",
    ["", "<domain", "<network/>", "<domain><name>x</name></domain>", "<domain><devices/></domain>",
     "<!DOCTYPE d [<!ENTITY a 'b'>]><domain><name>&a;</name><devices/></domain>"],
)  # fmt: skip
def test_xml_that_is_not_a_domain_is_refused(text: str) -> None:
    """Other XML, or XML with entities, without name or devices, is refused."""
    with pytest.raises(GuestUnavailable, match="cannot be parsed"):
        Domain(text)


def test_a_device_is_found_by_what_we_wrote_in_it() -> None:
    """The path identifies a device, not libvirt's aliases and addresses."""
    ours = element(
        "rng", {"model": "virtio"}, element("backend", {"model": "egd"}, element("source", {"path": "/a"}))
    )
    assert len(domain(egd("/a")).like(ours)) == 1
    assert domain(egd("/b")).like(ours) == []


def test_a_guest_s_devices_are_those_of_its_alias_and_its_paths() -> None:
    """Devices of the owner or of a guest with a longer name are not found."""
    ours = "<rng model='virtio'><backend model='builtin'/><alias name='ua-drawwell-a'/></rng>"
    theirs = "<rng model='virtio'><backend model='builtin'/><alias name='rng1'/></rng>"
    found = domain(ours + theirs + egd("/run/g/a/egd.sock") + egd("/run/g/ab/egd.sock")).of_guest(
        "ua-drawwell-a", ("/run/g/a/egd.sock",)
    )
    assert [(attribute(each, "alias", "name"), source_path(each)) for each in found] == [
        ("ua-drawwell-a", ""),
        ("rng0", "/run/g/a/egd.sock"),
    ]


def test_what_a_domain_had_is_kept_in_the_record_and_comes_back_as_it_was() -> None:
    """The record has the old XML and address, without a runtime alias."""
    rng = (
        "<rng model='virtio'>\n  <backend model='random'>/dev/urandom</backend>\n  <alias name='rng0'/></rng>"
    )
    one = domain(rng)
    (device,) = one.devices("rng")
    one.write_record(Record("web01", "virtio", replaced=(compact(device),)))
    record = Domain(str(one)).record
    assert record is not None
    assert record.replaced == ('<rng model="virtio"><backend model="random">/dev/urandom</backend></rng>',)
    assert described(device) == "<rng> (random, /dev/urandom)"


def test_a_controller_goes_when_nothing_sits_on_it() -> None:
    """Controllers that another device now uses are kept."""
    ports = "".join(f"<controller type='pci' index='{n}' model='pcie-root-port'/>" for n in (5, 6, 7))
    found = domain(ports + egd())
    found.drop_controllers(("6", "7"))
    assert found.controllers == {"5", "6"}


def test_the_record_goes_without_a_trace() -> None:
    """An empty <metadata> is also removed; other records stay unchanged."""
    theirs = "<metadata><v:x xmlns:v='urn:v'/></metadata>"
    for before in (domain(), domain(more=theirs)):
        changed = Domain(str(before))
        changed.write_record(Record("a", "virtio"))
        assert changed.record == Record("a", "virtio")
        again = Domain(str(changed))
        again.write_record(None)
        assert str(again) == str(before)


def test_a_state_of_the_agent_is_read() -> None:
    """The states are: no channel, a channel, and a connected agent."""
    channel = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'{}/></channel>"
    assert [domain(each).agent for each in ("", channel.format(""), channel.format(" state='connected'"))] == [
        "", "defined", "connected",
    ]  # fmt: skip


def test_the_audit_of_a_good_domain() -> None:
    """With the plan and the agent, all findings hold."""
    rate = "<rate bytes='640' period='8000'/>"
    channel = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
    found = facts(domain(egd(rate=rate) + channel, "<genid>x</genid>"), running=True, shared=frozenset())
    assert set(verdicts(found).values()) == {GuestVerdict.HOLDS}
    assert (found.backend, found.limit) == (
        "rng-egd, /run/drawwell/guests/a/egd.sock", "640 bytes per 8000 ms",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("devices", "what"),
    [
        ("", "the machine has virtio-rng"),
        (
            "<rng model='virtio'><backend model='random'>/dev/ttyACM0</backend></rng>",
            "the backend is safe",
        ),
        (egd(again=""), "the machine survives a restart of the broker"),
        (egd(rate="<rate bytes='1000'/>"), "the limit lets bytes through"),
        (egd(), "the machine has a VM generation ID"),
        (egd(), "the host can reseed copies of the machine"),
    ],
)
def test_each_fault_fails_its_finding(devices: str, what: str) -> None:
    """No generator, the stick, no reconnect or a bad limit: each fails."""
    assert verdicts(facts(domain(devices), running=False, shared=frozenset()))[what] is GuestVerdict.FAILS


def test_a_clone_that_kept_its_socket_fails() -> None:
    """Two domains at one socket are one consumer; /dev/urandom can be shared."""
    host = "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
    shared = shared_sockets(
        [domain(egd("/a")), domain(egd("/a")), domain(egd("/b")), domain(host), domain(host)]
    )
    assert shared == {"/a"}
    assert (
        verdicts(facts(domain(egd("/a")), running=True, shared=shared))["the socket is not shared"]
        is GuestVerdict.FAILS
    )


CAPABILITIES = (
    "<capabilities><host><secmodel><model>none</model></secmodel><secmodel><model>dac</model>"
    "<baselabel type='kvm'>+1:+2</baselabel><baselabel type='qemu'>{}</baselabel></secmodel></host></capabilities>"
)


def test_the_socket_s_owner_is_who_runs_qemu() -> None:
    """The owner is the domain's label, else libvirt's default, else none."""
    own = "<seclabel type='static' model='dac'><label>+7:+8</label></seclabel>"
    assert owner_of(domain(), CAPABILITIES.format("+64055:+107")) == (64055, 107)
    assert owner_of(domain(), CAPABILITIES.format("root:root")) == (0, 0)
    assert owner_of(domain(more=own), CAPABILITIES.format("+64055:+107")) == (7, 8)
    assert owner_of(domain(), "<capabilities/>") == (None, None)
    with pytest.raises(GuestUnavailable, match="is not a user"):
        owner_of(domain(), CAPABILITIES.format("no-such-user:x"))


def test_children_are_those_right_below() -> None:
    """A nested tag is not a child."""
    assert [each.tagName for each in children(domain(egd()).root, "name", "rng")] == ["name"]
