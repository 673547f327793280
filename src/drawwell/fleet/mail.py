"""Messages that a broker and its fleet's root exchange through the store.

The root signs certificates and the list of keys, and only the owner's role can write them.
"""

from drawwell.config.model import Config
from drawwell.errors import PermissionRefused, UsageError
from drawwell.fleet.connection import StoreConnection
from drawwell.fleet.parts import owner_address, store_address
from drawwell.fleet.passwords import new_password, scram_verifier


class BrokerMail:
    """A broker's request for a certificate, the answer, and the list of keys.

    Args:
        config: A configuration with [fleet].

    Raises:
        StateUnavailable: from every method: the store cannot be used.
    """

    def __init__(self, config: Config) -> None:
        self._store = StoreConnection(store_address(config), f"{config.broker.name} mail")

    def ask_certificate(self, csr: str) -> None:
        """Request a certificate; this replaces any earlier request."""
        self._store.call("ask_certificate", csr)

    def certificate(self) -> str:
        """Return the answer to the request; "" until there is an answer."""
        return str(self._store.call("own_certificate")[0][0] or "")

    def keys(self) -> str:
        """Return the list of keys; "" until there is a list."""
        return str(self._store.call("fleet_keys")[0][0])

    def close(self) -> None:
        """Drop the connection."""
        self._store.close()


class FleetOwner:
    """The owner role's operations on brokers.

    Args:
        config: A configuration with [fleet].

    Raises:
        PermissionRefused: from every method: this machine does not have the owner's role.
        StateUnavailable: from every method: the store cannot be used.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._store: StoreConnection | None = None

    def require(self) -> None:
        """Check that this machine has the owner's role."""
        self._owned()

    def admit(self, broker: str) -> tuple[str, str]:
        """Create a broker's role and end its sessions; return role and password."""
        password = new_password()
        role = str(self._owned().call("admit_broker", broker, scram_verifier(password))[0][0])
        self._owned().call("end_sessions", broker)
        return role, password

    def remove(self, broker: str, *, known: bool, running: bool) -> None:
        """Revoke a broker's role, end its sessions and delete its rows.

        Args:
            broker: The broker's name.
            known: Whether the broker was certified, even if it has never used the store.
            running: Whether to remove a broker that is using the store.

        Raises:
            UsageError: the broker is running, or does not exist.
        """
        answer = self._owned().call("exclude_broker", broker, known, running)[0][0]
        if answer == "unknown":
            raise UsageError(
                f"this fleet has no broker {broker}", hint="'drawwell fleet status' shows the names."
            )
        if answer == "running":
            raise UsageError(
                f"broker {broker} is running",
                hint="Stop it there: systemctl disable --now drawwell-broker. If it was stolen, add --running.",
            )
        self._owned().call("end_sessions", broker)
        self._owned().call("forget_broker", broker)

    def requests(self) -> list[tuple[str, str]]:
        """Return name and signing request of each broker that waits for an answer."""
        return [(str(name), str(csr)) for name, csr in self._owned().call("certificate_requests")]

    def answer(self, broker: str, csr: str, certificate: str) -> None:
        """Store the certificate for a request."""
        self._owned().call("answer_request", broker, csr, certificate)

    def drop(self, broker: str, csr: str) -> None:
        """Drop a refused request; the broker can send another."""
        self._owned().call("drop_request", broker, csr)

    def publish_keys(self, keys: str) -> None:
        """Store the list of keys that the root has signed."""
        self._owned().call("publish_keys", keys)

    def close(self) -> None:
        """Drop the connection."""
        if self._store:
            self._store.close()

    def _owned(self) -> StoreConnection:
        if self._store is None:
            address = owner_address(self._config)
            if address is None:
                raise PermissionRefused(
                    f"broker {self._config.broker.name} does not have the role of the fleet's owner",
                    hint="Run this where 'drawwell fleet init' was run, or restore the file fleet-owner.",
                )
            self._store = StoreConnection(address, f"{self._config.broker.name} owner")
        return self._store
