"""Turn stored partitions, fits and RSA results into answers to claims that were declared before."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainsim.commands.encoding_plan import open_for_results, result_is_done
from brainsim.core.checks import check_choice, check_node_name, check_number
from brainsim.core.errors import InvalidValueError
from brainsim.core.progress import SILENT, Progress
from brainsim.core.registry import unknown_name

if TYPE_CHECKING:
    from brainsim.stats.claims import Answer, Claim, Rules, Scores

MEASURES = ("encoding", "geometry")


@dataclass(frozen=True)
class ClaimsSummary:
    """What was asked, and the answers.

    Parameters
    ----------
    name, dataset, store : str
        Where the result lies: ``claims/{name}/{dataset}``.
    answers : tuple of dict
        Per measure and claim: says, answer (supported, not supported, undecided, not tested), p and q for it and
        against it, n_subjects, streams, source, systems, reason.
    tests : tuple of dict
        Per measure, claim, part and stream: estimate, low, high, reachable, bound, p_for, p_against, n_subjects.
    rules : dict
        What was declared: alpha, correction, little and smallest of each measure, interval.
    n_nodes_written, n_nodes_reused : int
        Result nodes made now, and found complete.
    warnings : tuple of str
        What must be known beside the answers.
    seconds : float
        Wall time.
    """

    name: str
    dataset: str
    store: str
    answers: tuple[dict[str, Any], ...]
    tests: tuple[dict[str, Any], ...]
    rules: dict[str, Any]
    n_nodes_written: int
    n_nodes_reused: int
    warnings: tuple[str, ...]
    seconds: float


def claims(
    name: str,
    *,
    dataset: str,
    store: Path | str = "store/brainsim.zarr",
    claims: Sequence[str] = ("*",),
    measures: Sequence[str] = MEASURES,
    partitions: Sequence[str] | None = None,
    fits: Sequence[str] | None = None,
    rsas: Sequence[str] | None = None,
    systems: Mapping[str, Sequence[str]] | None = None,
    streams: Sequence[str] = (),
    alpha: float = 0.05,
    correction: str = "holm",
    little: float | None = None,
    smallest: float | None = None,
    interval: str = "auto",
    seed: int = 0,
    dry_run: bool = False,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> ClaimsSummary:
    """Answer claims that were declared before: supported, not supported or undecided, with the numbers behind it.

    Subjects are random effects: signs of subjects are flipped, all 2^n ways up to 16 subjects. A claim is supported
    where all it says is shown, not supported where something that it says is shown to fail by more than the smallest
    effect of interest, and undecided where the data show neither. The five claims are those of the study.

    Parameters
    ----------
    name : str
        Name of the answers in the store.
    dataset : str
        Dataset given at ingest.
    store : Path
        Store that holds the results.
    claims : sequence of str
        Globs over claims: image-mae-little, finetuning-helps, temporal-above-image-mae, dynamic-cnn-above-temporal,
        flow-unique, and those of plug-ins.
    measures : sequence of {"encoding", "geometry"}
        R2 of partitions and fits, similarity of RDMs; each answers by itself.
    partitions, fits, rsas : sequence of str, optional
        Names of results to ask; by default all of the dataset, but an RSA of protocol study only where there is no
        other. A claim is answered by the first that can: partitions with many subsets first, then fits of single
        systems; of several RSA results the first by name.
    systems : mapping of str to sequence of str, optional
        Systems that a role of the claims stands for, instead of the study's: mvd=mvd-base,my-mvd.
    streams : sequence of str
        Streams that claims speak of; all by default.
    alpha : float
        Level of the answers, after correction.
    correction : {"holm", "bh", "by"}
        Over all claims and measures asked together: chance of any false answer (Holm), or rate of false ones among
        the answers (Benjamini-Hochberg, Benjamini-Yekutieli).
    little : float, optional
        Share of what can be reached (R2 of all systems together, lower noise ceiling) below which a score is little;
        0.1 of R2 and 0.3 of a similarity by default: the border of a medium effect, r = 0.3.
    smallest : float, optional
        Smallest difference or unique part of interest, as such a share; 0.02 of R2 and 0.05 of a similarity by
        default. What is shown to be smaller is no support.
    interval : {"auto", "t", "bootstrap"}
        Intervals over subjects: Student's t, bootstrap, or t below 20 subjects, where a bootstrap is too narrow.
    seed : int
        Seed of flips above 16 subjects, and of bootstraps.
    dry_run : bool
        Say what the answers rest on, and write nothing.
    overwrite : bool
        Replace answers of this name that were made with other options or results.
    progress : Progress
        Where progress is told.

    Returns
    -------
    ClaimsSummary

    Raises
    ------
    UnknownNameError, InvalidValueError
        Names that are not stored, options that are not allowed, no results at all.

    References
    ----------
    Winkler et al. 2014, NeuroImage 92 (sign flips); Berger 1982, Technometrics 24 (all parts must hold); Lakens 2017,
    Soc. Psychol. Personal. Sci. 8 (smallest effect of interest); Holm 1979, Scand. J. Stat. 6.
    """
    from brainsim.commands.score_sources import find_scores, protocol_caveats
    from brainsim.stats.claims import answer_claims
    from brainsim.stats.claims.catalogue import select_claims

    started = time.monotonic()
    check_node_name(name, what="the answers' name")
    for measure in measures:
        check_choice("--measures", measure, MEASURES)
    rules = _read_rules(alpha, correction, little, smallest, interval, seed)
    chosen = select_claims(claims)
    roles = _check_roles(systems, chosen)
    opened = open_for_results(store, dry_run=dry_run)
    found = find_scores(opened, dataset, partitions=partitions, fits=fits, rsas=rsas, streams=streams)
    asked = [scores for scores in found if scores.measure in measures]
    if not asked:
        raise InvalidValueError(
            f"dataset {dataset!r} has no results of {' or '.join(measures)}; it has {found[0].source}.",
            hint=f"--measures {found[0].measure}",
        )
    answers = answer_claims(chosen, asked, roles=roles, rules=rules)
    declared = _declared(rules)
    options = {"dataset": dataset, "streams": list(streams), "systems": {k: list(v) for k, v in roles.items()}}
    path = f"claims/{name}/{dataset}"
    sources = list(dict.fromkeys(node for scores in asked for node in scores.nodes))
    key = {
        "kind": "claims",
        "options": {**options, "rules": declared, "measures": list(measures)},
        "claims": [_describe(claim) for claim in chosen],
        "results": [[node, opened.info(node).digest] for node in sources],
    }
    rows = [_tell_answer(answer) for answer in answers]
    tests = [{"measure": a.measure, "claim": a.claim.name, **_plain(row)} for a in answers for row in a.rows]
    used = {answer.source for answer in answers if answer.rows}
    warnings = protocol_caveats(opened, [some for some in asked if some.source in used])
    warnings += _warn(answers, asked, rules)
    is_done = result_is_done(opened, path, key, overwrite=overwrite)
    if not dry_run and not is_done:
        opened.write(
            path,
            type="claims",
            key=key,
            arrays={},
            attributes={
                "answers": rows,
                "tests": tests,
                "rules": declared,
                "claims": key["claims"],
                "dataset": dataset,
                "warnings": warnings,
                "options": key["options"],
                "sources": sources,
            },
            overwrite=overwrite,
        )
    for warning in warnings:
        progress.warn(warning)
    return ClaimsSummary(
        name=name,
        dataset=dataset,
        store=str(store),
        answers=tuple(rows),
        tests=tuple(tests),
        rules=declared,
        n_nodes_written=int(not is_done and not dry_run),
        n_nodes_reused=int(is_done),
        warnings=tuple(warnings),
        seconds=round(time.monotonic() - started, 3),
    )


def _read_rules(
    alpha: float, correction: str, little: float | None, smallest: float | None, interval: str, seed: int
) -> Rules:
    """Check what is declared; a share that is given holds for every measure."""
    from brainsim.stats.claims import Rules
    from brainsim.stats.corrections import CORRECTIONS
    from brainsim.stats.intervals import METHODS

    check_number("--alpha", alpha, above=0, at_most=0.5)
    check_choice("--correction", correction, CORRECTIONS)
    check_choice("--interval", interval, METHODS)
    shares: dict[str, dict[str, float]] = {}
    for word, value in (("little", little), ("smallest", smallest)):
        if value is not None:
            check_number(f"--{word}", value, above=0, at_most=1)
            shares[word] = dict.fromkeys(MEASURES, value)
    return Rules(alpha=alpha, correction=correction, interval=interval, seed=seed, **shares)


def _declared(rules: Rules) -> dict[str, Any]:
    return {
        "alpha": rules.alpha,
        "correction": rules.correction,
        "little": dict(rules.little),
        "smallest": dict(rules.smallest),
        "interval": rules.interval,
        "seed": rules.seed,
    }


def _check_roles(systems: Mapping[str, Sequence[str]] | None, chosen: Sequence[Claim]) -> dict[str, tuple[str, ...]]:
    allowed = sorted({role for claim in chosen for role in claim.roles})
    for role in systems or {}:
        if role not in allowed:
            raise unknown_name("role of the claims", role, allowed)
    return {role: tuple(names) for role, names in (systems or {}).items()}


def _describe(claim: Claim) -> dict[str, Any]:
    """Return a claim as a node keeps it: what was declared, in full."""
    return {
        "name": claim.name,
        "says": claim.says,
        "parts": [
            {"statistic": p.statistic, "role": p.role, "others": list(p.others), "direction": p.direction}
            for p in claim.parts
        ],
        "roles": {role: list(systems) for role, systems in claim.roles.items()},
        "over": claim.over,
        "reading": claim.reading,
        "source": claim.source,
    }


def _tell_answer(answer: Answer) -> dict[str, Any]:
    """Return one answer as a row of plain values."""
    return _plain(
        {
            "measure": answer.measure,
            "claim": answer.claim.name,
            "says": answer.claim.says,
            "answer": answer.answer,
            "p_for": answer.p_for,
            "q_for": answer.q_for,
            "p_against": answer.p_against,
            "q_against": answer.q_against,
            "n_subjects": min((row["n_subjects"] for row in answer.rows), default=0),
            "streams": list(dict.fromkeys(row["stream"] for row in answer.rows)),
            "systems": list(dict.fromkeys(s for row in answer.rows for s in row["systems"])),
            "source": answer.source,
            "reason": answer.reason,
            "hint": answer.hint,
        }
    )


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with null for what is not a number."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


def _warn(answers: Sequence[Answer], scores: Sequence[Scores], rules: Rules) -> list[str]:
    """Return what must be known: too few subjects to show anything, systems of the study that are not there."""
    from brainsim.stats.sign_flip import least_p

    warnings = []
    tested = [answer for answer in answers if answer.rows]
    n = min((row["n_subjects"] for answer in tested for row in answer.rows), default=0)
    n_tests = len(tested)
    # Holm multiplies the least p by the number of tests, and no other p ends below that.
    best = least_p(n) * (n_tests if rules.correction == "holm" else 1)
    if tested and best > rules.alpha:
        warnings.append(
            f"With {n} subjects no p is below {least_p(n):.2g}, after correction over {n_tests} claims "
            f"{min(1.0, best):.2g}: at {rules.alpha:g} every answer is undecided, whatever the data."
        )
    for answer in answers:
        if not answer.rows:
            warnings.append(f"{answer.claim.name} ({answer.measure}) is not tested: {answer.reason}")
            continue
        used = {s for row in answer.rows for s in row["systems"]}
        named = [
            s for part in answer.claim.parts for role in (part.role, *part.others) for s in answer.claim.roles[role]
        ]
        missing = sorted({s for s in named if s not in used})
        if missing:
            warnings.append(f"{answer.claim.name} ({answer.measure}) is answered without {', '.join(missing)}.")
    twins = sorted({twin for some in scores for twin in some.twins})
    if twins:
        warnings.append(
            f"{len(twins)} small twins stand for the systems of the claims ({', '.join(twins)}): their weights are "
            "random, so that the answers say nothing about trained systems."
        )
    silent = [scores.source for scores in scores if scores.reachable is None]
    if silent:
        warnings.append(f"{'; '.join(silent)}: what can be reached is not known, so nothing is shown to be too small.")
    return warnings
