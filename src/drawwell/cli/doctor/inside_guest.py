"""What the doctor sees when it is in a guest itself: the same look that ``drawwell guest verify`` has from outside."""

import os
from collections.abc import Iterator

from drawwell.cli.doctor.finding import DoctorFinding
from drawwell.errors import DrawwellError
from drawwell.guests import program
from drawwell.guests.inside import probes
from drawwell.guests.model import GuestCommandResult, GuestFinding, GuestVerdict

READ_S = 5.0


class Here:
    """This machine, as an `Inside`."""

    def run(self, argv: list[str], *, stdin: bytes = b"", timeout_s: float = 30.0) -> GuestCommandResult:
        """See `Inside`."""
        return program.run(argv, stdin=stdin, timeout_s=timeout_s)


def machine() -> Iterator[DoctorFinding]:
    """Look at this virtual machine's way to randomness; what has no virtio-rng is told so, as a note."""
    try:
        yield from _looked()
    except DrawwellError as error:
        yield DoctorFinding("note", "guest", f"this is a virtual machine, and {error}", error.hint or "")


def _looked() -> Iterator[DoctorFinding]:
    seen = probes.look(Here())
    if not seen.virtio_rng:
        yield DoctorFinding(
            "note", "guest", f"this is a virtual machine without virtio-rng (driver: {seen.driver})",
            "On its host: 'drawwell guest apply KIND NAME'. Where the driver is a module, 'modprobe virtio_rng'.",
        )  # fmt: skip
        return
    for found in probes.findings(seen):
        yield _finding(found, "note")
    if seen.hwrng and os.access(probes.HWRNG, os.R_OK):
        yield _finding(_read(), "problem")


def _read() -> GuestFinding:
    """Read a block of FIPS 140-2, which also tells a generator from one that waits for ever."""
    if data := probes.read_hwrng(Here(), probes.FIPS_REQUESTS, READ_S):
        return probes.fips(data)
    hint = "On the host: 'drawwell guest verify KIND NAME' shows whether it is starved."
    words = f"a read waited for {READ_S:g} s"
    return GuestFinding("/dev/hwrng can be read", GuestVerdict.FAILS, words, inside=True, hint=hint)


def _finding(found: GuestFinding, failed: str) -> DoctorFinding:
    """Say it as the doctor does; `failed` is the level of what does not hold."""
    levels = {GuestVerdict.HOLDS: "good", GuestVerdict.FAILS: failed, GuestVerdict.UNKNOWN: "note"}
    return DoctorFinding(levels[found.verdict], "guest", f"{found.what}: {found.detail}", found.hint)
