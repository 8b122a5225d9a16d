"""EPUB 2 and 3: the pages of the spine in order, cut into chapters where the navigation points.

Sources: EPUB 3.3 (W3C), Open Packaging Format 2.0.1 (IDPF).
"""

from __future__ import annotations

import codecs
import posixpath
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, BinaryIO

from chelys.audiobook.archive import Archive, local, open_archive, parse_xml, resolve
from chelys.audiobook.book import Book, Chapter, Cover, title_line
from chelys.audiobook.pages import CONTENTS_TITLE, read_page
from chelys.audiobook.pictures import MAX_COVER, cover_of
from chelys.errors import TextError
from chelys.text.html import tags_alone

_CONTAINER, _ENCRYPTION = "META-INF/container.xml", "META-INF/encryption.xml"
#: Ways of hiding fonts from copying; such a book can be read.
_FONTS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
_PAGES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml", "text/x-oeb1-document")
#: What pages may be written in, besides UTF-8 and UTF-16.
_ENCODINGS = re.compile(r"iso8859-\d{1,2}|cp125\d|ascii|shift_jis|euc_jp|gb(?:2312|k|18030)|big5|euc_kr|koi8-r")
_DECLARED = re.compile(rb"""(?:encoding|charset)\s{0,3}=\s{0,3}["']?([\w.:-]{1,40})""")
_MAX_ENTRIES = 20_000  # of the navigation, and of the spine


@dataclass(frozen=True)
class NavigationEntry:
    """A line of the navigation."""

    title: str
    path: str
    fragment: str
    level: int  # from 1


def read_epub(source: Path | BinaryIO, name: str, include: Collection[str]) -> Book:
    """Read an EPUB. Raises TextError if it is none, damaged, encrypted or has no text.

    ``name``: for messages. ``include``: see ``chelys.audiobook.pages``.
    """
    with open_archive(source, name, "EPUB") as archive:
        return _EpubReader(archive, include).read()


