"""Objects get their parts from constructors, not by assignment."""

import ast
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src" / "drawwell"
COUNTERS = {"counts", "_count", "summary"}
"""Records of counts, which their owner increments."""
EXCEPTIONS = {
    "assess/schedule.py": "a flag that threads look at",
    "broker/audit_log.py": "sums of one consumer and minute",
    "broker/broker.py": "the account is the broker's own record of a consumer",
    "cli/parser.py": "an error gets the exit code of its verb",
    "cli/assess/input.py": "arguments of the command line are completed",
    "cli/check/__init__.py": "a parser's exit code, and arguments that are completed",
    "cli/errors.py": "an error gets a hint",
    "cli/guest/reseed.py": "arguments of the command line are completed",
    "cli/receipt.py": "an error gets a hint",
    "config/load.py": "the loader's own notes",
    "doors/enrol.py": "settings of an SSLContext",
    "doors/qemu_egd/connection.py": "requests are counted at the door, over all its connections",
    "doors/shares.py": "the shares of a loop and their common record, which is hot",
    "doors/usb.py": "refusals are counted at the door, over all its connections",
    "entropy/cutoffs.py": "settings of a decimal context",
    "guests/libvirt/domain_xml.py": "minidom leaves the namespace of an element to its maker",
    "links/deposit.py": "bits and bytes that the next DEPOSIT reports",
    "links/enrol.py": "settings of an SSLContext",
    "links/failover.py": "the failover's own record of each broker",
    "simulator/pty.py": "a fault and the modem line are inputs of the simulated device",
    "simulator/stick.py": "a fault is an input of the simulated device",
    "simulator/usb.py": "a fault and the modem line are inputs of the simulated device",
    "wire/contexts.py": "settings of an SSLContext",
}
"""Modules that assign to attributes of other objects, with reasons."""


def _foreign(target: ast.expr) -> bool:
    match target:
        case ast.Tuple(elts=parts):
            return any(map(_foreign, parts))
        case ast.Attribute(value=ast.Name(id="self" | "cls")):
            return False
        case ast.Attribute(value=ast.Attribute(attr=name)) if name in COUNTERS:
            return False
    return isinstance(target, ast.Attribute)


def _targets(node: ast.AST) -> list[ast.expr]:
    match node:
        case ast.Assign(targets=targets):
            return targets
        case ast.AugAssign(target=target) | ast.AnnAssign(target=target):
            return [target]
    return []


def test_no_object_is_changed_from_outside() -> None:
    """An attribute is assigned only by its own object, with few exceptions."""
    found = {
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if any(map(_foreign, _targets(node)))
    }
    assert found == EXCEPTIONS.keys(), "hand it to the constructor, or give the reason in EXCEPTIONS"
