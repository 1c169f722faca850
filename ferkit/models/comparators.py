"""The networks that the Residual Masking paper compares itself with (Tables II and IV, arXiv 2603.05937).

Each is the library's own network, cut into a chain of named stages so that maps can be read and counted one by one;
stages keep the library's names, so its ImageNet weights fit. What a library does not have is written here: BAM
ResNet-50 (`BAM` on torchvision's body) and ResAttNet-56 (`ferkit.models.residual_attention`).

As in the released code (phamquiluan/ResidualMaskingNetwork@9141618): 224 px, grey copied to three channels, values in
[0, 1] and no normalisation, also with ImageNet weights. Where the released network insists on 224 px because of a fixed
7x7 pooling (BAM, CBAM, ResAttNet-56), ours pools adaptively and takes 64 px as well; at 224 px both compute the same.

Parameters with a 7-way head agree with the released networks (tests/unit/test_comparators.py). Table II's figures for
ResAttNet-56 (29.0 million for 29.8) and CBAM ResNet-50 (28.5 for 26.1) do not; Inception's 25.1 counts an auxiliary
head.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import resnet, vgg

from ferkit.models.attention import BAM
from ferkit.models.base import scaled
from ferkit.models.chain import Chain
from ferkit.models.registry import register


def _stages(net: nn.Module, *, without: Sequence[str]) -> dict[str, nn.Module]:
    """The children of a library network, in the order they are defined in, which is the order they run in."""
    return {name: child for name, child in net.named_children() if name not in without}


def _only_width_1(name: str, width: float, library: str) -> None:
    if width != 1:
        raise ValueError(
            f"{name} is {library}'s and comes in one size: expected width 1, found {width:g}; "
            f"for a small network take resnet18 or densenet121, which have a width"
        )


class _ScaledResNet(resnet.ResNet):
    """torchvision's ResNet with every channel count scaled;
    its constructor fixes 64 after the stem and 64..512 in the stages.
    """

    def __init__(self, block: type[resnet.BasicBlock | resnet.Bottleneck], layers: Sequence[int], width: float) -> None:
        self._width = width
        super().__init__(block, list(layers), num_classes=1)
        stem = scaled(64, width)
        if width != 1:
            self.conv1 = nn.Conv2d(3, stem, 7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
            self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU()  # not in place, so that the output of bn1 can be looked at

    def _make_layer(self, block: Any, planes: int, blocks: int, stride: int = 1, dilate: bool = False) -> nn.Sequential:
        if planes == 64:
            self.inplanes = scaled(64, self._width)
        return super()._make_layer(block, scaled(planes, self._width), blocks, stride, dilate)


class CbamBottleneck(resnet.Bottleneck):
    """torchvision's bottleneck with timm's CBAM between its last BatchNorm and the shortcut (Woo et al.,
    arXiv 1807.06521).

    With biases in the channel gate's layers, as the released network has (timm leaves them out unless told): 16,048
    parameters in the whole ResNet-50. timm stacks the mean before the maximum for the spatial gate, pytorchcv the other
    way round.
    """

    def __init__(self, inplanes: int, planes: int, *others: Any, **options: Any) -> None:
        from timm.layers.cbam import CbamModule  # here, because importing timm takes seconds and few networks need it

        super().__init__(inplanes, planes, *others, **options)
        # rd_divisor: hidden layers of at least 8; at full width all are multiples of it, so nothing changes there.
        self.cbam = CbamModule(planes * self.expansion, mlp_bias=True, rd_divisor=8)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) to (B, 4 * planes, ceil(H / stride), ceil(W / stride))."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.bn1(self.conv1(x)).relu()  # (B, planes, H, W)
        y = self.bn2(self.conv2(y)).relu()  # (B, planes, H/s, W/s)
        y = self.cbam(self.bn3(self.conv3(y)))  # (B, 4 * planes, H/s, W/s)
        return (y + shortcut).relu()


class _ResNetChain(Chain):
    cam_stages = (("layer1", 4), ("layer2", 8), ("layer3", 16), ("layer4", 32))
    block: type[resnet.BasicBlock | resnet.Bottleneck]
    layers: tuple[int, int, int, int]

    def __init__(self, *, num_classes: int = 7, width: float = 1.0) -> None:
        stages = _stages(_ScaledResNet(self.block, self.layers, width), without=["fc"])
        super().__init__(stages, num_features=scaled(512, width) * self.block.expansion, num_classes=num_classes)


@register("resnet18")
class ResNet18(_ResNetChain):
    """torchvision's ResNet-18 (Table IV), 11,180,103 parameters; at any width and picture size."""

    imagenet = "resnet18"
    block, layers = resnet.BasicBlock, (2, 2, 2, 2)


