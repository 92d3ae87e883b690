"""Turn the steps of a study file into steps that know one another: datasets, results, and what each waits for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from brainsim.commands.rsa_options import rsa_result_names
from brainsim.core.registry import suggest

if TYPE_CHECKING:
    from brainsim.commands.study_file import Step, StudyReader


def link_steps(reader: StudyReader, steps: Sequence[Step]) -> list[Step]:
    """Fill in and check what steps say of one another, and find what each of them waits for.

    Parameters
    ----------
    reader : StudyReader
        Told what is wrong.
    steps : sequence of Step
        In the order of the flow.

    Returns
    -------
    list of Step
        The same, with datasets and results that need not be said, and with `needs` and `after`.
    """
    words = {word: [s for s in steps if s.verb.verb.word == word] for word in reader.verbs}
    datasets = {step.values["dataset"]: step.name for step in words["ingest"]}
    results = {word: _name_results(reader, of) for word, of in words.items() if reader.verbs[word].is_analysis}
    has_results = any(step.verb.is_analysis for step in steps)
    linked = []
    for step in steps:
        values, needs = dict(step.values), []
        if step.verb.is_analysis:
            needs += [source.name for source in words["extract"] if may_use(step.values, source.values)]
            needs += _link_dataset(reader, step, values, datasets)
        for word in results:
            if step.verb.verb.word != word:
                needs += _link_results(reader, step, values, word, results[word], has_results=has_results)
        after: list[str] = []
        if step.verb.tells:
            # Answers that rest on other results have no key of their own in what tells of them, and it does without.
            after = [other.name for other in steps if not other.verb.tells and other.verb.rests_on]
            needs += [other.name for other in steps if not other.verb.tells and not has_results]
        linked.append(replace(step, values=values, needs=tuple(dict.fromkeys(needs)), after=tuple(after)))
    return linked


def result_names(step: Step) -> tuple[str, ...]:
    """Return the names of the results that an analysis leaves in the store: an RSA of both protocols leaves two."""
    name = str(step.values.get("name", ""))
    if step.verb.verb.word == "rsa":
        return rsa_result_names(name, str(step.values.get("protocol", "default")))
    return (name,)


def _name_results(reader: StudyReader, steps: Sequence[Step]) -> dict[str, str]:
    """Return the step that leaves each result of one verb; two steps may not leave one of the same name."""
    found: dict[str, str] = {}
    for step in steps:
        for name in result_names(step):
            if name in found:
                reader.tell(step.name, "", f"[{step.name}] and [{found[name]}] would both leave a result {name!r}.")
            found.setdefault(name, step.name)
    return found


def _link_dataset(reader: StudyReader, step: Step, values: dict[str, Any], datasets: Mapping[str, str]) -> list[str]:
    """Give an analysis its dataset; without one it needs all of them."""
    if "dataset" not in step.verb.keys or not datasets:
        return list(datasets.values())
    if "dataset" not in values and len(datasets) == 1:
        values["dataset"] = next(iter(datasets))
    name = values.get("dataset")
    if name is None:
        reader.tell(step.name, "", f"[{step.name}] has no dataset; it must be one of {', '.join(datasets)}.")
    elif name not in datasets:
        reader.tell(
            step.name, "dataset", f"unknown dataset {name!r} in [{step.name}]; {suggest(str(name), list(datasets))}"
        )
    return [datasets[name]] if isinstance(name, str) and name in datasets else []


def _link_results(
    reader: StudyReader,
    step: Step,
    values: dict[str, Any],
    word: str,
    results: Mapping[str, str],
    *,
    has_results: bool,
) -> list[str]:
    """Check the results that a step names (`fits`, `fit`), or let it wait for all of the study, and tell of these."""
    needs: list[str] = []
    for key in (word, f"{word}s"):
        if key not in step.verb.keys:
            continue
        if key not in values and step.verb.is_analysis:
            needs += results.values()
        elif key not in values and has_results:
            values[key] = list(results)
        named = values.get(key, ())
        for name in (named,) if isinstance(named, str) else named or ():
            if name in results:
                needs.append(results[name])
            else:
                reader.tell(step.name, key, f"unknown {word} {name!r} in [{step.name}]; {suggest(name, list(results))}")
    return needs


def may_use(analysis: Mapping[str, Any], source: Mapping[str, Any]) -> bool:
    """Return whether an analysis' globs over stored models can match what an extraction makes."""
    wanted, made = (words_of(values.get("models")) for values in (analysis, source))
    if not wanted or not made or "model_file" in source:
        return True
    return any(
        fnmatchcase(model, glob) or fnmatchcase(glob, model) or glob.startswith(model) or ("*" in model and "*" in glob)
        for model in made
        for glob in wanted
    )


def words_of(value: Any) -> list[str]:
    """Return the words of a value that is a list, or a text with commas between them."""
    words = value.split(",") if isinstance(value, str) else value or ()
    return [word.strip() for word in words if isinstance(word, str)]
