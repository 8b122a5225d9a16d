"""Files of all kinds to books: chapters, titles, kinds of paragraphs; whatever is wrong is one line."""

from __future__ import annotations

import io
import random
import sys
import zipfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from books import CONTAINER, epub, nav, ncx, png, xhtml, zipped  # noqa: E402

from chelys.audiobook import archive  # noqa: E402
from chelys.audiobook.book import Book, select  # noqa: E402
from chelys.audiobook.pages import read_page  # noqa: E402
from chelys.audiobook.readers import read_book  # noqa: E402
from chelys.errors import TextError, UserError  # noqa: E402


def texts(book: Book) -> list[list[str]]:
    return [[one.text for one in chapter.paragraphs] for chapter in book.chapters]


def titles(book: Book) -> list[str]:
    return [chapter.title for chapter in book.chapters]


def kinds(html: str) -> list[tuple[str, str]]:
    return [(one.kind, one.text) for one in read_page(html, ()).paragraphs]


# ---- pages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("html", "found"),
    [
        ("<h2>One<br/>Two</h2><p>Text.</p>", [("heading", "One Two"), ("text", "Text.")]),
        ("<h2>Chapter <i>XIV</i><br/>In London</h2><h3>Chapter 2 of 3</h3>",
         [("heading", "Chapter XIV. In London"), ("heading", "Chapter 2 of 3")]),
        ("<p>A user <a class='footnote' href='#f1'><sup class='footnote'>[1]</sup></a>is.</p>"
         "<div class='footnote' id='f1'>Note.</div>", [("text", "A user is."), ("note", "Note.")]),
        ("<div role='navigation'><h3>Menu</h3></div><p>A guide<span class='link-target'> [https://a.b]</span>.</p>"
         "<div class='footer' role='contentinfo'>Made by S.</div>", [("text", "A guide.")]),
        ("<p class='code'>$ make build</p><p>Run <span class='code'>make</span>.</p>",
         [("code", "$ make build"), ("text", "Run make.")]),
        ("<div class='table'><p class='title'>Table 1</p><table><tr><td>a</td></tr></table></div><p>T</p>",
         [("table", "Table 1"), ("table", "a"), ("text", "T")]),
        ("<section epub:type='index'><p>abatement, <a href='a.html#p1'>12</a></p></section>",
         [("contents", "abatement, 12")]),
        ("<h2>Contents</h2><p><a href='a.html'>One</a></p><h2>Contents</h2><p>One.</p>",
         [("contents", "Contents"), ("contents", "One"), ("heading", "Contents"), ("text", "One.")]),
        ("<p>A</p><hr/><p>B</p><p>* * *</p><p>C</p>",
         [("text", "A"), ("scene", ""), ("text", "B"), ("scene", ""), ("text", "C")]),
        ("<p>Seen<sup><a href='#n1'>1</a></sup> once<a href='#n2'>[2]</a>.</p>", [("text", "Seen once.")]),
        ("<p>Read <a href='#n1' epub:type='noteref'>*</a>on.</p>", [("text", "Read on.")]),
        ("<p>In <a href='x.html#y'>chapter 3</a> it rained.</p>", [("text", "In chapter 3 it rained.")]),
        ("<aside epub:type='footnote'><p>A note.</p></aside><p>On.</p>", [("note", "A note."), ("text", "On.")]),
        ("<p>Be<span epub:type='pagebreak' title='7'>7</span>fore.</p>", [("text", "Before.")]),
        ("<table><tr><td>a</td><td><p>b</p></td></tr></table><p>T</p>", [("table", "a, b"), ("text", "T")]),
        ("<table role='presentation'><tr><td>laid out</td></tr></table>", [("text", "laid out")]),
        ("<pre><code>x = 1</code></pre><p>and <code>y</code></p>", [("code", "x = 1"), ("text", "and y")]),
        ("<figure><img src='a' alt='b'/><figcaption>C</figcaption></figure>", [("caption", "C")]),
        ("<ul><li><a href='a.html'>One</a></li><li><a href='b.html'>Two</a></li></ul>",
         [("contents", "One"), ("contents", "Two")]),
        ("<p><a href='https://a.example'>outside</a></p>", [("text", "outside")]),
        ("<ol><li><p>first</p></li><li>second</li></ol>", [("text", "1. first"), ("text", "2. second")]),
        ("<ruby>漢<rt>kan</rt></ruby><p hidden>no</p><p style='display: none'>no</p>", [("text", "漢")]),
        ("<p>never <b>ended <p>next", [("text", "never ended"), ("text", "next")]),
        ("<script>var a = '<p>x</p>'</script><style>p {}</style><p>y &amp; &nbsp;z &undefined;</p>",
         [("text", "y & z &undefined;")]),
    ],
)  # fmt: skip
def test_the_kinds_of_paragraphs(html: str, found: list[tuple[str, str]]) -> None:
    assert kinds(html) == found


