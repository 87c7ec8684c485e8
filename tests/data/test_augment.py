"""Batched crops and flips against a per-image reference, and the way back for activation maps."""

import numpy as np
import pytest
import torch

from trainables.data.augment import View, cam_to_stored, crop_and_flip, draw_view, normalise


def images(batch: int = 16, size: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("fill", "mode"), [("reflect", "reflect"), ("black", "constant")])
def test_crop_and_flip_equals_padding_cutting_and_mirroring_each_image(fill: str, mode: str) -> None:
    stored, view = images(64), draw_view(64, 4, True, generator())
    seen = crop_and_flip(stored, view, fill)
    for i in range(64):
        padded = np.pad(stored[i].numpy(), ((4, 4), (4, 4), (0, 0)), mode=mode)
        top, left = 4 + int(view.top_B[i]), 4 + int(view.left_B[i])
        expected = padded[top : top + 32, left : left + 32]
        if view.flipped_B[i]:
            expected = expected[:, ::-1]
        assert np.array_equal(seen[i].numpy(), expected)


def test_each_image_draws_its_own_crop_and_coin() -> None:
    view = draw_view(500, 4, True, generator())
    assert set(view.top_B.tolist()) == set(view.left_B.tolist()) == set(range(-4, 5))
    assert 0.4 < view.flipped_B.float().mean() < 0.6
    assert not torch.equal(view.top_B, view.left_B)


def test_flip_false_mirrors_none() -> None:
    assert not draw_view(200, 4, False, generator()).flipped_B.any()


def test_normalise_is_the_formula_and_stays_channels_last() -> None:
    stored = images()
    out = normalise(stored)
    assert torch.allclose(out, (stored.permute(0, 3, 1, 2) / 255 - 0.5) / 0.25, atol=1e-5)
    assert out.is_contiguous(memory_format=torch.channels_last)


def block_map(view: View, top: int, left: int) -> torch.Tensor:
    """The 8 x 8 map, as the network would see it, of an 8 px bright square at (top, left) of a stored 32 px image."""
    stored = torch.zeros(len(view.top_B), 32, 32, 1, dtype=torch.uint8)
    stored[:, top : top + 8, left : left + 8] = 200
    seen = crop_and_flip(stored, view, "black")[..., 0].float() / 200
    return seen.view(-1, 8, 4, 8, 4).mean(dim=(2, 4))


def test_a_map_comes_back_to_where_the_stored_image_has_its_object() -> None:
    view = draw_view(300, 4, True, generator())
    back, _ = cam_to_stored(block_map(view, 12, 8), view, 32)
    expected = torch.zeros(8, 8)
    expected[3:5, 2:4] = 1
    inside, outside = back[:, expected == 1], back[:, expected == 0]
    assert inside.min() > outside.max(dim=1).values.median()
    # Bilinear reading blurs by at most a position; the centre of mass stays where it was.
    positions = torch.arange(8.0)
    rows = (back.sum(2) * positions).sum(1) / back.sum((1, 2))
    cols = (back.sum(1) * positions).sum(1) / back.sum((1, 2))
    assert torch.allclose(rows, torch.tensor(3.5), atol=0.15)
    assert torch.allclose(cols, torch.tensor(2.5), atol=0.15)


def test_without_crop_and_flip_a_map_comes_back_unchanged() -> None:
    cam = torch.rand(5, 8, 8, generator=generator())
    zero = torch.zeros(5, dtype=torch.long)
    back, seen = cam_to_stored(cam, View(zero, zero, torch.zeros(5, dtype=torch.bool)), 32)
    assert torch.allclose(back, cam, atol=1e-6)
    assert seen.all()


def test_a_shift_of_whole_strides_and_a_mirror_come_back_exactly() -> None:
    stored = torch.rand(2, 8, 8, generator=generator())
    view = View(torch.tensor([4, -4]), torch.tensor([-4, 4]), torch.tensor([False, True]))
    # Offset +4 px at a stride of 4 px: the network's position i shows stored position i+1.
    seen_by_network = torch.stack([stored[0].roll((-1, 1), (0, 1)), stored[1].roll((1, -1), (0, 1)).flip(1)])
    back, seen = cam_to_stored(seen_by_network, view, 32)
    assert torch.allclose(back[seen], stored[seen], atol=1e-6)
    assert seen[0].sum() == seen[1].sum() == 49
    assert not seen[0, 0].any()
    assert not seen[0, :, 7].any()
