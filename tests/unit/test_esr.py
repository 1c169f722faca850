"""ESR: sizes against the audit's counts, the vote and its ties, branches added and left out, gates, the authors' files.
"""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ferkit.explain import capture, raw_cam
from ferkit.labels import order
from ferkit.models import FerModel, count_parameters, create_model, load_released, save_weights, summarise

SMALL = {"width": 1 / 16, "num_classes": 8}


def small(**options) -> FerModel:
    torch.manual_seed(0)
    return create_model("esr", **{**SMALL, "branches": 3, **options})


def settled(**options) -> FerModel:
    """With running statistics of real batches: freshly drawn narrow ensembles say nearly the same of every picture."""
    model = small(**options)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    model(pictures(16, seed=7))
    for norm in norms:
        norm.momentum = 0.1
    return model


def pictures(n: int = 2, size: int = 64, seed: int = 1) -> Tensor:
    coarse = torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")


# Counts of the released networks; columns: options, parameters, multiply-adds at 96 px in units of 10**9
SIZES = [
    ({"valence_arousal": True}, 20_349_546, 2.841),
    ({}, 20_349_384, 2.841),
    ({"branches": 15, "valence_arousal": True}, 33_666_054, 3.963),
    ({"branches": 15}, 33_665_784, 3.963),
    ({"attention": "cbam"}, 20_832_332, 2.844),
    ({"attention": "cbam", "branches": 15}, 34_465_676, 3.966),
]


@pytest.mark.parametrize(("options", "parameters", "giga"), SIZES)
def test_parameters_and_multiply_adds(options, parameters, giga):
    with torch.device("meta"):
        model = create_model("esr", num_classes=8, **options)
    assert count_parameters(model) == parameters
    rows = summarise(model)
    assert [row.name for row in rows] == ["base", *(f"branches.{i}" for i in range(len(model.branches)))]
    assert sum(row.params for row in rows) == parameters
    assert abs(sum(row.macs for row in rows) / 1e9 - giga) < 0.001  # the audit rounds some and cuts others


def test_parameters_by_part():
    with torch.device("meta"):
        plain = create_model("esr", num_classes=8, valence_arousal=True)
        cbam = create_model("esr", num_classes=8, attention="cbam")
    assert (count_parameters(plain.base), count_parameters(plain.branches[0])) == (374_784, 2_219_418)
    assert (count_parameters(cbam.base), count_parameters(cbam.branches[8])) == (382_316, 2_272_224)
    gates = [count_parameters(g) for g in (cbam.base.attention1, cbam.base.attention2, cbam.branches[0].attention2)]
    assert gates == [680, 2_284, 8_564]
    assert count_parameters(cbam.branches[0].attention4) == 33_412


def test_grids_at_the_networks_own_size():
    model = small(attention="cbam")
    names = ["base", "branches.0.conv1", "branches.0.attention2", "branches.0.map"]
    with torch.no_grad(), capture(model.eval(), names) as seen:
        model(pictures(1, 96))
    assert [seen[n].shape[2] for n in names] == [20, 18, 8, 6]


def test_smallest_picture_is_54_pixels():
    model = small(attention="cbam").eval()
    with torch.no_grad():
        assert model(pictures(1, 54)).shape == (1, 8)
        with pytest.raises(ValueError, match="at least 54 x 54 pixels .* found 53 x 53"):
            model(pictures(1, 53))
        assert model(torch.rand(1, 3, 70, 120)).shape == (1, 8)


def test_parts_and_their_shapes():
    model = small(attention="cbam", valence_arousal=True).eval()
    with torch.no_grad():
        parts = model.forward_parts(pictures(2, 96))
    assert parts._fields[:2] == ("logits", "features")
    assert parts.features.shape == (2, model.num_features) == (2, 3 * 32)
    assert parts.branch_logits.shape == (3, 2, 8) and parts.valence_arousal.shape == (3, 2, 2)
    assert parts.spatial_gates.shape == (3, 2, 6, 6) and parts.channel_gates.shape == (3, 2, 32)
    plain = small().forward_parts(pictures(2))
    assert plain.spatial_gates is plain.channel_gates is plain.valence_arousal is None


def test_gates_are_readable_by_name_and_are_what_multiplies():
    model = small(attention="cbam").eval()
    at = "branches.1.attention4"
    with torch.no_grad(), capture(model, [at, f"{at}.channel_gate", f"{at}.spatial_gate", "branches.1.bn4"]) as seen:
        parts = model.forward_parts(pictures(2, 96))
    channel, spatial = seen[f"{at}.channel_gate"], seen[f"{at}.spatial_gate"]
    assert channel.shape == (2, 32, 1, 1) and spatial.shape == (2, 1, 6, 6)
    assert torch.equal(parts.channel_gates[1], channel[:, :, 0, 0]) and torch.equal(
        parts.spatial_gates[1], spatial[:, 0]
    )
    assert 0 < channel.min() and channel.max() < 1 and 0 < spatial.min() and spatial.max() < 1
    assert torch.equal(seen[at].map, seen["branches.1.bn4"].relu() * channel * spatial)


