"""The linear probe: logistic regression on pooled features of whole exams, from that stage of a frozen backbone which
tune chooses.

It costs one pass of the backbone over the frames and a few seconds, and draws nothing.
"""

import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from sslm_core import ranks
from sslm_core.cache import Cache
from sslm_core.downstream import ClipModel, Fitted
from sslm_core.encoder import Upto, frozen, stages
from sslm_core.errors import UserError, one_of
from sslm_core.features import fingerprint, rows_of
from sslm_core.frames import FrameStore, Progress, quiet
from sslm_core.heads import PooledProbe
from sslm_core.history import least_loss
from sslm_core.pretext import autocast
from sslm_core.sslm import SSLMConfig
from sslm_core.warp import normalise

HEAD = "logistic"
GRID = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)  # of C; tune chooses one for each label
QUIET = 0.001  # of the mean spread: what a feature is divided by at least
BLOCK = 8  # frames at a time: their maps stay in a CPU's cache


def fit(
    config: SSLMConfig,
    backbone: torch.nn.Module,
    store: FrameStore,
    truth: torch.Tensor,
    exams: torch.Tensor,
    tune: torch.Tensor,
    cache: Cache | None = None,
    among: tuple[torch.Tensor, torch.Tensor] | None = None,
    progress: Progress = quiet,
) -> tuple[Fitted, torch.Tensor]:
    """The frozen backbone under the probe, and its scores on `tune`: as sslm_core.sslm.diagnose, without its loop.

    Every stage of the backbone is tried, unless the settings name one; kept is that with the least loss on tune.
    """
    backbone, down = frozen(backbone.to(store.device)), config.downstream
    whole = torch.cat(among or (exams, tune)).unique().cpu()  # rising
    features, spent = pooled(backbone, store, whole, down.dtype, cache, progress)
    if down.layer and down.layer not in features:
        raise UserError(f"downstream.layer = {down.layer}: {one_of(features, down.layer)}")
    parts = [torch.searchsorted(whole, part.cpu()) for part in (exams, tune)]
    labels = [truth.cpu()[part.cpu()].numpy().astype(int) for part in (exams, tune)]
    heads, history = {}, []
    for layer in [down.layer] if down.layer else features:
        learnt, judged = (features[layer][part] for part in parts)
        heads[layer], record = regressions(learnt, judged, *labels)
        history.append({"layer": layer, "lr": None, "epoch": None, "seconds": 0.0} | record)
    layer = least_loss(history)["layer"]
    head, judged = heads[layer].to(store.device), features[layer][parts[1]].to(store.device)
    with torch.no_grad():
        scores = torch.sigmoid(head.of_pooled(judged))
    return Fitted(ClipModel(Upto(backbone, layer), head).eval(), history, spent), scores


