"""A broker's keys, in its own process or in the signer's process."""

import logging
import os
from contextlib import closing, suppress

from drawwell.config.model import Config
from drawwell.enrolment.ca import SigningKeys
from drawwell.enrolment.key_files import RECEIPT_KEY
from drawwell.enrolment.key_ring import KeyRing
from drawwell.errors import StateUnavailable, UsageError
from drawwell.links.signer import RemoteKeys
from drawwell.state.files import read_file, read_secret

log = logging.getLogger("drawwell.broker")
_HAND_OVER_S = 30.0
"""Limit for the first connection, which may have to start the signer."""
_OWN_FILES = {"ca_certificate": "pki/ca.pem", "ca_key": "pki/ca-key.pem", "receipt_key": RECEIPT_KEY}
"""The keys of a broker of release 0.1, relative to its state directory."""


def signing_keys(config: Config, now: float, *, apart: bool) -> SigningKeys:
    """Return the signer's keys for a broker that runs `apart`, or our own.

    Raises:
        StateUnavailable: the keys of this process cannot be read or written, or the signer has
            not received the keys of an earlier process yet and would create new ones.
    """
    state = config.broker.state_dir
    if not apart:
        log.info(
            "this process holds the CA and receipt keys; with 'drawwell broker run', a signer holds them"
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
            f"the signer does not accept the keys in {state}: {error}",
            hint="Restore the keys from a backup, or move them away: the signer then creates new keys.",
        ) from error
    return RemoteKeys(config.signer.socket)


def _not_moved(state: str, directory: str) -> StateUnavailable:
    files = f"{state}/pki/{{root,intermediate,next-root,earlier,keys}}* {state}/{RECEIPT_KEY}"
    return StateUnavailable(
        f"{state}/pki contains this broker's keys, which belong to the signer",
        hint=f"Run 'mv {files} {directory}/; chown -R drawwell-signer: {directory}', then restart the signer.",
    )


def _hand_over(keys: RemoteKeys, state: str) -> None:
    """Move a release 0.1 broker's keys to the signer."""
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
    log.warning("the signer now has this broker's keys; earlier backups still contain them")