def test_valence_and_arousal_come_from_the_rectified_logits():
    model = small(valence_arousal=True).eval()
    with torch.no_grad():
        parts = model.forward_parts(pictures())
        by_hand = model.branches[2].fc_dimensional(parts.branch_logits[2].relu())
    assert torch.equal(parts.valence_arousal[2], by_hand)


# --- the decision


def one_hot_votes(votes: list[int], classes: int = 8) -> Tensor:
    """Branch logits (L, 1, K) of branches that vote like this."""
    return 3.0 * nn.functional.one_hot(torch.tensor(votes), classes).float()[:, None]


@pytest.mark.parametrize(
    ("votes", "winner"),
    [
        ([5, 5, 2], 5),
        ([7, 2, 5], 2),
        ([6, 1, 6, 1], 1),
        ([4, 4, 3, 3, 7, 7, 0], 3),
        ([7] * 4 + [6] * 4 + [0], 6),
        ([3], 3),
    ],
)
def test_most_votes_win_and_ties_go_to_the_lowest_index(votes, winner):
    model = small()
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        logits = model.decide(one_hot_votes(votes).to(dtype))
        assert logits.shape == (1, 8) and logits.argmax().item() == winner
        assert np.argmax(logits.softmax(1).float().numpy()) == winner


def test_the_vote_is_the_histogram_for_any_branches():
    model = small()
    for n in (2, 9, 15):
        branch_logits = torch.randn(n, 500, 8, generator=torch.Generator().manual_seed(n))
        votes = branch_logits.argmax(-1).T.numpy()  # (500, n)
        counts = np.stack([np.bincount(row, minlength=8) for row in votes])
        found = model.decide(branch_logits)
        assert (found.argmax(1).numpy() == counts.argmax(1)).all()
        assert np.abs(found.softmax(1).numpy() - counts / n).max() < 2e-6
        tied = (counts == counts.max(1, keepdims=True)).sum(1) > 1
        assert 0.1 < tied.mean() < 0.95  # the rule was needed


def test_mean_is_the_mean_probability():
    model = small(decision="mean")
    branch_logits = 4 * torch.randn(5, 20, 8, generator=torch.Generator().manual_seed(0))
    wanted = branch_logits.softmax(-1).mean(0)
    assert torch.allclose(model.decide(branch_logits).softmax(1), wanted, atol=1e-6)
    assert torch.isfinite(model.decide(1e4 * branch_logits)).all()


def test_the_two_decisions_differ_where_one_branch_is_sure():
    branch_logits = torch.tensor([[[0.0, 9.0]], [[0.2, 0.0]], [[0.2, 0.0]]])
    assert small(num_classes=2).decide(branch_logits).argmax() == 0
    assert small(num_classes=2, decision="mean").decide(branch_logits).argmax() == 1


def test_votes_carry_the_gradient_of_the_mean_log_probability():
    model = small()
    branch_logits = torch.randn(3, 4, 8, requires_grad=True)
    (found,) = torch.autograd.grad(model.decide(branch_logits)[:, 2].sum(), branch_logits)
    (wanted,) = torch.autograd.grad(branch_logits.log_softmax(-1).mean(0)[:, 2].sum(), branch_logits)
    assert torch.equal(found, wanted) and found.abs().max() > 0.01
    with torch.no_grad():
        assert torch.equal(model.decide(branch_logits), model.decide(branch_logits.detach().clone()))


def test_votes_can_be_explained_on_the_base_and_on_a_branch():
    model = settled(attention="cbam")
    images = (255 * pictures(2).numpy()).astype(np.uint8)
    whole = raw_cam(model, images, target=3)
    assert whole.shape == (2, 20, 20) and np.abs(whole).max() > 0
    single = raw_cam(model, images, target=3, layer="branches.2.map")
    assert single.shape == (2, 6, 6) and np.abs(single).max() > 0


# --- branches


def test_an_early_exit_is_the_ensemble_of_the_first_branches():
    model = settled(branches=5, attention="cbam").eval()
    shorter = small(branches=3, attention="cbam").eval()
    shorter.load_state_dict(
        {k: v for k, v in model.state_dict().items() if not k.startswith(("branches.3", "branches.4"))}
    )
    x = pictures(6)
    for decision in ("plurality", "mean"):
        model.decision = shorter.decision = decision
        with torch.no_grad():
            exit3, whole, wanted = model.forward_parts(x, n=3), model.forward_parts(x), shorter.forward_parts(x)
        assert all(torch.equal(a, b) for a, b in zip(exit3, wanted, strict=True) if a is not None)
        assert torch.equal(model.decide(whole.branch_logits, 3), wanted.logits)
        assert not torch.equal(whole.logits, wanted.logits)