def pooled(
    backbone: torch.nn.Module,
    store: FrameStore,
    exams: torch.Tensor,
    dtype: str,
    cache: Cache | None,
    progress: Progress,
) -> tuple[dict[str, torch.Tensor], float]:
    """For each stage of the backbone what PooledProbe makes of its maps, float32 [len(exams), 126 C] on the CPU; and
    the seconds that a cache of an earlier process has spared."""
    widths = {}  # of the parts of a row, by stage

    def of_exam(part: FrameStore, rows: torch.Tensor) -> torch.Tensor:
        pooled_frames: dict[str, list] = {}
        for some in rows.split(BLOCK):
            with autocast(store.device, dtype):
                for layer, maps in stages(backbone, normalise(part.data[some])[:, None]):
                    # rounded as stored maps are
                    pooled_frames.setdefault(layer, []).append(PooledProbe.of_frames(maps.half().float()))
        count = torch.tensor([len(rows)], device=rows.device)
        found = {
            layer: PooledProbe.over_frames(torch.cat(blocks)[None], count) for layer, blocks in pooled_frames.items()
        }
        widths.update({layer: x.shape[1] for layer, x in found.items()})
        return torch.cat(list(found.values()), 1)

    @torch.no_grad()
    def make(items: int, progress: Progress = quiet):
        blocks = exams[:items].split(ranks.world())
        mine = [(exam, len(block)) for block in blocks for exam in block[ranks.mine(len(block))].split(1)]
        plans = ((store.rows(exam.to(store.device)), together) for exam, together in mine)
        for _, (part, rows, together) in zip(progress(mine, "features"), store.ahead(plans)):
            yield ranks.gathered(of_exam(part, rows), together).cpu().numpy()

    shape, rows, spared = next(make(1)).shape[1:], None, 0.0  # the first exam tells the widths as well
    if cache:
        name = fingerprint(backbone, "pooled", cache.content, exams.tolist(), dtype)
        rows, spared = rows_of(cache, name, [1] * len(exams), shape, lambda items: make(items, progress))
    if rows is None or len(rows) < len(exams):
        rows, spared = np.concatenate(list(make(len(exams), progress))), 0.0  # type: ignore[assignment]
    return dict(zip(widths, torch.from_numpy(rows).float().split(list(widths.values()), 1))), spared


def regressions(
    learnt: torch.Tensor, judged: torch.Tensor, truth: np.ndarray, judged_truth: np.ndarray
) -> tuple[PooledProbe, dict]:
    """The probe of `learnt` [E, F] and truth [E, L], each label with the C that loses least on `judged` [E', F]; what
    was found."""
    head = PooledProbe(learnt.shape[1] // PooledProbe.PER_CHANNEL, 0, truth.shape[1])
    spread, mean = torch.std_mean(learnt, 0)
    head.mean.copy_(mean)
    head.spread.copy_(spread.clamp(min=QUIET * float(spread.mean())))
    x, x_judged = ((part - head.mean) / head.spread for part in (learnt, judged))
    # [F, E]: the weights of a ridge penalty lie in the span of the exams
    axes = torch.linalg.svd(x, full_matrices=False).Vh.T
    x, x_judged = (x @ axes).numpy(), (x_judged @ axes).numpy()
    chosen, losses = [], []
    for k in range(truth.shape[1]):
        tried = [regression(x, truth[:, k], c) for c in GRID]
        best = min(tried, key=lambda one: loss_of(one, x_judged, judged_truth[:, k]))
        chosen.append(best)
        losses.append([loss_of(best, x, truth[:, k]), loss_of(best, x_judged, judged_truth[:, k])])
    with torch.no_grad():
        head.linear.weight.copy_(torch.from_numpy(np.concatenate([one.coef_ for one in chosen])).float() @ axes.T)
        head.linear.bias.copy_(torch.from_numpy(np.concatenate([one.intercept_ for one in chosen])))
    fit_loss, tune_loss = np.mean(losses, 0).tolist()
    return head, {"C": [one.C for one in chosen], "fit_loss": fit_loss, "tune_loss": tune_loss}


def loss_of(model: LogisticRegression, x: np.ndarray, labels: np.ndarray) -> float:
    return log_loss(labels, model.predict_proba(x)[:, 1], labels=[0, 1])


def regression(x: np.ndarray, labels: np.ndarray, c: float) -> LogisticRegression:
    """Of labels [E] on x [E, F]. Exams of one class, as few labels may leave them, teach nothing but how rare the other
    is: no weights, and the log-odds of (positives + 1/2) / (E + 1)."""
    if labels.min() == labels.max():
        constant = LogisticRegression(C=c)
        constant.classes_, constant.coef_ = np.array([0, 1]), np.zeros((1, x.shape[1]))
        constant.intercept_ = np.log([(labels.sum() + 0.5) / ((1 - labels).sum() + 0.5)])
        return constant
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # far beyond what tune would choose
        return LogisticRegression(C=c, max_iter=1000).fit(x, labels)