def test_no_markup_is_a_fault() -> None:
    chance = random.Random(1)
    names = "p h1 table tr td th caption figcaption pre code a sup aside span div li ol q br hr img script nav rt svg"
    tags = names.split()
    given = ("", " id='x'", " class='footnote'", " epub:type='pagebreak'", " href='#x'", " href='y.html'", " hidden")
    words = ("a ", "1", "[1]", " \n", "&amp;", "<", "* * *", "“x”")
    for _ in range(300):
        pieces = (
            chance.choice(
                (f"<{chance.choice(tags)}{chance.choice(given)}>", f"</{chance.choice(tags)}>", chance.choice(words))
            )
            for _ in range(chance.randrange(60))
        )
        html = "".join(pieces)
        for paragraph in read_page(html, {"page"}).paragraphs:
            assert bool(paragraph.text) != (paragraph.kind == "scene"), html


def test_page_numbers_are_read_where_they_stand_if_they_are_asked_for() -> None:
    html = "<p>Be <span class='pagenum'>7</span> fore.</p>"
    assert [one.text for one in read_page(html, {"page"}).paragraphs] == ["Be 7 fore."]


# ---- EPUB -----------------------------------------------------------------------------------------------------------


def test_an_epub_with_every_oddity_is_read() -> None:
    pages = {
        "cover.xhtml": xhtml("<img src='c.png' alt='Cover'/>"),
        "title page.xhtml": xhtml("<p>The Book, by A. Nobody</p>", "Title page"),
        "toc.xhtml": xhtml("<h1>Contents</h1><p><a href='one.xhtml'>One</a></p>"),
        "part.xhtml": xhtml("<h1>Part I</h1>"),
        "one.xhtml": xhtml("<h2 id='a'>One</h2><p>First.</p><p>***</p><p>Then<sup><a href='#f'>1</a></sup>.</p>"
                           "<aside id='f' epub:type='footnote'>A note.</aside><table><tr><td>1</td></tr></table>"),
        "one-b.xhtml": xhtml("<p>It goes on.</p>"),
        "two.xhtml": xhtml("<p>x</p><div id='two'><p>Two begins.</p></div><p>More.</p><a id='three'/><p>Three.</p>"),
        "empty.xhtml": xhtml("<hr/>"),
        "latin.xhtml": xhtml("<p>caf\xe9</p>").replace("utf-8", "iso-8859-1").encode("latin-1"),
        "cyrillic.xhtml": xhtml("<p>Привет.</p>"),
    }  # fmt: skip
    toc = nav(
        ("Part I", "part.xhtml"), ("  Chapter\n One", "one.xhtml#a"), ("Two", "two.xhtml#two"),
        ("Three", "two.xhtml#three"),
        ("Nothing", "empty.xhtml"), ("Café", "latin.xhtml#nowhere"), ("Глава", "cyrillic.xhtml"),
        ("Out", "../../etc/passwd"),
    )  # fmt: skip
    data = epub(
        pages, toc=toc, facts="<dc:title>A  Book</dc:title><dc:creator>Ann</dc:creator><dc:creator>Ben</dc:creator>"
        "<dc:language>en-GB</dc:language><dc:date>1851-10-18</dc:date>"
        "<dc:description>&lt;p&gt;Dull.&lt;/p&gt;</dc:description>",
        manifest="<item id='up' href='../../../etc/passwd' media-type='application/xhtml+xml'/><item id='abs' "
        "href='/etc/passwd' media-type='application/xhtml+xml'/><item id='c' href='c.png' properties='cover-image' "
        "media-type='image/png'/>", spine="<itemref idref='up'/><itemref idref='abs'/><itemref idref='missing'/>",
        more={"OPS/c.png": png(), "/etc/passwd": "x", "../etc/passwd": "x"},
    )  # fmt: skip
    book = read_book(data)
    assert (book.title, book.author, book.language, book.date) == ("A Book", "Ann, Ben", "en-GB", "1851-10-18")
    assert book.description == "Dull."
    assert book.cover is not None and (book.cover.kind, book.cover.width, book.cover.height) == ("png", 4, 3)
    assert titles(book) == ["Title page", "Part I", "Chapter One", "Two", "Three", "Café", "Глава"]
    assert texts(book)[2] == ["One", "First.", "", "Then.", "It goes on.", "x"]
    assert texts(book)[3:6] == [["Two begins.", "More."], ["Three."], ["café"]]
    assert any("leads out of the book" in warning for warning in book.warnings)
    assert any("chapters without text" in warning for warning in book.warnings)
    with_all = read_book(data, include=("note", "table"))
    assert texts(with_all)[2] == ["One", "First.", "", "Then.", "A note.", "1", "It goes on.", "x"]


