"""The USB descriptors of a real OneRNG and of a virtual one.

Source: OneRNG/firmware 81d70bf, cdc.c. Every real device has the serial number "00".
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
"""With this name, a drawwell in the guest expects a broker's bytes and unsigned firmware."""


def virtual_id(name: str) -> str:
    """Return a virtual device's ``cmdI`` reply: 32 digits, fixed and public."""
    return hashlib.sha256(b"drawwell virtual OneRNG\0" + name.encode()).hexdigest()[:32].upper()
