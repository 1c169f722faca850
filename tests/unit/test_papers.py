"""The ledgers hold what they promise, agree with themselves, and a wrong one is refused in one clear sentence."""

import ast
import csv
import gzip
import io
import os
import re
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

from ferkit import papers
from ferkit.papers import ledger

ROOT = Path(__file__).parents[2]
LEDGERS = {key: papers.load(key) for key in papers.keys()}
PAPER = LEDGERS["resemotenet"]

# ------------------------------------------------------------------------------------------------------------- all ledgers


def test_there_are_ledgers():
    assert "resemotenet" in papers.keys()
    assert all(book.key == key and len(book.rows) >= 20 for key, book in LEDGERS.items())
    with pytest.raises(ValueError, match=r"found 'vggface'\. Known: .*resemotenet"):
        papers.load("vggface")


@cache
def _functions(path: Path) -> set[str]:
    """Names of the functions on a module's top level: what pytest can be pointed to."""
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


def test_the_check_for_named_tests_can_fail():
    assert "test_there_are_ledgers" in _functions(Path(__file__))
    assert "test_that_nobody_wrote" not in _functions(Path(__file__))


@pytest.mark.parametrize("key", LEDGERS)
def test_every_test_a_row_names_exists(key):
    named = {row.id: row.test for row in LEDGERS[key].rows if row.test}
    assert named
    for row_id, test in named.items():
        file, name = test.split("::")
        assert (ROOT / file).is_file(), f"{key}, row {row_id}: no file {file}"
        assert name in _functions(ROOT / file), f"{key}, row {row_id}: no {name} in {file}"


@pytest.mark.parametrize("key", LEDGERS)
def test_every_code_place_can_be_found(key):
    book = LEDGERS[key]
    assert re.fullmatch(r"[0-9a-f]{7,40}", book.commit)
    known = re.compile(rf"@{book.commit[:7]}|issues? #\d|repository|computed here")
    for row in book.rows:
        for place in row.code_place.split("; ") if row.code_place else ():
            assert known.search(place), (
                f"{key}, row {row.id}: {place!r} is neither file@commit nor an issue nor history"
            )


@pytest.mark.parametrize("key", LEDGERS)
def test_rows_that_point_to_a_row_point_to_one_that_exists(key):
    book = LEDGERS[key]
    ids = {row.id for row in book.rows}
    pointers = [(row.id, goal) for row in book.rows for goal in re.findall(r"\b[Ss]ee ([A-Z]\d+)\b", row.why)]
    assert pointers
    assert all(goal in ids for _, goal in pointers), [pair for pair in pointers if pair[1] not in ids]


def test_public_text_stands_alone():
    private = re.compile(r"\bcards?\b|\[[MPCHRKI]\d*\]|\[I#|\bsession|\bhelper|/work/|shared/", re.IGNORECASE)
    for key in LEDGERS:
        text = (Path(papers.__file__).parent / f"{key}.toml").read_text()
        assert not (found := private.search(text)), f"{key}.toml: {found and found.group()!r}"
    assert private.search("as the card says [M]")


# ------------------------------------------------------------------------------------------------------------ ResEmoteNet


def test_particulars():
    assert (PAPER.doi, PAPER.arxiv, PAPER.year) == ("10.1109/LSP.2024.3521321", "2409.10545", 2024)
    assert PAPER.authors[0] == "Arnab Kumar Roy" and len(PAPER.authors) == 5
    assert PAPER.commit.startswith("fabbe68") and PAPER.licence == "MIT"


def test_every_audit_item_and_equation_has_a_row():
    wanted = [f"A{i}" for i in range(1, 13)] + [f"B{i}" for i in range(1, 11)] + [f"D{i}" for i in range(1, 6)]
    wanted += [f"eq{i}" for i in range(1, 11)]
    assert [row.id for row in PAPER.select(*wanted)] == wanted


