"""Networks of the libraries as chains of named stages under the contract of `FerModel`,
with the libraries' ImageNet weights.
"""

from collections.abc import Mapping, Sequence

import torchvision
from torch import Tensor, nn

from ferkit import labels as vocabulary
from ferkit.models.base import FerModel


class Chain(FerModel):
    """Named stages run one after another; their last output, flattened, enters the linear layer `fc`.

    Attributes:
        smallest_size: side in pixels below which some map has no places left.
        imagenet: the library network whose ImageNet weights fit, torchvision's name or "timm:name.tag"; None if none
            does.
        cam_stages: stages worth explaining, shallow to deep, and the pixels from one place of their map to the next.

    """

    input_size = 224
    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)
    colour = "grey3"
    smallest_size: int = 1
    imagenet: str | None = None
    cam_stages: Sequence[tuple[str, int]] = ()

    def __init__(self, stages: Mapping[str, nn.Module], *, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.labels = vocabulary.order("fer2013") if num_classes == 7 else ()
        self._stages = list(stages)
        for name, stage in stages.items():
            self.add_module(name, stage)
        self.num_features = num_features
        self.fc = nn.Linear(num_features, num_classes)

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) to features (B, num_features). Raises ValueError for pictures that are too small."""
        height, width = images.shape[-2:]
        if min(height, width) < self.smallest_size:
            raise ValueError(
                f"{type(self).__name__} needs pictures of at least {self.smallest_size} x {self.smallest_size} "
                f"pixels, found {height} x {width}: resize them"
            )
        x = images
        for name in self._stages:
            x = getattr(self, name)(x)
        return x.flatten(1)  # (B, num_features)

    def forward_head(self, features: Tensor) -> Tensor:
        """Features (B, num_features) to logits (B, K)."""
        return self.fc(features)

    def cam_layer(self, input_size: int) -> str:
        """Return the deepest stage with a grid of at least 6 x 6; in pictures too small for that, the shallowest."""
        fine = [name for name, stride in self.cam_stages if input_size // stride >= 6]
        return fine[-1] if fine else self.cam_stages[0][0]

    def load_imagenet(self) -> list[str]:
        """Fetch the library's ImageNet weights (torchvision: version 1) into all stages of the same name;
        the head stays random.

        Returns:
            Names of the tensors that stayed as they were: the head, and what the library's network does not have.

        Raises:
            ValueError: nobody gives weights for this network, or it is not of width 1.
            FileNotFoundError: the weights are neither cached nor to be had over the network.

        """
        if self.imagenet is None:
            raise ValueError(
                f"{type(self).__name__} has no ImageNet weights in torchvision or timm; the paper's run "
                "started at random, too"
            )
        width = self.spec["width"] if hasattr(self, "spec") else 1
        if width != 1:
            raise ValueError(f"ImageNet weights fit a network of width 1, found width {width:g}")
        own = self.state_dict()
        state = {
            k: v for k, v in _released_state(self.imagenet).items() if k in own and k.split(".")[0] in self._stages
        }
        self.load_state_dict(state, strict=False)
        return sorted(own.keys() - state.keys())


def _released_state(name: str) -> dict[str, Tensor]:
    """State dict with ImageNet weights of "timm:name.tag", or of a network of torchvision; downloads unless cached."""
    try:
        if name.startswith("timm:"):
            import timm

            return timm.create_model(name.removeprefix("timm:"), pretrained=True).state_dict()
        return torchvision.models.get_model(name, weights="IMAGENET1K_V1").state_dict()
    except (OSError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise FileNotFoundError(f"no ImageNet weights of {name}: neither cached nor fetched ({reason})") from None
