"""Names that do not resolve, and certificates that are due."""

import asyncio
import socket
from types import SimpleNamespace

import pytest

from drawwell.crypto.tokens import Token
from drawwell.errors import LinkUnavailable
from drawwell.links.enrol import exchange
from drawwell.roles import upstream


def test_a_name_that_does_not_resolve_leads_to_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hint has [tls] names, by which the operator chose the name."""

    def unknown(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", unknown)
    token = Token("vm", 55001, bytes(32), "A" * 11, bytes(32))
    with pytest.raises(LinkUnavailable) as caught:
        exchange(token, b"", 1.0)  # short: nothing is waited for
    assert "[tls] names" in str(caught.value.hint)


def test_a_draw_renews_each_certificate_and_survives_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A draw renews what is due; a failure stops neither others nor the draw."""
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
