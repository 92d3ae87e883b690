"""Turn what was compared, claimed and correlated into sentences of a methods section, with the keys of references."""

from __future__ import annotations

import math
from collections.abc import Sequence

from brainsim.report.content import AccuracySet, AuditSet, ClaimsSet, RsaSet
from brainsim.report.references import cite
from brainsim.report.words import count, join_words, sentence

Told = tuple[str, str, list[str]]  # heading, text, keys of references

COMPARISONS = {
    "spearman": "Spearman's rank correlation",
    "pearson": "Pearson's correlation",
    "kendall": "Kendall's tau-a",
    "cosine": "the cosine",
    "whitened-cosine": "the whitened cosine",
    "cka": "linear centred kernel alignment",
}
SAMPLINGS = {
    "average": "Features were averaged into TRs about their mean of the run, and convolved with SPM's canonical "
    f"haemodynamic response {cite('friston1998')}, inside runs only",
    "window-start": "Each clip was dated by the start of its window; features, not centred over time, were convolved "
    f"with SPM's canonical haemodynamic response {cite('friston1998')} and sampled in the middle of TRs",
}
PAIRS = {
    "within-run": "Only TRs of one run made pairs",
    "between-run": "Only TRs of different runs made pairs",
    "all": "TRs of one run and of different runs made pairs",
}
CORRECTIONS = {
    "holm": ("Holm", "holm1979"),
    "bh": ("Benjamini and Hochberg", "benjamini1995"),
    "by": ("Benjamini and Yekutieli", "benjamini2001"),
}


def describe_similarity(rsas: Sequence[RsaSet]) -> list[Told]:
    """Return how geometries were compared, once for analyses that were made alike."""
    told: dict[str, tuple[list[str], list[str]]] = {}
    for rsa in rsas:
        sentences, references = _sentences_of(rsa)
        names, _ = told.setdefault(" ".join(map(sentence, sentences)), ([], references))
        names.append(rsa.name)
    return [(f"Representational similarity: {join_words(names)}", text, keys) for text, (names, keys) in told.items()]


def _sentences_of(rsa: RsaSet) -> tuple[list[str], list[str]]:
    options = rsa.options
    lag, trim = options.get("min_lag_s"), options.get("trim_s")
    is_stimuli = rsa.is_of_stimuli
    rows = f"the {options['n_stimuli']:,} stimuli" if is_stimuli else "TRs"
    used = ["kriegeskorte2008"]
    sentences = [
        f"Representational similarity analysis {cite('kriegeskorte2008')}: dissimilarity of "
        f"{rows} by {rsa.distance or 'correlation'} distance, on both sides; model and brain compared by "
        f"{COMPARISONS.get(rsa.comparison, rsa.comparison or 'a similarity')}"
        + (", by the protocol of the study that this analysis rebuilds" if rsa.is_study else ""),
    ]
    if not is_stimuli and options.get("sampling"):
        sentences.append(SAMPLINGS.get(str(options["sampling"]), f"Features were sampled by {options['sampling']}"))
        used.append("friston1998")
    if not is_stimuli and (which := PAIRS.get(str(options.get("pairs")))):
        sentences.append(which)
    if isinstance(trim, int | float) and trim > 0:
        sentences.append(f"{trim:g} s were cut from both edges of every run, which neighbouring runs may share")
    if isinstance(lag, int | float) and lag > 0:
        sentences.append(f"Pairs of TRs closer than {lag:g} s were left out (autocorrelation)")
    if options.get("lag_means") == "removed":
        sentences.append(
            "From every pair of TRs the mean of all pairs of its run and lag was taken away: unrelated slow series are "
            "alike in it"
        )
    sentences += _describe_layers(rsa)
    if rsa.best_score is not None:
        sentences.append("A system's best layer was chosen on other runs than it was scored on")
    if rsa.unique is not None:
        used += ["lescroart2015"]
        sentences.append(
            f"The variance of held-out RDMs that {count(len(rsa.families), 'family', 'families')} explain was "
            "divided into "
            f"unique{' and shared' * any(len(p) > 1 for p in rsa.parts)} parts by inclusion and exclusion over "
            "subsets of "
            f"families {cite('lescroart2015')}"
        )
    if rsa.residuals:
        sentences.append(
            "One system beside another: the control's prediction was subtracted, the target's layers were fitted to "
            "the "
            "residuals of the other runs, and their prediction was correlated with the held-out residual"
        )
    if rsa.ceilings:
        used.append("nili2014")
        sentences.append(
            f"Noise ceilings: upper, mean of all subjects; lower, mean of the other subjects {cite('nili2014')}"
        )
    if rsa.group and rsa.interval:
        sentences.append(f"Intervals: {rsa.interval}")
    if rsa.interval_of_parts and rsa.unique is not None:
        sentences.append(f"Those of families' parts: {rsa.interval_of_parts}")
    told, keys = _describe_tests(rsa)
    sentences, used = [*sentences, *told], [*used, *keys]
    if rsa.geometry is not None:
        used.append("torgerson1952")
        sentences.append(
            f"The map of geometries is a multidimensional scaling {cite('torgerson1952')} of distances sqrt(2 (1 − r)) "
            "between RDMs, improved by majorisation of stress"
        )
    return sentences, used