def test_the_navigation_of_epub_2_gives_titles_too() -> None:
    pages = {"a.xhtml": xhtml("<p>A.</p>"), "b.xhtml": xhtml("<p>B.</p>")}
    book = read_book(epub(pages, toc_ncx=ncx(("First &amp; last", "a.xhtml"), ("Second", "b.xhtml"))))
    assert titles(book) == ["First & last", "Second"]


def test_a_book_in_one_page_is_cut_where_the_navigation_points_into_it() -> None:
    page = xhtml("<h1 id='s'>S</h1><h2 id='a'>A</h2><p>a</p><h3 id='aa'>AA</h3><p>aa</p><h2 id='b'>B</h2><p>b</p>")
    inner = '<ol><li><a href="p.xhtml#a">A</a><ol><li><a href="p.xhtml#aa">AA</a></li></ol></li>'
    toc = nav(("S", "p.xhtml#s")).replace(
        "</a></li></ol>", f'</a>{inner}<li><a href="p.xhtml#b">B</a></li></ol></li></ol>'
    )
    book = read_book(epub({"p.xhtml": page}, toc=toc))
    assert titles(book) == ["S", "A", "B"] and texts(book)[1] == ["A", "a", "AA", "aa"]


def test_a_navigation_that_points_into_another_folder_is_followed() -> None:
    pages = {"en/a.xhtml": xhtml("<p>A.</p>"), "en/b.xhtml": xhtml("<p>B.</p>"), "de/b.xhtml": xhtml("<p>B.</p>")}
    book = read_book(epub(pages, toc=nav(("A", "a.xhtml"), ("B", "b.xhtml"), ("C", "c.xhtml"))))
    assert titles(book) == ["A"]  # there are two of the name b.xhtml
    assert any("lead to no page (2)" in warning for warning in book.warnings)


def test_a_page_of_contents_and_a_title_that_is_said_again_are_left_out() -> None:
    lines = "".join(f"<h4><a href='{i}.xhtml'>{i}. A long title</a></h4>" for i in range(9))
    pages = {
        "toc.xhtml": xhtml(f"<h1>Book</h1>{lines}"), "head.xhtml": xhtml("<h1>Setup</h1>"),
        "setup.xhtml": xhtml("<h1>3. Setup</h1><p>Do.</p>"), "part.xhtml": xhtml("<h1>Part</h1>"),
        "one.xhtml": xhtml("<h1>One</h1><p>1.</p>"),
    }  # fmt: skip
    toc = nav(
        ("Table of Contents", "toc.xhtml"), ("Setup", "head.xhtml"), ("3. Setup", "setup.xhtml"),
        ("Part", "part.xhtml"), ("One", "one.xhtml"),
    )  # fmt: skip
    assert titles(read_book(epub(pages, toc=toc))) == ["3. Setup", "Part", "One"]


def test_a_book_that_was_packed_with_its_folder_is_read() -> None:
    with zipfile.ZipFile(io.BytesIO(epub({"a.xhtml": xhtml("<p>A.</p>")}, toc=nav(("First", "a.xhtml"))))) as file:
        members = {f"book/{name}": file.read(name) for name in file.namelist()}
    assert titles(read_book(zipped(members))) == ["First"]
    locked = (
        '<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><EncryptedData><EncryptionMethod '
        'Algorithm="x"/><CipherReference URI="OPS/a.xhtml"/></EncryptedData></encryption>'
    )
    with pytest.raises(TextError, match="copy protection"):
        read_book(zipped(members | {"book/META-INF/encryption.xml": locked}))
    with pytest.raises(TextError, match="is no EPUB"):
        read_book(zipped(members | {f"other/{name}": data for name, data in members.items()}))


