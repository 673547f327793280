"""Commands from the documentation, for tests to run."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
"""A Markdown link to another file."""


def lines_of(document: str, heading: str) -> list[str]:
    """Return the commands below the paragraph that begins with `heading`."""
    text = (ROOT / document).read_text()
    block = re.search(rf"^{re.escape(heading)}.*?\n\n((?:    [^\n]*\n)+)", text, re.MULTILINE | re.DOTALL)
    assert block, heading
    lines = [line.strip() for line in block[1].splitlines()]
    return [re.sub(r"\s+# .*", "", line) for line in lines if not line.startswith("#")]


def steps(text: str) -> list[tuple[str, str]]:
    """Return the steps of a page, in order.

    A step is ("", line) for a line to type, or (file, text) for a file to write: a TOML block
    whose first line names the file.
    """
    found = re.findall(r"```toml\n# (/\S+)\n(.*?)```|^    (\S[^\n]*)$", text, re.MULTILINE | re.DOTALL)
    return [(path, body) if path else ("", line) for path, body, line in found]


def toml_blocks(document: str) -> list[str]:
    """Return the TOML blocks of a page."""
    return re.findall(r"```toml\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
