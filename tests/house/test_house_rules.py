"""House rules that no other tool checks; failures name file and fix."""

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from command_tree import CommandNode, command_tree

from drawwell.cli.parser import NOUNS, build_parser
from drawwell.config.fields import Setting, settings
from drawwell.config.model import TABLES
from drawwell.config.render import sample
from support.source_code import CODE, nodes

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "drawwell"
MODULES = sorted(SOURCE.rglob("*.py"))
COMMANDS = [each for each in command_tree(build_parser()).walk() if each.path]
SETTINGS = [
    pytest.param(each, id=f"{table.name}.{each.key}") for table in TABLES for each in settings(table.section)
]
READ_AS = {
    "low_mark": "low_mark_bytes",
    "high_mark": "high_mark_bytes",
    "user": "uid",
    "url": "address",
}
"""Settings that are read in another form."""
MAX_LINES = 400
MAX_FUNCTION_LINES = 64
GENERIC_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc", "core"}
# in pieces; otherwise this file would match
FORBIDDEN = (
    "/wo" + "rk/", "/root/" + "dev", "py" + "pi", "python" + "hosted", "files.python" + "hosted.org",
    "fac" + "ts/onerng", "fac" + "ts/assess", "fac" + "ts/users", "shared/" + "design",
)  # fmt: skip
ISSUE_NUMBER = re.compile(r"\bissue " + r"#?\d", re.IGNORECASE)


def _files() -> list[Path]:
    """Return all files that git does not ignore, or all files without git."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
        return [ROOT / name for name in listed if name and (ROOT / name).is_file()]
    hidden = re.compile(r"(^|/)(\.(?!ci/)|__pycache__|build/|dist/)")
    return [
        path for path in ROOT.rglob("*") if path.is_file() and not hidden.search(str(path.relative_to(ROOT)))
    ]


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _is_sentence(text: str) -> bool:
    return len(text) > 20 and text[:1].isupper() and text.rstrip().endswith(".")


# ---- code


def test_imports_point_down() -> None:
    """Every room imports only from the rooms below it."""
    program = Path(sys.executable).with_name("lint-imports")
    if not program.exists():
        pytest.skip("import-linter is not installed here")
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_modules_are_small() -> None:
    """A module has at most 400 lines, in src, bench, tools and tests alike."""
    lines = {_name(module): len(module.read_text().splitlines()) for module in CODE}
    assert {name: count for name, count in lines.items() if count > MAX_LINES} == {}, "split along the jobs"


def test_functions_are_small() -> None:
    """A function has at most 64 lines."""
    assert [
        f"{_name(module)}:{node.lineno} {node.name}"
        for module in CODE
        for node in nodes(module)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or node.lineno) - node.lineno >= MAX_FUNCTION_LINES
    ] == []


def test_modules_are_named_for_their_job() -> None:
    """No module has a name without a specific meaning."""
    assert [_name(module) for module in MODULES if module.stem in GENERIC_NAMES] == []


def test_tasks_belong_to_a_group() -> None:
    """No task is created outside a TaskGroup, where a failure goes unnoticed."""
    alone = []
    for module in MODULES:
        for node in nodes(module):
            match node:
                case ast.Call(
                    func=ast.Attribute(
                        value=ast.Name(id="asyncio" | "loop"), attr="create_task" | "ensure_future"
                    )
                ):
                    alone.append(f"{_name(module)}:{node.lineno}")
    assert alone == [], "use a TaskGroup"


def _named_in(path: Path) -> list[str]:
    try:
        text = path.read_text()
    except UnicodeDecodeError:
        return []
    lower = text.lower()
    return [needle for needle in FORBIDDEN if needle in lower] + ISSUE_NUMBER.findall(text)


def test_files_stand_alone() -> None:
    """No file names a developer's path, a package registry or a ticket."""
    found = {_name(path): _named_in(path) for path in _files()}
    assert {name: needles for name, needles in found.items() if needles} == {}


def test_a_class_name_means_one_thing() -> None:
    """No two classes in src/ have the same name."""
    places: dict[str, list[str]] = {}
    for module in MODULES:
        for node in nodes(module):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(_name(module))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


# ---- the command line


def test_every_noun_is_there() -> None:
    """Every noun in the list adds a command, and no other module does."""
    assert {command.path[0] for command in COMMANDS} == set(NOUNS)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: "-".join(command.path))
