"""Turn claims and scores into answers: supported, not supported or undecided, with the numbers behind each.

For each part of a claim there are two one-sided tests over subjects. "For": the effect has the claimed sign (or is
below the bound that counts as little). "Against": the effect is below the smallest one of interest (or above the
bound). A claim is supported where all of its parts are shown, not supported where one of them is shown to fail, and
undecided where the data show neither: an absence of evidence is not taken for evidence of absence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from brainsim.core.errors import UnknownNameError
from brainsim.stats.claims.rows import Claim, Part
from brainsim.stats.claims.scores import Scores
from brainsim.stats.claims.statistics import STATISTICS, systems_used
from brainsim.stats.corrections import correct, holm_adjusted
from brainsim.stats.intervals import mean_interval
from brainsim.stats.sign_flip import sign_flip_p

SUPPORTED, NOT_SUPPORTED, UNDECIDED, NOT_TESTED = "supported", "not supported", "undecided", "not tested"

MEAN_OF_STREAMS = "mean of streams"

# Shares of what can be reached, declared before. R2 is on the scale of variance: a tenth of it is a correlation of
# 0.32 with what can be explained, the border of a medium effect (Cohen 1988: r = 0.3), and 0.02 of it is a little
# above a small one (r = 0.1, 1 % of variance). Similarities of RDMs are correlations themselves.
LITTLE = {"encoding": 0.10, "geometry": 0.30}
SMALLEST = {"encoding": 0.02, "geometry": 0.05}


@dataclass(frozen=True)
class Rules:
    """What is declared before claims are tested.

    Parameters
    ----------
    alpha : float
        Level, after correction.
    correction : {"holm", "bh", "by"}
        Over all claims that are tested together.
    little, smallest : mapping of str to float
        Measure -> share of what can be reached: what counts as little, and the smallest difference or unique part of
        interest.
    interval : {"auto", "t", "bootstrap"}
        How intervals over subjects are made.
    seed : int
        Seed of flips and bootstraps.
    """

    alpha: float = 0.05
    correction: str = "holm"
    little: Mapping[str, float] = field(default_factory=lambda: LITTLE)
    smallest: Mapping[str, float] = field(default_factory=lambda: SMALLEST)
    interval: str = "auto"
    seed: int = 0


@dataclass(frozen=True)
class Answer:
    """The answer to one claim from one kind of score.

    Parameters
    ----------
    claim : Claim
        What was asked.
    measure, source : str
        Of what scores, and where they are from.
    answer : str
        "supported", "not supported", "undecided", or "not tested" where the scores say nothing about it.
    p_for, p_against : float
        Of all parts together; NaN where not tested.
    q_for, q_against : float
        Corrected over all claims.
    rows : tuple of dict
        Per part and stream: estimate, low, high, bound, p_for, p_against, n_subjects.
    reason : str
        Why it was not tested, or what keeps it from being decided.
    hint : str
        What would let it be tested.
    nodes : tuple of str
        Nodes behind it.
    """

    claim: Claim
    measure: str
    source: str
    answer: str
    p_for: float = float("nan")
    p_against: float = float("nan")
    q_for: float = float("nan")
    q_against: float = float("nan")
    rows: tuple[dict[str, Any], ...] = ()
    reason: str = ""
    hint: str = ""
    nodes: tuple[str, ...] = ()


def answer_claims(
    claims: Sequence[Claim],
    scores: Sequence[Scores],
    *,
    roles: Mapping[str, Sequence[str]] | None = None,
    rules: Rules | None = None,
) -> list[Answer]:
    """Test claims on scores, each claim on the first scores of a measure that can answer it.

    Parameters
    ----------
    claims : sequence of Claim
        In the order of the answers.
    scores : sequence of Scores
        Results to ask; those of one measure in the order of preference.
    roles : mapping of str to sequence of str, optional
        Systems of some roles, instead of those of the claims.
    rules : Rules, optional
        What was declared.

    Returns
    -------
    list of Answer
        Per measure and claim. p values are corrected over all that were tested.
    """
    rules = rules or Rules()
    measures = list(dict.fromkeys(s.measure for s in scores))
    answers = [
        _ask(
            replace(claim, roles={**claim.roles, **_known(roles, claim)}), [s for s in scores if s.measure == m], rules
        )
        for m in measures
        for claim in claims
    ]
    q_for = correct(np.array([a.p_for for a in answers]), method=rules.correction)
    q_against = correct(np.array([a.p_against for a in answers]), method=rules.correction)
    return [_decide(a, f, g, rules) for a, f, g in zip(answers, q_for.tolist(), q_against.tolist(), strict=True)]


def _known(roles: Mapping[str, Sequence[str]] | None, claim: Claim) -> dict[str, tuple[str, ...]]:
    return {role: tuple(systems) for role, systems in (roles or {}).items() if role in claim.roles}


def _ask(claim: Claim, scores: Sequence[Scores], rules: Rules) -> Answer:
    """Return the answer, without its decision, of the first scores that have one."""
    failed: UnknownNameError | None = None
    for source in scores:
        try:
            return _test(claim, source, rules)
        except UnknownNameError as error:
            failed = failed or error
    return Answer(
        claim,
        scores[0].measure,
        scores[0].source,
        NOT_TESTED,
        reason=failed.message if failed else "",
        hint=(failed and failed.hint) or "",
    )


def _test(claim: Claim, scores: Scores, rules: Rules) -> Answer:
    rows = [row for part in claim.parts for row in _test_part(claim, part, scores, rules)]
    p_for = np.array([row["p_for"] for row in rows])
    p_against = np.array([row["p_against"] for row in rows])
    # All must hold: the largest p. One that fails is enough against it: the least, after a correction for looking
    # at several.
    worst = float(np.nanmin(holm_adjusted(p_against))) if np.isfinite(p_against).any() else float("nan")
    return Answer(
        claim, scores.measure, scores.source, UNDECIDED, float(p_for.max()), worst, rows=tuple(rows), nodes=scores.nodes
    )


def _test_part(claim: Claim, part: Part, scores: Scores, rules: Rules) -> list[dict[str, Any]]:
    """Return one row for each stream, or one for their mean."""
    effect = STATISTICS[part.statistic](scores, part, claim.roles)  # (n_subjects, n_streams)
    reach = scores.reachable
    if reach is None and part.direction == "little":
        raise UnknownNameError(
            f"{scores.source} does not say what can be reached, of which little would be a share.",
            hint="brainsim partition scores all systems together; rsa gives a noise ceiling for two subjects or more",
        )
    streams = list(scores.streams)
    if claim.over == "mean-of-streams":
        # A subject without one of the streams has another mean: it is left out.
        effect = effect.mean(axis=1, keepdims=True)
        reach = None if reach is None else reach.mean(axis=1, keepdims=True)
        streams = [MEAN_OF_STREAMS]
    rows = []
    for s, stream in enumerate(streams):
        known = np.isfinite(effect[:, s])
        if reach is not None:
            known &= np.isfinite(reach[:, s])
        if not known.any():
            continue
        row = _test_stream(effect[known, s], None if reach is None else reach[known, s], part, scores.measure, rules)
        rows.append(
            {"part": part.text, "stream": stream, "systems": list(systems_used(scores, part, claim.roles)), **row}
        )
    if not rows:
        raise UnknownNameError(f"{scores.source} has no subject with a score of {part.text} in all streams it needs.")
    return rows


def _test_stream(
    effect: np.ndarray, reach: np.ndarray | None, part: Part, measure: str, rules: Rules
) -> dict[str, Any]:
    """Test one number per subject both ways; the bound is a share of each subject's own reach."""
    is_little = part.direction == "little"
    share = (rules.little if is_little else rules.smallest)[measure]
    below = None if reach is None else effect - share * reach
    if is_little and below is not None:
        p_for = sign_flip_p(below, alternative="less", seed=rules.seed)
        p_against = sign_flip_p(below, alternative="greater", seed=rules.seed)
    else:
        p_for = sign_flip_p(effect, alternative="greater", seed=rules.seed)
        p_against = np.array(np.nan) if below is None else sign_flip_p(below, alternative="less", seed=rules.seed)
    interval = mean_interval(effect, method=rules.interval, seed=rules.seed)
    top = float("nan") if reach is None else float(reach.mean())
    return {
        "estimate": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "reachable": top,
        "bound": share * top,
        "p_for": float(p_for),
        "p_against": float(p_against),
        "n_subjects": interval.n,
        "interval": interval.method,
    }


def _decide(answer: Answer, q_for: float, q_against: float, rules: Rules) -> Answer:
    """Return the answer with corrected p values and what follows from them.

    An effect that is above zero and shown to be below the smallest one of interest is no support.
    """
    if answer.answer == NOT_TESTED:
        return answer
    if q_against <= rules.alpha:
        word = NOT_SUPPORTED
    elif q_for <= rules.alpha:
        word = SUPPORTED
    else:
        word = UNDECIDED
    return replace(answer, answer=word, q_for=q_for, q_against=q_against)
