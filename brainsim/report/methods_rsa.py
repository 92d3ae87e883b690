"""Turn what was compared, claimed and correlated into sentences of a methods section, with the keys of references."""

from __future__ import annotations

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
    is_stimuli = "n_stimuli" in options
    used = ["kriegeskorte2008"]
    sentences = [
        f"Representational similarity analysis {cite('kriegeskorte2008')}: dissimilarity of "
        f"{'stimuli' if is_stimuli else 'TRs'} by {rsa.distance or 'correlation'} distance, on both sides; model and "
        "brain "
        f"compared by {COMPARISONS.get(rsa.comparison, rsa.comparison or 'a similarity')}",
    ]
    if isinstance(trim, int | float) and trim > 0:
        sentences.append(f"{trim:g} s were cut from both edges of every run, which neighbouring runs may share")
    if isinstance(lag, int | float) and lag > 0:
        sentences.append(f"Pairs of TRs closer than {lag:g} s were left out (autocorrelation)")
    if options.get("lag_means") == "removed":
        sentences.append(
            "From every pair of TRs the mean of all pairs of its run and lag was taken away: unrelated slow series are "
            "alike in it"
        )
    fitted = "stimuli" if is_stimuli else options.get("cv", "runs")
    method = "ridge regression" if options.get("combine") == "ridge" else "non-negative least squares"
    how = " one by one, and averaged" if options.get("weights") == "averaged" else ""
    sentences.append(f"Layers of a system were combined by {method}, fitted on the other {fitted}{how}")
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
    if rsa.comparisons:
        used.append("benjamini1995")
        sentences.append(
            f"Every two systems were compared, two-sided, with the false discovery rate {cite('benjamini1995')} over "
            "all "
            "pairs of systems and streams"
        )
    if rsa.group and rsa.interval:
        sentences.append(f"Intervals: {rsa.interval}")
    if rsa.geometry is not None:
        used.append("torgerson1952")
        sentences.append(
            f"The map of geometries is a multidimensional scaling {cite('torgerson1952')} of distances sqrt(2 (1 − r)) "
            "between RDMs, improved by majorisation of stress"
        )
    return sentences, used


def describe_audit(audit: AuditSet) -> Told:
    """Return what was compared between two protocols."""
    steps = "; ".join(f"{s['quirk']} ({s['words']})" for s in audit.steps)
    text = (
        f"All scores were made twice: by protocol default (“{audit.name}”) and as the study's scripts make them "
        f"(“{audit.name}-study”). A conclusion is which of two systems is more like a stream, or that neither is "
        "shown to "
        f"be (q ≤ {audit.max_q:g}). To find what a difference owes to what, each step was also taken alone: {steps}."
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