def test_table_i_and_ii_rows_repeat_their_tables():
    columns = PAPER.tables["II"].columns
    for name in PAPER.tables["II"].rows:
        row, values = PAPER[f"T2.{name.lower()}"], PAPER.tables["II"].row(name)
        sets = [column.removesuffix(" train") for column in columns if column.endswith("train")]
        assert row.paper == ", ".join(f"{s} {values[f'{s} train']}/{values[f'{s} test']}" for s in sets)
    for row_id, name in (
        ("T1.channels", "channels"),
        ("T1.samples", "total samples"),
        ("T1.size", "image side"),
        ("T1.classes", "classes"),
    ):
        text = PAPER[row_id].paper.replace(",", "")
        assert {str(value) for value in PAPER.tables["I"].rows[name]} <= set(re.findall(r"\d+", text)), row_id


def test_table_iii_rows_repeat_their_table():
    by_method = {
        "Seg. VGG-19": "segvgg19", "EmoNeXt": "emonext", "En. ResMaskingNet": "resmasking", "SEResNet": "seresnet", "Arm": "arm",
        "APVit": "apvit", "ARBEx": "arbex", "S2D": "s2d", "C MT EmoAffectNet": "emoaffectnet", "AGLRLS": "aglrls",
        "SchiNet": "schinet", "ResEmoteNet": "resemotenet",
    }  # fmt: skip
    table = PAPER.tables["III"]
    assert set(by_method) == set(table.rows)
    for method, row_id in by_method.items():
        cells = {name: value for name, value in table.row(method).items() if value is not None}
        text = PAPER[f"T3.{row_id}"].paper
        said = {name: float(value) for name, value in re.findall(r"([A-Za-z][\w-]*) (\d+(?:\.\d+)?)", text)}
        assert said == cells, method
    first = {value for row in PAPER.tables["III-v1"].rows.values() for value in row if value is not None}
    assert {float(x) for x in re.findall(r"\d+\.\d+", PAPER["T3.v1"].paper)} == first


def test_table_iv_rows_repeat_their_table():
    for name, values in PAPER.tables["IV"].rows.items():
        numbers = [float(x) for x in re.findall(r"[-+]?\d+\.\d+", PAPER[f"T4.{name}"].paper)]
        assert numbers == [value for value in values if isinstance(value, float)], name


def test_table_iv_removes_what_it_says():
    table = PAPER.tables["IV"]
    full = {part: (table.cell("C1", part) or "").split(", ") for part in ("CNN", "SE", "RB")}
    assert full == {"CNN": ["64", "128", "256"], "SE": ["256"], "RB": ["256", "512", "1024"]}
    for name in ("C2", "C3", "C4", "C5", "C6"):
        part, gone = re.fullmatch(r"(\w+) \((.*)\)", table.cell(name, "removed")).groups()
        for other, channels in full.items():
            left = [c for c in channels if other != part or c not in gone.split(", ")]
            assert (table.cell(name, other) or "") == ", ".join(left), (name, other)


def test_reports_are_quoted_by_their_rows():
    rows = {f"users-{kind}": PAPER[f"users-{kind}"] for kind in ("from-scratch", "shared-copy", "checkpoints")}
    places = " ".join(row.code_place for row in rows.values())
    for name, (issue, *_) in PAPER.tables["reports"].rows.items():
        assert name.rstrip("ab") == str(issue)
        assert name == "30" or f"#{issue}" in places, name  # 30 names no data set, so no row quotes it


def test_times_and_gains_repeat_their_tables():
    for name, row_id in (("FER2013", "fer2013"), ("RAF-DB", "rafdb"), ("AffectNet-7", "affectnet"), ("ExpW", "expw")):
        said = [float(x) for x in re.findall(r"\d+(?:\.\d+)?", PAPER[f"time.{row_id}"].paper)]
        assert said == list(PAPER.tables["time"].rows[name])
        assert f"+{PAPER.tables['gains'].rows[name][0]:.2f} ({name})" in PAPER["gains"].paper


