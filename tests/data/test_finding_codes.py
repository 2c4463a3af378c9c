"""Every finding has its line in the docs, and the docs name no other."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MADE = re.compile(r'\b(?:error|warning|make)\(\s*[\w.]+,\s*"(\w+)"')
LISTED = re.compile(r"^\| `(\w+)` \| (?:error|warning) \|", re.MULTILINE)


def test_the_docs_list_every_code() -> None:
    sources = (ROOT / "src" / "tidewheel" / "data").glob("*.py")
    made = {code for path in sources for code in MADE.findall(path.read_text())}
    assert made == set(LISTED.findall((ROOT / "docs" / "data.md").read_text()))
