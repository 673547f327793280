"""The repeat test's memory: bounded, keyed, and never samples."""

import pytest

from drawwell.entropy import repeat
from drawwell.entropy.cutoffs import REPEAT_REACH
from drawwell.entropy.repeat import RepeatTest
from drawwell.testing.sick import good, loop

KEY = bytes(range(32))


def test_quick_hash_alone_never_fires(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal quick hashes of all windows raise no alarm, since digests decide."""
    monkeypatch.setattr(repeat, "hash", lambda window: 7, raising=False)

    assert RepeatTest(6.0, hash_key=KEY).feed(good().read(20_000)) is None


def test_quick_hash_gets_no_raw_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """The input of the quick hash depends on the key."""
    seen: dict[bytes, list[bytes]] = {}
    samples = good().read(100)
    for key in (KEY, KEY[::-1]):
        windows = seen.setdefault(key, [])
        monkeypatch.setattr(
            repeat, "hash", lambda window, to=windows: to.append(window) or len(to), raising=False
        )
        RepeatTest(6.0, hash_key=key).feed(samples)

    assert seen[KEY] != seen[KEY[::-1]]
    assert samples[:32] not in (seen[KEY][0], seen[KEY[::-1]][0])


@pytest.mark.slow
def test_memory_is_bounded_by_its_reach() -> None:
    """The number of known windows is limited by the last MiB and one piece."""
    test, source = RepeatTest(6.0, hash_key=KEY), good()
    for _ in range(24):
        test.feed(source.read(65_536))

    assert REPEAT_REACH // 12 <= len(test._known) <= REPEAT_REACH // 12 + 512


def test_findings_do_not_depend_on_the_key() -> None:
    """Two keys detect the same repeats at the same samples."""
    stream = loop(700).read(3000)
    alarms = [RepeatTest(6.0, hash_key=key).feed(stream) for key in (KEY, b"another key of 26 bytes...")]

    assert alarms[0] == alarms[1]
    assert alarms[0] is not None


def test_separate_repeats_do_not_add_up() -> None:
    """Repeats separated by fresh samples stay intermittent."""
    test, source = RepeatTest(6.0, hash_key=KEY), good()
    past = source.read(4096)
    test.feed(past)
    alarms = [test.feed(past[at : at + 64] + source.read(64)) for at in range(0, 4096, 64)]

    assert {alarm and alarm.permanent for alarm in alarms} == {False}
    assert test.failures == 64
