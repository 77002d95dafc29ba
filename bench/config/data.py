"""How many exams are taken, and which of them show their labels: the settings. `data.subset` draws the exams."""

from dataclasses import dataclass

import numpy as np

from sslm_core.errors import UserError
from sslm_core.exams import minority
from sslm_core.settings import check

NATURAL = "natural"  # in place of a share: the control


@dataclass(frozen=True)
class DataConfig:
    labels: float = 1.0  # share of the fit exams, and of the tune exams, whose labels are seen
    draw: int = 0  # which exams these are
    # [LABEL:]SHARE of the label's rarer class among the fit exams; LABEL by default is that with the rarest class
    thin: str = ""
    exams: int = 0  # of train that are taken, in place of the preset's budget; 0: that
    reported: int = 0  # exams that are reported on, likewise

    def __post_init__(self):
        check(self, draw=0, exams=0, reported=0)
        if self.labels > 1:
            raise UserError(f"labels = {self.labels:g}: expected a share, 1 or less")
        if self.thin and self.labels < 1:
            raise UserError("labels and thin: expected one of them")
        if self.thin and self.share is None and self.thin.rpartition(":")[2] != NATURAL:
            raise UserError(
                f"thin = {self.thin}: expected a share between 0 and 1, or {NATURAL}, after an optional LABEL:"
            )

    @property
    def all_labels(self) -> bool:
        return self.labels == 1 and not self.thin

    @property
    def share(self) -> float | None:
        """Of the rarer class; None where that is the natural one."""
        try:
            share = float(self.thin.rpartition(":")[2])
        except ValueError:
            return None
        return share if 0 < share < 1 else None

    def thinned(self, labels: tuple[str, ...], train: np.ndarray) -> int:
        """Number of the label that is thinned; train: [E, L], truth of the training exams. Raises UserError for one
        that there is not."""
        name = self.thin.rpartition(":")[0]
        if name and name not in labels:
            raise UserError(f"data.thin={self.thin}: there is no label {name}; there are {', '.join(labels)}")
        return labels.index(name) if name else int((train == minority(train)).mean(0).argmin())
