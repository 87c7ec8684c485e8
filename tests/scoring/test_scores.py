"""Scores against a reading of their equations in float64, and what a trial records of them."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import EmpiricalCovariance
from sklearn.metrics import roc_auc_score
from torch import nn

from trainables.data.augment import normalise
from trainables.data.kept import ImageSet
from trainables.data.trial_data import Samples, build
from trainables.models.output import Output
from trainables.one_trial import Report, run_trial
from trainables.protocols.protocols import UNKNOWN
from trainables.scoring.evaluation import forward, score_samples
from trainables.scoring.extra_scores import Mahalanobis, extra_scores, perturbed
from trainables.scoring.measured import metrics_of
from trainables.scoring.scores import SCORES, energy, feature_norm, mean_cosine, mls, msp
from trainables.settings.config import TrialConfig
from trainables.settings.resolving import resolve

CPU = torch.device("cpu")
ALWAYS = {"msp", "mls", "energy", "feature_norm"}


@pytest.mark.parametrize("scale", [1, 30, 1e4])
def test_scores_of_logits_by_their_equations(scale: float) -> None:
    logits = np.random.default_rng(0).normal(size=(50, 6)) * scale
    for i, row in enumerate(logits):
        top = max(row)
        total = math.fsum(math.exp(z - top) for z in row)
        assert msp(logits)[i] == pytest.approx(1 / total, rel=1e-12)
        assert mls(logits)[i] == top
        assert energy(logits)[i] == pytest.approx(top + math.log(total), rel=1e-12)
    assert {"msp": msp, "mls": mls, "energy": energy} == SCORES


def test_feature_norm_by_its_equation() -> None:
    features = np.random.default_rng(0).normal(size=(50, 7))
    features[3] = 0
    assert feature_norm(features) == pytest.approx([math.sqrt(math.fsum(f * f for f in row)) for row in features])


def test_mean_cosine_is_the_mean_over_all_pairs() -> None:
    rng = np.random.default_rng(0)
    unknown, known = rng.normal(size=(20, 5)), rng.normal(1, 1, (30, 5))
    unknown[2] = known[4] = 0  # torch gives such a pair 0, and it counts as a pair
    pairs = torch.cosine_similarity(torch.tensor(unknown)[:, None], torch.tensor(known)[None], dim=2).numpy()
    assert mean_cosine(unknown, known) == pytest.approx(pairs.mean(axis=1), abs=1e-12)
    assert mean_cosine(np.zeros((3, 5)), known).tolist() == [0, 0, 0]
    assert np.isnan(mean_cosine(unknown, known[:0])).all()


class Tiny(nn.Module):
    """Two smooth layers, whose features are the hidden units; their scale keeps the softmax off its limits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.head = nn.Linear(3 * 4 * 4, 8), nn.Linear(8, 3)

    def forward(self, images_BCHW: torch.Tensor) -> Output:
        features_BC = torch.tanh(self.hidden(images_BCHW.flatten(1)))
        logits_BK = self.head(features_BC)
        return Output(logits_BK, features_BC, logits_BK[:, :, None, None])


def images(count: int, classes: int = 3, seed: int = 0) -> Samples:
    rng = np.random.default_rng(seed)
    pixels, labels = rng.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8), np.arange(count) % classes
    source = ImageSet("noise", pixels, labels, np.arange(count), "noise", 0, "drawn here")
    return Samples(source, np.arange(count), labels)


def unknown_images(count: int) -> Samples:
    source = images(count, seed=1).source
    return Samples(source, np.arange(count), np.full(count, UNKNOWN))


def config(**settings: object) -> TrialConfig:
    return resolve({"method": "plain", "batch_size": 4, **settings})


def score(name: str, samples: Samples, **settings: object) -> np.ndarray:
    model = Tiny()
    scorer = extra_scores([name], config(**settings), model, images(30), CPU)[name]
    return np.asarray(scorer(samples, forward(model, samples, CPU, "fp32")[1], "test")[name])


