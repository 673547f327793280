"""The keys of a broker: in its own process, or the signer's."""

import logging
import os
from contextlib import closing, suppress

from drawwell.config.model import Config
from drawwell.enrolment.ca import SigningKeys
from drawwell.enrolment.key_ring import RECEIPT_KEY, KeyRing
from drawwell.errors import StateUnavailable, UsageError
from drawwell.links.signer import RemoteKeys
from drawwell.state.files import read_file, read_secret

log = logging.getLogger("drawwell.broker")
_HAND_OVER_S = 30.0
"""A signer that starts for this first connection answers later than one that runs."""
_OWN_FILES = {"ca_certificate": "pki/ca.pem", "ca_key": "pki/ca-key.pem", "receipt_key": RECEIPT_KEY}
"""The keys of a broker of release 0.1, below its state directory."""


def signing_keys(config: Config, now: float, *, apart: bool) -> SigningKeys:
    """Return the signer's keys for a broker `apart`, else our own.

    Raises:
        StateUnavailable: the keys of this process cannot be read or written, or those that an
            earlier process held itself are not the signer's yet: it would make others.
    """
    state = config.broker.state_dir
    if not apart:
        log.info(
            "this process holds the keys of CA and receipts: 'drawwell broker run' leaves them to a signer"
        )
        receipt_key = os.path.join(state, RECEIPT_KEY)
        return KeyRing(os.path.join(state, "pki"), config.broker.name, now, receipt_key)
    if os.path.exists(os.path.join(state, "pki", "root.pem")):
        raise _not_moved(state, config.signer.dir)
    try:
        with closing(RemoteKeys(config.signer.socket, _HAND_OVER_S)) as signer:
            _hand_over(signer, state)
    except UsageError as error:
        log.error("%s", error)
    except ValueError as error:
        raise StateUnavailable(
            f"the signer does not take the keys below {state}: {error}",
            hint="Restore them from a backup, or move them away: then the signer makes others.",
        ) from error
    return RemoteKeys(config.signer.socket)


def _not_moved(state: str, directory: str) -> StateUnavailable:
    files = f"{state}/pki/{{root,intermediate,next-root,earlier,keys}}* {state}/{RECEIPT_KEY}"
    return StateUnavailable(
        f"{state}/pki holds the keys of this broker, and the signer must have them",
        hint=f"Type 'mv {files} {directory}/; chown -R drawwell-signer: {directory}', and start the signer again.",
    )


def _hand_over(keys: RemoteKeys, state: str) -> None:
    """Give the keys of release 0.1 to the signer, and remove them here."""
    paths = {name: os.path.join(state, file) for name, file in _OWN_FILES.items()}
    found = {name: path for name, path in paths.items() if os.path.exists(path)}
    if not found.keys() - {"ca_certificate"}:
        return
    pems = {
        name: (read_file(path) if name == "ca_certificate" else read_secret(path)).decode()
        for name, path in found.items()
    }
    keys.ask("adopt", **(dict.fromkeys(paths, "") | pems))
    for path in found.values():
        with suppress(FileNotFoundError):
            os.unlink(path)
    log.warning("the signer has the keys of this broker now; backups from before hold them, too")
