"""``drawwell assess`` and ``evidence``: errors, and the files."""

import json
import os
import stat
import subprocess
import sys

import pytest

from drawwell.testing.sick import good

NOISE = good(1).read(20_000)


@pytest.fixture
def run(tmp_path):
    """Run drawwell in an empty directory, without a broker."""
    (tmp_path / "c.toml").write_text(
        f'[broker]\nrun_dir = "{tmp_path}/run"\nstate_dir = "{tmp_path}/state"\n'
    )

    def _run(*args, data=b"", program=("-m", "drawwell")):
        return subprocess.run(
            [sys.executable, *program, *args], cwd=tmp_path, input=data, capture_output=True, check=False,
            env=os.environ | {"DRAWWELL_CONFIG": str(tmp_path / "c.toml")},
        )  # fmt: skip

    (tmp_path / "noise.bin").write_bytes(NOISE)
    (tmp_path / "hex.txt").write_text(NOISE.hex())
    (tmp_path / "empty").touch()
    (tmp_path / "stuck").write_bytes(bytes(5000))
    return _run


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("assess", "empty"), 65, "empty"),
        (("assess", "stuck"), 65, "all samples are 0"),
        (("assess", "."), 65, "Is a directory"),
        (("assess", "./none.bin"), 65, "No such file"),
        (("assess", "unknown"), 69, "unknown"),
        (("assess", "/dev/drawwell-none"), 69, "/dev/drawwell-none"),
        (("assess", "noise.bin", "--bits", "4"), 65, "wider than the declared 4"),
        (("assess", "noise.bin", "--restart", "noise.bin"), 65, "restart matrix"),
        (("assess", "noise.bin", "--report", "x.pdf"), 64, "must end in .html or .json"),
        (("assess", "noise.bin", "--report", "no/x.html"), 69, "cannot write"),
        (("assess", "noise.bin", "more"), 64, "more is not a file"),
        (
            ("assess", "hex.txt", "--claim", "6"),
            65,
            "hex.txt is text (hexadecimal digits) and was not assessed",
        ),
        (("assess", "noise.bin", "--format", "octal"), 64, "unknown format"),
        (("assess", "noise.bin", "--format", "hex"), 65, "not in the format hex"),
        (("assess", "--claim", "9"), 64, "--claim"),
        (("assess", "conditioning", "1", "2"), 64, "three integers"),
        (("assess", "conditioning", "256", "256", "256", "300"), 64, "h_in"),
        (("evidence",), 64, "no output folder"),
        (("evidence", "-o", "noise.bin"), 64, "already exists"),
        (("evidence", "--verify", "."), 65, "not an evidence folder"),
    ],
)
def test_bad_input_is_an_error_with_a_hint(run, tmp_path, args, code, message):
    """Bad input gives a message, a hint and an exit code, and no file."""
    before = sorted(os.listdir(tmp_path))
    done = run(*args)
    printed = done.stderr.decode()
    assert done.returncode == code, printed
    assert message in printed
    assert "hint: " in printed
    assert "Traceback" not in printed
    assert done.stdout == b""
    assert sorted(os.listdir(tmp_path)) == before


def test_a_file_is_assessed_with_reports(run, tmp_path):
    """The result is one JSON document, equal to the .json report."""
    done = run("assess", "noise.bin", "--claim", "5", "--json", "--report", "r.html", "--report", "r.json")
    assert done.returncode == 0, done.stderr.decode()
    document = json.loads(done.stdout)
    assert document == json.loads((tmp_path / "r.json").read_text())
    assert document["subject"]["samples"] == len(NOISE)
    assert 5 < document["non_iid"]["min_entropy"] < 8
    assert (tmp_path / "r.html").read_text().endswith("</html>\n")


