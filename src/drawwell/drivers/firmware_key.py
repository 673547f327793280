"""The key that must have signed a OneRNG's firmware image."""

from drawwell.config.broker_side import SourceSection
from drawwell.errors import ConfigError
from drawwell.onerng.image import BadSignature
from drawwell.onerng.openpgp_key import MAX_KEY_BYTES, signer_of
from drawwell.onerng.verify import VENDOR, Signer


def firmware_signer(section: SourceSection) -> Signer:
    """Return the required signer of a source's firmware.

    Raises:
        ConfigError: the key file cannot be read or contains no key.
    """
    path = section.firmware_key
    if not path:
        return VENDOR
    try:
        with open(path, "rb") as file:
            return signer_of(file.read(MAX_KEY_BYTES + 1))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
    except BadSignature as error:
        reason = str(error)
    raise ConfigError(
        f"source {section.name}: firmware_key {path}: {reason}",
        hint="Create it with 'gpg --export --armor KEY'. The source's user must be able to read it.",
    )
