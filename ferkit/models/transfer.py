"""Starting a network from weights that were trained on something else."""

from pathlib import Path

from safetensors.torch import load_file

from ferkit.models.base import FerModel


def initialise(model: FerModel, source: str) -> list[str]:
    """Copy into a network what fits of other weights; what does not fit, such as a head with other classes, stays random.

    Args:
        model: the network; its method `load_imagenet()` decides what "imagenet" means for it.
        source: "imagenet", or a .safetensors file written by a run.

    Returns:
        Names of the tensors that stayed as they were.

    Raises:
        ValueError: the network has no ImageNet weights, or most of it does not fit.
        FileNotFoundError: no such file.

    """
    if source == "imagenet":
        load = getattr(model, "load_imagenet", None)
        if load is None:
            raise ValueError(f"{type(model).__name__} has no ImageNet weights to start from")
        return load()
    file = Path(source)
    if not file.is_file():
        raise FileNotFoundError(f"no weights to start from at {file}; expected a .safetensors file of a run, or imagenet")
    own = model.state_dict()
    other = {k: v for k, v in load_file(file).items() if k in own and own[k].shape == v.shape}
    if len(other) < len(own) / 2:  # chance matches, such as counters of batches
        raise ValueError(
            f"{file.name} fits {type(model).__name__} in {len(other)} of {len(own)} tensors only; it is of another network, or of another width"
        )
    model.load_state_dict({k: v.to(own[k].dtype) for k, v in other.items()}, strict=False)
    return sorted(set(own) - set(other))
