"""CutOut, MixUp and CutMix by what pixel comes from where, and the draws by their distribution."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from tests.helpers.references import CPU, objective, pool, resolved, training_images
from trainables.mixes.base import Batch, SeenMix
from trainables.mixes.boxes import Box, draw_box, draw_lam
from trainables.mixes.cutmix import cutmix
from trainables.mixes.cutout import cutout
from trainables.mixes.mixup import mixup
from trainables.objectives.losses import two_hot

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
    mixed = cutmix(images, NEXT, box)
    for i in range(N):
        hole = inside(box, i, 20, 28)
        assert torch.equal(mixed[i][:, hole], images[NEXT[i]][:, hole])
        assert torch.equal(mixed[i][:, ~hole], images[i][:, ~hole])


def mixed_by(name: str, n: int = N, seed: int = 0, **settings: object) -> tuple[Batch, Batch]:
    """A raw batch whose every pixel is found nowhere else, and what a mix makes of it."""
    labels = torch.arange(n) % 5
    one = objective(resolved(method=name, **settings), training_images(pool(labels), 5, seed)).mix
    assert isinstance(one, SeenMix)
    raw = one.raw(torch.arange(n))
    raw = raw._replace(images_BCHW=batch(n), raw_BCHW=batch(n))
    return raw, one.mix(raw)


def lam_of(mixed: Batch) -> torch.Tensor:
    assert mixed.lam_B is not None
    return mixed.lam_B


def partners_of(mixed: Batch) -> torch.Tensor:
    assert mixed.partners_B is not None
    return mixed.partners_B


def test_the_lambda_of_a_cutmix_is_that_of_the_pixels_really_kept() -> None:
    raw, mixed = mixed_by("cutmix")
    own, lam = partners_of(mixed) == torch.arange(N), lam_of(mixed)
    kept = (mixed.images_BCHW == raw.raw_BCHW)[:, 0].sum(dim=(1, 2))
    pasted = (mixed.images_BCHW == raw.raw_BCHW[partners_of(mixed)])[:, 0].sum(dim=(1, 2))
    assert torch.equal((lam * SIZE**2)[~own], kept.float()[~own])
    assert torch.equal(((1 - lam) * SIZE**2)[~own], pasted.float()[~own])
    assert len(lam.unique()) > N // 2


def test_the_labels_of_a_cutmix_have_the_mass_of_one_label() -> None:
    _, mixed = mixed_by("cutmix")
    lam, labels = lam_of(mixed), mixed.labels_B
    target = two_hot(labels, labels[partners_of(mixed)], lam, 5)
    assert torch.allclose(target.sum(dim=1), torch.ones(N))
    other = labels != labels[partners_of(mixed)]
    assert torch.equal(target[torch.arange(N), labels][other], lam[other])


def test_cutout_is_grey_inside_the_box_and_untouched_outside() -> None:
    images, box = batch(), boxes()
    hidden = cutout(images, box)
    for i in range(N):
        hole = inside(box, i)
        assert (hidden[i][:, hole] == 0).all()
        assert torch.equal(hidden[i][:, ~hole], images[i][:, ~hole])


def test_after_a_cutout_the_whole_label_is_that_of_the_image() -> None:
    _, mixed = mixed_by("cutout")
    assert torch.equal(partners_of(mixed), torch.arange(N))
    assert torch.equal(lam_of(mixed), torch.ones(N))


def test_mixup_is_the_weighted_sum_of_both_images_at_each_pixel() -> None:
    images, share = batch(4, 2, 3), torch.tensor([0.0, 0.25, 0.7, 1.0])
    partners = torch.tensor([1, 3, 0, 2])
    mixed = mixup(images, partners, share)
    for i in range(4):
        own = float(share[i])
        expected = own * images[i].double() + (1 - own) * images[int(partners[i])].double()
        assert torch.allclose(mixed[i].double(), expected, rtol=1e-6)


def test_a_mixup_with_the_whole_share_is_the_image_and_with_none_its_partner() -> None:
    images = batch()
    assert torch.equal(mixup(images, NEXT, torch.ones(N)), images)
    assert torch.equal(mixup(images, NEXT, torch.zeros(N)), images[NEXT])


def test_a_cutmix_with_no_box_is_the_image_and_with_a_full_one_its_partner() -> None:
    images, zero = batch(), torch.zeros(N, dtype=torch.long)
    none = draw_box(torch.zeros(N), SIZE, SIZE, generator())
    assert torch.equal(none.area(), zero)
    nothing = cutmix(images, NEXT, none)
    assert torch.equal(nothing, images)
    everything = cutmix(images, NEXT, Box(zero, zero, zero + SIZE, zero + SIZE))
    assert torch.equal(everything, images[NEXT])


MIXES = {
    "cutout": lambda images, partners: cutout(images, boxes(n=len(images))),
    "mixup": lambda images, partners: mixup(images, partners, torch.linspace(0, 1, len(images))),
    "cutmix": lambda images, partners: cutmix(images, partners, boxes(n=len(images))),
}


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_mixing_identical_images_changes_nothing(name: str) -> None:
    images = batch(1).expand(N, -1, -1, -1)
    assert torch.allclose(MIXES[name](images, NEXT), images, rtol=1e-6)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_a_batch_of_one_is_mixed_with_itself(name: str) -> None:
    images = batch(1)
    mixed: torch.Tensor = MIXES[name](images, torch.zeros(1, dtype=torch.long))
    assert torch.equal(mixed, images)


@pytest.mark.parametrize("name", MIXES)
def test_mixed_images_stay_channels_last(name: str) -> None:
    mixed = MIXES[name](batch(), NEXT)
    assert mixed.is_contiguous(memory_format=torch.channels_last)


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
    share = draw_lam(3000, alpha, generator(), CPU)
    assert stats.kstest(share.numpy(), stats.beta(alpha, alpha).cdf).pvalue > 0.01
    for other in {0.2, 1.0, 2.0} - {alpha}:  # the test is able to tell them apart
        assert stats.kstest(share.numpy(), stats.beta(other, other).cdf).pvalue < 1e-6


@pytest.mark.parametrize("alpha", [1e-3, 0.2, 1.0, 50.0])
def test_shares_are_numbers_between_0_and_1(alpha: float) -> None:
    share = draw_lam(2000, alpha, generator(), CPU)
    assert share.dtype == torch.float32
    assert ((share >= 0) & (share <= 1)).all()


def test_one_share_is_the_same_for_all_of_a_batch_and_follows_the_beta_distribution() -> None:
    host = generator()
    shares = torch.stack([draw_lam(3, 1.0, host, CPU, one=True) for _ in range(2000)])
    assert (shares == shares[:, :1]).all()
    assert stats.kstest(shares[:, 0].numpy(), stats.beta(1, 1).cdf).pvalue > 0.01


def test_the_same_seed_draws_the_same() -> None:
    assert torch.equal(draw_lam(N, 0.2, generator(5), CPU), draw_lam(N, 0.2, generator(5), CPU))
    assert not torch.equal(draw_lam(N, 0.2, generator(5), CPU), draw_lam(N, 0.2, generator(6), CPU))
    first, again, other = (boxes(seed) for seed in (5, 5, 6))
    assert torch.equal(torch.stack([*first]), torch.stack([*again]))
    assert not torch.equal(torch.stack([*first]), torch.stack([*other]))


@pytest.mark.parametrize("draw", ["sample", "batch"])
@pytest.mark.parametrize("name", ["cutout", "mixup", "cutmix"])
def test_a_batch_mixed_twice_from_the_same_seed_is_the_same(name: str, draw: str) -> None:
    first, again, other = (mixed_by(name, seed=seed, mix_draw=draw)[1] for seed in (3, 3, 4))
    assert torch.equal(first.images_BCHW, again.images_BCHW)
    assert torch.equal(partners_of(first), partners_of(again))
    assert torch.equal(lam_of(first), lam_of(again))
    assert not torch.equal(first.images_BCHW, other.images_BCHW)


def test_every_image_of_a_batch_is_partner_of_one() -> None:
    partners = partners_of(mixed_by("cutmix")[1])
    assert torch.equal(partners.sort().values, torch.arange(N))
    assert (partners != torch.arange(N)).any()


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_a_draw_for_the_batch_gives_all_of_it_one_lambda_and_a_draw_for_samples_many(name: str) -> None:
    assert len(lam_of(mixed_by(name, mix_draw="batch")[1]).unique()) == 1
    assert len(lam_of(mixed_by(name)[1]).unique()) > N // 2


def test_the_box_of_a_cutmix_has_the_area_that_its_lambda_leaves() -> None:
    lam = lam_of(mixed_by("cutmix", n=200)[1])
    drawn = draw_lam(200, 1.0, torch.Generator().manual_seed(0), CPU)
    # An even side and the border only take away from a box: an image keeps what was drawn for it, or more.
    assert (lam >= drawn - 1e-6).all()
    assert torch.corrcoef(torch.stack([lam, drawn]))[0, 1] > 0.8
