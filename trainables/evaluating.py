"""What a trained network scores: metrics, and the files that last."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy.optimize import linear_sum_assignment

from trainables.data.trial_data import TrialData
from trainables.models.given import load_given
from trainables.objectives import network_of
from trainables.scoring.evaluation import fit_head, score_samples
from trainables.scoring.extra_scores import extra_scores
from trainables.scoring.measured import metrics_of
from trainables.settings.config import TrialConfig, config_yaml
from trainables.storage.folder import Folder
from trainables.storage.weights import WeightsError
from trainables.training.loop import advice
from trainables.training.teacher import read_weights


def evaluate(
    config: TrialConfig,
    data: TrialData,
    model: torch.nn.Module,
    device: torch.device,
    out: Path | None,
    fitted: bool = False,
) -> dict[str, float]:
    """Validation metrics; with `out`, at the end of training, those of the test set and the files too. A head that was
    `fitted` before is left as it is."""
    parts = {"val": data.validation} | ({"test": data.test} if out else {})
    own = config.objective_settings.own_scores
    try:
        if own and not fitted:
            fit_head(model, data.train, device, config.precision)
        extra = extra_scores(config.scores_on_request(last=out is not None), config, model, data.train, device)
        present = {part: sets for part, sets in parts.items() if sets}
        tables = [score_samples(model, *one, device, config.precision, extra, own) for one in present.items()]
    except FloatingPointError as error:
        raise FloatingPointError(f"{error}: {advice(config)}") from error
    metrics: dict[str, float] = {}
    if tables:
        table = pd.concat(tables, ignore_index=True)
        for part in parts:
            metrics |= metrics_of(table, part, len(data.classes), config.score)
    if out:
        out.mkdir(parents=True, exist_ok=True)
        if tables:
            _write(out, "scores.parquet", lambda file: table.to_parquet(file, index=False))
        _write(out, "weights.pt", lambda file: torch.save(model.state_dict(), file))
        threads = torch.get_num_threads()
        again = f"# python -m trainables.trial config.yaml --device {device.type} --threads {threads}\n"
        _write(out, "config.yaml", lambda file: file.write((again + config_yaml(config)).encode()))
    return metrics


def evaluate_again(
    config: TrialConfig, data: TrialData, device: torch.device, out: Path, weights: Path
) -> dict[str, float]:
    """All metrics of finished `weights`, on the sets and with the scores that `config` has now; without training.

    `out` gets the files of a trial. Raises `WeightsError` where the weights are missing or of another network.
    """
    model = read_weights(config, data, weights, device)
    return evaluate(config, data, model, device, out, fitted=True)


def evaluate_given(config: TrialConfig, data: TrialData, device: torch.device, out: Path) -> dict[str, float]:
    """All metrics of weights that others trained, as they are. `out` gets the files of a trial, the weights as ours.

    Raises `WeightsError` where they do not fit, or their classes are in another order than the split's.
    """
    torch.manual_seed(0)  # a network is drawn before its weights are put in
    model = network_of(config, len(data.classes), data.image_size)
    load_given(model, config, data.classes)
    model.to(device).to(memory_format=torch.channels_last)
    metrics = evaluate(config, data, model, device, out, fitted=True)
    if not config.test or config.objective_settings.image_text:  # which has its order from the classes' names
        return metrics
    known = pd.read_parquet(out / "scores.parquet", columns=["set", "label", "prediction"]).query("set == 'known'")
    if order := misordered(known["label"].to_numpy(), known["prediction"].to_numpy(), len(data.classes)):
        named = [data.classes[label] for label in order]
        instead = "write head: sorted" if named == sorted(named) else f"it seems to be {named}"
        raise WeightsError(
            f"{config.weights_file or config.weights} gives {metrics['test/accuracy']:.0%} of the known images their "
            f"class, and most of them one and the same other: the head's classes are in another order than the "
            f"split's, {list(data.classes)}; {instead}"
        )
    return metrics


def misordered(label_N: npt.NDArray[np.int64], prediction_N: npt.NDArray[np.int64], classes: int) -> list[int]:
    """The labels that a head's places seem to stand for, where they are not 0..K-1: each place the class that most of
    its images have, if these are at least half of all and twice as many as those that get their own. Else empty."""
    confusion = np.bincount(label_N * classes + prediction_N, minlength=classes**2).reshape(classes, classes)
    labels, places = linear_sum_assignment(confusion, maximize=True)
    best, own = confusion[labels, places].sum(), np.trace(confusion)
    if best < len(label_N) / 2 or best < 2 * own:
        return []
    return labels[np.argsort(places)].tolist()


def _write(out: Path, name: str, content: Callable[[io.BytesIO], object]) -> None:
    """A file that is on the disk as a whole before the checkpoints go that it could be made from."""
    file = io.BytesIO()
    content(file)
    file.seek(0)
    Folder.at(out).write(file, name)
