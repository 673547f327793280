"""Two machines with the package follow the README and other pages."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from drawwell.testing.waiting import wait_until
from lab.cache import or_skip
from lab.installed import follow, install, ready, shown, status
from lab.roots import Root, container
from support.documents import ROOT, lines_of, steps

pytestmark = [pytest.mark.root, pytest.mark.slow]

BROKER, LINK = "drawwell-broker.service", "drawwell-link.service"
PARTS = "etc/drawwell/conf.d"
NAME = "well.example.org"
HWRNG = """[[source]]
name = "hwrng"
driver = "chardev"
path = "/dev/hwrng"
min_entropy = 1.0
allow_os_generator = true
"""
"""As in the README, but with a node of the system's generator."""


def boot(stack, name: str) -> Root:
    root = stack.enter_context(container("bookworm"))
    root.run("hostname", name)
    (root.path / PARTS).mkdir(parents=True)
    return root


@pytest.fixture(scope="module")
def site(deb: Path) -> Iterator[SimpleNamespace]:
    """Return a broker's machine with a root-only node, and another machine."""
    with or_skip(), ExitStack() as stack:
        well, web01 = boot(stack, NAME), boot(stack, "web01")
        well.wire(web01, "cable", "10.9.1.1/24", "10.9.1.2/24")
        for root in (well, web01):
            with (root.path / "etc/hosts").open("a") as hosts:
                hosts.write(f"10.9.1.1 {NAME}\n")
        well.run("mknod", "-m", "600", "/dev/hwrng", "c", "1", "9")
        with ThreadPoolExecutor() as both:
            list(both.map(lambda root: install(root, deb), (well, web01)))
        yield SimpleNamespace(well=well, web01=web01)


def output(root: Root, *argv: str) -> str:
    return root.output(*argv)


def until_state(root: Root, unit: str, state: str) -> None:
    wait_until(lambda: shown(root, unit, "ActiveState") == state, f"{unit} is {state}")


def test_a_source_runs_by_standing_in_the_configuration(site: SimpleNamespace) -> None:
    """A reload starts it, with access to its node; a fault fails the reload."""
    well, part = site.well, site.well.path / PARTS / "hwrng.toml"
    part.write_text(HWRNG)
    well.run("systemctl", "reload", BROKER)
    wait_until(lambda: ready(well), "the source serves")
    assert output(well, "stat", "--format=%a %G", "/dev/hwrng") == "660 drawwell-source"
    part.write_text(HWRNG.replace("driver", "drover"))
    failed = well.run("systemctl", "reload", BROKER, check=False)
    assert failed.returncode
    assert ready(well)
    part.write_text(HWRNG.replace("hwrng", "other", 1))
    well.run("systemctl", "reload", BROKER)
    until_state(well, "drawwell-named@hwrng.service", "inactive")
    until_state(well, "drawwell-named@other.service", "active")
    wait_until(lambda: [s["identity"]["name"] for s in status(well)["sources"]] == ["other"], "one is left")
    part.write_text(HWRNG)
    well.run("systemctl", "restart", BROKER)
    wait_until(lambda: ready(well), "a restart follows, too")


def test_init_adds_what_a_broker_needs(site: SimpleNamespace) -> None:
    """With a source, `init broker` opens the TLS door under its name."""
    well = site.well
    assert "the broker is ready" in well.run("drawwell", "init", "broker").stdout
    assert f'names = ["{NAME}"]' in (well.path / PARTS / "broker.toml").read_text()
    assert "[[source]]" not in (well.path / PARTS / "broker.toml").read_text()


def test_a_second_machine_draws_by_the_readme_s_lines(site: SimpleNamespace) -> None:
    """The README's commands suffice: the link runs, and a byte arrives."""
    well, web01 = site.well, site.web01
    invite, join, *rest = lines_of("README.md", "A second machine:")
    invited = well.run("sh", "-c", f"{invite} 2>/tmp/note").stdout.strip()
    assert f"{NAME}:55001 and {NAME}:55000" in output(well, "cat", "/tmp/note")
    joined = web01.run("sh", "-c", f"{join} --json 2>/tmp/note", data=invited)
    document = json.loads(joined.stdout)
    assert document["first_byte"], output(web01, "cat", "/tmp/note")
    assert document["plain_draw"]
    for line in rest:
        web01.run("sh", "-ec", f"cd /root; {line}")
    consumers = {each["name"]: each for each in status(well)["consumers"]}
    assert consumers["web01"]["full_bytes"] == 32
    until_state(web01, LINK, "active")
    until_state(web01, BROKER, "inactive")
    (link,) = json.loads(output(web01, "drawwell", "--quiet", "--json", "link", "list"))
    assert (link["link"], link["ready"], link["plain_draw"]) == (NAME, True, True)
    drawn = json.loads(output(web01, "drawwell", "--quiet", "--json", "draw", "8"))
    assert drawn["from"] == f"{NAME}:55000"


