"""``drawwell report-bug`` and ``drawwell migrate``."""

import json
import stat

from support.daemon import command

SECRET = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0"


def test_a_report_is_one_private_file(tmp_path) -> None:
    """The file has all sections and mode 0600, and overwrites no other."""
    file = tmp_path / "report.txt"
    done = command("report-bug", "-o", str(file))
    assert (done.returncode, done.stdout.strip()) == (0, str(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    titles = [line[3:] for line in file.read_text().splitlines() if line.startswith("== ")]
    assert titles == [
        "versions", "kernel", "devices", "other programs", "configuration", "status", "doctor", "units",
        "unit files", "journal",
    ]  # fmt: skip
    assert command("report-bug", "-o", str(file)).returncode == 64


def test_no_secret_of_the_configuration_is_reported(tmp_path) -> None:
    """Keys in an exec source's command line are masked."""
    config, file = tmp_path / "drawwell.toml", tmp_path / "report.txt"
    config.write_text(
        '[[source]]\nname = "s"\ndriver = "exec"\nmin_entropy = 1.0\n'
        f'command = ["reader", "--password=hunter2", "{SECRET}"]\n'
    )
    assert command("report-bug", "-o", str(file), config=config).returncode == 0
    text = file.read_text()
    assert 'driver = "exec"' in text
    assert "hunter2" not in text
    assert SECRET not in text


def test_a_broken_configuration_is_reported(tmp_path) -> None:
    """With a broken configuration, the report has its errors."""
    config, file = tmp_path / "drawwell.toml", tmp_path / "report.txt"
    config.write_text("[brokr]\n")
    assert command("report-bug", "-o", str(file), config=config).returncode == 0
    assert "did you mean [broker]" in file.read_text()


def test_migrate_answers_and_writes_only_to_output(tmp_path) -> None:
    """Each option has an answer; the configuration is printed or written."""
    old, new = tmp_path / "rng-tools", tmp_path / "migrated.toml"
    old.write_text('HRNGDEVICE=/dev/hwrng\nRNGDOPTIONS="-s 64 --frob"\n')
    printed = command("migrate", str(old))
    assert 'path = "/dev/hwrng"' in printed.stdout
    assert sorted(tmp_path.iterdir()) == [old]
    document = json.loads(command("migrate", "--json", str(old), "-o", str(new)).stdout)
    assert [answer["verdict"] for answer in document["answers"]] == ["kept", "kept", "not known"]
    assert command("config", "check", str(new)).returncode == 0
    assert command("migrate", str(old), "-o", str(new)).returncode == 64


def test_migrate_refuses_a_file_without_settings(tmp_path) -> None:
    """A file without settings is an error; commented settings are read."""
    other, comments, new = tmp_path / "other", tmp_path / "rng-tools", tmp_path / "new.toml"
    other.write_text("root:x:0:0:root:/root:/bin/sh\n")
    comments.write_text("# HRNGDEVICE=/dev/hwrng\n\n")
    refused = command("migrate", str(other), "-o", str(new))
    assert (refused.returncode, new.exists()) == (64, False)
    assert f"{other} contains no settings" in refused.stderr
    assert "feed = true" in command("migrate", str(comments)).stdout


def test_migrate_lists_other_programs() -> None:
    """With --who, migrate only lists the other programs."""
    assert isinstance(json.loads(command("migrate", "--who", "--json").stdout)["others"], list)
