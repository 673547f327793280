"""Attacks on receipts: every permitted configuration can sign."""

import pytest

from drawwell.config.broker_side import MAX_SOURCES
from drawwell.config.load import load
from drawwell.crypto import receipt_form
from drawwell.crypto.receipts import ReceiptBody, ReceiptSigner, ReceiptSource, receipt_key_from_seed
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import ConfigError

LONGEST = 63
SIGNER = ReceiptSigner(receipt_key_from_seed(bytes(32)))


def test_the_most_sources_with_the_longest_texts_fit_into_a_receipt() -> None:
    """A draw with a receipt succeeds for any names and firmware of sources."""
    longest = ReceiptSource(
        name="n" * LONGEST, kind="onerng", simulated=False, noise="after the maker's conditioning",
        firmware="f" * 255, state="intermittent failure", health_epoch=10**9,
    )  # fmt: skip
    body = ReceiptBody.of(
        broker="b" * LONGEST, consumer="c" * LONGEST, sources=(longest,) * MAX_SOURCES,
        draw_class=DrawClass.FULL, serial=2**63 - 1, time=1e10, data=bytes(65_536), key=bytes(32),
    )  # fmt: skip
    assert len(SIGNER.sign(body)) <= receipt_form.MAX_RECEIPT_BYTES


def test_no_more_sources_can_be_combined_than_a_receipt_can_name(folder) -> None:
    """The configuration limits min_sources."""
    path = folder / "drawwell.toml"
    for count, is_good in ((MAX_SOURCES, True), (MAX_SOURCES + 1, False)):
        path.write_text(f"[broker]\nmin_sources = {count}\ndeposits = true\n")
        if is_good:
            assert load(str(path)).broker.min_sources == count
        else:
            with pytest.raises(ConfigError) as caught:
                load(str(path))
            assert "outside the range 1 to 32" in caught.value.faults[0]


def test_more_sources_than_a_receipt_can_name_are_a_fault_of_the_configuration(folder) -> None:
    """The operator gets the error at once, rather than a consumer later."""
    for count, faults in ((MAX_SOURCES, ()), (MAX_SOURCES + 1, ("room for only 32",))):
        path = folder / "drawwell.toml"
        path.write_text("".join(f'[[source]]\nname = "s{n}"\npath = "/dev/s{n}"\n' for n in range(count)))
        try:
            load(str(path))
            found: tuple[str, ...] = ()
        except ConfigError as error:
            found = error.faults
        assert len(found) == len(faults)
        assert all(fault in line for fault, line in zip(faults, found, strict=True))
