"""Consumers by local user, and the terms of the configuration."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from drawwell.broker.account import Terms
from drawwell.broker.identities import (
    certificate_names,
    configured_terms,
    invited_terms,
    link_consumer,
    local_consumer,
    ssh_consumer,
)
from drawwell.config.load import load
from drawwell.config.model import Config
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import PermissionRefused
from drawwell.state.rows import ConsumerRow

BOTH = frozenset(DrawClass)
OTHER = os.geteuid() + 1000


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Return a configuration with two consumers, a kernel feed and SSH."""
    file = tmp_path / "drawwell.toml"
    file.write_text(
        '[[consumer]]\nname = "web01"\nclass = "full"\nweight = 3\n'
        '[[consumer]]\nname = "db01"\n[kernel]\nfeed = true\n'
    )
    read = load(str(file))
    web01, db01, *others = read.consumers
    return replace(
        read,
        kernel=replace(read.kernel, uid=OTHER + 1),
        consumers=(replace(web01, uid=OTHER + 2), db01, *others),
        ssh=replace(read.ssh, uid=OTHER + 3),
    )


class Keys:
    """A registry with the key of one consumer."""

    def check_key(self, name: str, key: str) -> str:
        if (name, key) != ("backup", "SHA256:k"):
            raise PermissionRefused(f"no consumer {name!r} comes with an SSH key")
        return name


@pytest.mark.parametrize(
    ("uid", "consumer"),
    [(0, "local"), (os.geteuid(), "local"), (OTHER + 1, "kernel"), (OTHER + 2, "web01")],
)
def test_a_local_user_is_one_consumer(config: Config, uid: int, consumer: str) -> None:
    """Root and the broker's user are `local`, other users as configured."""
    assert local_consumer(config, uid) == consumer


def test_a_user_without_an_entry_is_refused(config: Config) -> None:
    """A user without a section cannot draw, not even at the link's socket."""
    for consumer in (local_consumer, link_consumer):
        with pytest.raises(PermissionRefused, match=f"user ID {OTHER}"):
            consumer(config, OTHER)


@pytest.mark.parametrize(("uid", "consumer"), [(0, "local"), (OTHER + 1, "kernel")])
def test_the_link_serves_its_owner_and_the_kernel_feed(config: Config, uid: int, consumer: str) -> None:
    """The link's socket serves only these two consumers."""
    assert link_consumer(config, uid) == consumer


def test_a_consumer_of_the_broker_is_none_of_the_link(config: Config) -> None:
    """A [[consumer]] is a consumer of the broker, not of the link."""
    with pytest.raises(PermissionRefused):
        link_consumer(config, OTHER + 2)


def test_only_the_ssh_account_and_the_owner_name_a_consumer(config: Config) -> None:
    """Only sshd's account and root can name a consumer with a key."""
    for uid in (0, OTHER + 3):
        assert ssh_consumer(config, Keys(), uid, "backup", "SHA256:k") == "backup"
    with pytest.raises(PermissionRefused, match="no consumer 'web01'"):
        ssh_consumer(config, Keys(), 0, "web01", "SHA256:k")
    with pytest.raises(PermissionRefused, match="may not open sessions for consumers"):
        ssh_consumer(config, Keys(), OTHER, "backup", "SHA256:k")


def test_terms_are_those_of_the_configuration(config: Config) -> None:
    """A consumer has its class and weight; `local` has both classes."""
    assert configured_terms(config) == {
        "local": Terms(BOTH, None, None),
        "kernel": Terms(BOTH, None, None),
        "web01": Terms(frozenset({DrawClass.FULL}), None, None, 3),
        "db01": Terms(BOTH, None, None),
    }


def test_a_kernel_that_is_not_fed_has_no_terms(config: Config) -> None:
    """Without feeding there is no consumer `kernel`."""
    assert "kernel" not in configured_terms(
        replace(config, kernel=replace(config.kernel, feed=False, uid=None))
    )


def test_no_certificate_names_this_machines_own_consumers(config: Config) -> None:
    """A certificate can name a [[consumer]], but not `kernel` or `local`."""
    kernel = replace(config.consumers[0], name="kernel")
    consumers = (*config.consumers, kernel)
    assert certificate_names(replace(config, consumers=consumers)) == {"web01": "web01", "db01": "db01"}


def test_an_invited_consumer_has_the_terms_of_its_invitation() -> None:
    """Classes, rate, quota and stream come from the consumer's row."""
    classes = frozenset({DrawClass.DRBG})
    row = ConsumerRow("backup", None, None, classes, 0.0, stream=True)
    assert invited_terms(row) == Terms(classes, None, None, stream=True)
