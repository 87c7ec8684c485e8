"""What figures look at: networks whose answers are known."""

from pathlib import Path

import numpy as np
import pytest
import torch

from platform.files import search_file
from platform.files.rows import row_list
from platform.reports.figures.drawing import Runs
from platform.reports.figures.from_table import grid
from platform.reports.table import ReportCell, ReportTable
from trainables.data.kept import ImageSet
from trainables.data.trial_data import Samples, TrialData, build
from trainables.models import build_model
from trainables.models.head import LinearHead
from trainables.scoring import inspection
from trainables.settings.config import TrialConfig
from trainables.settings.resolving import resolve

CPU = torch.device("cpu")


def trial(**settings: object) -> tuple[TrialConfig, TrialData]:
    base = {"method": "backmix", "protocol": "digits", "backbone": "wrn10-1", "images_per_class": 20, **settings}
    config = resolve(base)
    return config, build(config, Path())


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Of a network whose last layer is 0 but for class 2, which it is always sure of."""
    _, data = trial()
    torch.manual_seed(0)
    model = build_model("wrn10-1", len(data.classes), data.image_size)
    head = model.get_submodule("head")
    assert isinstance(head, LinearHead)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
        head.bias[2] = 50.0
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


def test_a_network_that_always_names_one_class_errs_where_neither_of_the_two_has_it(weights: Path) -> None:
    config, data = trial()
    found = inspection.mistakes(config, data, weights, CPU, [0.2, 0.8], 2_000)
    assert found["overconfident"].tolist() == [1.0, 1.0]
    # Of six classes alike, the first is another with 5/6, and its partner, of another class, too with 4/5.
    assert found["error"].to_numpy() == pytest.approx(4 / 6, abs=0.04)


def test_features_are_of_the_known_and_the_unknown_test_images(weights: Path) -> None:
    config, data = trial()
    found = inspection.features(config, data, weights, CPU)
    assert len(found.features_NC) == len(found.class_N) == 797
    assert set(found.class_N[found.known_N].tolist()) == set(config.known_classes)
    assert not set(found.class_N[~found.known_N].tolist()) & set(config.known_classes)


def test_masks_hide_the_share_of_cells_and_paste_only_within_the_box(weights: Path) -> None:
    config, data = trial(mask_ratio=0.25, cut_size=0.25)
    found = inspection.masks(config, data, weights, CPU, 6)
    cells = found.mask_Nhw[0].size
    assert (found.mask_Nhw.sum(axis=(1, 2)) == round(0.25 * cells)).all()
    changed = (found.mixed_NHWC != found.targets_NHWC).any(axis=-1)
    assert changed.any()
    for image in changed:
        rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
        assert len(rows) == 0 or np.ptp(rows) < 16
        assert len(columns) == 0 or np.ptp(columns) < 16


def test_masks_of_large_images_are_drawn_as_they_are_trained(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 100, (12, 256, 256, 3), dtype=np.uint8)  # never grey
    source = ImageSet("noise", pixels, np.arange(12) % 2, np.arange(12), "noise", 0, "drawn here")
    data = TrialData((0, 1), 224, True, Samples(source, np.arange(12), np.arange(12) % 2, 224))
    settings = {"method": "backmix", "backbone": "resnet18", "image_size": 224, "mask_ratio": 0.25, "cut_size": 0.25}
    torch.save(build_model("resnet18", 2, 224).state_dict(), tmp_path / "weights.pt")
    found = inspection.masks(resolve(settings), data, tmp_path / "weights.pt", CPU, 6)
    assert found.mixed_NHWC.shape == found.masked_NHWC.shape == (*found.cam_NHW.shape, 3) == (6, 224, 224, 3)
    assert (found.mask_Nhw.sum(axis=(1, 2)) == round(0.25 * 49)).all()  # of the cells of the stored image
    for target, masked, mixed in zip(found.targets_NHWC, found.masked_NHWC, found.mixed_NHWC, strict=True):
        changed = (mixed != target).any(axis=-1)
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        assert len(rows) == len(columns) == 112  # half of the seen side: a quarter of its area
        box = np.ix_(rows, columns)
        assert np.array_equal(mixed[box], masked[box])  # the masked background, at the same place


def test_a_grid_is_drawn_over_its_two_settings(tmp_path: Path) -> None:
    (tmp_path / "g.yaml").write_text(
        "name: g\nbase: {method: backmix, backbone: wrn10-1}\n"
        "grid: {mask_ratio: [0.2, 0.4], cut_size: [0.1, 0.2]}\nfigures: [grid]\n"
    )
    spec = search_file.load(tmp_path / "g.yaml").profile("paper")
    cells = tuple(
        tuple(ReportCell(row.name, column, None, (), {(0, 0): 0.1 * number}) for column in spec.columns)
        for number, row in enumerate(row_list(spec))
    )
    table = ReportTable(spec, tmp_path, "paper", (), tuple(spec.columns), cells, ())
    (drawing,) = grid(Runs(table, None, None, tmp_path))  # type: ignore[arg-type]
    of = drawing.data[drawing.data["column"] == "AUROC"].set_index(["mask_ratio", "cut_size"])["mean"]
    assert of.to_dict() == pytest.approx({(0.2, 0.1): 0.0, (0.2, 0.2): 10.0, (0.4, 0.1): 20.0, (0.4, 0.2): 30.0})
    assert drawing.save(tmp_path).stat().st_size > 1000