def test_several_files_are_judged_in_one_table(run):
    """Each file has its line and its assessment; --format applies to text."""
    done = run("assess", "hex.txt", "hex.txt", "--format", "hex", "--json")
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)["files"]
    alone = json.loads(run("assess", "noise.bin", "--json").stdout)
    assert [each["subject"]["samples"] for each in found] == [len(NOISE)] * 2
    assert found[0]["non_iid"]["min_entropy"] == alone["non_iid"]["min_entropy"]


def test_less_than_the_claim_is_exit_1(run):
    """Noise below its claim gives exit code 1."""
    done = run("assess", "-", "--claim", "7.9", data=NOISE)
    assert done.returncode == 1, done.stderr.decode()
    assert b"! Each sample of 8 bits has" in done.stdout


def test_conditioning_is_computed_without_numpy(run):
    """The conditioning formula needs only the standard library."""
    blocked = "import sys; sys.modules['numpy'] = None; from drawwell.cli import main; sys.exit(main())"
    done = run("assess", "conditioning", "512", "256", "256", "320", program=("-c", blocked))
    assert done.returncode == 0, done.stderr.decode()
    assert b"full entropy" in done.stdout


def test_a_missing_numpy_is_named_with_the_packages(run):
    """Without NumPy, the error names the packages to install."""
    blocked = "import sys; sys.modules['numpy'] = None; from drawwell.cli import main; sys.exit(main())"
    done = run("assess", "noise.bin", program=("-c", blocked))
    assert done.returncode == 69
    assert b"NumPy, which is not installed" in done.stderr
    assert b"python3-numpy" in done.stderr


def test_a_replayed_source_is_captured_and_kept(run, tmp_path):
    """A configured source is opened, its samples kept (0600), its claim used."""
    config = tmp_path / "c.toml"
    config.write_text(
        config.read_text() + '[[source]]\nname = "tape"\ndriver = "replay"\n'
        f'path = "{tmp_path}/noise.bin"\nmin_entropy = 5\n'
    )
    done = run("assess", "tape", "--samples", "20000", "--keep", "kept.bin")
    assert done.returncode == 0, done.stderr.decode()
    kept = tmp_path / "kept.bin"
    assert kept.read_bytes() == NOISE
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert b"which supports the claim of 5" in done.stdout


def test_a_source_that_dies_during_the_capture_leaves_nothing(run, tmp_path):
    """A recording that is too short is a source error and leaves no file."""
    config = tmp_path / "c.toml"
    config.write_text(
        config.read_text() + '[[source]]\nname = "tape"\ndriver = "replay"\n'
        f'path = "{tmp_path}/noise.bin"\nmin_entropy = 5\n'
    )
    done = run("assess", "tape", "--samples", "30000", "--keep", "kept.bin", "--report", "r.html")
    assert done.returncode == 69, done.stderr.decode()
    assert not (tmp_path / "kept.bin").exists()
    assert not (tmp_path / "r.html").exists()


@pytest.mark.slow
def test_evidence_of_a_tape_is_whole_and_signed(run, tmp_path):
    """The folder is private and verifies; a changed byte fails."""
    (tmp_path / "tape.bin").write_bytes(good(9).read(2_000_000))
    config = tmp_path / "c.toml"
    config.write_text(
        config.read_text() + '[[source]]\nname = "tape"\ndriver = "replay"\n'
        f'path = "{tmp_path}/tape.bin"\nmin_entropy = 5\n'
    )
    done = run("evidence", "tape", "-o", "folder")
    assert done.returncode == 0, done.stderr.decode()
    folder = tmp_path / "folder"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "folder.key.pem").stat().st_mode) == 0o600
    assert json.loads((folder / "MANIFEST.json").read_text())["restarted_by"] == "reopen"
    assert json.loads((folder / "assessment.json").read_text())["restart"]["passed"] is True
    assert "permanent: repeat test" in (folder / "induced-failures.log").read_text()
    assert run("evidence", "--verify", "folder").returncode == 0
    raw = folder / "raw.bin"
    raw.write_bytes(b"x" + raw.read_bytes()[1:])
    assert run("evidence", "--verify", "folder").returncode == 77
