"""Lines of the documentation, for a test to type."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def lines_of(document: str, heading: str) -> list[str]:
    """Return the commands below the paragraph that begins with `heading`."""
    text = (ROOT / document).read_text()
    block = re.search(rf"^{re.escape(heading)}.*?\n\n((?:    [^\n]*\n)+)", text, re.MULTILINE | re.DOTALL)
    assert block, heading
    lines = [line.strip() for line in block[1].splitlines()]
    return [re.sub(r"\s+# .*", "", line) for line in lines if not line.startswith("#")]
