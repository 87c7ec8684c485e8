"""Training methods, one a file. A learner says what one batch does."""

from __future__ import annotations

from trainables.learners.asymmetric import Asymmetric
from trainables.learners.backmix import BackMix
from trainables.learners.base import Learner
from trainables.learners.distill import Distill
from trainables.learners.mixed import MixedImages
from trainables.learners.outliers import CatImg, FtAvg, OutlierExposure
from trainables.learners.plain import Plain
from trainables.learners.teacher_free import TeacherFree
from trainables.settings.custom import custom_method, is_custom

LEARNERS: dict[str, type[Learner]] = {
    "plain": Plain,
    "cutout": MixedImages,
    "mixup": MixedImages,
    "cutmix": MixedImages,
    "decoupled-cutmix": MixedImages,
    "backmix": BackMix,
    "distill": Distill,
    "asymmetric": Asymmetric,
    "teacher-free": TeacherFree,
    "oe": OutlierExposure,
    "catimg": CatImg,
    "ftavg": FtAvg,
}


def learner_of(method: str) -> type[Learner]:
    """The learner of a method, built in or one's own (`ValueError` where that one cannot be used)."""
    return custom_method(method).learner if is_custom(method) else LEARNERS[method]
