"""The claims that the report puts to the test."""

from bench.report.claims import claims
from bench.report.differences import drawn
from bench.store.scored import stored
from tests.tools.synthetic import store


def said(out, gains: dict[str, float], seeds=range(5)) -> list[str]:
    (methods,) = stored(store(out, gains, planes=["a"], seeds=seeds)).values()
    return claims(drawn(methods, "ensemble"))


def test_a_claim_holds_where_its_difference_is_better(tmp_path):
    frozen, tuned, holm = said(
        tmp_path, {"sslm-probe": 1.5, "random-probe": 0.4, "sslm-finetuned": 0.5, "supervised": 1.6}
    )
    assert "at random weights: holds (sslm-probe minus random-probe: macro AUC +" in frozen
    assert "from scratch: does not hold (sslm-finetuned minus supervised: macro AUC -" in tuned
    assert holm == "Verdicts on the claims: after Holm over their own 2 comparisons."


def test_pairs_that_differ_are_each_told(tmp_path):
    gains = {
        "sslm": 0.5,
        "random": 0.5,
        "sslm-probe": 1.5,
        "random-probe": 0.4,
        "sslm-weighted": 1.8,
        "sslm-focal": 0.5,
    }
    frozen, strategies, holm = said(tmp_path, gains)
    assert "differs from pair to pair (sslm minus random: macro AUC" in frozen and "]: better)." in frozen
    assert "strategy against imbalance: does not hold (sslm-weighted minus sslm: minority recall +" in strategies
    assert "sslm-focal minus sslm" in strategies and "their own 4 comparisons" in holm


def test_few_seeds_and_missing_methods(tmp_path):
    (only,) = said(tmp_path, {"sslm": 1.0, "random": 0.2, "imagenet": 0.5}, seeds=(0, 1))
    assert ": too few seeds (sslm minus random: macro AUC" in only
    assert said(tmp_path / "none", {"imagenet": 1.0, "supervised": 0.5}) == []


def test_a_claim_that_no_verdict_speaks_of_is_not_confirmed(tmp_path):
    (few,) = said(tmp_path / "few", {"sslm": 1.0, "sslm-weighted": 1.0}, seeds=(0, 1))
    assert "against imbalance: too few seeds (sslm-weighted minus sslm" in few
    judged, _ = said(tmp_path / "judged", {"sslm": 1.0, "sslm-weighted": 1.0})
    assert "against imbalance: no strategy is significantly better (" in judged
