"""Renders Markdown tables, and HTML pages from the templates and the one stylesheet in cwpo/templates.

Text from data and models never becomes markup: templates escape every value, and raw HTML in Markdown stays text.
"""

import base64
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt

from cwpo.plain import visible

TEMPLATES = Path(__file__).parent / "templates"
KINDS = ("table", "figure")


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Returns a table in GitHub's Markdown: the first `left` columns are left-aligned, the others right-aligned.

    In cells, pipes are escaped, line ends become spaces, and HTML is shown as text.
    """
    line = "|" + "|".join(["---"] * left + ["---:"] * (len(header) - left)) + "|"
    head, *body = [f"| {' | '.join(map(_cell, row))} |" for row in (header, *rows)]
    return "\n".join([head, line, *body])


def markdown_records(columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]], left: int = 1) -> str:
    """Returns a Markdown table with one row per dict. `columns`: heading -> format, as {"time": "{seconds:.2f}"}."""
    return markdown_table(list(columns), [[form.format(**row) for form in columns.values()] for row in rows], left)


def _cell(text: str) -> str:
    text = re.sub(r"(?<!\\)\|", r"\\|", " ".join(visible(text).split("\n")))
    return re.sub(r"<(?=[a-zA-Z/!?])", r"\\<", text)


def paper_order(name: str) -> tuple[int, list[tuple[int, str]]]:
    """Returns a sort key: first the paper's tables (table2, table10) by number, then its figures, then other names."""
    kind = next((i for i, word in enumerate(KINDS) if re.match(rf"{word}\d", name)), len(KINDS))
    return kind, [(int(part), "") if part.isdigit() else (-1, part) for part in re.findall(r"\d+|\D+", name)]


def render(template: str, **values: Any) -> str:
    """Renders a template of cwpo/templates. Raises jinja2.UndefinedError if a value that it needs is missing."""
    return environment().get_template(template).render(values)


@cache
def environment() -> Environment:
    """Returns the Jinja environment of cwpo/templates, which escapes every value."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: visible(value) if type(value) is str else value,  # Markup (HTML) is a subclass of str
        trim_blocks=True,
        lstrip_blocks=True,
    )


def image(png: bytes) -> dict[str, Any]:
    """Returns what the template macro `picture` takes: width and height in pixels, and `src`, the PNG as a data URL."""
    width, height = struct.unpack(">II", png[16:24])  # from the PNG's header
    return {"width": width, "height": height, "src": f"data:image/png;base64,{base64.b64encode(png).decode()}"}


def markdown_html(text: str, *, label: str = "", folder: str = "") -> str:
    """Converts Markdown to HTML: the title (#) becomes h3, as the page has h1 and its sections h2, other headings h4.

    Each table stands in a scrolling region, which screen readers call `label`; the cells of its first column become row
    headers. Relative links point into `folder`. Raw HTML and images stay text.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    tokens = parser.parse(visible(text))
    for at, token in enumerate(tokens):
        if token.type in ("heading_open", "heading_close"):
            token.tag = "h3" if token.tag == "h1" else "h4"
        elif token.type == "tr_open" and tokens[at + 1].type == "td_open":
            start, _, end = tokens[at + 1 : at + 4]  # the row's first cell, its text between them
            start.tag = end.tag = "th"
            start.attrSet("scope", "row")
        elif token.type == "th_open":
            token.attrSet("scope", "col")
        if "right" in str(token.attrs.pop("style", "")):
            token.attrSet("class", "number")
        for part in token.children or ():
            if part.type == "link_open" and ":" not in str(part.attrGet("href")):
                part.attrSet("href", f"{folder}/{part.attrGet('href')}")
    html = parser.renderer.render(tokens, parser.options, {})
    region = render("region.html.jinja", label=label)
    return html.replace("<table>", f"{region}<table>").replace("</table>", "</table></div>")
