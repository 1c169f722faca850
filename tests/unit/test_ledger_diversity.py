"""What the audit of the diversity paper computes, computed again from the numbers in its ledger."""

import math
import re
from fractions import Fraction

import numpy as np
import pytest

from ferkit import labels, papers
from ferkit.papers import arithmetic as a

LEDGER = papers.load("diversity")
TABLES = LEDGER.tables
SETS = ("AffectNet-8", "FER+", "RAF-DB")
CITED = ("ESR-9 [13]", "MA-Net [12]")  # rows of Table 1 that are not measured by the authors
#: row of Table 1 -> id of its row in the ledger
IDS = {
    "ESR-9 [13]": "esr9-reported", "ESR-9": "esr9", "ESR-9 attention": "esr9-attention",
    "ESR-9 spatial": "esr9-spatial", "ESR-9*": "esr9-full",
    "ESR-15": "esr15", "ESR-15 attention": "esr15-attention", "ESR-15 spatial": "esr15-spatial",
    "ESR-15*": "esr15-full",
    "MA-Net [12]": "manet-reported", "MA-Net": "manet", "MA-Net*": "manet-full",
}  # fmt: skip


def accuracy(method, data):
    return TABLES["1"].cell(method, data)


def measured(data):
    """Accuracies that the authors measured on a data set, by row of Table 1."""
    return {m: v for m, v in TABLES["1"].numbers(data).items() if m not in CITED}


def fits(percent, n, *ways):
    """Whether some number of right answers out of n is printed as `percent` in one of the ways."""
    hits = a.reachable(percent, n)
    cut = [k for k, _ in hits if Fraction(100 * k, n) >= Fraction(str(percent))]
    return bool(("rounded" in ways and any(way == "rounded" for _, way in hits)) or ("cut" in ways and cut))


def equal_similarities(size, s, diagonal):
    return np.full((size, size), float(s)) + (diagonal - s) * np.eye(size)


# ----------------------------------------------------------------------------------------------------------- the ledger


def test_particulars():
    assert (LEDGER.arxiv, LEDGER.year, LEDGER.licence) == ("2210.09381", 2022, "MIT")
    assert LEDGER.authors == ("Negar Heidari", "Alexandros Iosifidis") and LEDGER.commit.startswith("808a02a")


def test_every_audit_item_and_equation_has_a_row():
    wanted = [f"A{i}" for i in range(1, 37)]
    assert [row.id for row in LEDGER.select(*wanted)] == wanted
    assert {row.id for row in LEDGER.select(section="audit")} == set(wanted)
    assert all(LEDGER[f"eq{i}"].paper_place.startswith(f"Equation {i}") for i in range(1, 6))


def test_rows_repeat_their_tables():
    for method, row_id in IDS.items():
        text = LEDGER[f"T1.{row_id}"].paper
        said = {name: float(value) for name, value in re.findall(r"(AffectNet|FER\+|RAF-DB) (\d+\.\d+)", text)}
        cells = {name.removesuffix("-8"): accuracy(method, name) for name in SETS}
        assert said == {name: value for name, value in cells.items() if value is not None}, method
    for number, data in (("2", "AffectNet"), ("3", "FER+"), ("4", "RAF-DB")):
        rows = [row for row in LEDGER.select(section="comparison") if row.id.startswith(f"T{number}.")]
        assert [row.what.split(" on ")[0] for row in rows] == list(TABLES[number].rows)
        for row, (pretrained, value) in zip(rows, TABLES[number].rows.values(), strict=True):
            said = f"{data} no value" if value is None else f"{data} {value:.2f}"
            assert row.paper == said + (f", pretrained on {pretrained}" if pretrained else ""), row.id


def test_table_1_and_the_others():
    for number, data in (("2", "AffectNet-8"), ("3", "FER+"), ("4", "RAF-DB")):
        for method in ("ESR-9 [13]", "ESR-9*", "ESR-15*", "MA-Net [12]", "MA-Net*"):
            assert TABLES[number].cell(method, "accuracy") == accuracy(method, data), (method, data)
    said = LEDGER["abstract"].paper
    best = {"RAF-DB": "MA-Net*", "FER+": "ESR-15*", "AffectNet-8": "MA-Net*"}
    for data, method in best.items():
        assert f"{accuracy(method, data):.2f}" in said
        assert accuracy(method, data) == max(v for m, v in measured(data).items() if m.endswith("*")), data


