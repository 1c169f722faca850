"""The networks of Tables II and IV of the Residual Masking paper: counts, the libraries' numbers,
and what is written here.
"""

import math
from functools import partial
from urllib.error import URLError

import pytest
import timm
import torch
import torchvision
from timm.layers.cbam import CbamModule
from torch import Tensor, nn
from torch.nn import functional as F

from ferkit import papers
from ferkit.explain import capture, grad_cam_by_hand, module_by_name
from ferkit.labels import order
from ferkit.models import FerModel, count_parameters, create_model, summarise
from ferkit.models.attention import BAM, CBAM
from ferkit.models.residual_attention import AttentionModule

# Released name, network here, parameters here with a 7-way head. Only Inception differs from the released network.
TABLE_II = {
    "VGG19": ("vgg19", 139_598_919),
    "EfficientNet_b2b": ("efficientnet_b2", 7_710_857),
    "GoogLeNet": ("googlenet", 5_607_079),
    "ResNet34": ("resnet34", 21_288_263),
    "ResAttNet56": ("resattnet56", 29_776_071),
    "Inception_v3": ("inception_v3", 21_799_911),
    "BAM_ResNet50": ("bam_resnet50", 23_880_442),
    "DenseNet121": ("densenet121", 6_961_031),
    "ResNet152": ("resnet152", 58_158_151),
    "CBAM_ResNet50": ("cbam_resnet50", 26_054_967),
}
ONE_SIZE = ("efficientnet_b2", "googlenet", "inception_v3")
NAMES = sorted([name for name, _ in TABLE_II.values()] + ["resnet18", "resnet101"])  # of Table IV and of the ensemble
SCALED = [name for name in NAMES if name not in ONE_SIZE]
SMALLEST = {"vgg19": 32, "googlenet": 15, "inception_v3": 75, "densenet121": 29}
every_network = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(autouse=True)
def no_downloads(monkeypatch):
    def refuse(*_a, **_k):
        raise AssertionError("a network was built or trained, and something was downloaded")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", refuse)
    monkeypatch.setattr("ferkit.models.chain._released_state", refuse)


def meta(name: str, **options) -> FerModel:
    with torch.device("meta"):
        return create_model(name, **options)


def small(name: str, **options) -> FerModel:
    torch.manual_seed(0)
    return create_model(name, **({} if name in ONE_SIZE else {"width": 1 / 16}), **options)


def pictures(n: int, size: int, seed: int = 1) -> Tensor:
    return (
        torch.rand(n, 1, size, size, generator=torch.Generator().manual_seed(seed)).expand(-1, 3, -1, -1).contiguous()
    )


# ----------------------------------------------------------------------------------------------------------- parameters


def test_parameters_beside_the_papers():
    ledger = papers.load("resmasking").tables["comparators"]
    ours = {released: count_parameters(meta(name)) for released, (name, _) in TABLE_II.items()}
    assert ours == {released: count for released, (_, count) in TABLE_II.items()}
    assert {r for r, n in ours.items() if n != ledger.cell(r, "parameters")} == {"Inception_v3"}
    truncated = {r: math.floor(n / 1e5) / 10 for r, n in ours.items()}
    differs = {r: (ledger.cell(r, "printed"), n) for r, n in truncated.items() if n != ledger.cell(r, "printed")}
    assert differs == {"ResAttNet56": (29.0, 29.7), "CBAM_ResNet50": (28.5, 26.0), "Inception_v3": (25.1, 21.7)}
    assert count_parameters(meta("resnet18")) == 11_180_103
    assert count_parameters(meta("resnet101")) == 42_514_503


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("resattnet56", 31_810_728),
        ("bam_resnet50", 25_915_099),
        ("cbam_resnet50", 28_089_624),
        ("resnet152", 60_192_808),
    ],
)
def test_parameters_with_a_thousand_classes(name, count):
    assert count_parameters(meta(name, num_classes=1000)) == count


def test_auxiliary_heads_explain_the_other_counts():
    with torch.device("meta"):
        inception = torchvision.models.Inception3(init_weights=False)
        inception.fc = nn.Linear(2048, 7)
        assert count_parameters(inception) == 25_126_607  # Table II: 25.1 million
        assert count_parameters(torchvision.models.Inception3(num_classes=7, init_weights=False)) == 24_362_990
        assert count_parameters(torchvision.models.GoogLeNet(num_classes=7, init_weights=False)) == 9_951_413


