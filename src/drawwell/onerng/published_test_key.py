"""The public and private key that signs the simulated firmware.

The private key is public, so its signature proves nothing about a device. drawwell accepts
the signature only from a pseudo-terminal, and marks what it verifies as simulated. Others can
use the key, with the simulated device, to test their own verifiers.
"""

from typing import Final

from drawwell.onerng.openpgp import RsaKey

USER_ID: Final = "SIMULATED OneRNG, published test key, proves nothing <simulated@drawwell.invalid>"
CREATED: Final = 1_735_689_600
"""2025-01-01, the time of the key and all its signatures: images are reproducible."""

_N: Final = (
    "9cc2620bcef999206da9dd52462aa0c106048967cb8930db3f6a48fa9344cca9ce39e177e0132e633348731ee90b4589"
    "48c40d86c9a20aa13481f59b1f6f7993893c71fbb5d0d92fd14aefcea0429e2286419002b69b53275878a26fc35d7801"
    "b4ca12027f870e9cd9ac65bfd5ff41353cb8e41da8cac7086fa58c54fa0e98e468a3ba7dd323f325073c75a3e88ba355"
    "c0fd84b4306457263aebf27a50a2e0d6db2a8235572e92cc7aed725e7aea49b6584a2f6d9bcdf3a2f599d957d21d1d28"
    "1ae18e1dba3216747e5b0c56f5202027aefb6dd529dcabcbd2f4d66fd418ac4d7b07cf6d28b310cd4878eb33619d0daa"
    "2ac4107f37d8d89dcd0a824ae64a46d3"
)
_PUBLISHED_D: Final = (
    "32d63120be3b20c72cf940eead15a6f36225b77fe33877112b34273da7e3d071a3110f472672620146c0d0a0ae17fb31"
    "85d91abfe304fb6883144057d1ae7fa17288993875a2a8c4829dc83e5ca7ae0be9393ae03e6309e9011e8223379ac8cf"
    "d8d70d57250f621448dd495418acc27366e1590d2b4fb3934f4dc3404da5cd3c07955c53d7166e7d6bbb23e25f3d226e"
    "8c443057b3d61e42950193ab4033b7fa5f6a3915fc6edcd8d7d598d4a332fd32cc5436b5408c933e32dc6f2adc2711ec"
    "2999ecfd463de2343139e13b17025c2c8ea1d2c0b7e230815fcab37ea95626ad6edc885da4597ae4128dbb05f8e2337c"
    "755185a9e673cfc2f381950d824131e1"
)

PUBLIC: Final = RsaKey(created=CREATED, n=int(_N, 16), e=65537)
PUBLISHED_PRIVATE_EXPONENT: Final = int(_PUBLISHED_D, 16)
