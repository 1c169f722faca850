"""The pages made of data: a paper's ledger, the glossary, the results."""

import json
import re

import pytest

from ferkit import papers
from ferkit.notebook import STATUS
from notebooks import pages, words


def test_the_glossary_has_every_term_once_in_order_each_with_a_sentence():
    text = words.GLOSSARY.read_text(encoding="utf-8")
    terms = words.glossary()
    assert len(terms) > 50
    assert terms == sorted(terms, key=str.lower), "not in the order of the alphabet"
    assert len({term.lower() for term in terms}) == len(terms)
    for term, definition in re.findall(r"^## (.+)\n\n((?:(?!^## ).*\n)*)", text, re.M):
        assert len(definition.split()) >= 4 and definition.strip().endswith("."), term


@pytest.mark.parametrize("key", papers.keys())
def test_a_ledger_page_names_every_row_before_its_code(key):
    ledger = papers.load(key)
    page = pages.ledger_page(ledger)
    assert page.startswith(f"# {ledger.name}: claims and facts\n")
    for row in ledger.rows:
        head = (
            f'<a id="{ledger.anchor(row.id)}"></a>\n\n**{pages.plain(row.what)}** · `{ledger.label(row.id)}` · '
            f"{STATUS[row.status][0]}\n"
        )
        assert page.count(head) == 1, row.id
    assert page.count('<a id="') == len(ledger.rows) == len(set(re.findall(r'<a id="([^"]+)"', page)))
    tables = re.findall(r"^\| (?!the paper says).*\|$", page, re.M)
    assert len(tables) == len(ledger.rows) and all(len(re.findall(r"(?<!\\)\|", line)) == 4 for line in tables)


def test_codes_of_two_papers_differ():
    labels = [ledger.label(row.id) for ledger in map(papers.load, papers.keys()) for row in ledger.rows]
    assert len(labels) == len(set(labels)) > 400


def test_text_of_a_ledger_reads_as_it_is():
    assert pages.plain("a_b * <c> | $d$\n`e` [f](g)") == r"a\_b \* \<c\> \| \$d\$ \`e\` \[f\](g)"


def test_pages_out_of_date_left_over_or_missing_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "LEDGER", tmp_path / "ledger")
    assert len(pages.stale_ledgers()) == len(papers.keys())
    assert len(pages.write_ledgers()) == len(papers.keys()) and pages.write_ledgers() == [] == pages.stale_ledgers()
    (tmp_path / "ledger" / "lfnsb.md").write_text("other")
    (tmp_path / "ledger" / "gone.md").write_text("left over")
    assert pages.stale_ledgers() == [
        "book/ledger/lfnsb.md is out of date: make prose",
        "book/ledger/gone.md belongs to no ledger",
    ]


def test_results_of_runs_and_of_the_shelf(tmp_path):
    scores = {
        "n": 1000,
        "accuracy": 0.5,
        "macro_f1": 0.4,
        "intervals": {"accuracy": [0.2, 0.8], "macro_f1": [0.1, 0.7]},
    }
    (tmp_path / "a.json").write_text(
        json.dumps({"name": "a", "runs": [{"name": "C_1", "parameters": 1234, "test": scores}]})
    )
    assert (
        pages.shelf_tables(tmp_path).splitlines()[-1]
        == r"| C\_1 | 1,234 | 1,000 | 50.0 % [20.0, 80.0] | 40.0 % [10.0, 70.0] |"
    )