@pytest.mark.parametrize("name", SCALED)
def test_width_scales_every_channel(name):
    quarter, half, full = (meta(name, width=w) for w in (1 / 4, 1 / 2, 1))
    assert quarter.num_features * 4 == half.num_features * 2 == full.num_features
    assert 3.3 < count_parameters(full) / count_parameters(half) < 4.1
    assert 3.3 < count_parameters(half) / count_parameters(quarter) < 4.1
    first = next(p for p in quarter.parameters())
    assert first.shape == (16, *next(p for p in full.parameters()).shape[1:])


@pytest.mark.parametrize("name", ONE_SIZE)
def test_networks_of_one_size_say_so(name):
    with pytest.raises(ValueError, match=f"{name} is .* expected width 1, found 0.25; .* resnet18 or densenet121"):
        create_model(name, width=0.25)


@pytest.mark.parametrize("width", [1, 1 / 4])
def test_resnet34_is_the_masking_network_without_masks(width):
    ours, masked = meta("resnet34", width=width), meta("resmasking", width=width)
    shapes = {k: v.shape for k, v in masked.state_dict().items() if not k.startswith(("mask", "fc"))}
    assert {k: v.shape for k, v in ours.state_dict().items() if not k.startswith("fc")} == shapes


# ------------------------------------------------------------------------------------------------------------- contract


@every_network
def test_contract(name):
    model = meta(name)
    assert (model.colour, model.mean, model.std) == ("grey3", (0, 0, 0), (1, 1, 1))
    assert model.input_size == (299 if name == "inception_v3" else 224)
    assert model.labels == order("fer2013") and meta(name, num_classes=8).labels == ()
    assert model.smallest_size == SMALLEST.get(name, 1)


@every_network
def test_cam_layer_is_the_deepest_with_six_by_six_places(name):
    model = small(name).eval()
    layers = [layer for layer, _ in model.cam_stages]
    for size in (model.input_size, 96):
        chosen = model.cam_layer(size)
        with torch.no_grad(), capture(model, layers) as seen:
            model(pictures(1, size))
        sides = [min(seen[layer].shape[2:]) for layer in layers]
        assert sides == sorted(sides, reverse=True)
        assert sides[layers.index(chosen)] >= 6
        assert all(side < 6 for side in sides[layers.index(chosen) + 1 :])
    assert chosen != layers[-1] or name == "vgg19"  # in 96 px the last stage of the others is too coarse
    assert model.cam_layer(20) == layers[0]


@every_network
def test_a_training_step(name):
    model = small(name)  # in training mode
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # so that the loss before and after can be compared
    x, y = pictures(4, max(64, SMALLEST.get(name, 1))), torch.arange(4)
    before = F.cross_entropy(model(x), y)
    before.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []
    with torch.no_grad():
        norm = torch.sqrt(sum(p.grad.square().sum() for p in model.parameters()))
        for p in model.parameters():
            p -= 1e-3 * p.grad / norm
        after = F.cross_entropy(model(x), y)
        assert 0 < before - after < 2e-3 * norm
        model.eval()
        features = model.forward_features(x)
        assert features.shape == (4, model.num_features) and not torch.equal(features[0], features[1])
        assert torch.equal(model(x), model.forward_head(features)) and model(x).shape == (4, 7)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "bam_resnet50", "cbam_resnet50", "resattnet56"])
