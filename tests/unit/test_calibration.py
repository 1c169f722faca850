"""Calibration: bins by hand, temperature against its definition."""

import json

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from ferkit import plots
from ferkit.evaluation.calibration import fit_temperature, reliability, temper
from ferkit.evaluation.metrics import cross_entropy, evaluate
from ferkit.runs.publish import calibrate, conformal_record
from ferkit.runs.records import read_record


def test_bins_by_hand():
    p = np.array([[0.9, 0.1], [0.85, 0.15], [0.4, 0.6], [0.5, 0.5]])
    found = reliability(p, np.array([0, 1, 1, 1]), n_bins=2)
    # 0.5 belongs to the lower bin (its upper end); three above it
    assert found.n.tolist() == [1, 3]
    np.testing.assert_allclose(found.confidence, [0.5, (0.9 + 0.85 + 0.6) / 3])
    np.testing.assert_allclose(found.accuracy, [0.0, 2 / 3])


def test_the_bins_give_the_calibration_error_of_evaluate():
    rng = np.random.default_rng(0)
    p = softmax(rng.normal(size=(400, 5)) * 2, axis=1)
    labels = rng.integers(0, 5, 400)
    found = reliability(p, labels)
    error = np.nansum(found.n * np.abs(found.accuracy - found.confidence)) / 400
    assert error == pytest.approx(evaluate(p, labels, list("abcde"))["ece"], abs=1e-6)
    assert np.isnan(found.accuracy[found.n == 0]).all()


@pytest.mark.parametrize("voters", [3, 5, 9, 15, 18])
def test_vote_shares_lie_on_the_ends_of_bins_and_count_alike_everywhere(voters):
    """Shares k/n of n voters, some of them a rounding error off, as a mean over copies or a float32 file leaves them.
    """
    rng = np.random.default_rng(voters)
    share = rng.integers(voters // 2 + 1, voters + 1, 600) / voters
    labels = (rng.random(600) > 0.7).astype(int)
    error = None
    for nudge in (0.0, 3e-17, -3e-17, 2e-8, -2e-8):
        p = np.stack([share + nudge * rng.random(600), 1 - share - nudge * rng.random(600)], 1)
        bins = reliability(p, labels)
        found = evaluate(p, labels, ["a", "b"], n_bootstrap=5)["ece"]
        assert found == pytest.approx(np.nansum(bins.n * np.abs(bins.accuracy - bins.confidence)) / 600, abs=1e-12)
        assert error is None or found == pytest.approx(error, abs=1e-6)
        error = found
    assert 0.05 < error < 0.6


@pytest.mark.parametrize("excess", [2.3e-16, 1e-7, 1e-4])
def test_probabilities_a_little_above_one_are_no_logits(excess):
    """torchmetrics applies a softmax to what has a value above 1, which turned an error of 0.16 into 0.73."""
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(7, 0.2), 2000)
    p[0], labels = np.eye(7)[0], np.array([rng.choice(7, p=row) for row in p])
    expected = evaluate(p, labels, list("abcdefg"), n_bootstrap=5)["ece"]
    assert expected < 0.1
    assert evaluate(p * (1 + excess), labels, list("abcdefg"), n_bootstrap=5)["ece"] == pytest.approx(
        expected, abs=1e-3
    )


def test_temper_divides_logits():
    logits = np.random.default_rng(1).normal(size=(6, 4)) * 3
    np.testing.assert_allclose(temper(softmax(logits, axis=1), 2.5), softmax(logits / 2.5, axis=1), rtol=1e-10)
    np.testing.assert_allclose(temper(softmax(logits, axis=1), 1.0), softmax(logits, axis=1), rtol=1e-10)
    for wrong in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="above 0"):
            temper(np.eye(2), wrong)


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 3.0])
def test_the_temperature_is_found_again(true_temperature):
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(20_000, 5)) * 2
    labels = (rng.random((20_000, 1)) > softmax(logits, axis=1).cumsum(1)).sum(1)  # drawn from the right probabilities
    said = softmax(logits * true_temperature, axis=1)  # too sure by that factor
    found = fit_temperature(said, labels)
    assert 0.95 < found / true_temperature < 1.05
    best = cross_entropy(temper(said, found), labels)
    assert all(best <= cross_entropy(temper(said, found * off), labels) for off in (0.9, 1.1))


def test_cross_entropy_by_hand():
    logits = np.array([[1.0, 0.0, 2.0], [0.0, 0.0, 0.0]])
    expected = -(log_softmax(logits, axis=1)[[0, 1], [2, 1]]).mean()
    assert cross_entropy(softmax(logits, axis=1), np.array([2, 1])) == pytest.approx(expected)


def test_figures():
    found = reliability(np.array([[0.9, 0.1], [0.3, 0.7]]), np.array([0, 0]), n_bins=4)
    figure = plots.reliability_diagram({"before": found, "after": found})
    assert [ax.get_title(loc="left").split("\n")[0] for ax in figure.axes[:2]] == ["before", "after"]
    assert "0.400" in figure.axes[0].get_title(loc="left")  # (0.1 + 0.7) / 2
    figure = plots.cost_scatter({"a": (10, 0.5, 0.4, 0.6), "b": (100, 0.4, 0.3, 0.5), "c": (1000, 0.9, 0.8, 1.0)})
    front = next(line for line in figure.axes[0].lines if line.get_label() == "best for its cost")
    assert front.get_xdata().tolist() == [10, 1000]
    with pytest.raises(ValueError, match="costs above 0"):
        plots.cost_scatter({"a": (0, 0.5, 0.4, 0.6)})


def test_conformal_record_measures_what_it_promises():
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.full(7, 0.4), 2400)
    labels = np.array([rng.choice(7, p=row) for row in p])
    parts = {"validation": p[:1200], "validation_labels": labels[:1200], "test": p[1200:], "test_labels": labels[1200:]}
    found = conformal_record(parts, tta="flip")
    assert found["tta"] == "flip" and found["n_validation"] == 1200 and found["level"] == 0.9
    inside = p[1200:] >= found["threshold"]
    assert found["test_coverage"] == pytest.approx(inside[np.arange(1200), labels[1200:]].mean(), abs=0.01)
    low, high = found["test_coverage_interval"]
    assert low < 0.9 < high
    assert json.loads(json.dumps(found)) == found


@pytest.mark.real_data
@pytest.mark.slow
def test_committed_thresholds_come_from_the_validation_images(fer2013_path, monkeypatch):
    record = read_record("resemotenet-teach-fer2013")
    monkeypatch.setattr("ferkit.runs.publish.write_json", lambda file, values: None)  # compare, and write nothing
    found = calibrate("resemotenet-teach-fer2013", data_path=str(fer2013_path))
    assert found["threshold"] == pytest.approx(record["conformal"]["threshold"], abs=1e-4)
    assert found["test_coverage"] == pytest.approx(record["conformal"]["test_coverage"], abs=0.002)