# ----------------------------------------------------------------------------------------------------------- accuracies


def test_ferplus_values_are_counts_of_the_validation_split():
    values = sorted(set(measured("FER+").values()))
    assert len(measured("FER+")) == 10 and len(values) == 9  # 88.59 is printed twice
    everywhere = {
        ways: [n for n in range(2700, 3600) if all(fits(value, n, *ways) for value in values)]
        for ways in (("cut",), ("rounded",), ("rounded", "cut"))
    }
    assert everywhere == {("cut",): [3191], ("rounded",): [], ("rounded", "cut"): [3181, 3190, 3191, 3199]}
    assert TABLES["evaluated"].cell("FER+", "images") == TABLES["ferplus"].cell("total", "label.csv Valid") == 3191
    # the test images under the two vote files, and all images of one FER2013 split
    fitting = {n: sum(fits(value, n, "rounded", "cut") for value in values) for n in (3137, 3153, 3589)}
    assert fitting == {3137: 4, 3153: 3, 3589: 3}
    assert (
        TABLES["ferplus"].cell("total", "label.csv Test") == 3137
        and TABLES["ferplus"].cell("total", "fer2013new.csv Test") == 3153
    )
    right = {value: [k for k, _ in a.reachable(value, 3191)] for value in values}
    assert right == {
        87.49: [2792], 88.34: [2819], 88.40: [2821], 88.56: [2826], 88.59: [2827], 88.78: [2833], 89.15: [2845],
        89.21: [2847], 89.34: [2851],
    }  # fmt: skip


def test_rafdb_83_is_no_count_of_3068():
    values = measured("RAF-DB")
    counts = {method: [k for k, _ in a.reachable(value, 3068)] for method, value in values.items()}
    assert [method for method, k in counts.items() if not k] == ["ESR-15*"] and values["ESR-15*"] == 83.0
    assert (round(254600 / 3068, 2), round(254700 / 3068, 2)) == (82.99, 83.02)
    assert (math.floor(254600 / 30.68) / 100, math.floor(254700 / 30.68) / 100) == (82.98, 83.01)
    assert a.reachable("83.00", 2 * 3068) == [(5093, "rounded")]  # a mean of two runs
    assert a.ways_to_print("83.00", [3068])[0] == "5093 of 2 runs on 3068, rounded"
    assert [k for k, way in a.reachable("83.0", 3068, decimals=1) if way == "rounded"] == [2545, 2546, 2547]
    only_cut = {value for value in values.values() if [way for _, way in a.reachable(value, 3068)] == ["truncated"]}
    assert only_cut == {77.96, 82.39, 88.68, 77.5}
    assert (
        counts["ESR-9 spatial"] == [2544]
        and counts["ESR-9*"] == [2545]
        and counts["MA-Net*"][0] - counts["MA-Net"][0] == 40
    )


def test_affectnet_values():
    for value in set(measured("AffectNet-8").values()):
        assert a.reachable(value, 4000), value
    assert [way for _, way in a.reachable(60.29, 4000)] == []
    assert a.reachable(60.29, 3999) == [(2411, "rounded")] and round(241100 / 3999, 5) == 60.29007


