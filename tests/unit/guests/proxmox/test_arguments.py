"""Our options in a machine's args, and the owner's text around them."""

import shlex

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from drawwell.errors import UsageError
from drawwell.guests.proxmox.arguments import with_ours, without_ours

IDS = {"drawwell-web01"}
OURS = "-chardev socket,id=drawwell-web01,path='/a b' -device virtio-rng-pci,id=drawwell-web01,period=1"


@given(st.text("-ab=, \t\\'\"", max_size=20))
@example("")
@example('-fw_cfg "name=opt/x,string=a b"')
@example("-device  pcie-root-port,id=mine ")
@example("-a 'it'\"'\"'s' b\\ c\\\\")
def test_the_owners_text_comes_back(args: str) -> None:
    """Quotes and blanks stay, however they are written."""
    assume(args == args.lstrip())  # Proxmox reads no blanks there
    try:
        shlex.split(args)
    except ValueError:
        with pytest.raises(UsageError, match="cannot be split into tokens"):
            without_ours(args, IDS)
        return
    assert without_ours(args, IDS) == args
    both = with_ours(args, OURS)
    assert shlex.split(both) == shlex.split(args) + shlex.split(OURS)
    assert without_ours(both, IDS) == args


@pytest.mark.parametrize(
    ("args", "left"),
    [
        (f"{OURS} -b", "-b"),
        (f'-a  "b" {OURS} -c', '-a  "b" -c'),
        (f"-x id=drawwell-web012 {OURS}", "-x id=drawwell-web012"),
        (OURS.replace(" -device", " -m  1 -device"), "-m  1"),
    ],
)
def test_what_the_owner_added_later_stays(args: str, left: str) -> None:
    """Text before, after and between our options stays."""
    assert without_ours(args, IDS) == left
