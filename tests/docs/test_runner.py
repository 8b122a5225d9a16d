"""The runner of documented examples runs them, and notices when they fail."""

from __future__ import annotations

from pathlib import Path

import pytest
from runner import blocks, run_page

PAGE = """# A page

<!-- file: names.txt -->
```text
ada
bob
```

```bash
grep -c . names.txt
chelys data features --help > help.txt
```

<!-- not run: it would fail -->
```bash
false
```

```console
$ false
```

```bash
cat help.txt
```
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "page.md"
    path.write_text(text)
    return path


def test_blocks_are_found_with_their_lines(tmp_path):
    found = blocks(write(tmp_path, PAGE))
    assert [(b.line, b.language, b.is_run) for b in found] == [
        (4, "text", False), (9, "bash", True), (15, "bash", False), (19, "console", False), (23, "bash", True)
    ]  # fmt: skip
    assert found[0].file == "names.txt" and found[2].note == "not run: it would fail"


def test_a_page_is_run_in_order_in_one_folder(tmp_path):
    printed = run_page(write(tmp_path, PAGE), tmp_path)
    assert printed[9] == "2\n" and "chelys data features" in printed[23] and list(printed) == [9, 23]


def test_settings_are_laid_behind_the_commands_they_are_for(tmp_path):
    page = write(tmp_path, "```bash\nchelys data features\nchelys data codes || true\n```\n")
    printed = run_page(page, tmp_path, toy={"data features": ["--help"]})
    assert "chelys data features" in printed[1] and "chelys data codes" not in printed[1]


def test_a_command_that_fails_is_told_with_its_line(tmp_path):
    with pytest.raises(AssertionError, match=r"page.md, line 3: exit status 2"):
        run_page(write(tmp_path, "A\n\n```bash\nchelys data features nowhere.jsonl --out out\n```\n"), tmp_path)
