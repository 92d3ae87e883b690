"""Turn what a data folder holds into the text of a study file: tables that can be run, options as comments."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from brainsim.commands.study_found import Found, FoundScans, FoundStimuli
from brainsim.commands.study_keys import Key, StepVerb, step_verbs
from brainsim.commands.values import NONE_WORD

WIDTH = 110

# The options of each verb that decide what is found; their words and defaults come from the verb itself, and a verb
# that does not have one of them any more is shown without it.
THAT_MATTER = {
    "extract": ("layers", "pool", "sketch_error", "step_s", "frame_s", "random_weights", "device", "batch_size"),
    "ingest": ("subjects", "task", "space", "tr_s", "rois", "streams", "confounds", "high_pass_s", "drop_volumes",
               "stimulus_map"),
    "fit": ("models", "bands", "delays", "hrf", "cv", "n_nulls", "n_candidates", "layer_curves", "subjects", "rois"),
    "partition": ("method", "subsets", "n_nulls", "delays", "hrf"),
    "rsa": ("models", "distance", "compare", "min_lag_s", "pairs", "protocol"),
    "claims": ("claims", "measures", "little", "smallest", "correction"),
    "accuracy": ("table", "method"),
    "report": ("truth",),
}  # fmt: skip


def write_text(found: Found, *, folder: Path, title: str, systems: Mapping[str, Sequence[str]]) -> str:
    """Return the text of a study file.

    Parameters
    ----------
    found : Found
        Stimuli and scans.
    folder : Path
        Where the file will lie: paths are written relative to it.
    title : str
        Title of the study.
    systems : mapping of str to sequence of str
        "ready": models whose weights are to be had from a library; "file": those that want a file; by family, as
        "family: models", for the comments.
    """
    verbs = step_verbs()
    parts = [_opening(title), *_stimuli_lines(found.stimuli, folder), "", *_families(systems), ""]
    parts += _extract_lines(found, verbs["extract"], systems)
    for scans in found.scans or (None,):
        parts += ["", *_ingest_lines(scans, found.stimuli, verbs["ingest"], folder)]
    is_ready = bool(found.stimuli) and bool(found.scans)
    names = {"fit": "main", "partition": "families", "rsa": "geometry"}
    datasets = [scans.name for scans in found.scans]
    for word, name in names.items():
        own = {"dataset": datasets[0]} if len(datasets) > 1 else {}
        parts += ["", *_table(verbs[word], f"{word}.{name}", own, is_active=is_ready)]
    # What these ask about are systems that not everybody has.
    for word, name in {"claims": "study", "accuracy": "top-1"}.items():
        own = {"dataset": datasets[0]} if len(datasets) > 1 else {}
        parts += ["", *_table(verbs[word], f"{word}.{name}", own, is_active=False)]
    parts += ["", *_table(verbs["report"], "report", {"out": "report"}, is_active=is_ready)]
    return "\n".join(parts) + "\n"


def _opening(title: str) -> str:
    return "\n".join(
        [
            "# A study, for `brainsim run`: each table is one call of one verb, and each key is one of its options.",
            "# Paths are relative to this file. Lines that begin with # are comments: options with their defaults.",
            "",
            f"title = {_toml(title)}",
            'store = "store/brainsim.zarr"',
        ]
    )


def _stimuli_lines(stimuli: Sequence[FoundStimuli], folder: Path) -> list[str]:
    """Return the list of stimuli: those of the first kind, the others as comments."""
    if not stimuli:
        return ["", "# No movies, arrays of frames or folders of images were found.", '# stimuli = ["movies/*.mp4"]']
    lines = ["", "# What was shown: videos, arrays of frames (.npy), folders of images."]
    first = stimuli[0].kind
    chosen = [group for group in stimuli if group.kind == first]
    words = [_relative(word, folder) for group in chosen for word in group.words]
    lines += [*_comment(f"Found: {sum(len(g.names) for g in chosen)} {first}."), f"stimuli = {_toml(words)}"]
    for group in stimuli:
        if group not in chosen:
            lines.append(f"# {group.kind}: {_toml([_relative(word, folder) for word in group.words])}")
    return lines


def _families(systems: Mapping[str, Sequence[str]]) -> list[str]:
    lines = ["# Families of models, as globs; without this table those that the models' rows name:"]
    return [*lines, *(f"#   {family}" for family in systems["families"]), "# [families]", '# mine = ["mae-*", "hf:*"]']


def _extract_lines(found: Found, verb: StepVerb, systems: Mapping[str, Sequence[str]]) -> list[str]:
    words = "Any other model has a name too: timm:NAME, torchvision:NAME, hf:ID (brainsim models list)."
    lines = [*_comment(words)]
    if systems["file"]:
        those = ", ".join(systems["file"])
        lines += _comment(f"These want a file of weights, each in a table of its own with checkpoint = …: {those}.")
    own: dict[str, Any] = {"models": list(systems["ready"])}
    if found.stimuli and found.stimuli[0].kind == "arrays":
        own["frame_s"] = 1.0
        lines += _comment("frame_s is a guess: an array does not say how long a frame is shown.")
    return [*lines, *_table(verb, "extract.systems", own, is_active=bool(found.stimuli))]


def _ingest_lines(scans: FoundScans | None, stimuli: Sequence[FoundStimuli], verb: StepVerb, folder: Path) -> list[str]:
    if scans is None:
        return [
            "# No scans or tables were found.",
            *_table(verb, "ingest.mine", {"source": "BIDS_DIR"}, is_active=False),
        ]
    lines = []
    if scans.runs:
        lines += _comment(f"Found: {len(scans.subjects)} subjects, {len(scans.runs)} runs ({_list(scans.runs)}).")
    if scans.problem:
        lines += _comment(f"To choose: {scans.problem}")
    if scans.has_confounds:
        lines += _comment('Tables of confounds are there: confounds = "motion24" or "acompcor5" takes them out.')
    shown = [name for group in stimuli for name in group.names]
    if scans.runs and shown and scans.stimulus_map is None and not set(scans.runs) <= set(shown):
        lines += _comment(
            f"No movie is called like each run ({_list(scans.runs)}; {_list(shown)}): a stimulus map says which run "
            "showed what, a TSV with the columns run, stimulus, onset_s, offset_s."
        )
    source = [_relative(word, folder) for word in scans.source]
    own: dict[str, Any] = {"source": source[0] if len(source) == 1 else source}
    own |= {"rois": _relative(scans.rois, folder)} if scans.rois else {}
    own |= {"stimulus_map": _relative(scans.stimulus_map, folder)} if scans.stimulus_map else {}
    if scans.kind == "table":
        own["tr_s"] = 2.0
        lines += _comment("tr_s is a guess: a table does not say it.")
    return [*lines, *_table(verb, f"ingest.{_key(scans.name)}", own, is_active=True)]


def _table(verb: StepVerb, name: str, own: Mapping[str, Any], *, is_active: bool) -> list[str]:
    """Return a table: what was found, then the options that matter as comments."""
    lines = [f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in own.items())]
    lines = lines if is_active else [f"# {line}" for line in lines]
    for key in THAT_MATTER.get(verb.verb.word, ()):
        if key in verb.keys and key not in own and key != verb.named_by:
            lines += _option(verb.keys[key])
    return [*lines, f"# All options: brainsim {verb.verb.word} --help"]


def _option(key: Key) -> list[str]:
    words = key.text if not key.choices else f"{key.text} One of {', '.join(key.choices)}."
    lines = _comment(words, indent="#   ")
    if key.default is None or key.default == () or key.is_required:
        return [*lines, f"# {key.name} = …"]
    return [*lines, f"# {key.name} = {_toml(key.default)}"]


def _comment(text: str, *, indent: str = "# ") -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _toml(value: Any) -> str:
    """Return a value as TOML writes it."""
    if value is None:
        return f'"{NONE_WORD}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Iterable) and not isinstance(value, str):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return json.dumps(str(value), ensure_ascii=False)  # a JSON text is a basic TOML text


def _key(name: str) -> str:
    """Return a name as a part of a table's head: bare where TOML allows it."""
    bare = all(c.isascii() and (c.isalnum() or c in "-_") for c in name)
    return name if bare else json.dumps(name, ensure_ascii=False)


def _relative(path: Path, folder: Path) -> str:
    """Return a path as seen from the study file's folder; absolute where it lies on another branch of the tree."""
    relative = os.path.relpath(path.absolute(), folder.absolute())
    return relative if relative.count("..") <= 2 else str(path.absolute())


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