def _describe_layers(rsa: RsaSet) -> list[str]:
    """Return how layers make a system's score."""
    options, counts = rsa.options, set(rsa.n_layers.values())
    fitted = "four fifths of the stimuli, in turn" if rsa.is_of_stimuli else f"other {options.get('cv', 'runs')}"
    method = "ridge regression" if options.get("combine") == "ridge" else "non-negative least squares"
    how = " one by one, and averaged" if options.get("weights") == "averaged" else ""
    combined = f"Layers of a system were combined by {method}, fitted on the {fitted}{how}"
    if not rsa.is_of_stimuli:
        return [combined]
    alone = "Systems of one layer were compared over all pairs of stimuli"
    return ([] if counts == {1} else [combined]) + ([alone] if 1 in counts else [])


def _describe_tests(rsa: RsaSet) -> tuple[list[str], list[str]]:
    """Return how p and q of systems and of their differences were made."""
    why = [rsa.untested] * bool(rsa.untested)
    is_tested = any(math.isfinite(e.p) for e in rsa.group.values())
    is_flipped = any(math.isfinite(e.p_subjects) for e in rsa.group.values())
    is_compared = any(row.get("q") is not None for row in rsa.comparisons)
    if not (is_tested or is_flipped or is_compared):
        return why, []
    sentences: list[str] = []
    used: list[str] = []
    if is_tested or is_compared:
        sentences, used = _describe_p(rsa)
    if is_flipped or any(row.get("p_subjects") is not None for row in rsa.comparisons):
        told, keys = describe_flips("stimuli" if rsa.is_of_stimuli else "runs")
        sentences, used = [*sentences, told], [*used, *keys]
    q = f"q: false discovery rate {cite('benjamini1995')}"
    used.append("benjamini1995")
    if is_tested or is_flipped:
        sentences.append(f"{q} over all systems and streams, of one-sided tests against zero")
    if is_compared:
        sentences.append(f"Every two systems were compared, two-sided; {q} over all pairs of systems and streams")
    return [*sentences, *why, *_describe_tests_of_parts(rsa)], used


def _describe_p(rsa: RsaSet) -> tuple[list[str], list[str]]:
    """Return how p of systems was made, with what varies at random beside subjects."""
    if rsa.is_bootstrapped:
        drawn = f"p: mean over its standard error, from draws of stimuli and subjects {cite('schuett2023')}"
        return [f"{drawn}, by Student's t"], ["schuett2023"]
    if rsa.random == "subjects":
        return ["p is by Student's t of the mean over subjects"], []
    told, used = describe_random_effects(rsa.held_out)
    if max(rsa.n_layers.values(), default=2) == 1:
        return [told], used
    where = "parts" if rsa.is_of_stimuli else "runs"
    shared = f"Scores of combined layers in different {where} share what was learned; their error is larger by that"
    return [told, f"{shared} {cite('nadeau2003')}"], [*used, "nadeau2003"]


