"""Names that do not resolve, and certificates that are due."""

import asyncio
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from drawwell.cli import client, join, set_up, status
from drawwell.config.load import load
from drawwell.crypto.tokens import Token
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import (
    ConfigError,
    DrawwellError,
    LinkUnavailable,
    NoHealthySource,
    Unreachable,
    UsageError,
)
from drawwell.links.enrol import exchange
from drawwell.roles import upstream


def test_a_name_that_does_not_resolve_leads_to_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hint names `[tls] names`, where the operator sets the name."""

    def unknown(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", unknown)
    token = Token("vm", 55001, bytes(32), "A" * 11, bytes(32))
    with pytest.raises(LinkUnavailable) as caught:
        exchange(token, b"", 1.0)  # short: nothing is waited for
    assert "[tls] names" in str(caught.value.hint)


def test_a_draw_renews_each_certificate_and_survives_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed renewal stops neither the other renewals nor the draw."""
    asked = []

    async def renewed(identity: SimpleNamespace) -> bool:
        asked.append(identity.directory)
        if identity.directory == "first":
            raise LinkUnavailable("the broker is away")
        return True

    monkeypatch.setattr(upstream, "renew", renewed)
    due = [SimpleNamespace(directory="first"), SimpleNamespace(directory="second")]
    asyncio.run(upstream.renew_all(due))
    assert asked == ["first", "second"]


@pytest.mark.parametrize("own", [True, False])
def test_the_written_part_keeps_an_unwritten_source(own: bool, tmp_path: Path) -> None:
    """For a source started by udev, `deposits` keeps draws on this machine."""
    identity = SimpleNamespace(directory="/state/links/well", addresses=("well:55000", "[::1]:55000"))
    part = tmp_path / "well.toml"
    part.write_text(join._tables(identity, own))
    config = load(str(part))
    assert [each.url for each in config.upstreams] == ["tls://well:55000", "tls://[::1]:55000"]
    assert {each.identity for each in config.upstreams} == {"well"}
    assert config.draws_here is own


def test_a_running_source_counts_as_the_machine_s_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source in the broker's report counts even without a configuration."""
    path = tmp_path / "drawwell.toml"
    path.write_text("")
    config = load(str(path))
    monkeypatch.setattr(client, "ask", lambda *_: {"sources": [{"state": "off"}]})
    assert join._own_sources(config)


def test_a_part_that_makes_a_fault_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a fault the file is restored; another owner's file is not changed."""

    def faulty() -> None:
        raise ConfigError("the configuration has 1 fault")

    monkeypatch.setattr("drawwell.config.load.load", faulty)
    with pytest.raises(ConfigError):
        set_up.write_part(str(tmp_path), "well", f"{set_up.MARK.format('join')}'\n")
    assert not (tmp_path / "well.toml").exists()
    (tmp_path / "well.toml").write_text("# mine\n")
    with pytest.raises(UsageError):
        set_up.write_part(str(tmp_path), "well", "")
    assert not set_up.remove_part(str(tmp_path), "well", "join")
    assert (tmp_path / "well.toml").read_text() == "# mine\n"


def test_status_names_where_draws_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status names the broker on a machine without a broker or a link process."""
    path = tmp_path / "drawwell.toml"
    path.write_text(f'[broker]\nrun_dir = "{tmp_path}"\n')
    joined = SimpleNamespace(addresses=("well:55000",))
    monkeypatch.setattr(upstream, "identities", lambda *_: [joined])
    with pytest.raises(client.NoBroker) as caught:
        status._report(load(str(path)))
    assert "well:55000" in str(caught.value.hint)


class Away:
    """A link that fails with `error`; its pauses only advance its clock."""

    def __init__(self, error: DrawwellError) -> None:
        self.error, self.tries, self.now = error, 0, 0.0

    def draw(self, *_: object, **__: object) -> None:
        self.tries += 1
        raise self.error

    def pause(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(
    ("error", "persist", "tries"),
    [
        (Unreachable("away"), True, 21),
        (Unreachable("away"), False, 1),
        (NoHealthySource("no source"), True, 21),
        (NoHealthySource("no source"), False, 1),
        (LinkUnavailable("the answer was lost"), True, 1),
    ],
)
def test_only_a_draw_that_was_not_sent_is_repeated(
    monkeypatch: pytest.MonkeyPatch, error: DrawwellError, persist: bool, tries: int
) -> None:
    """A broker is tried for the whole time, but a lost draw is not repeated."""
    link = Away(error)
    monkeypatch.setattr(upstream, "time", SimpleNamespace(monotonic=lambda: link.now))
    with pytest.raises(type(error)):
        upstream.draw_patiently(link, 32, DrawClass.FULL, 5.0, persist=persist)  # type: ignore[arg-type]
    assert link.tries == tries
