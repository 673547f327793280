"""Commands that drawwell prints, typed as they are printed."""

import asyncio
import shlex
import subprocess
from pathlib import Path

from support.daemon import PROGRAM, Daemon, StickThread, environment, healthy_broker, stick_for_broker
from support.station import Site, running


def type_in(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    """Type a line in `folder`, without a configuration in the environment."""
    program, *arguments = shlex.split(line)
    assert program == "drawwell"
    return subprocess.run(
        [*PROGRAM, *arguments], cwd=folder, env=environment(None), capture_output=True, text=True, check=False
    )


def following(folder: Path) -> str:
    """Return the next command that doctor prints for d.toml in `folder`."""
    return type_in(folder, "drawwell -c drawwell.toml doctor").stdout.rpartition("next: ")[2].strip()


def test_doctor_ends_in_a_command_that_works_as_printed(folder: Path) -> None:
    """With -c, doctor's next command has -c: a draw, a resume, then a draw."""
    with stick_for_broker(folder) as config:
        config.write_text(config.read_text().replace('verify_firmware = "off"', ""))
        with healthy_broker(config):
            draw = following(folder)
            assert len(type_in(folder, draw).stdout) == 65
            assert type_in(folder, "drawwell -c drawwell.toml onerng pause").returncode == 0
            resume = following(folder)
            assert "resume" in resume
            assert type_in(folder, resume).returncode == 0
            assert following(folder) == draw


def test_without_a_device_doctor_is_the_next_command(folder: Path) -> None:
    """If a stick is missing, no command helps until it is plugged in."""
    site = Site(folder)
    with Daemon("run", config=site.path, log=folder / "log") as broker:
        broker.wait_for_text("does not exist; retrying")
        assert following(folder) == "drawwell -c drawwell.toml doctor"


def test_a_joined_machine_draws_with_the_printed_command(folder: Path) -> None:
    """The command works with a relative --dir and with -c."""
    (folder / "broker").mkdir()
    site, machine = Site(folder / "broker"), folder / "a machine"
    machine.mkdir()
    (machine / "drawwell.toml").write_text(
        f'[broker]\nstate_dir = "{machine}/state"\nrun_dir = "{machine}/run"\n'
    )

    async def join(name: str, options: str) -> str:
        token = (await site.ask("consumer.invite", {"name": name}))["token"]
        line = f"drawwell {options.format(token)}"
        joined = await asyncio.to_thread(type_in, machine, line)
        assert joined.returncode == 0, joined.stderr
        return joined.stdout.partition("run '")[2].strip()[:-1]

    async def scenario() -> None:
        async with running(site):
            await site.until_healthy()
            for name, options in (("a", "join {} --dir e/id"), ("b", "-c drawwell.toml join {} --name well")):
                draw = await join(name, options)
                drawn = await asyncio.to_thread(type_in, machine, draw)
                assert len(drawn.stdout) == 65, (draw, drawn.stderr)
                assert draw.startswith(f"drawwell {options.partition('join')[0]}draw")

    with StickThread(site.folder / "stick", rate=200_000.0):
        asyncio.run(scenario())
    assert following(machine) == f"ssh {site.address} drawwell doctor"
