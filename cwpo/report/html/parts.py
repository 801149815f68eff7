"""Small pieces of HTML. Every text that comes from outside goes through `escape`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape as escape_html

from cwpo.plain import visible

__all__ = ["escape", "natural", "table"]
ORDER = ("table", "figure")


def escape(text: str) -> str:
    """The text as it stands: markup is shown, and so are control characters, which could reverse what stands around them."""
    return escape_html(visible(text))


def natural(name: str) -> tuple[int, list[tuple[int, str]]]:
    """A sorting key: tables by number, then figures, then what has no number in the paper."""
    kind = next((i for i, word in enumerate(ORDER) if re.match(rf"{word}\d", name)), len(ORDER))
    return kind, [(int(part), "") if part.isdigit() else (-1, part) for part in re.findall(r"\d+|\D+", name)]


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, label: str, kinds: Sequence[str], name: str = ""
) -> str:
    """A table in a scrolling region. Cells are HTML, `kinds` the CSS class of each column; the first names the row."""

    def cell(tag: str, scope: str, kind: str, content: str) -> str:
        scoped = f' scope="{scope}"' if scope else ""
        classed = f' class="{kind}"' if kind else ""
        return f"<{tag}{scoped}{classed}>{content}</{tag}>"

    head = "".join(cell("th", "col", kind, escape(title)) for kind, title in zip(kinds, header, strict=True))
    lines = []
    for row in rows:
        tags = [("th", "row"), *[("td", "")] * (len(row) - 1)]
        cells = (cell(*tag, kind, content) for tag, kind, content in zip(tags, kinds, row, strict=True))
        lines.append(f"<tr>{''.join(cells)}</tr>")
    classed = f' class="{name}"' if name else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}"><table{classed}>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(lines) + "\n</tbody></table></div>"
    )
