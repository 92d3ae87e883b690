"""Turn two protocols' scores into what differs between their conclusions, and which step from one to the other does it.

Beginning with protocol default, one step at a time is taken as the study takes it, and all scores are made again. A
conclusion is which of two models is more like a stream, or that neither is shown to be (``q`` of their difference).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from brainsim.commands.encoding_plan import describe_layers, result_is_done
from brainsim.commands.rsa_options import QUIRKS, with_quirk

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
) -> tuple[tuple[dict[str, Any], ...], int]:
    """Make the audit's node where it is not there; return the conclusions that differ, and the nodes written.

    Parameters
    ----------
    default, study : MovieRsa
        The two plans.
    tables : sequence of dict
        Attributes of their group nodes.
    """
    from brainsim.commands.rsa_group import group_tables
    from brainsim.commands.rsa_movies import plan_movies, score_plan

    request = default.request
    same_subjects = replace(request, subjects=tuple(s.name for group in default.groups for s in group.subjects))
    path = f"audits/{request.name}/{request.dataset}"
    key = {"kind": "rsa-audit", "default": default.key(), "study": study.key()}
    if result_is_done(store, path, key, overwrite=request.overwrite):
        return tuple(store.info(path).attributes["changed"]), 0
    steps: list[dict[str, Any]] = []
    found: list[dict[tuple[str, str, str], str]] = []
    with request.progress.task("one step at a time", total=len(QUIRKS), unit="steps") as task:
        for name, words, fields in QUIRKS:
            settings = replace(with_quirk(default.settings, fields), method="none")
            plan = plan_movies(store, same_subjects, "default", settings)
            is_same = plan.settings == replace(default.settings, method="none") or (
                name == "features" and [la.digests for la in plan.layers] == [la.digests for la in default.layers]
            )
            if is_same:
                result: Mapping[str, Any] = tables[0]
            else:
                result = group_tables(
                    score_plan(store, plan),
                    layers=describe_layers(plan.layers),
                    models=plan.models,
                    families=plan.families,
                    subset_spec=request.subset_spec,
                    joint_sets=(),
                    compare=plan.settings.compare,
                    seed=request.seed,
                )
            steps.append({"quirk": name, "words": words, "differs": not is_same, "rows": list(result["rows"])})
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
        overwrite=request.overwrite,
    )
    return tuple(changed), 1


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
        by = [name for (name, _, _), one in zip(QUIRKS, found, strict=True) if one.get((stream, a, b)) != verdict]
        rows.append({"stream": stream, "a": a, "b": b, "default": verdict, "study": other, "changed_by": by})
    return rows
