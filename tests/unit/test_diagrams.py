"""Diagrams of networks: readable, and drawn as the networks of ferkit.models are."""

import xml.etree.ElementTree as ET

import pytest
import torch
from PIL import ImageFont

from ferkit import plots
from ferkit.explain import capture
from ferkit.models import attention, create_model
from ferkit.plots import Box, Diagram, Frame, Parallel, Series, Skip, diagram, gallery

GALLERY = {
    "resemotenet": gallery.resemotenet,
    "se_block": gallery.se_block,
    "projected_residual": gallery.projected_residual,
    "residual_masking_block": gallery.residual_masking_block,
    "esr": gallery.esr,
    "esr of nine": lambda: gallery.esr(branches=9),
    "lfnsb_bottleneck": gallery.lfnsb_bottleneck,
    "cbam": gallery.cbam,
    "bam": gallery.bam,
    "coordinate_attention": gallery.coordinate_attention,
    "spatial_bias": gallery.spatial_bias,
}


def parsed(drawing):
    return ET.fromstring(drawing._repr_svg_())


def tags(root, name):
    return [e for e in root.iter() if e.tag.endswith(f"}}{name}")]


def texts(root):
    """(left, top, right, bottom, text) of every text, as DejaVu Sans sets it."""
    import matplotlib

    for e in tags(root, "text"):
        size, bold = float(e.get("font-size")), e.get("font-weight") == "bold"
        font = ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans{'-Bold' * bold}.ttf", size)
        wide, x, y = font.getlength(e.text), float(e.get("x")), float(e.get("y"))
        left = x - wide / 2 if e.get("text-anchor") == "middle" else x
        yield left, y - 0.72 * size, left + wide, y + 0.2 * size, e.text


def words(root):
    return [e.text for e in tags(root, "text")]


@pytest.mark.parametrize("name", GALLERY)
def test_the_gallery_can_be_read(name):
    drawing = GALLERY[name]()
    assert drawing.problems() == []
    root = parsed(drawing)
    width, height = float(root.get("width")), float(root.get("height"))
    assert 300 < width <= 800 and 80 < height < 600
    assert min(float(e.get("font-size")) for e in tags(root, "text")) >= 12.5  # 9 points at 100 px per inch
    placed = list(texts(root))
    for i, (left, top, right, bottom, text) in enumerate(placed):
        assert 0 <= left and right <= width and 0 <= top and bottom <= height, f"{text} runs off"
        for a, b, c, d, other in placed[i + 1 :]:
            assert min(right, c) - max(left, a) <= 1 or min(bottom, d) - max(top, b) <= 1, f"{text} and {other} overlap"


def test_a_text_on_an_arrow_crosses_no_box():
    root = parsed(gallery.resemotenet())
    boxes = [
        (
            float(r.get("x")),
            float(r.get("x")) + float(r.get("width")),
            float(r.get("y")),
            float(r.get("y")) + float(r.get("height")),
        )
        for r in tags(root, "rect")
        if r.get("x")
    ]
    for left, top, right, bottom, text in texts(root):
        middle = (top + bottom) / 2
        for a, b, c, d in boxes:
            if c < middle < d and min(right, b) - max(left, a) > 0:
                assert a <= left and right <= b, f"{text} crosses the border of a box"


def test_resemotenet_is_drawn_as_it_is():
    model = create_model("resemotenet").eval()
    names = ["stage1", "stage2", "stage3", "se", "res_block1", "res_block2", "res_block3", "pool", "fc1", "fc2", "fc3"]
    with torch.no_grad(), capture(model, names) as seen:
        model(torch.zeros(1, 3, 64, 64))
    shown = words(parsed(gallery.resemotenet()))
    for name in ["stage1", "stage2", "stage3", "res_block1", "res_block2", "res_block3"]:
        channels, side, _ = seen[name].shape[1:]
        assert shown[shown.index(str(channels)) + 1] == f"{side} × {side}", name
    assert seen["se"].shape == seen["stage3"].shape
    assert ", ".join(str(seen[f].shape[1]) for f in ("fc1", "fc2", "fc3")) in shown


def test_the_projected_residual_is_drawn_as_it_is():
    block = create_model("resemotenet").res_block1.eval()
    with torch.no_grad():
        after = block(torch.zeros(1, 256, 8, 8)).shape
    shown = words(parsed(gallery.projected_residual()))
    assert shown[shown.index("256") + 1] == "8 × 8"
    assert [shown[i + 1] for i, t in enumerate(shown) if t == str(after[1])] == [f"{after[2]} × {after[3]}"] * 2
    assert block.conv1.stride == block.shortcut[0].stride == (2, 2) and block.shortcut[0].kernel_size == (1, 1)


