"""Scores computed on request, because one forward pass is not enough. Higher is more known.

ODIN differentiates by the image and looks twice; Mahalanobis and the neighbours read the training images again.
Shapes: B batch, N samples, M training samples, K classes, C feature channels, R rank of the covariance.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from trainables.data.trial_data import Samples
from trainables.scoring.evaluation import Columns, ExtraScore, forward
from trainables.scoring.scores import F64, kth_neighbour, msp, unit
from trainables.settings.config import TrialConfig
from trainables.settings.score_names import NEIGHBOURS

AT_ONCE = 500  # samples, whose distances to all training images are in memory together


def extra_scores(
    names: Iterable[str], config: TrialConfig, model: nn.Module, train: Samples, device: torch.device
) -> dict[str, ExtraScore]:
    """The scores called `names`, for the network as it is now; `mahalanobis` and `knn` are fitted to `train` here."""
    makers = {"odin": _odin, "mahalanobis": _mahalanobis, "knn": _knn}
    return {name: makers[name](config, model, train, device) for name in names}


def _odin(config: TrialConfig, model: nn.Module, train: Samples, device: torch.device) -> ExtraScore:
    """ODIN (Liang et al., 2018): `msp` at temperature T of the perturbed image, in 1/K..1."""

    def score(samples: Samples, _: npt.NDArray[np.float32], part: str) -> Columns:
        pool = samples.on(device)
        logits = []
        model.eval()
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            # In batches of the training's size: with gradients, those are known to fit into memory.
            batches = torch.arange(len(pool), device=device).split(config.batch_size)
            pool.ahead(batches)
            epsilon = config.odin_epsilon / torch.tensor(pool.statistics.std, device=device).view(3, 1, 1)
            for ids in batches:
                images_BCHW = perturbed(model, pool.seen(ids), config.odin_temperature, epsilon)
                with torch.no_grad():
                    logits.append(model(images_BCHW).logits_BK.float())
        model.train()
        # In float64: at T = 1000 all probabilities are near 1/K, and in float32 many would tie.
        return {"odin": msp(torch.cat(logits).cpu().numpy().astype(np.float64) / config.odin_temperature)}

    return score


def perturbed(
    model: nn.Module, images_BCHW: torch.Tensor, temperature: float, epsilon: float | torch.Tensor
) -> torch.Tensor:
    """x - epsilon * sign(-grad_x log max_k softmax(z(x) / T)_k) (Liang et al., 2018, Eq. 2), B,C,H,W.

    Epsilon is in units of the normalised images: that of a pixel in 0..1, as the paper's released code counts it,
    divided by the standard deviation.
    A value with gradient 0 stays as it is. `model` must be in eval mode, or the images of a batch depend on each other.
    """
    images = images_BCHW.detach().requires_grad_()
    log_max_B = (model(images).logits_BK.float() / temperature).log_softmax(dim=1).max(dim=1).values
    (gradient,) = torch.autograd.grad(log_max_B.sum(), images)
    return images_BCHW - epsilon * torch.sign(-gradient)


def _mahalanobis(config: TrialConfig, model: nn.Module, train: Samples, device: torch.device) -> ExtraScore:
    features_NC = forward(model, train, device, config.precision).features_NC
    fitted = Mahalanobis.fit(features_NC, train.labels)
    return lambda _, features_NC, part: {"mahalanobis": fitted.score(features_NC)}


def _knn(config: TrialConfig, model: nn.Module, train: Samples, device: torch.device) -> ExtraScore:
    features_MC = forward(model, train, device, config.precision).features_NC

    def score(_: Samples, features_NC: npt.NDArray[np.float32], part: str) -> Columns:
        # Another k may be judged by validation samples, and by those of a test set none.
        most = NEIGHBOURS if part == "val" else config.knn_k
        distances_Nk = neighbours(features_NC, features_MC, most, device)
        recorded: Columns = {"neighbours": list(distances_Nk.astype(np.float32))} if part == "val" else {}
        return {"knn": kth_neighbour(distances_Nk, config.knn_k), **recorded}

    return score


def neighbours(
    features_NC: npt.NDArray[np.floating], train_MC: npt.NDArray[np.floating], most: int, device: torch.device
) -> F64:
    """Distances, in 0..2, to the nearest training features, both of length 1, from near to far. N,k with k = `most`, or
    M where there are fewer."""
    seen_NC, given_MC = (torch.from_numpy(unit(f.astype(np.float64))).to(device) for f in (features_NC, train_MC))
    k = min(most, len(given_MC))
    found = [torch.cdist(chunk, given_MC).topk(k, largest=False).values.cpu() for chunk in seen_NC.split(AT_ONCE)]
    return torch.cat(found).numpy()


@dataclass(frozen=True)
class Mahalanobis:
    """Gaussians of the classes with one covariance (Lee et al., 2018, Eq. 1 and 2), on penultimate features only.

    Lee's ensemble of layers and its perturbation of the input are left out: both are tuned on out-of-distribution
    samples, and nothing here is selected on test data.
    """

    whiten_CR: F64  # W with W W^T the pseudo-inverse of the covariance
    means_KR: F64  # of the classes, whitened

    @classmethod
    def fit(cls, features_NC: npt.NDArray[np.floating], labels_N: npt.NDArray[np.int64]) -> Mahalanobis:
        """Class means, and the covariance around them over all N samples, in float64.

        Directions in which no class varies are left out (pseudo-inverse): with fewer samples than channels or
        dead channels there are such, and a covariance of zero leaves none.
        """
        C = features_NC.shape[1]
        scatter_CC, means = np.zeros((C, C)), []
        for label in np.unique(labels_N):
            of_class = features_NC[labels_N == label].astype(np.float64)
            means.append(of_class.mean(axis=0))
            centred = of_class - means[-1]
            scatter_CC += centred.T @ centred
        variances, directions_CC = np.linalg.eigh(scatter_CC / len(features_NC))
        kept = variances > C * np.finfo(np.float64).eps * variances.max()  # as scipy.linalg.pinvh
        whiten_CR = directions_CC[:, kept] / np.sqrt(variances[kept])
        return cls(whiten_CR, np.stack(means) @ whiten_CR)

    def score(self, features_NC: npt.NDArray[np.floating]) -> F64:
        """-min_k (f - mu_k)^T Sigma^+ (f - mu_k), at most 0; 0 for all where the covariance is zero. N."""
        whitened_NR = features_NC.astype(np.float64) @ self.whiten_CR
        return -np.min([((whitened_NR - mean_R) ** 2).sum(axis=1) for mean_R in self.means_KR], axis=0)
