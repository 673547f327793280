"""links/identity.py: what `join` writes, and what it did not write."""

import json
from pathlib import Path

import pytest

from drawwell.errors import StateUnavailable
from drawwell.links.identity import LINK, load


@pytest.mark.parametrize("addresses", [[], "well:55000", [7], None])
def test_a_link_without_an_address_is_not_read(tmp_path: Path, addresses: object) -> None:
    """Its users take the first address, so a file without one is refused."""
    (tmp_path / LINK).write_text(json.dumps({"broker": "a", "consumer": "web01", "addresses": addresses}))
    with pytest.raises(StateUnavailable, match="was not written by 'drawwell join'"):
        load(str(tmp_path))
