"""The whole page."""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Sequence
from pathlib import Path

from cwpo.report.claims.outcome import Outcome
from cwpo.report.claims.write import limits, summary
from cwpo.report.html import claims, provenance, texts
from cwpo.report.html.css import CSS
from cwpo.report.html.markdown import to_html
from cwpo.report.html.parts import escape, natural
from cwpo.report.inputs import SCALE_NOTES, Results

PNG_SIZE = slice(16, 24)  # width and height in the header


def write_page(results: Results, outcomes: Sequence[Outcome], written: Sequence[Path], folder: Path) -> Path:
    """Write report.html into `folder`, results/<scale>: claims, then the Markdown tables and PNG figures in `written`.

    The same results give the same bytes. Nothing on the page is loaded from anywhere else.
    """
    pages = sorted(
        (p for p in written if p.suffix == ".md" and p.parent.name == "tables"),
        key=lambda path: natural(path.stem),
    )
    figures = sorted((p for p in written if p.suffix == ".png"), key=lambda path: natural(path.stem))
    titles = {path.stem: _title(path) for path in pages}
    sections = [
        ("claims", "The paper's claims", claims.section(outcomes)),
        ("tables", "Tables", "\n".join(_table(path, titles[path.stem]) for path in pages) or texts.NONE),
        ("figures", "Figures", "\n".join(_figure(path, titles) for path in figures) or texts.NONE),
        ("samples", "Sample generations (Tables 14, 15)", texts.samples(results.samples)),
        (
            "disagreements",
            "Where annotator and human disagree (Tables 18, 19)",
            texts.disagreements(results.disagreements),
        ),
        ("provenance", "Provenance", provenance.section(results)),
    ]
    more = {
        "tables": [(f"table-{path.stem}", _short(path.stem)) for path in pages],
        "figures": [(f"figure-{path.stem}", _short(path.stem)) for path in figures],
    }
    note = SCALE_NOTES.get(results.scale, f"{results.scale} scale")
    title = f"CW-PO, {results.scale} scale: what the results say"
    body = "\n".join(
        f'<section id="{key}"><h2>{escape(name)}</h2>\n{html}</section>' for key, name, html in sections
    )
    page = folder / "report.html"
    page.write_text(
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n"
        f'<a class="skip" href="#claims">Skip to the claims</a>\n<header><h1>{escape(title)}</h1>\n'
        "<p>Confidence-weighted preference optimization, "
        '<a href="https://arxiv.org/abs/2603.04968">arXiv:2603.04968</a>: a weak model labels preference pairs, and each pair '
        "counts with the weak model's confidence. Our results stand beside the paper's numbers.</p>\n"
        f'<div class="banner"><p><strong>{escape(note[0].upper() + note[1:])}.</strong> {escape(limits(outcomes, results.scale))}'
        f"</p><p>{escape(summary(outcomes, results.scale))}</p></div></header>\n"
        f"{_navigation(sections, more)}\n<main>\n{body}\n</main>\n</body>\n</html>\n",
        encoding="utf-8",
    )
    return page


def _navigation(sections: Sequence[tuple[str, str, str]], more: dict[str, list[tuple[str, str]]]) -> str:
    items = []
    for key, name, _ in sections:
        inner = "".join(f'<li><a href="#{at}">{escape(text)}</a></li>' for at, text in more.get(key, ()))
        link = f'<a href="#{key}">{escape(name)}</a>'
        items.append(f'<li class="wide">{link}<ul>{inner}</ul></li>' if inner else f"<li>{link}</li>")
    return f'<nav aria-label="Contents"><ul>{"".join(items)}</ul></nav>'


def _table(path: Path, title: str) -> str:
    text = path.read_text(encoding="utf-8")
    html = to_html(text, label=title, folder=path.parent.name)
    return f'<article id="table-{escape(path.stem)}">{html}</article>'


def _figure(path: Path, titles: dict[str, str]) -> str:
    data = path.read_bytes()
    width, height = struct.unpack(">II", data[PNG_SIZE])
    name = _short(path.stem)
    title = titles.get(path.stem, name)
    numbers = f"The numbers are in the table “{title}” on this page." if path.stem in titles else ""
    image = base64.b64encode(data).decode()
    link = f' <a href="#table-{escape(path.stem)}">Numbers</a>.' if numbers else ""
    return (
        f'<article id="figure-{escape(path.stem)}"><h3>{escape(title)}</h3><figure>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}"><img width="{width}" height="{height}" '
        f'alt="{escape(f"Plot: {title}. {numbers}".strip())}" src="data:image/png;base64,{image}"></div>'
        f"<figcaption>{escape(name)}.{link}</figcaption></figure></article>"
    )


def _title(path: Path) -> str:
    """The first line of a Markdown page, its heading."""
    return path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ").strip()


def _short(stem: str) -> str:
    """`Table 13`, `Figure 3 left` from the name of a file."""
    words = re.sub(r"^(table|figure)(?=\d)", r"\1 ", stem).replace("_", " ")
    return words[:1].upper() + words[1:]
