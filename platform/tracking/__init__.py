"""The only room that uses MLflow. Each sweep is a run; each trial is a run under it. Only drivers write them.

- `tracker`: what a sweep talks to. Claims are asked of MLflow at once; everything else is a record in the outbox.
- `claims`: decides which driver trains an identity.
- `outbox`: keeps records on disk until MLflow has them. `delivery`: turns records into what a run holds.
- `reader`: what a report talks to. It imports MLflow only if the store has changed. `index`: finds finished trials.
- `store`: makes the requests. `drivers`: tells which processes live.
- `runs`, `sweeps`, `trials`: what a run of a trial or of a sweep consists of. `evaluations`: what a trial still lacks.
"""

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before it is imported: what is trained here is nobody's
