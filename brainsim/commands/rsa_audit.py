"""Turn two protocols' scores into what differs between their conclusions, and which step from one to the other does it.

Beginning with protocol default, one step at a time is taken as the study takes it, and all scores are made again. A
conclusion is which of two models is more like a stream, or that neither is shown to be (``q`` of their difference).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from brainsim.commands.encoding_plan import describe_layers, result_is_done
from brainsim.commands.rsa_options import QUIRKS, Quirk
from brainsim.core.provenance import digest

if TYPE_CHECKING:
    from brainsim.commands.rsa_movies import MovieRsa
    from brainsim.store import Store

# A difference with a higher false discovery rate is no conclusion.
MAX_Q = 0.05


def ensure_audit(
    store: Store,
    default: MovieRsa,
    study: MovieRsa,
    *,
    tables: Sequence[Mapping[str, Any]],
) -> tuple[tuple[dict[str, Any], ...], tuple[dict[str, Any], ...], int]:
    """Make the audit's node where it is not there; return the conclusions that differ, the steps, and nodes written.

    One that was made of the same results, but before activations of a step were stored, is made anew.

    Parameters
    ----------
    default, study : MovieRsa
        The two plans.
    tables : sequence of dict
        Attributes of their group nodes.
    """
    request = default.request
    plans = [_plan_step(store, default, quirk) for quirk in QUIRKS]
    as_is = replace(default, settings=replace(default.settings, method="none")).key()
    path = f"audits/{request.name}/{request.dataset}"
    results = {"kind": "rsa-audit", "default": default.key(), "study": study.key()}
    key = {**results, "steps": {quirk.name: plan.key() for quirk, plan in zip(QUIRKS, plans, strict=True)}}
    kept = store.info(path).key if store.has(path) else {}
    is_of_these = digest({name: kept.get(name) for name in results}) == digest(results)
    if result_is_done(store, path, key, overwrite=request.overwrite or is_of_these):
        made = store.info(path).attributes
        return tuple(made["changed"]), tuple(made["steps"]), 0
    steps: list[dict[str, Any]] = []
    found: list[dict[tuple[str, str, str], str]] = []
    with request.progress.task("one step at a time", total=len(QUIRKS), unit="steps") as task:
        for quirk, plan in zip(QUIRKS, plans, strict=True):
            differs = plan.key() != as_is
            result = _score_step(store, plan) if differs else tables[0]
            lacking = _lacking_models(store, plan, quirk)
            steps.append(
                {
                    "quirk": quirk.name,
                    "words": quirk.words,
                    "differs": differs,
                    "not_stored": lacking,
                    "rows": list(result["rows"]),
                }
            )
            found.append(_conclusions(result))
            task.advance()
    changed = _changes(_conclusions(tables[0]), _conclusions(tables[1]), found)
    store.write(
        path,
        type="rsa-audit",
        key=key,
        arrays={},
        attributes={
            "dataset": request.dataset,
            "changed": changed,
            "steps": steps,
            "n_conclusions": len(found[0]),
            "max_q": MAX_Q,
            "sources": [default.path("group"), study.path("group")],
        },
        overwrite=request.overwrite or is_of_these,
    )
    return tuple(changed), tuple(steps), 1


def tell_not_stored(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return, for each step whose activations are not stored, a sentence that says how they can be."""
    protocol_of = {quirk.name: quirk.protocol for quirk in QUIRKS}
    return [
        f"What the step {step['quirk']} changes by itself is not known for {', '.join(step['not_stored'])}: "
        f"extract --protocol {protocol_of[step['quirk']]} stores their activations by it."
        for step in steps
        if step.get("not_stored")
    ]


def _plan_step(store: Store, default: MovieRsa, quirk: Quirk) -> MovieRsa:
    """Return the plan of protocol default with one step taken as the study takes it."""
    from brainsim.commands.rsa_movies import plan_movies

    if not quirk.protocol:  # of the same activations
        return replace(default, settings=replace(default.settings, method="none", **quirk.changes))
    subjects = tuple(s.name for group in default.groups for s in group.subjects)
    settings = replace(default.settings, method="none", **quirk.changes)
    plan = plan_movies(store, replace(default.request, subjects=subjects), "default", settings)
    if [la.digests for la in plan.layers] == [la.digests for la in default.layers]:
        # Whatever was wanted, these are the activations that protocol default has.
        plan = replace(plan, settings=replace(plan.settings, features=default.settings.features))
    return plan


def _score_step(store: Store, plan: MovieRsa) -> dict[str, Any]:
    from brainsim.commands.rsa_group import group_tables
    from brainsim.commands.rsa_movies import score_plan

    return group_tables(
        score_plan(store, plan),
        layers=describe_layers(plan.layers),
        models=plan.models,
        families=plan.families,
        subset_spec=plan.request.subset_spec,
        joint_sets=(),
        compare=plan.settings.compare,
        seed=plan.request.seed,
    )


def _lacking_models(store: Store, plan: MovieRsa, quirk: Quirk) -> list[str]:
    """Return the models that a step of extraction changes and that are not stored by it."""
    from brainsim.commands.rsa_rdms import stored_otherwise
    from brainsim.models import MODELS
    from brainsim.models.catalogue import UNTRAINED

    if not quirk.protocol:
        return []
    others = stored_otherwise(store, plan.layers, quirk.protocol)
    rows = {model: model.removesuffix(UNTRAINED) for model in others}
    return [model for model, row in rows.items() if row in MODELS and MODELS[row].is_changed_by(quirk.protocol)]


def _conclusions(tables: Mapping[str, Any]) -> dict[tuple[str, str, str], str]:
    """Return the verdict on every two models in every stream: the name of one, or "neither"."""
    verdicts = {}
    for row in tables["comparisons"]:
        clear = row["q"] is not None and row["q"] <= MAX_Q
        verdicts[row["stream"], row["a"], row["b"]] = "neither" if not clear else row["a" if row["mean"] > 0 else "b"]
    return verdicts


def _changes(
    default: Mapping[tuple[str, str, str], str],
    study: Mapping[tuple[str, str, str], str],
    found: Sequence[Mapping[tuple[str, str, str], str]],
) -> list[dict[str, Any]]:
    """Return the conclusions that differ; `changed_by` names the single steps that change them too."""
    rows = []
    for (stream, a, b), verdict in default.items():
        other = study.get((stream, a, b), "neither")
        if other == verdict:
            continue
        by = [quirk.name for quirk, one in zip(QUIRKS, found, strict=True) if one.get((stream, a, b)) != verdict]
        rows.append({"stream": stream, "a": a, "b": b, "default": verdict, "study": other, "changed_by": by})
    return rows
