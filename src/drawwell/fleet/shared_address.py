"""The store's address for another broker, with password and CA."""

import os
from dataclasses import dataclass, field, replace

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from drawwell.errors import ConfigError
from drawwell.state.files import read_file, read_secret


@dataclass(frozen=True, slots=True)
class SharedAddress:
    """An address that contains its files' contents instead of their paths.

    `password` and `ca` (PEM) are "" if the address needs none.
    """

    address: str
    password: str = field(repr=False)
    ca: str = ""

    @classmethod
    def of(cls, address: str) -> "SharedAddress":
        """Create a shared address from an address and the files that it names.

        Raises:
            ConfigError: the address is invalid.
            StateUnavailable, PermissionRefused: a file cannot be read.
        """
        given = {"sslrootcert": _usual_ca()} | read_address(address)
        passfile, ca = given.pop("passfile", ""), given.pop("sslrootcert", "")
        password = given.pop("password", "")
        if not password and passfile:
            password = password_of(read_secret(passfile).decode(), given.get("user", ""))
        keeps = ca == "system"
        return cls(
            make_conninfo("", **given, **({"sslrootcert": ca} if keeps else {})),
            password,
            read_file(ca).decode() if ca and not keeps else "",
        )

    def by(self, role: str, password: str) -> "SharedAddress":
        """Return the address for another role."""
        return replace(self, address=make_conninfo(self.address, user=role), password=password)

    def here(self, passfile: str, ca_file: str) -> str:
        """Return the address with paths of files on this machine."""
        files = {"passfile": passfile if self.password else "", "sslrootcert": ca_file if self.ca else ""}
        return make_conninfo(self.address, **{key: path for key, path in files.items() if path})

    def password_line(self) -> str:
        """Return the line of a password file (libpq, "The Password File")."""
        user = read_address(self.address).get("user", "*")
        fields = (
            "*",
            "*",
            "*",
            *(text.replace("\\", "\\\\").replace(":", "\\:") for text in (user, self.password)),
        )
        return ":".join(fields) + "\n"


def _usual_ca() -> str:
    """Return libpq's default CA file; "" if it is missing."""
    path = os.path.expanduser("~/.postgresql/root.crt")
    return path if os.path.exists(path) else ""


def read_address(address: str) -> dict[str, str]:
    """Parse an address.

    Raises:
        ConfigError: the text is not an address.
    """
    try:
        return {key: str(value) for key, value in conninfo_to_dict(address).items() if value}
    except psycopg.Error as error:
        raise ConfigError(
            "the address of the fleet's store is invalid",
            hint="Write it as postgresql://OWNER@HOST/DATABASE?sslmode=verify-full.",
        ) from error


def password_of(lines: str, user: str) -> str:
    """Return the first password for a user in a password file."""
    for line in lines.splitlines():
        fields: list[str] = []
        field_, escaped = "", False
        for letter in line:
            if escaped or letter not in "\\:":
                field_, escaped = field_ + letter, False
            elif letter == "\\":
                escaped = True
            else:
                fields, field_ = [*fields, field_], ""
        if len(fields) == 4 and fields[3] in {"*", user}:
            return field_
    return ""