def _describe_tests_of_parts(rsa: RsaSet) -> list[str]:
    """Return how parts of families were tested, which are never scored on all stimuli."""
    if not any(math.isfinite(e.p) for e in rsa.group_families.values()):
        return []
    sentences = [
        f"Parts of families were tested one-sided, with subjects and {rsa.held_out} as random effects; q is over all "
        "families and streams"
    ]
    if rsa.family_comparisons:
        sentences.append("Every two families were compared likewise, two-sided; q is over all pairs and streams")
    return sentences


def describe_random_effects(units: str = "runs") -> tuple[str, list[str]]:
    """Return how p over subjects and what varies at random beside them is made, with the keys of references.

    Parameters
    ----------
    units : str
        What varies at random beside subjects.
    """
    return (
        f"For means over subjects, p is by Student's t of the mean over its standard error, with subjects and {units} "
        f"as random effects: from the mean squares of subjects, of {units} and of the rest, with Satterthwaite's "
        f"degrees of freedom {cite('clark1973')}"
    ), ["clark1973"]


def describe_flips(units: str = "runs") -> tuple[str, list[str]]:
    """Return how p over subjects alone is made, with the keys of references.

    Parameters
    ----------
    units : str
        What it takes as it is.
    """
    return (
        f"p over subjects (in the tables) is how often flipping the signs of subjects gives a mean as large "
        f"{cite('winkler2014')}; it speaks of these very {units}"
    ), ["winkler2014"]


def describe_audit(audit: AuditSet) -> Told:
    """Return what was compared between two protocols."""
    steps = "; ".join(f"{s['quirk']} ({s['words']})" for s in audit.steps if audit.is_known(s))
    left = [s["quirk"] for s in audit.steps if not audit.is_known(s)]
    text = (
        f"All scores were made twice: by protocol default (“{audit.name}”) and as the study's scripts make them "
        f"(“{audit.name}-study”). A conclusion is which of two systems is more like a stream, or that neither is "
        "shown to "
        f"be (q ≤ {audit.max_q:g}). To find what a difference owes to what, each step was also taken alone: {steps}."
        + (f" Activations by {join_words(left)} alone were not stored." if left else "")
    )
    return f"Two protocols: {audit.name}", text, []


def describe_claims(claims: ClaimsSet) -> Told:
    """Return how claims were answered."""
    rules = claims.rules
    name, key = CORRECTIONS.get(str(rules.get("correction")), (str(rules.get("correction")), ""))
    cited = f" {cite(key)}" if key else ""
    level = f" at level {rules['alpha']:g}" if "alpha" in rules else ""
    text = (
        "Claims were declared with their statistic, direction and correction before the data were looked at. Each "
        "part of "
        "a claim was tested with subjects as random effects, by flipping the signs of subjects"
        f" {cite('nichols2002')}; p values were corrected over all claims{level} by the method of {name}{cited}. A "
        "claim is "
        "supported where all its parts are shown, not supported where a part is shown to fail by more than the "
        "smallest "
        "effect of interest, and undecided otherwise."
    )
    return f"Claims: {claims.name}", text, ["nichols2002", *([key] if key else [])]


def describe_accuracy(accuracy: AccuracySet) -> Told:
    """Return how accuracy was set against scores."""
    sources = list(dict.fromkeys(str(row["accuracy_source"]) for row in accuracy.rows if row["accuracy_source"]))
    method = {"kendall": "Kendall's tau", "spearman": "Spearman's rho"}.get(accuracy.method, accuracy.method)
    text = (
        "Published top-1 accuracy of each system was set against its score, as a share of the noise ceiling where "
        "one is "
        f"known, by {method}; its interval is a bootstrap over subjects {cite('efron1979')}, its p value counts "
        "orders of "
        "the systems."
    )
    if sources:
        text += f" Accuracies are from {join_words(sources)}."
    return f"Accuracy: {accuracy.name}", text, ["efron1979"]
