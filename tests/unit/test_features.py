"""Features and their layouts: the vectors are those the network decides on, and PCA is a straight view."""

import sys

import numpy as np
import pytest
import torch

from ferkit.explain import features, features_of, project
from ferkit.models import create_model
from ferkit.predict import predict_logits

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 64, 64)).astype(np.uint8)


def three_groups(n: int = 30, d: int = 12, apart: float = 8.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], n)
    return (rng.normal(size=(3 * n, d)) + apart * rng.normal(size=(3, d))[labels]).astype(np.float32), labels


def nearest_is_of_the_group(points: np.ndarray, labels: np.ndarray) -> float:
    distances = np.linalg.norm(points[:, None] - points[None], axis=2) + np.diag(np.full(len(points), np.inf))
    return float((labels[distances.argmin(1)] == labels).mean())


def test_features_are_what_enters_the_head() -> None:
    torch.manual_seed(0)
    net = create_model("resemotenet", width=1 / 8, head="linear").train()
    f = features_of(net, IMAGES, batch_size=3)
    assert f.shape == (7, net.num_features) and f.dtype == np.float32 and f.std() > 0
    assert net.training
    with torch.no_grad():
        logits = net.eval().forward_head(torch.from_numpy(f))
    np.testing.assert_allclose(logits, predict_logits(net, IMAGES), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "options"), [("esr", {"branches": 2}), ("manet", {}), ("lfnsb", {})])
def test_networks_with_several_outputs(name: str, options: dict) -> None:
    net = create_model(name, width=1 / 16, **options)
    assert features_of(net, IMAGES[:2]).shape == (2, net.num_features)


def test_pca_is_a_straight_view() -> None:
    x, labels = three_groups()
    view = project(x)
    assert view.points.shape == (90, 2) and view.points.dtype == np.float32
    np.testing.assert_allclose(view.points.mean(0), 0, atol=1e-4)
    on_paper, in_space = (np.linalg.norm(v[:, None] - v[None], axis=2) for v in (view.points, x))
    assert (on_paper <= in_space + 1e-3).all()
    np.testing.assert_allclose(view.place(x), view.points, atol=1e-3)
    # the mean of a class on paper is the class's mean seen on paper, so centres may be drawn as means
    np.testing.assert_allclose(view.place(x[labels == 1].mean(0)[None])[0], view.points[labels == 1].mean(0), atol=1e-3)
    shares = np.linalg.svd(x - x.mean(0), compute_uv=False) ** 2
    assert view.axes[0] == f"component 1: {shares[0] / shares.sum():.0%} of the variance"
    assert nearest_is_of_the_group(view.points, labels) > 0.95


def test_tsne_keeps_neighbours_and_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = three_groups(n=8)
    view = project(x, method="tsne")
    assert view.points.shape == (24, 2) and nearest_is_of_the_group(view.points, labels) > 0.9
    # the check can fail
    assert nearest_is_of_the_group(view.points, np.random.default_rng(0).permutation(labels)) < 0.7
    with pytest.raises(ValueError, match="t-SNE has no place"):
        view.place(x[:1])
    monkeypatch.setattr(features, "_tsne", lambda *_: pytest.fail("computed again"))
    assert project(x.copy(), method="tsne") is view
    with pytest.raises(pytest.fail.Exception):
        project(x + 1, method="tsne")


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "_layouts", {})
    monkeypatch.setattr(features, "_tsne", lambda x, seed: features.Projection(x[:, :2], ("", ""), None))
    x, _ = three_groups(n=2)
    for seed in range(20):
        project(x, method="tsne", seed=seed)
    assert len(features._layouts) == 8 and {k[1] for k in features._layouts} == set(range(12, 20))


def test_umap_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    x, _ = three_groups(n=4)
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ImportError, match="pip install umap-learn.*pca and tsne work without"):
        project(x, method="umap")

    class Umap:
        def __init__(self, *, n_neighbors: int, random_state: int, n_jobs: int) -> None:
            assert (n_neighbors, random_state, n_jobs) == (11, 3, 1)

        def fit(self, x: np.ndarray) -> "Umap":
            self.embedding_ = x[:, :2]
            return self

        def transform(self, x: np.ndarray) -> np.ndarray:
            return x[:, :2]

    monkeypatch.setitem(sys.modules, "umap", type("umap", (), {"UMAP": Umap}))
    monkeypatch.setattr(features, "_layouts", {})
    view = project(x, method="umap", seed=3)
    assert view.axes == ("UMAP 1", "UMAP 2")
    np.testing.assert_array_equal(view.place(x[:2]), x[:2, :2])


def test_bad_input_is_one_sentence() -> None:
    with pytest.raises(ValueError, match="known: pca, tsne, umap"):
        project(np.eye(5), method="PCA")
    with pytest.raises(ValueError, match=r"three vectors.*found \(2, 5\)"):
        project(np.eye(5)[:2])
    with pytest.raises(ValueError, match="empty"):
        features_of(create_model("resemotenet", width=1 / 16), IMAGES[:0])
