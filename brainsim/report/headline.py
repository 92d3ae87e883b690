"""Turn the results into a title and the few sentences that say what was found."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from brainsim.report.content import Content, Estimate, FitSet, PartitionSet, RsaSet, Truth
from brainsim.report.figures.estimates import family_estimate, joint_estimate, main_quantity
from brainsim.report.figures.scores import SHARES_ABOVE
from brainsim.report.reduce import FDR_LEVEL, estimate_of, over_subjects
from brainsim.report.tables import format_cell, format_interval
from brainsim.report.words import count, join_words

MAX_NAMED = 6  # more cells than this are counted, not named


def write_title(content: Content) -> str:
    """Return the caller's title, or one that says what the page is about."""
    if content.title:
        return content.title
    if content.partitions:
        p = content.partitions[0]
        what = "Unique and shared variance of" if p.unique is not None else "Responses predicted by"
        return (
            f"{what} {count(len(p.families), 'model family', 'model families')} "
            f"in {count(len(p.streams), 'brain stream')}: {p.dataset}"
        )
    if content.fits:
        systems = list_systems(content.fits[0])
        return f"Brain responses of {content.fits[0].dataset}, predicted from {systems}"
    return f"Representational similarity of {content.rsas[0].dataset}" if content.rsas else "brainsim report"


def write_summary(content: Content) -> tuple[str, ...]:
    """Return the sentences of the summary, the main result first."""
    sentences: list[str] = []
    for partition in content.partitions:
        told = _tell_partition(partition, content.truths.get(partition.dataset))
        if len(content.partitions) > 1:
            told[0] = f"Partition {partition.name}. {told[0]}"
        sentences += told
    if not content.partitions:
        sentences += [_tell_fit(fit) for fit in content.fits]
    for rsa in content.rsas:
        told_rsa = _tell_rsa(rsa)
        which = (
            f" ({rsa.name}, {rsa.comparison or 'score'})"
            if len(content.rsas) > 1
            else f" ({rsa.comparison or 'score'})"
        )
        protocol = " and the study's protocol" * rsa.is_study
        sentences += [f"By representational similarity{which}{protocol}, {told_rsa}."] * bool(told_rsa)
    return tuple(s for s in sentences if s)


def _tell_partition(p: PartitionSet, truth: Truth | None) -> list[str]:
    quantity = main_quantity(p) or "unique"
    cells = {(s, f): family_estimate(p, quantity, s, f) for s in p.streams for f in p.families}
    joint = {s: joint_estimate(p, s).mean for s in p.streams}
    known = {s: v for s, v in joint.items() if math.isfinite(v)}
    finite = {c: e for c, e in cells.items() if math.isfinite(e.mean)}
    if not known:
        return [f"Partition {p.name}: no target has a score."]
    low, high = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
    span = f"R² = {format_cell(known[low])} ({low})"
    if high != low:
        span += f" to {format_cell(known[high])} ({high})"
    who = f"In {count(len(p.subjects), 'subject')}, the {count(len(p.families), 'family', 'families')} together"
    sentences = [f"{who} predict no stream better than its mean does: cross-validated {span}."]
    if known[high] > 0:
        sentences = [f"{who} explain {span}{_tell_best(finite, quantity)}."]
    if quantity == "unique" and any(e.has_interval for e in finite.values()):
        above = [c for c, e in finite.items() if e.low > 0]
        sentences.append(
            f"The interval of unique variance lies above zero in {len(above)} of {len(finite)} stream × family cells"
            + (f" ({join_words(f'{f} in {s}' for s, f in above)})." if 0 < len(above) <= MAX_NAMED else ".")
        )
    sentences += _tell_significance(p)
    if truth and quantity == "unique":
        sentences += _tell_recovery(p, truth)
    return sentences


def _tell_best(finite: Mapping[tuple[str, str], Estimate], quantity: str) -> str:
    """Return the cell with the largest value, as the end of a sentence."""
    if not finite:
        return ""
    best = max(finite, key=lambda c: finite[c].mean)
    interval = f" {format_interval(finite[best].low, finite[best].high)}" if finite[best].has_interval else ""
    value = f"{format_cell(finite[best].mean)}{interval}"
    if quantity == "unique":
        return f"; the largest unique variance is that of {best[1]} in {best[0]}: ΔR² = {value}"
    if quantity == "alone":
        return f"; alone, {best[1]} explains most, in {best[0]}: R² = {value}"
    return f"; the largest share is that of {best[1]} in {best[0]}: {value}"


