"""What the audit of the Residual Masking Network computes, computed again from the numbers in its ledger."""

import math
import re
from itertools import product

import numpy as np
import pytest

from ferkit import papers
from ferkit.papers import arithmetic as a

LEDGER = papers.load("resmasking")
TABLES = LEDGER.tables
CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
TEST_IMAGES = 3589
ROW_IDS = {
    "II": ("vgg19", "efficientnet", "googlenet", "resnet34", "resattnet56", "inception", "bam", "densenet121",
           "resnet152", "cbam", "resmasking"),
    "III": ("human", "dnn", "deepemotion", "dlsvm", "cnnsift", "na", "mlcnns", "bovw", "8cnns", "resmasking"),
    "IV": ("resattnet56", "resnet18", "resnet34", "resmasking"),
}  # fmt: skip
STAGES = ((64, 3, 4), (128, 4, 3), (256, 6, 2), (512, 3, 1))  # channels, basic blocks, depth of the mask


def counts(table, column):
    return [TABLES[table].cell(name, column) for name in CLASSES]


def halved(side):
    """What a convolution or pooling with stride 2 and "same" padding leaves: rounded up."""
    return a.output_side(side, kernel=3, stride=2, padding=1)


def unit(c_in, c_out, side, shortcut=True):
    """(parameters, multiply-adds) of a basic block whose first convolution already works on maps of `side`."""
    kernels = [(c_in, c_out, 3), (c_out, c_out, 3)] + [(c_in, c_out, 1)] * shortcut
    return (
        sum(a.conv_parameters(*kernel, bias=False) for kernel in kernels),
        sum(i * o * k**2 for i, o, k in kernels) * side**2,
    )


