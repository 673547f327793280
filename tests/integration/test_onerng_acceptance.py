"""``onerng acceptance`` with a good and a faulty simulated device."""

import json
import subprocess
from pathlib import Path

import pytest

from drawwell.testing.waiting import DEADLINE_S
from support.daemon import PROGRAM, StickThread


def accept(link: Path, stick: StickThread, output: Path) -> tuple[int, dict]:
    """Answer like a person; unplug and replug the stick when requested."""
    command = [*PROGRAM, "onerng", "acceptance", str(link), "-o", str(output), "--seconds", "1"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        seen = ""
        for line in process.stderr:
            seen += line
            if "on, off, dim" in line:
                process.stdin.write("on\n")
            elif "press Enter" in line:
                process.stdin.write("\n")
            process.stdin.flush()
            if "then unplug the device" in line:
                stick.do("unplug")
            elif "then plug the device" in line:
                stick.do("replug")
        code = process.wait(DEADLINE_S)
    assert output.exists(), seen
    return code, json.loads(output.read_text())


@pytest.mark.slow
def test_the_simulated_device_is_as_assumed(tmp_path: Path) -> None:
    """All measurements agree; the file states that the device is simulated."""
    link = tmp_path / "onerng"
    with StickThread(link) as stick:
        _code, document = accept(link, stick, tmp_path / "seen.json")
    assert document["simulated"]
    seen = {each["what"]: each for each in document["observations"]}
    # a busy machine reads more slowly than the device sends
    differing = {what for what, each in seen.items() if each["differs"]} - {"rate in cmd0"}
    assert differing == set()
    assert len(seen) >= 20
    assert seen["node after unplugging"]["seen"] == "gone"


@pytest.mark.slow
def test_what_differs_is_named(tmp_path: Path) -> None:
    """A device with a wrong image is reported, and the exit code is 1."""
    link = tmp_path / "onerng"
    with StickThread(link, fault="bad-firmware") as stick:
        code, document = accept(link, stick, tmp_path / "seen.json")
    assert code == 1
    assert "signature" in {each["what"] for each in document["observations"] if each["differs"]}
