"""Turn how results were tested into the sentences of a methods section, with the keys of their references."""

from __future__ import annotations

import math
from collections.abc import Sequence

from brainsim.report.content import FitSet, Options, PartitionSet
from brainsim.report.methods_rsa import describe_flips, describe_random_effects
from brainsim.report.references import cite
from brainsim.report.words import join_words, sentence


def describe_statistics(results: Sequence[FitSet | PartitionSet]) -> list[tuple[str, str, list[str]]]:
    """Return how p, q and intervals of ROIs were made, once for all results that have them alike.

    Returns
    -------
    list of (heading, text, keys of references)
    """
    told: dict[tuple[str, ...], list[str]] = {}
    cited: dict[tuple[str, ...], list[str]] = {}
    for result in results:
        sentences, references = _statistics_of(result)
        if sentences:
            told.setdefault(tuple(sentences), []).append(result.name)
            cited[tuple(sentences)] = references
    return [
        (
            f"Statistics: {join_words(dict.fromkeys(names))}",
            " ".join(map(sentence, sentences)),
            cited[sentences],
        )
        for sentences, names in told.items()
    ]


def _statistics_of(result: FitSet | PartitionSet) -> tuple[list[str], list[str]]:
    sentences: list[str] = []
    used: list[str] = []
    nulls = next((s.nulls for s in result.searches if s.nulls), None)
    if nulls:
        is_partition = isinstance(result, PartitionSet) and result.unique is not None
        sentences += _describe_nulls(nulls, result.options, has_unique=is_partition)
        used += ["phipson2010", "benjamini1995"] + ["freedman1983", "winkler2014"] * is_partition
    if isinstance(result, PartitionSet) and any(math.isfinite(e.p) for e in result.group.values()):
        told, keys = describe_random_effects()
        flips, more = describe_flips()
        sentences += [
            told,
            flips,
            f"q: false discovery rate {cite('benjamini1995')} over all families and streams, of one-sided tests "
            "against zero; of two-sided differences between families over all pairs and streams",
        ]
        used += [*keys, *more, "benjamini1995"]
    if any(row.estimate.has_interval for row in result.regions):
        sentences.append(
            f"Intervals of ROIs are percentile bootstraps over test folds {cite('efron1979')}: a subject's test folds "
            "were drawn with replacement, and the ROI's mean was taken anew; nothing was fitted again"
        )
        used.append("efron1979")
    return sentences, used


def _describe_nulls(nulls: Options, options: Options, *, has_unique: bool) -> list[str]:
    n = int(nulls.get("n_nulls") or options.get("n_nulls") or 0)
    shift, shift_s = nulls.get("min_shift_trs"), options.get("null_shift_s")
    least = f" by at least {shift:g} TRs" if isinstance(shift, int | float) else ""
    least += f" ({shift_s:g} s)" if least and isinstance(shift_s, int | float) else ""
    unique = (
        " For the unique part of a family, the best weighting that uses the family was set against the best one that "
        "does not, and only what the others' cross-validated prediction leaves of the responses was shifted, so that "
        f"what they explain stayed in place {cite('freedman1983', 'winkler2014')}."
        if has_unique
        else ""
    )
    return [
        f"Null distribution: {n:,} null data sets. In each, every run's responses were shifted circularly in time"
        f"{least} against the features, all targets alike, which keeps autocorrelation and what targets have in "
        "common; models were trained anew, with the hyperparameters that were chosen for the true responses."
        f"{unique}",
        *_tell_statistic(str(nulls.get("statistic", ""))),
        f"There p = (1 + number of null scores at or above the observed one) / (1 + {n:,}) {cite('phipson2010')}; q is "
        f"the false discovery rate of Benjamini and Hochberg {cite('benjamini1995')} over the targets of a subject",
    ]


def _tell_statistic(statistic: str) -> list[str]:
    if not statistic:
        return []
    told = [f"Statistic: {statistic}"]
    if "correlation" in statistic:
        told.append(
            "A correlation, unlike R², does not depend on how large a prediction is, which hyperparameters fit to the "
            "responses that they were chosen on and to no shifted ones"
        )
    return told
