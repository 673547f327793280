"""Facts about the running kernel's generator, and the right to feed it."""

import os
from dataclasses import dataclass
from typing import Final

from drawwell.reports import Report

CAP_SYS_ADMIN: Final = 21  # linux/capability.h

# linux/proc_ns.h: inodes of the namespaces that exist from boot.
_FIRST_USER_NAMESPACE: Final = "user:[4026531837]"
_FIRST_PID_NAMESPACE: Final = "pid:[4026531836]"

# Files that identify container managers: a part of systemd-detect-virt's list.
_MARKS: Final = ((".dockerenv", "docker"), ("run/.containerenv", "podman"))
_CGROUP_MARKS: Final = (
    ("docker", "docker"),
    ("libpod", "podman"),
    ("kubepods", "kubernetes"),
    ("lxc", "lxc"),
    ("machine", "systemd-nspawn"),
)


@dataclass(frozen=True, slots=True)
class KernelFacts(Report):
    """Facts reported by the kernel; an unknown number is 0.

    `may_feed`: CAP_SYS_ADMIN is effective in the first user namespace, as the pool requires.
    `container`: the kind of container, or ""; set even if it shares the host's PID namespace.
    """

    release: str
    pool_bits: int
    entropy_avail_bits: int
    write_wakeup_bits: int
    fips_enabled: bool
    may_feed: bool
    container: str

    @property
    def small_pool(self) -> bool:
        """Whether the pool has 256 bits (Linux 5.17) and never requests entropy."""
        return self.pool_bits < 4096

    @property
    def ready(self) -> bool:
        """Whether the small pool is seeded; credit then has no effect."""
        return self.entropy_avail_bits >= self.pool_bits

    @property
    def meaning(self) -> str:
        """The meaning of `entropy_avail` on this kernel, for the user."""
        if not self.pool_bits:
            return "this kernel does not report the size of its pool"
        if not self.small_pool:
            return (
                f"entropy_avail is an estimate between 0 and {self.pool_bits} that drops with each reseed; "
                f"below {self.write_wakeup_bits} the kernel requests entropy"
            )
        if self.ready:
            return f"entropy_avail stays at {self.pool_bits}: the generator is seeded and remains so"
        return f"the generator is not seeded yet: {self.entropy_avail_bits} of {self.pool_bits} bits"


def kernel_facts(root: str = "/") -> KernelFacts:
    """Read the facts; `root` is the directory with ``proc`` and ``run``."""
    sysctl = os.path.join(root, "proc/sys")
    return KernelFacts(
        release=_text(sysctl, "kernel/osrelease"),
        pool_bits=_number(sysctl, "kernel/random/poolsize"),
        entropy_avail_bits=_number(sysctl, "kernel/random/entropy_avail"),
        write_wakeup_bits=_number(sysctl, "kernel/random/write_wakeup_threshold"),
        fips_enabled=_number(sysctl, "crypto/fips_enabled") == 1,
        may_feed=_has_sys_admin(root) and _link(root, "proc/self/ns/user") == _FIRST_USER_NAMESPACE,
        container=_container(root),
    )


def _has_sys_admin(root: str) -> bool:
    for line in _text(root, "proc/self/status").splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return bool(int(value, 16) >> CAP_SYS_ADMIN & 1)
    return False


def _container(root: str) -> str:
    """Check in systemd-detect-virt's order; ignore files found on a host."""
    if _link(root, "proc/1/ns/pid") == _FIRST_PID_NAMESPACE or (
        _link(root, "proc/self/ns/pid") == _FIRST_PID_NAMESPACE
    ):
        return ""
    if named := _text(root, "run/systemd/container") or _environment(root).get("container", ""):
        return named
    for mark, kind in _MARKS:
        if os.path.exists(os.path.join(root, mark)):
            return kind
    groups = _text(root, "proc/1/cgroup") + _text(root, "proc/self/cgroup")
    return next((kind for word, kind in _CGROUP_MARKS if word in groups), "of an unknown kind")


def _environment(root: str) -> dict[str, str]:
    pairs = (entry.partition("=") for entry in _text(root, "proc/1/environ").split("\0"))
    return {name: value for name, _, value in pairs}


def _number(root: str, path: str) -> int:
    text = _text(root, path)
    return int(text) if text.isdecimal() else 0


def _text(root: str, path: str) -> str:
    try:
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def _link(root: str, path: str) -> str:
    try:
        return os.readlink(os.path.join(root, path))
    except OSError:
        return ""


def hardware_generator(root: str = "/") -> str:
    """Return the name of the driver behind /dev/hwrng, or ""."""
    try:
        with open(os.path.join(root, "sys/class/misc/hw_random/rng_current"), encoding="ascii") as file:
            name = file.read().strip()
    except OSError:
        return ""
    return "" if name == "none" else name
