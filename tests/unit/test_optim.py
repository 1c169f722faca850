"""Optimisers, schedules, class weights and averages against values worked out by hand or printed elsewhere."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.optim import lr_scheduler as schedules

from ferkit.labels import index_map
from ferkit.training.optim import (
    CLASS_WEIGHTS,
    OPTIMIZERS,
    SAM,
    SCHEDULES,
    Schedule,
    averaged,
    class_weights,
    make_optimizer,
)


def parameter(*values: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values, dtype=torch.float64))


# --- optimisers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("sam_rho", [0.0, 0.05])
def test_every_optimizer_finds_a_minimum(name, sam_rho):
    w = parameter(3.0, -2.0)
    optimizer = make_optimizer([w], name=name, lr=0.05, sam_rho=sam_rho)
    assert isinstance(optimizer, SAM) == bool(sam_rho)

    def backward() -> float:
        optimizer.zero_grad()
        loss = ((w - torch.tensor([1.0, 0.5])) ** 2).sum()
        loss.backward()
        return loss.item()

    first = backward()
    for _ in range(300):
        backward()
        if sam_rho:
            optimizer.ascend()
            backward()
        optimizer.step()
    assert backward() < 0.01 < first


def test_unknown_optimizer_lists_the_known_ones():
    with pytest.raises(ValueError, match="no optimizer 'lion'; known: sgd, adam, adamw, radam"):
        make_optimizer([parameter(1.0)], name="lion", lr=0.1)


def test_sgd_is_that_of_the_released_trainer():
    options = make_optimizer([parameter(1.0)], name="sgd", lr=1e-3, weight_decay=1e-4).defaults
    assert (options["lr"], options["momentum"], options["weight_decay"], options["nesterov"]) == (
        1e-3,
        0.9,
        1e-4,
        False,
    )


def test_radam_and_adamw_decay_weights_apart_from_the_gradient():
    for name, decoupled in (("adam", False), ("adamw", True), ("radam", True)):
        w = parameter(2.0)
        optimizer = make_optimizer([w], name=name, lr=0.1, weight_decay=0.5)
        w.grad = torch.zeros_like(w)
        optimizer.step()
        # without a gradient, decoupled decay is exactly w (1 - lr * decay); Adam normalises the decay into a step of lr
        assert w.item() == pytest.approx(2 * (1 - 0.1 * 0.5) if decoupled else 2 - 0.1, abs=1e-6)


def test_sam_by_hand():
    r"""f(w) = w_1^2 + 3 w_2^2 at (1, 2): g = (2, 12), e = rho g / |g|, then w - lr * grad f(w + e)."""
    w = parameter(1.0, 2.0)
    rho, lr = 0.1, 0.01
    optimizer = make_optimizer([w], name="sgd", lr=lr, momentum=0.0, sam_rho=rho)
    curvature = torch.tensor([1.0, 3.0], dtype=torch.float64)
    (curvature * w**2).sum().backward()
    optimizer.ascend()
    norm = math.sqrt(2**2 + 12**2)
    worst = [1 + rho * 2 / norm, 2 + rho * 12 / norm]
    assert w.tolist() == pytest.approx(worst, abs=1e-9)
    optimizer.zero_grad()
    (curvature * w**2).sum().backward()
    optimizer.step()
    assert w.tolist() == pytest.approx([1 - lr * 2 * worst[0], 2 - lr * 6 * worst[1]], abs=1e-9)
    # and not the plain step
    assert abs(w[1].item() - (2 - lr * 12)) > 0.003


def test_sam_measures_the_norm_over_all_parameters_and_returns_exactly():
    a, b = parameter(0.1), parameter(0.3, 0.7)
    optimizer = make_optimizer([a, b], name="sgd", lr=0.0, sam_rho=0.3)
    a.grad, b.grad = torch.full_like(a, 3.0), torch.tensor([0.0, 4.0], dtype=torch.float64)
    optimizer.ascend()
    assert a.item() == pytest.approx(0.1 + 0.3 * 3 / 5) and b[1].item() == pytest.approx(0.7 + 0.3 * 4 / 5)
    optimizer.step()
    assert a.item() == 0.1 and b.tolist() == [0.3, 0.7]


def test_sam_saves_and_loads_the_inner_state():
    def train(w: nn.Parameter, optimizer: SAM, steps: int) -> None:
        for _ in range(steps):
            for ascend in (True, False):
                optimizer.zero_grad()
                (w**4).sum().backward()
                if ascend:
                    optimizer.ascend()
            optimizer.step()

    w = parameter(1.0, -0.5)
    optimizer = make_optimizer([w], name="sgd", lr=0.05, sam_rho=0.05)
    train(w, optimizer, 3)
    state, at = copy.deepcopy(optimizer.state_dict()), w.detach().clone()
    train(w, optimizer, 2)

    other = nn.Parameter(at)
    resumed = make_optimizer([other], name="sgd", lr=0.9, sam_rho=0.05)
    resumed.load_state_dict(state)
    assert resumed.param_groups[0]["lr"] == 0.05
    resumed.param_groups[0]["lr"] = 0.05  # a schedule writes here; it must reach the optimiser that steps
    assert resumed.base.param_groups[0] is resumed.param_groups[0]
    train(other, resumed, 2)
    assert torch.equal(w, other)


# --- schedules ------------------------------------------------------------------------------------------------------


def rates(progress: list[float], **options) -> list[float]:
    optimizer = torch.optim.SGD([parameter(1.0)], lr=2.0)
    schedule = Schedule(optimizer, **{"epochs": 10, **options})
    found = []
    for p in progress:
        schedule.before_step(p)
        found.append(optimizer.param_groups[0]["lr"])
    return found


def test_constant_schedule():
    assert rates([0, 3.7, 9.9], name="constant") == [2.0, 2.0, 2.0]


def test_cosine_schedule():
    assert rates([0, 2.5, 5, 7.5, 10, 12], name="cosine") == pytest.approx(
        [2, 1 + math.sqrt(0.5), 1, 1 - math.sqrt(0.5), 0, 0], abs=1e-12
    )
    assert rates([0, 5, 10], name="cosine", floor=0.1) == pytest.approx([2, 1.1, 0.2])


def test_warm_up_rises_from_zero_and_then_the_schedule_begins():
    assert rates([0, 0.5, 1, 2, 6, 10], name="cosine", warmup=2) == pytest.approx([0, 0.5, 1, 2, 1, 0], abs=1e-12)
    assert rates([0, 1, 2, 9], name="constant", warmup=2) == pytest.approx([0, 1, 2, 2])


def test_step_schedule():
    assert rates([0, 2.99, 3, 5.99, 6, 9], name="step", every=3, drop=0.1) == pytest.approx(
        [2, 2, 0.2, 0.2, 0.02, 0.002]
    )


def test_lfnsb_s_schedules_are_torch_s():
    """At the beginning of each epoch: cosine from 0.01 to 0.004 (main.py@caf8fad), times 0.98 (affectnet.py@caf8fad).
    """
    for options, kind, kind_options in (
        ({"name": "cosine", "floor": 0.4}, schedules.CosineAnnealingLR, {"T_max": 40, "eta_min": 2.0 * 0.4}),
        ({"name": "step", "every": 1, "drop": 0.98}, schedules.ExponentialLR, {"gamma": 0.98}),
    ):
        optimizer = SGD([nn.Parameter(torch.ones(1))], lr=2.0)
        theirs, expected = kind(optimizer, **kind_options), []
        for _ in range(40):
            expected.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            theirs.step()
        assert rates(range(40), epochs=40, **options) == pytest.approx(expected)


def test_plateau_schedule_waits_and_counts_only_real_improvements():
    optimizer = torch.optim.SGD([parameter(1.0)], lr=2.0)
    schedule = Schedule(optimizer, name="plateau", epochs=99, drop=0.1, patience=2)
    found = []
    for metric in (0.5, 0.6, 0.6, 0.59, 0.6, 0.61, 0.61, 0.61, 0.61):
        schedule.before_step(len(found))
        found.append(optimizer.param_groups[0]["lr"])
        schedule.after_epoch(metric)
    # best 0.6 in the 2nd epoch; the 3rd, 4th and 5th are no better: one more than the patience of two
    assert found == pytest.approx([2, 2, 2, 2, 2, 0.2, 0.2, 0.2, 0.2])
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.02)


def test_plateau_schedule_remembers_across_a_checkpoint():
    def run(metrics: list[float], state: dict | None = None, lr: float = 2.0) -> tuple[float, dict]:
        optimizer = torch.optim.SGD([parameter(1.0)], lr=lr)
        schedule = Schedule(optimizer, name="plateau", epochs=99, patience=2)
        if state is not None:
            schedule.load_state_dict(state)
        for metric in metrics:
            schedule.after_epoch(metric)
        return optimizer.param_groups[0]["lr"], schedule.state_dict()

    _, state = run([0.6, 0.6, 0.5])
    assert run([0.6], state)[0] == pytest.approx(0.2)
    assert run([0.6])[0] == 2.0


def test_plateau_does_not_go_below_its_floor():
    optimizer = torch.optim.SGD([{"params": [parameter(1.0)]}, {"params": [parameter(1.0)], "lr": 1e-3}], lr=1e-4)
    schedule = Schedule(optimizer, name="plateau", epochs=99, patience=2, floor=0.01)
    found = []
    for _ in range(20):
        schedule.after_epoch(0.5)
        found.append([group["lr"] for group in optimizer.param_groups])
    assert sorted({round(math.log10(lr), 6) for lr, _ in found}) == [-6, -5, -4]
    assert found[-1] == pytest.approx([1e-6, 1e-5]), "of each group's own first rate"
    free = torch.optim.SGD([parameter(1.0)], lr=1e-4)
    unbounded = Schedule(free, name="plateau", epochs=99, patience=2)
    for _ in range(20):
        unbounded.after_epoch(0.5)
    assert free.param_groups[0]["lr"] < 1e-7


@pytest.mark.parametrize("seed", range(4))
def test_plateau_is_the_residual_masking_network_s(seed):
    """Its trainer steps on 100 - accuracy with a relative threshold of 1e-4;
    one picture of 3,589 is always more than that.
    """
    rng = np.random.default_rng(seed)
    right = np.clip(2000 + 200 * np.log1p(np.arange(60)) + rng.normal(0, 40, 60), 0, 3589).astype(int)
    theirs = torch.optim.SGD([parameter(1.0)], lr=1e-4)
    released = torch.optim.lr_scheduler.ReduceLROnPlateau(
        theirs, mode="min", factor=0.1, patience=2, min_lr=1e-6, threshold=1e-4, threshold_mode="rel"
    )
    mine = torch.optim.SGD([parameter(1.0)], lr=1e-4)
    schedule = Schedule(mine, name="plateau", epochs=60, drop=0.1, patience=2, floor=0.01)
    rates = []
    for k in right.tolist():
        released.step(100 - 100 * k / 3589)
        schedule.after_epoch(k / 3589)
        rates.append((theirs.param_groups[0]["lr"], mine.param_groups[0]["lr"]))
    assert [a for a, _ in rates] == pytest.approx([b for _, b in rates], rel=1e-9)
    assert rates[-1][0] < 1e-4


def test_schedules_reach_the_optimizer_inside_sam():
    for name in SCHEDULES:
        optimizer = make_optimizer([parameter(1.0)], name="sgd", lr=1.0, sam_rho=0.1)
        schedule = Schedule(optimizer, name=name, epochs=10, patience=0, every=5)
        for epoch in range(9):
            schedule.before_step(epoch)
            schedule.after_epoch(0.5)
        assert (optimizer.base.param_groups[0]["lr"] < 0.5) == (name != "constant")


def test_schedule_errors():
    with pytest.raises(ValueError, match="no schedule 'poly'; known: constant, cosine, plateau, step"):
        rates([0], name="poly")
    with pytest.raises(ValueError, match="plateau schedule has no warm-up"):
        rates([0], name="plateau", warmup=1)


# --- class weights --------------------------------------------------------------------------------------------------

# Training counts of Table II in the papers' alphabetical order, and N / (7 n_c) in the order of ResEmoteNet's
# repository.
TABLE_II = {
    "FER2013": ([3995, 436, 4097, 7215, 4965, 4830, 3171], [0.5684, 1.2934, 0.8491, 1.0266, 9.4066, 1.0010, 0.8260]),
    "RAF-DB": ([705, 717, 281, 4772, 2524, 1982, 1290], [0.3674, 1.3589, 0.8845, 2.4865, 2.4449, 6.2384, 0.6945]),
    "AffectNet-7": (
        [24882, 3803, 6378, 134415, 74874, 25459, 14090],
        [0.3017, 2.8784, 1.5930, 1.6300, 10.6646, 6.3589, 0.5417],
    ),
    "ExpW": ([2569, 2796, 761, 21375, 24418, 7391, 4943], [0.4294, 1.8570, 1.2419, 3.5730, 3.2829, 12.0618, 0.3759]),
}


@pytest.mark.parametrize("dataset", TABLE_II)
def test_balanced_weights(dataset):
    alphabetical, expected = TABLE_II[dataset]
    counts = np.zeros(7)
    counts[list(index_map("papers", "resemotenet"))] = alphabetical
    weights = class_weights(counts, "balanced")
    assert weights.dtype == torch.float32
    assert weights.tolist() == pytest.approx(expected, abs=5.1e-5)


def test_other_weights():
    counts = np.array([10, 30, 60])
    assert class_weights(counts, "one_minus_frequency").tolist() == pytest.approx([0.9, 0.7, 0.4])
    assert class_weights(counts, "none") is None
    # Cui et al., equation 5: (1 - beta) / (1 - beta^n), here scaled to mean 1
    raw = [(1 - 0.99) / (1 - 0.99**n) for n in (10, 30, 60)]
    assert class_weights(counts, "effective_number", beta=0.99).tolist() == pytest.approx(
        [3 * w / sum(raw) for w in raw]
    )
    assert class_weights(np.full(3, 50), "effective_number").tolist() == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("kind", CLASS_WEIGHTS[1:])
def test_rare_classes_weigh_more_and_absent_ones_nothing(kind):
    weights = class_weights(np.array([500, 100, 0, 20]), kind)
    assert torch.isfinite(weights).all()
    assert weights[2] == 0
    assert 0 < weights[0] < weights[1] < weights[3]


def test_unknown_weighting_lists_the_known_ones():
    with pytest.raises(ValueError, match="no class weighting 'focal'; known: none, balanced"):
        class_weights(np.ones(3), "focal")


# --- averaged weights -----------------------------------------------------------------------------------------------


def test_average_by_hand():
    """Weights 0, 1, 2, ...: the decay is min(decay, (1 + n) / (10 + n)) after n averages; the first update copies."""
    model = nn.Linear(1, 1, bias=False)
    average = averaged(model, 0.25)
    expected = None
    for n in range(6):
        with torch.no_grad():
            model.weight.fill_(float(n))
        average.update_parameters(model)
        decay = min(0.25, (1 + n) / (10 + n))
        expected = float(n) if expected is None else decay * expected + (1 - decay) * n
        assert average.module.weight.item() == pytest.approx(expected, rel=1e-6)
    assert 4.5 < average.module.weight.item() < 5


def test_average_covers_batch_norm_statistics_and_survives_a_checkpoint():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average, again = averaged(model, 0.9), averaged(model, 0.9)
    for step in range(5):
        model(torch.randn(8, 3, generator=torch.Generator().manual_seed(step)))
        average.update_parameters(model)
        if step == 2:
            again.load_state_dict(copy.deepcopy(average.state_dict()))
        elif step > 2:
            again.update_parameters(model)
    assert not torch.equal(average.module[1].running_mean, model[1].running_mean)
    assert (average.module[1].running_mean - model[1].running_mean).abs().max() < 0.2
    for a, b in zip(average.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)
