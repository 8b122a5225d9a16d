"""Links between pages lead somewhere: to files that exist, and to headings that these have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)(?: \"[^\"]*\")?\)|(?:src|href)=\"(?P<html>[^\"]+)\"")
_FENCE = re.compile(r"^```.*?^```$", re.M | re.S)


def pages(root: Path = ROOT) -> list[Path]:
    found = [*root.glob("*.md"), *(root / "docs").rglob("*.md"), *(root / "src").rglob("*.md")]
    return sorted(found)


def anchors(page: Path) -> set[str]:
    """Of headings, as GitHub and MkDocs write them; and those that are set by hand."""
    text = _FENCE.sub("", page.read_text(encoding="utf8"))
    found = set(re.findall(r'<a (?:id|name)="([^"]+)"', text))
    for heading in re.findall(r"^#+ (.+)$", text, re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-"))
    return found


def links(page: Path) -> Iterator[tuple[int, str]]:
    text = _FENCE.sub(lambda match: "\n" * match[0].count("\n"), page.read_text(encoding="utf8"))
    for number, line in enumerate(text.splitlines(), 1):
        for match in _LINK.finditer(re.sub(r"`[^`]*`", "", line)):
            yield number, match["target"] or match["html"]


def broken(page: Path, root: Path = ROOT) -> list[str]:
    found = []
    for line, target in links(page):
        if re.match(r"\w+:", target):  # https:, mailto:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        where = f"{page.relative_to(root)}:{line}: {target}"
        if not file.exists() or root not in (file, *file.parents):
            found.append(f"{where}: no such file")
        elif anchor and file.suffix == ".md" and anchor not in anchors(file):
            found.append(f"{where}: no such heading")
    return found


def test_links_lead_somewhere() -> None:
    found = [one for page in pages() for one in broken(page)]
    assert not found, "\n".join(found)


def test_pages_of_the_site_link_only_to_one_another() -> None:
    """The site has no source beside it; pages name source files in code font."""
    found = []
    for page in (ROOT / "docs").rglob("*.md"):
        for line, target in links(page):
            path = target.partition("#")[0]
            if path and not re.match(r"\w+:", path) and ROOT / "docs" not in (page.parent / path).resolve().parents:
                found.append(f"{page.relative_to(ROOT)}:{line}: {target}")
    assert not found, "\n".join(found)


def test_broken_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(
        "# A page\n\n[1](b.md) [2](#a-page) [3](#b) [4](b.md#here) ![5](no.png) [6](https://x.y)"
    )
    (tmp_path / "b.md").write_text("## There & back\n[7](a.md#a-page) [8](../out.md) `[9](c.md)`\n[10](#there--back)")
    assert [one.partition(": ")[2] for page in ("a.md", "b.md") for one in broken(tmp_path / page, tmp_path)] == [
        "#b: no such heading", "b.md#here: no such heading", "no.png: no such file", "../out.md: no such file"
    ]  # fmt: skip