def test_without_navigation_the_headings_are_chapters() -> None:
    pages = {
        "a.xhtml": xhtml("<h1>A</h1><p>a</p>"),
        "b.xhtml": xhtml("<p>b</p>"),
        "c.xhtml": xhtml("<h1>C</h1><p>c</p>"),
    }
    book = read_book(epub(pages))
    assert titles(book) == ["A", "C"] and texts(book) == [["A", "a", "b"], ["C", "c"]]
    assert "no navigation" in book.warnings[0]


def test_a_damaged_navigation_and_cover_are_left_out_with_a_warning() -> None:
    manifest = "<item id='c' href='c.png' properties='cover-image' media-type='image/png'/>"
    more = {"OPS/c.png": b"no picture"}
    book = read_book(epub({"a.xhtml": xhtml("<h1>A</h1><p>a</p>")}, toc_ncx="<ncx", manifest=manifest, more=more))
    assert titles(book) == ["A"] and book.cover is None
    assert ["navigation" in book.warnings[0], "cover" in book.warnings[-1]] == [True, True]


ENTITIES = (
    '<?xml version="1.0"?><!DOCTYPE package [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'
    '<package xmlns="http://www.idpf.org/2007/opf"><metadata>&b;</metadata></package>'
)
ENCRYPTED = (
    '<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><EncryptedData xmlns='
    '"http://www.w3.org/2001/04/xmlenc#"><EncryptionMethod Algorithm="{}"/><CipherData><CipherReference '
    'URI="OPS/a.xhtml"/></CipherData></EncryptedData></encryption>'
)
PAGE = {"a.xhtml": xhtml("<p>Words.</p>")}


def test_entities_of_a_page_are_not_put_in() -> None:
    page = '<?xml version="1.0"?><!DOCTYPE html [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><html><p>Not &b;.</p></html>'
    assert texts(read_book(epub({"a.xhtml": page}))) == [["Not &b;."]]


def locked(data: bytes) -> bytes:
    """An archive whose members are encrypted, by its heads."""
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(mark)
        while at >= 0:
            data = data[: at + flags] + bytes([data[at + flags] | 1]) + data[at + flags + 1 :]
            at = data.find(mark, at + 4)
    return data


def damaged(data: bytes) -> bytes:
    at = data.index(b"OPS/a.xhtml") + 20
    return data[:at] + bytes(b ^ 0x55 for b in data[at : at + 40]) + data[at + 40 :]


UNREADABLE = [
    (b"PK\x03\x04 cut short", "no EPUB, or damaged"),
    (epub(PAGE)[:-30], "no EPUB, or damaged"),
    (damaged(epub(PAGE)), "'OPS/a.xhtml' is damaged"),
    (locked(epub(PAGE)), "is encrypted"),
    (zipped({"a.txt": "x"}), "no EPUB: META-INF/container.xml is missing"),
    (zipped({"META-INF/container.xml": CONTAINER.format("../../etc/passwd")}), "names no package"),
    (zipped({"META-INF/container.xml": CONTAINER.format("p"), "p": ENTITIES}), "defines entities"),
    (zipped({"META-INF/container.xml": CONTAINER.format("p"), "p": "<package"}), "is no XML"),
    (epub(PAGE, more={"META-INF/encryption.xml": ENCRYPTED.format("urn:aes")}), "encrypted (copy protection)"),
    (epub({"a.xhtml": xhtml("<p> </p>")}), "holds no text"),
    (epub({"a.xhtml": "<p>" + "x" * (archive.MAX_MEMBER + 1)}), "unpacks to more than 16 MiB"),
]


@pytest.mark.parametrize(("data", "line"), UNREADABLE, ids=[line for _, line in UNREADABLE])
def test_what_cannot_be_read_is_said_in_a_line(data: bytes, line: str) -> None:
    with pytest.raises(TextError) as caught:
        read_book(data, format="epub")
    assert line in str(caught.value) and "\n" not in str(caught.value)


def test_hidden_fonts_are_no_encryption() -> None:
    book = read_book(
        epub(PAGE, more={"META-INF/encryption.xml": ENCRYPTED.format("http://www.idpf.org/2008/embedding")})
    )
    assert texts(book) == [["Words."]]


def test_many_pages_that_unpack_to_too_much_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_TOTAL", 1 << 20)
    with pytest.raises(TextError, match="unpacks to more than"):
        read_book(epub({f"{i}.xhtml": xhtml("<p>" + "a " * 100_000) for i in range(9)}))


# ---- others ---------------------------------------------------------------------------------------------------------


