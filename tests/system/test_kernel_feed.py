"""The running kernel is really fed."""

import asyncio
import os
import shutil
import subprocess
import sys

import pytest

from drawwell.entropy.blocks import DrawClass, Grant
from drawwell.host.kernel import kernel_facts
from drawwell.sinks.kernel import KernelSink, require_privilege

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not kernel_facts().may_feed, reason="needs CAP_SYS_ADMIN in the first user namespace"),
]


@pytest.mark.parametrize("size", [32, 64, 2500])
def test_this_kernel_takes_feeds_and_reseeds(size):
    """RNDADDENTROPY and RNDRESEEDCRNG succeed; entropy_avail never drops."""
    before = kernel_facts()

    async def run():
        sink = KernelSink(credit=lambda: 8.0, chunk_bytes=size)
        try:
            await sink.wait_wanted()
            for serial in range(3):
                report = await sink.deliver(Grant(os.urandom(size), serial, DrawClass.FULL))
        finally:
            await sink.aclose()
        return report

    report = asyncio.run(run())
    assert (report.deliveries, report.delivered_bytes, report.reseeds) == (3, 3 * size, 1)
    assert report.last_error == ""
    assert kernel_facts().entropy_avail_bits >= min(before.entropy_avail_bits, 256)


def test_the_privilege_is_found_here():
    """The check passes with the capability."""
    require_privilege()


WITHOUT = """
import asyncio
from drawwell.entropy.blocks import DrawClass, Grant
from drawwell.errors import DrawwellError
from drawwell.sinks.kernel import KernelSink, require_privilege

for refused in (require_privilege, lambda: asyncio.run(KernelSink().deliver(Grant(bytes(32), 0, DrawClass.FULL)))):
    try:
        refused()
    except DrawwellError as error:
        print(type(error).__name__)
"""


@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv (util-linux) is not installed")
def test_without_the_capability_the_check_refuses_and_so_does_the_kernel():
    """Without CAP_SYS_ADMIN, the check fails like the kernel."""
    dropped = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]

    ended = subprocess.run(
        [*dropped, sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True
    )

    assert ended.stdout.split() == ["PermissionRefused", "SinkRefused"]
