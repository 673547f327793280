"""Programs in the table of devices, run without a device."""

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from drawwell.config.devices import DEVICES
from drawwell.drivers.execute import ExecSource, OneShotSource
from drawwell.errors import SourceUnavailable
from drawwell.testing.waiting import DEADLINE_S, wait_until
from support.listening import listens

(SOFTHSM,) = (*Path("/usr/lib").glob("*/softhsm/libsofthsm2.so"), Path())[:1]


def needs(*programs: str):
    missing = [each for each in programs if not shutil.which(each, path=f"{os.environ['PATH']}:/usr/sbin")]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def two_reads(noise: OneShotSource) -> tuple[bytes, bytes]:
    """Read the output of two runs."""

    async def run():
        await noise.open()
        try:
            return (await noise.read(4096)).data, (await noise.read(4096)).data
        finally:
            await noise.aclose()

    return asyncio.run(run())


@needs("pkcs11-tool", "softhsm2-util")
def test_a_token_gives_its_random_bytes(folder, monkeypatch) -> None:
    """pkcs11-tool on SoftHSM: each run has fresh bytes of the right number."""
    (folder / "tokens").mkdir()
    (folder / "conf").write_text(f"directories.tokendir = {folder}/tokens\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(folder / "conf"))
    token = ("softhsm2-util", "--init-token", "--free", "--label", "t", "--pin", "1234", "--so-pin", "1234")
    subprocess.run(token, check=True, capture_output=True)
    command = (*DEVICES["smart card (PKCS #11)"].command, "--module", str(SOFTHSM))

    one, other = two_reads(OneShotSource("card", command, stall_s=DEADLINE_S, every_s=0.01))
    assert (len(one), len(other)) == (256, 256)
    assert one != other


@needs("tpm2_getrandom", "swtpm")
def test_a_tpm_gives_its_random_bytes(folder, monkeypatch) -> None:
    """tpm2_getrandom on swtpm, with the command from the table."""
    socket = folder / "tpm"
    process = subprocess.Popen(
        [
            *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={folder}", "--flags", "startup-clear"),
            *("--server", f"type=unixio,path={socket}", "--ctrl", f"type=unixio,path={socket}.ctrl"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: listens(f"{socket}.ctrl") and listens(socket), "the TPM listens")
        monkeypatch.setenv("TPM2TOOLS_TCTI", f"swtpm:path={socket}")
        command = DEVICES["TPM"].command
        one, other = two_reads(OneShotSource("tpm", command, stall_s=DEADLINE_S, every_s=0.01))
    finally:
        process.kill()
        process.wait()
    assert (len(one), len(other)) == (64, 64)
    assert one != other


@needs("gpg-connect-agent")
def test_without_a_card_the_agent_gives_nothing(folder, monkeypatch) -> None:
    """Without an OpenPGP card the command prints no error as bytes."""
    monkeypatch.setenv("GNUPGHOME", str(folder))
    noise = OneShotSource("card", DEVICES["OpenPGP card"].command, stall_s=DEADLINE_S)
    try:
        with pytest.raises(SourceUnavailable, match="exited with status 0 after 0 bytes"):
            two_reads(noise)
    finally:
        subprocess.run(["gpgconf", "--kill", "all"], check=False)


@needs("infnoise")
def test_without_a_stick_infnoise_is_named_with_its_status(monkeypatch) -> None:
    """Debian's program fails, and only the length of its error is reported."""
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:/usr/sbin")
    noise = ExecSource("infnoise", DEVICES["Infinite Noise"].command, stall_s=DEADLINE_S)

    async def run() -> None:
        await noise.open()
        try:
            await noise.read(4096)
        finally:
            await noise.aclose()

    with pytest.raises(
        SourceUnavailable, match=r"exited with status 1 after 0 bytes, and wrote \d+ bytes to"
    ):
        asyncio.run(run())
