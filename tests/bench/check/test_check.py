"""The regression gates: their statistics by simulation, their verdicts, the command line, and faults planted for each
of them."""

import itertools
import math
import shutil
import statistics
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import sslm_core.sslm
from bench.__main__ import main
from bench.check import check, gates, speed
from bench.cli import check as verb
from bench.cli.check import table
from bench.config import presets
from bench.data import dataset as data
from bench.data.dataset import embedded
from bench.machine import ROOT
from bench.run import methods, probe, sweep
from bench.run.device import environment
from bench.stats import metrics
from bench.store import results
from bench.store.scored import Derived, Scored
from sslm_core.cache import Cache
from sslm_core.downstream import DownstreamConfig
from sslm_core.encoder import Residual
from sslm_core.exams import MACRO
from sslm_core.jigsaw import Jigsaw
from sslm_core.pretext import PretextConfig
from tests.tools.tiny import TINY as SMALLEST

CHECK = presets.CHECK
TINY = replace(CHECK, phantom=(24, 16), frame=32, seeds=(0, 1, 2, 3, 4), methods=("sslm",), sslm=SMALLEST.sslm)
TIMED = speed.timings
TIMES = dict.fromkeys(speed.TIMED, 2.0)


# -- statistics -------------------------------------------------------------------------------------------------------


def worktrees() -> list[str]:
    """The folders that hold one, whatever their commits."""
    return [line.split()[0] for line in speed.git("worktree", "list").stdout.splitlines()]


def test_students_t_as_tables_have_it():
    for alarms, df, expected in ((0.025, 4, 2.776), (0.005, 7, 3.499), (0.0005, 9, 4.781), (0.05, 1000, 1.646)):
        assert gates.quantile(alarms, df) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("n, m, alarms", [(5, 1, 0.005), (10, 2, 0.0005)])
def test_the_smallest_loss_is_found_with_the_power_told(n, m, alarms):
    draw, loss, reach = np.random.default_rng(0), gates.least_loss(n, m, alarms), gates.reach(n, m, alarms)
    before, after = draw.normal(size=(20_000, n)), draw.normal(size=(20_000, m))
    gap, spread = before.mean(1) - after.mean(1), before.std(1, ddof=1)
    assert (gap + loss > reach * spread).mean() == pytest.approx(gates.POWER, abs=0.015)
    assert (gap > reach * spread).mean() < 2 * alarms


def test_verdicts_of_noisy_figures():
    baseline = [0.80, 0.82, 0.81, 0.79, 0.83]

    def verdict(now: float, **more) -> str:
        return gates.noisy("f", baseline, [now], 0.001, **more).verdict

    width = statistics.stdev(baseline) * gates.reach(5, 1, 0.001)
    assert verdict(0.81) == "within noise" and verdict(0.81, same=True) == "identical"
    assert verdict(0.81 - 0.99 * width) == "within noise" and verdict(0.81 - 1.01 * width) == "worse"
    assert verdict(0.81 + 1.01 * width) == "different, not worse" and verdict(
        0.81 + 1.01 * width, both=True
    ).startswith("too good")
    assert verdict(math.nan) == "undefined"
    for now, both, fails in (
        (0.1, False, True),
        (1.0, False, False),
        (1.0, True, True),
        (math.nan, False, True),
        (0.81, True, False),
    ):
        assert gates.noisy("f", baseline, [now], 0.001, both=both).fails is fails


def test_work_is_exact_memory_a_ratio_and_time_an_interval():
    assert not gates.exact("f", {"12"}, {"12"}).fails and gates.exact("f", {"12"}, {"13"}).fails
    assert not gates.at_most("f", 100, 149, 1.5).fails and gates.at_most("f", 100, 151, 1.5).fails
    for low, high, verdict in ((1.16, 1.3, "slower"), (1.1, 1.3, "too busy to tell"), (0.9, 1.1, "within noise")):
        assert gates.slower("f", gates.Ratio(1.2, low, high), 1.15).verdict == verdict


