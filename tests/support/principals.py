"""Principals, as doors make them."""

from drawwell.authorisation import Principal, Role

OWNER = Principal(Role.OWNER, "root")


def consumer(name: str = "web01", key: str = "") -> Principal:
    """Return the consumer of that name, with the certificate `key`."""
    return Principal(Role.CONSUMER, name, key)
