"""Turn datasets and systems into the first paragraphs of a methods section."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from brainsim.report.content import Content, DatasetNote, Options, RsaSet, RunQuality, SystemNote
from brainsim.report.words import count, join_words, sentence

NO_SPACE = ("", "table", "array", "unknown")  # a table of targets lies nowhere
WINDOWS = {"trailing": "clip windows end at the clip's time (trailing)"}


def describe_sources(content: Content) -> list[tuple[str, str]]:
    """Return headings and texts of the paragraphs about data and systems."""
    told = [
        (
            f"Data: {dataset.name}",
            _describe_data(
                dataset,
                [q for q in content.runs if q.dataset == dataset.name],
                [r for r in content.rsas if r.dataset == dataset.name],
            ),
        )
        for dataset in content.datasets
    ]
    if content.systems:
        told.append(("Systems and features", _describe_systems(content)))
    return [(heading, text) for heading, text in told if text]


def _describe_data(dataset: DatasetNote, runs: Sequence[RunQuality], rsas: Sequence[RsaSet]) -> str:
    sentences = [_tell_runs(dataset, runs)] if runs else list(dict.fromkeys(map(_tell_files, rsas)))
    if dataset.streams:
        groups = [f"{s} ({', '.join(r)})" if tuple(r) != (s,) else s for s, r in dataset.streams.items()]
        sentences.append(f"Streams: {join_words(groups)}")
    sentences += _describe_cleaning(dataset.cleaning)
    return " ".join(sentence(text) for text in sentences if text)


def _tell_runs(dataset: DatasetNote, runs: Sequence[RunQuality]) -> str:
    subjects = list(dict.fromkeys(q.subject for q in runs))
    per_subject = sorted({sum(q.subject == s for q in runs) for s in subjects})
    n_rows = _span(sorted({q.n_trs for q in runs}))
    targets = f"{_span(sorted({q.n_targets for q in runs}))} targets per subject" + (
        f" in space {dataset.space}" if dataset.space not in NO_SPACE else ""
    )
    who = f"{count(len(subjects), 'subject')}, {_span(per_subject)} {'run' if per_subject == [1] else 'runs'} each"
    if dataset.rows == "stimuli":
        return f"{who}, {n_rows} stimuli per run, one response per stimulus (betas); {targets}"
    tr = join_words(f"{t:g} s" for t in sorted({q.tr_s for q in runs}))
    return f"{who}, {n_rows} TRs per run, TR {tr}; {targets}"


def _tell_files(rsa: RsaSet) -> str:
    """Return what RDMs came from files, where a dataset has nothing else."""
    if not rsa.is_of_stimuli:
        return ""
    n_stimuli = int(rsa.options["n_stimuli"])
    return (
        f"{count(len(rsa.subjects), 'subject')}, {n_stimuli:,} stimuli: RDMs from files, of {join_words(rsa.streams)}"
    )


def _describe_cleaning(cleaning: Options) -> list[str]:
    if not cleaning:
        return []
    steps = []
    if cleaning.get("drop_volumes"):
        steps.append(f"the first {cleaning['drop_volumes']} volumes of a run left out")
    confounds = cleaning.get("confounds")
    if confounds not in (None, "none", [], ()):
        named = confounds if isinstance(confounds, str) else ", ".join(map(str, confounds))
        steps.append(f"confounds regressed out ({named})")
    if cleaning.get("high_pass_s"):
        steps.append(f"drifts slower than {cleaning['high_pass_s']:g} s removed (cosines)")
    standard = cleaning.get("standardize")
    names = {"zscore": "z-scored", "psc": "turned into percent signal change", "none": "centred"}
    steps.append(f"each target {names.get(str(standard), 'z-scored')} per run")
    return ["Within each run: " + "; ".join(steps)]


def _describe_systems(content: Content) -> str:
    systems = content.systems
    names = list(dict.fromkeys(s.name for s in systems))
    families = list(dict.fromkeys(s.family for s in systems))
    n_layers = sum(max(s.n_layers for s in systems if s.name == name) for name in names)
    of_family = [f"{f} ({', '.join(dict.fromkeys(s.name for s in systems if s.family == f))})" for f in families]
    sentences = [
        f"{count(len(names), 'system')} of {count(len(families), 'family', 'families')}, {count(n_layers, 'layer')}: "
        f"{'; '.join(of_family)}",
        *_tell_clips(systems),
    ]
    pools = [p for p in _distinct(s.pool for s in systems) if p != "none"]
    sentences.append(f"Activations were pooled: {join_words(pools)}" if pools else "Activations were not pooled")
    random = list(dict.fromkeys(s.name for s in systems if "random" in s.weights.lower()))
    if random:
        which = "All systems have" if len(random) == len(names) else f"{join_words(random)} have"
        sentences.append(f"{which} seeded random weights: what they explain says nothing about trained systems")
    # What an RSA does with clips is told with it.
    if (content.fits or content.partitions) and any(d.rows == "TRs" for d in content.datasets or [DatasetNote("")]):
        sentences.append("For encoding models activations were averaged into TRs by the end of each clip's window")
    if any(s.of_stimuli for s in systems):
        sentences.append("Of stimulus sets, each stimulus is one row of features")
    return " ".join(map(sentence, sentences))


def _tell_clips(systems: Sequence[SystemNote]) -> list[str]:
    """Return how often and from which windows clips were taken, for each protocol by itself."""
    protocols = list(dict.fromkeys(s.protocol for s in systems))
    told = []
    for protocol in protocols:
        mine = [s for s in systems if s.protocol == protocol]
        steps, windows = _distinct(s.step_s for s in mine), _distinct(s.clip_window for s in mine)
        said = [f"one clip every {join_words(f'{s:g} s' for s in steps)}"] if steps else []
        said += [join_words(WINDOWS.get(w, f"clip windows are {w}") for w in windows)] if windows else []
        if said:
            text = "; ".join(said)
            of_several = f"By protocol {protocol or 'of their own'}: {text}"
            told.append(of_several if len(protocols) > 1 else text[0].upper() + text[1:])
    named = [protocol for protocol in protocols if protocol]
    return [*told, f"Protocol of extraction: {join_words(named)}"] if named else told


def _distinct(values: Iterable[Any]) -> list[Any]:
    return [v for v in dict.fromkeys(values) if v and not (isinstance(v, float) and math.isnan(v))]


def _span(numbers: Sequence[int]) -> str:
    return f"{numbers[0]:,}" if len(numbers) == 1 else f"{numbers[0]:,}–{numbers[-1]:,}"
