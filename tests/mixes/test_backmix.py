"""BackMix's parts by what pixel comes from where, and BackMix on images with spurious backgrounds."""

import numpy as np
import pytest
import torch

from tests.helpers.squares import config, squares
from trainables.data.augment import GREY, crop_and_flip
from trainables.data.kept import ImageSet
from trainables.data.trial_data import Samples, TrialData
from trainables.mixes.backmix import BackMix, backmix, box_side, draw_corners, draw_partners
from trainables.models.cam import foreground_mask, foreground_probability, update_bank
from trainables.settings.resolving import resolve
from trainables.training.loop import Trainer


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(value: int, n: int = 50, size: int = 32) -> torch.Tensor:
    """Images whose every pixel tells its origin: `value` or `value + 1`, never grey."""
    return torch.randint(value, value + 2, (n, size, size, 3), dtype=torch.uint8, generator=generator(value))


def test_eq_3_pixel_by_pixel() -> None:
    target, background = batch(10), batch(200)
    mask = foreground_mask(torch.rand(50, 8, 8, generator=generator()), 0.25, generator())
    corner = draw_corners(50, 16, 32, generator(1))
    mixed = backmix(target, background, mask, 16, corner)
    for i in range(50):
        box = torch.zeros(32, 32, dtype=torch.bool)
        box[corner[0][i] : corner[0][i] + 16, corner[1][i] : corner[1][i] + 16] = True
        foreground = mask[i].repeat_interleave(4, 0).repeat_interleave(4, 1)
        assert torch.equal(mixed[i][~box], target[i][~box])
        assert torch.equal(mixed[i][box & ~foreground], background[i][box & ~foreground])
        assert (mixed[i][box & foreground] == GREY).all()


def test_mask_ratio_1_is_cutout_and_0_is_a_plain_cut_and_paste() -> None:
    target, background = batch(10), batch(200)
    corner = draw_corners(50, 16, 32, generator())
    bank = torch.rand(50, 8, 8)
    cutout = backmix(target, background, foreground_mask(bank, 1.0, generator()), 16, corner)
    pasted = backmix(target, background, foreground_mask(bank, 0.0, generator()), 16, corner)
    assert ((cutout == GREY).sum(dim=(1, 2, 3)) == 16 * 16 * 3).all()
    assert not (pasted == GREY).any()
    assert ((pasted >= 200).sum(dim=(1, 2, 3)) == 16 * 16 * 3).all()


def test_independent_boxes_paste_from_another_place() -> None:
    target = batch(10, 1)
    background = torch.arange(32 * 32, dtype=torch.int64).remainder(100).add(100).to(torch.uint8)
    background = background.view(1, 32, 32, 1).expand(1, 32, 32, 3)
    nothing = torch.zeros(1, 8, 8, dtype=torch.bool)
    here, there = (torch.tensor([2]), torch.tensor([3])), (torch.tensor([20]), torch.tensor([9]))
    mixed = backmix(target, background, nothing, 8, here, there)
    assert torch.equal(mixed[0, 2:10, 3:11], background[0, 20:28, 9:17])
    assert torch.equal(mixed[0, 10:], target[0, 10:])


@pytest.mark.parametrize(("area", "side"), [(0.25, 16), (0.0625, 8), (0.0, 0), (1.0, 32), (0.4, 20)])
def test_cut_size_is_an_area(area: float, side: int) -> None:
    assert box_side(area, 32) == side


def test_boxes_reach_every_place_and_the_official_range_misses_the_last() -> None:
    top, left = draw_corners(4000, 8, 32, generator())
    assert set(top.tolist()) == set(left.tolist()) == set(range(25))
    inner, _ = draw_corners(4000, 8, 32, generator(), inner=True)
    assert set(inner.tolist()) == set(range(24))


def colours(stored: int, seen: int, **settings: object) -> BackMix:
    """BackMix without a mask, of 120 images of one colour each."""
    count = 120
    pixels = np.repeat(np.arange(count, dtype=np.uint8), stored * stored * 3).reshape(count, stored, stored, 3)
    labels = np.arange(count) % 6
    source = ImageSet("colours", pixels, labels, np.arange(count), "colours", 0, "painted here")
    data = TrialData(tuple(range(6)), seen, True, Samples(source, np.arange(count), labels, seen))
    base = {"method": "backmix", "backbone": "wrn10-1", "mask_ratio": 0.0, "crop_padding": 0}
    settings = {**base, "image_size": seen, "batch_size": count, **settings}
    mix = Trainer(resolve(settings), data, torch.device("cpu")).mix
    assert isinstance(mix, BackMix)
    return mix


def shares_of_others(stored: int, seen: int, **settings: object) -> torch.Tensor:
    """How much of each seen image is another one."""
    mix = colours(stored, seen, **settings)
    pool = mix.images.pool
    ids = torch.randperm(len(pool), generator=generator())
    mixed, view = mix.mix(pool[ids], pool.labels[ids], ids)
    shown = crop_and_flip(mixed, view, "reflect", seen)[..., 0]
    return (shown != ids[:, None, None]).float().mean(dim=(1, 2))


@pytest.mark.parametrize(("stored", "seen"), [(32, 32), (64, 64), (256, 224)])
@pytest.mark.parametrize("background_class", ["any", "other"])
def test_a_box_covers_the_cut_size_of_what_the_network_sees(stored: int, seen: int, background_class: str) -> None:
    shares = shares_of_others(stored, seen, cut_size=0.25, background_class=background_class)
    assert shares.unique().tolist() == [0.25]


def test_a_box_as_large_as_the_image_covers_all_of_it() -> None:
    assert shares_of_others(256, 224, cut_size=1.0).unique().tolist() == [1.0]


