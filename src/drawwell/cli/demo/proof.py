"""What the demonstration proves at its end, in words. Every line is computed from what was really drawn."""

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
"""Two streams of 100 KiB share a window of 8 bytes by chance once in 2^30 runs."""
HWRNG = "/dev/hwrng"
HWRNG_MIN_ENTROPY = 1.0
"""Bits a byte: far below what any maker claims, for a device that nobody here has assessed."""
KERNEL_BYTES = 64
_PREFIX = len("drawwell: ")


class Proof:
    """Collects findings; each is a sentence that holds or does not."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._findings: list[dict[str, Any]] = []

    def document(self) -> dict[str, Any]:
        """All findings, and whether every one of them holds."""
        return {"proved": all(finding["holds"] for finding in self._findings), "findings": self._findings}

    def _find(self, holds: bool, words: str) -> None:
        self._findings.append({"holds": holds, "words": words})
        self._out.say(self._out.live_style.wrap(f"{'proved' if holds else 'FAILED'}: {words}", "  ", _PREFIX))

    def skipped(self, words: str) -> None:
        """Say what was not tried, and why; it does not count."""
        self._out.say(f"not tried: {words}")

    def firmware(self, source: dict[str, Any]) -> None:
        """The image's signature."""
        identity = source["identity"]
        words = f"simulated firmware: {identity['firmware']}; {identity['firmware_detail']}"
        self._find(identity["firmware"] == Firmware.VERIFIED, words)

    def health(self, source: dict[str, Any]) -> None:
        """The health tests and their cutoffs."""
        tests = ", ".join(
            f"{test['name']} ({test['unit']}) {test['cutoff_intermittent']}/{test['cutoff_permanent']}, "
            f"worst {test['worst_count']}"
            for test in source["tests"]
        )
        words = f"health tests passed over {source['raw_bytes']} raw samples; cutoffs at 2^-30/2^-60: {tests}"
        self._find(source["health_failures"] == 0 and source["state"] == "healthy", words)

    def draws(self, customers: Sequence["DemoConsumer"]) -> None:
        """Everybody drew, and nobody got another's bytes."""
        amounts = ", ".join(f"{customer.name} {len(customer.drawn)}" for customer in customers)
        self._find(all(customer.drawn for customer in customers), f"bytes drawn over mutual TLS: {amounts}")
        common = sum(bytes_in_common(one.drawn, other.drawn) for one, other in combinations(customers, 2))
        self._find(
            common == 0, f"{common} bytes in common (no {WINDOW_BYTES} bytes of one occur in the other)"
        )

    def limits(self, customers: Sequence["DemoConsumer"], report: dict[str, Any]) -> None:
        """Nobody got more than its quota, and somebody was told to wait."""
        quotas = {c["name"]: c for c in report["consumers"]}
        words = ", ".join(f"{c.name} told to wait {c.waits} times" for c in customers)
        held = all(quotas[c.name]["quota_left_bytes"] >= 0 and c.waits > 0 for c in customers)
        self._find(held, f"rates and quotas held: {words}")

    def ledger(self, ledger: dict[str, Any]) -> None:
        """Law 4."""
        delivered, conditioned, assessed = (
            ledger[f"{what}_bits"] for what in ("delivered", "conditioned", "assessed")
        )
        words = (
            f"ledger balanced: delivered {delivered} <= conditioned {conditioned} <= assessed {assessed} bits"
        )
        self._find(ledger["balanced"] and delivered <= conditioned <= assessed, words)

    def fips(self, customers: Sequence["DemoConsumer"]) -> None:
        """FIPS 140-2 blocks, as rngtest judges them."""
        tally = VerdictTally()
        for customer in customers:
            tester = BlockTester(bytes(customer.drawn[:WORD_BYTES]))
            for start in range(WORD_BYTES, len(customer.drawn) - BLOCK_BYTES + 1, BLOCK_BYTES):
                tally.add(tester.judge(bytes(customer.drawn[start : start + BLOCK_BYTES])))
        words = f"FIPS 140-2 blocks: {tally.successes} passed, {tally.failures} failed"
        chance = " (good data fails one block in about 1,300)" if tally.failures else ""
        self._find(tally.successes > 0 and tally.failures <= 1, words + chance)

    def receipt(self, customer: "DemoConsumer") -> None:
        """The last draw's receipt, checked as anybody could."""
        from drawwell.crypto.receipts import verify_receipt

        grant = customer.last
        assert grant is not None  # noqa: S101  it drew
        try:
            body = verify_receipt(grant.receipt, customer.receipt_key_pem, grant.data, grant.receipt_key)
        except DrawwellError as error:
            self._find(False, f"receipt of {customer.name}: {error}")
            return
        words = f"receipt {body.serial} of {customer.name} signed by broker {body.broker}, over {body.n_bytes} bytes"
        self._find(body.consumer == customer.name and body.serial == grant.serial, words)

    def failure(self, refusal: str) -> None:
        """What happened when the stick was unplugged."""
        self._find(bool(refusal), f"unplugged: the next draw was refused ({refusal}); nothing took its place")

    def kernel(self, folder: str) -> None:
        """One real feed of this kernel from its own hardware, where there is one and we are root.

        Raises:
            DrawwellError: the device or the kernel said no.
        """
        if os.geteuid() != 0 or not os.path.exists(HWRNG):
            self.skipped(f"one feed of this kernel: it needs root and {HWRNG}")
            return
        feed = asyncio.run(_feed_kernel(folder))
        words = (
            f"fed this kernel {feed['delivered_bytes']} bytes from {feed['path']}, really: not simulated "
            f"({feed['credited_bits']} bits credited, {feed['reseeds']} reseed)"
        )
        self._find(feed["delivered_bytes"] == KERNEL_BYTES and feed["reseeds"] == 1, words)


def bytes_in_common(one: bytes | bytearray, other: bytes | bytearray) -> int:
    """How many bytes of `other` lie in windows of 8 bytes that occur in `one`, aligned or not."""
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
    """The main job again, on real hardware: hwrng, health tests, conditioning, broker, kernel."""
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
                report = await _pour_once(MemoryLink(broker, LOCAL), sink)
        finally:
            stop.set()
            await sink.aclose()
    return {**report, "path": HWRNG}


async def _pour_once(upstream: Any, sink: Any) -> dict[str, Any]:
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
