"""Configurations and links in the documentation."""

import re

import pytest

from drawwell.config.load import load
from support.documents import LINK, ROOT, toml_blocks

PAGES = sorted(str(path.relative_to(ROOT)) for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))
TASKS = [page for page in PAGES if page.startswith("docs/tasks/")]
BLOCKS = [(page, block) for page in PAGES for block in toml_blocks(page)]


@pytest.mark.parametrize(("page", "block"), BLOCKS)
def test_a_configuration_of_a_page_is_good(page, block, tmp_path):
    """A configuration on a page has no fault."""
    path = tmp_path / "drawwell.toml"
    path.write_text(block)
    load(str(path), directory=str(tmp_path))


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    """Every link to another file leads to a file in git."""
    links = [link for link in LINK.findall((ROOT / page).read_text()) if "://" not in link]
    missing = [link for link in links if not ((ROOT / page).parent / link).exists()]
    assert missing == []


def test_every_task_can_be_found():
    """The README links to every page of docs/tasks."""
    named = LINK.findall((ROOT / "README.md").read_text())
    assert [page for page in TASKS if page not in named] == []


def test_pictures_are_of_80_columns():
    """No line in a picture of a terminal has more than 80 characters."""
    for picture in ("status", "doctor", "demo"):
        lines = re.findall(r"<text[^>]*>(.*)</text>", (ROOT / "docs/pictures" / f"{picture}.svg").read_text())
        plain = [re.sub(r"&\w+;|&#\w+;", "x", re.sub(r"<[^>]*>", "", line)) for line in lines]
        assert plain[0] == f"$ drawwell {picture}" or picture == "demo"
        assert max(map(len, plain)) <= 80
