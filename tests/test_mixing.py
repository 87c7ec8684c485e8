"""CutOut, MixUp and CutMix by what pixel comes from where, and the draws by their distribution."""

from __future__ import annotations

import math

import pytest
import torch
from references import CPU, pool, training
from scipy import stats

from trainables.learners.mixed import mix
from trainables.mixing import Box, Mixed, cutmix, cutout, draw_box, draw_shares, mixup
from trainables.objectives.losses import two_hot
from trainables.settings.methods import CutMixSettings, CutOutSettings, MixUpSettings

N, SIZE = 24, 32
NEXT = (torch.arange(N) + 1) % N


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(n: int = N, height: int = SIZE, width: int = SIZE) -> torch.Tensor:
    """Images whose every value is found nowhere else in the batch, and is not 0; channels last."""
    values = torch.arange(1, n * 3 * height * width + 1, dtype=torch.float32).view(n, 3, height, width)
    return values.to(memory_format=torch.channels_last)


def boxes(seed: int = 0, n: int = N, height: int = SIZE, width: int = SIZE) -> Box:
    """Of every area, from none of the image to all of it."""
    return draw_box(torch.linspace(0, 1, n), height, width, generator(seed))


def inside(box: Box, i: int, height: int = SIZE, width: int = SIZE) -> torch.Tensor:
    """The box of sample i, pixel by pixel."""
    shown = torch.zeros(height, width, dtype=torch.bool)
    for y in range(int(box.top_B[i]), int(box.bottom_B[i])):
        for x in range(int(box.left_B[i]), int(box.right_B[i])):
            shown[y, x] = True
    return shown


def test_a_mask_is_true_inside_its_box_alone_and_the_area_counts_it() -> None:
    box = boxes()
    mask = box.mask(SIZE, SIZE)
    for i in range(N):
        assert torch.equal(mask[i], inside(box, i))
    assert torch.equal(box.area(), mask.sum(dim=(1, 2)))


def test_cutmix_is_the_partner_inside_the_box_and_the_image_itself_outside() -> None:
    images, box = batch(height=20, width=28), boxes(height=20, width=28)
    mixed = cutmix(images, NEXT, box).images_BCHW
    for i in range(N):
        hole = inside(box, i, 20, 28)
        assert torch.equal(mixed[i][:, hole], images[NEXT[i]][:, hole])
        assert torch.equal(mixed[i][:, ~hole], images[i][:, ~hole])


def test_the_share_of_a_cutmix_is_that_of_the_pixels_really_kept() -> None:
    images, box = batch(), boxes()
    mixed = cutmix(images, NEXT, box)
    kept = (mixed.images_BCHW == images)[:, 0].sum(dim=(1, 2))
    pasted = (mixed.images_BCHW == images[NEXT])[:, 0].sum(dim=(1, 2))
    assert torch.equal(mixed.share_B * SIZE**2, kept.float())
    assert torch.equal((1 - mixed.share_B) * SIZE**2, pasted.float())
    assert len(mixed.share_B.unique()) > N // 2


def test_the_labels_of_a_cutmix_have_the_mass_of_one_label() -> None:
    mixed = cutmix(batch(), NEXT, boxes())
    labels = torch.arange(N) % 5
    target = two_hot(labels, labels[mixed.partners_B], mixed.share_B, 5)
    assert torch.equal(target.sum(dim=1), torch.ones(N))
    assert torch.equal(target[torch.arange(N), labels], mixed.share_B)


def test_cutout_is_grey_inside_the_box_and_untouched_outside() -> None:
    images, box = batch(), boxes()
    hidden = cutout(images, box).images_BCHW
    for i in range(N):
        hole = inside(box, i)
        assert (hidden[i][:, hole] == 0).all()
        assert torch.equal(hidden[i][:, ~hole], images[i][:, ~hole])


def test_after_a_cutout_the_whole_label_is_that_of_the_image() -> None:
    mixed = cutout(batch(), boxes())
    assert torch.equal(mixed.partners_B, torch.arange(N))
    assert torch.equal(mixed.share_B, torch.ones(N))


def test_mixup_is_the_weighted_sum_of_both_images_at_each_pixel() -> None:
    images, share = batch(4, 2, 3), torch.tensor([0.0, 0.25, 0.7, 1.0])
    partners = torch.tensor([1, 3, 0, 2])
    mixed = mixup(images, partners, share)
    for i in range(4):
        own = float(share[i])
        expected = own * images[i].double() + (1 - own) * images[int(partners[i])].double()
        assert torch.allclose(mixed.images_BCHW[i].double(), expected, rtol=1e-6)
    assert torch.equal(mixed.share_B, share)
    assert torch.equal(mixed.partners_B, partners)


