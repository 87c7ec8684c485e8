"""CLIP's towers as open_clip has them, and what is put into them, beside references."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.special import softmax

from tests.helpers.clips import TINY
from trainables.models.anti_association import AntiAssociative
from trainables.models.cam import relevance
from trainables.models.image_text import ImageText, alone, attended
from trainables.models.output import Attention
from trainables.models.prompts import LocallyPrompted, Prompted, ZeroShot, mcm
from trainables.models.visual_prompts import VisuallyPrompted
from trainables.objectives import network_of
from trainables.settings.resolving import resolve

NAMES = ("zero", "one", "two", "three", "aquarium fish")
TEMPLATES = ("a photo of a {}", "an old drawing of the number {}, in grey.")


def made(method: str, image_size: int = 32, **settings: Any) -> Any:
    torch.manual_seed(1)
    network = network_of(resolve({"method": method, **TINY, **settings}), len(NAMES), image_size)
    assert isinstance(network, ImageText)
    network.give("random", NAMES)
    return network.eval()


@pytest.fixture(scope="module")
def zero_shot() -> ZeroShot:
    return made("clip", templates=list(TEMPLATES))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def test_zero_shot_logits_are_those_of_open_clip(zero_shot: ZeroShot, images: torch.Tensor) -> None:
    towers, tokenizer = zero_shot.towers, open_clip.get_tokenizer("ViT-B-32")
    with torch.no_grad():
        classes = open_clip.build_zero_shot_classifier(towers, tokenizer, NAMES, TEMPLATES)
        theirs = towers.logit_scale.exp() * towers.encode_image(images, normalize=True) @ classes
        torch.testing.assert_close(zero_shot(images).logits_BK, theirs, rtol=1e-4, atol=1e-4)


def test_random_towers_are_the_same_in_every_process(zero_shot: ZeroShot) -> None:
    torch.manual_seed(99)
    again = made("clip", templates=list(TEMPLATES))
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), zero_shot.parameters(), strict=True))
    assert torch.equal(again.texts(), zero_shot.texts())


def test_a_context_of_real_words_is_read_as_these_words(images: torch.Tensor) -> None:
    network = made("coop", context_tokens=4)
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    with torch.no_grad():
        words = tokenizer(["a photo of a"])[:, 1:5]
        network.head.context.copy_(network.towers.token_embedding(words))
        theirs = network.towers.encode_text(tokenizer([f"a photo of a {n}." for n in NAMES]), normalize=True)
        torch.testing.assert_close(network.texts(), theirs, rtol=1e-4, atol=1e-5)


def test_a_context_of_each_class_belongs_to_it() -> None:
    network = made("coop", context_of="class")
    (gradient,) = torch.autograd.grad(network.texts()[2].sum(), network.head.context)
    assert [bool(g.any()) for g in gradient] == [False, False, True, False, False]


def test_images_are_enlarged_as_pillow_does_it(zero_shot: ZeroShot) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    large = np.asarray(Image.fromarray(pixels).resize((32, 32), Image.Resampling.BICUBIC)).astype(np.float64)
    mean, std = (np.array(s) for s in ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)))
    seen = torch.from_numpy((pixels / 255 - mean) / std).permute(2, 0, 1)[None].float()
    found = zero_shot.enlarged(seen)[0].permute(1, 2, 0).double().numpy()
    np.testing.assert_allclose((found * std + mean) * 255, large, atol=1.2)  # Pillow rounds after each direction


def test_a_block_that_shows_its_attention_gives_what_it_gave(zero_shot: ZeroShot) -> None:
    tokens, block = torch.randn(2, 17, 64), zero_shot.blocks[0]
    found = attended(block, tokens)
    torch.testing.assert_close(found.tokens_BNC, block(tokens), rtol=1e-4, atol=1e-5)
    _, theirs = block.attn(*3 * [block.ln_1(tokens)], average_attn_weights=False)
    torch.testing.assert_close(found.attention_BHNN, theirs)


def test_a_token_alone_is_what_a_block_gives_for_a_single_token(zero_shot: ZeroShot) -> None:
    tokens, block = torch.randn(2, 17, 64), zero_shot.blocks[1]
    each = torch.cat([block(tokens[:, i : i + 1]) for i in range(17)], dim=1)  # all it can attend to is itself
    torch.testing.assert_close(alone(block, tokens), each, rtol=1e-4, atol=1e-5)


def test_relevance_is_the_accumulated_attention_times_its_gradient() -> None:
    rng = np.random.default_rng(5)
    B, heads, N, K, first = 3, 2, 11, 4, 2
    maps = [softmax(rng.normal(size=(B, heads, N, N)), axis=-1) for _ in range(3)]
    weights = [rng.normal(size=(K, heads, N, N)) for _ in maps]  # logits that are linear in attention: so is this
    labels = np.array([3, 0, 3])
    rows = []
    for b in range(B):
        R = np.eye(N)
        for A, w in zip(maps, weights, strict=True):
            R = R + np.maximum(w[labels[b]] * A[b], 0).mean(axis=0) @ R
        row = R[0, first:]
        rows.append((row - row.min()) / (row.max() - row.min()))
    given = [torch.from_numpy(A).requires_grad_() for A in maps]
    terms = [torch.einsum("bhij,khij->bk", A, torch.from_numpy(w)) for A, w in zip(given, weights, strict=True)]
    logits = torch.stack(terms).sum(dim=0)
    found = relevance(Attention(tuple(given), logits, first), torch.from_numpy(labels))
    np.testing.assert_allclose(found.flatten(1).numpy(), np.stack(rows), rtol=1e-4, atol=1e-6)


def test_mcm_is_the_largest_softmax_of_cosines_and_ranks_otherwise_than_that_of_logits(zero_shot: ZeroShot) -> None:
    rng = np.random.default_rng(2)
    cosine = rng.uniform(0.1, 0.4, (200, 10))
    expected = softmax(cosine, axis=1).max(axis=1)
    np.testing.assert_allclose(mcm(torch.from_numpy(cosine)).numpy(), expected, rtol=1e-12)
    assert (np.argsort(expected) != np.argsort(softmax(100 * cosine, axis=1).max(axis=1))).any()


def test_local_cosines_are_those_of_open_clips_last_block_without_queries(images: torch.Tensor) -> None:
    network = made("locoop")
    tower = network.towers.visual
    with torch.no_grad():
        x = tower.transformer.resblocks[0](tower._embeds(images))
        last = tower.transformer.resblocks[1]
        each = torch.cat([last(x[:, i : i + 1]) for i in range(1, 17)], dim=1)
        theirs = F.normalize(tower.ln_post(each) @ tower.proj, dim=-1) @ network.texts().T
        found = network(images)
        torch.testing.assert_close(
            found.more["gl_mcm"] - found.more["mcm"], mcm(theirs).amax(dim=1), rtol=1e-3, atol=1e-5
        )
        network.head.train()
        torch.testing.assert_close(network(images).more["local_BNK"], theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("depth", ["deep", "shallow"])
def test_each_block_sees_its_own_visual_prompts_behind_the_class_token(depth: str, images: torch.Tensor) -> None:
    network = made("vpt", visual_depth=depth, visual_tokens=3)
    seen: list[torch.Tensor] = []
    for block in network.blocks:
        block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        output = network(images)
    assert [x.shape for x in seen] == [(6, 1 + 3 + 16, 64)] * 2
    tokens = network.head.tokens_DTC
    assert len(tokens) == (2 if depth == "deep" else 1)
    for x, own in zip(seen, tokens, strict=False):
        assert torch.equal(x[:, 1:4], own.expand(6, -1, -1))
    torch.testing.assert_close(output.logits_BK, network.head.linear(output.features_BC))


@pytest.mark.parametrize("kind", [ZeroShot, Prompted, LocallyPrompted, VisuallyPrompted, AntiAssociative])
def test_towers_are_not_written_and_not_asked_for(kind: type[ImageText], images: torch.Tensor) -> None:
    methods = {ZeroShot: "clip", Prompted: "coop", LocallyPrompted: "locoop", AntiAssociative: "a2pt"}
    network, other = (made(methods.get(kind, "vpt")) for _ in range(2))
    for parameter in other.head.parameters():
        torch.nn.init.normal_(parameter)
    state = other.state_dict()
    assert all(name.startswith("head.") for name in state)
    network.load_state_dict(state)
    with torch.no_grad():
        assert torch.equal(network(images).logits_BK, other(images).logits_BK)


def passes(network: ImageText, images: torch.Tensor) -> Iterator[torch.Tensor]:
    for asked in (False, True):
        network.looked_at = asked
        yield network(images).logits_BK


@pytest.mark.parametrize("method", ["coop", "vpt", "a2pt"])
def test_to_be_looked_at_changes_nothing_but_what_is_kept(method: str, images: torch.Tensor) -> None:
    unseen, looked_at = passes(made(method), images)
    torch.testing.assert_close(unseen, looked_at, rtol=1e-3, atol=1e-4)
