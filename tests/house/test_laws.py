"""The laws of ARCHITECTURE.md that no type or other test enforces."""

import ast
import dataclasses
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drawwell.wire.refusals import REFUSAL_CODES
from support.source_code import nodes

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "drawwell"
MODULES = sorted(SOURCE.rglob("*.py"))

GENERATOR_USERS = {
    "assess/iid/permutation.py": "permutations of the samples that are judged, from a seed",
    "cli/assess/run.py": "the seed of the permutations, and the key of the repeat test",
    "sync.py": "the base class of a Random whose every bit is drawn",
    "fleet/connection.py": "jitter of retries",
    "fleet/passwords.py": "the password of the brokers' role",
    "cli/evidence.py": "a key to sign with, and the key of the repeat test",
    "cli/doctor/other_programs.py": "/dev/random is what other programs feed",
    "config/migrate/rngd.py": "/dev/random is what it does not take over",
    "config/validation.py": "/dev/random is what it refuses as a source",
    "cli/source/direct.py": "the key of the repeat test",
    "crypto/pki.py": "keys and serial numbers of certificates",
    "enrolment/admin.py": "secrets and names of invitations",
    "enrolment/fleet_keys.py": "secrets and names of invitations",
    "enrolment/ring_files.py": "the key of receipts",
    "simulator/stick.py": "the noise of the simulated device, which is called simulated everywhere",
    "links/suspicion.py": "the key that hides what was granted",
    "roles/source_process.py": "the key of the repeat test's hashes",
    "roles/make_driver.py": "the same",
    "roles/kernel_process.py": "jitter of retries",
    "roles/run.py": "jitter of retries",
    "roles/joined_links.py": "jitter of the backoff",
    "roles/broker_process.py": "keys of receipts, and additional input that counts as nothing",
    "sinks/kernel.py": "/dev/random is what it feeds",
}
"""Users of a generator besides noise sources, with reasons: never for served bytes."""
GENERATORS = re.compile(
    r"urandom|getrandom|generate_private_key|random_serial_number|RAND_bytes|uuid[14]|random|secrets"
)
GENERATOR_DEVICES = {"/dev/random", "/dev/urandom"}
PUBLIC_BYTES = {
    ("Format", "write"),  # a function
    ("KeyPair", "certificate_pem"),
    ("CertificateFacts", "spki_sha256"),
    ("Token", "ca_spki_sha256"),
    ("DemoConsumer", "receipt_key_pem"),
}
"""Public bytes: certificates, public keys and their hashes."""


def _name(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def _module(path: Path) -> str:
    return "drawwell." + _name(path)[:-3].replace("/", ".").removesuffix(".__init__")


def _dataclasses() -> Iterator[type[Any]]:
    """Every dataclass of the package."""
    for path in MODULES:
        if path.stem == "__main__":
            continue
        name = _module(path)
        for kind in vars(importlib.import_module(name)).values():
            if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__module__ == name:
                yield kind


def _asks_a_generator(path: Path) -> bool:
    for node in nodes(path):
        match node:
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                found = [getattr(node, "module", None) or "", *(alias.name for alias in names)]
            case ast.Attribute(attr=word) | ast.Name(id=word):
                found = [word]
            case ast.Constant(value=str(text)) if text in GENERATOR_DEVICES:
                return True
            case _:
                continue
        if any(GENERATORS.fullmatch(word) for word in found):
            return True
    return False


def _exceptions() -> Iterator[tuple[str, type[Exception]]]:
    """Return every exception class outside testing/, with its module."""
    for path in MODULES:
        if _name(path).startswith("testing/") or path.stem == "__main__":
            continue
        name = _module(path)
        for kind in vars(importlib.import_module(name)).values():
            if isinstance(kind, type) and issubclass(kind, Exception) and kind.__module__ == name:
                yield _name(path), kind


def _caught() -> set[str]:
    """Return every class named in an ``except``, isinstance or type ``in``."""
    found: set[str] = set()
    for path in MODULES:
        for node in nodes(path):
            if isinstance(node, ast.ExceptHandler) and node.type is not None:
                found |= set(re.findall(r"\w+", ast.unparse(node.type)))
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
                found |= set(re.findall(r"\w+", ast.unparse(node.args[1])))
    return found


def test_every_law_names_what_holds_it() -> None:
    """Each of the twelve laws names an existing test or check."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    section = text.split("\n## Laws\n")[1].split("\n## ")[0]
    laws = re.findall(r"^\d+\. .*?(?=^\d+\. |\Z)", section, flags=re.MULTILINE | re.DOTALL)
    assert len(laws) == 12
    for law in laws:
        held_by = re.findall(r"`(tests/[\w/.]+)`", law)
        assert held_by, f"nothing holds: {law.strip()}"
        assert [path for path in held_by if not (ROOT / path).exists()] == [], law.strip()


def test_no_other_generator_is_at_hand() -> None:
    """Law 3: only the listed modules use another generator."""
    users = {_name(path) for path in MODULES if _asks_a_generator(path)}
    assert users == GENERATOR_USERS.keys(), "add its purpose to GENERATOR_USERS, or do without"


def test_bytes_stay_out_of_every_repr() -> None:
    """Law 7: no dataclass shows a field of bytes, except public ones."""
    shown = {
        (kind.__name__, each.name)
        for kind in _dataclasses()
        if kind.__dataclass_params__.repr
        for each in dataclasses.fields(kind)
        if each.repr and re.search(r"\bbytes\b|\bbytearray\b|\bmemoryview\b", str(each.type))
    }
    assert shown == PUBLIC_BYTES


@pytest.mark.parametrize("room", ["config", "crypto", "doors", "links", "onerng", "sinks", "wire", "assess"])
def test_rooms_that_read_from_outside_assert_no_input(room: str) -> None:
    """Law 8: assertions check a module's own state, never input."""
    for path in sorted((SOURCE / room).rglob("*.py")):
        for node in nodes(path):
            if isinstance(node, ast.Assert):
                names = {each.id for each in ast.walk(node.test) if isinstance(each, ast.Name)}
                assert names <= {"self"}, f"{_name(path)}:{node.lineno} asserts {ast.unparse(node.test)}"


def test_every_error_is_acted_upon() -> None:
    """Law 9: each error is caught by name, has an exit code, or is sent."""
    caught, crossing = _caught(), REFUSAL_CODES.values()
    idle = [
        f"{where}: {kind.__name__}"
        for where, kind in _exceptions()
        if kind.__name__ not in caught and "exit_code" not in vars(kind) and kind not in crossing
    ]
    assert idle == []


def _calls(path: Path) -> set[str]:
    return {ast.unparse(node.func) for node in nodes(path) if isinstance(node, ast.Call)}


def test_the_engine_prints_nothing() -> None:
    """Law 12: only cli/ and observe/ print or format for readers."""
    formatting = {"print", "sys.stdout.write", "sys.stderr.write", "format_duration", "table"}
    found = {
        _name(path): _calls(path) & formatting
        for path in MODULES
        if not _name(path).startswith(("cli/", "observe/"))
    }
    assert {name: calls for name, calls in found.items() if calls} == {}
