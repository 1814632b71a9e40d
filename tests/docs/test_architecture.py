"""The map of the code names what is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_files_that_it_names_exist() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    names = set(re.findall(r"`([\w/]+\.(?:py|js|md))`", text))
    files = [f"/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "app").rglob("*.*")]
    for folder in ("jobs", "retro", "tests"):
        files += [f"/{p.relative_to(ROOT).as_posix()}" for p in (ROOT / folder).rglob("*.py")]

    assert len(names) > 40
    assert [name for name in names if not any(file.endswith(f"/{name}") for file in files)] == []
