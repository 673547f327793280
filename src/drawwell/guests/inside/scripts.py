"""Pure: the scripts that run inside a guest, and parsers for their output.

The scripts are POSIX shell for any /bin/sh (dash, busybox), inspect only /proc and /sys, and
always terminate. A guest can send false or endless output, so it is limited and checked.
"""

import re
from dataclasses import dataclass
from typing import Final

from drawwell.errors import RemoteProtocolError
from drawwell.reports import Report

MAX_OUTPUT_BYTES: Final = 16_384
LOOK: Final = r"""
say() { set -f; printf '%s=' "$1"; printf '%s ' $2; echo; set +f; }
get() { cat "$1" 2>/dev/null; }
bound() {
    for each in /sys/bus/*/drivers/"$1"/*; do [ -L "$each" ] && basename "$each"; done | grep -v '^module$'
}
rng=/sys/class/misc/hw_random
{
say kernel "$(uname -r)"
say pool_bits "$(get /proc/sys/kernel/random/poolsize)"
say entropy_bits "$(get /proc/sys/kernel/random/entropy_avail)"
say available "$(get $rng/rng_available)"
say current "$(get $rng/rng_current)"
say quality "$(get $rng/rng_quality)"
say virtio_rng "$(bound virtio_rng)"
if grep -qs '^virtio_rng ' /proc/modules; then say driver loaded
elif [ -d /sys/bus/virtio/drivers/virtio_rng ]; then say driver built-in
elif find "/lib/modules/$(uname -r)" -name 'virtio[-_]rng.ko*' 2>/dev/null | grep -q .; then say driver module
else say driver none; fi
if [ -c /dev/hwrng ]; then say hwrng yes; else say hwrng no; fi
say holders "$(ls -l /proc/[0-9]*/fd 2>/dev/null |
    sed -n '/^\/proc\//{s/[^0-9]//g;h;};/ -> \/dev\/hwrng$/{g;p;}' | sort -u | head -n 8 |
    while read -r pid; do echo "$pid:$(get "/proc/$pid/comm" | tr ' :' '__')"; done)"
say generation "$(bound vmgenid)"
say sticks "$(for each in /sys/bus/usb/devices/*; do
    [ "$(get "$each/idVendor"):$(get "$each/idProduct")" = 1d50:6086 ] || continue
    product=$(get "$each/product" | tr ' :' '__')
    for tty in "$each":*/tty/*; do [ -e "$tty" ] && echo "$(basename "$tty"):$product"; done
done | head -n 8)"
say end yes
} | tr -cd 'A-Za-z0-9._ :+,()=/\n-' | cut -c1-200 | sed 's/ *$//'
"""
"""Prints facts about the guest, one ``name=value`` per line."""
READ: Final = r"""
bounded() { if command -v timeout >/dev/null; then timeout "$@"; else shift; "$@" & pid=$!
    ( sleep "$seconds"; kill $pid ) >/dev/null 2>&1 & wait $pid; fi; }
seconds=$2
bounded "$seconds" dd if="$3" bs=64 count="$1" 2>/dev/null
exit 0
"""
"""Reads $1 times 64 bytes from device $3, for at most $2 seconds, and prints them."""
SELECT: Final = r"""
cd /sys/class/misc/hw_random && before=$(cat rng_current) && echo "$1" > rng_current || exit 3
[ "$2" = 0 ] && exit 0
dd if=/dev/hwrng bs=64 count="$2" >/dev/null 2>&1 & pid=$!
( sleep "$3"; kill $pid ) >/dev/null 2>&1 & watch=$!
wait $pid; kill $watch 2>/dev/null
echo "$before" > rng_current
"""
"""Makes $1 the kernel's current generator. If $2 is not 0, reads $2 times within $3 seconds,
and then restores the previous generator."""
STICK: Final = r"""
exec 3<>"$3" || exit 3
stty raw -echo <&3 2>/dev/null
printf 'cmd0\n' >&3; printf 'cmdO\n' >&3
seconds=$2
if command -v timeout >/dev/null; then timeout "$seconds" dd bs=64 count="$1" <&3 2>/dev/null
else dd bs=64 count="$1" <&3 2>/dev/null & pid=$!; ( sleep "$seconds"; kill $pid ) >/dev/null 2>&1 & wait $pid; fi
printf 'cmdo\n' >&3
exit 0
"""
"""Reads $1 times up to 64 bytes of noise from the OneRNG $3, for at most $2 seconds."""
CONVERSE: Final = r"""
if command -v python3 >/dev/null; then exec python3 -c '
import socket, sys
path, wanted, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
s = socket.socket(socket.AF_UNIX); s.settimeout(seconds); s.connect(path); s.sendall(sys.stdin.buffer.read())
got = b""
try:
    while len(got) < wanted and (more := s.recv(4096)): got += more
except TimeoutError: pass
sys.stdout.buffer.write(got)' "$1" "$2" "$3"; fi
if command -v perl >/dev/null; then exec perl -e '
use Socket; my ($path, $wanted, $seconds) = @ARGV; binmode STDIN; binmode STDOUT; local $/; my $said = <STDIN>;
my $s; socket($s, PF_UNIX, SOCK_STREAM, 0) && connect($s, sockaddr_un($path)) or exit 5;
syswrite($s, $said); my $got = ""; $SIG{ALRM} = sub { print $got; exit 0 }; alarm $seconds;
while (length($got) < $wanted) { sysread($s, my $more, 4096) or last; $got .= $more } print $got' "$1" "$2" "$3"; fi
if command -v socat >/dev/null; then exec socat -t "$3" - "UNIX-CONNECT:$1"; fi
if command -v nc >/dev/null && nc -h 2>&1 | grep -q -- -U; then { cat; sleep "$3"; } | nc -U "$1"; exit 0; fi
exit 9
"""
"""Sends stdin to the Unix socket $1; prints up to $2 bytes of the answer within $3 s."""
NO_CLIENT: Final = 9
"""The exit status of `CONVERSE` if the guest has no program that can connect."""