def test_se_block_and_esr_are_drawn_as_they_are():
    block = create_model("resemotenet").se
    shown = words(parsed(gallery.se_block()))
    assert [str(block.fc[0].in_features), str(block.fc[0].out_features), str(block.fc[2].out_features)] == [
        t for t in shown if t in ("256", "16")
    ][:3]
    model = create_model("esr", branches=3).eval()
    with torch.no_grad(), capture(model, ["base", "branches.0.map"]) as seen:
        model(torch.zeros(1, 3, 96, 96))
    shown = words(parsed(gallery.esr()))
    assert (
        " × ".join(map(str, seen["base"].shape[1:])) in shown and shown.count(str(seen["branches.0.map"].shape[1])) == 3
    )
    assert sum(t.startswith("branch ") for t in words(parsed(gallery.esr(branches=9)))) == 9


def heights(parallel):
    return [round(at) for at in parallel.at]


def test_the_middle_line_follows_what_goes_on():
    """A gate lies beside what it scales, a shortcut beside what it skips, and branches alike lie around the middle."""
    gate = Parallel(Box("gate"), Skip(), join="×")
    assert heights(gate)[1] == 0 > heights(gate)[0]
    shortcut = Parallel(Skip(), Box("block"), join="+")
    assert heights(shortcut)[1] == 0 > heights(shortcut)[0]
    fan = Parallel(Box("a"), Box("b"), Box("c"))
    assert heights(fan)[0] == -heights(fan)[2] < 0 == heights(fan)[1]
    assert fan.up == fan.down > 3 * Box("a").up


def test_branches_meet_in_their_sign_and_without_one_end_apart():
    joined, apart = (parsed(Diagram(Box("x"), Parallel(Box("a"), Box("b"), join=join))) for join in ("max", None))
    assert "max" in words(joined) and "max" not in words(apart)
    heads = [len([p for p in tags(root, "polyline") if p.get("marker-end")]) for root in (joined, apart)]
    assert heads == [4, 2]  # into each branch, and into the sign


def test_a_frame_keeps_its_part_and_a_break_begins_a_row():
    one = Diagram(Box("x"), "3 × 64 × 64", Frame("the block", Box("a"), Box("b")), "7")
    two = Diagram(Box("x"), "3 × 64 × 64", Diagram.BREAK, Frame("the block", Box("a"), Box("b")), "7")
    assert two.width < one.width and two.height > one.height
    assert words(parsed(one)) == ["x", "3 × 64 × 64", "the block", "a", "b", "7"] == words(parsed(two))


def test_a_diagram_wider_than_the_page_says_so():
    wide = Diagram(*(Box(f"a layer with a long name {i}") for i in range(6)))
    assert "begin a new row" in wide.problems()[0] and wide.width > 800


def test_signs_are_escaped_and_what_is_no_diagram_refused():
    assert words(parsed(Diagram(Box("a < b & c"), "<1>", Box("d")))) == ["a < b & c", "<1>", "d"]
    with pytest.raises(ValueError, match="a kind of box among layer, gate"):
        Box("x", kind="relu")
    with pytest.raises(ValueError, match="at least two branches"):
        Parallel(Box("x"))
    with pytest.raises(ValueError, match="at least one part"):
        Series("only a text")


def test_no_box_has_the_colour_of_an_emotion():
    used = {colour.upper() for pair in diagram.KINDS.values() for colour in pair} | {diagram.INK, diagram.FRAME}
    assert not used & set(plots.EMOTION_COLOURS.values())


def test_the_blocks_of_attention_are_drawn_as_they_are():
    x = torch.rand(2, 64, 8, 8)
    for name, block, gates in (
        ("cbam", attention.CBAM(64), {"channel_gate": "C × 1 × 1", "spatial_gate": "1 × h × w"}),
        ("bam", attention.BAM(64), {"channel_gate": "C × 1 × 1", "spatial_gate": "1 × h × w"}),
        ("coordinate_attention", attention.CoordinateAttention(64),
         {"height_gate": "C × h × 1", "width_gate": "C × 1 × w"}),
    ):  # fmt: skip
        shown = words(parsed(GALLERY[name]()))
        with torch.no_grad(), capture(block.eval(), list(gates)) as seen:
            block(x)
        for gate, drawn in gates.items():
            size = drawn.replace("C", "64").replace("h", "8").replace("w", "8")
            assert drawn in shown and size == " × ".join(map(str, seen[gate].shape[1:])), (name, gate)
    assert words(parsed(gallery.cbam())).count("conv 7×7") == 1 and attention.SpatialGate().conv.kernel_size == (7, 7)
    bias = attention.SpatialBias(64, biases=10)
    assert bias.reduce.out_channels == 10 + 2 and bias(x).shape[1:] == (10, 2, 2)
    shown = words(parsed(gallery.spatial_bias()))
    assert shown.count("n + 2") == 2 and shown.count("2 × 2") == 2 and shown.count("n") == 1