@pytest.mark.parametrize("n", [0, 4, -1])
def test_an_early_exit_after_no_or_too_many_branches_is_refused(n):
    model = small()
    with pytest.raises(ValueError, match=f"after 1 to 3 branches; found n={n}"):
        model.forward_parts(pictures(), n=n)
    with pytest.raises(ValueError, match=f"after 1 to 3 branches; found n={n}"):
        model.decide(torch.zeros(3, 1, 8), n)


def test_an_added_branch_is_new_and_weights_with_it_load(tmp_path):
    model = settled(branches=1, attention="cbam").double().eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    branch = model.add_branch()
    model.add_branch()
    assert branch is model.branches[1] and len(model.branches) == 3
    assert not branch.training and branch.fc.weight.dtype == torch.float64
    assert not torch.equal(model.branches[1].conv1.weight, model.branches[0].conv1.weight)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())
    assert model.num_features == 3 * 32 and model.spec["options"]["branches"] == 3
    model = model.float()
    file = save_weights(model, tmp_path / "three.safetensors", weights="three")
    back = create_model("esr", weights=file).eval()
    assert len(back.branches) == 3 and back.spec == model.spec
    with torch.no_grad():
        assert torch.equal(back.forward_parts(pictures()).branch_logits, model.forward_parts(pictures()).branch_logits)
    with pytest.raises(ValueError, match="branches=3, not 2"):
        create_model("esr", weights=file, branches=2)


def test_evaluation_mode_reaches_the_branches():
    """In the released code it does not: predictions there depend on what else is in the batch."""
    model = settled().eval()
    assert not any(m.training for m in model.modules())
    x = pictures(4)
    with torch.no_grad():
        logits = model.forward_parts(x).branch_logits[:, :2]
        alone = model.forward_parts(x[:2]).branch_logits
        one = model.forward_parts(x[:1]).branch_logits
        assert (logits[:, 0] - logits[:, 1]).abs().max() > 0.01  # the pictures matter
        assert torch.allclose(logits, alone, atol=1e-6) and torch.allclose(logits[:, :1], one, atol=1e-6)
        for branch in model.branches:
            branch.train()
        assert (
            model.forward_parts(x).branch_logits[:, :2] - model.forward_parts(x[:2]).branch_logits
        ).abs().max() > 1e-3


@pytest.mark.parametrize("attention", [None, "cbam"])
def test_a_step_of_training_lowers_the_loss(attention):
    model = small(attention=attention, valence_arousal=True)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
    x, y = pictures(8), torch.arange(8)

    def loss() -> Tensor:
        parts = model.forward_parts(x)
        affect = parts.valence_arousal.square().mean()
        return affect + torch.stack([nn.functional.cross_entropy(b, y) for b in parts.branch_logits]).sum()

    first = loss()
    first.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    optimiser.step()
    assert 0 < loss().item() < first.item()


