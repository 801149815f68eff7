"""Markdown tables, Markdown as HTML, and templates that escape."""

import jinja2
import pytest

from cwpo.pages import markdown_html, markdown_table, paper_order, render


def test_a_markdown_table_keeps_every_text_in_its_cell():
    text = markdown_table(["name", "what | it\nis", "n"], [["<b>", "a\\|b", "\x1b"]], left=2)
    assert text.splitlines() == [r"| name | what \| it is | n |", "|---|---|---:|", r"| \<b> | a\|b | \x1b |"]


def test_a_template_without_its_values_is_an_error():
    with pytest.raises(jinja2.UndefinedError):
        render("comparison.html.jinja", samples=[])


def test_markdown_of_our_pages():
    text = "# Title\n\nSome **bold** text <b>raw</b> ![x](http://a/b.png)\n\n### Part\n\n| a | b |\n|---|---:|\n| x & y | 1 |\n\n[f.csv](f.csv)"
    html = markdown_html(text, label='a "b"', folder="tables")
    assert "<h3>Title</h3>" in html and "<h4>Part</h4>" in html
    assert "<strong>bold</strong> text &lt;b&gt;raw&lt;/b&gt;" in html and "<img" not in html
    assert '<div class="scroll" tabindex="0" role="region" aria-label="a &#34;b&#34;"><table>' in html
    assert '<th scope="row">x &amp; y</th>' in html and '<td class="number">1</td>' in html
    assert '<th scope="col">a</th>' in html and '<th scope="col" class="number">b</th>' in html
    assert '<a href="tables/f.csv">' in html


def test_names_are_sorted_as_people_do():
    names = ["figure10", "table12", "calibration", "table2", "figure3_right", "figure3_left", "table1"]
    assert sorted(names, key=paper_order) == [
        "table1",
        "table2",
        "table12",
        "figure3_left",
        "figure3_right",
        "figure10",
        "calibration",
    ]