def test_an_independent_box_is_of_any_place_of_a_stored_image_that_is_larger_than_what_is_seen() -> None:
    mix = colours(40, 32, box_pair="independent")
    places = torch.cartesian_prod(torch.arange(40), torch.arange(40)).view(1, 40, 40, 2) + 1  # row and column of each
    background = places.to(torch.uint8).expand(500, -1, -1, -1)
    mixed, _, _ = mix.paste(torch.zeros_like(background), background, mix.bank_Nhw[:1].expand(500, -1, -1))
    bottom, right = mixed.amax(dim=(1, 2)).T
    assert mix.side == 16
    assert set(bottom.tolist()) == set(right.tolist()) == set(range(16, 41))


def test_a_row_of_the_bank_that_was_read_is_normalised_from_then_on() -> None:
    mix = colours(32, 32, bank_read="normalise", bank_init="random")
    ids, before, same = torch.arange(20), mix.bank_Nhw.double(), mix.images.generator.clone_state()
    mix.batch(ids)
    labels = mix.images.pool.labels[ids]
    read = draw_partners(labels, labels, False, same, self_B=ids).unique()
    assert len(read) < 20
    expected = before.clone()
    expected[read] = before[read] / before[read].sum(dim=(1, 2), keepdim=True)
    torch.testing.assert_close(mix.bank_Nhw.double(), expected, rtol=1e-6, atol=0)


def test_the_pass_over_raw_images_leaves_batch_statistics_to_the_training_pass() -> None:
    data, _ = squares(24)
    one, same = (Trainer(config(cam_from="raw", batch_size=24), data, torch.device("cpu")) for _ in range(2))
    one.step(torch.arange(24))
    same.model(same.mix.batch(torch.arange(24)).images_BCHW)
    torch.testing.assert_close(dict(one.model.named_buffers()), dict(same.model.named_buffers()))


def test_the_mask_covers_the_highest_cells() -> None:
    bank = torch.rand(20, 8, 8, generator=generator())
    mask = foreground_mask(bank, 0.25, generator())
    assert (mask.sum(dim=(1, 2)) == 16).all()
    highest = torch.where(mask, bank, 2.0).amin(dim=(1, 2))
    rest = torch.where(mask, -1.0, bank).amax(dim=(1, 2))
    assert (highest > rest).all()


def test_ties_break_at_random_evenly_over_all_cells() -> None:
    mask = foreground_mask(torch.full((4000, 8, 8), 0.5), 0.25, generator())
    share = mask.float().mean(dim=0)
    assert (share - 0.25).abs().max() < 0.04  # five standard deviations of 4000 draws


def test_ties_do_not_disturb_clear_winners() -> None:
    bank = torch.zeros(500, 8, 8)
    bank[:, 3, 4] = 1
    mask = foreground_mask(bank, 2 / 64, generator())
    assert mask[:, 3, 4].all()
    assert mask.flatten(1).float().mean(0).gt(0).sum() > 50


def test_official_ties_take_the_first_cells() -> None:
    mask = foreground_mask(torch.full((3, 8, 8), 0.5), 0.25, None)
    assert mask.flatten(1)[:, :16].all()
    assert not mask.flatten(1)[:, 16:].any()


def test_partners_within_a_batch_are_never_oneself() -> None:
    labels = torch.zeros(64, dtype=torch.long)
    for seed in range(20):
        partners = draw_partners(labels, labels, False, generator(seed), self_B=torch.arange(64))
        assert (partners != torch.arange(64)).all()


def test_partners_are_drawn_evenly() -> None:
    labels = torch.zeros(8, dtype=torch.long)
    counts = torch.zeros(8, 8)
    for seed in range(2000):
        partners = draw_partners(labels, labels, False, generator(seed), self_B=torch.arange(8))
        counts[torch.arange(8), partners] += 1
    off_diagonal = counts[~torch.eye(8, dtype=torch.bool)]
    assert off_diagonal.min() > 2000 / 7 * 0.7
    assert off_diagonal.max() < 2000 / 7 * 1.3


def test_partners_of_another_class_are_drawn_evenly_among_them() -> None:
    pool = torch.tensor([2, 0, 1, 0, 2, 1, 1, 0])
    counts = torch.zeros(3, 8)
    for seed in range(1500):
        partners = draw_partners(torch.arange(3), pool, True, generator(seed))
        assert (pool[partners] != torch.arange(3)).all()
        counts[torch.arange(3), partners] += 1
    for c in range(3):
        others = counts[c][pool != c]
        assert others.min() > 1500 / len(others) * 0.7


def test_a_pool_of_one_class_offers_any_of_it() -> None:
    labels = torch.full((16,), 3)
    partners = draw_partners(labels, labels, True, generator(), self_B=torch.arange(16))
    assert (partners != torch.arange(16)).all()


def test_foreground_probability_is_the_true_class_of_a_softmax_at_each_cell() -> None:
    activation = torch.randn(6, 5, 8, 8, generator=generator())
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    expected = torch.stack([activation[i].softmax(0)[labels[i]] for i in range(6)])
    assert torch.allclose(foreground_probability(activation, labels), expected, atol=1e-6)


def test_the_bank_moves_by_eq_4_where_the_cell_was_seen() -> None:
    bank = torch.rand(10, 8, 8, generator=generator())
    before, ids = bank.clone(), torch.tensor([7, 2])
    cam = torch.rand(2, 8, 8, generator=generator(1))
    seen = torch.rand(2, 8, 8, generator=generator(2)) < 0.7
    update_bank(bank, ids, cam, seen, 0.1)
    expected = before.clone()
    expected[ids] = torch.where(seen, 0.1 * cam + 0.9 * before[ids], before[ids])
    assert torch.allclose(bank, expected, atol=1e-7)
