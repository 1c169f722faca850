"""Networks under parity, by the name of their JSON file: a function that builds one, and what to read from a forward pass."""

from collections.abc import Callable

from torch import Tensor, nn

from ferkit.models import create_model

Outputs = Callable[[Tensor], dict[str, Tensor]]


def resemotenet() -> tuple[nn.Module, Outputs]:
    model = create_model("resemotenet")
    return model, lambda images: {"logits": model(images)}


NETWORKS: dict[str, Callable[[], tuple[nn.Module, Outputs]]] = {"resemotenet": resemotenet}