def test_scores_without_noise_may_hardly_move():
    before = {("1", "acl"): 0.5, ("2", "acl"): 0.25}

    def verdict(**now) -> str:
        return gates.alike("f", before, {(exam[1:], "acl"): score for exam, score in now.items()}, 0.01).verdict

    assert verdict(e1=0.5, e2=0.25) == "identical" and verdict(e1=0.505, e2=0.25) == "within noise"
    assert verdict(e1=0.5, e2=0.27) == verdict(e1=0.5) == "changed"
    assert verdict(e1=math.nan, e2=0.25) == verdict(e1=0.5, e2=math.nan) == "changed"


def test_ratios_of_durations():
    first, second = [1.0, 2.0, 4.0], [1.5, 2.9, 6.1]  # a machine that gets slower meets both sides of a pair
    ratio = gates.paired(first, second, 0.01)
    assert ratio.value == pytest.approx(1.49, abs=0.02) and 1.15 < ratio.low < ratio.high < 1.9


# -- the verb, on a preset of seconds ---------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """Cells run here, where faults are planted; timings are read off."""
    monkeypatch.setattr("concurrent.futures.ProcessPoolExecutor", lambda *_: ThreadPoolExecutor(1))
    monkeypatch.setattr(sweep, "_line", 0, raising=False)
    monkeypatch.setattr(speed, "timings", lambda device, root, what="": dict(TIMES))


@pytest.fixture
def tiny(monkeypatch, baseline):
    monkeypatch.setitem(presets.PRESETS, "check", TINY)
    monkeypatch.setattr(verb, "SCORES", baseline.with_name("scores.csv"))


@pytest.fixture(scope="module")
def baseline(tmp_path_factory):
    path = tmp_path_factory.mktemp("check") / "results.csv"
    with pytest.MonkeyPatch.context() as patch:
        in_this_process.__wrapped__(patch)
        patch.setitem(presets.PRESETS, "check", TINY)
        patch.setattr(verb, "SCORES", path.with_name("scores.csv"))
        assert (
            main(["check", "--update", "--device", "cpu", "--results", str(path), "--baseline", str(empty(path))]) == 0
        )
    return path


def empty(path: Path) -> Path:
    """A file of figures without rows, beside `path`."""
    other = path.with_name("empty.csv")
    other.write_text(",".join(results.COLUMNS) + "\n")
    return other


def checked(path: Path, *more: str) -> int:
    return main(["check", "--device", "cpu", "--baseline", str(path), *more])


def test_unchanged_code_is_identical(tiny, baseline, capsys):
    assert len(results.read(baseline)) == 5 * 3  # seeds x (labels and macro)
    assert checked(baseline) == 0
    out = capsys.readouterr().out
    assert "Scores are identical to the stored ones" in out and out.endswith("check passed\n")
    assert (
        sum("identical" in line for line in out.splitlines()) == 6 + 4 + 4 + 1
    )  # without noise, noisy, work, the sentence


def test_other_seeds_are_within_noise(tiny, baseline, capsys):
    assert checked(baseline, "--seeds", "7", "--gates", "accuracy", "--markdown") == 0
    out = capsys.readouterr().out
    assert (
        out.startswith("| figure | baseline | now |")
        and "| within noise |" in out
        and out.count("identical") == 6  # those without noise of training
        and "FLOPs" not in out
    )


def test_features_of_the_wrong_layer_change_frozen_scores(tiny, baseline, monkeypatch, capsys):
    monkeypatch.setattr(probe, "least_loss", lambda history: max(history, key=lambda record: record["tune_loss"]))
    assert checked(baseline, "--gates", "accuracy") == 1
    failed = capsys.readouterr().out.splitlines()[-1]
    assert failed.count("scores, the largest change: changed") == 2


def test_scores_of_another_data_set_are_refused(tiny, baseline, tmp_path, capsys):
    assert checked(baseline, "--gates", "accuracy", "--scores", str(tmp_path / "none.csv")) == 2
    error = capsys.readouterr().err
    assert "none.csv: no scores of data" in error and "--update" in error and error.count("\n") == 1
    (tmp_path / "none.csv").write_text(verb.SCORES.read_text().replace(",0.", ",x", 1))
    assert checked(baseline, "--gates", "accuracy", "--scores", str(tmp_path / "none.csv")) == 2
    error = capsys.readouterr().err
    assert "none.csv: not a table of scores" in error and error.count("\n") == 1


