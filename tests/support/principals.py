"""Principals, as created by doors."""

from drawwell.authorisation import Principal, Role

OWNER = Principal(Role.OWNER, "root")


def consumer(name: str = "web01", key: str = "") -> Principal:
    """Return the consumer with this name and the certificate `key`."""
    return Principal(Role.CONSUMER, name, key)