def test_effects_in_standard_errors():
    images = {name: TABLES["evaluated"].cell(name, "images") for name in SETS}

    def error(method, data):
        p = accuracy(method, data) / 100
        return 100 * math.sqrt(p * (1 - p) / images[data])

    assert [round(error("ESR-9*", data), 2) for data in SETS] == [0.78, 0.55, 0.68]
    assert round(error("MA-Net*", "RAF-DB"), 2) == 0.54

    def effects(before, after):
        gains = {data: round(accuracy(after, data) - accuracy(before, data), 2) for data in SETS}
        return gains, {data: gain / math.hypot(error(before, data), error(after, data)) for data, gain in gains.items()}

    attention = [effects(f"ESR-{n}", f"ESR-{n} attention") for n in (9, 15)]
    assert [list(gains.values()) for gains, _ in attention] == [[0.15, 0.16, 4.43], [0.55, 0.19, 5.32]]
    assert all(4 < z["RAF-DB"] < 6 and max(z["AffectNet-8"], z["FER+"]) < 0.6 for _, z in attention)
    diversity = [effects(f"ESR-{n} attention", f"ESR-{n}*") for n in (9, 15)]
    assert [list(gains.values()) for gains, _ in diversity] == [[0.35, 0.59, 0.56], [0.75, 0.56, 0.18]]
    assert 0.7 < max(max(z.values()) for _, z in diversity) < 0.8
    gains, z = effects("MA-Net", "MA-Net*")
    assert gains == {"AffectNet-8": 0.17, "FER+": 0.85, "RAF-DB": 1.31}
    assert 1.6 < z["RAF-DB"] < 1.7 and z["AffectNet-8"] < 0.2 and 1.0 < z["FER+"] < 1.1


def test_text_and_table_differ_on_ferplus():
    gain = round(accuracy("ESR-9", "FER+") - accuracy("ESR-9 [13]", "FER+"), 2)
    assert gain == 1.23 and "0.85" in LEDGER["A14"].paper and "1.23" in LEDGER["repeat-ferplus"].ours
    assert round(accuracy("ESR-9", "FER+") - 87.15, 2) == 1.25
    # the three other differences in the text agree with the table
    assert round(accuracy("ESR-9 [13]", "AffectNet-8") - accuracy("ESR-9", "AffectNet-8"), 2) == 0.5
    assert round(accuracy("MA-Net [12]", "AffectNet-8") - accuracy("MA-Net", "AffectNet-8"), 2) == 0.44
    assert round(accuracy("MA-Net", "RAF-DB") - accuracy("MA-Net [12]", "RAF-DB"), 2) == 0.28


def test_fifteen_branches_against_nine():
    def gains(kind):
        return [round(accuracy(f"ESR-15{kind}", data) - accuracy(f"ESR-9{kind}", data), 2) for data in SETS]

    assert gains("*") == [0.7, 0.19, 0.05]
    assert gains("") == [-0.1, 0.19, -0.46]
    assert gains(" spatial")[2] == 0


def test_claims_against_the_tables():
    for number, winner in (("3", "ESR-15*"), ("4", "MA-Net*")):
        values = TABLES[number].numbers("accuracy")
        assert max(values, key=values.get) == winner
    assert TABLES["2"].cell("ESR-9*", "accuracy") == TABLES["2"].cell("ESR-9 [13]", "accuracy") == 59.3
    assert TABLES["2"].cell("ESR-15*", "accuracy") == 60.0 > TABLES["2"].cell("ESR-9 [13]", "accuracy")
    assert (
        TABLES["2"].cell("MA-Net*", "accuracy")
        < TABLES["2"].cell("SCN [18]", "accuracy")
        < TABLES["2"].cell("MA-Net [12]", "accuracy")
    )
    ensembles = {"ESR-9*", "ESR-15*"}
    others = [value for method, value in TABLES["4"].numbers("accuracy").items() if method not in ensembles]
    assert len(others) == 8 and max(TABLES["4"].cell(m, "accuracy") for m in ensembles) < min(others)
    over = round(TABLES["3"].cell("ESR-15*", "accuracy") - TABLES["3"].cell("RAN [16], second line", "accuracy"), 2)
    assert over == 0.18 and over / 0.55 < 0.34


# ------------------------------------------------------------------------------------------------------------ mechanism


