"""Debian 13's QEMU, run from its own tree with its own loader."""

from lab.roots import minbase


def qemu() -> tuple[str, ...]:
    """Return QEMU's command with arguments, for lab.guest.QemuGuest.

    Raises:
        NoLab: its tree cannot be built.
    """
    root = minbase("trixie", ("qemu-system-x86", "seabios"))
    libraries = root / "usr/lib/x86_64-linux-gnu"
    loader = root / "usr/lib64/ld-linux-x86-64.so.2"
    firmware = [each for name in ("qemu", "seabios") for each in ("-L", str(root / "usr/share" / name))]
    return (
        str(loader), "--library-path", str(libraries), str(root / "usr/bin/qemu-system-x86_64"), *firmware,
    )  # fmt: skip
