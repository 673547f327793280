"""The list of brokers, and the order in which consumers try them."""

from collections import Counter
from typing import Any

import pytest

from drawwell.wire.brokers import KnownBroker, KnownBrokers, in_order

SITES = [KnownBroker(f"site-{letter}", (f"{letter}.example:55000",)) for letter in "abcd"]
CONSUMERS = [f"web{number}" for number in range(3000)]


def test_consumers_spread_over_all_brokers() -> None:
    """Of 3000 consumers, 900 to 1100 try each of three brokers first."""
    first = Counter(in_order(SITES[:3], name)[0].name for name in CONSUMERS)
    assert all(900 < count < 1100 for count in first.values())
    assert len(first) == 3


def test_a_new_broker_moves_only_the_consumers_that_it_takes_over() -> None:
    """All other consumers keep their first broker."""
    for name in CONSUMERS:
        before, after = in_order(SITES[:3], name)[0], in_order(SITES, name)[0]
        assert after in {before, SITES[3]}


def test_the_broker_of_the_own_site_comes_first() -> None:
    """The others follow in their usual order."""
    for name in CONSUMERS[:100]:
        preferred = in_order(SITES, name, "site-c")
        assert preferred[0].name == "site-c"
        assert preferred[1:] == [each for each in in_order(SITES, name) if each.name != "site-c"]


@pytest.mark.parametrize(
    "fields",
    [
        None,
        {},
        {"fleet": "", "brokers": 1},
        {"fleet": "", "brokers": [{"name": "a"}]},
        {"fleet": 1, "brokers": []},
        {"fleet": "", "brokers": [{"name": "a", "addresses": "a:1"}] * 65},
        {"fleet": "", "brokers": [{"name": "a\n", "addresses": ["a:1"]}]},
        {"fleet": "", "brokers": [{"name": "a", "addresses": [7]}]},
    ],
)
def test_a_list_of_another_form_is_refused(fields: Any) -> None:
    """Any fault raises ValueError."""
    with pytest.raises(ValueError, match="broker"):
        KnownBrokers.read(fields)
