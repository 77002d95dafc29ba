"""What holds for every input: readers, splits, permutations, warps, clips and metrics against drawn data
(hypothesis)."""

import io
import math
import pickle
import tempfile
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bench.data.importers.kneemri import by_own_range, read_plain
from bench.data.importers.pickled import Refused, read_array
from bench.stats import figures, intervals, metrics
from sslm_core.clips import ClipConfig, sample_clips
from sslm_core.errors import UserError
from sslm_core.exams import joint, minority, read_labels, read_volume, stratified, volume_shape
from sslm_core.frames import resize
from sslm_core.jigsaw import permutation_set
from sslm_core.seeds import generator
from sslm_core.warp import Warp
from tests.tools.mutate import mutate

settings.register_profile("suite", max_examples=60, deadline=None, derandomize=True)
settings.load_profile("suite")

SIDES = hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=9)
SEEDS = st.integers(0, 2**31)
INTEGERS = st.sampled_from(["<u1", "<i1", "<u2", ">u2", "<i2", ">i2", "<i4", ">u4", "<i8", ">u8"])


def file_of(content: bytes, suffix: str):
    file = tempfile.NamedTemporaryFile(suffix=suffix)
    file.write(content)
    file.flush()
    return file


# -- readers ----------------------------------------------------------------------------------------------------------


@given(hnp.arrays(np.uint8, SIDES), st.booleans())
def test_a_stored_volume_is_read_back(volume, fortran):
    content = io.BytesIO()
    np.save(content, np.asfortranarray(volume) if fortran else volume)
    with file_of(content.getvalue(), ".npy") as file:
        assert volume_shape(Path(file.name)) == volume.shape and (read_volume(Path(file.name)) == volume).all()


@given(INTEGERS.flatmap(lambda dtype: hnp.arrays(dtype, SIDES)), st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_a_pickled_array_is_read_back(array, protocol):
    found = read_array(pickle.dumps(array, protocol))
    assert found.dtype == array.dtype and found.shape == array.shape and (found == array).all()


PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.just(print)
    | st.just(io.BytesIO)
)


@settings(max_examples=30)
@given(
    st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner)),
    st.integers(0, pickle.HIGHEST_PROTOCOL),
)
def test_no_other_pickle_is_read(value, protocol):
    with pytest.raises(Refused):
        read_array(pickle.dumps(value, protocol))


@given(st.binary(max_size=200))
@example(b"")
def test_bytes_of_any_kind_are_refused_in_one_line(content):
    for suffix, read in ((".npy", read_volume), (".pck", read_plain)):
        with file_of(content, suffix) as file, pytest.raises(UserError) as caught:
            read(Path(file.name))
        assert file.name in str(caught.value) and "\n" not in str(caught.value)


@given(INTEGERS.flatmap(lambda dtype: hnp.arrays(dtype, SIDES)))
def test_stretching_keeps_order_and_takes_the_whole_range(volume):
    for frame, scaled in zip(volume, by_own_range(volume)):
        order = np.argsort(frame, axis=None, kind="stable")
        assert (np.diff(scaled.reshape(-1)[order].astype(int)) >= 0).all()
        assert (scaled.min(), scaled.max()) == ((0, 255) if frame.min() < frame.max() else (0, 0))


@given(
    st.dictionaries(
        st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9_. -]{0,10}[A-Za-z0-9_-]", fullmatch=True), st.integers(0, 1), min_size=1
    ),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.booleans(),
)
def test_labels_are_read_back(rows, end, mark, spaces):
    gap = " " if spaces else ""
    text = "".join(f"{name}{gap},{gap}{value}{end}" for name, value in rows.items())
    with file_of(text.encode("utf-8-sig" if mark else "utf-8"), ".csv") as file:
        assert read_labels(Path(file.name)) == rows


@given(st.text(max_size=60))
def test_text_of_any_kind_is_labels_or_one_line(text):
    with file_of(text.encode("utf-8", "surrogatepass"), ".csv") as file:
        try:
            rows = read_labels(Path(file.name))
        except UserError as error:
            assert file.name in str(error) and "\n" not in str(error)
        else:
            assert set(rows.values()) <= {0, 1} and not any("/" in name or name in ("", ".", "..") for name in rows)


