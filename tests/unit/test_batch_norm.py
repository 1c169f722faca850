"""Batch normalisation over several processes: every kind of layer that a network here has, and timm's with activations.
"""

import copy
import inspect
from pathlib import Path

import pytest
import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import nn

from ferkit.models import create_model
from ferkit.models.attention import BAM
from ferkit.training.distributed import GlobalBatchNorm, OnGpus, synchronised_batch_norm
from tests.unit.children import run_children


def compare_whole_networks(folder: Path) -> None:
    """Every network with batch normalisation beside BatchNorm2d gives the statistics of one process,
    also with one picture here.
    """
    from accelerate import Accelerator

    rank = Accelerator(cpu=True).process_index
    mine = slice(0, 3) if rank == 0 else slice(3, 4)
    for layer, shape in (
        (nn.BatchNorm1d(3), (4, 3)),
        (nn.BatchNorm1d(3, momentum=None), (4, 3, 5)),
        (BatchNormAct2d(3, act_layer=nn.SiLU), (4, 3, 6, 5)),
        (BAM(32), (4, 32, 6, 5)),
    ):
        torch.manual_seed(1)
        x, reference = torch.randn(shape), copy.deepcopy(layer)
        expected = reference(x)
        restore = synchronised_batch_norm(layer)
        for _ in range(2):  # a second step: the cumulative momentum divides by the number of steps
            found = layer(x[mine])
        reference(x)
        restore()
        assert torch.allclose(found, expected[mine], atol=1e-4), type(layer)
        for (name, a), b in zip(layer.named_buffers(), reference.buffers(), strict=True):
            assert torch.allclose(a.double(), b.double(), rtol=1e-4, atol=1e-5), (type(layer), name)
    for name in ("efficientnet_b2", "cbam_resnet50", "bam_resnet50"):
        with torch.device("meta"):
            model = create_model(name)
        layers = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        kinds = [type(m) for m in layers]
        restore = synchronised_batch_norm(model)
        assert len(layers) >= 65 and all(isinstance(m, GlobalBatchNorm) for m in layers), name
        restore()
        assert [type(m) for m in layers] == kinds
    (folder / str(rank)).touch()


@pytest.mark.slow
def test_every_kind_of_batch_normalisation_over_two_processes(tmp_path):
    assert run_children(compare_whole_networks, tmp_path, processes=2) == [0, 0]
    assert {p.name for p in tmp_path.iterdir()} == {"0", "1"}


def test_torch_s_kernels_for_gpus_take_what_they_are_given():
    """No GPU in the tests: at least the order of the arguments is the one that `global_batch_norm` uses."""
    expected = "self, input, weight, bias, running_mean, running_var, eps, momentum, process_group, world_size"
    assert ", ".join(inspect.signature(OnGpus.forward).parameters) == expected
