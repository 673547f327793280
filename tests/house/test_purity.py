"""Allowed imports: no clock or socket if pure, few if privileged."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from support.source_code import nodes

SOURCE = Path(__file__).resolve().parents[2] / "src" / "drawwell"
PURE_ROOMS = (
    *("entropy", "crypto", "onerng", "wire", "assess", "observe"),
    *(
        "simulator/device.py",
        "simulator/noise.py",
        "simulator/firmware_image.py",
        "doors/qemu_egd/machine.py",
    ),
    *("guests/model.py", "guests/inside/scripts.py", "guests/edit/quoting.py"),
    *("guests/qemu/command_line.py", "guests/qemu/findings.py", "guests/qemu/stick_rule.py"),
    *(str(path.relative_to(SOURCE)) for path in sorted(SOURCE.glob("guests/*/plan.py"))),
)
PRIVILEGED = (
    "drivers",
    "entropy",
    "onerng",
    "sinks",
    "host/kernel.py",
    "roles/source.py",
    "roles/make_driver.py",
    "roles/source_process.py",
    "links/deposit.py",
    "roles/consumer.py",
    "links/memory.py",
    "links/unix.py",
    "roles/kernel_process.py",
)
IMPURE_MODULES = set(
    "asyncio logging os pathlib random secrets select socket subprocess tempfile threading time".split()  # noqa: SIM905
)
IMPURE_CALLS = {"open", "print", "input", "now", "utcnow", "today", "urandom"}
EXCEPTIONS = {
    "assess/schedule.py": {"threading", "time"},  # parallel estimators, and the remaining time
    "observe/page.py": {"time"},  # formats times from its arguments
    "wire/contexts.py": {"open"},  # ssl reads certificates and keys only from files
}
"""Exceptions, with reasons; creating keys with ``cryptography`` needs no entry."""


def _modules(*rooms: str) -> list[Path]:
    """Return all modules in these rooms; a room can also be a single module."""
    return [
        path
        for room in rooms
        for path in sorted((SOURCE / room).rglob("*.py") if "." not in room else [SOURCE / room])
    ]


def _name(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found


def _calls(path: Path) -> set[str]:
    found: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.Call):
            match node.func:
                case ast.Name(id=name) | ast.Attribute(attr=name):
                    found.add(name)
    return found


@pytest.mark.parametrize("module", _modules(*PURE_ROOMS), ids=_name)
def test_pure_module_touches_nothing_outside(module: Path) -> None:
    """A pure module uses no clock, file, socket, log or random module."""
    impure = (_imports(module) & IMPURE_MODULES) | (_calls(module) & IMPURE_CALLS)
    allowed = EXCEPTIONS.get(_name(module), set())
    assert impure <= allowed, (
        f"src/drawwell/{_name(module)} is in a pure room and uses {', '.join(sorted(impure - allowed))}: "
        "take the time, the bytes or the text as an argument, or move it up a room"
    )


def test_no_exception_is_idle() -> None:
    """Every exception names an existing module that needs it."""
    for name, allowed in EXCEPTIONS.items():
        assert allowed <= _imports(SOURCE / name) | _calls(SOURCE / name), (
            f"{name} no longer needs its exception"
        )


@pytest.mark.parametrize("room", PRIVILEGED)
def test_what_holds_a_privilege_loads_only_the_standard_library(room: str) -> None:
    """A privileged room loads only the standard library and drawwell (law 10)."""
    names = [
        "drawwell." + _name(path)[:-3].replace("/", ".").removesuffix(".__init__") for path in _modules(room)
    ]
    script = (
        f"import sys, importlib\nbefore = set(sys.modules)\nfor name in {names!r}: importlib.import_module(name)\n"
        "tops = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(tops - sys.stdlib_module_names - {'drawwell'}))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{room}/ cannot be imported: {done.stderr.strip().splitlines()[-1]}"
    assert done.stdout.split() == [], (
        f"the process that holds a device would load {done.stdout.strip()} for {room}/"
    )


def test_the_signer_loads_cryptography_and_nothing_else() -> None:
    """The process with the CA's keys also loads cryptography (law 10)."""
    script = (
        "import sys\nbefore = set(sys.modules)\nimport drawwell.roles.signer_process, drawwell.cli.signer\n"
        "tops = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(tops - sys.stdlib_module_names - {'drawwell'}))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    ours = {"cffi", "cryptography", "_cffi_backend", "_openssl", "_rust"}
    assert set(done.stdout.split()) <= ours, done.stdout


FEEDS_THE_KERNEL = """
import sys
from drawwell.cli import kernel, output
from drawwell.cli.parser import parse
from drawwell.errors import PermissionRefused
kernel.run_until_stopped = lambda role, out: 0
args = parse(["kernel", "run", "--config", sys.argv[1]])
try:
    args.run(args, output.Output(quiet=True))
except PermissionRefused:
    pass  # not root: everything is loaded by then
print(*sorted(name for name, module in sys.modules.items() if module))
"""


def test_the_process_that_holds_cap_sys_admin_loads_no_tls_and_no_parser_of_the_network(
    tmp_path: Path,
) -> None:
    """`kernel run` loads no ssl, and only the links for Unix sockets."""
    (tmp_path / "drawwell.toml").write_text("[kernel]\nfeed = true\n")
    done = subprocess.run(
        [sys.executable, "-c", FEEDS_THE_KERNEL, str(tmp_path / "drawwell.toml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "drawwell.roles.kernel_process" in loaded
    assert loaded & {"ssl", "_ssl", "h11", "cryptography", "http", "urllib.request", "email"} == set()
    ours = {name.removeprefix("drawwell.") for name in loaded if name.startswith("drawwell.")}
    assert {name for name in ours if name.startswith("links.")} == {
        "links.connect_unix",
        "links.link",
        "links.requests",
        "links.socket_file",
        "links.suspicion",
        "links.unix",
    }
    assert {name.split(".")[0] for name in ours} & {"doors", "drivers", "crypto", "guests", "onerng"} == set()


HOLDS_A_DEVICE = """
import sys
before = set(sys.modules)
from drawwell.cli import output, run
from drawwell.cli.parser import parse
run.run_until_stopped = lambda role, out: 0
args = parse(["source", "run", "--device", "/dev/ttyACM0", "--config", sys.argv[1]])
args.run(args, output.Output(quiet=True))
print(*sorted(name for name, module in sys.modules.items() if module and name not in before))
"""


def test_the_process_that_holds_the_device_loads_no_cryptography_and_nothing_of_the_network(
    tmp_path: Path,
) -> None:
    """`source run` loads no ssl, and only the link for deposits."""
    (tmp_path / "drawwell.toml").touch()
    done = subprocess.run(
        [sys.executable, "-c", HOLDS_A_DEVICE, str(tmp_path / "drawwell.toml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "drawwell.roles.source_process" in loaded
    assert {name.split(".")[0] for name in loaded} - sys.stdlib_module_names == {"drawwell"}
    assert loaded & {"ssl", "_ssl", "http", "urllib.request", "email"} == set()
    ours = {name.removeprefix("drawwell.") for name in loaded if name.startswith("drawwell.")}
    assert {name for name in ours if name.startswith("links.")} <= {
        "links.deposit",
        "links.deposit_protocol",
        "links.connect_unix",
        "links.link",
        "links.requests",
        "links.socket_file",
        "links.suspicion",
        "links.unix",
    }
    assert {name.split(".")[0] for name in ours} & {"doors", "sinks", "crypto", "guests", "assess"} == set()