def mask(channels, depth, side):
    """A masking block: its units and its transposed convolutions as (channels in, channels out, side), side = -1 if it
    cannot be run because poolings round down."""
    widths = [channels * 2**i for i in range(depth + 1)]
    down = [(widths[i], widths[i + 1], side // 2**i) for i in range(depth)]
    up = [(widths[i + 1], widths[i], side // 2**i) for i in range(depth - 1, 0, -1)]
    back = [(c_in, c_out, 2 * small) for c_in, c_out, small in up]
    fits = all(2 * (side // 2**i) == side // 2 ** (i - 1) for i in range(1, depth))
    return [*down, *back, (widths[1], widths[0], side)], up, fits and side // 2 ** (depth - 1) > 0


def network(side=224):
    """Stage -> (channels, side, parameters, shortcuts registered twice, multiply-adds)."""
    side = halved(side)
    rows = {"conv1": (64, side, a.conv_parameters(3, 64, 7, bias=False), 0, 3 * 64 * 49 * side**2)}
    side, c = halved(side), 64
    for number, (channels, blocks, depth) in enumerate(STAGES, 1):
        stride = 1 if number == 1 else 2
        side = halved(side) if stride == 2 else side
        built = [unit(c if i == 0 else channels, channels, side, i == 0 and stride == 2) for i in range(blocks)]
        rows[f"layer{number}"] = (channels, side, sum(b[0] for b in built), 0, sum(b[1] for b in built))
        units, up, _ = mask(channels, depth, side)
        parameters = sum(unit(*u)[0] for u in units) + sum(a.conv_parameters(i, o, 2) for i, o, _ in up)
        repeated = sum(a.conv_parameters(i, o, 1, bias=False) for i, o, _ in units)
        macs = sum(unit(*u)[1] for u in units) + sum(i * o * 4 * s**2 for i, o, s in up)
        rows[f"mask{number}"] = (channels, side, parameters, repeated, macs)
        c = channels
    rows["fc"] = (7, 1, a.linear_parameters(512, 7), 0, 512 * 7)
    return rows


def total(rows, column):
    return sum(row[column] for row in rows.values())


def passes(side):
    """Whether the released network runs on a square picture of this side."""
    side = halved(halved(side))
    for number, (channels, _, depth) in enumerate(STAGES):
        side = halved(side) if number else side
        if not mask(channels, depth, side)[2]:
            return False
    return True


# -------------------------------------------------------------------------------------------------------- completeness


def test_particulars():
    assert (LEDGER.arxiv, LEDGER.year, LEDGER.licence) == ("2603.05937", 2020, "MIT")
    assert LEDGER.authors == ("Luan Pham", "The Huynh Vu", "Tuan Anh Tran") and LEDGER.commit.startswith("9141618")


def test_every_audit_item_and_equation_has_a_row():
    wanted = [f"A{i}" for i in range(1, 27)]
    assert [row.id for row in LEDGER.select(section="audit")] == wanted
    assert [row.id for row in LEDGER.select(section="equations")] == ["eq1", "eq2"]
    claims = (
        "masking-formula", "T1.blocks", "masking-block", "backbone", "ensemble", "fer2013", "vemo", "augmentation",
        "epochs",
        "speed", "fig6", "fig1", "T2.resmasking", "T3.resmasking", "T4.resmasking", "fig7a", "fig7b", "fig8",
    )  # fmt: skip
    assert len(LEDGER.select(*claims)) == len(claims)


def test_table_rows_repeat_their_tables():
    for number, (table, names) in enumerate(ROW_IDS.items(), 2):
        assert len(names) == len(TABLES[table].rows)
        for name, (method, values) in zip(names, TABLES[table].rows.items(), strict=True):
            text = LEDGER[f"T{number}.{name}"].paper
            printed = [float(x) for x in re.findall(r"\d+(?:\.\d+)?", text.replace("(+-5)", ""))]
            assert printed == [value for value in values if value is not None], (table, method)
    for name, key in (("fig7a", "confusion-fer2013"), ("fig7b", "confusion-vemo")):
        diagonal = [TABLES[key].cell(c, c) for c in CLASSES]
        assert [float(x) for x in re.findall(r"0\.\d+", LEDGER[name].paper)] == diagonal


def test_reports_are_quoted_by_their_rows():
    rows = [LEDGER[f"users-{kind}"] for kind in ("as-is", "pretrained", "rivals")]
    places, text = " ".join(row.code_place for row in rows), " ".join(row.code for row in rows)
    for name, (issue, _, _, accuracy) in TABLES["reports"].rows.items():
        assert f"#{issue}" in places, name
        assert all(number in text for number in re.findall(r"\d+(?:\.\d+)?", accuracy)), name


# --------------------------------------------------------------------------------------------------------- the network


def test_parameters_stage_by_stage():
    rows = network()
    for column, name in enumerate(("channels", "side", "parameters", "repeated", "macs")):
        assert {stage: row[column] for stage, row in rows.items()} == TABLES["stages"].column(name), name
    masks = sum(rows[f"mask{i}"][2] for i in (1, 2, 3, 4))
    assert (masks, total(rows, 2) - masks) == (116_508_160, 21_288_263)
    assert round(100 * masks / total(rows, 2), 1) == 84.6
    # with the 1x1 convolution that Fig. 2b draws at the end of each mask it would be another number, but not 142.9
    assert total(rows, 2) + sum(a.conv_parameters(c, c, 1, batch_norm=False) for c, _, _ in STAGES) == 138_145_543
    # the head of resmasking_dropout2
    assert total(rows, 2) - rows["fc"][2] + a.linear_parameters(512, 128, 7) == 137_859_399


def test_shortcuts_counted_twice():
    rows = network()
    assert total(rows, 2) == 137_796_423 and total(rows, 3) == 5_147_008
    assert total(rows, 2) + total(rows, 3) == 142_943_431
    printed = TABLES["II"].cell("ResMaskingNet", "parameters")
    assert math.floor((total(rows, 2) + total(rows, 3)) / 1e5) / 10 == printed == 142.9
    assert math.floor(total(rows, 2) / 1e5) / 10 == 137.7 and round(total(rows, 2) / 1e6, 1) == 137.8
    assert round(total(rows, 2) * 4 / 2**20) == 526
    # keys of a checkpoint: convolutions 1, transposed convolutions and the linear layer 2, batch norms 5
    units = sum(len(mask(c, d, 64)[0]) for c, _, d in STAGES)
    ups = sum(len(mask(c, d, 64)[1]) for c, _, d in STAGES)
    convolutions = 1 + 2 * 16 + 3 + 3 * units  # stem, backbone, its three projections, masks
    norms = convolutions + ups
    assert (units, ups, convolutions, norms, convolutions + ups + norms + 1) == (20, 6, 96, 102, 205)
    assert convolutions + 2 * ups + 5 * norms + 2 + 6 * units == 740


def test_multiply_adds():
    for side, macs in TABLES["cost"].column("macs").items():
        assert total(network(int(side)), 4) == macs, side
    rows = network()
    masks = sum(rows[f"mask{i}"][4] for i in (1, 2, 3, 4))
    assert round(masks / 1e9, 2) == 18.24 and round((total(rows, 4) - masks) / 1e9, 2) == 3.66
    assert round(100 * masks / total(rows, 4)) == 83


def test_table_i_is_the_network():
    table, rows = TABLES["I"], network()
    assert (table.cell("Conv1", "channels"), table.cell("Conv1", "side")) == rows["conv1"][:2]
    for number in (1, 2, 3, 4):
        name = f"Resmasking Block {number}"
        assert (table.cell(name, "channels"), table.cell(name, "side")) == rows[f"mask{number}"][:2]
    assert table.cell("Average pooling", "channels") == 512
    # the text's 3x3 and 2x2 leave the same sides, so the sizes cannot decide
    assert a.output_side(224, kernel=3, stride=2, padding=1) == a.output_side(224, kernel=7, stride=2, padding=3) == 112
    assert a.output_side(112, kernel=2, stride=2) == a.output_side(112, kernel=3, stride=2, padding=1) == 56


def test_poolings():
    for number, (channels, _, depth) in enumerate(STAGES, 1):
        units, up, fits = mask(channels, depth, TABLES["stages"].cell(f"mask{number}", "side"))
        row = TABLES["masks"].row(f"mask{number}")
        assert fits and (row["channels"], row["depth"]) == (channels, depth)
        assert (row["poolings"], row["units"], row["upsamplings"]) == (depth - 1, len(units), len(up))
        assert units[depth - 1][1:] == (1024, 7)  # all four narrow to 1024 channels at 7x7


def test_legal_sizes():
    legal = [side for side in range(1, 321) if passes(side)]
    assert legal == [side for side in range(1, 321) if side >= 29 and -(-side // 32) * 32 - side <= 3]
    assert {64, 96, 224} <= set(legal) and not {48, 56, 100, 112, 200, 240, 299} & set(legal)
    side = halved(halved(112))
    assert (2 * (side // 4), side // 2, side // 4) == (14, 14, 7) and 2 * (side // 8) == 6  # "size 6 but got size 7"


def test_gain_of_a_channel_softmax():
    z = np.maximum(np.random.default_rng(0).normal(size=(64, 5, 5)), 0)  # after a ReLU
    softmax = np.exp(z) / np.exp(z).sum(axis=0)
    assert np.ptp(softmax.mean(axis=0)) < 1e-15 and np.ptp(softmax.max(axis=0)) > 0.01
    sigmoid = 1 / (1 + np.exp(-z))
    assert sigmoid.min() == 0.5 and sigmoid.max() < 1 and np.ptp(sigmoid.mean(axis=0)) > 0.01
    features = np.maximum(np.random.default_rng(1).normal(size=z.shape), 0)
    assert np.ptp((features * softmax).sum(axis=0)) > 0.1  # the product with the map differs between places
    gains = {f"mask{i}": 1 / c for i, (c, _, _) in enumerate(STAGES, 1)}
    assert gains == TABLES["masks"].column("mean")
    assert [round(100 * gain, 2) for gain in gains.values()] == [1.56, 0.78, 0.39, 0.2]


# ---------------------------------------------------------------------------------------------------------- data sets


def test_validation_count():
    sizes = [sum(counts("fer2013", split)) for split in TABLES["fer2013"].columns]
    assert sizes == [28709, 3589, 3589] and sum(sizes) == 35887
    printed = [int(x) for x in re.findall(r"\d{4,}", LEDGER["A10"].paper)]
    assert printed == [35887, 28709, 3859, 3589]
    assert sum(printed[1:]) - printed[0] == 270 == 3859 - 3589
    assert sorted("3859") == sorted("3589")


def test_vemo_counts():
    sizes = [sum(counts("vemo", split)) for split in TABLES["vemo"].columns]
    assert sizes == [25560, 5474, 5436] and sum(sizes) == 36470 == 6470 + 30000


def test_class_weights():
    weights = a.balanced_weights(counts("fer2013", "Training"))
    assert [round(weight, 8) for weight in weights] == counts("weights", "trainers")
    vemo = a.balanced_weights(counts("vemo", "train"))
    assert [round(weight, 3) for weight in vemo] == counts("weights", "VEMO")
    assert max(abs(w / v - 1) for w, v in zip(weights, vemo, strict=True)) > 2


# ------------------------------------------------------------------------------------------------------------- recipe


def test_batches():
    assert (-(-28709 // 48), 28709 % 48) == (599, 5)
    assert divmod(3589, 48) == (74, 37) and round(48 / 37, 1) == 1.3
    assert math.ceil(599 / 8) * 48 == 3600


def test_stopping_and_plateau():
    def run(accuracies, lr=1e-4):
        """The released rules, step by step: epochs run, and the learning rate each of them was run with."""
        best, bad, epoch, rates = 0.0, 0, 0, []
        lowest, waited = math.inf, 0
        while not (bad > 8 or epoch > 50):
            epoch += 1
            rates.append(lr)
            accuracy = accuracies(epoch)
            bad = 0 if accuracy > best else bad + 1
            best = max(best, accuracy)
            if 100 - accuracy < lowest * (1 - 1e-4):
                lowest, waited = 100 - accuracy, 0
            else:
                waited += 1
            if waited > 2:
                smaller, waited = max(lr * 0.1, 1e-6), 0
                lr = smaller if lr - smaller > 1e-8 else lr
        return epoch, rates

    assert run(lambda epoch: epoch)[0] == 51  # always better
    epochs, rates = run(lambda epoch: 50.0)  # never better than the first
    assert epochs == 10  # the first and 9 bad ones
    assert rates[:4] == [1e-4] * 4 and rates[4] == pytest.approx(1e-5)  # lowered after the third bad epoch
    assert sorted({round(math.log10(rate), 6) for rate in rates}) == [-6, -5, -4]


# ------------------------------------------------------------------------------------------------------------- results


def right(percent, n=TEST_IMAGES):
    """The number of right answers that prints as `percent`, rounded or cut; there is exactly one."""
    ((k, _),) = a.reachable(percent, n)
    return k


def test_reachable_accuracies():
    printed = [*TABLES["II"].column("accuracy").values(), *TABLES["III"].rows["ResMaskingNet"]]
    assert [right(x) for x in printed] == [2541, 2541, 2583, 2599, 2607, 2610, 2625, 2626, 2628, 2634, 2661, 2757, 2661]
    for name, percent in zip(ROW_IDS["II"], printed[:11], strict=True):
        assert f"{right(percent):,} of 3,589" in LEDGER[f"T2.{name}"].ours, name
    vemo = sum(counts("vemo", "test"))
    assert [right(x, vemo) for x in TABLES["IV"].column("accuracy").values()] == [3306, 3476, 3525, 3585]
    assert 3585 - 3525 == 60
    assert a.reachable(74.13, TEST_IMAGES) == []  # not every number is reachable


def test_three_decimals_then_cut():
    def printed(k):
        return math.floor(round(100 * k / TEST_IMAGES, 3) * 100 + 1e-6) / 100

    accuracies = TABLES["II"].column("accuracy")
    assert {name: printed(right(x)) for name, x in accuracies.items()} == accuracies
    ways = {name: a.reachable(x, TEST_IMAGES)[0][1] for name, x in accuracies.items()}
    assert {name for name, way in ways.items() if way == "truncated"} == {"ResNet34", "ResAttNet56", "DenseNet121"}
    cut = {name for name, x in accuracies.items() if 10000 * right(x) // TEST_IMAGES != round(100 * x)}
    assert cut == {"VGG19", "EfficientNet_b2b", "GoogLeNet"}  # these need the rounding to three decimals first
    assert printed(2757) == 76.81 and round(100 * 2757 / TEST_IMAGES, 2) == 76.82
    assert round(100 * 2599 / TEST_IMAGES, 3) == 72.416


def test_readme_against_table_ii():
    readme, table = TABLES["readme"].column("accuracy"), TABLES["II"].column("accuracy")
    differ = {name: (readme[name], table[name]) for name in table if readme[name] != table[name]}
    assert differ == {"ResAttNet56": (68.54, 72.63), "ResNet34": (72.42, 72.41)}
    assert round(72.63 - 68.54, 2) == 4.09
    assert set(readme) - set(table) == {"ResNeXt50_32x4d", "ResNet50", "ResNet101", "ResMaskingNet + 6"}
    rivals = {name: x for name, x in readme.items() if not name.startswith("ResMasking")}
    assert max(rivals, key=rivals.get) == "ResNet101" and right(74.14) - right(73.47) == 24


def test_margin():
    table = TABLES["II"].column("accuracy")
    rivals = {name: x for name, x in table.items() if name != "ResMaskingNet"}
    assert max(rivals, key=rivals.get) == "CBAM_ResNet50"
    assert right(table["ResMaskingNet"]) - right(table["CBAM_ResNet50"]) == 27
    assert round(table["ResMaskingNet"] - table["CBAM_ResNet50"], 2) == 0.75 == round(100 * 27 / TEST_IMAGES, 2)
    assert round(100 * a.binomial_half_width(2661 / TEST_IMAGES, TEST_IMAGES), 2) == 1.43
    # two independent samples of this size would differ so much by chance; the images are the same, so this is no test
    assert abs(a.two_proportion_z(2661, TEST_IMAGES, 2634, TEST_IMAGES)) < 1


def test_gains():
    table = TABLES["III"]
    ensembles = {name: x for name, x in table.numbers("E").items() if name != "ResMaskingNet"}
    single = {name: x for name, x in table.numbers("WE").items() if name != "ResMaskingNet"}
    assert (max(ensembles, key=ensembles.get), max(single, key=single.get)) == ("CNNs and BOVW + local SVM", "CNN-SIFT")
    assert round(76.82 - max(ensembles.values()), 2) == 1.40
    assert round(74.14 - max(single.values()), 2) == 0.74 and round(74.14 - 73.14, 2) == 1.0
    assert TABLES["II"].cell("BAM_ResNet50", "accuracy") == 73.14


def test_comparator_parameters():
    table = TABLES["comparators"]
    assert table.column("printed") == TABLES["II"].column("parameters")
    wrong = {n for n, (exact, printed) in table.rows.items() if math.floor(exact / 1e5) / 10 != printed}
    assert wrong == {"ResAttNet56", "CBAM_ResNet50", "ResMaskingNet"}
    rounded = {n for n, (exact, printed) in table.rows.items() if round(exact / 1e6, 1) == printed}
    assert rounded == {"EfficientNet_b2b", "GoogLeNet", "Inception_v3"}  # rounding explains only these
    assert table.cell("ResMaskingNet", "parameters") == total(network(), 2)
    # by the printed numbers it is not
    assert max(table.column("parameters"), key=table.column("parameters").get) == "VGG19"
    assert round((table.cell("VGG19", "parameters") - total(network(), 2)) / 1e6, 1) == 1.8
    assert table.cell("ResNet34", "parameters") == sum(
        network()[n][2] for n in ("conv1", "layer1", "layer2", "layer3", "layer4", "fc")
    )


def test_pooled_binary_accuracy():
    assert round(100 * a.pooled_binary_accuracy(0.7414, 7), 2) == 92.61


def test_frames_per_second():
    operations = 2 * total(network(), 4)
    assert round(operations / 1e9, 1) == 43.8 and round(100 * operations / 1e12, 2) == 4.38
    desktop, notebook = (2 * 768 * clock / 1e6 for clock in (1392, 1620))  # TFLOP/s
    assert (round(desktop, 2), round(notebook, 2)) == (2.14, 2.49)
    assert [round(100 * operations / 1e12 / peak, 1) for peak in (notebook, desktop)] == [1.8, 2.0]
    assert 100 * 2 * total(network(64), 4) / 1e12 < 0.4  # at 64 px the claim would be no problem


def test_confusion_diagonals():
    def implied(key, sizes):
        diagonal = [TABLES[key].cell(name, name) for name in CLASSES]
        low, high = a.confusion_implied_accuracy(diagonal, sizes)
        return round(50 * (low + high), 2), round(100 * low, 2), round(100 * high, 2), diagonal

    middle, low, high, diagonal = implied("confusion-fer2013", counts("fer2013", "PrivateTest"))
    assert (middle, low, high) == (73.85, 73.35, 74.35) and low < 74.14 < high
    assert round(100 * sum(diagonal) / 7, 2) == 72.86
    middle, low, high, diagonal = implied("confusion-vemo", counts("vemo", "test"))
    assert (middle, low, high) == (66.68, 66.18, 67.18) and TABLES["IV"].cell("ResMaskingNet", "accuracy") < low
    cells = [TABLES["confusion-vemo"].rows[name] for name in CLASSES]
    bounds = a.confusion_implied_accuracy_by_prediction(cells, counts("vemo", "test"))
    assert [round(100 * x, 2) for x in bounds] == [65.31, 67.18] and bounds[0] < 0.6594 < bounds[1]
    order = sorted(CLASSES, key=dict(zip(CLASSES, diagonal, strict=True)).get)
    assert order[:4] == ["fear", "disgust", "neutral", "sad"]


@pytest.mark.parametrize("key", ["confusion-fer2013", "confusion-vemo"])
def test_rows_are_true_classes(key):
    matrix = np.array([TABLES[key].rows[name] for name in CLASSES])
    assert TABLES[key].columns == CLASSES
    assert np.abs(matrix.sum(axis=1) - 1).max() <= 7 * 0.005
    assert np.abs(matrix.sum(axis=0) - 1).max() > 0.1
    images = counts("fer2013", "PrivateTest") if key.endswith("2013") else counts("vemo", "test")
    for row, n in zip(matrix, images, strict=True):  # every entry is a whole number of images of its true class
        assert all(any(way == "rounded" for _, way in a.reachable(round(100 * x), n, decimals=0)) for x in row)
    if key.endswith("2013"):  # which a matrix by predicted class would not have to be: 55 images of disgust
        assert a.reachable(6, 55, decimals=0) == []


def test_columns_of_the_matrices_spread():
    sums = [np.array(list(TABLES[key].rows.values())).sum(axis=0) for key in ("confusion-fer2013", "confusion-vemo")]
    assert (round(min(map(min, sums)), 2), round(max(map(max, sums)), 2)) == (0.55, 1.29)


def test_ensemble_candidates():
    members = LEDGER["ensemble"].code.split(";")[0].split(", ")
    assert len(members) == 7 and sum(name.startswith("resmasking") for name in members) == 2
    assert len(list(product((0, 1), repeat=len(members)))) == 128 and len(members) + 16 == 23
    assert len(members) * 8 == 56
