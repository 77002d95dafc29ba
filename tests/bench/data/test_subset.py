"""Fewer labels: nested, stratified, the same for all; thinned fit sets of one size."""

import numpy as np
import pytest

from bench.config.data import DataConfig
from bench.data.subset import labelled, spread
from sslm_core.errors import UserError
from sslm_core.exams import joint

LABELS = ("abnormal", "acl", "meniscus")
# a fifth of it
MRNET = np.repeat([[0, 0, 0], [1, 0, 0], [1, 0, 1], [1, 1, 0], [1, 1, 1]], [43, 87, 54, 17, 25], axis=0).astype(
    np.uint8
)
TRUTH = MRNET[np.random.default_rng(1).permutation(len(MRNET))]
FIT, TUNE = np.arange(0, 180), np.arange(180, len(TRUTH))


def drawn(config: DataConfig, truth=TRUTH, labels=LABELS):
    return labelled(config, labels, truth, truth, FIT, TUNE)


@pytest.mark.parametrize("draw", range(5))
def test_shares_are_nested_and_stratified(draw):
    smaller = (np.array([], int), np.array([], int))
    for share in (0.05, 0.1, 0.25, 0.5, 1.0):
        both = drawn(DataConfig(share, draw))
        for part, few, all_ in zip(both, smaller, (FIT, TUNE)):
            assert (
                len(part) == round(share * len(all_))
                and set(few) <= set(part) <= set(all_)
                and (np.diff(part) > 0).all()
            )
            every, have = joint(TRUTH)[all_], joint(TRUTH)[part]
            for stratum in np.unique(every):
                assert abs((have == stratum).sum() - share * (every == stratum).sum()) < 1.01
        smaller = both
    other = drawn(DataConfig(0.1, draw + 1))
    assert set(other[0]) != set(drawn(DataConfig(0.1, draw))[0])


def test_every_beginning_has_its_share_of_each_joint_label():
    order = spread(TRUTH, np.random.default_rng(0))
    assert sorted(order) == list(range(len(TRUTH)))
    strata = np.eye(5)[joint(TRUTH)]
    ideal = np.arange(1, len(TRUTH) + 1)[:, None] * strata.mean(0)
    assert abs(strata[order].cumsum(0) - ideal).max() < 1.01


def test_thinning_keeps_the_number_and_the_other_labels_and_nests():
    rare = TRUTH[FIT, 1] == 1
    control, tune = drawn(DataConfig(thin="acl:natural"))
    total = len(control)
    assert 100 < total < (~rare).sum() and (tune == TUNE).all()
    wanted = TRUTH[control].mean(0)
    assert abs(wanted - TRUTH[FIT].mean(0)).max() < 1.01 / total
    fewer = set()
    for share in (0.02, 0.05, 0.1, 0.2):
        fit, tune = drawn(DataConfig(thin=f"acl:{share}"))
        assert len(set(fit)) == total and set(fit) <= set(FIT) and (tune == TUNE).all()
        assert TRUTH[fit, 1].sum() == round(share * total)
        assert abs(TRUTH[fit].mean(0) - wanted)[[0, 2]].max() < 1.01 / total  # matched to within an exam
        torn = set(fit) & set(FIT[rare])
        assert fewer <= torn
        fewer = torn
    # the rarest class of all labels is acl's
    assert (drawn(DataConfig(thin="0.05"))[0] == drawn(DataConfig(thin="acl:0.05"))[0]).all()


def test_one_label_alone_can_be_thinned():
    fit, _ = drawn(DataConfig(thin="0.05"), TRUTH[:, 1:2], ("acl",))
    assert TRUTH[fit, 1].sum() == round(0.05 * len(fit))


@pytest.mark.parametrize(
    "config, word",
    [
        (DataConfig(thin="acl:0.4"), "there are"),
        (DataConfig(thin="acl:0.001"), "takes 0 of"),
        (DataConfig(thin="knee:0.1"), "no label knee"),
        (DataConfig(labels=0.001), "leaves 0 exams to fit"),
        (DataConfig(labels=0.011), "all 2 exams to fit are of class 1"),
    ],
)
def test_what_cannot_be_fitted_has_a_reason(config, word):
    with pytest.raises(UserError, match=word):
        drawn(config)
