"""Checks at the end of the demonstration, based on the drawn bytes."""

import asyncio
import os
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from drawwell.assess.fips140.blocks import BlockTester, VerdictTally
from drawwell.assess.fips140.verdict import BLOCK_BYTES, WORD_BYTES
from drawwell.cli.output import Output
from drawwell.errors import DrawwellError
from drawwell.reports import Firmware

if TYPE_CHECKING:
    from drawwell.cli.demo.consumer import DemoConsumer

WINDOW_BYTES = 8
"""Two streams of 100 KiB share 8 bytes by chance in one of 2^30 runs."""
HWRNG = "/dev/hwrng"
HWRNG_MIN_ENTROPY = 1.0
"""In bits per byte: far below any vendor's claim, because the device is not assessed."""
KERNEL_BYTES = 64


class Proof:
    """A list of findings, each true or false."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._findings: list[dict[str, Any]] = []

    def document(self) -> dict[str, Any]:
        """Return all findings, and whether all of them are true."""
        return {"proved": all(finding["holds"] for finding in self._findings), "findings": self._findings}

    def _find(self, holds: bool, text: str) -> None:
        self._findings.append({"holds": holds, "words": text})  # wording: the JSON key
        self._out.say(f"{'proved' if holds else 'FAILED'}: {text}")

    def skipped(self, text: str) -> None:
        """Print why a check is skipped; it counts neither as true nor as false."""
        self._out.say(f"skipped: {text}")

    def firmware(self, source: dict[str, Any]) -> None:
        """Check the signature of the firmware image."""
        identity = source["identity"]
        text = f"simulated firmware: {identity['firmware']}; {identity['firmware_detail']}"
        self._find(identity["firmware"] == Firmware.VERIFIED, text)

    def health(self, source: dict[str, Any]) -> None:
        """Check that the health tests passed."""
        tests = ", ".join(
            f"{test['name']} ({test['unit']}) {test['cutoff_intermittent']}/{test['cutoff_permanent']}, "
            f"worst {test['worst_count']}"
            for test in source["tests"]
        )
        text = f"health tests passed over {source['raw_bytes']} raw samples; cutoffs at 2^-30/2^-60: {tests}"
        self._find(source["health_failures"] == 0 and source["state"] == "healthy", text)

    def draws(self, consumers: Sequence["DemoConsumer"]) -> None:
        """Check that all consumers drew, and that no two received the same bytes."""
        amounts = ", ".join(f"{consumer.name} {len(consumer.drawn)}" for consumer in consumers)
        self._find(all(consumer.drawn for consumer in consumers), f"bytes drawn over mutual TLS: {amounts}")
        common = sum(bytes_in_common(one.drawn, other.drawn) for one, other in combinations(consumers, 2))
        self._find(
            common == 0, f"consumers received {common} bytes in common (in windows of {WINDOW_BYTES} bytes)"
        )

    def limits(self, consumers: Sequence["DemoConsumer"], report: dict[str, Any]) -> None:
        """Check that each consumer stayed within its quota and had to wait."""
        quotas = {c["name"]: c for c in report["consumers"]}
        text = ", ".join(f"{c.name} had to wait {c.waits} times" for c in consumers)
        held = all(quotas[c.name]["quota_left_bytes"] >= 0 and c.waits > 0 for c in consumers)
        self._find(held, f"rates and quotas were enforced: {text}")

    def ledger(self, ledger: dict[str, Any]) -> None:
        """Check that the ledger is balanced."""
        delivered, conditioned, assessed = (
            ledger[f"{what}_bits"] for what in ("delivered", "conditioned", "assessed")
        )
        text = (
            f"ledger balanced: delivered {delivered} <= conditioned {conditioned} <= assessed {assessed} bits"
        )
        self._find(ledger["balanced"] and delivered <= conditioned <= assessed, text)

    def fips(self, consumers: Sequence["DemoConsumer"]) -> None:
        """Run the FIPS 140-2 block tests, as rngtest does."""
        tally = VerdictTally()
        for consumer in consumers:
            tester = BlockTester(bytes(consumer.drawn[:WORD_BYTES]))
            for start in range(WORD_BYTES, len(consumer.drawn) - BLOCK_BYTES + 1, BLOCK_BYTES):
                tally.add(tester.judge(bytes(consumer.drawn[start : start + BLOCK_BYTES])))
        text = f"FIPS 140-2 blocks: {tally.successes} passed, {tally.failures} failed"
        chance = " (good data fails one block in about 1,300)" if tally.failures else ""
        self._find(tally.successes > 0 and tally.failures <= 1, text + chance)

    def receipt(self, consumer: "DemoConsumer") -> None:
        """Verify the receipt of the last draw."""
        from drawwell.crypto.receipts import verify_receipt

        grant = consumer.last
        assert grant is not None  # noqa: S101  every consumer drew
        try:
            body = verify_receipt(grant.receipt, consumer.receipt_key_pem, grant.data, grant.receipt_key)
        except DrawwellError as error:
            self._find(False, f"receipt of {consumer.name}: {error}")
            return
        text = f"receipt {body.serial} of {consumer.name} signed by broker {body.broker}, over {body.n_bytes} bytes"
        self._find(body.consumer == consumer.name and body.serial == grant.serial, text)

    def failure(self, refusal: str) -> None:
        """Check that the next draw was refused after the device was unplugged."""
        self._find(bool(refusal), f"unplugged: the next draw was refused ({refusal}), without a fallback")

    def kernel(self, folder: str) -> None:
        """Feed this kernel once from its own hardware generator; needs root.

        Raises:
            DrawwellError: the device failed or the kernel refused.
        """
        if os.geteuid() != 0 or not os.path.exists(HWRNG):
            self.skipped(f"feeding this kernel (needs root and {HWRNG})")
            return
        feed = asyncio.run(_feed_kernel(folder))
        text = (
            f"fed this kernel {feed['delivered_bytes']} bytes from {feed['path']} (real, not simulated; "
            f"{feed['credited_bits']} bits credited, {feed['reseeds']} reseed)"
        )
        self._find(feed["delivered_bytes"] == KERNEL_BYTES and feed["reseeds"] == 1, text)


def bytes_in_common(one: bytes | bytearray, other: bytes | bytearray) -> int:
    """Count the bytes of those 8-byte windows of `other` that `one` contains."""
    windows = {bytes(one[at : at + WINDOW_BYTES]) for at in range(len(one) - WINDOW_BYTES + 1)}
    shared = [
        at for at in range(len(other) - WINDOW_BYTES + 1) if bytes(other[at : at + WINDOW_BYTES]) in windows
    ]
    return len({at + offset for at in shared for offset in range(WINDOW_BYTES)})


def _kernel_configuration(folder: str) -> str:
    from drawwell.config.values import write_text

    path = os.path.join(folder, "kernel.toml")
    state, run = (write_text(os.path.join(folder, name)) for name in ("kernel-state", "kernel-run"))
    with open(path, "w", encoding="utf-8") as file:
        file.write(
            f"[broker]\nstate_dir = {state}\nrun_dir = {run}\n"
            f'[[source]]\ndriver = "chardev"\npath = "{HWRNG}"\nmin_entropy = {HWRNG_MIN_ENTROPY}\n'
        )
    return path


async def _feed_kernel(folder: str) -> dict[str, Any]:
    """Feed the kernel from hwrng through health tests and a broker."""
    from drawwell.config.defaults import LOCAL
    from drawwell.config.load import load
    from drawwell.entropy.credit import credit
    from drawwell.links.memory import MemoryLink
    from drawwell.roles.run import RunProcess
    from drawwell.sinks.kernel import KernelSink

    path = _kernel_configuration(folder)
    process = RunProcess(load(path), lambda: load(path), consumers=False)
    assert process.station is not None  # noqa: S101
    broker, stop = process.station.broker, asyncio.Event()
    sink = KernelSink(credit=lambda: credit(broker.evidence), chunk_bytes=KERNEL_BYTES)
    async with asyncio.TaskGroup() as group:
        group.create_task(process.run(stop))
        try:
            async with asyncio.timeout(20):
                report = await _deliver_once(MemoryLink(broker, LOCAL), sink)
        finally:
            stop.set()
            await sink.aclose()
    return {**report, "path": HWRNG}


async def _deliver_once(upstream: Any, sink: Any) -> dict[str, Any]:
    from drawwell.entropy.blocks import DrawClass
    from drawwell.errors import Refused
    from drawwell.reports import as_json

    while True:
        try:
            grant = await upstream.draw(KERNEL_BYTES, DrawClass.FULL)
        except Refused:
            await asyncio.sleep(0.05)
            continue
        return as_json(await sink.deliver(grant))
