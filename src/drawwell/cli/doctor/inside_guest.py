"""The doctor's checks in a guest, shared with ``drawwell guest verify``."""

import os
from collections.abc import Iterator

from drawwell.cli.doctor.finding import DoctorFinding
from drawwell.errors import DrawwellError
from drawwell.guests import program
from drawwell.guests.inside import probes
from drawwell.guests.model import GuestCommandResult, GuestFinding, GuestVerdict

READ_S = 5.0


class Here:
    """An `Inside` for this machine."""

    def run(self, argv: list[str], *, stdin: bytes = b"", timeout_s: float = 30.0) -> GuestCommandResult:
        """Run a command as `Inside` describes."""
        return program.run(argv, stdin=stdin, timeout_s=timeout_s)


def machine() -> Iterator[DoctorFinding]:
    """Check how this virtual machine gets randomness."""
    try:
        yield from _looked()
    except DrawwellError as error:
        yield DoctorFinding("note", "guest", f"this is a virtual machine; {error}", error.hint or "")


def _looked() -> Iterator[DoctorFinding]:
    seen = probes.look(Here())
    if not seen.virtio_rng:
        yield DoctorFinding(
            "note", "guest", f"this is a virtual machine without virtio-rng (driver: {seen.driver})",
            "On the host, run 'drawwell guest apply KIND NAME'. If the driver is a module, run 'modprobe virtio_rng'.",
        )  # fmt: skip
        return
    for found in probes.findings(seen):
        yield _finding(found, "note")
    if seen.hwrng and os.access(probes.HWRNG, os.R_OK):
        yield _finding(_read(), "problem")


def _read() -> GuestFinding:
    """Read a block and run the FIPS 140-2 tests; a timeout is a failure."""
    if data := probes.read_hwrng(Here(), probes.FIPS_REQUESTS, READ_S):
        return probes.fips(data)
    hint = "To check for starvation, run 'drawwell guest verify KIND NAME' on the host."
    text = f"a read returned nothing within {READ_S:g} s"
    return GuestFinding("/dev/hwrng can be read", GuestVerdict.FAILS, text, inside=True, hint=hint)


def _finding(found: GuestFinding, failed: str) -> DoctorFinding:
    """Convert a guest finding; `failed` is the level for a failed check."""
    levels = {GuestVerdict.HOLDS: "good", GuestVerdict.FAILS: failed, GuestVerdict.UNKNOWN: "note"}
    return DoctorFinding(levels[found.verdict], "guest", f"{found.what}: {found.detail}", found.hint)