def test_markdown_is_cut_at_its_headings(tmp_path: Path) -> None:
    path = tmp_path / "tale.md"
    path.write_text(
        "# The Tale\n\n## One\n\nA *word*.\n\n* * *\n\nB.\n\n```\ncode\n```\n\n## Two\n\n[^1]C. [voice:rowan] D.\n"
    )
    book = read_book(path)
    assert (book.title, titles(book)) == ("The Tale", ["One", "Two"])
    assert texts(book) == [["The Tale", "One", "A word.", "", "B."], ["Two", "C. [voice:rowan] D."]]


def test_plain_text_is_cut_at_the_heads_of_chapters() -> None:
    text = (
        "*** START OF THE PROJECT GUTENBERG EBOOK X ***\n\nChapter I\n\nIt was\ncold.\n\nCHAPTER II. The thaw\r\n\r\n"
        "It was warm.\n\nThe chapter ended.\n\n*** END OF THE PROJECT GUTENBERG EBOOK X ***\nlegal"
    )
    book = read_book(text.encode())
    assert titles(book) == ["Chapter I", "CHAPTER II. The thaw"]
    assert texts(book)[1] == ["CHAPTER II. The thaw", "It was warm.", "The chapter ended."]


@pytest.mark.parametrize(
    ("line", "heading"),
    [("IV.", True), ("Chapter Twenty-One", True), ("CHAPTER 3: Rain", True), ("Part the Second", True), ("7.", True),
     ("Book II\nThe Return", True), ("23", False), ("Mix", False), ("Book club", False), ("Act now!", False)],
)  # fmt: skip
def test_what_looks_like_the_head_of_a_chapter(line: str, heading: bool) -> None:
    book = read_book(f"{line}\n\nText.".encode(), format="text")
    assert (book.chapters[0].paragraphs[0].kind == "heading") == heading


def test_html_has_its_title_and_chapters(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_text("<title>T &amp; U</title><h1>A</h1><p>a</p><h1>B</h1><p>b</p>")
    book = read_book(path)
    assert (book.title, titles(book)) == ("T & U", ["A", "B"])


def docx(body: str, more: dict[str, str | bytes] | None = None) -> bytes:
    w = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    styles = f'<w:styles {w}><w:style w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style></w:styles>'
    return zipped(
        {
            "word/document.xml": f"<w:document {w}><w:body>{body}</w:body></w:document>",
            "word/styles.xml": styles,
            **(more or {}),
        }
    )


def test_docx_has_headings_by_their_styles_in_any_language() -> None:
    heading = '<w:p><w:pPr><w:pStyle w:val="berschrift1"/></w:pPr><w:r><w:t>{}</w:t></w:r></w:p>'
    text = "<w:p><w:r><w:t>Some </w:t><w:t>words</w:t></w:r><w:del><w:r><w:delText>gone</w:delText></w:r></w:del></w:p>"
    table = "<w:tbl><w:tr><w:tc><w:p><w:r><w:t>cell</w:t></w:r></w:p></w:tc></w:tr></w:tbl>"
    core = (
        '<cp xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>My Book</dc:title><dc:creator>Me</dc:creator></cp>'
    )
    book = read_book(docx(heading.format("A") + text + table + heading.format("B") + text, {"docProps/core.xml": core}))
    assert (book.title, book.author, titles(book)) == ("My Book", "Me", ["A", "B"])
    assert texts(book)[0] == ["A", "Some words"]


@pytest.mark.parametrize(
    ("name", "data", "line"),
    [
        ("a.pdf", b"%PDF-1.4", "no book that chelys knows"),
        ("a.txt", b"\x89PNG\0\0", "is no text"),
        ("a.txt", b" \n", "holds no text"),
        ("a.docx", zipped({"x": "y"}), "no DOCX"),
        ("a.epub", b"", "no EPUB"),
        ("gone.epub", None, "cannot be read: No such file"),
    ],
)
def test_what_is_no_book_is_said_in_a_line(name: str, data: bytes | None, line: str, tmp_path: Path) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError) as caught:
        read_book(tmp_path / name)
    assert line in str(caught.value) and "\n" not in str(caught.value)


def test_chapters_are_chosen_by_number() -> None:
    book = read_book("".join(f"# {i}\n\nx\n\n" for i in range(1, 6)).encode(), format="markdown")
    for wanted, numbers in {"2": [2], "2-3": [2, 3], "4-": [4, 5], "-2,5": [1, 2, 5], "3-99": [3, 4, 5]}.items():
        assert [number for number, _ in select(book.chapters, wanted)] == numbers
    for wrong in ("", "x", "0", "7", "3-2", "-"):
        with pytest.raises(UserError):
            select(book.chapters, wrong)