@register("resnet34")
class ResNet34(_ResNetChain):
    """torchvision's ResNet-34, 21,288,263 parameters: the Residual Masking Network without its masks.

    At any width and size.
    """

    imagenet = "resnet34"
    block, layers = resnet.BasicBlock, (3, 4, 6, 3)


@register("resnet101")
class ResNet101(_ResNetChain):
    """torchvision's ResNet-101, 42,514,503 parameters: in no table, but in the paper's ensemble
    (script/gen_ensemble.py@9141618).
    """

    imagenet = "resnet101"
    block, layers = resnet.Bottleneck, (3, 4, 23, 3)


@register("resnet152")
class ResNet152(_ResNetChain):
    """torchvision's ResNet-152, 58,158,151 parameters; the paper's text calls it Resnet151."""

    imagenet = "resnet152"
    block, layers = resnet.Bottleneck, (3, 8, 36, 3)


@register("cbam_resnet50")
class CbamResNet50(_ResNetChain):
    """ResNet-50 with CBAM in each block, 26,054,967 parameters (Table II prints 28.5 million;
    28,089,624 with 1000 classes).

    ImageNet weights are those of the plain ResNet-50; the attention starts at random (pytorchcv has weights for both).
    """

    imagenet = "resnet50"
    block, layers = CbamBottleneck, (3, 4, 6, 3)


@register("bam_resnet50")
class BamResNet50(_ResNetChain):
    """ResNet-50 with a `BAM` at the end of layer1, layer2 and layer3, 23,880,442 parameters.

    Needs at least two pictures per batch in training. ImageNet weights are those of the plain ResNet-50, as for CBAM.
    """

    imagenet = "resnet50"
    block, layers = resnet.Bottleneck, (3, 4, 6, 3)

    def __init__(self, *, num_classes: int = 7, width: float = 1.0) -> None:
        super().__init__(num_classes=num_classes, width=width)
        for name, planes in (("layer1", 64), ("layer2", 128), ("layer3", 256)):
            getattr(self, name).append(BAM(scaled(planes, width) * self.block.expansion))


@register("vgg19")
class Vgg19(Chain):
    """VGG-19 without BatchNorm, 139,598,919 parameters, 86 % of them in its two hidden layers; from 32 px,
    at any width.

    The released code replaces torchvision's classifier by a new one of the same shape, so ImageNet weights fill only
    `features`.
    """

    imagenet = "vgg19"
    smallest_size = 32
    # ReLUs before the poolings
    cam_stages = (("features.8", 2), ("features.17", 4), ("features.26", 8), ("features.35", 16))

    def __init__(self, *, num_classes: int = 7, width: float = 1.0) -> None:
        config = [c if c == "M" else scaled(int(c), width) for c in vgg.cfgs["E"]]
        last, hidden = scaled(512, width), scaled(4096, width)
        stages: dict[str, nn.Module] = {
            "features": vgg.make_layers(config),
            "avgpool": nn.AdaptiveAvgPool2d(7),
            "flatten": nn.Flatten(),
            "hidden1": nn.Sequential(nn.Linear(last * 7 * 7, hidden), nn.ReLU(), nn.Dropout(0.5)),
            "hidden2": nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(0.5)),
        }
        super().__init__(stages, num_features=hidden, num_classes=num_classes)
        for module in self.modules():  # torchvision's
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
                nn.init.zeros_(module.bias)


