"""Each alert fires in a real Prometheus when its fault is caused.

The rules are those of the package, with all waiting times (`for:`) cut to a second. Left
out are an unbalanced ledger, as nothing outside causes it, and a fleet.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from dashboard import dashboard

from drawwell.cli.client import ask
from drawwell.crypto.pki import DAY_S
from drawwell.enrolment.key_ring import KeyRing
from drawwell.state.files import make_private_directory
from drawwell.state.store import Store
from drawwell.testing.waiting import wait_until
from support.certificates import PaperAuthority
from support.daemon import Daemon, StickThread, command
from support.listening import listens
from support.station import own_address

PROMETHEUS = shutil.which("prometheus")
RULES = Path(__file__).parents[2] / "packaging/prometheus/rules.yml"
NEAR = b"\x01\0\0\0\0\0\x80"
"""40 equal bits in a row; at H = 6 one more is a failure."""
pytestmark = pytest.mark.skipif(PROMETHEUS is None, reason="needs prometheus")


class Prometheus:
    """A real Prometheus with our alerts that scrapes each second."""

    def __init__(self, folder: Path, *jobs: dict[str, Any]) -> None:
        self._address = f"{own_address()}:9090"
        rules = folder / "rules.yml"
        rules.write_text(re.sub(r"for: \w+", "for: 1s", RULES.read_text()))
        every = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config = {"global": every, "rule_files": [str(rules)], "scrape_configs": jobs}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self._log = (folder / "prometheus.log").open("wb")
        self._process = subprocess.Popen(
            [
                str(PROMETHEUS), f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/tsdb", f"--web.listen-address={self._address}",
            ],
            stdout=self._log, stderr=self._log,
        )  # fmt: skip

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Return the result of a query."""
        line = urllib.parse.urlencode({"query": query})
        with urllib.request.urlopen(f"http://{self._address}/api/v1/query?{line}") as answer:
            found = json.load(answer)
        assert found["status"] == "success", query
        return list(found["data"]["result"])

    def until(self, query: str) -> None:
        """Wait until a query has a result."""

        def found() -> bool:
            try:
                return bool(self.ask(query))
            except OSError:
                return False

        wait_until(found, query)

    def until_raised(self, alert: str, **labels: str) -> None:
        """Wait until an alert fires."""
        wanted = {"alertname": f"Drawwell{alert}", "alertstate": "firing", **labels}
        self.until(f"ALERTS{{{','.join(f'{name}={value!r}' for name, value in wanted.items())}}}")

    def close(self) -> None:
        """Stop Prometheus."""
        self._process.terminate()
        self._process.wait()
        self._log.close()


def plain(target: str) -> dict[str, Any]:
    """Scrape a door without certificates."""
    return {"job_name": "drawwell", "static_configs": [{"targets": [target]}]}


def observer(job: str, target: str, certificate: str, key: str, ca: str) -> dict[str, Any]:
    """Scrape a TLS door as an observer."""
    tls = {"ca_file": ca, "cert_file": certificate, "key_file": key, "server_name": "well"}
    return plain(target) | {"job_name": job, "scheme": "https", "tls_config": tls}


@contextmanager
def fifo(path: Path, *samples: bytes) -> Iterator[None]:
    """Create a FIFO into which these samples, or none, are written at times."""
    os.mkfifo(path)
    fd, over = os.open(path, os.O_RDWR | os.O_NONBLOCK), threading.Event()

    def write() -> None:
        while samples and not over.wait(0.05):  # short: the interval of the samples
            try:
                os.write(fd, b"".join(os.urandom(1024) + each for each in samples))
            except BlockingIOError:
                continue

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        over.set()
        writer.join()
        os.close(fd)


def source(name: str, driver: str, path: Path, more: str = "") -> str:
    return f'[[source]]\nname = "{name}"\ndriver = "{driver}"\npath = "{path}"\nmin_entropy = 6.0\nstall = 1\n{more}'