def test_sign_of_the_zero_diagonal_determinant():
    for size in range(2, 16):
        for s in (0.1, 0.5, 0.9, 1.0):
            found = np.linalg.det(equal_similarities(size, s, 0))
            assert found == pytest.approx((-1) ** (size - 1) * (size - 1) * s**size, rel=1e-9)
    # maximising it pulls learners together for odd sizes and apart for even ones; with a unit diagonal always apart
    for size in range(2, 16):
        zero, one = ([np.linalg.det(equal_similarities(size, s, diagonal)) for s in (0.5, 0.6)] for diagonal in (0, 1))
        assert (zero[1] > zero[0]) == (size % 2 == 1) and one[1] < one[0], size
    pairs = np.kron(np.eye(2), np.ones((2, 2)))  # two pairs of twins
    assert np.linalg.det(pairs - np.eye(4)) == pytest.approx(1) and np.linalg.det(pairs) == pytest.approx(0)
    assert np.linalg.det(equal_similarities(4, 1, 0)) == pytest.approx(-3)
    for size, s, one, zero in TABLES["branch"].rows.values():
        assert np.linalg.det(equal_similarities(size, s, 1)) == pytest.approx(one, rel=2e-2, abs=1e-12), (size, s)
        assert np.linalg.det(equal_similarities(size, s, 0)) == pytest.approx(zero, rel=1e-6), (size, s)


def _similarities(maps, gamma):
    """Equation 1 for maps (L, N, D)."""
    squared = ((maps[:, None] - maps[None]) ** 2).sum(-1)  # (L, L, N)
    return np.exp(-gamma * squared).mean(-1)


def test_paper_determinant_lies_between_0_and_1():
    rng = np.random.default_rng(0)
    values = []
    for size in (2, 4, 9):
        for spread in (0.02, 0.1, 0.3, 1.0):
            similarity = _similarities(rng.normal(0, spread, (size, 5, 3)), gamma=1.0)
            values.append(np.linalg.det(similarity))
            assert np.allclose(np.diag(similarity), 1) and np.linalg.eigvalsh(similarity).min() > -1e-12
    assert min(values) > -1e-12 and max(values) <= 1 and max(values) > 0.5 and min(values) < 1e-6
    twins = rng.normal(0, 1, (3, 5, 3))
    twins[2] = twins[0]
    assert abs(np.linalg.det(_similarities(twins, 1.0))) < 1e-12
    assert np.linalg.det(_similarities(twins, 1.0) - np.eye(3)) > 0  # rewarded by the released form


def test_force_is_largest_at_the_width():
    distance = np.linspace(0, 1, 100001)
    force = 2 * 10 * distance * np.exp(-10 * distance**2)
    assert (
        distance[force.argmax()] == pytest.approx(1 / math.sqrt(20), abs=1e-4) and round(1 / math.sqrt(20), 3) == 0.224
    )


def test_similarity_at_measured_distances():
    """Where the squared distance is as measured, exp(-10 d2) is at most 0.0023: the terms see almost nothing."""
    values = {name: math.exp(-10 * d2) for name, d2 in TABLES["activity"].column("median d2").items()}
    assert max(values.values()) == values["MA-Net patches, spatial 7x7"] and 0.002 < max(values.values()) < 0.0023
    assert values["MA-Net branches, 512"] < 1e-300 and values["MA-Net patches, channel 512"] < 1e-140
    remedy = {name: math.exp(-d2 / d2) for name, d2 in TABLES["activity"].column("median d2").items()}
    assert set(remedy.values()) == {math.exp(-1)}


def test_determinant_underflows_for_fifteen():
    exact = [float((1 - Fraction(s)) ** 14 * (1 + 14 * Fraction(s))) for s in ("0.99", "0.999")]
    assert exact == [pytest.approx(1.486e-27, rel=1e-3), pytest.approx(1.4986e-41, rel=1e-3)]
    assert exact[1] < np.finfo(np.float32).tiny < exact[0]
    # three or more equal rows: every cofactor is 0, and with it the gradient of det
    assert np.allclose(
        [np.linalg.det(np.delete(np.delete(np.ones((4, 4)), i, 0), j, 1)) for i in range(4) for j in range(4)], 0
    )


def test_ties_go_to_the_lowest_class():
    votes = np.bincount([3, 3, 0, 0, 5], minlength=8)
    assert votes.argmax() == 0 and labels.order("esr")[0] == "neutral"
    assert max(votes) / votes.sum() < 0.5  # most votes without a majority


