"""GCPL, RPL and ARPL against float64 references that are written from the formulas, a sample and a class at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers.references import CPU, cross_entropy, objective, pool, resolved, training_images
from trainables.models.output import ConvolutionalNetwork, Output
from trainables.models.points import PointHead
from trainables.objectives import OBJECTIVES, network_of
from trainables.objectives.points import Points, WithRadius
from trainables.reading.yaml_file import ConfigError
from trainables.settings.identity import identity_of
from trainables.settings.resolving import resolve

B, C, K = 6, 5, 3
LABELS = torch.tensor([0, 1, 2, 2, 1, 0])
IDS = torch.arange(B)
METHODS = ["gcpl", "rpl", "arpl"]
SIGNS = {"gcpl": (-1.0, 0.0), "rpl": (1.0, 0.0), "arpl": (1.0, 1.0)}  # of the distance, and of the product taken away


def head(method: str, **settings: object) -> PointHead:
    """With points as far from 0 as features are, in float64."""
    config = resolve({"method": method, "backbone": "wrn10-1", **settings})
    made = OBJECTIVES[method].head(C, K, config.objective_settings).double()
    assert isinstance(made, PointHead)
    nn.init.normal_(made.points_KC, generator=torch.Generator().manual_seed(1))
    return made


def maps(seed: int = 0) -> torch.Tensor:
    return torch.randn(B, C, 2, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def distances(features: np.ndarray, points: np.ndarray) -> np.ndarray:
    return np.array([[((f - p) ** 2).sum() / len(f) for p in points] for f in features])


def logits(method: str, features: np.ndarray, points: np.ndarray) -> np.ndarray:
    of_distance, of_product = SIGNS[method]
    products = np.array([[sum(a * b for a, b in zip(f, p, strict=True)) for p in points] for f in features])
    return of_distance * distances(features, points) - of_product * products


@pytest.mark.parametrize("method", METHODS)
def test_logits_are_of_the_distance_and_the_product_of_pooled_features_with_each_point(method: str) -> None:
    made, z = head(method), maps()
    output = made(z)
    features, points = z.numpy().mean(axis=(2, 3)), made.points_KC.detach().numpy()
    np.testing.assert_allclose(output.features_BC, features, rtol=1e-12)
    np.testing.assert_allclose(output.more["distance"].detach(), distances(features, points), rtol=1e-12)
    np.testing.assert_allclose(output.logits_BK.detach(), logits(method, features, points), rtol=1e-11)


@pytest.mark.parametrize("method", METHODS)
def test_the_evidence_of_a_position_is_its_own_logits(method: str) -> None:
    made, z = head(method), maps()
    points = made.points_KC.detach().numpy()
    evidence = made(z).evidence_BKhw
    for i, j in np.ndindex(2, 3):
        np.testing.assert_allclose(evidence[:, :, i, j], logits(method, z[:, :, i, j].numpy(), points), rtol=1e-11)


@pytest.mark.parametrize("method", METHODS)
def test_by_gradient_the_foreground_is_grad_cam_from_its_least_to_its_largest_value(method: str) -> None:
    one = learner(method, mix="backmix", cam="gradient")
    made, z = head(method, mix="backmix", cam="gradient"), maps().requires_grad_()
    output = made(z)
    found = one.foreground(output, LABELS)
    (gradient,) = torch.autograd.grad(output.logits_BK.gather(1, LABELS[:, None]).sum(), z)
    for b in range(B):
        weights = gradient[b].mean(dim=(1, 2))  # alpha of Grad-CAM's Eq. 1
        cam = sum(weights[c] * z[b, c].detach() for c in range(C))
        expected = (cam - cam.min()) / (cam.max() - cam.min())
        torch.testing.assert_close(found[b].double(), expected, rtol=1e-5, atol=1e-6)


def test_pixel_by_pixel_arpls_foreground_is_that_of_a_linear_head() -> None:
    """|z|^2 / C is the same for all classes: a softmax does not see it."""
    one, made, z = learner("arpl", mix="backmix"), head("arpl", mix="backmix"), maps()
    points = made.points_KC.detach()
    linear = -(2 / C + 1) * torch.einsum("bchw,kc->bkhw", z, points) + (points**2).sum(dim=1)[:, None, None] / C
    of_label = linear.softmax(dim=1)[IDS, LABELS]
    torch.testing.assert_close(one.foreground(made(z), LABELS).double(), of_label, rtol=1e-5, atol=1e-6)


def test_a_map_without_a_difference_is_no_foreground() -> None:
    one, made = learner("arpl", mix="backmix", cam="gradient"), head("arpl", mix="backmix", cam="gradient")
    assert torch.equal(one.foreground(made(torch.ones(B, C, 2, 3).double()), LABELS), torch.zeros(B, 2, 3))


class Tiny(ConvolutionalNetwork):
    """A layer of features on 2 x 2 positions, and a head of points; float64."""

    def __init__(self, made: PointHead) -> None:
        super().__init__()
        self.num_features, self.head = C, made
        generator = torch.Generator().manual_seed(2)
        self.body = nn.Conv2d(3, C, 4, 4, dtype=torch.float64)
        nn.init.normal_(self.body.weight, std=0.3, generator=generator)

    def maps(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        return self.body(images_BCHW.double())


def learner(method: str, **settings: object) -> Points:
    one = objective(resolved(method=method, **settings), training_images(pool(LABELS), K)).double()
    assert isinstance(one, Points)
    if isinstance(one, WithRadius):
        nn.init.normal_(one.radius, 1, generator=torch.Generator().manual_seed(3))
    return one


def term(method: str, one: Points, distance: float, label: int) -> float:
    """What the distance to the point of `label` costs."""
    if method == "gcpl":
        return distance / 2
    assert isinstance(one, WithRadius)
    radius = one.radius.detach().expand(K)[label].item()
    if method == "rpl":
        return (distance - radius) ** 2
    return max(0.0, distance - radius + one.settings.margin)


CASES = [
    {},
    {"temperature": 0.5, "weight_pl": 0.7},
    {"radius": "per-class", "margin": 0.0},
    {"weight_pl": 0.0},
    {"mix": "cutmix", "mix_probability": 1.0, "weight_pl": 0.7},
]


@pytest.mark.parametrize("settings", CASES, ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_the_loss_is_cross_entropy_and_the_term_of_the_true_class(method: str, settings: dict[str, object]) -> None:
    one, model = learner(method, **settings), Tiny(head(method))
    with torch.no_grad():
        found = one.loss(model, IDS).item()
    again = learner(method, **settings)  # which draws the same
    batch = again.mix.batch(IDS)
    z = model.maps(batch.images_BCHW).detach().numpy()
    features, points = z.mean(axis=(2, 3)), model.head.points_KC.detach().numpy()
    share = np.ones(B) if batch.lam_B is None else batch.lam_B.double().numpy()
    other = LABELS if batch.partners_B is None else LABELS[batch.partners_B]
    said, away = logits(method, features, points), distances(features, points)
    loss = 0.0
    for b in range(B):
        for part, label in ((share[b], int(LABELS[b])), (1 - share[b], int(other[b]))):
            classified = cross_entropy(said[b : b + 1] / one.settings.temperature, np.eye(K)[[label]])[0]
            loss += part * (classified + one.settings.weight_pl * term(method, one, away[b, label], label)) / B
    assert found == pytest.approx(loss, rel=1e-6)


def test_labels_that_a_mix_says_as_probabilities_weight_the_term() -> None:
    one, model = learner("rpl"), Tiny(head("rpl"))
    batch = one.mix.batch(IDS)
    output = model(batch.images_BCHW)
    target = torch.rand(B, K, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    target = target / target.sum(dim=1, keepdim=True)
    away = output.more["distance"].detach().numpy()
    expected = cross_entropy(output.logits_BK.detach().numpy(), target.numpy()).mean()
    expected += 0.1 * sum(target[b, k].item() * term("rpl", one, away[b, k], k) for b in range(B) for k in range(K)) / B
    assert one.of(output, batch._replace(targets_BK=target)).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("radius", ["shared", "per-class"])
@pytest.mark.parametrize("method", METHODS)
def test_gradients_are_those_of_the_loss(method: str, radius: str) -> None:
    one, made = learner(method, radius=radius), head(method)
    batch = one.mix.batch(IDS)
    inputs = [maps(5).requires_grad_(), made.points_KC, *one.parameters()]
    assert torch.autograd.gradcheck(lambda z, *_: one.of(made(z), batch), inputs, fast_mode=True)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", METHODS)
def test_logits_of_ten_thousand_have_a_finite_loss_and_finite_gradients(method: str, precision: str) -> None:
    one, made = learner(method).float(), head(method).float()
    z = (300 * maps()).float().requires_grad_()
    batch = one.mix.batch(IDS)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        output = made(z.bfloat16() if precision == "bf16" else z)
        loss = one.of(output, batch)
    assert output.logits_BK.dtype == torch.float32
    assert output.logits_BK.abs().max() > 1e4
    (gradient,) = torch.autograd.grad(loss, z)
    assert loss.isfinite()
    assert gradient.isfinite().all()


def test_a_learned_radius_grows_as_far_as_the_margin_wants() -> None:
    one, away = learner("arpl"), torch.full((B, K), 2.0).double()
    one.term(away).mean().backward()
    assert isinstance(one, WithRadius)
    assert one.radius.grad is not None
    assert one.radius.grad < 0  # 2 - R + 1 is above 0


@pytest.mark.parametrize(("method", "score"), [("gcpl", "msp"), ("rpl", "msp"), ("arpl", "mls"), ("arpl-cs", "mls")])
def test_each_has_the_score_of_the_released_code(method: str, score: str) -> None:
    assert resolve({"method": method}).score == score


def test_classifier32_with_arpls_points_has_what_was_published_but_for_a_norm_that_nobody_uses() -> None:
    config = resolve({"method": "arpl", "backbone": "vgg32", "protocol": "tiny-imagenet"})
    state = network_of(config, 20, 64).state_dict()
    unused = 4 * 128 + 1  # its `bn10`: weight, bias, two statistics and their count
    assert sum(value.numel() for value in state.values()) + unused == 1_004_234  # `fc`, without bias, is as large


@pytest.mark.parametrize("size", [40, 16])
def test_arpl_cs_refuses_images_that_its_generator_cannot_make(size: int) -> None:
    with pytest.raises(ConfigError, match=f"makes no images of {size} px"):
        resolve({"method": "arpl-cs", "backbone": "wrn10-1", "image_size": size})


def test_only_a_looking_mix_makes_another_trial_of_the_choice_of_maps() -> None:
    def identity(**settings: object) -> str:
        return identity_of(resolve({"method": "arpl", **settings}), {"digits": "a"})

    assert identity(cam="gradient") == identity()
    assert identity(cam="gradient", mix="backmix") != identity(mix="backmix")


def test_what_a_head_says_of_the_distance_is_float32_under_autocast() -> None:
    network = network_of(resolve({"method": "arpl", "backbone": "wrn10-1"}), K, 32).to(CPU)
    with torch.autocast("cpu", torch.bfloat16):
        output: Output = network(torch.randn(2, 3, 32, 32))
    assert output.more["distance"].dtype == output.logits_BK.dtype == torch.float32


def test_the_original_recipes_are_of_the_whole_training_and_give_way_to_what_is_written() -> None:
    osr, ood = (resolve({"method": "arpl", "recipe": name}) for name in ("original", "original-ood"))
    assert (osr.backbone, osr.optimizer, osr.lr, osr.batch_size) == ("vgg32", "sgd", 0.1, 64)
    assert (ood.backbone, ood.optimizer, ood.lr, ood.batch_size) == ("resnet34", "adam", 1e-4, 128)
    assert resolve({"method": "arpl", "recipe": "original", "mix": "backmix", "lr": 0.01}).lr == 0.01