def test_command_is_explained(command: CommandNode) -> None:
    """Every command, option and argument has help; verbs have common options."""
    typed = f"drawwell {' '.join(command.path)}"
    assert len(command.help.split()) >= 3, f"{typed}: give it a help sentence"
    for argument in command.arguments:
        shown = "/".join(argument.flags) or argument.value
        assert argument.help, f"{typed} {shown}: give it help"
    if not command.children:
        flags = {flag for option in command.options for flag in option.flags}
        assert {"--json", "--quiet", "--config"} <= flags, f"{typed}: add parents=[common]"


def test_every_command_is_in_the_manual() -> None:
    """drawwell(1) has every command, drawwell.toml(5) every setting."""
    commands = (ROOT / "docs" / "man" / "drawwell.1").read_text().replace("\\", "")
    missing = [
        " ".join(command.path) for command in COMMANDS if f".SS fB{' '.join(command.path)}fR" not in commands
    ]
    assert missing == [], "refresh it with: python tools/manpage.py"


@pytest.mark.parametrize("tool", ["manpage.py", "completion.py", "dashboard.py"])
def test_generated_files_are_up_to_date(tool: str) -> None:
    """Manual, completion scripts and dashboard are up to date."""
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / tool, "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}refresh it with: make man"


@pytest.mark.parametrize(
    "page", ["drawwell.1", "drawwell.toml.5", "drawwell-metrics.7", "drawwell.7", "drawwell.8"]
)
def test_manual_page_is_good_roff(page: str) -> None:
    """groff reports no warning; without groff, every request must be known."""
    path = ROOT / "docs" / "man" / page
    requests = {line.split()[0] for line in path.read_text().splitlines() if line.startswith((".", "'"))}
    assert requests <= {'.\\"', ".TH", ".SH", ".SS", ".TP", ".PP", ".br", ".B", ".BR", ".I", ".IR", ".RI"}
    if shutil.which("groff"):
        done = subprocess.run(
            ["groff", "-man", "-ww", "-z", path], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")


# ---- the configuration


@pytest.mark.parametrize("each", SETTINGS)
def test_setting_is_explained(each: Setting) -> None:
    """Every setting has meaning, reason, default, range and example."""
    assert _is_sentence(each.what), f"{each.key}: what is no sentence: {each.what}"
    assert _is_sentence(each.why), f"{each.key}: why is no sentence: {each.why}"
    assert each.default_is
    assert each.range
    assert each.example


@pytest.mark.parametrize("each", SETTINGS)
def test_setting_has_an_effect(each: Setting) -> None:
    """Every setting is read somewhere outside the configuration's own room."""
    attribute = READ_AS.get(each.attribute, each.attribute)
    readers = (path for path in MODULES if "config" not in path.relative_to(SOURCE).as_posix())
    assert any(re.search(rf"\.{attribute}\b", path.read_text()) for path in readers), (
        f"nothing reads {each.key}"
    )


def test_every_table_is_explained() -> None:
    """Every table has a description."""
    for table in TABLES:
        assert _is_sentence(table.about), table.header


def test_sample_configuration_is_toml() -> None:
    """The sample is valid TOML, as printed and uncommented."""
    assert tomllib.loads(sample()) == {}
    assert tomllib.loads(re.sub(r"^#(?=\[|\w+ = )", "", sample(), flags=re.MULTILINE))


# ---- tests


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("test_*.py")), ids=_name)
def test_every_test_states_its_fact(path: Path) -> None:
    """Every test has a docstring that states a fact."""
    silent = [
        node.name
        for node in nodes(path)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and not ast.get_docstring(node)
    ]
    assert silent == [], f"{_name(path)}: give a docstring to {', '.join(silent)}"


def test_test_files_have_names_of_their_own() -> None:
    """No two test files have the same name."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


DATA = sorted(
    path
    for path in (ROOT / "tests" / "vectors").rglob("*")
    if path.is_file() and path.suffix not in {".py", ".pyc"}
)


@pytest.mark.parametrize("path", DATA, ids=_name)
def test_reference_data_names_its_origin(path: Path) -> None:
    """Every file of vectors names its source or the program that creates it."""
    if path.suffix == ".json":
        assert {"provenance", "made_by"} & json.loads(path.read_text()).keys()
    else:
        assert b"Provenance: " in path.read_bytes()[:2000]
