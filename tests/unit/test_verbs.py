"""The arguments that the verb table passes to handlers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawwell.errors import UsageError
from drawwell.verbs import CONTROL_VERBS

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@pytest.mark.slow
@pytest.mark.parametrize("verb", CONTROL_VERBS)
@given(data=st.data())
def test_a_handler_gets_every_argument_and_no_other(verb: str, data: st.DataObject) -> None:
    """A handler is called with all arguments of its verb, or not at all."""
    entry = CONTROL_VERBS[verb]
    names = st.sampled_from([*entry.arguments, "unknown"]) | st.text()
    sent = data.draw(st.dictionaries(names, JSON))
    try:
        read = entry.read(sent)
    except UsageError:
        return
    assert read.keys() == entry.arguments.keys() >= sent.keys()


@pytest.mark.parametrize("verb", CONTROL_VERBS)
def test_an_unknown_argument_is_refused(verb: str) -> None:
    """An argument that is not in the table is refused by name."""
    with pytest.raises(UsageError, match="unknown argument 'unknown'"):
        CONTROL_VERBS[verb].read({"unknown": 1})


@pytest.mark.parametrize(
    ("verb", "argument"),
    [
        (verb.name, name)
        for verb in CONTROL_VERBS.values()
        for name, each in verb.arguments.items()
        if each.required
    ],
)
@pytest.mark.parametrize("value", [None, "", 7, [], {}, True])
def test_a_required_argument_is_text(verb: str, argument: str, value: object) -> None:
    """A required argument that is absent, empty or not a string is refused."""
    entry = CONTROL_VERBS[verb]
    good = {name: "x" for name, each in entry.arguments.items() if each.required}
    with pytest.raises(UsageError, match=f"{verb}: {argument} must be a string"):
        entry.read({**good, argument: value})


@pytest.mark.parametrize("value", [True, "1", -1, 3600.1, float("nan"), float("inf"), [], {}])
def test_a_timeout_is_a_number_of_seconds(value: object) -> None:
    """A timeout must be a number from 0 to an hour."""
    with pytest.raises(UsageError, match="timeout_s must be a number"):
        CONTROL_VERBS["guest.settle"].read({"name": "vm1", "timeout_s": value})
