"""Markdown and HTML, also within plain text, are read as what they show."""

from __future__ import annotations

import time

import pytest

from chelys.text.formats import format_of
from chelys.text.front_end import read_text
from chelys.text.html import text_of_html, text_of_markdown
from chelys.text.lexicon import NANO_LEXICON
from chelys.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.load(NANO_LEXICON.parent)


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("# Big News\n\nWe **won** the [cup](https://a.com). ==Yes==", "big news | we won the cup. | yes"),
        ("it&#39;s fine &amp; good", "it's fine and good"),
        ("<b>Hi</b>", "hi"),
        ("> so", "so"),
        ("Title\n=====\n\nText", "title | text"),
        ("- one\n- two", "one | two"),
        ("* *one*\n* __two__", "one | two"),
        ("It is *very* good, _really_ and ~~not~~ bad.", "it is very good, really and not bad."),
        ("![A cat](cat.png) sat.", "a cat sat."),
        ('See [here](x.html "A title").', "see here."),
        ("| a | tea |\n|---|---|\n| b | cup |", "a, tea | b, cup"),
        ("Use `go` now.", "use go now."),
        ("He said so[^1].\n\n[^1]: Or not.", "he said so. | or not."),
        ("<p>One &lt; two</p><p>Three</p>", None),
        ('<h1>Head</h1>\n<p>A line\nthat goes on<br>and <a href="x">on</a>.</p>', "head | a line that goes on and on."),
        ("<ul><li>Red<li>Blue</ul>", "red | blue"),
        ("<ol start=3><li>Red</li></ol>", "three. red"),
        ("So *it* was.\n\n7. Red\n9. Blue", "so it was. | seven. red | nine. blue"),
        ("Tea&nbsp;&frac12; &hellip; caf&eacute;", "tea one half. cafe"),
        ("<!DOCTYPE html><html><head><title>No</title></head><body>Yes<script>no()</script></body></html>", "yes"),
        ("<div>One<style>p { }</style> two</div>", "one two"),
        ('<p class="a">One &quot;two&quot;</p>', 'one "two"'),
    ],
)
def test_what_is_shown_is_read(text: str, spoken: str | None) -> None:
    document = read_text(text, TOKENIZER)
    said = " | ".join(one.spoken for one in document.sentences)
    assert said == spoken if spoken else "&" not in said and "<" not in said


@pytest.mark.parametrize(
    "text",
    [
        "5 * 3 * 2 is 30.", "2*3*4", "a_b_c and snake_case", "1. First", "#5 and #tag", "a < b and c > d", "<5%",
        "AT&T and R&D; M&M", "Don`t go and can`t.", "--- Well", "He said - no.", "a <b and c> d", "x == y and y == z",
        "[12] and (see [4])", "Call me at 7:45, if you can.", "[word](/wˈɜɹd/)",
    ],
)  # fmt: skip
def test_plain_text_is_left_alone(text: str) -> None:
    assert format_of(text) == "text"


def test_formats_are_told_apart() -> None:
    assert format_of("<speak>Hi</speak>") == format_of('<?xml version="1.0"?>\n<speak version="1.1">') == "ssml"
    assert format_of("<!doctype HTML><p>Hi") == format_of("Tea &amp; <i>cake</i>") == "html"
    assert format_of("**Hi**") == "markdown"
    assert read_text("**Hi** there", TOKENIZER, format="text").sentences[0].text == "**Hi** there"


def test_what_is_left_out_is_told() -> None:
    warnings: dict[str, None] = {}
    assert text_of_markdown("Before.\n\n```python\nx = 1\n```\n\nAfter[^a].", warnings) == "Before.\n\nAfter."
    assert list(warnings) == ["left out: marks of footnotes (1)", "left out: blocks of code (1)"]
    warnings.clear()
    assert text_of_html("<p>Before<svg>lost", warnings) == "Before" and "never ends" in next(iter(warnings))


def test_markdown_keeps_tags_apostrophes_and_line_ends() -> None:
    warnings: dict[str, None] = {}
    text = text_of_markdown("# Don`t\n\nA [b](/bˈi/) [pause:1]\nand can`t.\n\n    indented", warnings)
    assert text == "Don't\n\nA [b](/bˈi/) [pause:1]\nand can't.\n\nindented" and not warnings


@pytest.mark.parametrize(
    "piece", ["*a **a ", "[a](b", "![", "> ", "<p>a", "<!--a", "</a ", "<a b='", "&amp;", "` ` ", "<sup>1", "<?a "]
)
def test_the_time_is_linear(piece: str) -> None:
    """Ten times the text takes not much more than ten times as long."""

    def seconds(length: int) -> float:
        text = "# a\n<p>" + piece * (length // len(piece))
        start = time.process_time()
        text_of_markdown(text, {})
        format_of(text)
        return time.process_time() - start

    seconds(2_000)
    assert seconds(20_000) < 40 * max(seconds(2_000), 0.005)
