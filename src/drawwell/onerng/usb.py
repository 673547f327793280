"""What a OneRNG says of itself on USB, and what a virtual one says instead.

Source: OneRNG/firmware 81d70bf, cdc.c (descriptors). A real one has the serial number "00", as has every other.
"""

import hashlib
from typing import Final

VENDOR_ID: Final = 0x1D50
PRODUCT_ID: Final = 0x6086
USB_ID: Final = f"{VENDOR_ID:04x}:{PRODUCT_ID:04x}"
RELEASE_BCD: Final = 0x0009
MANUFACTURER: Final = "Moonbase Otago http://www.moonbaseotago.com/random"
PRODUCT: Final = "00"
SERIAL: Final = "00"
VIRTUAL_MANUFACTURER: Final = "drawwell"
VIRTUAL_PRODUCT: Final = "drawwell virtual OneRNG"
"""By this drawwell in a guest knows that its bytes come of a broker, and that no firmware can be verified."""


def virtual_id(name: str) -> str:
    """Return what ``cmdI`` of the virtual device of `name` answers: 32 digits, the same each time, of no secret."""
    return hashlib.sha256(b"drawwell virtual OneRNG\0" + name.encode()).hexdigest()[:32].upper()