def _tell_significance(p: PartitionSet) -> list[str]:
    joint, unique = p.significant.get("joint"), p.significant.get("unique")
    sentences = []
    if joint is not None:
        shares = {s: 100 * float(v) for s, v in zip(p.streams, over_subjects(joint), strict=True)}
        told = [f"{v:.0f} % ({s})" for s, v in shares.items() if math.isfinite(v)]
        sentences.append(
            f"All families together predict above chance (false discovery rate {100 * FDR_LEVEL:g} %) "
            f"{join_words(told)} of targets."
        )
    if unique is not None:
        means = over_subjects(unique)
        if np.isfinite(means).any():
            s, f = np.unravel_index(int(np.nanargmax(means)), means.shape)
            sentences.append(
                f"What a family adds to the others is significant in at most {100 * means[s, f]:.0f} % of a stream's "
                f"targets ({p.families[f]} in {p.streams[s]})."
            )
    return sentences


def _tell_recovery(p: PartitionSet, truth: Truth) -> list[str]:
    errors = {
        (s, f): family_estimate(p, "unique", s, f).mean - v
        for (s, f), v in truth.unique.items()
        if s in p.streams and f in p.families
    }
    errors = {c: e for c, e in errors.items() if math.isfinite(e)}
    if not errors:
        return []
    worst = max(errors, key=lambda c: abs(errors[c]))
    mean = float(np.mean(np.abs(list(errors.values()))))
    text = (
        "The data are simulated, so the truth is known: planted unique variance is recovered with a mean absolute "
        f"error of {format_cell(mean)} and a largest error of {format_cell(abs(errors[worst]))} "
        f"({worst[1]} in {worst[0]})."
    )
    null = [c for c in truth.null if c in errors]
    if null and all(family_estimate(p, "unique", *c).has_interval for c in null):
        estimates = [family_estimate(p, "unique", *c) for c in null]
        above = sum(e.low > 0 for e in estimates)
        below = sum(e.high < 0 for e in estimates)
        text += f" Where nothing was planted, {above} of {count(len(null), 'interval')} lie above zero"
        text += f" and {below} below (lowest mean {format_cell(min(e.mean for e in estimates), 4)})."
    return [text]


def _tell_fit(fit: FitSet) -> str:
    r = np.concatenate([v for s in fit.streams for v in fit.r[s]]) if fit.streams else np.zeros(0)
    r = r[np.isfinite(r)]
    if not len(r):
        return f"Fit {fit.name}: no target has a score."
    shares = [f"r exceeds {t:g} in {(r > t).sum():,} ({100 * (r > t).mean():.1f} %)" for t in SHARES_ABOVE]
    return (
        f"Responses of {count(len(r), 'target')} ({count(len(fit.subjects), 'subject')}) are predicted from "
        f"{list_systems(fit)} with a median cross-validated r of {format_cell(float(np.median(r)))}; "
        f"{join_words(shares)}."
    )


def list_systems(fit: FitSet) -> str:
    """Return the names of a fit's systems where they are few, else how many there are."""
    systems = list(dict.fromkeys(layer.model for layer in fit.layers)) or list(fit.bands)
    return join_words(systems) if len(systems) <= 3 else f"{len(systems)} systems"


def _tell_rsa(rsa: RsaSet) -> str:
    """Return the system that is most like each stream, and how many are not told from it, as the end of a sentence."""
    best = []
    differ = {
        (row["stream"], frozenset((row["a"], row["b"])))
        for row in rsa.comparisons
        if row.get("q") is not None and row["q"] <= FDR_LEVEL
    }
    for s, stream in enumerate(rsa.streams):
        scores = {
            m: estimate_of(rsa.group.get((stream, m)), rsa.model_score[:, s, i]).mean
            for i, (m, _) in enumerate(rsa.models)
        }
        scores = {m: v for m, v in scores.items() if math.isfinite(v)}
        if not scores:
            continue
        top = max(scores, key=scores.__getitem__)
        alike = [m for m in scores if m != top and (stream, frozenset((m, top))) not in differ]
        told = f"{top} in {stream} ({format_cell(scores[top])}"
        if len(scores) > 1 and any(row.get("q") is not None for row in rsa.comparisons):
            others = len(scores) - 1
            told += f"; {_tell_below(others - len(alike), others)}"
        best.append(f"{told})")
    if not best:
        return ""
    is_tested = any(row.get("q") is not None for row in rsa.comparisons)
    doubt = "" if is_tested or len(rsa.models) < 2 else "; whether systems differ was not tested"
    return f"the system with the largest score is {join_words(best)}{doubt}"


def _tell_below(n: int, n_others: int) -> str:
    """Return how many of the other systems are significantly below the largest score."""
    if n_others == 1:
        return f"the other is {'' if n else 'not '}significantly below"
    return f"{f'all {n}' if n == n_others else f'{n} of {n_others}'} others are significantly below"
