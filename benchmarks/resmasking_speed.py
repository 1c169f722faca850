"""The Residual Masking Network of ferkit beside a straightforward transcription of its block diagram,
with the same weights.

    python benchmarks/resmasking_speed.py [--sizes 64 224] [--width 1] [--batch 4] [--repeats 3] [--channels-last]

The transcription has torchvision's ResNet-34 and one class per masking block, layer by layer as in the diagram. Both
take turns, forward in evaluation mode and whole training steps (SGD); logits must agree before anything is timed.
Seconds are CPU seconds of this process (one thread), so a busy machine does not spoil them much; the median of the
ratios counts. A ratio below 1 means that ferkit is faster.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from ferkit.models import create_model
from ferkit.models.base import scaled

# ---------------------------------------------------------------------------------------------------- the transcription


def unit(channels: int, out: int) -> BasicBlock:
    return BasicBlock(
        channels, out, downsample=nn.Sequential(nn.Conv2d(channels, out, 1, bias=False), nn.BatchNorm2d(out))
    )


def up(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose2d(channels, out, 2, stride=2), nn.BatchNorm2d(out), nn.ReLU(inplace=True))


class Mask4(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2)
        self.down1, self.down2, self.down3, self.down4 = (
            unit(c, 2 * c),
            unit(2 * c, 4 * c),
            unit(4 * c, 8 * c),
            unit(8 * c, 16 * c),
        )
        self.up1, self.join1 = up(16 * c, 8 * c), unit(16 * c, 8 * c)
        self.up2, self.join2 = up(8 * c, 4 * c), unit(8 * c, 4 * c)
        self.up3, self.join3 = up(4 * c, 2 * c), unit(4 * c, 2 * c)
        self.last = unit(2 * c, c)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(self.pool(a))
        c = self.down3(self.pool(b))
        d = self.down4(self.pool(c))
        y = self.join1(torch.cat([self.up1(d), c], dim=1))
        y = self.join2(torch.cat([self.up2(y), b], dim=1))
        y = self.join3(torch.cat([self.up3(y), a], dim=1))
        return torch.softmax(self.last(y), dim=1)


class Mask3(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2)
        self.down1, self.down2, self.down3 = unit(c, 2 * c), unit(2 * c, 4 * c), unit(4 * c, 8 * c)
        self.up1, self.join1 = up(8 * c, 4 * c), unit(8 * c, 4 * c)
        self.up2, self.join2 = up(4 * c, 2 * c), unit(4 * c, 2 * c)
        self.last = unit(2 * c, c)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(self.pool(a))
        c = self.down3(self.pool(b))
        y = self.join1(torch.cat([self.up1(c), b], dim=1))
        y = self.join2(torch.cat([self.up2(y), a], dim=1))
        return torch.softmax(self.last(y), dim=1)


class Mask2(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2)
        self.down1, self.down2 = unit(c, 2 * c), unit(2 * c, 4 * c)
        self.up1, self.join1 = up(4 * c, 2 * c), unit(4 * c, 2 * c)
        self.last = unit(2 * c, c)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(self.pool(a))
        return torch.softmax(self.last(self.join1(torch.cat([self.up1(b), a], dim=1))), dim=1)


class Mask1(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.down1, self.last = unit(c, 2 * c), unit(2 * c, c)

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.last(self.down1(x)), dim=1)


class Transcription(nn.Module):
    def __init__(self, width: float) -> None:
        super().__init__()
        c = [scaled(64 * 2**i, width) for i in range(4)]
        self.conv1 = nn.Conv2d(3, c[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(c[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1, self.mask1 = self.stage(c[0], c[0], 3, 1), Mask4(c[0])
        self.layer2, self.mask2 = self.stage(c[0], c[1], 4, 2), Mask3(c[1])
        self.layer3, self.mask3 = self.stage(c[1], c[2], 6, 2), Mask2(c[2])
        self.layer4, self.mask4 = self.stage(c[2], c[3], 3, 2), Mask1(c[3])
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.4)
        self.fc = nn.Linear(c[3], 7)

    def stage(self, channels: int, out: int, blocks: int, stride: int) -> nn.Sequential:
        self.inplanes, self.groups, self.base_width, self.dilation, self._norm_layer = (
            channels,
            1,
            64,
            1,
            nn.BatchNorm2d,
        )
        return ResNet._make_layer(self, BasicBlock, out, blocks, stride=stride)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer1(x)
        m = self.mask1(x)
        x = x * (1 + m)
        x = self.layer2(x)
        m = self.mask2(x)
        x = x * (1 + m)
        x = self.layer3(x)
        m = self.mask3(x)
        x = x * (1 + m)
        x = self.layer4(x)
        m = self.mask4(x)
        x = x * (1 + m)
        return self.fc(self.dropout(self.avgpool(x).flatten(1)))


# ------------------------------------------------------------------------------------------------------------ measuring


def leaves_in_order(model: nn.Module, images: Tensor) -> list[nn.Module]:
    order: list[nn.Module] = []
    leaves = [m for m in model.modules() if not list(m.children()) and list(m.parameters())]
    hooks = [m.register_forward_pre_hook(lambda m, _: order.append(m)) for m in leaves]
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    return order


def same_weights(width: float, images: Tensor, memory_format: torch.memory_format) -> tuple[nn.Module, nn.Module]:
    """Build both and copy the weights over, layer by layer in the order in which they run."""
    torch.manual_seed(0)
    ours, plain = create_model("resmasking", width=width).eval(), Transcription(width).eval()
    pairs = list(zip(leaves_in_order(ours, images), leaves_in_order(plain, images), strict=True))
    for a, b in pairs:
        b.load_state_dict(a.state_dict())
    for m in ours, plain:
        m.to(memory_format=memory_format)
    with torch.no_grad():
        difference = (ours(images) - plain(images)).abs().max().item()
    if len(pairs) != 205 or difference > 1e-4:
        raise SystemExit(
            f"The two compute different things (logits differ by {difference:.2g}): their times cannot be compared."
        )
    return ours, plain


def forward_of(model: nn.Module, images: Tensor) -> Callable[[], None]:
    def forward() -> None:
        model.eval()
        with torch.no_grad():
            model(images)

    return forward


def step_of(model: nn.Module, images: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    targets = torch.arange(len(images)) % 7

    def step() -> None:
        model.train()
        loss = nn.functional.cross_entropy(model(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def cpu_seconds(job: Callable[[], None]) -> float:
    start = time.process_time()
    job()
    return time.process_time() - start


def compare(ours: Callable[[], None], plain: Callable[[], None], repeats: int) -> tuple[float, float, float]:
    """Seconds of ours and of the transcription, and the median ratio; each round there and back."""
    ours(), plain()  # warm
    rounds = []
    for _ in range(repeats):
        a, b, c, d = cpu_seconds(ours), cpu_seconds(plain), cpu_seconds(plain), cpu_seconds(ours)
        rounds.append(((a + d) / 2, (b + c) / 2))
    return (*(statistics.median(s) for s in zip(*rounds, strict=True)), statistics.median(a / b for a, b in rounds))


def keep_freed_memory() -> None:
    """Start again with malloc told to keep freed memory: else luck decides who pays for asking again after each step.
    """
    settings = {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**30)}
    if sys.platform == "linux" and not settings.keys() <= os.environ.keys():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **settings})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 224])
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--channels-last", action="store_true", help="give both networks weights and pictures in that order"
    )
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    memory_format = torch.channels_last if options.channels_last else torch.contiguous_format
    print(
        f"Residual Masking Network, width {options.width:g}, batch {options.batch}, one "
        f"thread{', channels_last' if options.channels_last else ''}"
    )
    print(f"{'':26}{'ferkit':>10}{'plain':>10}{'ratio':>8}")
    results = {}
    for size in options.sizes:
        images = torch.rand(options.batch, 3, size, size).contiguous(memory_format=memory_format)
        models = same_weights(options.width, images, memory_format)
        for name, job in (("forward", forward_of), ("training step", step_of)):
            ours, plain, ratio = compare(*(job(m, images) for m in models), options.repeats)
            print(f"{name + f', {size} px':26}{ours:8.3f} s{plain:8.3f} s{ratio:8.3f}", flush=True)
            results[f"{name} {size}"] = {
                "ratio": round(ratio, 4),
                "ferkit_s": round(ours, 4),
                "plain_s": round(plain, 4),
            }
    print(json.dumps({"benchmark": "resmasking_speed", "results": results}))


if __name__ == "__main__":
    main()
