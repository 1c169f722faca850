"""Networks under parity, by the name of their JSON file: a function that builds one,
and what to read from a forward pass.
"""

from collections.abc import Callable

from torch import Tensor, nn

from ferkit.models import create_model
from ferkit.models.mobilefacenet import FaceEmbedding

Outputs = Callable[[Tensor], dict[str, Tensor]]


def resemotenet() -> tuple[nn.Module, Outputs]:
    model = create_model("resemotenet")
    return model, lambda images: {"logits": model(images)}


def resmasking() -> tuple[nn.Module, Outputs]:
    model = create_model("resmasking")
    return model, lambda images: {"logits": model(images)}


def embedding(name: str, size: int) -> tuple[nn.Module, Outputs]:
    model = FaceEmbedding(name, size)
    return model, lambda images: {"embedding_first16": model(images)[:, :16]}


def lfnsb() -> tuple[nn.Module, Outputs]:
    model = create_model("lfnsb")

    def outputs(images: Tensor) -> dict[str, Tensor]:
        parts = model.forward_parts(images)
        return {"logits": parts.logits, "features_gap_first16": parts.features[:, :16]}

    return model, outputs


def esr9() -> tuple[nn.Module, Outputs]:
    model = create_model("esr", num_classes=8, valence_arousal=True)
    return model, lambda images: {"branch_logits": model.forward_parts(images).branch_logits}


def esr9_cbam() -> tuple[nn.Module, Outputs]:
    model = create_model("esr", num_classes=8, attention="cbam")

    def outputs(images: Tensor) -> dict[str, Tensor]:
        parts = model.forward_parts(images)
        return {
            "branch_logits": parts.branch_logits,
            "spatial_gates_mean": parts.spatial_gates.mean((2, 3)),
            "channel_gates_mean": parts.channel_gates.mean(2),
        }

    return model, outputs


def _manet(multi_scale: str) -> tuple[nn.Module, Outputs]:
    model = create_model("manet", num_classes=8, multi_scale=multi_scale)

    def outputs(images: Tensor) -> dict[str, Tensor]:
        parts = model.forward_parts(images)
        return {
            "local_logits": parts.local_logits,
            "global_logits": parts.global_logits,
            "fused_logits": parts.logits,
        }

    return model, outputs


def manet() -> tuple[nn.Module, Outputs]:
    return _manet("backward")


def manet_forward_path() -> tuple[nn.Module, Outputs]:
    return _manet("forward")


NETWORKS: dict[str, Callable[[], tuple[nn.Module, Outputs]]] = {
    "resemotenet": resemotenet,
    "resmasking": resmasking,
    "mobilefacenet": lambda: embedding("mobilefacenet", 512),
    "mfn": lambda: embedding("mfn", 256),
    "lfn": lambda: embedding("lfn", 256),
    "lfnsb": lfnsb,
    "esr9": esr9,
    "esr9_cbam": esr9_cbam,
    "manet": manet,
    "manet_forward_path": manet_forward_path,
    "manet_diversified": manet_forward_path,
}

# Accepted deviation where it is not 1e-8. With this fill the maps of these three grow to 1e4 and saturate the gates of
# up to 31 coordinate attentions in a row: the last digit of the picture alone moves the result this much, so the order
# of summation decides it, and any float64 computation of the same network lands there. tests/parity/test_lfnsb.py holds
# the three to 1e-9 at every stage with weights that do not do this.
TOLERANCE = {"mfn": 1e-4, "lfn": 1e-2, "lfnsb": 1e-1}
