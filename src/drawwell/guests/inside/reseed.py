"""Reseeds a guest's kernel after the guest was restored or cloned.

Two machines restored from one snapshot have the same generator state and produce the same
bytes. RNDADDENTROPY alone changes this only when the kernel next reseeds, a minute later or
more. An additional RNDRESEEDCRNG separates the machines at once (random(4)). The bytes are
sent on standard input, because every user in the guest can see a command line.
"""

from typing import Final

from drawwell.errors import UsageError
from drawwell.guests.model import GuestFinding, GuestVerdict, Inside

LEAST_BYTES: Final = 32
MOST_BYTES: Final = 512
"""Limit of one RNDADDENTROPY in the scripts."""
MOST_CREDIT_BITS: Final = 256
"""The size of the kernel's pool."""
_NO_INTERPRETER, _NOT_RESEEDED = 9, 4
"""The scripts' exit statuses: python3 and perl are missing; the kernel refused to reseed."""
_TIMEOUT_S: Final = 60.0

# linux/random.h: RNDADDENTROPY is _IOW('R', 3, int[2]), then credit in bits and size in bytes.
# RNDRESEEDCRNG is _IO('R', 7). These directions are for x86, ARM, RISC-V and s390.
_PYTHON: Final = """
import fcntl, struct, sys
bits = int(sys.argv[1])
data = sys.stdin.buffer.read()
device = open("/dev/random", "wb", buffering=0)
for status, call, argument in (
    (3, 0x40085203, struct.pack("ii", bits, len(data)) + data),
    (4, 0x5207, 0),
):
    try: fcntl.ioctl(device, call, argument)
    except OSError as error: sys.stderr.write(error.strerror); sys.exit(status)
"""
_PERL: Final = """
binmode STDIN; local $/; my $data = <STDIN>; my $size = length $data;
my $bits = int $ARGV[0];
open(my $device, ">", "/dev/random") or do { print STDERR "$!"; exit 3 };
defined ioctl($device, 0x40085203, pack("ll", $bits, $size) . $data) or do { print STDERR "$!"; exit 3 };
defined ioctl($device, 0x5207, 0) or do { print STDERR "$!"; exit 4 };
"""
_CHOOSE: Final = """
if command -v python3 >/dev/null; then exec python3 -c "$1" "$3"; fi
if command -v perl >/dev/null; then exec perl -e "$2" "$3"; fi
exit 9
"""


def reseed(inside: Inside, fresh: bytes, credit: float) -> list[GuestFinding]:
    """Give a guest's kernel unique fresh bytes and make it reseed now.

    Args:
        inside: Access to the guest as root.
        fresh: 32 to 512 bytes of full entropy.
        credit: The entropy to credit, in bits per byte; the total is at most 256 bits.

    Raises:
        GuestUnavailable: the guest cannot be reached, or the script timed out.
        UsageError: `fresh` is too short or too long.
    """
    if not LEAST_BYTES <= len(fresh) <= MOST_BYTES:
        raise UsageError(f"reseeding a kernel requires {LEAST_BYTES} to {MOST_BYTES} bytes")
    bits = str(min(MOST_CREDIT_BITS, int(credit * len(fresh))))
    done = inside.run(["sh", "-c", _CHOOSE, "sh", _PYTHON, _PERL, bits], stdin=fresh, timeout_s=_TIMEOUT_S)
    message = "".join(each for each in done.errors if each.isprintable())[-200:]
    taken = "the kernel accepted fresh bytes"
    if done.status == _NO_INTERPRETER:
        hint = "Install one of them in the guest, or drawwell, which detects a copy and reseeds by itself."
        return [_found(taken, GuestVerdict.FAILS, "the guest has neither python3 nor perl", hint)]
    if done.status not in {0, _NOT_RESEEDED}:
        hint = "This needs root in a virtual machine. A container uses the host's kernel: do not reseed it."
        return [_found(taken, GuestVerdict.FAILS, message or f"status {done.status}", hint)]
    findings = [_found(taken, GuestVerdict.HOLDS, f"{len(fresh)} bytes")]
    used = "the generator was reseeded with these bytes"
    if done.status == _NOT_RESEEDED:
        hint = "Use Linux 4.14 or later. Until this kernel reseeds by itself, it repeats the output of its copies."
        return [*findings, _found(used, GuestVerdict.FAILS, message or "the kernel refused", hint)]
    return [*findings, _found(used, GuestVerdict.HOLDS, "RNDADDENTROPY, then RNDRESEEDCRNG")]


def _found(what: str, verdict: GuestVerdict, detail: str, hint: str = "") -> GuestFinding:
    return GuestFinding(what, verdict, detail, inside=True, hint=hint)
