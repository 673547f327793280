"""The audit log of a complete broker: its events, and no drawn bytes."""

import asyncio
import base64
import json
from pathlib import Path

import pytest

from drawwell.entropy.blocks import DrawClass
from drawwell.errors import AuthenticationFailed, PermissionRefused, UsageError
from drawwell.simulator.pty import PtyDevice
from support.station import Site, running


def test_the_log_has_a_brokers_life(folder: Path) -> None:
    """The log has start, invitation, join, quota, revocation, end and grants."""
    served: list[bytes] = []
    serials: list[int] = []

    async def run() -> None:
        site = Site(folder)
        async with PtyDevice(folder / "stick", rate=0), running(site):
            await site.until_healthy()
            identity = await site.enrol("web01", rate="1MiB/s")
            link = site.link(identity)
            for n_bytes in (32, 64, 4096):
                grant = await link.draw(n_bytes, DrawClass.FULL, receipt=n_bytes == 64)
                served.append(grant.data)
                serials.append(grant.serial)
            with pytest.raises(PermissionRefused):
                await link.call("consumer.list", {})
            await site.ask("consumer.quota", {"name": "web01", "rate": "1KiB/s"})
            await site.ask("status")
            with pytest.raises(UsageError):
                await site.ask("consumer.revoke", {"name": "no-such"})
            await site.ask("consumer.revoke", {"name": "web01"})
            with pytest.raises((PermissionRefused, AuthenticationFailed)):
                await link.draw(32, DrawClass.FULL)
            await link.aclose()

    asyncio.run(run())
    path = folder / "state" / "audit.jsonl"
    text = path.read_text() + (folder / "state" / "audit-operators.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    events = [
        (line["event"], line.get("name") or line.get("consumer"), line.get("refused")) for line in lines
    ]
    assert [each for each in events if each[0] not in {"head", "refused", "turned away"}] == [
        ("granted", "web01", None),
        ("started", None, None),
        ("consumer.invite", "web01", None),
        ("join", "web01", None),
        ("consumer.quota", "web01", None),
        ("consumer.revoke", "no-such", "UsageError"),
        ("consumer.revoke", "web01", None),
        ("stopped", None, None),
    ]
    granted = next(line for line in lines if line["event"] == "granted")
    assert (granted["draws"], granted["bytes"], granted["class"]) == (3, 4192, "full")
    assert (granted["first_serial"], granted["last_serial"]) == (serials[0], serials[-1])
    assert granted["receipts"] == 1
    assert granted["sources"] == {"stick": 1}
    assert path.stat().st_mode & 0o777 == 0o600
    for data in served:
        assert data.hex()[:16] not in text
        assert base64.b64encode(data).decode()[:12] not in text
    assert "dw1." not in text


def test_strangers_at_the_door_are_counted(folder: Path) -> None:
    """Refusals at a door are counted, by reason."""

    async def run() -> None:
        site = Site(folder)
        async with PtyDevice(folder / "stick", rate=0), running(site) as process:
            await site.until_healthy()
            host, _, port = site.tls.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            await reader.read()
            writer.close()
            assert process.station

    asyncio.run(run())
    lines = [json.loads(line) for line in (folder / "state" / "audit.jsonl").read_text().splitlines()]
    away = [line for line in lines if line["event"] == "turned away"]
    assert sum(line["protocol_errors"] for line in away if line["door"].startswith("tls")) == 1
