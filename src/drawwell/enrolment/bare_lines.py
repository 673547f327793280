"""Forced commands of release 0.1, which do not contain the consumer's key.

The current release still admits such a line if the audit log shows that the consumer has had
only one key: the log contains one invitation, at the consumer's creation, and no revocation.
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
"""The audit log records an invitation within this time after the consumer's creation."""

log = logging.getLogger("drawwell.broker")


def judge_bare_lines(store: ConsumerStore, audit_paths: Iterable[str]) -> None:
    """Admit or refuse all undecided lines; raises StateUnavailable."""
    unjudged = [row for row in store.bare_lines().values() if row.bare_line == UNJUDGED]
    acts = _acts(audit_paths) if unjudged else {}
    for row in unjudged:
        first_key = _has_first_key(row, acts.get(row.name, []))
        store.put_consumer(replace(row, bare_line=ADMITTED if first_key else REFUSED))
    if unjudged:
        log.warning("upgraded: %s", note_on_bare_lines(store.bare_lines()))


def note_on_bare_lines(consumers: Mapping[str, ConsumerRow]) -> str:
    """Describe the lines in authorized_keys to replace, or return ""."""
    names = {
        verdict: [name for name, row in consumers.items() if row.bare_line == verdict]
        for verdict in (ADMITTED, REFUSED)
    }
    kinds = (
        ("admitted until the next release", ADMITTED),
        ("refused, because an earlier key might have had the same line", REFUSED),
    )
    old = "; ".join(f"{', '.join(names[verdict])} ({state})" for state, verdict in kinds if names[verdict])
    return old and (
        f"lines in authorized_keys without the key's fingerprint: {old}. "
        "Replace each by the output of 'drawwell consumer invite NAME --ssh-key FILE'"
    )


def _has_first_key(row: ConsumerRow, acts: list[tuple[str, float]]) -> bool:
    return [verb for verb, _ in acts] == ["consumer.invite"] and acts[0][1] - row.created < _AT_ONCE_S


def _acts(paths: Iterable[str]) -> Mapping[str, list[tuple[str, float]]]:
    """Return the operators' actions on each consumer, with times."""
    acts: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for line in chain.from_iterable(map(_lines, paths)):
        try:
            said = json.loads(line)
            if said["event"] in _ACTS and "refused" not in said:
                acts[said["name"]].append((said["event"], float(said["time"])))
        except (ValueError, KeyError, TypeError):
            continue  # an incomplete line; ignoring it never admits a consumer
    return acts


def _lines(path: str) -> Iterator[str]:
    for name in (*(f"{path}.{number}" for number in range(_OLDER_FILES, 0, -1)), path):
        if path and os.path.isfile(name):
            with open(name, encoding="utf-8", errors="replace") as file:
                yield from (line for line in file if '"consumer.' in line)
