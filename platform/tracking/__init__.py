"""The one room of MLflow: a run for each sweep, a run under it for each trial, written by the drivers alone.

`tracker` is what the rest of the platform talks to. It decides with `claims` who trains an identity, and writes all
else as records into the outbox, which `delivery` turns into what a run holds. `store` makes the requests; `drivers`
tells which processes live; `runs` and `sweeps` say what the run of a trial and of a sweep consist of.
"""

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before it is imported: what is trained here is nobody's

from platform.index import Known
from platform.tracking.claims import Claim, Elsewhere, Finished, Ours
from platform.tracking.errors import TrackingError
from platform.tracking.sweeps import Sweep, SweepRun
from platform.tracking.tracker import Tracker

__all__ = ["Claim", "Elsewhere", "Finished", "Known", "Ours", "Sweep", "SweepRun", "Tracker", "TrackingError"]