def test_select():
    assert [row.id for row in PAPER.select("A5", "A2")] == ["A5", "A2"]
    impossible = PAPER.select(status="impossible")
    assert {"A5", "A6", "A8"} <= {row.id for row in impossible} and "A2" not in {row.id for row in impossible}
    assert {row.section for row in PAPER.select(section="recipe")} == {"recipe"}
    assert [row.id for row in PAPER.select("A5", "B2", section="code")] == ["B2"]
    assert len(PAPER.select()) == len(PAPER.rows) and PAPER["A5"].section == "numbers"
    for wrong in ({"section": "weather"}, {"status": "true"}):
        with pytest.raises(ValueError, match=r"has no (section 'weather'|status 'true'). Known: (data|agrees), "):
            PAPER.select(**wrong)
    with pytest.raises(ValueError, match="has no row 'A99'"):
        PAPER["A99"]


def test_tables_answer_by_row_and_column():
    table = PAPER.tables["III"]
    assert table.cell("ResEmoteNet", "RAF-DB") == 94.76 and table.cell("EmoNeXt", "ExpW") is None
    assert table.numbers("ExpW") == {"APVit": 73.48, "AGLRLS": 73.0, "SchiNet": 73.1, "ResEmoteNet": 75.67}
    with pytest.raises(ValueError, match="Table III has no column 'CK'"):
        table.cell("ResEmoteNet", "CK")
    with pytest.raises(ValueError, match="Table III has no row 'VGG'"):
        table.cell("VGG", "ExpW")


# --------------------------------------------------------------------------------------- what the audit says of other tools


def test_a_csv_without_header_read_with_one_loses_a_row():
    file = io.StringIO()
    frame = pd.DataFrame([["a.png", 0], ["b.png", 3], ["c.png", 6]], columns=["ImageName", "Label"])
    frame.to_csv(file, index=False, header=False)
    assert len(pd.read_csv(io.StringIO(file.getvalue()))) == 2
    assert len(pd.read_csv(io.StringIO(file.getvalue()), header=None)) == 3


def test_dividing_a_frame_by_its_row_sums_divides_columns():
    frame = pd.DataFrame([[8, 2], [0, 5]], index=["a", "b"], columns=["a", "b"])
    assert (frame / frame.sum(axis=1)).to_numpy().tolist() == [[0.8, 0.4], [0.0, 1.0]]
    assert frame.div(frame.sum(axis=1), axis=0).to_numpy().tolist() == [[0.8, 0.2], [0.0, 1.0]]


def _real_fer2013() -> Path | None:
    for place in (os.environ.get("FERKIT_FER2013"), ROOT.parent / "shared" / "data" / "fer2013"):
        for name in ("", "fer2013.csv.gz", "fer2013.csv"):
            if place and (path := Path(place) / name).is_file() and path.name.endswith((".csv", ".csv.gz")):
                return path
    return None


