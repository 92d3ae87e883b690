"""Turn scores of results, and which models have a published accuracy, into the scores that accuracy is set against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from brainsim.commands.accuracy_rows import PublishedAccuracy
from brainsim.core.errors import InvalidValueError
from brainsim.stats.claims.scores import Scores

# Two models always have a correlation of 1 or -1.
MIN_MODELS = 3


def too_few(n_models: int) -> InvalidValueError:
    """Return the error of fewer models than a correlation needs."""
    return InvalidValueError(
        f"{n_models} model(s) have a published accuracy and a score of their own; at least {MIN_MODELS} are needed.",
        hint="--table FILE adds accuracies; brainsim rsa, or partition with one family per system, scores systems",
    )


def tell_left_out(
    found: Sequence[Scores], chosen: Sequence[tuple[Scores, list[str]]], measures: Sequence[str]
) -> list[str]:
    """Return a warning of each measure that has results, but too few models with an accuracy."""
    there = dict.fromkeys(scores.measure for scores in found if scores.measure in measures)
    return [
        f"No correlation by {measure}: fewer than {MIN_MODELS} of its models have a published accuracy and a score of "
        "their own."
        for measure in there
        if measure not in {scores.measure for scores, _ in chosen}
    ]


def choose_scores(
    found: Sequence[Scores], measures: Sequence[str], accuracies: Mapping[str, PublishedAccuracy]
) -> list[tuple[Scores, list[str]]]:
    """Return of each measure the scores with most single systems that have an accuracy, and these systems."""
    chosen = []
    best = 0
    for measure in measures:
        options = [
            (scores, [model for model in sorted(accuracies) if scores.single(model) is not None])
            for scores in found
            if scores.measure == measure
        ]
        if not options:
            continue
        scores, models = max(options, key=lambda option: len(option[1]))
        best = max(best, len(models))
        if len(models) >= MIN_MODELS:
            chosen.append((scores, models))
    if not chosen:
        raise too_few(best)
    return chosen
