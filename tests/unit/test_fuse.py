"""Fused networks compute what they computed before, with fewer layers, also after export."""

import pytest
import torch
from torch import Tensor, nn

from ferkit.explain import capture
from ferkit.models import FerModel, count_parameters, create_model
from ferkit.models.fuse import fold_repvgg, fuse
from ferkit.models.layers import RepVGGDW

NETWORKS = ("lfnsb", "lfn", "mfn", "mobilefacenet", "resemotenet", "resmasking")


def lived(model: nn.Module, images: Tensor) -> nn.Module:
    """Slopes and statistics as after a training, near those of the pictures.

    A new BatchNorm (1, 0, 0, 1) hides errors, and statistics far from the data let the signal die on the way: logits
    that do not depend on the picture agree with anything.
    """
    torch.manual_seed(1)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.weight.data.normal_(1, 0.3), norm.bias.data.normal_(0, 0.3)
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(images)
    for norm in norms:
        norm.running_mean += 0.2 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean)
        norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.7, 1.4)
    return model.eval()


def small(name: str = "lfnsb", **options) -> FerModel:
    torch.manual_seed(0)
    model = create_model(name, width=1 / 8, **options)
    model = lived(model, pictures(model, 8))
    with torch.no_grad():
        assert model(pictures(model, 4)).std(0).max() > 1e-3, "the logits do not depend on the picture"
    return model


def pictures(model: FerModel, n: int = 2) -> Tensor:
    return torch.randn(n, 3, model.input_size, model.input_size, generator=torch.Generator().manual_seed(2))


def norms(model: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())


def gap(a: FerModel, b: FerModel, images: Tensor) -> float:
    with torch.no_grad():
        wanted = a(images)
        return ((b(images) - wanted).abs() / wanted.abs().clamp(min=1)).max().item()


@pytest.mark.parametrize("name", NETWORKS)
def test_equal_in_float64_with_no_pair_left(name):
    model = small(name).double()
    images = pictures(model).double()
    fused = fuse(model)
    assert norms(fused) < norms(model) and count_parameters(fused) < count_parameters(model)
    assert norms(fused) == (6 if name == "resmasking" else 0)  # resmasking: its masks' last BatchNorms follow a sum
    assert 0 < gap(model, fused, images) <= 1e-12


@pytest.mark.parametrize("options", [{"head": "concat_gdc"}, {"head": "concat_sb1"}, {"stem_act": "prelu"}])
@pytest.mark.parametrize("level", [1, 2])
def test_equal_for_other_heads(options, level):
    model = small(**options).double()
    assert gap(model, fuse(model, level=level), pictures(model).double()) <= 1e-12


def test_numbers_of_the_levels():
    model = create_model("lfnsb").eval()
    levels = [model, fuse(model, level=1), fuse(model)]
    assert [count_parameters(m) for m in levels] == [2_676_147, 2_674_739, 2_662_421]
    assert [norms(m) for m in levels] == [107, 103, 0]
    assert [type(m.repvgg).__name__ for m in levels] == ["RepVGGDW", "Conv2d", "Conv2d"]
    assert [type(m.conv1.bn).__name__ for m in levels] == ["BatchNorm2d", "Identity", "Identity"]


def test_float32_and_the_network_given_is_untouched():
    model = small()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    fused = fuse(model)
    assert 0 < gap(model, fused, pictures(model)) < 1e-5
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items()) and norms(model) == 107
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in fused.modules())
    fused.conv1.conv.weight.data.zero_()
    assert model.conv1.conv.weight.any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("level", [1, 2])
def test_keeps_dtype(dtype, level):
    fused = fuse(small().to(dtype), level=level)
    assert {p.dtype for p in fused.parameters()} == {dtype}


@pytest.mark.parametrize("level", [1, 2])
def test_keeps_device(level):
    fused = fuse(create_model("lfnsb", width=1 / 8).to("meta").eval(), level=level)
    assert {p.device.type for p in fused.parameters()} == {"meta"}