class _EpubReader:
    def __init__(self, archive: Archive, include: Collection[str]) -> None:
        self.archive, self.include = archive, include
        self.warnings: list[str] = []
        self.root = ""  # of the book; some are packed with the folder that they lie in
        if _CONTAINER not in archive:
            roots = [name.removesuffix(_CONTAINER) for name in archive if name.endswith(f"/{_CONTAINER}")]
            if len(roots) == 1:
                [self.root] = roots

    def read(self) -> Book:
        archive = self.archive
        hidden = self._encrypted()
        package = self._package()
        root = parse_xml(archive.read(package), f"{archive.name}: {package[:100]}")
        items = self._manifest(root, package)
        pages = self._spine(root, items)
        if hidden & set(pages):
            raise TextError(f"{archive.name} is encrypted (copy protection): chelys reads open books alone")
        entries = self._navigation(root, items, pages)
        chapters = self._chapters(pages, entries)
        if not chapters:
            raise TextError(f"{archive.name} holds no text to read")
        facts = {local(one.tag): _text(one) for one in reversed(list(root.iter())) if _text(one) and _is_dc(one.tag)}
        authors = [_text(one) for one in root.iter() if _is_dc(one.tag) and local(one.tag) == "creator" and _text(one)]
        return Book(
            title_line(facts.get("title", "")) or Path(archive.name).stem, chapters,
            author=title_line(", ".join(authors[:10])), language=facts.get("language", "")[:35],
            date=facts.get("date", "")[:10], description=_plain(facts.get("description", ""))[:2000],
            cover=self._cover(root, items), warnings=self.warnings,
        )  # fmt: skip

    # ---- the package ------------------------------------------------------------------------------------------------

    def _encrypted(self) -> set[str]:
        """Members that cannot be read as they are."""
        if self.root + _ENCRYPTION not in self.archive:
            return set()
        found = set()
        root = parse_xml(self.archive.read(self.root + _ENCRYPTION), f"{self.archive.name}: {_ENCRYPTION}")
        for data in root.iter():
            if local(data.tag) == "EncryptedData":
                methods = {one.get("Algorithm") for one in data.iter() if local(one.tag) == "EncryptionMethod"}
                if not methods & set(_FONTS):
                    uris = (one.get("URI", "") for one in data.iter() if local(one.tag) == "CipherReference")
                    found |= {resolve(self.root, uri)[0] for uri in uris}
        return found

    def _package(self) -> str:
        """Path of the package document."""
        container = self.root + _CONTAINER
        if container not in self.archive:
            raise TextError(f"{self.archive.name} is no EPUB: {_CONTAINER} is missing in it")
        root = parse_xml(self.archive.read(container), f"{self.archive.name}: {_CONTAINER}")
        for one in root.iter():
            if local(one.tag) == "rootfile":
                path, _ = resolve(self.root, one.get("full-path", ""))
                if path in self.archive:
                    return path
        raise TextError(f"{self.archive.name} names no package that is in it: it is damaged")

    def _manifest(self, root: Any, package: str) -> dict[str, tuple[str, str, list[str]]]:
        """Id -> path, media type and properties of what is in the book."""
        found = {}
        for one in root.iter():
            if local(one.tag) == "item" and one.get("href"):
                path, _ = resolve(package, one.get("href"))
                if not path:
                    self.warnings.append(f"left out: {one.get('href')[:80]!r} leads out of the book")
                    continue
                found[one.get("id", "")] = path, one.get("media-type", ""), one.get("properties", "").split()
        return found

    def _spine(self, root: Any, items: dict[str, tuple[str, str, list[str]]]) -> list[str]:
        """Pages in reading order; those beside it (notes, mostly) if notes are read."""
        pages: dict[str, None] = {}
        for one in root.iter():
            if local(one.tag) != "itemref":
                continue
            path, media, properties = items.get(one.get("idref", ""), ("", "", []))
            if not path or media not in _PAGES or "nav" in properties:
                continue
            if one.get("linear") == "no" and "note" not in self.include:
                continue
            pages[path] = None
        if len(pages) > _MAX_ENTRIES:
            raise TextError(f"{self.archive.name} has {len(pages)} pages: {_MAX_ENTRIES} can be read")
        return list(pages)

    def _cover(self, root: Any, items: dict[str, tuple[str, str, list[str]]]) -> Cover | None:
        named = [
            one.get("content", "") for one in root.iter() if local(one.tag) == "meta" and one.get("name") == "cover"
        ]
        paths = [path for path, _, properties in items.values() if "cover-image" in properties]
        paths += [items[name][0] for name in named if name in items]
        for path in paths[:1]:
            try:
                return cover_of(self.archive.read(path, MAX_COVER))
            except TextError as error:
                self.warnings.append(f"left out: the cover {path[:80]!r}: {error}")
        return None

    # ---- the navigation ---------------------------------------------------------------------------------------------

    def _navigation(
        self, root: Any, items: dict[str, tuple[str, str, list[str]]], pages: list[str]
    ) -> list[NavigationEntry]:
        """Entries that begin chapters, in the order in which they are listed."""
        entries: list[NavigationEntry] = []
        try:
            for path, _, properties in items.values():
                if "nav" in properties:
                    entries = list(_nav_entries(decode(self.archive.read(path))[0], path))
            if not entries:
                spine = next((one for one in root.iter() if local(one.tag) == "spine"), None)
                named = spine.get("toc", "") if spine is not None else ""
                ncx = [path for name, (path, media, _) in items.items() if name == named or media.endswith("ncx+xml")]
                for path in ncx[:1]:
                    entries = list(
                        _ncx_entries(parse_xml(self.archive.read(path), f"{self.archive.name}: {path}"), path)
                    )
        except TextError as error:
            self.warnings.append(f"the navigation cannot be read, chapters are those of the pages: {error}")
        named = [replace(one, path=_found(one.path, pages)) for one in entries[:_MAX_ENTRIES] if one.title]
        entries = [one for one in named if one.path]
        if lost := len(named) - len(entries):
            self.warnings.append(f"left out: entries of the navigation that lead to no page ({lost})")
        if not entries:
            self.warnings.append("the book has no navigation: its headings are the chapters")
        begun: set[str] = set()
        kept = []
        levels = [one.level for one in entries]
        first = next((level for level in sorted(set(levels)) if levels.count(level) > 1), 1)
        for one in entries:  # all that begin a page; within pages those of the first level that has several
            if one.path not in begun or (one.level <= first and one.fragment):
                kept.append(one)
            begun.add(one.path)
        return kept

    # ---- chapters ---------------------------------------------------------------------------------------------------

    def _chapters(self, pages: list[str], entries: list[NavigationEntry]) -> list[Chapter]:
        begins: dict[tuple[str, str], str] = {}
        for one in entries:
            begins.setdefault((one.path, one.fragment), one.title)
        chapters: list[Chapter] = []
        for path in pages:
            if path not in self.archive:
                self.warnings.append(f"left out: {path[:80]!r} is missing in the book")
                continue
            text, guessed = decode(self.archive.read(path))
            if guessed:
                self.warnings.append(f"{path[:80]!r} is no UTF-8: read as Windows-1252")
            page = read_page(text, self.include)
            here = {fragment: title for (where, fragment), title in begins.items() if where == path}
            first = next(iter(here), None)
            if first is not None and first not in {"", *(a for one in page.paragraphs for a in one.anchors)}:
                here[""] = here.pop(first)  # it leads nowhere, so to the beginning
            elif first and len(page.paragraphs) and first in page.paragraphs[0].anchors:
                here[""] = here.pop(first)
            heading = next((one.text for one in page.paragraphs[:3] if one.kind == "heading"), "")
            title = here.get("", "")
            if not title and not (entries and chapters):  # without navigation pages with headings are chapters
                title = heading or ("" if chapters else page.title or "Beginning")
            paragraphs = page.paragraphs
            if CONTENTS_TITLE.fullmatch(title) and 2 * page.linked > sum(len(one.text) for one in paragraphs):
                paragraphs = [replace(one, kind="contents", level=0) for one in paragraphs]
            if title and paragraphs:
                chapters.append(Chapter(title_line(title), []))
            for paragraph in paragraphs:
                if cut := next((here[anchor] for anchor in paragraph.anchors if anchor and anchor in here), ""):
                    chapters.append(Chapter(title_line(cut), []))
                chapters[-1].paragraphs.append(paragraph)
        kept = [one for one, following in zip(chapters, chapters[1:], strict=False) if not _repeated(one, following)]
        return kept + chapters[-1:]


