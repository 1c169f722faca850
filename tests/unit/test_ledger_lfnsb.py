"""What the audit of LFNSB and the Cosine-Harmony loss computes, computed again from the numbers in its ledger."""

import math
import re
from fractions import Fraction

import numpy as np
import pytest
from scipy.signal import correlate2d

from ferkit import papers
from ferkit.papers import arithmetic as a

LEDGER = papers.load("lfnsb")
TABLES = LEDGER.tables
MIXED = ("conv_23", "conv_3", "conv_34", "conv_4", "conv_45", "conv_5")  # stages of bottlenecks
CHANNELS = {"conv_23": (64, 64), "conv_3": (64, 64), "conv_34": (64, 128), "conv_4": (128, 128), "conv_45": (128, 256),
            "conv_5": (256, 256)}  # fmt: skip


def kernels(network):
    """Stage -> {kernel: channels}, read from the table."""
    cells = TABLES["kernels"].column(network)
    return {stage: {int(k): int(n) for k, n in re.findall(r"(\d+):(\d+)", cells[stage])} for stage in MIXED}


def conv(c_in, c_out, kernel, side, *, groups=1, act=False, norm=True, bias=False):
    """(parameters, multiply-adds) of a convolution with what follows it: batch norm, PReLU with a slope per channel."""
    weights = c_in * c_out * kernel**2 // groups
    return weights + bias * c_out + 2 * norm * c_out + act * c_out, weights * side**2


def add(*parts, times=1):
    return tuple(times * sum(part[i] for part in parts) for i in (0, 1))