@register("densenet121")
class DenseNet121(Chain):
    """torchvision's DenseNet-121, 6,961,031 parameters; from 29 px.

    `width` scales growth rate and stem, and so all channels.
    """

    imagenet = "densenet121"
    smallest_size = 29
    cam_stages = tuple((f"features.denseblock{i}", 2 ** (i + 1)) for i in (1, 2, 3, 4))

    def __init__(self, *, num_classes: int = 7, width: float = 1.0) -> None:
        net = torchvision.models.DenseNet(
            growth_rate=scaled(32, width), num_init_features=scaled(64, width), num_classes=1
        )
        stages = {"features": net.features, "relu": nn.ReLU(), "avgpool": nn.AdaptiveAvgPool2d(1)}
        super().__init__(stages, num_features=net.classifier.in_features, num_classes=num_classes)


@register("efficientnet_b2")
class EfficientNetB2(Chain):
    """timm's tf_efficientnet_b2 (TensorFlow's padding and BatchNorm), 7,710,857 parameters; at any size,
    of width 1 only.

    The paper's EfficientNet_b2b is pytorchcv's conversion of the same network.
    """

    imagenet = "timm:tf_efficientnet_b2.aa_in1k"
    cam_stages = (("blocks.1", 4), ("blocks.2", 8), ("blocks.4", 16), ("bn2", 32))

    def __init__(self, *, num_classes: int = 7, width: float = 1.0) -> None:
        _only_width_1("efficientnet_b2", width, "timm")
        import timm

        net = timm.create_model("tf_efficientnet_b2", pretrained=False)
        stages = {**_stages(net, without=["classifier"]), "dropout": nn.Dropout(0.3)}
        super().__init__(stages, num_features=1408, num_classes=num_classes)


class Rescale(nn.Module):
    """torchvision's `transform_input`: from ImageNet's mean and standard deviation to (v - 0.5) / 0.5,
    in which these weights were trained.

    The released code has it switched on although it does not normalise its pictures.
    """

    factor: Tensor
    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        self.register_buffer("factor", (std / 0.5)[:, None, None], persistent=False)
        self.register_buffer("offset", ((mean - 0.5) / 0.5)[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) to the same shape."""
        return x * self.factor + self.offset


class _InceptionChain(Chain):
    imagenet: str
    build: Callable[..., nn.Module]

    def __init__(self, *, num_classes: int = 7, width: float = 1.0) -> None:
        _only_width_1(self.imagenet, width, "torchvision")
        net = type(self).build(aux_logits=False, init_weights=True)
        stages = {"rescale": Rescale(), **_stages(net, without=["fc"])}
        super().__init__(stages, num_features=net.get_submodule("fc").in_features, num_classes=num_classes)  # type: ignore[arg-type]


@register("googlenet")
class GoogLeNet(_InceptionChain):
    """torchvision's GoogLeNet, 5,607,079 parameters; from 15 px, of width 1 only.

    Without its two auxiliary heads (9,951,413 parameters with them): the released code deletes them.
    """

    imagenet = "googlenet"
    smallest_size = 15
    cam_stages = (("conv3", 4), ("inception3b", 8), ("inception4e", 16), ("inception5b", 32))
    build = staticmethod(torchvision.models.GoogLeNet)


@register("inception_v3")
class InceptionV3(_InceptionChain):
    """torchvision's Inception v3, 21,799,911 parameters; from 75 px, of width 1 only.

    Without its auxiliary head. The released network keeps it, with 1000 classes (25,126,607 parameters, Table II's 25.1
    million), and drops what it says, so it never learns and the decisions are the same. There it makes training below
    299 px fail; the one released setting that names this network has 299, while the paper says 224 for all.
    """

    input_size = 299
    imagenet = "inception_v3"
    smallest_size = 75
    cam_stages = (("Conv2d_4a_3x3", 4), ("Mixed_5d", 8), ("Mixed_6e", 16), ("Mixed_7c", 32))
    build = staticmethod(torchvision.models.Inception3)

    def cam_layer(self, input_size: int) -> str:
        """Return the deepest stage with a grid of at least 6 x 6.

        Convolutions without padding make it smaller than the stride says.
        """
        return [name for name, stride in self.cam_stages if (input_size - 11) // stride - 1 >= 6 or stride == 4][-1]