def _repeated(chapter: Chapter, following: Chapter) -> bool:
    """Whether a chapter is no more than the title of the one that follows, which says it again with its number."""
    names = [re.sub(r"^[\dIVXLC.\s]*\.\s+", "", one.title) for one in (chapter, following)]
    return names[0] == names[1] and all(one.kind in ("heading", "contents") for one in chapter.paragraphs)


def _found(path: str, pages: list[str]) -> str:
    """The page that an entry of the navigation leads to, if need be in another folder; empty if there is none."""
    if path in pages:
        return path
    name = posixpath.basename(path)
    same = [page for page in pages if name and posixpath.basename(page) == name]
    return same[0] if len(same) == 1 else ""


def _nav_entries(html: str, path: str) -> Iterator[NavigationEntry]:
    reader = _NavReader()
    reader.feed(tags_alone(html))
    reader.close()
    for title, href, level in reader.entries:
        target, fragment = resolve(path, href)
        yield NavigationEntry(" ".join(title.split()), target, fragment, level)


class _NavReader(HTMLParser):
    """Collects the links of the table of contents of EPUB 3."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.entries: list[tuple[str, str, int]] = []
        self._inside, self._level, self._link = False, 0, False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "nav":
            what = f"{given.get('epub:type') or ''} {given.get('role') or ''}".split()
            self._inside, self._level = "toc" in what or "doc-toc" in what, 0
        elif self._inside and tag in ("ol", "ul"):
            self._level += 1
        elif self._inside and tag == "a":
            self.entries.append(("", given.get("href") or "", self._level))
            self._link = True

    def handle_endtag(self, tag: str) -> None:
        if tag == "nav":
            self._inside = False
        elif tag in ("ol", "ul"):
            self._level -= 1
        elif tag == "a":
            self._link = False

    def handle_data(self, data: str) -> None:
        if self._inside and self._link:
            title, href, level = self.entries[-1]
            self.entries[-1] = (title + data)[:1000], href, level


def _ncx_entries(root: Any, path: str) -> Iterator[NavigationEntry]:
    """Entries of the navigation of EPUB 2."""
    ahead = [(one, 1) for one in root.iter() if local(one.tag) == "navMap"]
    while ahead:
        one, level = ahead.pop()
        inner = [child for child in one if local(child.tag) == "navPoint"]
        ahead += [(child, level + (local(one.tag) == "navPoint")) for child in reversed(inner)]
        if local(one.tag) != "navPoint":
            continue
        title = next((_text(text) for label in one if local(label.tag) == "navLabel" for text in label), "")
        source = next((content.get("src", "") for content in one if local(content.tag) == "content"), "")
        target, fragment = resolve(path, source)
        yield NavigationEntry(title, target, fragment, level)


def decode(data: bytes) -> tuple[str, bool]:
    """A page as text, and whether its encoding was guessed: by its mark, its declaration, else UTF-8."""
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if data.startswith(mark):
            return data.decode(encoding, "replace"), False
    declared = _DECLARED.search(data[:1024])
    if declared:
        try:
            name = codecs.lookup(declared[1].decode("ascii")).name
        except LookupError:
            name = ""
        if _ENCODINGS.fullmatch(name):
            return data.decode(name, "replace"), False
    try:
        return data.decode("utf-8"), False
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace"), True


def _is_dc(tag: Any) -> bool:
    return isinstance(tag, str) and tag.startswith("{http://purl.org/dc/elements/1.1/}")


def _text(element: Any) -> str:
    return " ".join((element.text or "").split())


def _plain(text: str) -> str:
    """A description without the HTML that some books write in it."""
    return " ".join(re.sub(r"<[^<>]{0,500}>", " ", text).split())