def coordinate_attention(channels, side):
    inside = max(8, channels // 32)
    squeeze = inside * channels + inside + 2 * inside, inside * channels * 2 * side
    return add(squeeze, (2 * (inside * channels + channels), 2 * inside * channels * side))


def bottleneck(stage, side, splits, *, unused=False):
    """One mixed bottleneck; `side` is that of its input, a stride of 2 where channels or the stage change."""
    c_in, c_out = CHANNELS[stage]
    wide, out = sum(splits.values()), side if stage in ("conv_3", "conv_4", "conv_5") else side // 2
    mixed = add(*(conv(n, n, k, out, groups=n, norm=False) for k, n in splits.items()))
    never = (3 * wide * unused, 0)  # a batch norm and a PReLU that MFN constructs and does not call
    return add(
        conv(c_in, wide, 1, side, act=True), mixed, never, coordinate_attention(wide, out), conv(wide, c_out, 1, out)
    )


def network(splits, *, unused=False, stem_act, tail):
    """Stage -> (parameters, multiply-adds) at 112 px of MFN, LFN and anything between."""
    rows = {"conv1": conv(3, 64, 3, 56, act=stem_act), "conv2_dw": conv(64, 64, 3, 56, groups=64, act=stem_act)}
    side = 56
    for stage in MIXED:
        one = bottleneck(stage, side, splits[stage], unused=unused)
        rows[stage] = add(one, times=TABLES["kernels"].cell(stage, "blocks"))
        side = side if stage in ("conv_3", "conv_4", "conv_5") else side // 2
    if tail == "conv":
        rows["conv_6_sep"], last = conv(256, 512, 1, 7, act=True), 512
    else:  # RepVGGDW: two depthwise convolutions, the second with bias, two batch norms
        rows["conv_6_sep"] = add(conv(256, 256, 3, 7, groups=256), conv(256, 256, 1, 7, groups=256, bias=True))
        last = 256
    rows["conv_6_dw"] = (conv(last, last, 7, 1, groups=last)[0], last * 49)
    rows["linear"] = (last * 256 + 2 * 256, last * 256)
    return rows


def mfn(unused=True):
    return network(kernels("MFN"), unused=unused, stem_act=True, tail="conv")


def lfn():
    return network(kernels("LFN"), stem_act=False, tail="repvgg")


def mobilefacenet(size):
    rows = {"conv1": conv(3, 64, 3, 56, act=True), "conv2_dw": conv(64, 64, 3, 56, groups=64, act=True)}
    for stage, c_in, wide, c_out, blocks, side, out in (
        ("conv_23", 64, 128, 64, 1, 56, 28), ("conv_3", 64, 128, 64, 4, 28, 28), ("conv_34", 64, 256, 128, 1, 28, 14),
        ("conv_4", 128, 256, 128, 6, 14, 14), ("conv_45", 128, 512, 128, 1, 14, 7), ("conv_5", 128, 256, 128, 2, 7, 7),
    ):  # fmt: skip
        parts = (
            conv(c_in, wide, 1, side, act=True),
            conv(wide, wide, 3, out, groups=wide, act=True),
            conv(wide, c_out, 1, out),
        )
        rows[stage] = add(*parts, times=blocks)
    rows["conv_6_sep"] = conv(128, 512, 1, 7, act=True)
    rows["conv_6_dw"] = (conv(512, 512, 7, 1, groups=512)[0], 512 * 49)
    rows["linear"] = (512 * size + 2 * size, 512 * size)
    return rows


def total(rows):
    return add(*rows.values())


def spatial_bias(planes, grid):
    places = grid**2
    one_d = places * places * 3 + places, places * places * 3 * (planes - 2)
    return add(conv(256, planes, 1, 7), one_d)


def lfnsb(head="released", classes=7):
    """(parameters used, multiply-adds); the released network registers 2 x classes more."""
    rows = lfn()
    body = add(*(rows[stage] for stage in rows if stage not in ("conv_6_dw", "linear")))
    bias = spatial_bias(258, 7) if head == "concat_sb1" else spatial_bias(66, 2)
    entering = {"released": 256, "concat_flat": 320 * 49, "concat_gdc": 320, "concat_gap": 320, "concat_sb1": 512 * 49}[
        head
    ]
    extra = (320 * 49 + 640, 320 * 49) if head == "concat_gdc" else (0, 0)
    return add(body, bias, extra, (entering * classes + classes, entering * classes))


def change(counted, base):
    return tuple(100 * (new / old - 1) for new, old in zip(counted, base, strict=True))


# -------------------------------------------------------------------------------------------------------- completeness


def test_particulars():
    assert (LEDGER.doi, LEDGER.year, len(LEDGER.commit)) == ("10.3390/computation12100201", 2024, 40)
    assert LEDGER.authors == ("Xuefeng Chen", "Liangyu Huang") and LEDGER.licence == "none stated"


def test_every_audit_item_has_a_row():
    assert [row.id for row in LEDGER.select(section="audit")] == [f"A{i}" for i in range(1, 34)]


def test_what_could_not_be_recovered_is_unverified():
    lost = [
        row
        for row in LEDGER.rows
        if row.paper.endswith("could not be recovered") or row.paper == "a table, not recovered"
    ]
    assert {row.id for row in lost} == {"stages", "totals", "T2.rest", "T4.rest", "T6-8"}
    assert all(row.status == "unverified" for row in lost)
    assert {"Table 1", "Table 4", "Fig. 6"} <= set(LEDGER.lost)
    cited = {row.id for row in LEDGER.rows if any(place in row.paper_place for place in LEDGER.lost)}
    assert {"lfn", "A9", "T3.affectnet", "T4.alpha", "A18", "fig6bc"} <= cited
    assert all(TABLES["4"].row(x)["accuracy"] is None for x in ("0.2", "0.3", "0.4", "0.5"))


def test_rows_repeat_their_tables():
    said = {name: float(x) for name, x in re.findall(r"([A-Z][\w-]+) (\d+\.\d+)", LEDGER["headline"].paper)}
    assert said == TABLES["headline"].column("accuracy")
    for table, row_id in (
        ("3", "T3.rafdb"),
        ("3", "T3.affectnet"),
        ("5", "T5"),
        ("9", "T9"),
        ("4", "T4.alpha"),
        ("2", "T2.lfnsb"),
    ):
        numbers = {abs(x) for values in TABLES[table].rows.values() for x in values if x is not None}
        printed = {float(x) for x in re.findall(r"\d+\.\d+", LEDGER[row_id].paper)}
        assert printed <= numbers, row_id
    assert (
        {74.38, 67.57}
        == {float(x) for x in re.findall(r"\d+\.\d+", LEDGER["fig6a"].paper)}
        == set(TABLES["confusion"].column("recall").values())
    )


# ------------------------------------------------------------------------------------------------------- the networks


def test_stages():
    for name, rows in (("MobileFaceNet", mobilefacenet(512)), ("MFN", mfn()), ("LFN", lfn())):
        assert {stage: row[0] for stage, row in rows.items()} == TABLES["stages"].column(name), name
        assert {stage: row[1] for stage, row in rows.items()} == TABLES["stages"].column(f"{name} macs"), name
    inside = [max(8, sum(kernels("LFN")[stage].values()) // 32) for stage in MIXED]
    assert inside == [8, 8, 8, 8, 24, 10]
    assert lfn()["conv_6_sep"] == (3840, 125_440)
    # without the biases of the coordinate attention's three convolutions it would be another number
    assert coordinate_attention(96, 28)[0] == 2 * 8 * 96 + 8 * 96 + 8 + 16 + 192


def test_totals():
    table = TABLES["totals"]
    found = {
        "MobileFaceNet, 512-d": (total(mobilefacenet(512))[0], *total(mobilefacenet(512))),
        "MFN, 256-d": (total(mfn())[0], *total(mfn(unused=False))),
        "LFN, 256-d": (total(lfn())[0], *total(lfn())),
        "LFNSB, 7 classes": (lfnsb()[0] + 14, *lfnsb()),
        "LFNSB, 8 classes": (lfnsb(classes=8)[0] + 16, *lfnsb(classes=8)),
    }
    assert found == {name: row[:3] for name, row in table.rows.items()}
    unused = total(mfn())[0] - total(mfn(unused=False))[0]
    assert unused == 29_184 and round(100 * unused / total(mfn())[0], 1) == 0.7


def test_head_variants():
    for head in TABLES["variants"].rows:
        row, (parameters, macs) = TABLES["variants"].row(head), lfnsb(head)
        parameters += 14 if head == "released" else 0
        assert (parameters, macs) == (row["parameters"], row["macs"]), head
        changes = change((parameters, macs), total(mfn()))
        assert tuple(round(x, 1) for x in changes) == (row["parameters change"], row["macs change"]), head
    assert spatial_bias(66, 2) == (17_080, 830_976) and spatial_bias(258, 7)[0] == 73_816
    assert [round(100 * x, 1) for x in (17_080 / 2_676_161, 830_976 / 387_237_892)] == [0.6, 0.2]
    body = total({stage: row for stage, row in lfn().items() if stage != "linear"})
    assert body[0] + 256 * 7 + 7 == 2_672_123  # the convention for LFN alone


def test_reductions():
    printed = TABLES["2"].row("LFNSB")
    found = change((lfnsb()[0] + 14, lfnsb()[1]), total(mfn()))
    assert tuple(round(x, 1) for x in found) == (-36.2, -28.2)
    assert round(change(lfnsb(), total(mfn(unused=False)))[0], 1) == -35.7
    assert (printed["parameters change"], printed["FLOPs change"]) == (-30.8, -27.1)
    assert found[0] < -30.8 - 5 and found[1] < -27.1 - 1
    counted = {tool: TABLES["totals"].column(f"{tool} M") for tool in ("fvcore", "thop")}
    assert [round(100 * (x["LFNSB, 7 classes"] / x["MFN, 256-d"] - 1), 1) for x in counted.values()] == [-28.0, -27.9]
    # of all heads the unused larger spatial bias comes nearest, and misses both numbers
    variants = TABLES["variants"]
    distance = {name: abs(variants.cell(name, "parameters change") + 30.8) for name in variants.rows}
    assert min(distance, key=distance.get) == "concat_sb1" and variants.row("concat_sb1")["macs change"] == -27.4
    small, large = total(mobilefacenet(128)), total(mobilefacenet(512))
    assert small[0] == 1_003_136
    assert [round(lfnsb()[0] / x, 1) for x in (large[0], small[0])] == [2.2, 2.7]
    assert round(lfnsb()[1] / large[1], 2) == 1.75


def test_where_the_saving_comes_from():
    base, wide, narrow = total(mfn(unused=False)), kernels("MFN"), kernels("LFN")
    size = {stage: (sum(wide[stage].values()), sum(narrow[stage].values())) for stage in MIXED}
    shrunk, fewer = {}, {}
    for stage in MIXED:
        big, small = size[stage]
        shrunk[stage] = {k: round(n * small / big) for k, n in wide[stage].items()}
        fewer[stage] = {k: round(n * big / small) for k, n in narrow[stage].items()}
        for splits, goal in ((shrunk[stage], small), (fewer[stage], big)):
            splits[3] += goal - sum(splits.values())  # rounding
    assert shrunk["conv_23"] == {3: 48, 5: 24, 7: 24} and sum(fewer["conv_45"].values()) == 1024

    def alone(splits=wide, **options):
        found = change(total(network(splits, **{"stem_act": True, "tail": "conv"} | options)), base)
        return tuple(round(x, 1) for x in found)

    assert alone(shrunk) == (-28.1, -25.7)
    assert alone(fewer) == (-1.7, -1.9)
    assert alone(stem_act=False, tail="repvgg") == (-5.0, -1.2)
    saved = {stage: row[0] - lfn()[stage][0] for stage, row in mfn().items()}
    assert sum(saved.values()) == 1_457_076
    assert [round(100 * saved[stage] / 1_457_076) for stage in ("conv_5", "conv_4")] == [46, 23]


def test_kernels_left():
    left = {stage: set(splits) for stage, splits in kernels("LFN").items()}
    assert {stage for stage in left if 5 in left[stage]} == {"conv_23", "conv_34", "conv_45", "conv_5"}
    assert {stage for stage in left if 7 in left[stage]} == {"conv_45"}
    assert 9 in kernels("MFN")["conv_45"] and all(9 not in stage for stage in left.values())
    assert {stage: size for stage, size in ((s, sum(kernels("LFN")[s].values())) for s in MIXED)} == {
        "conv_23": 96, "conv_3": 96, "conv_34": 192, "conv_4": 192, "conv_45": 768, "conv_5": 342,
    }  # fmt: skip


def test_sides():
    def last(side):
        for _ in range(4):  # conv1, conv_23, conv_34, conv_45
            side = a.output_side(side, kernel=3, stride=2, padding=1)
        return side

    assert (last(112), last(224)) == (7, 14)
    assert [side for side in range(1, 300) if last(side) == 7] == list(range(97, 113))


def test_stem_is_one_convolution():
    assert a.receptive_field([(3, 2), (3, 1), (1, 1)]) == (7, 2)
    rng = np.random.default_rng(0)
    image, first, second = rng.normal(size=(31, 31)), rng.normal(size=(3, 3)), rng.normal(size=(3, 3))
    apart = correlate2d(correlate2d(image, first, "valid")[::2, ::2], second, "valid")
    one = np.zeros((7, 7))
    for i in range(3):
        for j in range(3):
            one[2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += second[i, j] * first
    together = correlate2d(image, one, "valid")[::2, ::2]
    assert np.abs(apart - together).max() < 1e-12
    relu = correlate2d(np.maximum(correlate2d(image, first, "valid")[::2, ::2], 0), second, "valid")
    assert np.abs(relu - together).max() > 1  # an activation between them forbids it


# ------------------------------------------------------------------------------------------------- re-parameterisation


def test_fusion_algebra():
    rng = np.random.default_rng(1)
    x, w3, w1, b1 = rng.normal(size=(9, 9)), rng.normal(size=(3, 3)), rng.normal(), rng.normal()
    norms = [
        (rng.uniform(0.5, 2), rng.normal(), rng.normal(), rng.uniform(0.5, 2)) for _ in range(2)
    ]  # gamma beta mean var

    def norm(y, gamma, beta, mean, var):
        return gamma * (y - mean) / math.sqrt(var + 1e-5) + beta

    y = norm(norm(correlate2d(x, w3, "same"), *norms[0]) + w1 * x + b1 + x, *norms[1])
    (sa, sb) = (gamma / math.sqrt(var + 1e-5) for gamma, _, _, var in norms)
    kernel = sa * w3
    kernel[1, 1] += w1 + 1
    bias = norms[0][1] - norms[0][2] * sa + b1
    fused = correlate2d(x, sb * kernel, "same") + norms[1][1] + (bias - norms[1][2]) * sb
    assert np.abs(y - fused).max() < 1e-12
    kernel[1, 1] -= 1  # the identity forgotten
    wrong = correlate2d(x, sb * kernel, "same") + norms[1][1] + (bias - norms[1][2]) * sb
    assert np.abs(y - wrong).max() > 0.1


def test_fusion_counts():
    used = lfnsb()[0]
    repvgg = lfn()["conv_6_sep"]
    fused = 256 * 9 + 256, 256 * 9 * 49
    assert (repvgg[0], fused[0], repvgg[1] - fused[1]) == (3840, 2560, 12_544)
    first = used - (repvgg[0] - fused[0]) - 2 * 64  # a scale and a shift become one bias
    assert (used, first) == (2_676_147, 2_674_739) and round(100 * (used - first) / used, 2) == 0.05
    channels = 66  # of the spatial bias
    for stage in MIXED:
        wide = sum(kernels("LFN")[stage].values())
        inside = max(8, wide // 32)
        channels += TABLES["kernels"].cell(stage, "blocks") * (wide + 2 * inside + CHANNELS[stage][1])
    assert first - channels == 2_662_421 and round(100 * (used - 2_662_421) / used, 1) == 0.5


# ------------------------------------------------------------------------------------------------------------ the loss


def distances(x, centres):
    """1 - cosine after subtracting each vector's own mean."""
    x, centres = (v - v.mean(axis=1, keepdims=True) for v in (x, centres))
    x, centres = (v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-12) for v in (x, centres))
    return 1 - x @ centres.T


def fixture():
    i, j = np.arange(16)[:, None], np.arange(8)[None, :]
    return np.sin(0.1 * i + 0.7 * j), np.arange(16) % 4, np.cos(0.3 * np.arange(4)[:, None] + 0.5 * j)


def released(x, labels, centres, alpha=0.1):
    own = distances(x, centres) * (labels[:, None] == np.arange(len(centres)))
    intra, inter = own.sum() / len(x), own.sum() / (len(x) * (len(centres) - 1))
    return alpha * intra / x.var(axis=0, ddof=1).sum() + (1 - alpha) * inter


def test_distance_is_a_correlation():
    x, _, centres = fixture()
    assert np.abs(distances(x, centres) - (1 - np.corrcoef(x, centres)[:16, 16:])).max() < 1e-12
    assert np.abs(distances(3 * x + 5, centres) - distances(x, centres)).max() < 1e-12
    plain = 1 - (x @ centres.T) / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(centres, axis=1)
    moved = 1 - ((x + 5) @ centres.T) / np.linalg.norm(x + 5, axis=1)[:, None] / np.linalg.norm(centres, axis=1)
    assert np.abs(plain - moved).max() > 0.1  # the plain cosine at least sees a shift


def test_released_loss():
    x, labels, centres = fixture()
    table, own = distances(x, centres), distances(x, centres)[np.arange(16), labels].mean()
    variance = x.var(axis=0, ddof=1).sum()
    assert own == pytest.approx(0.181560769157, abs=1e-12) and variance == pytest.approx(0.74025389915, abs=1e-11)
    for name, loss in TABLES["alpha"].column("loss of the fixture").items():
        alpha = float(name)
        assert released(x, labels, centres, alpha) == pytest.approx(loss, abs=1e-12)
        assert own * (alpha / variance + (1 - alpha) / 3) == pytest.approx(loss, abs=1e-12)
    # the distances to the other centres would be another number, and do not enter: move them and nothing happens
    other = (table.sum() - 16 * own) / (16 * 3)
    assert other == pytest.approx(0.211278422752, abs=1e-12) and own / 3 == pytest.approx(0.0605202563858, abs=1e-12)
    few = labels < 2
    moved = np.vstack([centres[:2], -centres[2:]])
    assert released(x[few], labels[few], moved) == released(x[few], labels[few], centres)


def test_sign():
    classes = 4
    simplex = np.eye(classes) - 1 / classes
    apart, together = (
        distances(simplex, simplex),
        distances(np.tile(simplex[:1], (classes, 1)), np.tile(simplex[:1], (classes, 1))),
    )

    def loss(table, sign):
        own = np.diag(table).mean()
        return own + sign * (table.sum() - np.trace(table)) / (classes * (classes - 1))

    assert loss(apart, -1) == pytest.approx(-(1 + 1 / (classes - 1))) and loss(together, -1) == pytest.approx(0)
    assert loss(together, +1) == pytest.approx(0) and loss(apart, +1) > 1  # a plus sign prefers the collapse


def test_alpha_is_a_weight():
    weights = {name: round((1 - float(name)) / 6, 4) for name in TABLES["alpha"].rows}
    assert weights == TABLES["alpha"].column("weight")
    assert [f"{w:.3f}" for w in weights.values()] == re.findall(r"0\.\d{3}", LEDGER["A19"].code)
    assert round(100 * math.sqrt(0.9022 * 0.0978 / 3068), 1) == 0.5
    # not only the variance: with V = 1 alpha weighs the other way round
    assert 0.5 + 0.5 / 6 > 0.1 + 0.9 / 6


def test_random_centres_are_nearly_orthogonal():
    centres = np.random.default_rng(0).normal(size=(7, 256))
    off = distances(centres, centres)[~np.eye(7, dtype=bool)]
    assert 0.75 < off.min() < off.max() < 1.25 and 0.04 < np.std(off) < 0.09  # about 1 / sqrt(255) = 0.063


def test_degenerate_batches():
    x, labels, centres = fixture()
    with np.errstate(all="ignore"), pytest.warns(RuntimeWarning, match="Degrees of freedom"):
        assert math.isnan(released(x[:1], labels[:1], centres))
    with np.errstate(all="ignore"):
        assert math.isinf(released(np.tile(x[:1], (4, 1)), labels[:4], centres))
    assert math.isfinite(released(x[:2], labels[:2], centres))


def test_an_unknown_label_is_skipped():
    x, labels, centres = fixture()
    wrong = labels.copy()
    wrong[labels == 3] = 7
    kept = distances(x, centres)[np.arange(16), labels][labels != 3].sum() / 16
    assert released(x, wrong, centres, alpha=0.0) == pytest.approx(kept / 3)


# ------------------------------------------------------------------------------------------------------------- results


def test_rafdb_counts():
    train, test = (sum(TABLES["rafdb"].column(split).values()) for split in ("train", "test"))
    assert (train, test, train + test, round(train / test, 1)) == (12271, 3068, 15339, 4.0)
    other = papers.load("resemotenet").tables["II"]
    for name, values in TABLES["rafdb"].rows.items():
        assert values == (other.cell(name, "RAF-DB train"), other.cell(name, "RAF-DB test")), name


def test_affectnet_counts():
    other = papers.load("resemotenet").tables["II"].column("AffectNet-7 train")
    quoted = [int(x.replace(",", "")) for x in re.findall(r"\d+,\d+", LEDGER["A24"].ours)]
    assert quoted == [other[name] for name in ("Angry", "Fear", "Disgust")]
    assert other["Angry"] > 10_000 > other["Fear"] > other["Disgust"]


def test_rafdb_accuracies():
    for percent, right in ((91.07, 2794), (90.22, 2768), (89.57, 2748)):
        assert a.reachable(percent, 3068) == [(right, "rounded")]
    for name, (recall, images, right) in TABLES["confusion"].rows.items():
        assert images == TABLES["rafdb"].cell(name, "test")
        assert a.reachable(recall, images) == [(right, "rounded")]
    # chance hits a class of 74 or 160 images rarely: the two recalls tell the test split
    for images in (74, 160):
        ways = [a.reachable(f"{x / 100:.2f}", images) for x in range(10001)]
        assert sum(any(way == "rounded" for _, way in hits) for hits in ways) / 10001 < 0.025


def test_rounding_of_the_scripts():
    for name, (percent, images, right) in TABLES["headline"].rows.items():
        value = np.around(np.float32(right) / np.float32(images), 4)  # float32 as in the scripts
        assert f"{100 * value:.2f}" == f"{percent:.2f}", name
    assert a.reachable(63.12, 4000) == [(2525, "rounded")] and 100 * 2525 / 4000 == 63.125


def test_affectnet_65_45():
    assert a.reachable(65.45, 3500) == [(2291, "truncated")]
    assert [f"{100 * np.around(np.float32(k / 3500), 4):.2f}" for k in (2290, 2291)] == ["65.43", "65.46"]
    assert a.reachable(64.26, 3500) == [(2249, "rounded")] and a.reachable(66.57, 3500) == [(2330, "rounded")]
    assert a.reachable(65.45, 3499) == [(2290, "rounded")]
    assert a.reachable(66.57, 3499) == [] == a.reachable(64.26, 3499)
    assert round(100 * 2291 / 3500, 3) == 65.457 and a.ways_to_print("65.45", [3500])[0] == "2291 of 3500, truncated"


def test_gains():
    for table, base, best in (("3", "CE", "CE + CH"), ("5", "LFN", "LFNSB")):
        for name in TABLES[table].columns:
            column = TABLES[table].column(name)
            assert round(column[best] - column[base], 3) == column["gain"], (table, name)
    assert (2768 - 2748, 2794 - 2768) == (20, 26)
    half = a.binomial_half_width(0.8957, 3068)
    assert round(100 * half, 2) == 1.08 and round(half * 3068) == 33 > 26
    gains = TABLES["5"].row("gain")
    assert round(gains["AffectNet-7"] - gains["RAF-DB"], 2) == 0.27
    assert round(100 * a.binomial_half_width(0.6657, 3500) / 1.96, 1) == 0.8
    assert TABLES["5"].cell("LFN", "AffectNet-7") != TABLES["3"].cell("CE + CH", "AffectNet-7")  # 65.453 and 65.45


def test_a_loss_of_0_066():
    printed = TABLES["4"].row("0.1")
    wrong = 3068 - a.reachable(printed["accuracy"], 3068)[0][0]
    assert wrong == 300
    least = a.minimal_cross_entropy(2768 / 3068)
    assert least == pytest.approx(wrong * math.log(2) / 3068) and round(least, 4) == 0.0678
    # a mean of batch means: errors cost least in the full batches, the last one having 124 of 128 or 252 of 256 images
    batches = {size: wrong * math.log(2) / (size * -(-3068 // size)) for size in (128, 256)}
    assert [round(x, 4) for x in batches.values()] == [0.0677, 0.0677]
    assert printed["loss"] + 0.0005 < min(batches.values())

    def flooded(loss):
        return abs(loss - 0.5) + 0.5 if loss < 0.52 else loss

    assert min(map(flooded, np.linspace(0, 2, 401))) == 0.5 and flooded(0.066) == pytest.approx(0.934)


def test_schedules():
    assert 4e-3 / 0.01 == pytest.approx(0.4) and round(0.98**40, 2) == 0.45


def test_last_batches():
    assert (3500 % 256, 4000 % 256) == (172, 160)


def test_folds():
    def fits(mean, folds):
        """Whether a mean of `folds` percentages with two decimals can print as `mean`."""
        printed = Fraction(mean)
        half = Fraction(1, 2 * 10 ** len(mean.split(".")[1]))
        nearest = round(printed * 100 * folds)
        return any(abs(Fraction(s, 100 * folds) - printed) <= half for s in (nearest - 1, nearest, nearest + 1))

    means = {name: f"{x:g}" for name, x in TABLES["9"].column("mean").items()}
    assert means == {"RAF-DB": "90.635", "AffectNet-7": "65.72"}
    assert [k for k in range(2, 11) if fits(means["RAF-DB"], k)] == [2, 4, 6, 8, 10]
    assert all(fits(means["AffectNet-7"], k) for k in range(2, 11))


def test_against_the_predecessor():
    ours, other = TABLES["headline"].column("accuracy"), TABLES["context"].row("DDAMFN")
    assert [round(other[name] - ours[name], 2) for name in ours] == [0.28, 0.46, 1.13]
    assert re.findall(r"\d+\.\d+", LEDGER["A29"].ours) == ["0.28", "0.46", "1.13", "91.35", "67.03", "64.25"]
    assert all(ours[name] > x for name, x in TABLES["context"].row("DAN").items())
