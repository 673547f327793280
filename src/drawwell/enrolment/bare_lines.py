"""Forced commands of release 0.1, which name a consumer and not its key.

Such a line is admitted for this release where the audit log shows that the consumer has had
one key only: one invitation, when it was created, and no revocation.
"""

import json
import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Final

from drawwell.state.port import ConsumerStore
from drawwell.state.rows import ADMITTED, REFUSED, UNJUDGED, ConsumerRow

_ACTS: Final = ("consumer.invite", "consumer.revoke")
_OLDER_FILES: Final = 8
_AT_ONCE_S: Final = 60.0
"""The audit log notes an invitation this soon after the consumer was created."""

log = logging.getLogger("drawwell.broker")


def judge_bare_lines(store: ConsumerStore, audit_paths: Iterable[str]) -> None:
    """Judge every line that an upgrade left unjudged; raises StateUnavailable."""
    unjudged = [row for row in store.bare_lines().values() if row.bare_line == UNJUDGED]
    acts = _acts(audit_paths) if unjudged else {}
    for row in unjudged:
        first_key = _has_first_key(row, acts.get(row.name, []))
        store.put_consumer(replace(row, bare_line=ADMITTED if first_key else REFUSED))
    if unjudged:
        log.warning("upgraded: %s", note_on_bare_lines(store.bare_lines()))


def note_on_bare_lines(consumers: Mapping[str, ConsumerRow]) -> str:
    """Say which lines of authorized_keys must be replaced, "" for none."""
    names = {
        verdict: [name for name, row in consumers.items() if row.bare_line == verdict]
        for verdict in (ADMITTED, REFUSED)
    }
    kinds = (
        ("until the next release", ADMITTED),
        ("refused, as an earlier key may have had the same line", REFUSED),
    )
    old = "; ".join(f"{', '.join(names[verdict])} ({state})" for state, verdict in kinds if names[verdict])
    return old and (
        f"lines of authorized_keys without the key's fingerprint: {old}. "
        "Replace each by what 'drawwell consumer invite NAME --ssh-key FILE' prints"
    )


def _has_first_key(row: ConsumerRow, acts: list[tuple[str, float]]) -> bool:
    return [verb for verb, _ in acts] == ["consumer.invite"] and acts[0][1] - row.created < _AT_ONCE_S


def _acts(paths: Iterable[str]) -> Mapping[str, list[tuple[str, float]]]:
    """Return what operators did to each consumer, and when."""
    acts: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for line in chain.from_iterable(map(_lines, paths)):
        try:
            said = json.loads(line)
            if said["event"] in _ACTS and "refused" not in said:
                acts[said["name"]].append((said["event"], float(said["time"])))
        except (ValueError, KeyError, TypeError):
            continue  # half a line: what it may have said makes nothing admissible
    return acts


def _lines(path: str) -> Iterator[str]:
    for name in (*(f"{path}.{number}" for number in range(_OLDER_FILES, 0, -1)), path):
        if path and os.path.isfile(name):
            with open(name, encoding="utf-8", errors="replace") as file:
                yield from (line for line in file if '"consumer.' in line)
