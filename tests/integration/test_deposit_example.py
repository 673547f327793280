"""The example of a third-party source, a Perl program that deposits."""

import asyncio
import hashlib
import shutil
from pathlib import Path

import pytest

from drawwell.entropy.credit import evidence_of
from drawwell.reports import Evidence
from drawwell.testing.sick import good
from drawwell.testing.waiting import until
from support.deposits import SMALL, Well

EXAMPLE = Path(__file__).parents[2] / "examples" / "deposit.pl"
needs_perl = pytest.mark.skipif(not shutil.which("perl"), reason="perl is not installed")


async def example(folder, samples: bytes, scenario):
    """Run the example with samples and a broker that accepts deposits."""
    (folder / "samples").write_bytes(samples)
    async with Well(folder / "s").open() as well:
        with (folder / "samples").open("rb") as noise:
            process = await asyncio.create_subprocess_exec(
                str(EXAMPLE), str(folder / "s"), "mine", stdin=noise, stderr=asyncio.subprocess.PIPE
            )
        try:
            return await scenario(well, process)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


@needs_perl
def test_the_example_fills_a_reservoir(folder) -> None:
    """The example's bytes are served and counted, and earn no credit."""
    samples = good(8).read(100_000)

    async def scenario(well, _process) -> None:
        remote = await well.here("mine")
        await well.filled()
        taken = well.everything()
        assert len(taken) == SMALL
        blocks = (samples[at : at + 96] for at in range(4096, len(samples), 96))
        assert b"".join(hashlib.sha512(block).digest() for block in blocks).startswith(taken)
        assert well.bench.supply.report().balanced
        assert evidence_of(remote.origin.identity) is Evidence.UNVOUCHED

    asyncio.run(example(folder, samples, scenario))


@needs_perl
def test_the_example_uses_no_block_that_failed_its_test(folder) -> None:
    """Equal samples in a row are a failure and restart the start-up tests."""
    samples = good(8).read(4096 + 96 * 10) + bytes(96) + good(9).read(100_000)

    async def scenario(well, _process) -> None:
        remote = await well.here("mine")
        await until(lambda: remote.health_epoch == 2, "it started again")
        await well.filled()
        taken = well.everything()
        assert hashlib.sha512(bytes(96)).digest() not in taken
        assert remote.report().health_failures == 1

    asyncio.run(example(folder, samples, scenario))


@needs_perl
def test_the_example_ends_when_its_name_is_taken(folder) -> None:
    """The broker's refusal is its last message."""

    async def scenario(well, _first) -> bytes:
        await well.here("mine")
        with (folder / "samples").open("rb") as noise:
            second = await asyncio.create_subprocess_exec(
                str(EXAMPLE), str(folder / "s"), "mine", stdin=noise, stderr=asyncio.subprocess.PIPE
            )
        _, message = await second.communicate()
        assert second.returncode
        return message

    assert b"refused" in asyncio.run(example(folder, good(8).read(100_000), scenario))
