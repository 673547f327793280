"""Fresh bytes for a guest that was restored or cloned, and the order to its kernel to use them at once.

Two machines that go on from one snapshot have the same generator state and give out the same bytes. RNDADDENTROPY alone
leaves that so until the kernel happens to reseed (a minute, or longer); with RNDRESEEDCRNG after it they part at once
(random(4)). The bytes travel by standard input: a command line is for every user in there to see.
"""

from typing import Final

from drawwell.errors import UsageError
from drawwell.guests.model import GuestFinding, GuestVerdict, Inside

LEAST_BYTES: Final = 32
MOST_BYTES: Final = 512
"""What one RNDADDENTROPY of the scripts takes at most."""
MOST_CREDIT_BITS: Final = 256
"""The size of a kernel's pool."""
_NOBODY, _NOT_RESEEDED = 9, 4
"""What the scripts end with where neither program is there, and where the kernel refused to reseed."""
_TIMEOUT_S: Final = 60.0

# random(4), linux/random.h: RNDADDENTROPY is _IOW('R', 3, int[2]), then credit in bits and size in bytes; RNDRESEEDCRNG
# is _IO('R', 7). The directions are those of x86, ARM, RISC-V and s390.
_PYTHON: Final = """
import fcntl, struct, sys
bits = int(sys.argv[1])
data = sys.stdin.buffer.read()
device = open("/dev/random", "wb", buffering=0)
for status, call, words in (
    (3, 0x40085203, struct.pack("ii", bits, len(data)) + data),
    (4, 0x5207, 0),
):
    try: fcntl.ioctl(device, call, words)
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
    """Give a guest's kernel bytes that no other guest has, and have it use them now.

    Args:
        inside: The way into the guest, as its root.
        fresh: 32 to 512 bytes of full entropy.
        credit: What its kernel is told to believe of them, in bits per byte; 256 bits in all at most.

    Raises:
        GuestUnavailable: there is no way in, or it did not end in time.
        UsageError: too few bytes to tell two guests apart, or too many.
    """
    if not LEAST_BYTES <= len(fresh) <= MOST_BYTES:
        raise UsageError(f"a kernel is reseeded with {LEAST_BYTES} to {MOST_BYTES} bytes")
    bits = str(min(MOST_CREDIT_BITS, int(credit * len(fresh))))
    done = inside.run(["sh", "-c", _CHOOSE, "sh", _PYTHON, _PERL, bits], stdin=fresh, timeout_s=_TIMEOUT_S)
    said = "".join(each for each in done.errors if each.isprintable())[-200:]
    taken = "its kernel took fresh bytes"
    if done.status == _NOBODY:
        hint = "Install one of them there, or drawwell: it reseeds by itself when it sees that it was copied."
        return [_found(taken, GuestVerdict.FAILS, "it has neither python3 nor perl", hint)]
    if done.status not in {0, _NOT_RESEEDED}:
        hint = "It needs root in a machine of its own; a container has its host's kernel, and needs no reseeding."
        return [_found(taken, GuestVerdict.FAILS, said or f"status {done.status}", hint)]
    findings = [_found(taken, GuestVerdict.HOLDS, f"{len(fresh)} bytes")]
    used = "its generator was reseeded with them"
    if done.status == _NOT_RESEEDED:
        hint = "Linux 4.14 and later can: until its next reseeding, after minutes, it repeats what its copies give."
        return [*findings, _found(used, GuestVerdict.FAILS, said or "the kernel refused", hint)]
    return [*findings, _found(used, GuestVerdict.HOLDS, "RNDADDENTROPY, then RNDRESEEDCRNG")]


def _found(what: str, verdict: GuestVerdict, detail: str, hint: str = "") -> GuestFinding:
    return GuestFinding(what, verdict, detail, inside=True, hint=hint)
