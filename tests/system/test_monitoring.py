"""A real broker and Chromium; the stick is simulated."""

import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, sync_playwright
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from drawwell.cli.client import ask
from drawwell.testing.waiting import wait_until
from support.daemon import Daemon, StickThread, command
from support.station import own_address

CHROMIUM = shutil.which("chromium")
FULL = 256 * 1024
"""The size of the reservoir by default."""


@dataclass(frozen=True)
class Watched:
    """A broker with a door for probes, and its stick."""

    config: Path
    address: str
    stick: StickThread
    process: Daemon

    @contextmanager
    def for_the_owner(self) -> Iterator[str]:
        """Relay a port to the owner's socket, as ``ssh -L`` does."""
        address = self.address.replace(":55080", ":55081")
        bind, _, port = address.partition(":")
        listen = f"TCP-LISTEN:{port},bind={bind},fork,reuseaddr"
        with subprocess.Popen(["socat", listen, f"UNIX-CONNECT:{self.config.parent}/http.sock"]) as relay:
            wait_until(lambda: answers(address), "it listens")
            try:
                yield address
            finally:
                relay.terminate()

    def get(self, path: str, host: str = "localhost", accept: str = "") -> tuple[int, str]:
        """Query the probe's door under a host name; return status and body."""
        request = urllib.request.Request(
            f"http://{self.address}{path}", headers={"Host": host, "Accept": accept}
        )
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, "refused"


def answers(address: str) -> bool:
    """Return whether a page is served at an address."""
    try:
        with urllib.request.urlopen(f"http://{address}/healthz"):
            return True
    except OSError:
        return False


@contextmanager
def watched(folder: Path) -> Iterator[Watched]:
    address = f"{own_address()}:55080"
    config = folder / "drawwell.toml"
    config.write_text(
        f'[broker]\nname = "well"\nstate_dir = "{folder}/state"\nrun_dir = "{folder}/run"\n'
        f'[[source]]\nname = "stick"\npath = "{folder}/stick"\nverify_firmware = "off"\nstall = 1\n'
        f'[health]\nlisten = "{address}"\n[http]\nlisten = "{folder}/http.sock"\n[kernel]\nfeed = false\n'
        f'[[consumer]]\nname = "web01"\nuser = "root"\n'
    )
    with ExitStack() as stack:
        stick = stack.enter_context(StickThread(folder / "stick", rate=0))
        process = stack.enter_context(Daemon("broker", config=config, log=folder / "log"))
        found = Watched(config, address, stick, process)
        wait_until(lambda: found.get("/readyz")[0] == 200, "it is ready")
        yield found


@pytest.fixture
def broker(folder: Path) -> Iterator[Watched]:
    with watched(folder) as found:
        yield found


def value(text: str, name: str, **labels: str) -> float:
    (found,) = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    return float(found)


def test_a_draw_is_counted_and_no_consumer_is_named(broker: Watched) -> None:
    """A draw increments its series; no consumer is named there."""
    accept = "application/openmetrics-text"
    before = broker.get("/metrics", accept=accept)[1]
    assert command("draw", "32", "--hex", config=broker.config).returncode == 0
    after = broker.get("/metrics", accept=accept)[1]
    labels = {"class": "full", "result": "granted"}
    assert (
        value(after, "drawwell_draws_total", **labels) == value(before, "drawwell_draws_total", **labels) + 1
    )
    assert value(after, "drawwell_draw_wait_seconds_count") == 1
    assert "web01" not in after
    assert command("check-health", config=broker.config).returncode == 1  # because the stick is simulated


def test_the_page_is_shown_under_names_of_this_machine_only(broker: Watched) -> None:
    """If an attacker's DNS name resolves to this address, the page is refused."""
    assert broker.get("/ui", host="localhost:55080")[0] == 200
    assert broker.get("/ui", host="127.0.0.1")[0] == 200
    assert broker.get("/ui", host="evil.example")[0] == 403
    assert broker.get("/ui/events", host="evil.example")[0] == 403


@contextmanager
def browser(where: str) -> Iterator[tuple[Page, list[str]]]:
    """Open the page in Chromium; the list collects console errors."""
    host = where.partition(":")[0]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", f"--host-resolver-rules=MAP localhost {host}"],
        )
        page = chromium.new_page()
        faults: list[str] = []
        page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(f"http://localhost:{where.partition(':')[2]}/ui")
        yield page, faults
        chromium.close()


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_an_unplugged_stick_is_the_first_line(broker: Watched) -> None:
    """The page and its title update themselves, even if no bytes are wanted."""
    full = f"drawwell_reservoir_bytes {FULL}"
    wait_until(lambda: full in broker.get("/metrics")[1], "the reservoir is full")
    with browser(broker.address) as (page, faults):
        assert "The broker serves draws" in page.inner_text("#head")
        broker.stick.do("unplug")
        page.locator("h1", has_text="Source stick is off").wait_for()
        assert "No draws can be served" in page.inner_text("#head")
        assert "drawwell doctor" in page.inner_text("#head")
        assert page.title().startswith("well: source stick is off")
        assert faults == []


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_an_update_leaves_what_is_typed(broker: Watched) -> None:
    """A draw changes the table of consumers; the search field stays as it is."""
    with broker.for_the_owner() as address, browser(address) as (page, faults):
        page.locator("input").press_sequentially("we")
        assert command("draw", "32", "--hex", config=broker.config).returncode == 0
        page.locator("#consumers td", has_text="32B").first.wait_for()
        page.locator("input").press_sequentially("b")
        assert page.input_value("input") == "web"
        assert faults == []


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible(broker: Watched, scheme: Any) -> None:
    """axe-core finds no fault in the owner's page, at 400 pixels too."""
    control = f"{broker.config.parent}/run/control.sock"
    ask(control, "guest.add", {"name": "vm1", "kind": "qemu", "via": "virtio"})
    with broker.for_the_owner() as address, browser(address) as (page, faults):
        for part in ("guests", "consumers", "events"):
            assert page.locator(f"#{part} td, #{part} li").count()
        page.emulate_media(color_scheme=scheme)
        for width in (1200, 400):
            page.set_viewport_size({"width": width, "height": 800})
            found = Axe().run(page)
            assert found.violations_count == 0, found.generate_report()
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert faults == []
