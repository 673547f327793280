"""The scripts that are run inside a guest, and the strict reading of what they say. Pure: text out, bytes in.

They are POSIX shell for any /bin/sh (dash, busybox), look at /proc and /sys only, and end by themselves. What comes
back was said by a guest, which may lie or send anything: it is bounded, and parses or raises RemoteProtocolError.
"""

import re
from dataclasses import dataclass
from typing import Final

from drawwell.errors import RemoteProtocolError
from drawwell.reports import Report

MAX_OUTPUT_BYTES: Final = 16_384
LOOK: Final = r"""
say() { printf '%s=%s\n' "$1" "$(printf '%s' "$2" | tr '\n\t' '  ' | tr -cd 'A-Za-z0-9._ :+,()/-' | cut -c1-200)"; }
get() { cat "$1" 2>/dev/null; }
bound() {
    for each in /sys/bus/*/drivers/"$1"/*; do [ -L "$each" ] && basename "$each"; done | grep -v '^module$'
}
rng=/sys/class/misc/hw_random
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
"""
"""Says what there is, a line ``name=value`` each."""
READ: Final = r"""
bounded() { if command -v timeout >/dev/null; then timeout "$@"; else shift; "$@" & pid=$!
    ( sleep "$seconds"; kill $pid ) >/dev/null 2>&1 & wait $pid; fi; }
seconds=$2
bounded "$seconds" dd if="$3" bs=64 count="$1" 2>/dev/null
exit 0
"""
"""Reads $1 times 64 bytes from the device $3, for $2 seconds at most: what came until then is put out."""
SELECT: Final = r"""
cd /sys/class/misc/hw_random && before=$(cat rng_current) && echo "$1" > rng_current || exit 3
[ "$2" = 0 ] && exit 0
dd if=/dev/hwrng bs=64 count="$2" >/dev/null 2>&1 & pid=$!
( sleep "$3"; kill $pid ) >/dev/null 2>&1 & watch=$!
wait $pid; kill $watch 2>/dev/null
echo "$before" > rng_current
"""
"""Makes $1 the generator that the kernel reads; with $2 other than 0 reads so many requests, $3 s at most, and makes
the one before it current again."""
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
"""Reads $1 times up to 64 bytes of noise from the OneRNG $3, for $2 seconds at most."""
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
socket(my $s, PF_UNIX, SOCK_STREAM, 0) && connect($s, sockaddr_un($path)) or exit 5;
syswrite($s, $said); my $got = ""; $SIG{ALRM} = sub { print $got; exit 0 }; alarm $seconds;
while (length($got) < $wanted) { sysread($s, my $more, 4096) or last; $got .= $more } print $got' "$1" "$2" "$3"; fi
if command -v socat >/dev/null; then exec socat -t "$3" - "UNIX-CONNECT:$1"; fi
if command -v nc >/dev/null && nc -h 2>&1 | grep -q -- -U; then { cat; sleep "$3"; } | nc -U "$1"; exit 0; fi
exit 9
"""
"""Says standard input to the Unix socket $1, puts out $2 bytes of the answer or what came in $3 seconds."""
NOBODY_CONVERSES: Final = 9
"""The status of `CONVERSE` where the guest has none of those programs."""

_LINE: Final = re.compile(r"([a-z_]{1,16})=([A-Za-z0-9._ :+,()/-]{0,200})", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_WORDS: Final = frozenset({
    "kernel", "pool_bits", "entropy_bits", "available", "current", "quality", "virtio_rng", "driver", "hwrng",
    "holders", "generation", "sticks", "end",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Look(Report):
    """What a guest says of itself; a number that it does not say is None.

    `available` and `current` are the kernel's names of its hardware generators, `virtio_rng` the devices that its
    driver has, `driver` is loaded, built-in, module (there, and not loaded) or none. `holders` are processes with
    /dev/hwrng open as ``pid:name``, `sticks` the OneRNGs as ``tty:product``.
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
    """Read what `LOOK` said.

    Raises:
        RemoteProtocolError: it is not that.
    """
    said = _pairs(output)
    if said.keys() != _WORDS or said["end"] != "yes" or said["hwrng"] not in {"yes", "no"}:
        raise _nonsense("it is not whole")
    if said["driver"] not in {"loaded", "built-in", "module", "none"}:
        raise _nonsense("it has an unknown state of the driver")
    return Look(
        kernel=said["kernel"],
        pool_bits=_number(said["pool_bits"]),
        entropy_bits=_number(said["entropy_bits"]),
        available=tuple(said["available"].split()),
        current=said["current"].strip(),
        quality=_number(said["quality"]),
        virtio_rng=tuple(said["virtio_rng"].split()),
        driver=said["driver"],
        hwrng=said["hwrng"] == "yes",
        holders=tuple(said["holders"].split()),
        generation=bool(said["generation"].strip()),
        sticks=tuple(said["sticks"].split()),
    )


def _pairs(output: bytes) -> dict[str, str]:
    if len(output) > MAX_OUTPUT_BYTES:
        raise _nonsense(f"it has {len(output)} bytes")
    said: dict[str, str] = {}
    for line in output.split(b"\n"):
        match = _LINE.fullmatch(line.strip(b"\r").decode("ascii", "replace"))
        if match and match[1] not in said:
            said[match[1]] = match[2]
        elif line.strip():
            raise _nonsense("a line of it is no fact, or is there twice")
    return said


def _number(text: str) -> int | None:
    text = text.strip()
    if text and not _NUMBER.fullmatch(text):
        raise _nonsense("a number of it is none")
    return int(text) if text else None


def _nonsense(why: str) -> RemoteProtocolError:
    return RemoteProtocolError(
        f"what the guest says of itself cannot be read: {why}",
        hint="Somebody in the guest answers in the place of its shell or its agent: look there.",
    )
