"""Visual prompt tuning (VPT, Jia et al., ECCV 2022): cross-entropy of a linear head on a prompted image tower."""

from __future__ import annotations

from trainables.models.visual_prompts import VisuallyPrompted
from trainables.objectives.coop import PromptTuning
from trainables.settings.image_text import VptSettings


class Vpt(PromptTuning):
    settings: VptSettings
    prompted = VisuallyPrompted
