"""Weights of others for the Residual Masking Network: ImageNet for its ResNet-34, and the authors' checkpoints."""

from urllib.error import URLError

from torch import Tensor

from ferkit.models.base import FerModel
from ferkit.models.released import misfit
from ferkit.models.transfer import load_released

__all__ = ["load_imagenet_backbone", "load_released"]


def load_imagenet_backbone(model: FerModel, state_dict: dict[str, Tensor] | None = None) -> list[str]:
    """Put torchvision's ResNet-34 into conv1, bn1 and layer1..4; masking blocks and head stay as they are.

    This is what the first release did; it was switched off at commit 0e8e9ec (10 January 2020) and stays off in
    9141618.

    Args:
        model: a `ResMasking` of width 1.
        state_dict: of a torchvision ResNet-34; None fetches `ResNet34_Weights.IMAGENET1K_V1` through torchvision.

    Returns:
        Names of the tensors that stayed as they were.

    Raises:
        ValueError: the model is scaled, or the weights are not those of a ResNet-34.
        FileNotFoundError: the weights are neither cached nor to be had over the network.

    """
    channels = len(model.get_parameter("conv1.weight"))
    if channels != 64 or model.num_features != 512:
        raise ValueError(
            f"ImageNet weights fit a network of width 1, found one with {channels} channels after conv1 instead of 64"
        )
    if state_dict is None:
        from torchvision.models import ResNet34_Weights

        try:
            state_dict = dict(ResNet34_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True))
        except (URLError, OSError) as error:
            raise FileNotFoundError(
                f"torchvision could not fetch its ImageNet weights of ResNet-34 ({error}); pass state_dict"
            ) from None
    backbone = {k: v for k, v in state_dict.items() if not k.startswith("fc.")}
    own = {k: v for k, v in model.state_dict().items() if not k.startswith(("mask", "fc."))}
    if problem := misfit(backbone, own):
        raise ValueError(f"these are not the weights of a ResNet-34: {problem}")
    model.load_state_dict(backbone, strict=False)
    return sorted(k for k in model.state_dict() if k not in own)