@pytest.mark.real_data
def test_fer2013_counts_and_copies():
    path = _real_fer2013()
    if path is None:
        pytest.skip("needs FER2013 as fer2013.csv(.gz): set FERKIT_FER2013 to the file or its folder")
    printed = dict(zip("0123456", ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral"), strict=True))
    found: dict[str, dict[str, int]] = {}
    pixels: dict[str, list[str]] = {}
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as stream:
        for row in csv.DictReader(stream):
            split = found.setdefault(row["Usage"].strip(), dict.fromkeys(printed.values(), 0))
            split[printed[row["emotion"]]] += 1
            pixels.setdefault(row["Usage"].strip(), []).append(row["pixels"])
    assert {"Training", "PublicTest"} <= set(found)
    for split, classes in found.items():
        expected = PAPER.tables["fer2013"].column(split)
        assert classes == {name: expected[name] for name in classes}, split
    training = set(pixels["Training"])
    assert sum(image in training for image in pixels["PublicTest"]) == 280


# ------------------------------------------------------------------------------------------------------------ bad ledgers

GOOD = """
prefix = "TO"
title = "T"
authors = ["A"]
venue = "V"
year = 2024
doi = "10.1/x"
arxiv = "2401.00001"
code = "https://example.org"
commit = "0000000000000000000000000000000000000000"
licence = "MIT"
[tables.I]
caption = "C"
place = "Table I"
columns = ["a", "b"]
[tables.I.rows]
"x" = [1, "-"]
[[rows]]
id = "r1"
what = "W"
section = "data"
status = "conflicts"
paper = "P"
paper_place = "Table I"
why = "because"
test = "tests/unit/test_papers.py::test_select"
[[rows]]
id = "r2"
what = "W"
section = "data"
status = "agrees"
code = "C"
code_place = "f.py@0000000"
"""


def _read(tmp_path: Path, text: str) -> ledger.Ledger:
    (tmp_path / "toy.toml").write_text(text)
    return papers.read(tmp_path / "toy.toml")


def test_a_good_ledger_is_read(tmp_path):
    book = _read(tmp_path, GOOD)
    assert (
        book.key == "toy"
        and [row.id for row in book.rows] == ["r1", "r2"]
        and book.tables["I"].rows == {"x": (1, None)}
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('what = "W"\nsection = "data"\nstatus = "conflicts"', 'section = "data"\nstatus = "conflicts"', "toy.toml, row r1: missing what; add the field"),
        ('id = "r1"\n', "", "toy.toml, row number 1: missing id"),
        ('status = "agrees"', 'status = "true"', "toy.toml, row r2: unknown status 'true'; known are agrees, conflicts, unstated, impossible, unverified"),
        ('id = "r2"', 'id = "r1"', "toy.toml, row r1: the id is used twice"),
        ('id = "r2"', 'id = "r 2"', "toy.toml, row r 2: the id must be letters"),
        ('why = "because"\n', "", "toy.toml, row r1: status conflicts needs a reason; add why"),
        ('why = "because"', 'why = " "', "toy.toml, row r1: why is empty"),
        ('paper_place = "Table I"\n', "", "toy.toml, row r1: paper and paper_place go together"),
        ('code = "C"\n', "", "toy.toml, row r2: neither paper nor code says anything"),
        ("code_place = \"f.py@0000000\"\n", "", "toy.toml, row r2: code and code_place go together"),
        ("test = \"tests/unit/test_papers.py::test_select\"", 'test = "test_select"', "toy.toml, row r1: test must read tests/unit/test_x.py::test_y, found 'test_select'"),
        ('paper = "P"', "paper = 94.76", "toy.toml, row r1: paper must be a str, found 94.76"),
        ('paper = "P"', 'paper = "P"\npage = "3"', "toy.toml, row r1: unknown field page; known are id, what"),
        ("year = 2024", 'year = "2024"', "toy.toml: year must be a int"),
        ('doi = "10.1/x"\n', "", "toy.toml: missing doi"),
        ('title = "T"', 'title = "T"\nurl = "x"', "toy.toml: unknown field url"),
        ('[1, "-"]', "[1]", "toy.toml, table I, row x: expected 2 values for its columns"),
        ('[1, "-"]', "[1, true]", "toy.toml, table I, row x: cells are numbers or text"),
        ('caption = "C"\n', "", "toy.toml, table I: missing caption"),
        ('prefix = "TO"', 'prefix = "T1"', "toy.toml: the prefix must be two to four capital letters, found 'T1'"),
        ('title = "T"', "title = T", "toy.toml: not readable as TOML"),
    ],
)  # fmt: skip
def test_a_bad_ledger_is_refused_in_one_sentence(tmp_path, old, new, message):
    assert GOOD.count(old) == 1
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        _read(tmp_path, GOOD.replace(old, new))
    assert "\n" not in str(caught.value)


def test_rows_are_tables_and_the_file_must_exist(tmp_path):
    top = GOOD.split("[tables.I]")[0]
    with pytest.raises(ValueError, match=r"toy\.toml, row number 1: expected a TOML table, found 'x'"):
        _read(tmp_path, top + 'rows = ["x"]\n')
    with pytest.raises(ValueError, match=r"toy\.toml: missing rows"):
        _read(tmp_path, top)
    with pytest.raises(FileNotFoundError, match=r"Expected a ledger at .*none\.toml, found nothing"):
        papers.read(tmp_path / "none.toml")
