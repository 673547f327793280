"""The settings files of systemd-nspawn, and finding its containers."""

from pathlib import Path

import pytest

from drawwell.errors import GuestUnavailable
from drawwell.guests.model import Attachment, Guest, GuestKind
from drawwell.guests.nspawn import Nspawn

WEB = Guest(GuestKind.NSPAWN, "web1", Attachment.SOCKET)
OWN = "[Network]\nVirtualEthernet=no\n"


def process(proc: Path, number: int, command: list[str], child: int) -> None:
    """Create a process as the kernel shows it."""
    folder = proc / str(number) / "task" / str(number)
    folder.mkdir(parents=True)
    (proc / str(number) / "cmdline").write_text("\0".join(command) + "\0")
    (folder / "children").write_text(f"{child} ")


def test_a_file_of_its_own_is_made_and_goes_again(tmp_path: Path) -> None:
    """If there are no settings, a new file is created; --remove deletes it."""
    nspawn = Nspawn(str(tmp_path / "nspawn"), str(tmp_path))
    assert len(nspawn.apply(WEB)) == 1
    text = (tmp_path / "nspawn" / "web1.nspawn").read_text()
    assert "[Files]\nBindReadOnly=/run/drawwell/guests/web1:/run/drawwell\n" in text
    assert nspawn.apply(WEB) == []
    assert [(each.name, "drawwell" in each.backend) for each in nspawn.audit()] == [("web1", True)]
    assert len(nspawn.remove(WEB)) == 1
    assert list((tmp_path / "nspawn").iterdir()) == []
    assert nspawn.remove(WEB) == []


@pytest.mark.parametrize("there", ["machines/web1", "machines/web1.raw", "nspawn/web1.nspawn"])
def test_a_container_is_known_by_its_files(tmp_path: Path, there: str) -> None:
    """A container needs a directory, an image or settings, or is refused."""
    nspawn = Nspawn(str(tmp_path / "nspawn"), str(tmp_path), str(tmp_path / "machines"))
    with pytest.raises(GuestUnavailable, match="no container web1"):
        nspawn.require(WEB)
    (tmp_path / there).parent.mkdir()
    (tmp_path / there).touch()
    nspawn.require(WEB)


@pytest.mark.parametrize("own", [OWN, ""])
def test_settings_that_are_there_stay(tmp_path: Path, own: str) -> None:
    """The block is appended, and removed byte for byte."""
    settings = tmp_path / "web1.nspawn"
    settings.write_text(own)
    nspawn = Nspawn(str(tmp_path), str(tmp_path))
    nspawn.apply(WEB)
    assert settings.read_text().startswith(own + "# drawwell: guest web1 begins")
    nspawn.remove(WEB)
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("web1.nspawn", own)]


@pytest.mark.parametrize(
    "arguments", [["-D", "/x/web1"], ["--directory=/y", "--machine=web1"], ["-M", "web1"]]
)
def test_its_root_is_found_by_its_process(tmp_path: Path, arguments: list[str]) -> None:
    """With private users, the root's ID comes from the running container."""
    process(tmp_path, 40, ["/usr/bin/systemd-nspawn", *arguments, "-b"], 41)
    (tmp_path / "41").mkdir()
    (tmp_path / "41" / "uid_map").write_text("         0  524288      65536\n")
    assert Nspawn(str(tmp_path), str(tmp_path)).owner(WEB) == (524288, 524288)


def test_one_that_does_not_run_has_no_way_in(tmp_path: Path) -> None:
    """A stopped container cannot be entered, and has the host's root."""
    nspawn = Nspawn(str(tmp_path), str(tmp_path))
    assert nspawn.owner(WEB) == (None, None)
    with pytest.raises(GuestUnavailable, match="is not running"):
        nspawn.inside(WEB)
