"""What is learnt from batches, one objective a file."""

from __future__ import annotations

from trainables.mixes import mix_class
from trainables.models.output import Network
from trainables.objectives.a2pt import A2Pt
from trainables.objectives.arpl_cs import ArplCs
from trainables.objectives.asymmetric import Asymmetric
from trainables.objectives.base import Objective
from trainables.objectives.clip import Clip
from trainables.objectives.coop import CoOp
from trainables.objectives.cross_entropy import CrossEntropy
from trainables.objectives.cssr import CSSR
from trainables.objectives.cutmixpick import CutMixPick
from trainables.objectives.distill import Distill
from trainables.objectives.locoop import LoCoOp
from trainables.objectives.openmix import OpenMix
from trainables.objectives.outliers import CatImg, FtAvg, OutlierExposure
from trainables.objectives.points import Arpl, Gcpl, Rpl
from trainables.objectives.proser import Proser
from trainables.objectives.teacher_free import TeacherFree
from trainables.objectives.vpt import Vpt
from trainables.settings.config import TrialConfig
from trainables.settings.custom import custom_part, is_custom

OBJECTIVES: dict[str, type[Objective]] = {
    "ce": CrossEntropy,
    "distill": Distill,
    "asymmetric": Asymmetric,
    "cmpkd": CutMixPick,
    "proser": Proser,
    "openmix": OpenMix,
    "teacher-free": TeacherFree,
    "oe": OutlierExposure,
    "catimg": CatImg,
    "ftavg": FtAvg,
    "cssr": CSSR,
    "rcssr": CSSR,
    "gcpl": Gcpl,
    "rpl": Rpl,
    "arpl": Arpl,
    "arpl-cs": ArplCs,
    "clip": Clip,
    "coop": CoOp,
    "locoop": LoCoOp,
    "a2pt": A2Pt,
    "vpt": Vpt,
}


def objective_class(name: str) -> type[Objective]:
    """The objective of a name, built in or one's own (`ValueError` where that one cannot be used)."""
    return custom_part(name).part if is_custom(name) else OBJECTIVES[name]


def network_of(config: TrialConfig, num_classes: int, image_size: int) -> Network:
    """The freshly initialised network of a trial, as its objective needs it, by torch's global generator. Raises
    `ValueError` where the trial's mix would look at its foreground, and it shows none."""
    network = objective_class(config.objective).network(config, num_classes, image_size)
    if mix_class(config.mix).looks and not network.shows_maps:
        said = f"{config.backbone} shows no maps, by which {config.mix} tells object from background"
        raise ValueError(f"{said}: take a convolutional network that pools its last maps by their mean, or a vit-…")
    return network