def test_what_was_joined_can_be_left(site: SimpleNamespace) -> None:
    """`leave` removes part and identity; the units are as after installation."""
    web01 = site.web01
    web01.run("drawwell", "leave", NAME)
    assert not list((web01.path / PARTS).iterdir())
    assert not (web01.path / "var/lib/drawwell/links" / NAME).exists()
    until_state(web01, LINK, "inactive")
    until_state(web01, BROKER, "active")
    assert "no noise source" in output(web01, "drawwell", "draw", "8", "--hex")


def test_a_user_joins_and_leaves_without_root(site: SimpleNamespace) -> None:
    """A user's plain draw uses the broker that the user has joined."""
    well, web01 = site.well, site.web01
    web01.run("useradd", "--create-home", "alice")
    alice = ("runuser", "-l", "alice", "-c")
    invited = well.run("drawwell", "--quiet", "consumer", "invite", "alice").stdout
    assert json.loads(web01.run(*alice, "drawwell -q --json join", data=invited).stdout)["plain_draw"]
    drawn = json.loads(output(web01, *alice, "drawwell -q --json draw 8"))
    assert drawn["from"] == f"{NAME}:55000"
    web01.run(*alice, f"drawwell leave {NAME}")
    assert not list((web01.path / PARTS).iterdir())


def test_a_machine_with_a_source_of_its_own_keeps_it(site: SimpleNamespace) -> None:
    """The machine still draws from its own source; --via selects the other."""
    well, web01 = site.well, site.web01
    web01.run("mknod", "-m", "600", "/dev/hwrng", "c", "1", "9")
    (web01.path / PARTS / "hwrng.toml").write_text(HWRNG)
    web01.run("systemctl", "reload", BROKER)
    wait_until(lambda: ready(web01), "its source serves")
    invited = well.run("drawwell", "--quiet", "consumer", "invite", "web01").stdout
    joined = json.loads(web01.run("drawwell", "--quiet", "--json", "join", data=invited).stdout)
    assert joined["first_byte"]
    assert not joined["plain_draw"]
    assert "deposits = true" in (web01.path / PARTS / f"{NAME}.toml").read_text()
    for unit in (BROKER, LINK):
        web01.run("systemctl", "restart", unit)
    wait_until(lambda: ready(web01), "its own broker goes on")
    for via, place in ((), "/run/drawwell/draw.sock"), (("--via", NAME), f"{NAME}:55000"):
        drawn = json.loads(output(web01, "drawwell", "--quiet", "--json", "draw", "8", *via))
        assert drawn["from"] == place


def test_the_page_for_hwrng_can_be_followed(site: SimpleNamespace) -> None:
    """Each command works; this node needs one more setting."""
    web01 = site.web01
    web01.run("drawwell", "leave", NAME)
    write, *lines, remove, reload = steps((ROOT / "docs/tasks/hwrng.md").read_text())
    follow(web01, (write[0], f"{write[1]}allow_os_generator = true\n"))
    for line in lines:
        follow(web01, line)
        wait_until(lambda: ready(web01), "it serves")
    for line in (remove, reload):
        follow(web01, line)
    until_state(web01, "drawwell-named@hwrng.service", "inactive")


def test_the_page_for_two_servers_can_be_followed(site: SimpleNamespace) -> None:
    """Each command works, and a revoked server cannot draw."""
    page = (ROOT / "docs/tasks/two-servers.md").read_text()
    first, rest = page.split("On the second server,")
    second, back = rest.split("Back on the first server:")
    invited = [follow(site.well, step) for step in steps(first)][-1]
    join, *draws = steps(second)
    follow(site.web01, join, data=invited.splitlines()[0])
    printed = [follow(site.web01, step) for step in draws]
    assert "plain" in printed[-1]
    for step in steps(back):
        follow(site.well, step)
    assert site.web01.run("drawwell", "draw", "8", "--hex", check=False).returncode == 77
