"""The virtual OneRNG: commands that it obeys or refuses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawwell.onerng.image import UnreadableImage, read_image
from drawwell.onerng.replies import IdentityReply, ReplyParser, VersionReply
from drawwell.onerng.usb import virtual_id
from drawwell.onerng.virtual import VirtualOneRng

ID = virtual_id("guest1")


def after(*commands: str) -> VirtualOneRng:
    device = VirtualOneRng(ID)
    for command in commands:
        device.receive(command.encode())
    return device


def test_it_is_paused_at_power_on() -> None:
    """The virtual device streams only between cmdO and cmdo."""
    assert not after().streaming
    assert after("cmdO").streaming
    assert not after("cmdO", "cmdo").streaming


@pytest.mark.parametrize("mode", ["cmd1", "cmd2", "cmd3", "cmd6", "cmd7", "cmd9", "cmdF"])
def test_a_mode_that_cannot_be_honoured_is_silence(mode: str) -> None:
    """Modes for raw and radio noise send nothing, and this is shown."""
    device = after("cmdO", mode)

    assert (device.streaming, device.refusing, device.refusals) == (False, True, 1)
    device.receive(b"cmd0")
    assert (device.streaming, device.refusing) == (True, False)


@pytest.mark.parametrize("mode", ["cmd4", "cmd5"])
def test_a_mode_without_noise_is_silence_and_no_refusal(mode: str) -> None:
    """cmd4 and cmd5 are obeyed by silence."""
    device = after("cmdO", mode)

    assert (device.streaming, device.refusals) == (False, 0)


def test_version_and_id_are_answered_as_by_a_real_one() -> None:
    """cmdv and cmdI get one answer each, and none while paused."""
    parser, device = ReplyParser(), after("cmdv")
    assert device.take_reply() == b""
    device.receive(b"cmdO")
    assert parser.feed(device.take_reply()) == [VersionReply(3)]
    device.receive(b"cmdI")
    assert parser.feed(device.take_reply()) == [IdentityReply(ID)]
    assert device.take_reply() == b""


def test_no_image_is_made_up() -> None:
    """The answer to cmdX is text that no verifier accepts as an image."""
    device = after("cmdOcmdX")

    with pytest.raises(UnreadableImage):
        read_image(device.take_reply())
    assert device.refusals == 1


def test_a_broken_command_is_not_looked_at_again() -> None:
    """As in the firmware, "ccmdO" is lost, and cmdS takes a token."""
    assert after("ccmdO").paused
    assert not after("ccmdO", "\ncmdO").paused
    assert after("cmdS", "cmdO").paused


def test_ids_differ() -> None:
    """Each guest's device has a constant ID in the usual form."""
    assert virtual_id("guest1") != virtual_id("guest2")
    assert virtual_id("guest1") == ID
    assert len(ID) == 32


@given(st.binary(max_size=200), st.integers(0, 200))
def test_how_bytes_are_cut_makes_no_difference(data: bytes, at: int) -> None:
    """Chunks of any size and content have the same effect."""
    whole, cut = after(), after()
    whole.receive(data)
    cut.receive(data[:at])
    cut.receive(data[at:])

    assert (whole.paused, whole.mode, whole.refusals) == (cut.paused, cut.mode, cut.refusals)
    assert whole.take_reply() == cut.take_reply()
