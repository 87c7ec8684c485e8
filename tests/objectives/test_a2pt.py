"""A2Pt: its decoder and its loss beside references written from its formulas, and where the loss has its pole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import nn

from tests.helpers.clips import TINY
from tests.objectives.test_methods import CPU, noise
from trainables.models.anti_association import HEADS, AntiAssociative, Foreground
from trainables.objectives.a2pt import opposition
from trainables.settings.resolving import resolve
from trainables.training.loop import Trainer

K, E = 5, 16


@pytest.fixture
def decoder() -> Foreground:
    torch.manual_seed(0)
    decoder = Foreground(K, E, dropout=0.1).double().eval()
    for parameter in decoder.parameters():  # norms and biases too: what they begin with would hide a wrong place
        nn.init.normal_(parameter, std=0.5)
    return decoder


def theirs(decoder: Foreground, image_E: torch.Tensor, text_KE: torch.Tensor) -> torch.Tensor:
    """The decoder for one image, all places, by torch's own attention."""

    def attention(of: nn.MultiheadAttention, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> Any:
        return of(query[None], key[None].expand(1, -1, -1), value[None], need_weights=False)[0][0]

    def moved(of: nn.MultiheadAttention) -> nn.MultiheadAttention:
        own = nn.MultiheadAttention(E, HEADS, batch_first=True).double()
        own.load_state_dict(of.state_dict())
        return own

    x_KE = image_E.repeat(K, 1)
    value_KE = decoder.before_itself(x_KE)
    x_KE = x_KE + decoder.places_KE
    x_KE = x_KE + decoder.after_itself(attention(moved(decoder.to_itself), x_KE, x_KE, value_KE))
    query_KE = decoder.before_texts(x_KE) + decoder.places_KE
    found_KE = attention(moved(decoder.to_texts), query_KE, text_KE + decoder.text_places_KE, x_KE)
    first_E = (x_KE + decoder.after_texts(found_KE))[0]
    return (first_E - first_E.mean()) / (first_E.var(correction=0) + 1e-5).sqrt()


def test_the_decoder_is_what_torchs_attention_makes_of_each_image(decoder: Foreground) -> None:
    images, texts = torch.randn(3, E).double(), torch.randn(K, E).double()
    with torch.no_grad():
        expected = torch.stack([theirs(decoder, image, texts) for image in images])
        torch.testing.assert_close(decoder(images, texts), expected)


def test_the_weights_of_self_attention_change_nothing(decoder: Foreground) -> None:
    images, texts = torch.randn(3, E).double(), torch.randn(K, E).double()
    with torch.no_grad():
        before = decoder(images, texts)
        decoder.to_itself.in_proj_weight[: 2 * E] = torch.randn(2 * E, E).double()  # those of queries and keys
        torch.testing.assert_close(decoder(images, texts), before)


def test_an_image_shorter_than_the_root_of_its_length_is_opposed_to_its_background(decoder: Foreground) -> None:
    images = nn.functional.normalize(torch.randn(500, E).double()) * 0.95 * E**0.5
    with torch.no_grad():
        foreground = decoder(images, torch.randn(K, E).double())
        assert torch.cosine_similarity(foreground, images - foreground).max() < 0


def test_opposition_is_bounded_by_its_floor_and_without_one_has_the_codes_pole() -> None:
    cosines = [torch.tensor([s, s]) for s in (-1.0, -0.5, -0.001, 0.001)]
    assert [opposition(c, 0.01).item() for c in cosines] == pytest.approx([1, 2, 100, 100])
    assert [opposition(c, 0.0).item() for c in cosines] == pytest.approx([1, 2, 1000, -1000])
    below, above = torch.full((1,), 0.001, requires_grad=True), torch.full((1,), -0.5, requires_grad=True)
    assert [torch.autograd.grad(opposition(c, 0.01), c)[0].item() for c in (below, above)] == [0, 4]


def test_the_loss_is_that_of_the_code() -> None:
    settings = {"batch_size": 4, "opposed_weight": 0.7, "unsure_weight": 0.3}
    trainer = Trainer(resolve({"method": "a2pt", **TINY, **settings}), noise(8), CPU)
    network = trainer.model
    assert isinstance(network, AntiAssociative)
    seen: list[Any] = []
    network.head.get_submodule("foreground").register_forward_hook(
        lambda _, inputs, output: seen.append((*inputs, output))
    )
    found = trainer.objective.loss(network, torch.arange(4)).item()
    image, text, front = (part.detach().double().numpy() for part in seen[0])

    def unit(x: np.ndarray) -> np.ndarray:
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    back, scale, labels = unit(image - front), 1 / 0.07, np.arange(4) % 3  # open_clip's initial scale
    positive = -log_softmax(scale * unit(front) @ unit(text).T, axis=1)[np.arange(4), labels].mean()
    negative = -log_softmax(scale * back @ unit(text).T, axis=1).sum() / 4
    assert found == pytest.approx(positive - 0.7 / (unit(front) * back).sum(axis=1).mean() + 0.3 * negative, rel=1e-5)