def test_labels_are_those_of_the_released_networks():
    assert small().labels == order("affectnet8") == order("esr")
    assert small(num_classes=7).labels == order("rafdb")
    assert small(num_classes=5).labels == ()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"branches": 0}, "1 or more; found branches=0"),
        ({"branches": 2.5}, "1 or more; found branches=2.5"),
        ({"decision": "sum"}, "no decision='sum'; known: plurality, mean"),
        ({"attention": "se"}, "no attention='se'; known: None, cbam"),
    ],
)
def test_bad_options_are_refused(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        small(**options)


# --- the authors' files, in the layout of model/ml/esr_9.py and model/diversified_esr.py


def released_part(
    channels: list[int], kernels: list[int], *, cbam: bool, classes: int | None = None
) -> dict[str, Tensor]:
    """Names and shapes of a released base (no classes) or branch, with random values."""
    state: dict[str, Tensor] = {}
    for i, (a, b, k) in enumerate(zip(channels[:-1], channels[1:], kernels, strict=True), 1):
        state |= {f"conv{i}.weight": torch.randn(b, a, k, k), f"conv{i}.bias": torch.randn(b)}
        state |= {f"bn{i}.{n}": torch.rand(b) for n in ("weight", "bias", "running_mean", "running_var")}
        state[f"bn{i}.num_batches_tracked"] = torch.tensor(5)
        if cbam:
            hidden = max(4, b // 16)
            gate = f"cbam{i}.ChannelGate.mlp"
            state |= {f"{gate}.1.weight": torch.randn(hidden, b), f"{gate}.1.bias": torch.randn(hidden)}
            state |= {f"{gate}.3.weight": torch.randn(b, hidden), f"{gate}.3.bias": torch.randn(b)}
            spatial = f"cbam{i}.SpatialGate.spatial"
            state[f"{spatial}.conv.weight"] = torch.randn(1, 2, 7, 7)
            state |= {f"{spatial}.bn.{n}": torch.rand(1) for n in ("weight", "bias", "running_mean", "running_var")}
            state[f"{spatial}.bn.num_batches_tracked"] = torch.tensor(5)
    if classes is not None:
        state |= {"fc.weight": torch.randn(classes, channels[-1]), "fc.bias": torch.randn(classes)}
        state |= {"fc_dimensional.weight": torch.randn(2, classes), "fc_dimensional.bias": torch.randn(2)}
    return state


def released_folder(folder, *, cbam: bool = True, branches: int = 2, classes: int = 8) -> list[dict[str, Tensor]]:
    torch.manual_seed(3)
    states = [released_part([3, 4, 8, 8, 8], [5, 3, 3, 3], cbam=cbam)]
    states += [released_part([8, 8, 16, 16, 32], [3] * 4, cbam=cbam, classes=classes) for _ in range(branches)]
    torch.save(states[0], folder / "Net-Base-Shared_Representations.pt")
    for i, state in enumerate(states[1:], 1):
        torch.save(state, folder / f"Net-Branch_{i}.pt")
    return states


@pytest.mark.parametrize("cbam", [False, True])
def test_released_files_load(tmp_path, cbam):
    base, _, second = released_folder(tmp_path, cbam=cbam)
    model = small(branches=2, attention="cbam" if cbam else None, valence_arousal=True)
    assert load_released(model, tmp_path) == []
    own = model.state_dict()
    assert torch.equal(own["base.conv1.weight"], base["conv1.weight"])
    assert torch.equal(own["branches.1.bn4.running_var"], second["bn4.running_var"])
    assert torch.equal(own["branches.1.fc_dimensional.weight"], second["fc_dimensional.weight"])
    if cbam:
        gate, released = "branches.1.attention4", "cbam4"
        assert torch.equal(own[f"{gate}.channel_gate.mlp.0.weight"], second[f"{released}.ChannelGate.mlp.1.weight"])
        assert torch.equal(own[f"{gate}.channel_gate.mlp.2.bias"], second[f"{released}.ChannelGate.mlp.3.bias"])
        assert torch.equal(
            own[f"{gate}.spatial_gate.conv.weight"], second[f"{released}.SpatialGate.spatial.conv.weight"]
        )
        assert torch.equal(
            own[f"{gate}.spatial_gate.bn.running_mean"], second[f"{released}.SpatialGate.spatial.bn.running_mean"]
        )


def test_released_files_for_fewer_branches_other_classes_and_blue_green_red(tmp_path):
    base, *_ = released_folder(tmp_path)
    model = small(branches=1, attention="cbam", num_classes=7)
    fresh = model.branches[0].fc.weight.clone()
    assert load_released(model, tmp_path, bgr=True) == ["branches.0.fc.weight", "branches.0.fc.bias"]
    assert torch.equal(model.branches[0].fc.weight, fresh)
    assert torch.equal(model.base.conv1.weight, base["conv1.weight"][:, [2, 1, 0]])


def test_files_of_another_network_change_nothing(tmp_path):
    released_folder(tmp_path, cbam=False)
    model = small(branches=2, attention="cbam")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"is not of this network: no base.attention1.channel_gate.* and \d+ more"):
        load_released(model, tmp_path)
    with pytest.raises(FileNotFoundError, match="lacks branches: found 2, the network has 3"):
        load_released(small(branches=3), tmp_path)
    with pytest.raises(ValueError, match=r"conv1.weight \(4, 3, 5, 5\) instead of \(8, 3, 5, 5\)"):
        load_released(small(branches=2, width=1 / 8), tmp_path)
    broken = torch.load(tmp_path / "Net-Branch_2.pt")
    torch.save({**broken, "conv9.weight": torch.zeros(1)}, tmp_path / "Net-Branch_2.pt")
    plain = small(branches=2)
    start = {k: v.clone() for k, v in plain.state_dict().items()}
    with pytest.raises(ValueError, match="conv9.weight which the network lacks"):
        load_released(plain, tmp_path)
    for network, state in ((model, before), (plain, start)):
        assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items())


class Surprise:
    """Not a tensor: a file that holds one could run anything when read without care."""


def test_files_with_more_than_tensors_are_refused(tmp_path):
    released_folder(tmp_path, cbam=False)
    for content, complaint in ((Surprise(), "holds no state dict"), ([1, 2], "holds no state dict")):
        torch.save(content, tmp_path / "Net-Branch_1.pt")
        with pytest.raises(ValueError, match=complaint):
            load_released(small(branches=2), tmp_path)
