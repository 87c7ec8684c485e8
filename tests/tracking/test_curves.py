"""Event files of TensorBoard, read again record by record."""

import struct
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event

from platform.tracking.curves import Curves
from tests.helpers.stores import CONFIG, state


def scalars(file: Path) -> list[tuple[str, int, float]]:
    """Each record is its length in 8 bytes, a sum of these in 4, an event, and its sum in 4."""
    data, at, found = file.read_bytes(), 0, []
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        event = Event.FromString(data[at + 12 : at + 12 + length])
        found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
        at += 16 + length
    return found


def test_every_metric_of_every_epoch_is_in_the_trials_own_event_file(tmp_path: Path) -> None:
    curves, trial = Curves(tmp_path), state("a" * 16)
    curves.started(trial)
    curves.placed(trial)
    for epoch in (0.5, 1, 1.5, 2):  # reports within an epoch have nothing new
        trial.epoch, trial.metrics = epoch, {"train/loss": 0.25 * int(epoch), "val/accuracy": 0.5}
        curves.reported(trial)
    curves.ended(trial)
    (folder,) = (tmp_path / "toy").iterdir()
    assert folder.name == f"Row split {CONFIG.split} seed {CONFIG.seed}-aaaaaa"
    (file,) = folder.iterdir()
    assert sorted(scalars(file)) == [
        ("train/loss", 1, 0.25),
        ("train/loss", 2, 0.5),
        ("val/accuracy", 1, 0.5),
        ("val/accuracy", 2, 0.5),
    ]
