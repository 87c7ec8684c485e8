"""CSSR and RCSSR beside their formulas: float64, one class, one image and one position at a time."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from trainables.models.cam import foreground
from trainables.models.class_statistics import class_statistics, gram
from trainables.models.head import LinearHead
from trainables.models.reconstruction import AutoEncoders
from trainables.objectives import network_of
from trainables.reading.yaml_file import ConfigError
from trainables.settings.reconstruction import ORIGINAL, CSSRSettings, RCSSRSettings
from trainables.settings.resolving import resolve
from trainables.training.schedules import rate_factor

CPU = torch.device("cpu")
B, K, C, L, SIDE = 12, 3, 5, 4, 3
Array = np.ndarray
VARIANTS = [
    CSSRSettings(latent_size=L),
    RCSSRSettings(latent_size=L),
    CSSRSettings(latent_size=L, error_measure="L2", gamma=0.3),
    CSSRSettings(latent_size=L, pooling="avg_softmax"),
    CSSRSettings(latent_size=0),
    RCSSRSettings(latent_size=0, error_measure="L2", pooling="avg_softmax"),
]
of_each_variant = pytest.mark.parametrize("settings", VARIANTS, ids=str)


def head_of(settings: CSSRSettings, channels: int = C, dtype: torch.dtype = torch.float64) -> AutoEncoders:
    torch.manual_seed(0)
    head = AutoEncoders(channels, K, settings)
    head.draw()
    return head.to(dtype)


def maps_of(seed: int, count: int = B, channels: int = C) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(count, channels, SIDE, SIDE, generator=generator, dtype=torch.float64)


# The formulas, of one image's maps Z as C x positions.


def logits_of_positions(head: AutoEncoders, Z: Array) -> Array:
    """l_k of each position, K x positions."""
    s = head.settings
    out = np.empty((K, Z.shape[1]))
    for k, p in itertools.product(range(K), range(Z.shape[1])):
        z = Z[:, p]
        if s.latent_size:
            encode, decode = (w[k].detach().numpy() for w in (head.encode_KLC, head.decode_KLC))
            made = sum(np.tanh(encode[j] @ z) * decode[j] for j in range(s.latent_size))
        else:
            made = head.centre_KC[k].detach().numpy()
        error = np.abs(made - z).sum() if s.error_measure == "L1" else ((made - z) ** 2).sum()
        out[k, p] = np.clip(s.gamma * error * (1 if s.reciprocal else -1), -100, 100)
    return out


def probability(head: AutoEncoders, Z: Array) -> Array:
    """p(k | x)."""
    positions = logits_of_positions(head, Z)
    if head.settings.pooling == "avg_softmax":
        return np.exp(positions.mean(axis=1)) / np.exp(positions.mean(axis=1)).sum()
    return np.asarray((np.exp(positions) / np.exp(positions).sum(axis=0)).mean(axis=1))


def gram_of(Z: Array) -> Array:
    out = np.empty((len(Z), len(Z)))
    for i, j in itertools.product(range(len(Z)), repeat=2):
        out[i, j] = sum(abs(Z[i, p]) ** 8 * abs(Z[j, p]) ** 8 for p in range(Z.shape[1])) ** (1 / 8)
    return out


def statistics_of(head: AutoEncoders, images: Array) -> tuple[Array, Array]:
    """Prototypes a_k, and mean Gram matrices M_k, of the images predicted as k."""
    predicted = [int(probability(head, Z).argmax()) for Z in images]
    A, M = np.zeros((K, C)), np.zeros((K, C, C))
    for k in set(predicted):
        mine = [Z for Z, c in zip(images, predicted, strict=True) if c == k]
        A[k] = np.mean([np.abs(Z).mean(axis=1) for Z in mine], axis=0)
        M[k] = np.mean([gram_of(np.abs(Z)) for Z in mine], axis=0)
    return A / A.sum(axis=0), M


def terms_of(head: AutoEncoders, Z: Array, a: Array, M: Array) -> list[float]:
    c = int(probability(head, Z).argmax())
    own = logits_of_positions(head, Z)[c]
    first = own if head.settings.reciprocal else own / np.abs(Z).mean(axis=0) ** 2
    return [first.mean(), (a[c][:, None] * Z).mean(), (gram_of(Z) * M[c]).sum()]


def as_arrays(maps: torch.Tensor) -> Array:
    return np.asarray(maps.flatten(2).numpy())


@of_each_variant
def test_each_position_says_what_a_loop_over_classes_says(settings: CSSRSettings) -> None:
    head, maps = head_of(settings), maps_of(1)
    expected = np.stack([logits_of_positions(head, Z) for Z in as_arrays(maps)])
    np.testing.assert_allclose(head(maps).evidence_BKhw.detach().flatten(2), expected, rtol=1e-12)


@of_each_variant
def test_the_softmax_of_the_logits_is_the_probability_of_the_method(settings: CSSRSettings) -> None:
    head, maps = head_of(settings), maps_of(1)
    expected = np.stack([probability(head, Z) for Z in as_arrays(maps)])
    np.testing.assert_allclose(head(maps).logits_BK.detach().softmax(dim=1), expected, rtol=1e-12)


@of_each_variant
def test_backmix_sees_the_probability_of_the_true_class_in_each_position(settings: CSSRSettings) -> None:
    head, maps, labels = head_of(settings), maps_of(1), torch.arange(B) % K
    positions = [np.exp(logits_of_positions(head, Z)) for Z in as_arrays(maps)]
    expected = [c[y] / c.sum(axis=0) for c, y in zip(positions, labels.tolist(), strict=True)]
    np.testing.assert_allclose(foreground(head(maps), labels).flatten(1), expected, rtol=1e-5)


def test_on_one_position_the_logits_are_those_of_the_position() -> None:
    output = head_of(CSSRSettings(latent_size=L))(maps_of(1)[:, :, :1, :1])
    torch.testing.assert_close(output.logits_BK, output.evidence_BKhw[:, :, 0, 0])


def test_logits_of_positions_are_cut_at_100_and_have_no_gradient_beyond() -> None:
    head = head_of(RCSSRSettings(latent_size=L))
    maps = (1000 * maps_of(1)).requires_grad_()
    evidence = head(maps).evidence_BKhw
    assert (evidence == 100).all()
    evidence.sum().backward()
    assert not maps.grad.any()  # type: ignore[union-attr]


@of_each_variant
def test_gradients_of_the_loss(settings: CSSRSettings) -> None:
    head, labels = head_of(settings), torch.arange(2)
    weights = list(head.parameters())

    def loss(maps: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(head(maps).logits_BK, labels)

    head.train()
    assert torch.autograd.gradcheck(loss, (maps_of(1, count=2).requires_grad_(), *weights))


@of_each_variant
def test_statistics_of_training_images(settings: CSSRSettings) -> None:
    head, maps = head_of(settings).eval(), maps_of(2, count=20)
    a, M = statistics_of(head, as_arrays(maps))
    head.fit(lambda: iter(maps.split(7)))
    np.testing.assert_allclose(head.prototype_KC, a, rtol=1e-10)
    np.testing.assert_allclose(head.gram_KCC, M, rtol=1e-10)


@of_each_variant
def test_scores_add_up_terms_in_standard_deviations(settings: CSSRSettings) -> None:
    head, training, maps = head_of(settings).eval(), maps_of(2, count=20), maps_of(3)
    head.fit(lambda: iter(training.split(7)))
    a, M = statistics_of(head, as_arrays(training))
    of_training = np.array([terms_of(head, Z, a, M) for Z in as_arrays(training)])
    terms = np.array([terms_of(head, Z, a, M) for Z in as_arrays(maps)])
    of_each = ((terms - of_training.mean(0)) / of_training.std(0)).T
    z = dict(zip(["reconstruction", "prototype", "gram"], of_each, strict=True))
    scores = {name: score.numpy() for name, score in head(maps).more.items()}
    assert scores.keys() == set(settings.own_scores)
    np.testing.assert_allclose(scores.pop("cssr"), sum(z.values()), rtol=1e-6, atol=1e-6)
    for term, of_images in z.items():
        np.testing.assert_allclose(scores.pop(f"cssr_{term}"), of_images, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(scores.pop(f"cssr_no_{term}"), sum(z.values()) - of_images, rtol=1e-6, atol=1e-6)
    assert not scores


def test_reconstructions_of_many_positions_are_made_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    head, maps = head_of(CSSRSettings(latent_size=L)), maps_of(1)
    whole = head(maps).evidence_BKhw
    monkeypatch.setattr("trainables.models.reconstruction.VALUES", 7 * K * C)
    torch.testing.assert_close(head(maps).evidence_BKhw, whole)


def test_gram_matrices_are_made_in_parts_where_they_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    maps, predicted = maps_of(2), torch.arange(B) % K
    whole = class_statistics([(maps, predicted)], K, C, maps.device)
    monkeypatch.setattr("trainables.models.class_statistics.ENTRIES", 2 * C**2)
    torch.testing.assert_close(class_statistics([(maps, predicted)], K, C, maps.device), whole)


def test_a_class_that_is_never_predicted_and_a_channel_that_is_never_used_have_statistics_of_0() -> None:
    maps = maps_of(2)
    maps[:, 1] = 0
    prototype, mean_gram = class_statistics([(maps, torch.arange(B) % 2)], K, C, maps.device)
    assert not prototype[2].any()
    assert not prototype[:, 1].any()
    assert not mean_gram[2].any()
    assert torch.isfinite(prototype).all()


def test_gram_of_large_and_of_small_maps_keeps_its_digits() -> None:
    small = maps_of(1)
    for scale in (1e-6, 1e4, 1e8):
        torch.testing.assert_close(gram((scale * small).float()), scale**2 * gram(small.float()), rtol=1e-5, atol=0)


@of_each_variant
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_overflows_at_activations_of_10_000(settings: CSSRSettings, dtype: torch.dtype) -> None:
    head = head_of(settings, dtype=torch.float32)
    maps = (1e4 * maps_of(1)).to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        loss = torch.nn.functional.cross_entropy(head(maps).logits_BK, torch.arange(B) % K)
        loss.backward()
        head.eval().fit(lambda: iter([maps.detach()]))
        output = head(maps)
    seen: list[Any] = [loss, maps.grad, *output[:2], output.evidence_BKhw, *output.more.values()]
    seen += [p.grad for p in head.parameters()] + list(head.buffers())
    assert all(torch.isfinite(value).all() for value in seen)


def test_maps_without_a_value_have_finite_scores() -> None:
    head = head_of(CSSRSettings(latent_size=L)).eval()
    head.fit(lambda: iter([torch.cat([maps_of(1), torch.zeros(2, C, SIDE, SIDE).double()])]))
    assert all(torch.isfinite(score).all() for score in head(torch.zeros(3, C, SIDE, SIDE)).more.values())


def test_the_linear_head_of_the_code_is_plain_without_a_bias() -> None:
    config, maps = resolve({"method": "plain", "backbone": "wrn10-1", "head_bias": False}), maps_of(1)
    head = network_of(config, K, 32).head
    assert {name: tuple(p.shape) for name, p in head.named_parameters()} == {"weight": (K, 64, 1, 1)}
    assert 0.9 / 8 < head.weight.detach().abs().max() <= 1 / 8  # U(-1/sqrt(C), 1/sqrt(C)), as torch draws it
    small = LinearHead(C, K, config.objective_settings).double()
    small.draw()
    weight = small.weight.detach().numpy()[:, :, 0, 0]
    averaged = np.stack([np.mean([weight @ Z[:, p] for p in range(SIDE**2)], axis=0) for Z in as_arrays(maps)])
    expected = np.exp(averaged) / np.exp(averaged).sum(axis=1, keepdims=True)  # avg_softmax
    np.testing.assert_allclose(small(maps).logits_BK.detach().softmax(dim=1), expected, rtol=1e-12)
    with pytest.raises(ConfigError, match="head_bias: a ViT's head has one"):
        resolve({"method": "plain", "backbone": "vit-ti8", "head_bias": False})


def test_the_original_recipe_trains_as_the_code_does() -> None:
    config = resolve({"method": "cssr", "recipe": "original"})
    assert {name: getattr(config, name) for name in ORIGINAL} == {**ORIGINAL, "milestones": (120, 190)}
    assert rate_factor(config, 119, 1) == 1
    assert rate_factor(config, 120, 1) == pytest.approx(0.1)
    assert rate_factor(config, 190, 1) == pytest.approx(0.01)
    assert resolve({"method": "cssr", "recipe": "original", "lr": 0.1}).lr == 0.1
    assert resolve({"objective": "cssr", "mix": "cutmix", "recipe": "original"}).lr == 0.4


def test_without_a_recipe_it_trains_as_the_backmix_paper_says() -> None:
    config = resolve({"method": "cssr"})
    assert (config.backbone, config.lr, config.schedule) == ("wrn40-4", 0.1, "cosine")
    assert (config.epochs, config.augment, config.score) == (200, "none", "cssr")