def test_small_networks_learn_at_64_pixels(name):
    torch.manual_seed(0)
    model = create_model(name, width=1 / 8)
    x = 0.2 * pictures(14, 64)
    y = torch.arange(14) % 7
    for picture, label in zip(x, y, strict=True):
        picture[:, 8 * label : 8 * label + 10] += 0.7  # a bright bar whose height is the class
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(8):
        loss = F.cross_entropy(model(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] > 1.5 and losses[-1] < 0.85 * losses[0]


@pytest.mark.parametrize(("name", "size"), SMALLEST.items())
def test_smaller_pictures_are_refused(name, size):
    model = small(name).eval()
    with torch.no_grad():
        assert torch.isfinite(model(pictures(1, size))).all()
    with pytest.raises(ValueError, match=f"at least {size} x {size} pixels, found {size - 1} x {size}"):
        model(pictures(1, size)[:, :, 1:])
    model.smallest_size = 1
    if name != "googlenet":  # the limit is the library's: without the check it fails further in
        with torch.no_grad(), pytest.raises((RuntimeError, ValueError)):
            model(pictures(1, size - 1))


@pytest.mark.parametrize("name", ["densenet121", "bam_resnet50", "cbam_resnet50", "resattnet56"])
def test_cams_and_stages_are_readable(name):
    model = small(name).eval()
    layer = model.cam_layer(64)
    assert grad_cam_by_hand(model, pictures(2, 64), layer, 3).shape == (2, 8, 8)
    rows = summarise(model, 64)
    assert sum(row.params for row in rows) == count_parameters(model)
    assert rows[-1].name == "fc" and rows[-1].shape == (7,)


# ------------------------------------------------------------------------------------------- the libraries' own numbers


def library(name: str) -> nn.Module:
    """The library's network with random, not fresh, running statistics."""
    torch.manual_seed(3)
    if name == "efficientnet_b2":
        net = timm.create_model("tf_efficientnet_b2")
    elif name in ("googlenet", "inception_v3"):
        net = torchvision.models.get_model(
            name, weights=None, init_weights=False, aux_logits=True, transform_input=True
        )
    else:
        net = torchvision.models.get_model(name, weights=None)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return net.eval()


@pytest.mark.parametrize(
    ("name", "size"),
    [("resnet18", 64), ("densenet121", 64), ("googlenet", 64), ("inception_v3", 96), ("efficientnet_b2", 64)],
)
def test_released_weights_give_the_librarys_features(name, size, monkeypatch):
    asked = []
    net = library(name)
    monkeypatch.setattr("ferkit.models.chain._released_state", lambda what: asked.append(what) or net.state_dict())
    model = create_model(name).eval()
    x = pictures(2, size)
    head = "fc" if hasattr(net, "fc") else "classifier"
    setattr(net, head, nn.Identity())
    with torch.no_grad():
        theirs = net(x)
        assert (model.forward_features(x) - theirs).abs().max() > 1e-3  # other weights
        assert model.load_imagenet() == ["fc.bias", "fc.weight"]
        difference = (model.forward_features(x) - theirs).abs().max()
    assert asked == ["timm:tf_efficientnet_b2.aa_in1k" if name == "efficientnet_b2" else name]
    assert difference <= 1e-5 * theirs.abs().max()


def test_vgg19_is_torchvisions_at_another_width():
    torch.manual_seed(0)
    model = create_model("vgg19", width=1 / 16).eval()
    config = [c if c == "M" else c // 16 for c in torchvision.models.vgg.cfgs["E"]]
    with torch.device("meta"):
        net = torchvision.models.VGG(torchvision.models.vgg.make_layers(config), num_classes=7)
    net.classifier = nn.Sequential(
        nn.Linear(32 * 49, 256),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(256, 256),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(256, 7),
    )
    names = {"hidden1.0": "classifier.0", "hidden2.0": "classifier.3", "fc": "classifier.6"}
    state = {}
    for key, value in model.state_dict().items():
        part, kind = key.rsplit(".", 1)
        state[f"{names.get(part, part)}.{kind}"] = value
    net.load_state_dict(state, assign=True)
    net.eval()
    x = pictures(2, 64)
    with torch.no_grad():
        assert torch.equal(model(x), net(x))


def test_vgg19s_new_classifier_takes_no_weights(monkeypatch):
    with torch.device("meta"):
        theirs = torchvision.models.vgg19().state_dict()
    monkeypatch.setattr("ferkit.models.chain._released_state", lambda _: theirs)
    kept = meta("vgg19").load_imagenet()
    assert kept == ["fc.bias", "fc.weight", "hidden1.0.bias", "hidden1.0.weight", "hidden2.0.bias", "hidden2.0.weight"]


@pytest.mark.filterwarnings("ignore:for layer")  # weights are copied without their values
@pytest.mark.parametrize(("name", "part", "blocks"), [("cbam_resnet50", ".cbam.", 16), ("bam_resnet50", "", 3)])
def test_attention_networks_take_the_weights_of_a_plain_resnet50(name, part, blocks, monkeypatch):
    with torch.device("meta"):
        theirs = torchvision.models.resnet50().state_dict()
    monkeypatch.setattr("ferkit.models.chain._released_state", lambda what: theirs if what == "resnet50" else {})
    model = meta(name)
    kept = [k for k in model.load_imagenet() if not k.startswith("fc.")]
    assert set(model.state_dict()) - set(kept) - {"fc.weight", "fc.bias"} == {
        k for k in theirs if not k.startswith("fc.")
    }
    assert all(part in k for k in kept)
    assert len({k.split(".cbam.")[0] if part else ".".join(k.split(".")[:2]) for k in kept}) == blocks


def test_weights_that_cannot_be_had(monkeypatch):
    monkeypatch.undo()

    def unreachable(*_a, **_k):
        raise URLError("no network")

    monkeypatch.setattr("torchvision.models.get_model", unreachable)
    with pytest.raises(
        FileNotFoundError, match="no ImageNet weights of resnet18: neither cached nor fetched .*no network"
    ):
        meta("resnet18").load_imagenet()
    with pytest.raises(ValueError, match="width 1, found width 0.25"):
        meta("resnet18", width=0.25).load_imagenet()
    with pytest.raises(ValueError, match="ResAttNet56 has no ImageNet weights"):
        meta("resattnet56").load_imagenet()


# --------------------------------------------------------------------------------------------------------- CBAM and BAM


def timm_resnet50(attention) -> nn.Module:
    return timm.create_model("resnet50", num_classes=7, block_args={"attn_layer": attention})


def test_cbam_resnet50_is_timms_with_biases():
    with torch.device("meta"):
        assert count_parameters(timm_resnet50("cbam")) == 26_038_919  # what timm gives unless told otherwise
        assert count_parameters(timm_resnet50(partial(CbamModule, mlp_bias=True))) == 26_054_967
    model = meta("cbam_resnet50")
    biases = [p for n, p in model.named_parameters() if ".cbam." in n and n.endswith(("fc1.bias", "fc2.bias"))]
    assert sum(p.numel() for p in biases) == 26_054_967 - 26_038_919 == 16_048


def test_cbam_resnet50_computes_what_timms_does():
    torch.manual_seed(0)
    model = create_model("cbam_resnet50").eval()
    with torch.device("meta"):
        theirs = timm_resnet50(partial(CbamModule, mlp_bias=True))
    theirs.load_state_dict({k.replace(".cbam.", ".se."): v for k, v in model.state_dict().items()}, assign=True)
    x = pictures(1, 64)
    with torch.no_grad():
        ours = model(x)
        assert (ours - theirs.eval()(x)).abs().max() <= 1e-5 * ours.abs().max()


def test_timms_cbam_is_ours_with_the_two_maps_swapped():
    torch.manual_seed(0)
    theirs, ours = CbamModule(64, mlp_bias=True).eval(), CBAM(64).eval()
    state = {
        "channel_gate.mlp.0.weight": theirs.channel.fc1.weight[:, :, 0, 0],
        "channel_gate.mlp.0.bias": theirs.channel.fc1.bias,
        "channel_gate.mlp.2.weight": theirs.channel.fc2.weight[:, :, 0, 0],
        "channel_gate.mlp.2.bias": theirs.channel.fc2.bias,
        "spatial_gate.conv.weight": theirs.spatial.conv.conv.weight.flip(1),
    }
    assert ours.load_state_dict(state, strict=False).unexpected_keys == []
    x = torch.randn(2, 64, 9, 9)
    with torch.no_grad():
        assert (ours(x) - theirs(x)).abs().max() < 1e-5
        ours.spatial_gate.conv.weight.copy_(theirs.spatial.conv.conv.weight)
        assert (ours(x) - theirs(x)).abs().max() > 1e-3


def test_bam_by_hand():
    torch.manual_seed(0)
    bam = BAM(32).eval()
    assert count_parameters(bam) == 757
    x = torch.randn(3, 32, 12, 12)
    with torch.no_grad(), capture(bam, ["channel_gate", "spatial_gate", "gate"]) as seen:
        y = bam(x)
    channel, spatial = seen["channel_gate"], seen["spatial_gate"]
    assert channel.shape == (3, 32, 1, 1) and spatial.shape == (3, 1, 12, 12) and seen["gate"].shape == x.shape
    assert torch.equal(seen["gate"], torch.sigmoid(channel * spatial))
    assert torch.allclose(y, x + x * seen["gate"], atol=1e-6)
    # the BAM paper's sum is something else
    assert not torch.allclose(y, x * (1 + torch.sigmoid(channel + spatial)), atol=1e-3)
    linear = bam.channel_gate
    by_hand = linear[5](linear[3](linear[2](x.mean((2, 3)))).relu())
    assert torch.allclose(by_hand, channel[:, :, 0, 0], atol=1e-6)
    # a place is seen from at most 8 away: two 3x3 convolutions of dilation 4
    one = torch.zeros(1, 32, 25, 25)
    one[..., 12, 12] = 1
    with torch.no_grad():
        reach = (bam.spatial_gate(one) - bam.spatial_gate(torch.zeros_like(one)))[0, 0].nonzero() - 12
    assert reach.abs().max() <= 8 and set((reach % 4).unique().tolist()) == {0}


def test_bam_widths_and_a_batch_of_one():
    assert [BAM(c).spatial_gate[0].out_channels for c in (16, 64, 256, 1024)] == [4, 4, 16, 64]
    bam = BAM(16)
    with pytest.raises(ValueError, match="expected 2 or more pictures in training, found 1"):
        bam(torch.randn(1, 16, 8, 8))
    assert bam(torch.randn(2, 16, 8, 8)).shape == (2, 16, 8, 8)
    assert bam.eval()(torch.randn(1, 16, 8, 8)).shape == (1, 16, 8, 8)


def test_bam_stands_before_each_halving():
    model = meta("bam_resnet50")
    assert [n for n, m in model.named_modules() if isinstance(m, BAM)] == ["layer1.3", "layer2.4", "layer3.6"]


# --------------------------------------------------------------------------------------------------------- ResAttNet-56


def identity_units(module: nn.Module) -> None:
    """Make every residual unit pass its input on."""
    for name, child in module.named_modules():
        if name.endswith("conv3"):
            nn.init.zeros_(child.weight)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_attention_module_by_hand(depth):
    torch.manual_seed(0)
    module = AttentionModule(8, depth).eval()
    identity_units(module)
    x = torch.randn(2, 8, 16, 16)
    entered = []
    module.mask.register_forward_pre_hook(lambda _m, args: entered.append(args[0]))
    with torch.no_grad(), capture(module, "gate") as seen:
        y = module(x)
    down = [x]
    for _ in range(depth):
        down.append(F.max_pool2d(down[-1], 3, 2, 1))
    double = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
    u = double(down[-1])
    for level in range(depth - 1, 0, -1):
        u = double(u + 2 * down[level])  # the skip is v + R(v), and R passes v on
    assert torch.allclose(entered[0], u + x, atol=1e-5)
    gate = seen["gate"]
    assert gate.shape == x.shape and 0 < gate.min() < gate.max() < 1
    assert torch.allclose(y, (1 + gate) * x, atol=1e-6)
    assert len(module.skip) == depth - 1 and len(module.down) == len(module.up) == depth


def test_attention_module_with_live_units_differs_from_the_trunk_alone():
    torch.manual_seed(0)
    module = AttentionModule(8, 2).eval()
    x = torch.randn(1, 8, 13, 10)  # neither side a power of two: what comes up takes the size of its partner
    with torch.no_grad():
        y = module(x)
        alone = module.leave(module.trunk(module.enter(x)))
    assert y.shape == x.shape and (y - alone).abs().max() > 0.1


def test_resattnet56_has_56_layers_and_the_released_grids():
    model = small("resattnet56")
    units = 3 * (1 + 1 + 2 + 1) + 3  # before, entering, in the trunk of and leaving each module, and the last stage
    # three convolutions a unit, the first convolution and the head; the masks do not count
    assert 1 + 3 * units + 1 == 56
    assert [len(module_by_name(model, f"attention{i}").down) for i in (1, 2, 3)] == [3, 2, 1]
    shapes = {row.name: row.shape for row in summarise(model, 224)}
    assert [shapes[n] for n in ("attention1", "attention2", "attention3", "relu2")] == [
        (16, 56, 56),
        (32, 28, 28),
        (64, 14, 14),
        (128, 7, 7),
    ]
