"""Turn the extractions and the store of a study into the models its analyses will find, and check them beforehand."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from brainsim.commands.study_file import Step, Study
from brainsim.commands.study_links import words_of
from brainsim.core.errors import UnknownNameError
from brainsim.core.registry import suggest


def find_models(study: Study) -> frozenset[str] | None:
    """Return the models that are stored or that the study extracts; None where they cannot be known beforehand."""
    sources = [step for step in study.steps if step.verb.verb.word == "extract"]
    # A file of the user's says its name when it is run.
    if not sources or any("model_file" in step.values for step in sources):
        return None
    return frozenset(model for step in sources for model in _expand(words_of(step.values.get("models")))) | _stored(
        study
    )


def _expand(words: list[str]) -> Iterator[str]:
    from brainsim.models import MODELS

    for word in words:
        yield from (name for name in MODELS if fnmatchcase(name, word))
        if word not in MODELS:
            yield word  # a model of a library


def _stored(study: Study) -> frozenset[str]:
    """Return the models of the store, as far as there is one."""
    from brainsim.store import Store

    root = Path(study.store) if Path(study.store).is_absolute() else study.folder / study.store
    if not (root / "zarr.json").exists():
        return frozenset()
    nodes = Store(root, mode="r").nodes("activations", type="activations")
    return frozenset(str(node.attributes["model"]) for node in nodes)


def check_globs(step: Step, models: Collection[str]) -> None:
    """Refuse names and globs of a step's models and families that match nothing.

    Parameters
    ----------
    step : Step
        An analysis.
    models : collection of str
        What will be there (`find_models`); what the step itself reads from files of RDMs is too.

    Raises
    ------
    UnknownNameError
        The first is the error, the others are its notes.
    """
    models = {*models, *_mapping(step, "model_rdms")}
    wanted = words_of(step.values.get("models")) if "models" in step.verb.keys else []
    wrong = [f"models: {_tell(glob, models)}" for glob in wanted if not _matches(glob, models)]
    chosen = [model for model in models if not wanted or any(_matches(glob, [model]) for glob in wanted)]
    wrong += [
        f"family {family!r}: {_tell(glob, chosen)}"
        for family, globs in _mapping(step, "families").items()
        for glob in globs
        if not wrong and not _matches(glob, chosen)
    ]
    if wrong:
        error = UnknownNameError(wrong[0], hint="brainsim models list has the models that can be extracted")
        for sentence in wrong[1:]:
            error.add_note(sentence)
        raise error


def _mapping(step: Step, name: str) -> Mapping[str, tuple[str, ...]]:
    """Return a value of a step that is a table of names; an empty one where the step has none."""
    given = step.values.get(name) if name in step.verb.keys else None
    read: Any = {} if given is None else step.verb.keys[name].read(given)
    return read if isinstance(read, Mapping) else {}


def _matches(glob: str, models: Collection[str]) -> bool:
    """Return whether a glob matches a model or a feature set of it (``mae-base@1a2b3c4d``), whatever its digest."""
    bare = glob.split("@")[0]
    # What a library calls a model in full is known when it is loaded: any name of that library may be it.
    libraries = {model.split(":")[0] for model in models if ":" in model}
    return any(fnmatchcase(model, word) for model in models for word in (glob, bare)) or any(
        bare.startswith((f"{library}:", f"{library}+")) for library in libraries
    )


def _tell(glob: str, models: Collection[str]) -> str:
    return f"{glob!r} matches no model that is stored or that this study extracts; {suggest(glob, sorted(models))}"


def foresee(study: Study, step: Step, models: Collection[str]) -> None:
    """Ask a verb whether it can be done with the models that will be there: its module's `foresee`, where it has one.

    Raises
    ------
    BrainsimError
        What the verb would say in the end.
    """
    function = step.verb.verb.load()
    ask = getattr(sys.modules[function.__module__], "foresee", None)
    if ask is not None:
        values = {
            name: str(study.folder / value) if step.verb.keys[name].kind.metavar == "PATH" else value
            for name, value in step.values.items()
        }
        ask(models, **step.verb.read(values))