@pytest.mark.parametrize(("temperature", "epsilon"), [(1000.0, 0.0014), (1.0, 0.1), (2.0, 0.0)])
def test_odin_by_its_equations_one_image_at_a_time(temperature: float, epsilon: float) -> None:
    samples = images(10)  # batches of 4 leave a last one of 2
    exact = Tiny().double()
    expected = []
    for image in normalise(torch.from_numpy(samples.source.images)).double():
        x = image[None].clone().requires_grad_()
        probability = torch.softmax(exact(x).logits_BK / temperature, dim=1)[0]
        (-torch.log(probability[probability.argmax()])).backward()
        assert x.grad is not None
        moved = x.detach() - epsilon / 0.25 * torch.sign(x.grad)  # a pixel of 0..1 in units of its standard deviation
        expected.append(torch.softmax(exact(moved).logits_BK / temperature, dim=1).max().item())
    found = score("odin", samples, odin_temperature=temperature, odin_epsilon=epsilon)
    assert found == pytest.approx(expected, rel=1e-6)
    if epsilon == 0:
        logits, *_ = forward(Tiny(), samples, CPU, "fp32")
        assert found == pytest.approx(msp(logits.astype(np.float64) / temperature), rel=1e-6)


def test_the_perturbation_is_a_step_of_epsilon_that_raises_the_score() -> None:
    model = Tiny()
    before = normalise(torch.from_numpy(images(10).source.images))
    kept = before.clone()
    after = perturbed(model, before, 1.0, 0.01)
    assert torch.equal(before, kept)
    assert (after - before).abs().numpy() == pytest.approx(0.01, abs=1e-6)
    confidence = [torch.softmax(model(x).logits_BK, dim=1).amax(dim=1) for x in (before, after)]
    assert (confidence[1] > confidence[0]).all()
    assert all(p.grad is None for p in model.parameters())


def test_odin_leaves_the_network_in_train_mode_and_its_last_digits_untied() -> None:
    model, samples = Tiny(), images(200)
    scorer = extra_scores(["odin"], config(), model, samples, CPU)["odin"]
    values = np.asarray(scorer(samples, np.zeros((200, 8), np.float32), "test")["odin"])
    assert model.training
    assert len(np.unique(values)) == 200


def by_scipy(features: np.ndarray, labels: np.ndarray, seen: np.ndarray) -> list[float]:
    means = {k: features[labels == k].mean(axis=0) for k in np.unique(labels)}
    centred = features - np.stack([means[k] for k in labels])
    precision = EmpiricalCovariance(assume_centered=True).fit(centred).precision_
    return [-min(mahalanobis(f, mean, precision) ** 2 for mean in means.values()) for f in seen]


