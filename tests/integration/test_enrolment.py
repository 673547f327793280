"""Inviting and joining over loopback, and every refusal of a token."""

import asyncio
import dataclasses
import os
import socket
import threading

import pytest

from drawwell.crypto import pki, tokens
from drawwell.errors import (
    ConfigError,
    LinkUnavailable,
    PermissionRefused,
)
from drawwell.links.enrol import join
from drawwell.links.identity import load
from support.enrolling import Broker, status, text


@pytest.fixture
def broker(tmp_path):
    with Broker(str(tmp_path / "broker")).running() as broker:
        yield broker


@pytest.fixture
def link(tmp_path):
    return str(tmp_path / "links" / "well")


def test_a_machine_joins_with_its_token(broker, link) -> None:
    """A joiner with the token gets a registered certificate and settings."""
    token = broker.invite(rate="4KiB/s", quota="10MiB/day")

    identity = join(token, link)

    certificate = pki.pem_blocks(text(identity.certificate_path).encode())[0]
    assert asyncio.run(broker.registry.identify(certificate)).name == "web01"
    assert (identity.broker, identity.consumer, identity.addresses) == ("well", "web01", ("127.0.0.1:55000",))
    assert text(identity.receipt_key_path).encode() == broker.authority.public.receipt_key
    assert load(link) == identity
    assert os.stat(identity.key_path).st_mode & 0o777 == 0o600
    assert os.stat(link).st_mode & 0o777 == 0o700
    assert os.listdir(os.path.dirname(link)) == ["well"]
    assert status(broker, token) == "used"


def test_the_door_stays_open_until_the_invitation_ends(broker, link) -> None:
    """The door is closed before an invitation, and open after the token's use."""
    before = broker.door.ready.is_set()
    token = broker.invite()
    join(token, link)

    assert not before
    assert broker.door.ready.is_set()
    broker.clock.ahead = 901
    broker.ask("consumer.quota", name="web01", rate="4KiB/s")
    broker.wait(broker.door.shut)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", broker.port))


def test_the_door_shuts_when_the_last_invitation_expires(broker) -> None:
    """The listener closes at that time, even if no machine joined."""
    token = broker.invite(ttl="200ms")
    broker.wait(broker.door.shut)

    assert status(broker, token) == "expired"


def test_a_port_in_use_is_reported_to_the_operator(broker) -> None:
    """An invitation fails with the reason if the door cannot open."""
    with socket.create_server(("127.0.0.1", broker.port)), pytest.raises(ConfigError, match="in use"):
        broker.invite()


def test_the_second_with_a_token_learns_who_was_first(broker, link) -> None:
    """A second joiner and the owner are shown where and when it was used."""
    token = broker.invite()
    join(token, link)
    broker.answered.clear()

    with pytest.raises(
        PermissionRefused, match=r"web01 was already used from 127.0.0.1 at 20.* UTC"
    ) as caught:
        join(token, link + "2")
    assert "consumer revoke" in str(caught.value.hint)
    assert not os.path.exists(link + "2")
    assert broker.answered == [("", "127.0.0.1", "used")]
    assert broker.door.remark().startswith(
        "127.0.0.1 tried to join: the invitation of web01 was already used"
    )
    assert broker.ask("consumer.list")["consumers"][0]["invitation_used_from"] == "127.0.0.1"
    broker.ask("consumer.revoke", name="web01")
    assert broker.door.remark() == ""


def test_of_two_machines_at_once_one_joins(broker, link) -> None:
    """Of two joins with one token at once, exactly one succeeds."""
    token = broker.invite()
    broker.invite("other")
    outcomes: list[str] = []

    def try_it(name: str) -> None:
        try:
            outcomes.append(join(token, link + name).consumer)
        except PermissionRefused as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=try_it, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert "was already used" in min(outcomes)
    assert max(outcomes) == "web01"
    assert len(broker.store.certificates("web01")) == 1


def test_an_expired_token_is_refused_as_expired(broker, link) -> None:
    """The refusal of an expired token states this reason."""
    token = broker.invite(ttl="15m")
    broker.invite("other", ttl="1h")
    broker.clock.ahead = 901

    with pytest.raises(PermissionRefused, match="expired"):
        join(token, link)


def test_a_wrong_secret_and_an_unknown_invitation_get_the_same_answer(broker, link) -> None:
    """A wrong secret gets the same answer as an unknown invitation."""
    token = broker.invite()
    guesses = (
        dataclasses.replace(token, secret=bytes(32)),
        dataclasses.replace(token, invitation=tokens.invitation_name(bytes(8))),
    )
    answers = []
    for guess in guesses:
        with pytest.raises(PermissionRefused) as caught:
            join(guess, link)
        answers.append((str(caught.value), caught.value.hint))

    assert answers[0] == answers[1]
    assert join(token, link).consumer == "web01", "one wrong try does not spoil it"


def test_five_wrong_secrets_make_an_invitation_void(broker, link) -> None:
    """After five wrong secrets, even the right one is refused."""
    token = broker.invite()
    broker.invite("other")
    for _ in range(5):
        with pytest.raises(PermissionRefused, match="unknown invitation"):
            join(dataclasses.replace(token, secret=bytes(32)), link)

    with pytest.raises(PermissionRefused, match="too many times"):
        join(token, link)
    assert broker.store.certificates("web01") == {}


def test_a_used_token_gives_a_guesser_nothing(broker, link) -> None:
    """Only a joiner with the secret gets the error that it was used."""
    token = broker.invite()
    join(token, link)
    broker.invite("other")

    with pytest.raises(PermissionRefused, match="unknown invitation"):
        join(dataclasses.replace(token, secret=bytes(32)), link + "2")


def test_a_revoked_invitation_is_void(broker, link) -> None:
    """Revoking the consumer voids its invitation."""
    token = broker.invite()
    broker.invite("other")
    broker.ask("consumer.revoke", name="web01")

    with pytest.raises(PermissionRefused, match="revoked"):
        join(token, link)


def test_a_full_state_issues_nothing(broker, link) -> None:
    """If the use of the invitation cannot be written, no certificate is sent."""
    token = broker.invite()
    broker.store._db.execute("PRAGMA query_only=ON")

    with pytest.raises(LinkUnavailable, match="cannot write its state"):
        join(token, link)
    broker.store._db.execute("PRAGMA query_only=OFF")

    assert join(token, link).consumer == "web01"
