"""The linear probe: logistic regression on pooled features of whole exams from a frozen backbone. It costs seconds and draws nothing."""

import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from sslm_core.cache import Cache
from sslm_core.downstream import ClipModel, Fitted
from sslm_core.encoder import frozen
from sslm_core.features import Features
from sslm_core.frames import FrameStore, Progress, quiet
from sslm_core.heads import PooledProbe
from sslm_core.sslm import SSLMConfig, new_head

HEAD = "logistic"
GRID = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)  # of C; tune chooses one for each label
QUIET = 0.001  # of the mean spread: what a feature is divided by at least


def fit(config: SSLMConfig, backbone: torch.nn.Module, channels: int, store: FrameStore, truth: torch.Tensor, exams: torch.Tensor,
        tune: torch.Tensor, seed: int, cache: Cache | None = None, among: tuple[torch.Tensor, torch.Tensor] | None = None,
        progress: Progress = quiet) -> tuple[Fitted, torch.Tensor]:  # fmt: skip
    """The frozen backbone under the probe, and its scores on `tune`: as sslm_core.sslm.diagnose, without its loop."""
    backbone, device = frozen(backbone.to(store.device)), store.device
    head = new_head(config.downstream, channels, truth.shape[1], seed).to(device)
    mapped = among or (exams, tune)
    learnt, looked = (pooled(head, Features(backbone, store, whole.to(device), config.downstream.dtype, cache, progress=progress),
                             torch.searchsorted(whole, part).to(device)) for whole, part in zip(mapped, (exams, tune)))  # fmt: skip
    spread, mean = torch.std_mean(learnt, 0)
    head.mean.copy_(mean)
    head.spread.copy_(spread.clamp(min=QUIET * float(spread.mean())))
    x, x_tune = (((part - head.mean) / head.spread).cpu().numpy() for part in (learnt, looked))
    y, y_tune = (truth[part.to(device)].cpu().numpy().astype(int) for part in (exams, tune))
    best = []
    for k in range(y.shape[1]):
        tried = [regression(x, y[:, k], c) for c in GRID]
        best.append(min(tried, key=lambda one: loss_of(one, x_tune, y_tune[:, k])))
    with torch.no_grad():
        head.linear.weight.copy_(torch.from_numpy(np.stack([one.coef_[0] for one in best])))
        head.linear.bias.copy_(torch.from_numpy(np.stack([one.intercept_[0] for one in best])))
        scores = torch.sigmoid(head.linear(torch.from_numpy(x_tune).to(device)))
    fit_loss, tune_loss = (float(np.mean([loss_of(one, f, t[:, k]) for k, one in enumerate(best)])) for f, t in ((x, y), (x_tune, y_tune)))
    record = {"lr": None, "epoch": None, "seconds": 0.0, "fit_loss": fit_loss, "tune_loss": tune_loss, "C": [one.C for one in best]}
    return Fitted(ClipModel(backbone, head).to(device).eval(), [record]), scores


def pooled(head: PooledProbe, features: Features, exams: torch.Tensor) -> torch.Tensor:
    """What the head's linear layer sees of the whole of each exam, before it is standardised: float32 [len(exams), 15 C]."""
    rows = []
    for exam in exams.split(1):
        count = features.lengths[exam]
        rows.append(head.pool(features.clips(exam, torch.arange(int(count), device=exams.device)[None]).float(), count))
    return torch.cat(rows)


def loss_of(model: LogisticRegression, x: np.ndarray, labels: np.ndarray) -> float:
    return log_loss(labels, model.predict_proba(x)[:, 1], labels=[0, 1])


def regression(x: np.ndarray, labels: np.ndarray, c: float) -> LogisticRegression:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # far beyond what tune would choose
        return LogisticRegression(C=c, max_iter=1000).fit(x, labels)