@pytest.mark.parametrize(
    ("samples", "channels", "classes"), [(200, 6, 3), (200, 6, 1), (12, 20, 3), (5, 5, 4)], ids=str
)
def test_mahalanobis_equals_scipy_with_scikit_learns_covariance(samples: int, channels: int, classes: int) -> None:
    """With fewer samples than channels too, where the covariance has no inverse."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(channels, channels))
    labels = np.arange(samples) % classes
    features = rng.normal(size=(samples, channels)) @ mix + 3 * rng.normal(size=(classes, channels))[labels]
    seen = rng.normal(size=(30, channels)) @ mix
    found = Mahalanobis.fit(features, labels).score(seen)
    assert found == pytest.approx(by_scipy(features, labels, seen), rel=1e-6)
    assert (found <= 0).all()


def test_a_constant_channel_says_nothing() -> None:
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(60, 4)).astype(np.float32), np.arange(60) % 3
    seen = rng.normal(size=(10, 4))
    dead = np.full((60, 1), 0.1, dtype=np.float32)
    with_dead = Mahalanobis.fit(np.hstack([features, dead]), labels).score(np.hstack([seen, rng.normal(size=(10, 1))]))
    assert with_dead == pytest.approx(Mahalanobis.fit(features, labels).score(seen), rel=1e-9)


@pytest.mark.parametrize("features", [np.full((6, 4), 0.1), np.eye(6)], ids=["all equal", "one sample a class"])
def test_without_any_variance_all_samples_score_alike(features: np.ndarray) -> None:
    fitted = Mahalanobis.fit(features, np.arange(6))
    assert not fitted.score(np.random.default_rng(0).normal(size=(9, features.shape[1]))).any()


def test_mahalanobis_is_fitted_to_the_training_features() -> None:
    train, seen = images(30), images(10, seed=2)
    features = forward(Tiny(), train, CPU, "fp32")[1].astype(np.float64)
    seen_features = forward(Tiny(), seen, CPU, "fp32")[1].astype(np.float64)
    assert score("mahalanobis", seen) == pytest.approx(by_scipy(features, train.labels, seen_features), rel=1e-6)


@pytest.mark.parametrize("k", [1, 7, 30, 50])
def test_the_neighbour_score_is_minus_the_distance_to_the_kth_training_feature(k: int) -> None:
    train, seen = images(30), images(10, seed=2)
    unit_train, unit_seen = (
        np.stack(
            [f / math.sqrt(math.fsum(v * v for v in f)) for f in forward(Tiny(), of, CPU, "fp32")[1].astype(float)]
        )
        for of in (train, seen)
    )
    expected = [-sorted(math.dist(f, t) for t in unit_train)[min(k, 30) - 1] for f in unit_seen]
    assert score("knn", seen, knn_k=k) == pytest.approx(expected, abs=1e-9)


def test_distances_to_neighbours_are_recorded_of_validation_samples_alone(tmp_path: Path) -> None:
    trial(tmp_path, pseudo_unknown=0, test=True, score="knn", epochs=1)
    table = pd.read_parquet(tmp_path / "scores.parquet")
    assert table["knn"].notna().all()
    of_val = table["part"] == "val"
    distances = np.stack(table.loc[of_val, "neighbours"].to_list()).astype(float)
    assert -distances[:, 49] == pytest.approx(table.loc[of_val, "knn"], rel=1e-6)
    assert table.loc[~of_val, "neighbours"].isna().all()


def test_far_blobs_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    centres = 8 * np.eye(3, 5)
    labels = rng.integers(0, 3, 600)
    train, known = (centres[labels] + rng.normal(size=(600, 5)) for _ in range(2))
    unknown = 8 * np.eye(5)[3] + rng.normal(size=(400, 5))
    truth = np.r_[np.ones(600), np.zeros(400)]
    fitted = Mahalanobis.fit(train, labels)
    assert roc_auc_score(truth, fitted.score(np.vstack([known, unknown]))) > 0.99
    logits = np.vstack([known, unknown]) @ centres.T
    assert roc_auc_score(truth, energy(logits)) > 0.99
    assert roc_auc_score(truth, mls(logits)) > 0.99


def test_feature_cosine_is_the_mean_over_all_known_unknown_pairs() -> None:
    sets = {"known": images(30), "other": unknown_images(20)}
    table = score_samples(Tiny(), "test", sets, CPU, "fp32")
    known, unknown = (torch.from_numpy(forward(Tiny(), s, CPU, "fp32")[1]).double() for s in sets.values())
    pairs = [torch.cosine_similarity(k, u, dim=0).item() for k in known for u in unknown]
    metrics = metrics_of(table, "test", 3, "msp")
    assert metrics["test/other/feature_cosine"] == pytest.approx(np.mean(pairs), abs=1e-9)


def test_without_known_samples_there_is_a_table_and_no_metric() -> None:
    table = score_samples(Tiny(), "val", {"pseudo-unknown": unknown_images(20)}, CPU, "fp32")
    assert table["known_cosine"].isna().all()
    assert metrics_of(table, "val", 3, "msp") == {}


def test_scores_of_logits_follow_from_the_logits_column() -> None:
    table = score_samples(Tiny(), "test", {"known": images(30)}, CPU, "fp32")
    logits = np.stack(table["logits"].to_list()).astype(np.float64)
    for name, function in SCORES.items():
        assert np.array_equal(table[name], function(logits))


def test_features_that_are_not_finite_are_refused() -> None:
    model = Tiny()
    nn.init.constant_(model.hidden.weight, float("nan"))
    with pytest.raises(FloatingPointError, match="features are not finite"):
        extra_scores(["mahalanobis"], config(), model, images(30), CPU)


def trial(out: Path, **settings: object) -> list[Report]:
    base = {"protocol": "digits", "backbone": "wrn10-1", "epochs": 2, "batch_size": 64, "images_per_class": 30}
    validation = {"holdout": 0.2, "pseudo_unknown": 2, "test": False}
    resolved = config(**{**base, **validation, **settings})
    return list(run_trial(resolved, build(resolved, Path("no data needed")), CPU, out))


def scored(metrics: dict[str, float]) -> set[str]:
    return {name.split("/")[2] for name in metrics if name.startswith("val/pseudo-unknown/") and name.count("/") == 3}


def test_scores_on_request_are_absent_by_default(tmp_path: Path) -> None:
    first, last = trial(tmp_path)
    assert scored(first.metrics) == scored(last.metrics) == ALWAYS
    assert not {"odin", "mahalanobis"} & set(pd.read_parquet(tmp_path / "scores.parquet"))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_extra_scores_are_computed_after_the_last_epoch(precision: str, tmp_path: Path) -> None:
    first, last = trial(tmp_path, extra_scores=["mahalanobis", "odin"], precision=precision)
    assert scored(first.metrics) == ALWAYS
    assert scored(last.metrics) == {*ALWAYS, "odin", "mahalanobis"}
    table = pd.read_parquet(tmp_path / "scores.parquet")
    assert table[["odin", "mahalanobis"]].notna().all(axis=None)
    again = metrics_of(table, "val", 4, "msp")
    assert again == {k: v for k, v in last.metrics.items() if not k.startswith("train/")}


@pytest.mark.parametrize("name", ["odin", "mahalanobis", "knn", "feature_norm"])
def test_the_score_is_what_auroc_means_after_every_epoch(name: str, tmp_path: Path) -> None:
    for report in trial(tmp_path, score=name):
        assert scored(report.metrics) == ALWAYS | {name}
        assert report.metrics["val/auroc"] == report.metrics[f"val/pseudo-unknown/{name}/auroc"]


def test_scores_on_request_leave_the_training_as_it_was(tmp_path: Path) -> None:
    for name, settings in {"a": {}, "b": {"score": "odin", "extra_scores": ["mahalanobis"]}}.items():
        trial(tmp_path / name, **settings)
    assert (tmp_path / "a" / "weights.pt").read_bytes() == (tmp_path / "b" / "weights.pt").read_bytes()


def test_they_are_of_test_samples_too(tmp_path: Path) -> None:
    last = trial(tmp_path, pseudo_unknown=0, test=True, extra_scores=["odin", "mahalanobis"], epochs=1)[-1]
    assert {"test/digits/odin/f1.val95", "test/digits/mahalanobis/oscr"} <= set(last.metrics)


def test_a_trial_without_unknown_sets_has_the_metrics_of_known_samples_alone(tmp_path: Path) -> None:
    settings = {"holdout": 0, "pseudo_unknown": 0, "test": True, "evaluate": [], "epochs": 1}
    (report,) = trial(tmp_path, **settings)
    table = pd.read_parquet(tmp_path / "scores.parquet")
    p = np.exp(np.stack(table["logits"].to_list()).astype(np.float64))
    each = [roc_auc_score(table["label"] == k, (p / p.sum(axis=1, keepdims=True))[:, k]) for k in range(6)]
    assert set(table["set"]) == {"known"}
    measured = {name: value for name, value in report.metrics.items() if name.startswith("test/")}
    assert measured == {
        "test/accuracy": (table["prediction"] == table["label"]).mean(),
        "test/auc": pytest.approx(np.mean(each), abs=1e-9),
    }
    assert resolve(yaml.safe_load((tmp_path / "config.yaml").read_text())).evaluation_sets == ()
