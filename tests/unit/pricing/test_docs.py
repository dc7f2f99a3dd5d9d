"""docs/pricing.md names every code, and no other."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent.parent
SAID = re.compile(r'(?:\bwarn|PriceWarning|PricingError|Finding)\(\s*"([a-z_]+)"')


def test_every_code_is_in_the_table() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "streams" / "pricing").glob("*.py"))
    table = (ROOT / "docs" / "pricing.md").read_text().partition("## Codes")[2].partition("##")[0]
    documented = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert documented == sorted(documented)
    assert set(documented) == set(SAID.findall(sources))
    assert len(documented) > 30
