"""The key that a OneRNG's firmware image must be signed by."""

from drawwell.config.broker_side import SourceSection
from drawwell.errors import ConfigError
from drawwell.onerng.image import BadSignature
from drawwell.onerng.openpgp_key import MAX_KEY_BYTES, signer_of
from drawwell.onerng.verify import VENDOR, Signer


def firmware_signer(section: SourceSection) -> Signer:
    """Return the signer that a source's firmware must have.

    Raises:
        ConfigError: the key file cannot be read, or has no key in it.
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
        hint="Write it with 'gpg --export --armor KEY', readable to the account that the source runs under.",
    )
