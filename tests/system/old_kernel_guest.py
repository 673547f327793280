"""The first process of a guest with an old kernel: it runs a feeder.

Arguments: the feeder (a key of FEEDERS), the stand-in that counts fed bytes, a program's path.
"""

import ctypes
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # it starts without pytest

from drawwell.host.kernel import kernel_facts
from drawwell.sinks.kernel import RNDADDENTROPY, RNDRESEEDCRNG
from drawwell.testing.waiting import wait_until
from support.daemon import Daemon, command
from support.old_kernel import SEEN

RUN = Path("/run")
CONFIG, LOG, FED = RUN / "drawwell.toml", RUN / "log", RUN / "fed"
NOISE, FIFO = RUN / "noise", RUN / "streamed"
EGD_PORT = 8888
RESTS_S = 2.0  # short: the pause is what is measured
"""A feeder that feeds on request and pauses this long was not requested to feed."""
STATION = """
[broker]
state_dir = "/run/state"
run_dir = "/run/drawwell"
[[source]]
driver = "chardev"
path = "/run/noise"
min_entropy = 4.0
"""
EGD = f"""
[[consumer]]
name = "guest1"
rate = "64KiB/s"
[[egd]]
listen = "127.0.0.1:{EGD_PORT}"
consumer = "guest1"
"""
SINK = f'[[sink]]\nkind = "fifo"\npath = "{FIFO}"\nchunk = "512B"\n'
FEED = '[kernel]\nfeed = true\ncredit = 8\ninterval = "1d"\n'

LIBC = ctypes.CDLL(None, use_errno=True)
POWER_OFF = 0x4321FEDC  # linux/reboot.h
SIOCSIFFLAGS = 0x8914  # linux/sockios.h
IFF_UP = 1  # linux/if.h


def make_room() -> None:
    for kind, where, options in (
        ("proc", "/proc", None),
        ("sysfs", "/sys", None),
        ("tmpfs", "/run", b"mode=755"),
    ):
        if LIBC.mount(kind.encode(), where.encode(), kind.encode(), 0, options):
            raise OSError(ctypes.get_errno(), f"cannot mount {where}")
    os.environ |= {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/run", "TMPDIR": "/run"}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP))


def seed() -> None:
    """Seed the kernel like a boot, or it would block; the seed is not secret."""
    with open("/dev/random", "wb", buffering=0) as kernel:
        fcntl.ioctl(kernel, RNDADDENTROPY, struct.pack("ii", 512, 64) + bytes(64))


def make_noise() -> None:
    """Act as the hardware that drawwell reads."""
    os.mkfifo(NOISE)

    def write() -> None:
        with suppress(BrokenPipeError), NOISE.open("wb", buffering=0) as pipe:
            while True:
                pipe.write(os.urandom(4096))

    threading.Thread(target=write, daemon=True).start()


def drain() -> None:
    """Drain the pool by 256 bits at a time, like the kernel's reseeds."""
    with open("/dev/random", "wb", buffering=0) as kernel:
        for _ in range(
            kernel_facts().entropy_avail_bits // 256
        ):  # no more, because it may be filled meanwhile
            fcntl.ioctl(kernel, RNDRESEEDCRNG, 0)


def until_it_rests(so_far: int) -> None:
    """Wait until more was fed, and then nothing for a while."""
    wait_until(lambda: fed()[0] > so_far, "it fed")
    last, since = fed(), time.monotonic()

    def rests() -> bool:
        nonlocal last, since
        if (now := fed()) != last:
            last, since = now, time.monotonic()
        return time.monotonic() - since > RESTS_S

    wait_until(rests, "it rested")


def say(step: str) -> None:
    facts = kernel_facts()
    size, credit = fed()
    seen = {
        "step": step,
        "kernel": facts.release,
        "avail": facts.entropy_avail_bits,
        "pool": facts.pool_bits,
        "wakeup": facts.write_wakeup_bits,
        "fed": size,
        "credit": credit,
    }
    report(seen)


def report(seen: dict) -> None:
    sys.stdout.write(f"\n{SEEN}{json.dumps(seen)}\n")
    sys.stdout.flush()


def fed() -> tuple[int, int]:
    """Return the feeds recorded by the intercepting library."""
    log = FED.read_bytes() if FED.exists() else b""
    total = credited = 0
    while len(log) >= 8:
        credit, size = struct.unpack_from("=ii", log)
        total, credited, log = total + size, credited + credit, log[8 + size :]
    return total, credited


def status() -> dict:
    return json.loads(command("status", "--json", config=CONFIG).stdout or "{}")


@contextmanager
def running(*command: str) -> Iterator[None]:
    with LOG.open("ab") as log:
        program = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield
    finally:
        program.kill()
        program.wait()


RNGD = ("-f", "-r", str(FIFO), "-p", str(RUN / "rngd.pid"))
FEEDERS = {
    "drawwell": (FEED, ()),
    "rng-tools-debian": (SINK, (*RNGD, "--feed-interval=0")),  # only when the kernel requests bytes
    "rng-tools5": (SINK, RNGD),
    "ekeyd-egd-linux": (EGD, ("-H", "127.0.0.1", "-p", str(EGD_PORT), "-b", "1")),
}
"""Each feeder's part of drawwell's configuration, and its options."""


def watch(name: str, stand_in: str, program: str = "") -> None:
    """Report the pool at the start and after each of two fills."""
    table, options = FEEDERS[name]
    CONFIG.write_text(STATION + table)
    seed()
    make_noise()
    say("before")
    os.environ |= {"LD_PRELOAD": stand_in, "STAND_IN_LOG": str(FED), "STAND_IN_PASSES": "1"}
    with Daemon("run", config=CONFIG, log=LOG), ExitStack() as programs:
        wait_until(lambda: status().get("ready"), "drawwell is ready")
        if program:
            programs.enter_context(running(program, *options))
        until_it_rests(0)
        say("fed")
        so_far = fed()[0]
        drain()
        until_it_rests(so_far)
        say("fed again")


def main() -> None:
    try:
        make_room()
        watch(*sys.argv[1:])
    except BaseException:  # noqa: BLE001 - only the console can report it
        log = LOG.read_text(errors="replace")[-3000:] if LOG.exists() else ""
        report({"step": "failed", "pool": 0, "why": traceback.format_exc(), "log": log})
    finally:
        LIBC.reboot(POWER_OFF)


main()
