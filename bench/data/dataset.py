"""Which exams a run is about: a folder that the user names, or the embedded data set; and their split."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sslm_core.errors import UserError
from sslm_core.exams import ExamSet, digest, file_digests, minority, read_exams, stratified
from sslm_core.files import locked

from ..config.data import DataConfig
from ..config.options import check_writable
from ..config.presets import Preset
from ..phantom import folder, marks
from .importers.shared import refuse_foreign
from .subset import labelled

EMBEDDED = Path("data")  # under the working folder
SPLIT_SEED = 0  # one split per data set: seeds differ in training alone
# who chooses: exams held out of train, or, as the original did, the reported exams themselves
PROTOCOLS = ("clean", "as-published")
# what as-published means for a reader
FLATTERS = "epochs, thresholds and weights were chosen on the reported exams, figures flatter"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Train and reported exams as a preset takes them. `fit` and `tune` are exam numbers of `sets`, counted on from set
    to set.

    `shown`: those of them whose labels are seen, where that is not all.
    """

    name: str
    digest: str
    train: ExamSet
    reported: ExamSet
    fit: np.ndarray
    tune: np.ndarray
    notice: str
    files: dict[str, str]  # sha256 of each volume; of the embedded data set none
    protocol: str = PROTOCOLS[0]
    shown: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def labelled(self) -> np.ndarray:
        """Exams of `fit` that labels are learnt from."""
        return self.shown[0] if self.shown else self.fit

    @property
    def judged(self) -> np.ndarray:
        """Exams of `tune` that learning rate, epoch, thresholds and weights are chosen on."""
        return self.shown[1] if self.shown else self.tune

    @property
    def sets(self) -> list[ExamSet]:
        """What training may open: train, and under `as-published` the reported exams too."""
        return [self.train] if self.protocol == "clean" else [self.train, self.reported]

    @property
    def choosing(self) -> ExamSet:
        """The exams of `judged`."""
        return (
            self.train.subset(self.judged)
            if self.protocol == "clean"
            else self.reported.subset(self.judged - len(self.train))
        )

    @property
    def minority(self) -> np.ndarray:
        """Per label the class that is rarer in training: [L]."""
        return minority(self.train.truth)

    def showing(self, config: DataConfig) -> "Dataset":
        """The same exams with fewer labels. Raises UserError where nothing can be fitted to those."""
        if config.all_labels:
            return self
        truth = np.concatenate([exams.truth for exams in self.sets])
        return replace(self, shown=labelled(config, self.train.labels, truth, self.train.truth, self.fit, self.tune))


def open_dataset(
    root: Path, name: str, preset: Preset, known_digest: str | None = None, protocol: str = PROTOCOLS[0]
) -> Dataset:
    """Read and check a folder in MRNet's layout, take no more exams than the preset's budget, split train
    into fit and tune: as the data set itself does, else by exam, stratified.

    Under `as-published` all of train is fit, and tune is the reported set.
    """
    refuse_foreign(root)
    train, reported = read_exams(root)
    asked = {"exams": (preset.data.exams, train), "reported": (preset.data.reported, reported)}
    for field, (count, exams) in asked.items():
        if count > len(exams):
            raise UserError(
                f"{root}: has {len(exams)} {exams.split} exams; give data.{field}={len(exams)} or less, not {count}"
            )
    files = {} if known_digest else file_digests([train, reported])
    code = known_digest or digest([train, reported], files)
    notice = []
    taken = []
    for exams, most in zip((train, reported), preset.exams):
        if most and len(exams) > most:
            notice.append(f"{most} of {len(exams)} {exams.split} exams")
            strata = exams.truth if exams.held is None else np.column_stack([exams.truth, exams.held])
            exams = exams.subset(stratified(strata, most, SPLIT_SEED)[0])
        taken.append(exams)
    train, reported = taken
    mend = "stratified by joint label (--set data.exams=N takes N of train, data.reported=N of valid)"
    text = [f"preset {preset.name} takes {' and '.join(notice)}, {mend}"] if notice else []
    if strays := [name for exams in (train, reported) for name in exams.strays]:
        text.append(f"folders without a volume, ignored: {len(strays)}, as {strays[0]}")
    if protocol == "as-published":
        fit, tune = np.arange(len(train)), len(train) + np.arange(len(reported))
    elif train.held is not None:  # tune.csv
        fit, tune = np.flatnonzero(~train.held), np.flatnonzero(train.held)
    else:
        count = round(preset.tune * len(train))
        if not 0 < count < len(train) - 1:  # two to fit at least: features are standardised by their spread
            raise UserError(f"{root}: {len(train)} train exams are too few to split into fit and tune; bring more")
        tune, fit = stratified(train.truth, count, SPLIT_SEED)
    return Dataset(name, code, train, reported, fit, tune, "; ".join(text), files, protocol).showing(preset.data)


def embedded_digest(preset: Preset) -> str:
    """Of the data set that a preset is run on where the user names none."""
    if preset.embedded == "marks":
        return marks.digest(preset.phantom)
    return folder.digest(phantom_of(preset))


def phantom_of(preset: Preset) -> folder.PhantomConfig:
    return folder.PhantomConfig(*preset.phantom, size=preset.frame)


def embedded_folder(name: str, code: str, home: Path = EMBEDDED) -> Path:
    """Where the embedded data set `name` of that digest lies, if it was made."""
    return home / f"{name}-{code}"


def embedded(preset: Preset, protocol: str = PROTOCOLS[0], home: Path = EMBEDDED) -> Dataset:
    """The data set that a preset is run on where the user names none, made under `home` unless it is there."""
    code = embedded_digest(preset)
    root = embedded_folder(preset.embedded, code, home)
    check_writable("the embedded data set", home, "run from another folder, or name a data set of your own with --data")
    with locked(home / f".{root.name}.lock"):  # of two runs that want it the second waits
        if preset.embedded == "marks":
            marks.make(root, preset.phantom)
        else:
            folder.make(root, phantom_of(preset))
    return open_dataset(root, preset.embedded, preset, code, protocol)


def dataset_of(data: Path | None, preset: Preset, protocol: str) -> Dataset:
    """The folder that the user names, or the embedded data set."""
    return open_dataset(data, data.resolve().name, preset, protocol=protocol) if data else embedded(preset, protocol)


def planes_of(preset: Preset, dataset: Dataset) -> tuple[str, ...]:
    """The planes that a preset runs: those it names and the data has, else the first; all where it names none."""
    if not preset.planes:
        return dataset.train.planes
    return tuple(p for p in preset.planes if p in dataset.train.planes) or dataset.train.planes[:1]
