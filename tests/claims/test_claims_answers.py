"""The five claims on planted scores: answered rightly where they hold and where they fail, left open where unclear."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from planted_scores import STREAMS, plant_scores

from brainsim.stats.claims import CLAIMS, Answer, Claim, Part, Rules, Scores, answer_claims
from brainsim.stats.claims.catalogue import select_claims
from brainsim.stats.claims.scores import name_systems

FIVE = [
    "image-mae-little", "finetuning-helps", "temporal-above-image-mae", "dynamic-cnn-above-temporal", "flow-unique"
]  # fmt: skip
N_SEEDS = 100


def ask(scores: Scores, **rules: object) -> dict[str, Answer]:
    answers = answer_claims(select_claims(FIVE), [scores], rules=Rules(**rules))  # type: ignore[arg-type]  # a test
    return {answer.claim.name: answer for answer in answers}


def words(scores: Scores, **rules: object) -> dict[str, str]:
    return {name: answer.answer for name, answer in ask(scores, **rules).items()}


@cache
def answers_of(kind: str) -> tuple[dict[str, str], ...]:
    return tuple(words(plant_scores(kind, seed)) for seed in range(N_SEEDS))


@pytest.mark.parametrize(("kind", "right"), [("hold", "supported"), ("fail", "not supported")])
def test_a_cohort_is_answered_rightly_in_95_of_100_seeds(kind: str, right: str) -> None:
    answers = answers_of(kind)
    assert list(answers[0]) == FIVE
    all_right = sum(set(a.values()) == {right} for a in answers)
    told = Counter((name, word) for a in answers for name, word in a.items() if word != right)
    assert all_right >= 95, f"{all_right} of {N_SEEDS}; {told}"


def test_no_claim_is_called_false_where_it_holds_nor_true_where_it_fails() -> None:
    assert not any("not supported" in answers.values() for answers in answers_of("hold"))
    assert not any("supported" in answers.values() for answers in answers_of("fail"))


def test_effects_of_exactly_zero_are_seldom_called_support() -> None:
    # One claim at a time and in the mean of streams, which is the least favourable case: a part whose effect is zero.
    claim = Claim("one", "one", (Part("difference", "a", ("b",)),), {"a": ("mvd-base",), "b": ("mae-base",)},
                  over="mean-of-streams")  # fmt: skip
    n = 400
    found = sum(answer_claims([claim], [plant_scores("edge", seed)])[0].p_for <= 0.05 for seed in range(n))
    assert found <= 32  # 5 % of 400 is 20; P(more than 32) = 0.003


def test_too_much_scatter_leaves_claims_undecided_instead_of_unsupported() -> None:
    answers = [words(plant_scores("hold", seed, n_subjects=6, scatter=8.0)) for seed in range(20)]
    counts = Counter(word for a in answers for word in a.values())
    assert counts["undecided"] >= 90
    assert counts["not supported"] <= 5


def test_with_five_subjects_nothing_is_decided_among_five_claims() -> None:
    assert set(words(plant_scores("hold", 0, n_subjects=5)).values()) == {"undecided"}
    assert set(words(plant_scores("hold", 0, n_subjects=5), correction="bh").values()) != {"undecided"}


def test_the_numbers_behind_an_answer_are_those_of_the_scores() -> None:
    scores = plant_scores("hold", 3)
    answers = ask(scores)
    row = answers["finetuning-helps"].rows[0]
    singles = {name: scores.sets[frozenset((name,))].mean(axis=1) for name in scores.systems}
    by_subject = singles["mae-base-finetuned"] - singles["mae-base"]
    assert row["estimate"] == pytest.approx(by_subject.mean())
    assert row["low"] < row["estimate"] < row["high"]
    assert row["n_subjects"] == 14
    assert row["bound"] == pytest.approx(0.02 * scores.sets[frozenset(scores.systems)].mean())
    unique = answers["flow-unique"].rows
    assert [r["stream"] for r in unique] == list(STREAMS)
    everything = frozenset(scores.systems)
    flow = {"cnn-flow-selfsup", "cnn-flow-action"}
    expected = (scores.sets[everything] - scores.sets[everything - flow]).mean(axis=0)
    np.testing.assert_allclose([r["estimate"] for r in unique], expected)
    assert answers["flow-unique"].p_for == max(r["p_for"] for r in unique)
    m = len(FIVE)
    raw = sorted(answers.values(), key=lambda a: a.p_for)
    assert raw[0].q_for == pytest.approx(min(1.0, m * raw[0].p_for))


def test_a_claim_about_every_stream_fails_by_one_stream() -> None:
    scores = plant_scores("hold", 0)
    sets = dict(scores.sets)
    everything = frozenset(scores.systems)
    rest = everything - {"cnn-flow-selfsup", "cnn-flow-action"}
    spoiled = sets[rest].copy()
    spoiled[:, 2] = sets[everything][:, 2] + 0.01  # no gain by flow in one stream
    assert words(replace(scores, sets={**sets, rest: spoiled}))["flow-unique"] == "not supported"


def test_an_effect_that_is_real_but_smaller_than_anything_of_interest_is_no_support() -> None:
    scores = plant_scores("hold", 0)
    assert words(scores)["flow-unique"] == "supported"
    answer = ask(scores, smallest={"encoding": 0.5})["flow-unique"]
    assert answer.p_for < 0.01
    assert answer.answer == "not supported"


def test_what_is_missing_is_told_and_does_not_count_in_the_correction() -> None:
    scores = plant_scores("hold", 0)
    without = {m: v for m, v in scores.sets.items() if m != frozenset(("mvd-base",))}
    answers = ask(replace(scores, sets=without))
    answer = answers["temporal-above-image-mae"]
    assert answer.answer == "not tested"
    assert "mvd-base" in answer.reason
    least = min(answers.values(), key=lambda a: a.p_for if a.p_for == a.p_for else 2)
    assert least.q_for == pytest.approx(3 * least.p_for)  # two of five need mvd alone


def test_without_what_can_be_reached_nothing_is_little_and_nothing_too_small() -> None:
    answers = ask(replace(plant_scores("fail", 0), reachable=None))
    assert answers["image-mae-little"].answer == "not tested"
    assert {a.answer for name, a in answers.items() if name != "image-mae-little"} == {"undecided"}


def test_a_subject_without_a_stream_is_left_out_of_means_and_of_that_stream() -> None:
    scores = plant_scores("hold", 0)
    sets = {members: values.copy() for members, values in scores.sets.items()}
    for values in sets.values():
        values[0, 1] = np.nan
    answers = ask(replace(scores, sets=sets, reachable=sets[frozenset(scores.systems)]))
    assert [row["n_subjects"] for row in answers["flow-unique"].rows] == [14, 13, 14, 14]
    assert answers["finetuning-helps"].rows[0]["n_subjects"] == 13


def test_a_claim_is_answered_by_the_first_scores_that_can() -> None:
    whole = plant_scores("hold", 0)
    everything = frozenset(whole.systems)
    few = replace(whole, source="families", sets={m: v for m, v in whole.sets.items() if len(m) > 1})
    singles = replace(whole, source="singles", sets={m: v for m, v in whole.sets.items() if len(m) in (1, 9)})
    answers = {a.claim.name: a for a in answer_claims(select_claims(FIVE), [few, singles])}
    assert answers["flow-unique"].source == "families"
    assert answers["finetuning-helps"].source == "singles"
    assert len(everything) == 9


def test_roles_can_be_given_to_other_systems() -> None:
    scores = plant_scores("hold", 0)
    swapped = answer_claims(
        select_claims(["image-mae-little"]), [scores], roles={"image-mae-pretrained": ["cnn-static-object"]}
    )
    assert swapped[0].answer == "not supported"
    assert swapped[0].rows[0]["systems"] == ["cnn-static-object"]


def test_tiny_twins_stand_for_the_rows_unless_both_are_there() -> None:
    assert name_systems(["mae-base-tiny@0a1b", "mvd-base"]) == {
        "mae-base-tiny@0a1b": "mae-base",
        "mvd-base": "mvd-base",
    }
    assert name_systems(["mae-base-tiny", "mae-base"]) == {"mae-base-tiny": "mae-base-tiny", "mae-base": "mae-base"}


def test_the_five_claims_are_those_of_the_study_and_name_rows_that_exist() -> None:
    from brainsim.models import MODELS

    assert list(CLAIMS)[:5] == FIVE
    systems = {s for name in FIVE for systems in CLAIMS[name].roles.values() for s in systems}
    assert len(systems) == 9
    assert all(system in MODELS for system in systems)