def test_mutated_files_are_refused_in_one_line_and_run_nothing():
    """A short run of the script, with other seeds than its own."""
    outcome, findings = mutate(2400, seed=20)
    assert not findings
    assert all(counts["accepted"] > 5 and counts["refused"] > 50 for counts in outcome.values())


# -- splits -----------------------------------------------------------------------------------------------------------

TRUTH = st.tuples(st.integers(2, 60), st.integers(1, 3)).flatmap(
    lambda shape: hnp.arrays(np.uint8, shape, elements=st.integers(0, 1))
)


@given(TRUTH, st.data(), SEEDS)
def test_a_split_parts_the_exams_in_proportion(truth, data, seed):
    count = data.draw(st.integers(1, len(truth) - 1))
    taken, rest = stratified(truth, count, seed)
    assert len(taken) == count and sorted([*taken, *rest]) == list(range(len(truth)))
    assert (np.diff(taken) > 0).all() and (np.diff(rest) > 0).all()
    strata = joint(truth)
    for stratum in np.unique(strata):
        share = (strata == stratum).sum() * count / len(truth)
        assert abs((strata[taken] == stratum).sum() - share) < 1 + 1e-9
    again = stratified(truth, count, seed)
    assert (again[0] == taken).all() and (again[1] == rest).all()


@given(TRUTH)
def test_the_minority_is_never_the_more_frequent_class(truth):
    rare = minority(truth)
    assert ((truth == rare).sum(0) <= (truth != rare).sum(0)).all()


# -- permutations, warps, clips, frames -------------------------------------------------------------------------------


@given(st.integers(2, 6), st.integers(1, 150), SEEDS, st.sampled_from(["random", "hamming"]))
def test_permutations_are_distinct_and_begin_with_the_identity(patches, count, seed, choice):
    rows = permutation_set(patches, count, seed, choice)
    assert rows.shape == (min(count, math.factorial(patches)), patches)
    assert (rows.sort(1).values == torch.arange(patches)).all() and rows[0].tolist() == list(range(patches))
    assert len(rows.unique(dim=0)) == len(rows)
    assert torch.equal(rows, permutation_set(patches, count, seed, choice))


WINDOW = st.integers(2, 20).flatmap(lambda side: hnp.arrays(np.uint8, (2, side, side)))


@given(WINDOW, st.integers(-25, 25), st.integers(-25, 25))
def test_a_whole_shift_moves_pixels_and_lets_zeros_in(windows, x, y):
    size = windows.shape[1]
    assume(abs(x) < size and abs(y) < size)
    moved = Warp([(0, x, y, 1.0)], size)(torch.from_numpy(windows), torch.zeros(2, dtype=torch.long))
    expected = np.zeros(windows.shape)
    expected[:, max(0, y) : size + min(0, y), max(0, x) : size + min(0, x)] = windows[
        :, max(0, -y) : size - max(0, y), max(0, -x) : size - max(0, x)
    ]
    assert np.abs(moved.numpy() - expected).max() < 0.05


@given(WINDOW, st.floats(-180, 180), st.floats(-5, 5), st.floats(0.5, 2), st.floats(0, 2))
def test_no_warp_leaves_the_range_of_gray_levels(windows, angle, shift, scale, gain):
    index = torch.zeros(2, dtype=torch.long)
    warped = Warp([(angle, shift, -shift, scale)], windows.shape[1])(
        torch.from_numpy(windows), index, torch.full((2,), gain)
    )
    assert warped.isfinite().all() and warped.min() >= 0 and warped.max() <= min(255, windows.max() * gain + 0.1)