def test_a_mixup_with_the_whole_share_is_the_image_and_with_none_its_partner() -> None:
    images = batch()
    assert torch.equal(mixup(images, NEXT, torch.ones(N)).images_BCHW, images)
    assert torch.equal(mixup(images, NEXT, torch.zeros(N)).images_BCHW, images[NEXT])


def test_a_cutmix_with_no_box_is_the_image_and_with_a_full_one_its_partner() -> None:
    images, zero = batch(), torch.zeros(N, dtype=torch.long)
    nothing = cutmix(images, NEXT, draw_box(torch.zeros(N), SIZE, SIZE, generator()))
    assert torch.equal(nothing.images_BCHW, images)
    assert torch.equal(nothing.share_B, torch.ones(N))
    everything = cutmix(images, NEXT, Box(zero, zero, zero + SIZE, zero + SIZE))
    assert torch.equal(everything.images_BCHW, images[NEXT])
    assert torch.equal(everything.share_B, torch.zeros(N))


MIXES = {
    "cutout": lambda images, partners: cutout(images, boxes(n=len(images))),
    "mixup": lambda images, partners: mixup(images, partners, torch.linspace(0, 1, len(images))),
    "cutmix": lambda images, partners: cutmix(images, partners, boxes(n=len(images))),
}


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_mixing_identical_images_changes_nothing(name: str) -> None:
    images = batch(1).expand(N, -1, -1, -1)
    assert torch.allclose(MIXES[name](images, NEXT).images_BCHW, images, rtol=1e-6)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_a_batch_of_one_is_mixed_with_itself(name: str) -> None:
    images = batch(1)
    mixed: Mixed = MIXES[name](images, torch.zeros(1, dtype=torch.long))
    assert torch.equal(mixed.images_BCHW, images)


@pytest.mark.parametrize("name", MIXES)
def test_mixed_images_stay_channels_last(name: str) -> None:
    mixed = MIXES[name](batch(), NEXT)
    assert mixed.images_BCHW.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", MIXES)
def test_a_mix_leaves_its_input_as_it_was(name: str) -> None:
    images = batch()
    MIXES[name](images, NEXT)
    assert torch.equal(images, batch())


@pytest.mark.parametrize("size", [32, 33, 64])
def test_a_box_inside_the_image_has_the_even_side_of_its_area(size: int) -> None:
    area = torch.rand(3000, generator=generator(), dtype=torch.float64)
    box = draw_box(area, size, size, generator(1))
    for first, last in ((box.top_B, box.bottom_B), (box.left_B, box.right_B)):
        uncut = (first > 0) & (last < size)
        assert uncut.sum() > 300
        for i in uncut.nonzero()[:, 0].tolist():
            side = math.floor(size * math.sqrt(float(area[i])))
            assert int(last[i] - first[i]) == side - side % 2


@pytest.mark.parametrize(("size", "side"), [(32, 16), (64, 32), (28, 14)])
def test_a_quarter_of_the_area_is_half_of_each_side(size: int, side: int) -> None:
    box = draw_box(torch.full((500,), 0.25), size, size, generator())
    assert int((box.bottom_B - box.top_B).max()) == int((box.right_B - box.left_B).max()) == side


def test_a_box_has_the_shape_of_its_image() -> None:
    box = draw_box(torch.full((500,), 0.25), 16, 48, generator())
    assert int((box.bottom_B - box.top_B).max()) == 8
    assert int((box.right_B - box.left_B).max()) == 24


def test_a_box_beyond_the_border_is_cut_off_there_and_nowhere_else() -> None:
    size, half = 16, 4
    box = draw_box(torch.full((2000,), 0.25), size, size, generator())
    for first, last in ((box.top_B, box.bottom_B), (box.left_B, box.right_B)):
        found = {(int(a), int(b)) for a, b in zip(first, last, strict=True)}
        assert found == {(max(middle - half, 0), min(middle + half, size)) for middle in range(size)}


def test_centres_fall_evenly_on_every_pixel_corners_included() -> None:
    size = 8
    box = draw_box(torch.full((6400,), (2 / size) ** 2), size, size, generator())
    # A side of 2 covers the centre and the pixel before it: the last pixel is the centre, at every border.
    centre = (box.bottom_B - 1) * size + box.right_B - 1
    counts = torch.bincount(centre, minlength=size**2)
    assert len(counts) == size**2
    assert stats.chisquare(counts.numpy()).pvalue > 0.001