def test_a_loss_fails(tiny, baseline, tmp_path, capsys):
    rows = [row | {"auc": str(0.9 + int(row["seed"]) / 1000)} for row in results.read(baseline)]
    results.upsert(tmp_path / "better.csv", rows)
    assert checked(tmp_path / "better.csv", "--gates", "accuracy") == 1
    out = capsys.readouterr().out
    assert "WORSE" in out and out.endswith("check failed: sslm: macro AUC: worse\n")
    assert "Same machine and torch, yet scores differ" in out


def test_another_machine_is_judged_by_the_spread_and_its_speed_is_not(tiny, baseline, tmp_path, capsys):
    results.upsert(
        tmp_path / "other.csv", [row | {"machine": "another", "commit": ""} for row in results.read(baseline)]
    )
    assert checked(tmp_path / "other.csv", "--seeds", "7") == 0
    out = capsys.readouterr().out
    assert "Another machine or torch" in out and "not judged: commit unknown" in out and "peak memory" not in out


def test_slower_parts_fail(tiny, baseline, monkeypatch, capsys):
    monkeypatch.setattr(
        speed,
        "timings",
        lambda device, root, what="": TIMES | {"jigsaw_batch": 2.0 * (1.4 if root == ROOT else 1)},
    )
    assert checked(baseline, "--gates", "speed") == 1
    assert capsys.readouterr().out.endswith("check failed: time of jigsaw batch: slower\n")
    assert checked(baseline, "--gates", "speed", "--limit", "1.5") == 0


@pytest.mark.parametrize(
    "noise, factor, pairs, verdict",
    [
        (0.01, 1.0, 3, "within noise"),
        (0.01, 1.4, 3, "slower"),
        (0.1, 2.0, 5, "slower"),
        (0.1, 1.0, 5, "too busy to tell"),
    ],
)
def test_another_commit_is_timed_in_turns_until_intervals_are_narrow(noise, factor, pairs, verdict, monkeypatch):
    draw, sides = np.random.default_rng(0), []

    def timings(device, root, what=""):
        assert (root / "sslm_core" / "jigsaw.py").exists()
        sides.append(root)
        slow = {"jigsaw_batch": factor if root == ROOT else 1.0}
        return {part: slow.get(part, 1.0) * math.exp(noise * draw.normal()) for part in speed.TIMED}

    monkeypatch.setattr(speed, "timings", timings)
    before = worktrees()
    found = {v.figure: v.verdict for v in speed.against("HEAD", "cpu", 1.15)}
    assert found.pop("time of jigsaw batch") == verdict and set(found.values()) <= {"within noise", "too busy to tell"}
    assert pairs <= len(sides) / 2 <= 5 and len({*sides[::2]}) == 2 and sides.count(ROOT) == len(sides) / 2
    assert worktrees() == before


def test_an_update_replaces_the_rows_and_says_what_changed(tiny, baseline, tmp_path, capsys):
    path = tmp_path / "results.csv"
    shutil.copy(baseline, path)
    old, foreign = results.read(path)[0], results.read(path)[1]
    results.upsert(path, [old | {"digest": "older"}, foreign | {"preset": "cpu"}])
    assert checked(baseline, "--update", "--seeds", "0,1,2,3,4,5", "--results", str(path)) == 0
    rows = results.read(path)
    assert {row["digest"] for row in rows} == {old["digest"]} and len(rows) == 6 * 3 + 1
    out = capsys.readouterr().out
    assert "identical" not in out.split("macro AUC")[1].splitlines()[0]  # seed 5 is new
    assert "rows of 6 seeds are the baseline" in out


