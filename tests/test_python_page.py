"""docs/python.md's example of the core alone, taken word for word."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "python.md"


def test_the_core_runs_on_arrays():
    code = re.search(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)[1]
    assert len([line for line in code.splitlines() if line.strip()]) <= 11
    names: dict = {}
    exec(compile(code, str(PAGE), "exec"), names)
    assert names["scores"].shape == (3, 2) and ((0 < names["scores"]) & (names["scores"] < 1)).all()
    maps = names["maps"]
    assert [found.shape for found in maps] == [(2, 12, 64, 64)] * 3 and all(
        0 <= found.min() and found.max() <= 1 for found in maps
    )
    assert any(found.max() > 0.5 for found in maps) and not any(
        p.requires_grad for p in names["model"].backbone.parameters()
    )
