"""Facts about other kernels, from fake /proc trees."""

import os

import pytest

from drawwell.errors import PermissionRefused
from drawwell.host.kernel import kernel_facts
from drawwell.sinks.kernel import require_privilege

FIRST = {"pid": 4026531836, "user": 4026531837}
EVERYTHING = "CapEff:\t000001ffffffffff\n"
NOTHING = "CapEff:\t0000000000000000\n"
ALL_BUT_SYS_ADMIN = f"CapEff:\t{0x1FFFFFFFFFF & ~(1 << 21):016x}\n"


@pytest.fixture
def machine(tmp_path):
    """Create a root from files and namespace numbers; return its facts."""

    def make(files: dict[str, str], pid: int = FIRST["pid"], user: int = FIRST["user"]):
        for path, text in files.items():
            target = tmp_path / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        spaces = tmp_path / "proc/self/ns"
        spaces.mkdir(parents=True)
        os.symlink(f"pid:[{pid}]", spaces / "pid")
        os.symlink(f"user:[{user}]", spaces / "user")
        return kernel_facts(str(tmp_path))

    return make


def pool(size: int, available: int) -> dict[str, str]:
    return {
        "proc/sys/kernel/random/poolsize": f"{size}\n",
        "proc/sys/kernel/random/entropy_avail": f"{available}\n",
        "proc/sys/kernel/random/write_wakeup_threshold": "896\n",
    }


def test_the_small_pool_is_known_by_its_size(machine):
    """With 256 bits, entropy_avail is constant, and the report explains this."""
    facts = machine(pool(256, 256))

    assert (facts.small_pool, facts.ready) == (True, True)
    assert facts.meaning == "entropy_avail stays at 256: the generator is seeded and remains so"


def test_a_small_pool_that_is_not_seeded_has_a_level(machine):
    """Early at boot the count is below the pool size."""
    facts = machine(pool(256, 131))

    assert not facts.ready
    assert facts.meaning == "the generator is not seeded yet: 131 of 256 bits"


def test_the_large_pool_is_known_by_its_size(machine):
    """With 4,096 bits entropy_avail varies, and the watermark is reported."""
    facts = machine(pool(4096, 700))

    assert not facts.small_pool
    assert "below 896 the kernel requests entropy" in facts.meaning


def test_a_kernel_without_files_is_no_error(machine):
    """Masked or missing files count as zeros and empty texts."""
    facts = machine({})

    assert (facts.pool_bits, facts.release, facts.fips_enabled) == (0, "", False)
    assert facts.meaning == "this kernel does not report the size of its pool"


def test_fips_mode_is_read(machine):
    """A kernel in FIPS mode is reported."""
    assert machine({"proc/sys/crypto/fips_enabled": "1\n"}).fips_enabled


@pytest.mark.parametrize(
    ("status", "user", "may"),
    [
        (EVERYTHING, FIRST["user"], True),
        (NOTHING, FIRST["user"], False),
        (ALL_BUT_SYS_ADMIN, FIRST["user"], False),
        (EVERYTHING, 4026532000, False),
        ("Name:\tx\n", FIRST["user"], False),
    ],
)
def test_the_right_to_feed_is_sys_admin_in_the_first_user_namespace(machine, status, user, may):
    """A capability in another user namespace does not count for the pool."""
    assert machine({"proc/self/status": status}, user=user).may_feed == may


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({".dockerenv": ""}, "docker"),
        ({"run/.containerenv": ""}, "podman"),
        ({"run/systemd/container": "systemd-nspawn\n", ".dockerenv": ""}, "systemd-nspawn"),
        ({"proc/1/environ": "PATH=/bin\0container=lxc\0"}, "lxc"),
        ({"proc/1/cgroup": "0::/kubepods/besteffort/pod1\n"}, "kubernetes"),
        ({}, "of an unknown kind"),
    ],
)
def test_a_container_is_known_by_what_its_manager_leaves(machine, files, kind):
    """In another PID namespace, marks identify the kind of container."""
    assert machine(files, pid=4026532001).container == kind


def test_marks_without_a_namespace_are_no_container(machine):
    """A virtual machine made from a container image has /.dockerenv."""
    assert machine({".dockerenv": ""}).container == ""


@pytest.mark.parametrize(("uid", "expected"), [(1000, "AmbientCapabilities="), (0, "CapabilityBoundingSet")])
def test_missing_privilege_is_refused_with_what_to_do(machine, monkeypatch, uid, expected):
    """On a host the hint names the capability, for root and other users."""
    monkeypatch.setattr("os.geteuid", lambda: uid)
    with pytest.raises(PermissionRefused) as caught:
        require_privilege(machine({"proc/self/status": NOTHING}))
    assert expected in str(caught.value.hint)


def test_missing_privilege_in_a_container_points_to_the_host(machine):
    """The hint is to feed the kernel on the host, which shares it."""
    facts = machine({"proc/self/status": EVERYTHING}, pid=4026532001, user=4026532002)

    with pytest.raises(PermissionRefused) as caught:
        require_privilege(facts)
    assert "on the host" in str(caught.value.hint)


def test_enough_privilege_is_let_through(machine):
    """With the capability there is no error."""
    require_privilege(machine({"proc/self/status": EVERYTHING}))