@example([15], 14, 2, 0)  # the later notebook's 2, 10, 2: of 15 frames the middle holds 9
@given(st.lists(st.integers(1, 70), min_size=1, max_size=8), st.integers(1, 20), st.integers(0, 4), SEEDS)
def test_clips_rise_and_hold_no_frame_twice(lengths, frames, edge, seed):
    assume(2 * edge <= frames)
    lengths = torch.tensor(lengths)
    chosen, count = sample_clips(lengths, ClipConfig(frames=frames, edge=edge), generator("cpu", seed, "clips"))
    assert chosen.shape == (len(lengths), frames) and count.tolist() == lengths.clamp(max=frames).tolist()
    for row, real, length in zip(chosen, count.tolist(), lengths.tolist()):
        assert (
            (row[:real].diff() > 0).all() and row[0] >= 0 and row.max() < length and (row[real:] == row[real - 1]).all()
        )
        if length > frames:
            middle = length - 2 * (length // 5)
            outer = max(min(edge, length // 5), (frames - middle + 1) // 2)
            assert ((row < length // 5).sum(), (row >= length - length // 5).sum()) == (outer, outer)


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=20)), st.integers(1, 24))
def test_resampled_frames_stay_within_their_range(frames, size):
    small = resize(frames, size)
    assert small.shape == (len(frames), size, size) and small.dtype == torch.uint8
    for before, after in zip(frames, small.numpy()):
        assert before.min() <= after.min() and after.max() <= before.max()


# -- metrics ----------------------------------------------------------------------------------------------------------


@st.composite
def scored(draw, labels: int = 1):
    """Truth [E, L] with both classes, scores [E, L] with ties."""
    exams = draw(st.integers(4, 40))
    truth = draw(hnp.arrays(np.uint8, (exams, labels), elements=st.integers(0, 1)))
    truth[:2] = [[0] * labels, [1] * labels]
    return truth, draw(hnp.arrays(np.int64, (exams, labels), elements=st.integers(0, 20))) / 20


@settings(max_examples=20)
@given(scored())
def test_auc_is_the_share_of_pairs_in_order(case):
    truth, score = case
    pairs = [(b > a) + 0.5 * (a == b) for a in score[truth == 0] for b in score[truth == 1]]
    chosen = metrics.choose(truth, score, [1])
    values, reasons = figures.values(truth, score, ["x"], [1], chosen)
    assert values["x"]["auc"] == pytest.approx(np.mean(pairs))
    assert intervals.auc_draws(truth, score[None], np.ones((1, len(truth))))[0, 0, 0] == pytest.approx(np.mean(pairs))
    turned, _ = figures.values(1 - truth, 1 - score, ["x"], [0], metrics.choose(1 - truth, 1 - score, [0]))
    assert turned["x"]["auc"] == pytest.approx(values["x"]["auc"])
    squared, _ = figures.values(truth, score**2, ["x"], [1], chosen)
    assert squared["x"]["auc"] == pytest.approx(values["x"]["auc"])
    assert not any(k for k in reasons["x"] if np.isfinite(values["x"][k]))


@settings(max_examples=20)
@given(scored(), st.integers(0, 1))
def test_thresholds_keep_what_they_promise_on_tune(case, rare):
    truth, score = case
    chosen = metrics.choose(truth, score, [rare])
    recall = metrics.recalls(truth[:, 0], score[:, 0], chosen.threshold[0])
    assert recall[1 - rare] >= 0.5
    common = score[truth[:, 0] != rare, 0]
    assert common.min() <= chosen.threshold[0] <= np.nextafter(common.max(), 2)


@settings(max_examples=20)
@given(scored(labels=2))
def test_every_figure_is_in_its_range_or_has_a_reason(case):
    truth, score = case
    rare = minority(truth)
    values, reasons = figures.values(truth, score, ["x", "y"], rare, metrics.choose(truth, score, rare))
    for label, of_label in values.items():
        for name, value in of_label.items():
            assert 0 <= value <= np.nextafter(1, 2) if np.isfinite(value) else reasons[label][name]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(p):
    adjusted = intervals.holm(p)
    assert (adjusted >= np.array(p) - 1e-12).all() and (adjusted <= 1).all()
    for i, j in combinations(range(len(p)), 2):
        assert adjusted[i] <= adjusted[j] or p[i] > p[j] or p[i] == p[j]
    assert adjusted[int(np.argmin(p))] == pytest.approx(min(1, len(p) * min(p)))
