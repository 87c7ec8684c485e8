"""How much memory of a GPU a trial takes, and how many share one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml

from platform.files.spec import Spec
from platform.planning.memory import MARGIN, MOST, OUTSIDE, gpu_bytes, gpu_share, largest, pack
from platform.planning.plan import ImageSets, Plan, Sweep, make_plan
from tests.helpers.clips import TINY
from trainables.data.kept import ImageSet
from trainables.data.trial_data import Samples, TrialData
from trainables.images.encoded import Encoded
from trainables.objectives import network_of
from trainables.selfcheck.subjects import drawn
from trainables.settings.config import TrialConfig
from trainables.settings.methods import METHODS
from trainables.settings.objectives import OBJECTIVES
from trainables.settings.resolving import resolve

DATA = drawn(60, 32)
TABLE = """
name: toy
base: {protocol: digits, backbone: wrn10-1, epochs: 1, images_per_class: 20, batch_size: 16}
rows:
  - {name: Plain, set: {method: plain}}
  - {name: Taught, set: {method: distill, teacher: {backbone: wrn16-2, batch_size: 64}}}
"""


def config(**settings: object) -> TrialConfig:
    return resolve({"method": "plain", "backbone": "wrn10-1", "batch_size": 64, **settings})


def tensors(**settings: object) -> float:
    return (gpu_bytes(config(**settings), DATA) - OUTSIDE) / MARGIN


def test_what_a_real_pass_keeps_is_counted() -> None:
    network = network_of(config(), len(DATA.classes), 32)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = network(torch.randn(64, 3, 32, 32))
    weights = {p.untyped_storage().data_ptr(): 4 * p.numel() for p in network.parameters()}
    activations = sum(size for place, size in kept.items() if place not in weights)
    images = (len(DATA.train) + len(DATA.outliers or ())) * 32 * 32 * 3
    expected = 2 * sum(weights.values()) + activations + images  # the optimiser's state, too
    assert output.logits_BK.requires_grad
    assert expected < tensors() < 1.3 * expected


# The most that tensors took on an NVIDIA H200, in MiB, as `python -m trainables.selfcheck` told it: docs/gpu.md.
MEASURED = {
    ("wrn40-4", 32, 128, "bf16", "plain"): 835,
    ("wrn40-4", 32, 128, "bf16", "asymmetric"): 939,
    ("wrn40-4", 32, 128, "fp32", "plain"): 1549,
    ("resnet18", 64, 128, "bf16", "backmix"): 1401,
    ("resnet18", 64, 128, "fp32", "plain"): 2500,
    ("resnet18", 64, 128, "fp32", "asymmetric"): 3062,
    ("wrn40-4", 32, 32, "bf16", "plain"): 372,
    ("resnet18", 64, 32, "bf16", "asymmetric"): 638,
    ("wrn16-4", 32, 128, "bf16", "plain"): 356,
}
CONTEXT = 600  # MiB of a process beside its tensors, there


@pytest.mark.parametrize("trial", MEASURED, ids=str)
def test_what_a_gpu_took_fits_into_the_estimate(trial: tuple[str, int, int, str, str]) -> None:
    backbone, size, batch, precision, method = trial
    pixels = np.broadcast_to(np.uint8(0), (2560, size, size, 3))  # as many as there, twice
    source = ImageSet("zeros", pixels, np.arange(2560) % 6, np.arange(2560), "zeros", 0, "here")
    samples = Samples(source, np.arange(2560), source.labels)
    data = TrialData(tuple(range(6)), size, True, samples, outliers=samples)
    shape = {"backbone": backbone, "image_size": size, "batch_size": batch, "precision": precision}
    estimated = gpu_bytes(resolve({"method": method, **shape}), data) / 2**20
    assert MEASURED[trial] + CONTEXT < estimated < 1.5 * (MEASURED[trial] + CONTEXT)


def test_the_weights_of_a_teacher_lie_beside_the_students() -> None:
    teacher = {"backbone": "wrn16-4"}
    weights = sum(4 * p.numel() for p in network_of(config(**teacher), len(DATA.classes), 32).parameters())
    assert tensors(method="distill", teacher=teacher) - tensors() > weights


def test_images_that_are_streamed_do_not_lie_on_the_device() -> None:
    labels, size = np.arange(1000) % 6, 32
    encoded = Encoded(pa.array([b""] * 1000), None, size)
    both = (np.broadcast_to(np.uint8(0), (1000, size, size, 3)), encoded)
    needs = []
    for images in both:
        source = ImageSet("zeros", images, labels, np.arange(1000), "zeros", 0, "here")
        samples = Samples(source, np.arange(1000), labels)
        needs.append(gpu_bytes(config(), TrialData(tuple(range(6)), size, True, samples)))
    assert needs[0] - needs[1] == pytest.approx(MARGIN * 1000 * size * size * 3, abs=1)


def test_a_larger_batch_and_what_keeps_more_take_more() -> None:
    assert tensors(batch_size=128) > 1.8 * tensors()
    assert tensors(method="teacher-free") > 2.5 * tensors()
    assert tensors(precision="bf16") < 0.7 * tensors()
    weights = sum(4 * p.numel() for p in network_of(config(), len(DATA.classes), 32).parameters())
    assert tensors(optimizer="adam", lr=0.001) - tensors() == pytest.approx(weights, abs=2)


@pytest.mark.parametrize("backbone", ["vit-ti8", "timm:mobilenetv3_small_050"])
def test_a_network_that_looks_at_its_numbers_while_it_is_made_is_counted(backbone: str) -> None:
    weights = sum(4 * p.numel() for p in network_of(config(backbone=backbone), len(DATA.classes), 32).parameters())
    assert tensors(backbone=backbone) > 2.5 * weights


@pytest.mark.parametrize("method", [m for m, parts in METHODS.items() if not OBJECTIVES[parts["objective"]].image_text])
def test_every_method_takes_at_least_what_plain_does(method: str) -> None:
    assert tensors(method=method) > 0.98 * tensors()  # a head of points has no bias


def test_frozen_towers_have_no_gradients_and_their_attention_is_kept_where_backmix_looks() -> None:
    towers = sum(4 * p.numel() for p in network_of(config(method="coop", **TINY), len(DATA.classes), 32).parameters())
    assert towers < tensors(method="coop", **TINY) < 1.6 * towers
    assert tensors(method="coop", mix="backmix", **TINY) > tensors(method="coop", **TINY) + 4 * 128 * 2 * 2 * 17**2


def test_the_shares_of_trials_that_fit_are_no_more_than_a_gpu_as_ray_counts() -> None:
    for fit in range(1, MOST + 1):
        share = gpu_share(10, 10 * fit + 9)
        assert round(share * 10_000) * fit <= 10_000
        assert int(1 / share) == fit
    assert gpu_share(100, 80) == 1.0
    assert gpu_share(10, 10_000) == 1 / MOST


def planned(resources: str = "", backbone: str = "wrn10-1") -> Plan:
    spec = Spec.model_validate(yaml.safe_load(TABLE.replace("wrn10-1", backbone) + resources))
    return make_plan([Sweep(Path("toy.yaml"), spec, "paper", ())], ImageSets(Path()), lambda path, profile: {})


def test_the_largest_trial_of_a_sweep_may_be_a_teacher() -> None:
    plan = planned()
    need, of = largest(plan.sweeps[0], plan.images)
    assert (of.backbone, of.batch_size) == ("wrn16-2", 64)
    assert need == gpu_bytes(of, plan.images.of(of))


def test_auto_puts_as_many_trials_on_a_gpu_as_fit() -> None:
    plan = planned("resources: {gpus_per_worker: auto}\n")
    (sweep,) = plan.sweeps
    assert sweep.spec.resources.gpus == 1.0
    need, _ = largest(sweep, plan.images)
    said = pack(sweep, plan.images, 3 * need + 1)
    assert sweep.spec.resources.gpus == 0.3333
    assert "auto puts 3 of them on one of" in said


def test_what_is_asked_for_by_number_stays() -> None:
    plan = planned("resources: {gpus_per_worker: 0.5}\n")
    pack(plan.sweeps[0], plan.images, 2**40)
    assert plan.sweeps[0].spec.resources.gpus == 0.5


def test_a_network_whose_pass_depends_on_numbers_is_told_and_planned_one_on_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deciding_network.py").write_text(
        """
from torch import nn
from trainables.models.output import Network, Output

class Deciding(Network):
    def __init__(self, num_classes, image_size):
        super().__init__()
        self.num_features = 3
        self.head = nn.Linear(3, num_classes)

    def forward(self, images):
        features = images.mean(dim=(2, 3))
        features = features if features.sum() > 0 else -features
        return Output(self.head(features), features, None)
"""
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    plan = planned("resources: {gpus_per_worker: auto}\n", "deciding_network:Deciding")
    said = pack(plan.sweeps[0], plan.images, 2**40)
    assert said.startswith("could not be told without a GPU: DataDependentOutputException")
    assert plan.sweeps[0].spec.resources.gpus == 1.0