# ------------------------------------------------------------------------------------------------------------- networks


def cbam(c):
    return a.linear_parameters(c, c // 16, c) + a.conv_parameters(2, 1, 7, bias=False)


def test_parameters():
    base = [(3, 64, 5), (64, 128, 3), (128, 128, 3), (128, 128, 3)]
    branch = [(128, 128, 3), (128, 256, 3), (256, 256, 3), (256, 512, 3)]
    assert [cbam(c) for c in (64, 128, 256, 512)] == [680, 2284, 8564, 33412]
    found = {
        "ESR base": sum(a.conv_parameters(*layer) for layer in base),
        "ESR branch": sum(a.conv_parameters(*layer) for layer in branch)
        + a.linear_parameters(512, 8)
        + a.linear_parameters(8, 2),
    }
    plain = found["ESR branch"] - a.linear_parameters(8, 2)
    found["base with CBAM"] = found["ESR base"] + sum(cbam(out) for _, out, _ in base)
    found["branch with CBAM"] = plain + sum(cbam(out) for _, out, _ in branch)
    for n in (9, 15):
        found[f"ESR-{n}"] = found["ESR base"] + n * plain
        found[f"ESR-{n} with valence and arousal"] = found["ESR base"] + n * found["ESR branch"]
        found[f"ESR-{n}*"] = found["base with CBAM"] + n * found["branch with CBAM"]
    printed = TABLES["networks"].column("parameters")
    assert found == {name: value for name, value in printed.items() if not name.startswith("MA-Net")}
    assert (
        round(100 * (found["ESR-9*"] / found["ESR-9"] - 1), 1) == 2.4
        and round(100 * (found["ESR-15*"] / found["ESR-9*"] - 1)) == 65
    )


def test_manet_parameters():
    def conv(c_in, c_out, kernel):
        return a.conv_parameters(c_in, c_out, kernel, bias=False)

    def basic(c_in, c_out, *, attention=False):
        return (
            conv(c_in, c_out, 3)
            + conv(c_out, c_out, 3)
            + attention * cbam(c_out)
            + (c_in != c_out) * conv(c_in, c_out, 1)
        )

    def multiscale(c_in, c_out):
        return conv(c_in, c_out, 3) + 8 * conv(c_out // 4, c_out // 4, 3) + (c_in != c_out) * conv(c_in, c_out, 1)

    def stage(block, c_in, c_out, **options):
        return block(c_in, c_out, **options) + block(c_out, c_out, **options)

    parts = (
        conv(3, 64, 7), stage(basic, 64, 64), stage(basic, 64, 128), stage(basic, 128, 256, attention=True),
        stage(basic, 256, 512, attention=True),
        stage(multiscale, 128, 256), stage(multiscale, 256, 512),
    )  # fmt: skip
    assert parts == (9536, 147968, 525568, 2116840, 8460552, 1510912, 6036480)
    body = sum(parts[:3]) + 4 * sum(parts[3:5]) + sum(parts[5:])
    for name, classes in (("MA-Net, 8 classes", 8), ("MA-Net, 7 classes", 7), ("MA-Net, 12,666 identities", 12666)):
        assert body + 2 * a.linear_parameters(512, classes) == TABLES["networks"].cell(name, "parameters"), name
    assert math.floor(TABLES["networks"].cell("MA-Net, 8 classes", "parameters") / 1e4) / 100 == 50.54
    # four quadrants of a 28 x 28 map, and nothing left over
    side = a.output_side(a.output_side(224, kernel=7, stride=2, padding=3), kernel=3, stride=2, padding=1)
    assert a.output_side(side, kernel=3, stride=2, padding=1) == 28
    assert (
        a.output_side(
            a.output_side(a.output_side(256, kernel=7, stride=2, padding=3), kernel=3, stride=2, padding=1),
            kernel=3,
            stride=2,
            padding=1,
        )
        == 32
    )


def esr_cost(side):
    """Sides of the maps, multiply-adds of the base and of one branch."""
    sides, macs = [], {"base": 0, "branch": 0}
    layers = [
        ("base", 3, 64, 5, 0, False),
        ("base", 64, 128, 3, 0, True),
        ("base", 128, 128, 3, 0, False),
        ("base", 128, 128, 3, 0, True),
    ]
    layers += [
        ("branch", 128, 128, 3, 0, False),
        ("branch", 128, 256, 3, 0, True),
        ("branch", 256, 256, 3, 0, False),
        ("branch", 256, 512, 3, 1, False),
    ]
    for part, c_in, c_out, kernel, padding, pooled in layers:
        side = a.output_side(side, kernel=kernel, padding=padding)
        macs[part] += kernel**2 * c_in * c_out * side**2
        side = a.output_side(side, kernel=2, stride=2) if pooled else side
        sides.append(side)
    macs["branch"] += 512 * 8
    return sides, macs


def test_esr_maps_and_cost():
    sides, macs = esr_cost(96)
    assert sides == [92, 45, 43, 20, 18, 8, 6, 6]
    millions = {name: round(value / 1e6, 1) for name, value in macs.items()}
    assert millions == {
        "base": TABLES["networks"].cell("ESR base", "million multiply-adds"),
        "branch": TABLES["networks"].cell("ESR branch", "million multiply-adds"),
    }
    for n in (9, 15):
        total = (macs["base"] + n * macs["branch"]) / 1e6
        assert total == pytest.approx(TABLES["networks"].cell(f"ESR-{n}", "million multiply-adds"), abs=0.1)
    large_sides, large = esr_cost(224)
    assert large_sides == [220, 109, 107, 52, 50, 24, 22, 22]
    ratio = (large["base"] + 9 * large["branch"]) / (macs["base"] + 9 * macs["branch"])
    assert 8.4 < ratio < 8.6


# ------------------------------------------------------------------------------------------------------ data and recipe


def test_ferplus_counts():
    table = TABLES["ferplus"]
    for column in table.columns:
        *classes, total = table.column(column).values()
        assert sum(classes) == total, column
    # at most 5,000 per class and stage
    assert sum(min(5000, n) for name, n in table.column("label.csv Train").items() if name != "total") == 19028
    assert 1073 + 246 + 283 == 1602 and 86 + 14 + 19 == 119


def test_ferplus_order():
    """The released loader swaps positions 2 and 3, 4 and 6: from FER+'s order to AffectNet's."""
    swapped = list(labels.order("ferplus"))
    swapped[2], swapped[3], swapped[4], swapped[6] = swapped[3], swapped[2], swapped[6], swapped[4]
    assert tuple(swapped) == labels.order("esr") != labels.order("ferplus")


def test_two_orders_of_rafdb():
    assert labels.order("rafdb") == ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
    assert labels.order("manet") == ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger")
    assert all(x != y for x, y in zip(labels.order("rafdb"), labels.order("manet"), strict=True))


def test_affectnet_counts():
    *classes, total = TABLES["affectnet"].column("train").values()
    assert sum(classes) == total == 287651 and total - 287568 == 83
    capped = sum(min(5000, n) for n in classes)
    assert capped == 37553 and round(100 * capped / total) == 13 and sum(n > 5000 for n in classes) == 6
    assert sum(list(TABLES["affectnet"].column("validation").values())[:-1]) == 4000


def test_schedule():
    for first, further, nine, fifteen in TABLES["schedule"].rows.values():
        assert (first + 8 * further, first + 14 * further) == (nine, fifteen)


def test_swapped_box_misses_the_face():
    picture = np.zeros((60, 60), bool)
    x, y, w, h = 30, 10, 20, 20
    picture[y : y + h, x : x + w] = True  # the face
    assert picture[y : y + h, x : x + w].mean() == 1 and picture[x : x + w, y : y + h].mean() == 0
    same = np.zeros((60, 60), bool)
    same[15:35, 15:35] = True
    assert same[15 : 15 + h, 15 : 15 + w].mean() == 1  # x equal to y: nothing is noticed
