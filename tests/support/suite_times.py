"""The order and the times of the suites, and the time limit of a run."""

import os
import time
from collections import defaultdict

import pytest

LIMIT_S = 27 * 60
"""The time limit of `make test` on an idle machine with two cores."""
QUIET = 0.1
"""The largest CPU share of other programs for which a machine counts as quiet."""
FEWEST_CORES = 2
SLOWEST = ["tests/system", "tests/vectors", "tests/integration", "tests/cli"]
"""These suites start first, so that no worker is left with a slow file at the end."""
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def busy_s() -> float:
    """Return the CPU time of the whole machine (proc_stat(5))."""
    with open("/proc/stat") as file:
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / CLOCK_TICKS


def own_s() -> float:
    """Return the CPU time of this process and its ended children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def suite(nodeid: str) -> str:
    """Return the suite of a test: the first two folders of its path."""
    return "/".join(nodeid.partition("::")[0].split("/")[:2])


def judge(wall_s: float, others_s: float, cores: int) -> tuple[bool, str]:
    """Return whether the limit is exceeded, and a line that reports it."""
    took = f"{wall_s / 60:.1f} of at most {LIMIT_S / 60:.0f} minutes"
    if cores < FEWEST_CORES:
        return False, f"{took}: not judged, {cores} core"
    if others_s > QUIET * wall_s * cores:
        return False, f"{took}: not judged, other programs used {others_s / wall_s:.1f} of {cores} cores"
    return wall_s > LIMIT_S, f"{took}{': too slow' * (wall_s > LIMIT_S)}"


class SuiteTimes:
    """Plugin for the process that collects the reports of all workers."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.started = time.monotonic()
        self.others_before = busy_s() - own_s()
        self.verdict = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[suite(report.nodeid)] += report.duration

    @pytest.hookimpl(trylast=True)  # xdist has reaped its workers by then
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if not session.config.getoption("--time-limit"):
            return
        wall_s = time.monotonic() - self.started
        others_s = busy_s() - own_s() - self.others_before
        exceeded, self.verdict = judge(wall_s, others_s, len(os.sched_getaffinity(0)))
        if exceeded and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("seconds by suite")
        for name, seconds in sorted(self.seconds.items()):
            terminalreporter.write_line(f"{seconds:8.1f}  {name}")
        if self.verdict:
            terminalreporter.write_line(self.verdict)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that `make test` uses."""
    parser.addoption(
        "--time-limit",
        action="store_true",
        help=f"fail beyond {LIMIT_S // 60} minutes, if the machine is quiet",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the slowest suites first; xdist deals out the files in this order."""
    rank = {name: number for number, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: rank.get(suite(item.nodeid), len(SLOWEST)))


def pytest_configure(config: pytest.Config) -> None:
    """Collect the times, except in xdist workers."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(SuiteTimes())