_LINE: Final = re.compile(r"([a-z_]{1,16})=([A-Za-z0-9._ :+,()=/-]{0,200})", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_NAMES: Final = frozenset({
    "kernel", "pool_bits", "entropy_bits", "available", "current", "quality", "virtio_rng", "driver", "hwrng",
    "holders", "generation", "sticks", "end",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Look(Report):
    """A guest's report about itself; None for a missing number.

    `available` and `current` are hardware generators. `virtio_rng` lists the devices of the
    virtio-rng driver. `driver` is loaded, built-in, module (not loaded) or none. `holders` are
    processes with /dev/hwrng open, as ``pid:name``; `sticks` are the OneRNGs, as
    ``tty:product``.
    """

    kernel: str
    pool_bits: int | None
    entropy_bits: int | None
    available: tuple[str, ...]
    current: str
    quality: int | None
    virtio_rng: tuple[str, ...]
    driver: str
    hwrng: bool
    holders: tuple[str, ...]
    generation: bool
    sticks: tuple[str, ...]


def parse_look(output: bytes) -> Look:
    """Parse the output of `LOOK`.

    Raises:
        RemoteProtocolError: the output is malformed.
    """
    found = _pairs(output)
    if found.keys() != _NAMES or found["end"] != "yes" or found["hwrng"] not in {"yes", "no"}:
        raise _nonsense("it is incomplete")
    if found["driver"] not in {"loaded", "built-in", "module", "none"}:
        raise _nonsense("the driver's state is unknown")
    return Look(
        kernel=found["kernel"],
        pool_bits=_number(found["pool_bits"]),
        entropy_bits=_number(found["entropy_bits"]),
        available=tuple(found["available"].split()),
        current=found["current"].strip(),
        quality=_number(found["quality"]),
        virtio_rng=tuple(found["virtio_rng"].split()),
        driver=found["driver"],
        hwrng=found["hwrng"] == "yes",
        holders=tuple(found["holders"].split()),
        generation=bool(found["generation"].strip()),
        sticks=tuple(found["sticks"].split()),
    )


def _pairs(output: bytes) -> dict[str, str]:
    if len(output) > MAX_OUTPUT_BYTES:
        raise _nonsense(f"it has {len(output)} bytes")
    found: dict[str, str] = {}
    for line in output.split(b"\n"):
        match = _LINE.fullmatch(line.strip(b"\r").decode("ascii", "replace"))
        if match and match[1] not in found:
            found[match[1]] = match[2]
        elif line.strip():
            raise _nonsense("a line is malformed or duplicated")
    return found


def _number(text: str) -> int | None:
    text = text.strip()
    if text and not _NUMBER.fullmatch(text):
        raise _nonsense("a number is malformed")
    return int(text) if text else None


def _nonsense(why: str) -> RemoteProtocolError:
    return RemoteProtocolError(
        f"the guest's report cannot be parsed: {why}",
        hint="Another program in the guest answers instead of its shell or agent. Check the guest.",
    )
