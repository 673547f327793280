"""The settings of a broker that shares its consumers with other brokers."""

import re
from typing import Final

from drawwell.config.fields import Section, setting
from drawwell.config.values import NAME, PATH, Duration, Flag, Text, write_text

_PASSWORD: Final = re.compile(r"//[^/@]*:[^/@]*@|\bpassword\s*=")


class StoreAddress:
    """The address of a PostgreSQL database, without a password."""

    range: Final = "postgresql://USER@HOST/DATABASE?sslmode=verify-full, or libpq's KEY=VALUE form"

    def parse(self, value: object) -> str:
        """Parse an address; the ValueError never repeats a password."""
        text = str(Text(r"(postgres(ql)?://|\w+ *=).*", self.range).parse(value)) if value else ""
        if _PASSWORD.search(text):
            raise ValueError(
                "contains a password. Store the password in a file with mode 0600 and add passfile=PATH"
            )
        return text

    def write(self, value: str) -> str:
        """Format an address as TOML."""
        return write_text(value)


class FleetSection(Section):
    """Several brokers that share their consumers in one PostgreSQL database.

    Without `store` there is no fleet.
    """

    store: str = setting(
        StoreAddress(),
        "",
        what="The address of the fleet's PostgreSQL database, in libpq syntax.",
        why="Each broker has its own database role. 'drawwell fleet init' and 'fleet join' write this key.",
        example='"postgresql://drawwell_broker_site-a@db1,db2/drawwell?sslmode=verify-full"',
    )
    name: str = setting(
        NAME,
        default_is="not checked",
        what="The fleet's name. The broker refuses the store of another fleet.",
        why="The check prevents a wrong address from connecting two fleets.",
        example='"example"',
    )
    owner: str = setting(
        PATH,
        default_is="fleet-owner in $CREDENTIALS_DIRECTORY under systemd, else in state_dir",
        what="The file with the store's address for the owner's database role. Only root can read the file.",
        why="Only a broker with this file can invite and revoke consumers and change their quotas.",
        example='"/etc/drawwell/fleet-owner"',
    )
    grace: float = setting(
        Duration(10, 86400),
        "15min",
        what="How long a broker that is cut off from the store continues to serve from its leases.",
        why="A longer time covers longer outages, but a disconnected broker serves revoked consumers as long.",
        example='"5min"',
    )
    allow_async: bool = setting(
        Flag(),
        False,
        what="Accept a store with an asynchronous standby.",
        why="If the primary fails, the latest leases can be lost, and consumers can exceed their quotas by that much.",
        example="true",
    )