def test_repvgg_by_hand():
    block = lived(RepVGGDW(5), torch.randn(4, 5, 6, 7)).double()
    x = torch.randn(2, 5, 6, 7, dtype=torch.float64)
    conv = fold_repvgg(block)
    assert (conv.weight.shape, conv.groups, conv.padding) == ((5, 1, 3, 3), 5, (1, 1))
    with torch.no_grad():
        assert (conv(x) - block(x)).abs().max() < 1e-13
        inner = block.bn3.weight / (block.bn3.running_var + 1e-5).sqrt()
        outer = block.bn.weight / (block.bn.running_var + 1e-5).sqrt()
        kernel = block.conv3.weight[:, 0] * inner[:, None, None]
        kernel[:, 1, 1] += block.conv1.weight[:, 0, 0, 0] + 1
        assert torch.allclose(conv.weight[:, 0], kernel * outer[:, None, None], rtol=0, atol=1e-14)
        conv.weight[:, :, 1, 1] -= outer[:, None]  # the identity forgotten
        assert (conv(x) - block(x)).abs().max() > 0.1


def test_refuses_training_mode_where_the_identity_fails():
    model = small()
    images = pictures(model)
    fused = fuse(model)
    with pytest.raises(ValueError, match="the network is in training mode: call model.eval"):
        fuse(model.train())
    assert gap(model, fused, images) > 1e-3  # in training mode the statistics are the batch's
    model.eval().repvgg.bn.train()
    with pytest.raises(ValueError, match="repvgg.bn is in training mode"):
        fuse(model)


def test_bad_arguments():
    model = small()
    with pytest.raises(ValueError, match="fuse has no level 3; known: 1 .* 2"):
        fuse(model, level=3)
    with pytest.raises(ValueError, match="LFNSB has nothing to fuse at level 2"):
        fuse(fuse(model))
    with pytest.raises(ValueError, match="ResEmoteNet has nothing to fuse at level 1"):
        fuse(small("resemotenet"), level=1)


class Shared(FerModel):
    """Networks where folding would be wrong: a convolution that is also read elsewhere, and a pre-activation BatchNorm.
    """

    input_size = 8

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.before = nn.BatchNorm2d(3)
        self.twice, self.bn_a, self.bn_b = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.good, self.bn_good = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward_features(self, images: Tensor) -> Tensor:
        y = self.conv(images)
        y = y + self.bn(y)
        y = self.bn_b(self.twice(self.bn_a(self.twice(self.before(y)))))
        return self.bn_good(self.good(y)).mean((2, 3))

    def forward_head(self, features: Tensor) -> Tensor:
        return features


def test_folds_only_where_it_may():
    torch.manual_seed(0)
    model = lived(Shared(), torch.randn(4, 3, 8, 8)).double()
    fused = fuse(model)
    assert gap(model, fused, pictures(model).double()) <= 1e-12
    assert [name for name, m in fused.named_modules() if isinstance(m, nn.Identity)] == ["bn_good"]


def test_stages_stay_readable():
    model = small()
    fused, images = fuse(model), pictures(model)
    names = ["conv1", "conv_3", "conv_4.0.attention.height_gate", "repvgg", "spatial_bias"]
    with torch.no_grad(), capture(model, names) as a, capture(fused, names) as b:
        model(images), fused(images)
    for name in names:
        assert torch.allclose(a[name], b[name], atol=1e-4), name


@pytest.mark.slow
def test_torch_export_of_the_fused_network():
    model = small(input_size=64)
    fused, images = fuse(model), pictures(model, 3)
    program = torch.export.export(fused, (images,), dynamic_shapes=({0: torch.export.Dim("batch", min=2, max=64)},))
    assert "batch_norm" not in str(program.graph)
    other = pictures(model, 5)
    with torch.no_grad():
        assert torch.allclose(program.module()(other), model(other), atol=1e-5)
        assert not torch.allclose(program.module()(other), model(other.flip(0)), atol=1e-3)


@pytest.mark.slow
def test_onnx_of_the_fused_network(tmp_path):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    model = small(input_size=64)
    fused, images = fuse(model), pictures(model, 3)
    file = tmp_path / "lfnsb.onnx"
    torch.onnx.export(
        fused, (images,), file, input_names=["images"], output_names=["logits"], dynamo=True, verbose=False,
        dynamic_shapes=({0: torch.export.Dim("batch", min=2, max=64)},),
    )  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    other = pictures(model, 4)
    (found,) = session.run(["logits"], {"images": other.numpy()})
    with torch.no_grad():
        wanted = model(other)
    assert (torch.from_numpy(found) - wanted).abs().max() < 1e-5 < wanted.abs().max()
