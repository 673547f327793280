"""The seed for a machine's first boot, in the format of cloud-init.

NoCloud looks for a disk with the label ``cidata``:
https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html.
"""

import base64
import os
import tempfile
from typing import Final

from drawwell.errors import GuestUnavailable, UsageError
from drawwell.guests import program

_LABEL: Final = "cidata"
_LABEL_AT: Final = 0x8028
_LABEL_BYTES: Final = 32
"""The volume identifier of ISO 9660 (ECMA-119, 8.4)."""
_WRITERS: Final = (("xorriso", "-as", "genisoimage"), ("genisoimage",))
# random(4): RNDADDTOENTCNT is _IOW('R', 1, int), RNDRESEEDCRNG is _IO('R', 7). The directions
# are for x86, ARM, RISC-V and s390.
_USE: Final = (
    "import fcntl, struct, sys; device = open('/dev/random', 'wb'); "
    "fcntl.ioctl(device, 0x40045201, struct.pack('i', int(sys.argv[1]))); "
    "fcntl.ioctl(device, 0x5207, 0); print('drawwell: credited', sys.argv[1], 'bits and reseeded')"
)


def user_data(seed: bytes, credit_bits: int) -> bytes:
    """Return a cloud-config that seeds and reseeds the kernel.

    ``random_seed`` writes the seed to /dev/urandom; its command adds `credit_bits` of credit.
    Source: https://docs.cloud-init.io/en/latest/reference/modules.html#seed-random.
    """
    data = base64.b64encode(seed).decode()
    return (
        f"#cloud-config\nrandom_seed:\n  data: {data}\n  encoding: base64\n"
        f'  command: [python3, -c, "{_USE}", "{credit_bits}"]\n'
    ).encode()


def image(name: str, config: bytes, folder: str) -> bytes:
    """Return an ISO 9660 image with a guest's cloud-init data.

    Args:
        name: The guest's name; cloud-init treats a new name as a new instance.
        config: The user data.
        folder: A directory for the temporary files.

    Raises:
        GuestUnavailable: no program that makes images is installed, or the program failed.
    """
    with tempfile.TemporaryDirectory(dir=folder) as work:
        files = {"user-data": config, "meta-data": f"instance-id: drawwell-{name}\n".encode()}
        for file, content in files.items():
            with open(os.path.join(work, file), "wb") as opened:
                opened.write(content)
        target = os.path.join(work, "image")
        _write([*("-quiet", "-output", target, "-volid", _LABEL, "-joliet", "-rock"), *_below(work, files)])
        with open(target, "rb") as made:
            return made.read()


def _below(folder: str, names: dict[str, bytes]) -> list[str]:
    return [os.path.join(folder, each) for each in names]


def _write(options: list[str]) -> None:
    for writer in _WRITERS:
        done = program.run([*writer, *options])
        if done.status == 0:
            return
        if done.status != program.MISSING:
            raise GuestUnavailable(
                f"{writer[0]} failed: {program.last_line(done)}", hint="Check the space in [broker] run_dir."
            )
    raise GuestUnavailable(
        "no program on this machine can write an ISO 9660 image", hint="Install one, such as xorriso."
    )


def two_disks(whose: str) -> UsageError:
    """Return the error for a second cloud-init disk; guests read only one."""
    return UsageError(
        f"{whose} already has a cloud-init disk",
        hint="Add the output of 'drawwell seed-file --format cloud-init' to that disk's data.",
    )


def is_cloud_init(path: str) -> bool:
    """Return whether a file is a cloud-init disk; False if it is unreadable."""
    try:
        with open(path, "rb") as file:
            file.seek(_LABEL_AT)
            return file.read(_LABEL_BYTES).strip().lower() == _LABEL.encode()
    except OSError:
        return False