def test_each_sample_has_a_box_of_its_own() -> None:
    box = draw_box(torch.full((N,), 0.25), 64, 64, generator())
    places = {(int(top), int(left)) for top, left in zip(box.top_B, box.left_B, strict=True)}
    assert len(places) > N // 2


def test_one_box_is_the_same_for_all_of_a_batch_and_another_in_the_next() -> None:
    source = generator()
    box, following = (draw_box(torch.full((N,), 0.25), 64, 64, source, one=True) for _ in range(2))
    for edge in box:
        assert edge.shape == (N,)
        assert len(edge.unique()) == 1
    assert [int(edge[0]) for edge in box] != [int(edge[0]) for edge in following]


@pytest.mark.parametrize("alpha", [0.2, 1.0, 2.0])
def test_shares_follow_the_beta_distribution(alpha: float) -> None:
    share = draw_shares(3000, alpha, generator(), CPU)
    assert stats.kstest(share.numpy(), stats.beta(alpha, alpha).cdf).pvalue > 0.01
    for other in {0.2, 1.0, 2.0} - {alpha}:  # the test is able to tell them apart
        assert stats.kstest(share.numpy(), stats.beta(other, other).cdf).pvalue < 1e-6


@pytest.mark.parametrize("alpha", [1e-3, 0.2, 1.0, 50.0])
def test_shares_are_numbers_between_0_and_1(alpha: float) -> None:
    share = draw_shares(2000, alpha, generator(), CPU)
    assert share.dtype == torch.float32
    assert ((share >= 0) & (share <= 1)).all()


def test_one_share_is_the_same_for_all_of_a_batch_and_follows_the_beta_distribution() -> None:
    host = generator()
    shares = torch.stack([draw_shares(3, 1.0, host, CPU, one=True) for _ in range(2000)])
    assert (shares == shares[:, :1]).all()
    assert stats.kstest(shares[:, 0].numpy(), stats.beta(1, 1).cdf).pvalue > 0.01


def test_the_same_seed_draws_the_same() -> None:
    assert torch.equal(draw_shares(N, 0.2, generator(5), CPU), draw_shares(N, 0.2, generator(5), CPU))
    assert not torch.equal(draw_shares(N, 0.2, generator(5), CPU), draw_shares(N, 0.2, generator(6), CPU))
    first, again, other = (boxes(seed) for seed in (5, 5, 6))
    assert torch.equal(torch.stack([*first]), torch.stack([*again]))
    assert not torch.equal(torch.stack([*first]), torch.stack([*other]))


SETTINGS = [CutOutSettings(), MixUpSettings(), CutMixSettings(), CutMixSettings(mix_draw="batch")]


@pytest.mark.parametrize("settings", SETTINGS, ids=["cutout", "mixup", "cutmix", "cutmix, one a batch"])
def test_a_batch_mixed_twice_from_the_same_seed_is_the_same(settings: CutOutSettings | MixUpSettings) -> None:
    images, labels = batch(), torch.zeros(N, dtype=torch.long)
    first, again, other = (mix(settings, images, training(pool(labels), 2, seed)) for seed in (3, 3, 4))
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.images_BCHW, other.images_BCHW)


def test_every_image_of_a_batch_is_partner_of_one() -> None:
    mixed = mix(CutMixSettings(), batch(), training(pool(torch.zeros(N, dtype=torch.long)), 2))
    assert torch.equal(mixed.partners_B.sort().values, torch.arange(N))
    assert (mixed.partners_B != torch.arange(N)).any()


@pytest.mark.parametrize("settings", [MixUpSettings, CutMixSettings])
def test_a_draw_for_the_batch_gives_all_of_it_one_share_and_a_draw_for_samples_many(
    settings: type[MixUpSettings],
) -> None:
    t = training(pool(torch.zeros(N, dtype=torch.long)), 2)
    assert len(mix(settings(mix_draw="batch"), batch(), t).share_B.unique()) == 1
    assert len(mix(settings(), batch(), t).share_B.unique()) > N // 2


def test_the_box_of_a_cutmix_has_the_area_that_its_lambda_leaves() -> None:
    images, labels = batch(200), torch.zeros(200, dtype=torch.long)
    one, another = (training(pool(labels), 2) for _ in range(2))
    mixed = mix(CutMixSettings(), images, one)
    drawn = draw_shares(200, 1.0, another.host, CPU)
    # An even side and the border only take away from a box: an image keeps what was drawn for it, or more.
    assert (mixed.share_B >= drawn - 1e-6).all()
    assert torch.corrcoef(torch.stack([mixed.share_B, drawn]))[0, 1] > 0.8
