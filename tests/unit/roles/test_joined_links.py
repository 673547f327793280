"""The links of an [[upstream]] that names a fleet."""

import json
from pathlib import Path

from drawwell.config.consumer_side import UpstreamSection
from drawwell.links.identity import LINK
from drawwell.roles.joined_links import JoinedLinks


def join(folder: Path, *brokers: str) -> None:
    listed = [{"name": name, "addresses": [f"{name}.example:55000"]} for name in brokers]
    link = {"broker": "a", "consumer": "web01", "addresses": ["a.example:55000"]}
    fleet = {"fleet": "example", "brokers": listed} if brokers else {}
    (folder / "well").mkdir(exist_ok=True)
    (folder / "well" / LINK).write_text(json.dumps(link | fleet))


def links(folder: Path, prefer: str = "") -> JoinedLinks:
    section = UpstreamSection(url="tls://a.example:55000", identity="well", prefer=prefer)
    return JoinedLinks([section], str(folder))


def test_one_broker_has_one_link(tmp_path: Path) -> None:
    """The link expects a certificate with the name of its address."""
    join(tmp_path)
    assert list(links(tmp_path).links) == ["tls://a.example:55000"]


def test_a_fleet_has_a_link_to_each_broker(tmp_path: Path) -> None:
    """The preferred broker is first; all certificates have the fleet's name."""
    join(tmp_path, "a", "b", "c")
    found = links(tmp_path, prefer="b")
    assert found.links.keys() == {f"tls://{name}.example:55000" for name in "abc"}
    assert next(iter(found.links)) == "tls://b.example:55000"
    names = {link._server_name for link in found.links.values()}  # type: ignore[attr-defined]
    assert names == {"example.fleet.drawwell.internal"}


def test_a_broker_that_a_renewal_names_is_drawn_from(tmp_path: Path) -> None:
    """Existing links stay open, and one for the new broker is added."""
    join(tmp_path, "a", "b")
    found = links(tmp_path)
    before = dict(found.links)
    join(tmp_path, "a", "b", "c")
    found.refresh()
    assert {url: found.links[url] for url in before} == before
    assert [each.upstream for each in found.upstream.brokers] == list(found.links.values())
    assert len(found.links) == 3
