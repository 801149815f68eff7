"""Our own Markdown pages as HTML; raw HTML and images in them stay text."""

from __future__ import annotations

from markdown_it import MarkdownIt
from markdown_it.token import Token

from cwpo.plain import visible
from cwpo.report.html.parts import escape

HIGHEST = 3  # a page's title stands under a section's


def to_html(text: str, *, label: str, folder: str) -> str:
    """A page of the report as HTML: its title an h3, its sections h4, tables in scrolling regions called `label`.

    Relative links are into `folder`. The first column of a table names its rows.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    tokens = parser.parse(visible(text))
    first = False
    named = ""
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{HIGHEST if token.tag == 'h1' else HIGHEST + 1}"
        elif token.type == "tr_open":
            first = True
        elif token.type == "th_open":
            token.attrSet("scope", "col")
        elif token.type == "td_open" and first:
            token.tag = named = "th"
            token.attrSet("scope", "row")
        elif token.type == "td_close" and first:
            token.tag, first = named, False
        if token.type in ("th_open", "td_open"):
            _align(token)
        for part in token.children or ():
            if part.type == "link_open" and ":" not in str(part.attrGet("href")):
                part.attrSet("href", f"{folder}/{part.attrGet('href')}")
    html = parser.renderer.render(tokens, parser.options, {})
    region = f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">'
    return html.replace("<table>", f"{region}<table>").replace("</table>", "</table></div>")


def _align(token: Token) -> None:
    """Right-aligned columns by a class instead of an inline style."""
    style = token.attrs.pop("style", "")
    if "right" in str(style):
        token.attrSet("class", "number")
