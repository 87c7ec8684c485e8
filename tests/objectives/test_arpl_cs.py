"""ARPL+CS: its steps against the same ones written out with plain torch, and what belongs to which pass."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.helpers.squares import squares
from trainables.models import build_model
from trainables.models.confusing import LATENT, Discriminator, Generator, TwoNorms, double_norms, for_generated
from trainables.models.given import load_given
from trainables.objectives import network_of
from trainables.objectives.arpl_cs import ArplCs, certainty
from trainables.one_trial import run_trial
from trainables.settings.config import TrialConfig
from trainables.settings.resolving import resolve
from trainables.training.loop import Trainer

CPU = torch.device("cpu")
B, WIDTH = 8, 4


def config(**settings: object) -> TrialConfig:
    base = {"method": "arpl-cs", "backbone": "wrn10-1", "epochs": 2, "batch_size": B, "split": 1, "gan_width": WIDTH}
    return resolve({**base, **settings})


def trainer(**settings: object) -> Trainer:
    torch.set_num_threads(1)
    return Trainer(config(**settings), squares(20)[0], CPU)


def adversary(of: Trainer) -> ArplCs:
    assert isinstance(of.objective, ArplCs)
    return of.objective


@pytest.mark.parametrize(("size", "stages"), [(32, [512, 256, 128]), (64, [512, 256, 128, 64])])
def test_a_generator_makes_images_in_0_to_1_by_the_released_codes_layers(size: int, stages: list[int]) -> None:
    generator = Generator(64, size)
    convolutions = [layer for layer in generator.modules() if isinstance(layer, nn.ConvTranspose2d)]
    assert [c.in_channels for c in convolutions] == [LATENT, *stages]
    assert [c.out_channels for c in convolutions] == [*stages, 3]
    assert all(abs(c.weight.std().item() - 0.02) < 0.002 for c in convolutions)
    with torch.no_grad():
        images = generator(torch.randn(2, LATENT, 1, 1))
    assert images.shape == (2, 3, size, size)
    assert 0 <= images.min() < images.max() <= 1


@pytest.mark.parametrize("size", [32, 64])
def test_a_discriminator_has_the_released_codes_parameters_and_a_logit_an_image(size: int) -> None:
    discriminator = Discriminator(64)
    convolutions = 16 * (3 * 128 + 128 * 256 + 256 * 512 + 512 * 1024)
    assert sum(p.numel() for p in discriminator.parameters()) == convolutions + 2 * (256 + 512) + 1024 + 1
    assert discriminator(torch.randn(2, 3, size, size)).shape == (2,)


def test_certainty_is_its_formula_between_one_class_of_k_and_one() -> None:
    d = np.random.default_rng(0).normal(size=(5, 4))
    entropy = 0.0
    for row in d:
        p = np.exp(row) / np.exp(row).sum()
        entropy += sum(pk * np.log(pk) for pk in p) / len(d)
    assert certainty(torch.from_numpy(d)).item() == pytest.approx(np.exp(entropy), rel=1e-12)
    assert certainty(torch.zeros(5, 4)).item() == pytest.approx(0.25)
    assert torch.autograd.gradcheck(certainty, torch.from_numpy(d).requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_certainty_and_its_gradient_are_finite_where_probabilities_vanish(dtype: torch.dtype) -> None:
    d = (1e4 * torch.eye(4)).to(dtype).requires_grad_()
    value = certainty(d)
    value.backward()
    assert value.item() == 1
    assert d.grad is not None
    assert d.grad.isfinite().all()


def exact(of: Trainer) -> Trainer:
    """In float64, where the order of sums does not show."""
    of.objective.double()
    of.model.double().register_forward_pre_hook(lambda _, images: (images[0].double(),))
    return of


def binary(logits: torch.Tensor, real: float) -> torch.Tensor:
    """From probabilities, by its definition."""
    p = torch.sigmoid(logits)
    return -(real * p.log() + (1 - real) * (1 - p).log()).mean()


def confidence(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """exp(mean sum p log p) of the softmax of mean squared distances, seen by the norms of generated images."""
    with for_generated([m for m in network.modules() if isinstance(m, TwoNorms)]):
        features = network(images).features_BC
    away = ((features[:, None] - network.get_parameter("head.points_KC")) ** 2).mean(dim=2)
    p = away.softmax(dim=1)
    return (p * p.log()).sum(dim=1).mean().exp()


def test_a_batch_of_the_first_pass_takes_the_steps_of_the_released_code() -> None:
    one = exact(trainer(temperature=0.5, confusing_weight=0.7, margin=0.5))
    ours = adversary(one)
    network, generator, discriminator = map(copy.deepcopy, (one.model, ours.generator, ours.discriminator))
    radius, state = ours.radius.detach().clone(), one.generator.get_state()
    ids = torch.arange(B)
    loss = ours.loss(one.model, ids)
    loss.backward()

    one.generator.set_state(state)
    batch = one.mix.batch(ids)
    x, y = batch.images_BCHW.double(), batch.labels_B

    def latents() -> torch.Tensor:
        return torch.randn(B, LATENT, 1, 1, generator=one.generator).double()

    def seen(images: torch.Tensor) -> torch.Tensor:
        return (images - 0.5) / 0.25  # as `normalisation: half` does with pixels

    def update(net: nn.Module, loss: torch.Tensor) -> None:
        optimizer = torch.optim.Adam(net.parameters(), 2e-4, betas=(0.5, 0.999))
        network.zero_grad()
        net.zero_grad()
        loss.backward()
        optimizer.step()

    fake = seen(generator(latents()))
    update(discriminator, binary(discriminator(x), 1) + binary(discriminator(fake.detach()), 0))
    update(generator, binary(discriminator(fake), 1) + 0.7 * confidence(network, fake))
    network.zero_grad()
    features, points = network(x).features_BC, network.get_parameter("head.points_KC")
    away = ((features[:, None] - points) ** 2).mean(dim=2)
    logits = away - features @ points.T
    margin = (away.gather(1, y[:, None])[:, 0] - radius + 0.5).clamp(min=0).mean()
    with torch.no_grad():
        again = seen(generator(latents()))
    expected = F.cross_entropy(logits / 0.5, y) + 0.1 * margin + 0.7 * confidence(network, again)
    expected.backward()

    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=0)
    for found, reference in ((ours.generator, generator), (ours.discriminator, discriminator), (one.model, network)):
        torch.testing.assert_close(dict(found.state_dict()), dict(reference.state_dict()), rtol=1e-7, atol=1e-9)
    for (name, found), reference in zip(one.model.named_parameters(), network.parameters(), strict=True):
        assert found.grad is not None, name
        assert reference.grad is not None
        assert (found.grad - reference.grad).norm() <= 1e-7 * reference.grad.norm(), name


def weights(net: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in net.parameters()]


def same(before: list[torch.Tensor], net: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def test_an_epoch_is_a_pass_with_the_adversaries_and_one_without() -> None:
    one = trainer()
    ours = adversary(one)
    assert one.steps_per_epoch == 4  # two batches of eight of twenty images, twice
    order = one.begin_epoch().order
    assert all(len(half.unique()) == 2 * B for half in order.split(2 * B))
    moved = []
    nets: list[Callable[[], nn.Module]] = [lambda: ours.generator, lambda: ours.discriminator, lambda: one.model]
    before = [weights(net()) for net in nets]
    for _ in one.steps():
        moved.append([not same(b, net()) for b, net in zip(before, nets, strict=True)])
        before = [weights(net()) for net in nets]
    assert moved == [[True, True, True]] * 2 + [[False, False, True]] * 2


def test_the_trials_optimiser_has_the_network_and_the_radius_alone() -> None:
    one = trainer()
    held = {id(p) for group in one.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in [*one.model.parameters(), adversary(one).radius]}


def test_real_and_generated_images_have_norms_of_their_own() -> None:
    one = trainer()
    norms = [m for m in one.model.modules() if isinstance(m, TwoNorms)]
    assert len(norms) == sum(isinstance(m, nn.BatchNorm2d) for m in one.model.modules()) / 2 > 0
    images = torch.randn(B, 3, 32, 32)

    def statistics(which: str) -> list[torch.Tensor]:
        return [getattr(norm, which).running_mean.clone() for norm in norms]

    real, generated = statistics("real"), statistics("generated")
    with for_generated(norms):
        one.model(images)
    assert all(map(torch.equal, real, statistics("real")))
    assert not any(map(torch.equal, generated, statistics("generated")))
    generated = statistics("generated")
    one.model(images)
    assert not any(map(torch.equal, real, statistics("real")))
    assert all(map(torch.equal, generated, statistics("generated")))


@pytest.mark.parametrize("name", ["efficientnet_lite0", "densenet121"])
def test_doubled_norms_of_timm_say_what_one_says(name: str) -> None:
    torch.manual_seed(0)
    network = build_model(f"timm:{name}", 4, 32).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = network(images).logits_BK
        double_norms(network)
        norms = [m for m in network.modules() if isinstance(m, TwoNorms)]
        real = network(images).logits_BK
        with for_generated(norms):
            generated = network(images).logits_BK
    assert torch.equal(real, before)
    assert torch.equal(generated, before)


def test_norms_of_vectors_are_doubled_too() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    double_norms(network)
    assert isinstance(network[1], TwoNorms)


def a_file_of(folder: Path, **settings: object) -> tuple[Path, dict[str, torch.Tensor]]:
    """Weights of the network of a trial that saw one batch, and where they are."""
    network = network_of(config(**settings), 6, 32)
    network(torch.randn(B, 3, 32, 32))
    torch.save(network.state_dict(), folder / "given.pt")
    return folder / "given.pt", network.state_dict()


@pytest.mark.parametrize("backbone", ["wrn10-1", "resnet18"])  # another layout than ours is guessed by the keys
def test_both_norms_start_from_the_given_network(backbone: str, tmp_path: Path) -> None:
    path, given = a_file_of(tmp_path, method="plain", backbone=backbone)
    started = trainer(weights=str(path), head="new", backbone=backbone).model
    found = started.state_dict()
    for key in given.keys() - {"head.weight", "head.bias"}:
        place, _, last = key.rpartition(".")
        for ours in [key] if key in found else [f"{place}.real.{last}", f"{place}.generated.{last}"]:
            assert torch.equal(found[ours], given[key]), ours


def test_a_file_of_two_norms_is_given_as_it_is(tmp_path: Path) -> None:
    path, given = a_file_of(tmp_path)
    network = network_of(config(), 6, 32)
    load_given(network, config(weights=str(path)), range(6))
    torch.testing.assert_close(dict(network.state_dict()), dict(given), rtol=0, atol=0)


def test_the_second_pass_leaves_the_norms_of_generated_images_to_weight_decay() -> None:
    one = trainer(lr=0.1, weight_decay=0.01, momentum=0.0, nesterov=False)
    norms = [m for m in one.model.modules() if isinstance(m, TwoNorms)]
    before = [norm.generated.weight.detach().clone() for norm in norms]
    adversary(one).pass_number = 1
    one.step(torch.arange(B))
    for norm, weight in zip(norms, before, strict=True):
        torch.testing.assert_close(norm.generated.weight.detach(), weight * (1 - 0.1 * 0.01))


def test_the_state_has_the_adversaries_and_their_optimisers() -> None:
    one, other = trainer(), trainer()
    one.epoch()
    other.load_state(copy.deepcopy(one.state()))
    torch.testing.assert_close(adversary(other).state(), adversary(one).state(), rtol=0, atol=0)
    moments = adversary(other).state()["optimizers"]["generator"]["state"]
    assert moments[0]["step"] == 2  # one of each batch of the first pass


def test_finished_weights_have_points_and_both_norms_and_no_adversary(tmp_path: Path) -> None:
    data, _ = squares(20)
    list(run_trial(config(epochs=1), data, CPU, tmp_path))
    names = torch.load(tmp_path / "weights.pt", weights_only=True).keys()
    assert {"head.points_KC", "bn.real.weight", "bn.generated.weight"} <= names
    assert not any("generator" in name or "discriminator" in name for name in names)
