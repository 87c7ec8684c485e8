"""Training side: settings, images, mixes, objectives, networks, scores. Knows nothing of the driver in `platform/`.

For notebooks and scripts, loaded when they are asked for:

    from trainables import resolve, trial_data, run_trial, pick_device
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_SURFACE = {
    "resolve": ("trainables.settings.resolving", "resolve"),  # settings → TrialConfig
    "trial_data": ("trainables.data.trial_data", "build"),  # its images, divided
    "run_trial": ("trainables.one_trial", "run_trial"),  # trains it: a Report for each epoch
    "pick_device": ("trainables.device", "pick_device"),
}


def __getattr__(name: str) -> Any:
    if name not in _SURFACE:
        raise AttributeError(f"module 'trainables' has no attribute {name!r}")
    module, own = _SURFACE[name]
    return getattr(import_module(module), own)