@pytest.mark.parametrize(
    "words, told",
    [
        (["--baseline", "nothing.csv"], "nothing.csv: no such file"),
        (["--baseline", __file__], "test_check.py"),
        (["--gates", "soul"], "--gates soul"),
        (["--limit", "1"], "--limit 1"),
        (["--jobs", "0"], "--jobs 0"),
        (["--seeds", "x"], "--seeds x"),
        (["--update", "--seeds", "0,1"], "--update"),
        (["--against", "no-such-commit", "--gates", "speed"], "--against no-such-commit"),
    ],
)
def test_unusable_input_is_one_line(tiny, words, told, capsys):
    assert main(["check", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and told in error


@pytest.mark.parametrize(
    "spoil, told",
    [
        (lambda row: row | {"digest": "another"}, "0 seeds of sslm are stored"),
        (lambda row: row | {"seed": str(int(row["seed"]) % 4)}, "4 seeds of sslm are stored"),
        (lambda row: row | {"auc": ""}, "macro AUC of sslm is empty"),
        (lambda row: row | {"auc": "0.9"}, "macro AUC of sslm is the same in all seeds"),
    ],
)
def test_a_baseline_without_noise_is_refused(tiny, baseline, tmp_path, capsys, spoil, told):
    results.upsert(tmp_path / "spoilt.csv", list(map(spoil, results.read(baseline))))
    assert checked(tmp_path / "spoilt.csv") == 2
    error = capsys.readouterr().err
    assert told in error and "spoilt.csv" in error and "--update" in error and error.count("\n") == 1


# -- planted faults ---------------------------------------------------------------------------------------------------


def frozen_but_training(encoder):
    encoder.requires_grad_(False).train()
    encoder.train, encoder.eval = lambda mode=True: encoder, lambda: encoder
    return encoder


def test_a_frozen_encoder_left_in_training_mode_changes_scores(tiny, baseline, monkeypatch, capsys):
    monkeypatch.setattr(sslm_core.sslm, "frozen", frozen_but_training)
    checked(baseline, "--gates", "accuracy")
    out = capsys.readouterr().out
    auc = next(line for line in out.splitlines() if "macro AUC" in line)
    assert "identical" not in auc and "yet scores differ" in out


def test_a_doubled_convolution_fails_by_its_flops(tiny, baseline, monkeypatch, capsys):
    monkeypatch.setattr(Residual, "forward", lambda self, x: x + 0.25 * (self.block(x) + self.block(x)) / 2)
    assert checked(baseline, "--gates", "cost") == 1
    assert "FLOPs per exam: changed" in capsys.readouterr().out


def half_shuffled(monkeypatch):
    batch = Jigsaw.batch

    def spoilt(self, store, frames, draw, train):
        patches, target = batch(self, store, frames, draw, train)
        half = len(target) // 2
        target[:half] = target[torch.randperm(half)]
        return patches, target

    monkeypatch.setattr(Jigsaw, "batch", spoilt)


def leaking(monkeypatch):
    """Patches show twice as much of the frame as they should, at half the size: neighbours overlap."""

    def cut(self, store, frames, at):
        side, (height, width) = self.patch, store.data.shape[1:]
        first = at - side // 2  # [B, P, 2]
        reach = torch.arange(2 * side)
        # [B, P, 2 h]
        rows, columns = ((first[..., k, None] + reach).clamp(0, size - 1) for k, size in ((0, height), (1, width)))
        seen = store.data[frames[:, None, None, None], rows[..., :, None], columns[..., None, :]].float()
        return F.avg_pool2d(seen.flatten(0, 1), 2).round().byte().unflatten(0, seen.shape[:2])

    monkeypatch.setattr(Jigsaw, "cut", cut)


def rare_class_ignored(monkeypatch):
    monkeypatch.setattr(
        methods,
        "bce",
        lambda logits, target: F.binary_cross_entropy_with_logits(
            logits, target, (target != torch.tensor([0.0, 1.0])).float()
        ),
    )  # the minority classes of `common` and `rare`


def steps_left_out(monkeypatch):
    """Each 33rd step of pretext and head changes no weight: 3 % fewer."""

    def short(make):
        def made(self, *args):
            optimiser = make(self, *args)
            step, count = optimiser.step, itertools.count(1)
            optimiser.step = lambda: step() if next(count) % 33 else None
            return optimiser

        return made

    for config, name in ((PretextConfig, "optimiser"), (DownstreamConfig, "optimise")):
        monkeypatch.setattr(config, name, short(getattr(config, name)))


def sound(monkeypatch):
    pass


@pytest.mark.slow
@pytest.mark.parametrize(
    "plant, method, caught",
    [
        (sound, "sslm", None),
        (half_shuffled, "sslm", ("sslm: pretext accuracy", "worse")),
        (leaking, "sslm", ("sslm: pretext accuracy", "too good (a leak?)")),
        (rare_class_ignored, "imagenet", ("imagenet: minority recall", "worse")),
        (sound, "imagenet", None),
        (steps_left_out, "sslm", None),  # less than seeds differ by: docs/ci.md says so
    ],
)
def test_faults_fail_against_the_committed_baseline(plant, method, caught, monkeypatch, tmp_path):
    """What a check says, of one method of the preset; the gates are those of all methods together."""
    plant(monkeypatch)
    dataset = embedded(CHECK, home=tmp_path)
    _, rows = check.stored(ROOT / "results.csv")
    baseline = [row for row in rows if row["preset"] == "check" and row["label"] == MACRO and row["device"] == "cpu"]
    check.usable(baseline, CHECK.methods, "results.csv")
    now, _ = check.run(
        dataset, replace(CHECK, methods=(method,)), list(CHECK.seeds[: check.NOW]), "cpu", 1, tmp_path / "runs", False
    )
    now = [results.cells(row) for row in now if row["label"] == MACRO]
    verdicts = check.judged(baseline, now, ["accuracy"], environment(torch.device("cpu")))
    print(table(verdicts, False))
    failed = {(v.figure, v.verdict) for v in verdicts if v.fails}
    assert caught in failed if caught else not failed


def brightness_forgotten(monkeypatch):
    batch = Jigsaw.batch

    def dull(self, *args, **more):
        self.gains = torch.ones_like(self.gains)
        return batch(self, *args, **more)

    monkeypatch.setattr(Jigsaw, "batch", dull)


def not_antialiased(monkeypatch):
    plain = F.interpolate
    monkeypatch.setattr(F, "interpolate", lambda *args, antialias, **more: plain(*args, **more))


def thresholds_of_reported_exams(monkeypatch):
    """The runs are those at hand: the fault lies in what is made of them."""
    known = Scored.__init__

    def spoilt(self, folders):
        known(self, folders)
        self.operating = Derived(lambda plane: metrics.choose(self.truth, self.scores[plane], self.minority))

    monkeypatch.setattr(Scored, "__init__", spoilt)
    monkeypatch.setattr(check, "sweep", lambda *_: None)


def wrong_layer(monkeypatch):
    monkeypatch.setattr(probe, "least_loss", lambda history: max(history, key=lambda record: record["tune_loss"]))


def tune_shuffled(monkeypatch):
    """The labels of the exams that choose, and of no other, belong to others of them."""
    read = data.open_dataset

    def spoilt(*args):
        made = read(*args)
        truth = made.train.truth.copy()
        truth[made.tune] = np.random.default_rng(0).permutation(truth[made.tune])
        return replace(made, train=replace(made.train, truth=truth))

    monkeypatch.setattr(data, "open_dataset", spoilt)


def clipped_features(monkeypatch):
    """Stored features reach to 8; of the maps of `random-probe` 1 % of the values lie beyond."""
    rows = Cache.rows

    def narrow(self, *args):
        held, seconds = rows(self, *args)
        return held.clip(-8, 8), seconds

    monkeypatch.setattr(Cache, "rows", narrow)


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    """A folder with the preset's data and runs of the frozen methods, whose features are made once; the verdicts."""
    home = tmp_path_factory.mktemp("probed")
    with pytest.MonkeyPatch.context() as patch:
        in_this_process.__wrapped__(patch)
        return home, without_noise(home)


def without_noise(home: Path) -> dict[str, gates.Verdict]:
    """The verdicts on all that training's noise does not reach, against what is committed."""
    dataset = embedded(CHECK, home=home)
    _, now = check.run(dataset, replace(CHECK, methods=()), [], "cpu", 1, home / "runs")
    verdicts = check.moved(check.stored_scores(check.SCORES, dataset.digest, "cpu"), now)
    left_out = tuple({method for method, _ in check.STILL} - {*check.FROZEN, check.PATCHES[0], check.FRAMES[0]})
    verdicts = [verdict for verdict in verdicts if not verdict.figure.startswith(left_out)]
    print(table(verdicts, False))
    return {verdict.figure.removesuffix(", the largest change"): verdict for verdict in verdicts}


@pytest.mark.slow
@pytest.mark.parametrize(
    "plant, method, caught",
    [
        # without a method: no frozen run is needed
        (brightness_forgotten, None, "jigsaw batch: means of patches"),
        (not_antialiased, None, "resampling: spreads of frames"),
        (thresholds_of_reported_exams, "imagenet-probe", "imagenet-probe: thresholds"),
        # of both frozen methods the one of the wider limit, which takes less time
        (wrong_layer, "random-probe", "random-probe: scores"),
        (tune_shuffled, "random-probe", "random-probe: scores"),
        (clipped_features, "random-probe", "random-probe: scores"),
    ],
)
def test_faults_fail_by_what_has_no_noise(plant, method, caught, probed, monkeypatch):
    plant(monkeypatch)
    monkeypatch.setattr(check, "FROZEN", (method,) if method else ())
    home, before = probed
    assert not any(verdict.fails for verdict in before.values())
    assert without_noise(home)[caught].verdict == "changed"


SLOW = """
    def batch(self, store, frames, draw, train):
        import time
        began = time.perf_counter()
        made = self._batch(store, frames, draw, train)
        until = began + 1.4 * (time.perf_counter() - began)
        while time.perf_counter() < until:
            pass
        return made

    def _batch("""


@pytest.mark.slow
def test_a_data_path_that_takes_forty_percent_more_is_slower_than_the_code_before(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "timings", TIMED)
    monkeypatch.setattr(speed, "PAIRS", (3, 6))  # so large a difference needs no narrow interval
    for name in ("sslm_core", "bench"):
        shutil.copytree(ROOT / name, tmp_path / name)
    path = tmp_path / "sslm_core" / "jigsaw.py"
    text = path.read_text()
    path.write_text(text.replace("\n    def batch(", SLOW, 1))
    verdicts = {v.figure: v for v in speed.in_turns(ROOT, tmp_path, "cpu", 1.15)}
    print(table(list(verdicts.values()), False))
    assert verdicts["time of jigsaw batch"].verdict == "slower"
    assert not verdicts["time of prediction"].fails and not verdicts["time of head epoch"].fails


@pytest.mark.slow
def test_a_commit_is_not_slower_than_itself(monkeypatch):
    monkeypatch.setattr(speed, "timings", TIMED)
    monkeypatch.setattr(speed, "PAIRS", (3, 3))
    before = worktrees()
    verdicts = speed.against("HEAD", "cpu", 1.15)
    assert len(verdicts) == len(speed.TIMED) and not any(v.fails for v in verdicts)
    assert worktrees() == before


# -- silence ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_unchanged_code_raises_no_alarm_in_a_thousand_times_on_stored_noise():
    """Baselines and checks drawn from the committed rows' own means and covariance of each method: at most 1 % fail any
    gate."""
    _, rows = check.stored(ROOT / "results.csv")
    rows = [row for row in rows if row["preset"] == "check" and row["label"] == MACRO and row["device"] == "cpu"]
    draw, times, sets = np.random.default_rng(0), 5000, {}
    for method in CHECK.methods:
        mine = [row for row in rows if row["method"] == method]
        columns = [column for column in check.NOISY.values() if mine[0][column]]
        sample = np.array([[float(row[column]) for column in columns] for row in mine])
        n, m = len(sample), check.NOW
        sets[method] = (
            columns,
            draw.multivariate_normal(sample.mean(0), np.cov(sample.T), size=(times, n + m)).clip(0, 1),
        )
    here, alarms = environment(torch.device("cpu")), 0
    for k in range(times):
        drawn = [
            {"method": method, "seed": str(s), "pretext_accuracy": ""}
            | dict(zip(columns, map(str, values[k, s].tolist())))
            for method, (columns, values) in sets.items()
            for s in range(n + m)
        ]
        halves = ([row for row in drawn if (int(row["seed"]) < n) is first] for first in (True, False))
        alarms += any(v.fails for v in check.judged(*halves, ["accuracy"], here))
    print(f"{alarms} alarms in {times} checks of unchanged code")
    assert alarms <= 0.01 * times
