"""report.html over made-up results: complete, self-contained, escaped, the same bytes again, readable by assistive tools."""

import itertools
import re
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser

import pandas as pd
import pytest
from claims_results import SCRIPT, texts, write

from cwpo.report import figures
from cwpo.report.build import build_report
from cwpo.report.claims.ledger import CLAIMS
from cwpo.report.claims.rule import VERDICTS
from cwpo.report.html import write_page
from cwpo.report.inputs import load
from cwpo.report.tables.annotators import calibration
from cwpo.report.tables.frontier import frontier
from cwpo.report.tables.render import pages
from cwpo.report.tables.table1 import TABLE1
from cwpo.report.tables.tuning import tuning
from cwpo.results import DISAGREEMENT_COLUMNS, SAMPLE_COLUMNS

VOID = {"meta", "img", "br"}


class Reader(HTMLParser):
    """Collects tags with their attributes, in order, and refuses tags that are not closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def built(made_up_results):
    """The report with a few of its tables and figures, which take seconds each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cwpo.report.build.TABLES", (partial(pages, TABLE1), calibration, tuning, frontier))
        patch.setattr("cwpo.report.build.AT_MATCHED", ())
        patch.setattr("cwpo.report.build.OF_ALL", (figures.figure8, figures.frontier))
        yield made_up_results, build_report(made_up_results, "toy")


@pytest.fixture(scope="module")
def page(built):
    return (built[0] / "toy/report.html").read_text(encoding="utf-8")


def test_report_writes_claims_and_the_page(built):
    folder, written = built
    assert {folder / "toy" / name for name in ("claims.json", "claims.md", "report.html")} <= set(written)


def test_it_loads_nothing_from_anywhere(page):
    reader = Reader(page)
    assert not {"script", "link", "iframe", "object", "embed", "video", "base"} & {tag for tag, _ in reader.tags}
    sources = [attrs["src"] for _, attrs in reader.tags if "src" in attrs]
    assert sources and all(source.startswith("data:image/png;base64,") for source in sources)
    assert "url(" not in page and "@import" not in page
    outside = {attrs["href"] for attrs in reader.all("a") if "//" in attrs["href"]}
    assert outside == {"https://arxiv.org/abs/2603.04968"}


def test_every_claim_stands_there_with_its_verdict_and_scale(page):
    ids = {attrs["id"] for _, attrs in Reader(page).tags if "id" in attrs}
    assert {f"claim-{claim.id}" for claim in CLAIMS} <= ids
    shown = re.findall(r'<span class="badge [a-z-]+">([^<]*scale\))</span>', page)
    assert len(shown) == sum(2 if claim.of_arms else 1 for claim in CLAIMS)
    assert {text.partition(" (")[0] for text in shown} <= set(VERDICTS)
    assert all(text.endswith("(toy scale)") for text in shown)


def test_every_table_and_figure_that_was_made_stands_there(built, page):
    _, written = built
    ids = {attrs["id"] for _, attrs in Reader(page).tags if "id" in attrs}
    tables = {f"table-{path.stem}" for path in written if path.parent.name == "tables" and path.suffix == ".md"}
    figures = {f"figure-{path.stem}" for path in written if path.suffix == ".png"}
    assert len(tables) > 2 and figures and tables | figures <= ids


def test_texts_of_models_are_text(page):
    assert "<script" not in page and "<b>" not in page
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; **not bold** | &amp; [link](http://example.org)" in page


def test_links_within_the_page_lead_somewhere(page):
    reader = Reader(page)
    ids = [attrs["id"] for _, attrs in reader.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {attrs["href"][1:] for attrs in reader.all("a") if attrs["href"].startswith("#")} <= set(ids)


def test_links_to_files_lead_to_files(built, page):
    folder, _ = built
    files = {a["href"] for a in Reader(page).all("a") if not re.match(r"#|\w+:", a["href"])}
    assert files and all((folder / "toy" / name).is_file() for name in files)


def test_it_is_readable_with_assistive_tools(page):
    reader = Reader(page)
    assert reader.all("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in reader.all("meta")
    levels = [int(tag[1]) for tag, _ in reader.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert all(attrs.get("alt") for attrs in reader.all("img"))
    assert all(attrs.get("scope") in ("row", "col") for attrs in reader.all("th"))
    assert len(reader.all("table")) == page.count('<div class="scroll" tabindex="0" role="region" aria-label=') - len(
        reader.all("img")
    )


def test_the_head_answers_at_both_points_with_the_numbers_of_the_data(page):
    """In the made-up results CW-PO wins 10 points of GRA more than Human, 12 at its own best, and 2 gold rewards a point."""
    head = page[page.index('<section id="answer">') : page.index("<nav")]
    assert "Does CW-PO beat human labels here?" in head and 'id="figure-frontier"' in head
    for words, gra in (("At the matched update size", 0.1), ("At each arm&#39;s own best update size", 0.12)):
        numbers = r"mean gold reward: \+(\S+) .*?, GRA \+(\S+) .*? over unweighted weak labels: WS-DPO \+(\S+) "
        found = re.search(rf"{words}.</strong> CW-PO beats human labels in {numbers}", head)
        assert float(found[1]) == pytest.approx(2 * gra, abs=0.03)
        assert float(found[2]) == pytest.approx(100 * gra, abs=1.5)
        assert float(found[3]) == pytest.approx(2 * 0.06, abs=0.03)
    assert "3 seeds, 10 cells (data set and models, DPO), 95 % t intervals over seeds: ahead in 10 (+0." in head
    assert "At equal KL" in head and "of Human&#39;s own best point" in head and head.count("in 4 of 4 panels") == 2


def test_a_page_without_any_runs(tmp_path):
    write(tmp_path, [])
    page = write_page(load(tmp_path, "toy"), [], [], tmp_path / "toy").read_text()
    Reader(page)
    assert "The paper's claims" not in page and re.findall(r'<section id="(\w+)">', page) == ["provenance"]


def page_of(folder, **tables) -> str:
    """The page of no runs but these samples or disagreements."""
    write(folder, [])
    return write_page(replace(load(folder, "toy"), **tables), [], [], folder / "toy").read_text()


def test_empty_responses_are_said_to_be_empty(tmp_path):
    (tmp_path / "toy").mkdir()
    texts(tmp_path / "toy")
    frame = pd.read_csv(tmp_path / "toy/samples.csv")
    frame.loc[frame["method"] == "human", "response"] = None
    html = page_of(tmp_path, samples=frame[SAMPLE_COLUMNS])
    assert html.count("<em>(empty)</em>") == 4  # two data sets, two prompts
    assert SCRIPT not in html


def test_gold_says_who_was_right(tmp_path):
    (tmp_path / "toy").mkdir()
    texts(tmp_path / "toy")
    frame = pd.read_csv(tmp_path / "toy/disagreements.csv")
    first = (frame["data"] == "harmless") & (frame["band"] == "low")
    frame.loc[frame.index[first][:2], "gold_human"] = 3.0
    html = page_of(tmp_path, disagreements=frame[DISAGREEMENT_COLUMNS])
    assert "in 1 of the 3 shown" in html