@contextmanager
def troubled(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Run a broker with many faults; yield its file and how to scrape it."""
    address = own_address()
    authority = PaperAuthority(folder, left_s=50 * DAY_S)
    certificate, key, ca = authority.server("well", address, left_s=DAY_S)
    tape = folder / "tape"
    tape.write_bytes(os.urandom(8192))
    config = folder / "drawwell.toml"
    config.write_text(
        f'[broker]\nname = "well"\nstate_dir = "{folder}/state"\nrun_dir = "{folder}/run"\nreservoir = "64MiB"\n'
        f'[audit]\npath = "{folder}/audit"\n'
        f'[tls]\nlisten = "{address}:55000"\n[pki]\nca = "{ca}"\ncertificate = "{certificate}"\nkey = "{key}"\n'
        '[health]\nobservers = ["prometheus"]\n[kernel]\nfeed = false\n[[consumer]]\nname = "prometheus"\n'
        '[[consumer]]\nname = "web01"\nuser = "root"\nquota = "1KiB/day"\n'
        + source("near", "chardev", folder / "near", 'samples = "packed-bits"\n')
        + source("quiet", "chardev", folder / "quiet")
        + source("tape", "replay", tape)
    )
    make_private_directory(str(folder / "state"))
    earlier_life = Store(str(folder / "state/broker.db"))
    earlier_life.note_time(time.time() + 3 * DAY_S)  # its clock was wrong
    earlier_life.close()
    with ExitStack() as stack:
        stack.enter_context(fifo(folder / "near", NEAR))
        stack.enter_context(fifo(folder / "quiet"))
        stack.enter_context(Daemon("broker", config=config, log=folder / "log"))
        control = f"{folder}/run/control.sock"
        wait_until(lambda: listens(control), "the broker listens")
        wait_until(lambda: command("draw", "1000", "--hex", config=config).returncode == 0, "web01 draws")
        added = ask(
            control, "guest.add", {"name": "vm1", "kind": "qemu", "via": "virtio", "quota": "256/day"}
        )
        guest = stack.enter_context(socket.socket(socket.AF_UNIX))
        guest.connect(added["socket"])
        guest.send(bytes((2, 255)) * 2)  # draws more than its quota
        with (folder / "audit-operators").open("ab") as log:
            log.write(b'{"event":"written by a stranger"}\n')
        ask(control, "guest.add", {"name": "vm2", "kind": "qemu", "via": "virtio"})
        yield config, observer("troubled", f"{address}:55000", *authority.client("prometheus"))


@contextmanager
def link(folder: Path) -> Iterator[str]:
    """Run the links of a machine without its broker; yield how to scrape it."""
    address = f"{own_address()}:55080"
    config = folder / "drawwell.toml"
    config.write_text(
        f'[broker]\nstate_dir = "{folder}/state"\nrun_dir = "{folder}/run"\n[health]\nlisten = "{address}"\n'
        f'[[upstream]]\nurl = "unix://{folder}/gone.sock"\n'
    )
    with Daemon("link", "run", config=config, log=folder / "log"):
        yield address


@contextmanager
def sound(folder: Path) -> Iterator[tuple[str, StickThread, Daemon]]:
    """Run a broker with a CA that was not renewed, without the root's key."""
    address = own_address()
    config = folder / "drawwell.toml"
    config.write_text(
        f'[broker]\nname = "well"\nstate_dir = "{folder}/state"\nrun_dir = "{folder}/run"\n'
        f'[tls]\nlisten = "{address}:55000"\nnames = ["{address}"]\n[kernel]\nfeed = false\n'
        f'[[source]]\nname = "stick"\npath = "{folder}/stick"\nverify_firmware = "off"\nstall = 1\n'
        f'[health]\nlisten = "{address}:55080"\n'
    )
    make_private_directory(str(folder / "state"))
    pki = str(folder / "state/pki")
    KeyRing(pki, "well", time.time() - 80 * DAY_S, str(folder / "state/receipt-key.pem")).forget_root()
    daemon = Daemon("broker", config=config, log=folder / "log")
    with StickThread(folder / "stick", rate=0) as stick, daemon as process:
        yield f"{address}:55080", stick, process


@contextmanager
def unsigned(folder: Path) -> Iterator[str]:
    """Run a broker whose signer has stopped; yield how to scrape it."""
    address = f"{own_address()}:55082"
    config = folder / "drawwell.toml"
    config.write_text(
        f'[broker]\nname = "well"\nstate_dir = "{folder}/state"\nrun_dir = "{folder}/run"\n'
        f'[signer]\ndir = "{folder}/keys"\nsocket = "{folder}/signer.sock"\n[kernel]\nfeed = false\n'
        + source("quiet", "chardev", folder / "quiet")
        + f'[health]\nlisten = "{address}"\n'
    )
    with Daemon("signer", "run", config=config, log=folder / "signer.log") as signer:
        signer.wait_for_text("listening on")
        with Daemon("broker", "run", config=config, log=folder / "log"):
            wait_until(lambda: listens(f"{folder}/run/control.sock"), "the broker listens")
            signer.kill()
            yield address


def test_each_trouble_raises_its_alert(folder: Path) -> None:
    """The dashboard's queries work, and each fault raises its alert."""
    with ExitStack() as stack:
        places = [folder / name for name in ("a", "b", "c", "d")]
        for place in places:
            place.mkdir()
        target, stick, process = stack.enter_context(sound(places[0]))
        config, job = stack.enter_context(troubled(places[1]))
        jobs = [plain(target), job]
        jobs.append(plain(stack.enter_context(unsigned(places[3]))) | {"job_name": "unsigned"})
        jobs.append(plain(stack.enter_context(link(places[2]))) | {"job_name": "link"})
        prometheus = Prometheus(folder, *jobs)
        stack.callback(prometheus.close)
        prometheus.until('drawwell_ready{job="drawwell"} == 1')
        for panel in dashboard()["panels"]:
            for query in panel.get("targets", ()):
                prometheus.ask(query["expr"].replace("$job", "drawwell").replace("$instance", ".*"))
        assert not prometheus.ask(
            'ALERTS{job="drawwell",alertname=~"DrawwellNotReady|DrawwellSourceNotHealthy"}'
        )

        prometheus.until('drawwell_draws_total{job="troubled",class="full",result="QuotaExceeded"}')
        assert command("draw", "1000", config=config).returncode == 75
        for alert, labels in STANDING:
            prometheus.until_raised(alert, **labels)
        stick.do("set_fault", "stuck")
        for alert in ("HealthTestFailed", "SourceNotHealthy", "NotReady"):
            prometheus.until_raised(alert, job="drawwell")
        process.kill()
        prometheus.until_raised("Absent", job="drawwell")


STANDING: list[tuple[str, dict[str, str]]] = [
    ("Simulated", {"source": "stick"}),
    ("Simulated", {"source": "tape"}),
    ("FirmwareNotVerified", {"source": "stick"}),
    ("SourceSilent", {"source": "quiet"}),
    ("MarginShrinking", {"source": "near", "test": "repetition count"}),
    ("ReservoirLow", {"job": "troubled"}),
    ("QuotaNearlySpent", {"consumer": "web01"}),
    ("CertificateEnds", {"certificate": "server", "job": "troubled"}),
    ("AuthorityEnds", {"certificate": "ca", "job": "troubled"}),
    ("AuthorityEnds", {"certificate": "intermediate", "job": "drawwell"}),
    ("LinkDown", {"job": "link"}),
    ("ClockJumped", {"job": "troubled"}),
    ("GuestWaits", {"guest": "vm1"}),
    ("AuditTrouble", {"job": "troubled"}),
    ("SignerAway", {"job": "unsigned"}),
    ("QuotaSpent", {"job": "troubled", "class": "full"}),
]
