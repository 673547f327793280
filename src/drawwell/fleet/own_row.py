"""The row that a broker writes about itself to the fleet's store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class OwnRow:
    """A broker's row.

    `certificate` is the SHA-256 of the certificate's key. `receipt_key` has the public keys
    (PEM). `report` has the fields of `FleetBrokerReport` for other brokers to display.
    `changes_read` is the number of the last change that the broker has applied.
    """

    addresses: Sequence[str]
    certificate: str
    receipt_key: str
    version: str
    report: Mapping[str, Any]
    changes_read: int = 0
