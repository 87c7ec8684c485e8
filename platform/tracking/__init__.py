"""The one room of MLflow: a run for each sweep, a run under it for each trial, written by the drivers alone.

`tracker` is what sweeps talk to. It decides with `claims` who trains an identity, and writes all else as records into
the outbox, which `delivery` turns into what a run holds. `reader` is what reports talk to; it imports MLflow only where
the store has changed. `store` makes the requests; `drivers` tells which processes live; `runs` and `sweeps` say what
the run of a trial and of a sweep consist of.
"""

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before it is imported: what is trained here is nobody's
