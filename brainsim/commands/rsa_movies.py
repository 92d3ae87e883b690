"""Turn the options of an RSA of movies into results in the store, for one protocol or for two side by side."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from brainsim.commands.encoding_data import SubjectGroup, find_subjects, group_by_timing
from brainsim.commands.encoding_plan import describe_layers, open_for_results, result_is_done
from brainsim.commands.rsa import RsaSummary
from brainsim.commands.rsa_options import VERSION, RsaRequest, RsaSettings, resolve_settings, rsa_result_names

if TYPE_CHECKING:
    from brainsim.commands.rsa_pictures import Pictures
    from brainsim.commands.rsa_scores import GroupScores
    from brainsim.features.bands import LayerSource
    from brainsim.store import Store


@dataclass(frozen=True)
class MovieRsa:
    """One RSA of movies, before any number: what is compared, how, and where it goes.

    Parameters
    ----------
    request : RsaRequest
        Of what, where and for whom.
    protocol : str
        "default" or "study".
    settings : RsaSettings
        Everything that changes a number.
    groups : tuple of SubjectGroup
        Subjects by timing.
    layers : tuple of LayerSource
        Layers of all models.
    families : dict of str to tuple of str
        Models of each family.
    """

    request: RsaRequest
    protocol: str
    settings: RsaSettings
    groups: tuple[SubjectGroup, ...]
    layers: tuple[LayerSource, ...]
    families: Mapping[str, tuple[str, ...]]

    @property
    def models(self) -> list[dict[str, str]]:
        """Models and their families, as result nodes list them."""
        family_of = {model: family for family, members in self.families.items() for model in members}
        return [{"model": model, "family": family_of[model]} for model in self.columns]

    @property
    def columns(self) -> dict[str, list[int]]:
        """Layers of each model."""
        found: dict[str, list[int]] = {}
        for row, layer in enumerate(self.layers):
            found.setdefault(layer.model, []).append(row)
        return found

    def subsets(self) -> list[np.ndarray]:
        """Return the layers of each subset of families; none where no partition is wanted."""
        from brainsim.variance.lattice import mask_members, subset_plan

        if self.settings.method != "partition":
            return []
        own = [np.concatenate([self.columns[m] for m in members]) for members in self.families.values()]
        return [
            np.concatenate([own[g] for g in mask_members(mask)])
            for mask in subset_plan(len(own), self.request.subset_spec).masks
        ]

    def joint_sets(self) -> list[list[str]]:
        """Return all models together, and without those of one family in turn; none without a second family."""
        if self.settings.method == "none" or len(self.families) < 2:
            return []
        return [
            [model for family, members in self.families.items() if family != left_out for model in members]
            for left_out in (None, *self.families)
        ]

    def path(self, subject: str) -> str:
        """Return the node of a subject, or of the group."""
        return f"rsa/{self.request.name}/{self.request.dataset}/{subject}"

    def options(self) -> dict[str, Any]:
        """Return what can change a number."""
        return {
            "dataset": self.request.dataset,
            "protocol": self.protocol,
            **self.settings.record(),
            "models": list(self.columns),
            "families": {f: list(m) for f, m in self.families.items()},
            "subsets": self.request.subset_spec,
            "seed": self.request.seed,
        }

    def key(self) -> dict[str, Any]:
        """Return everything that makes the results; ceilings need all subjects, so they are made together."""
        return {
            "kind": "rsa",
            "version": VERSION,
            "options": self.options(),
            "features": [list(layer.digests) for layer in self.layers],
            "data": {s.name: s.digests for group in self.groups for s in group.subjects},
        }


def plan_movies(store: Store, request: RsaRequest, protocol: str, settings: RsaSettings) -> MovieRsa:
    """Check names against what the store holds."""
    from brainsim.features.bands import regroup, select_layers
    from brainsim.variance.lattice import subset_plan

    groups = group_by_timing(find_subjects(store, request.dataset, request.subjects))
    stimuli = list(dict.fromkeys(s for group in groups for s in group.stimuli))
    nodes = store.nodes("activations", type="activations")
    layers = select_layers(nodes, models=request.models, stimuli=stimuli, protocol=settings.features)
    grouped = regroup(layers, request.families)
    members: dict[str, list[str]] = {}
    for family, layer in grouped:
        if layer.model not in members.setdefault(family, []):
            members[family].append(layer.model)
    if settings.method == "partition":
        subset_plan(len(members), request.subset_spec)
    return MovieRsa(
        request,
        protocol,
        settings,
        tuple(groups),
        tuple(layer for _, layer in grouped),
        {f: tuple(m) for f, m in members.items()},
    )


def score_plan(store: Store, plan: MovieRsa, *, pictures: list[Pictures] | None = None) -> list[GroupScores]:
    """Compute all scores of a plan, one group of subjects at a time; `pictures` gets those of the first group."""
    from brainsim.commands.encoding_options import resolve_device
    from brainsim.commands.rsa_pictures import movie_pictures
    from brainsim.commands.rsa_rdms import group_rdms
    from brainsim.commands.rsa_scores import score_group

    device = resolve_device(plan.request.device)
    scores = []
    for group in plan.groups:
        rdms = group_rdms(store, group, plan.layers, plan.settings, device=device, progress=plan.request.progress)
        joint = [np.concatenate([plan.columns[m] for m in models]) for models in plan.joint_sets()]
        result = score_group(rdms, plan.settings, models=plan.columns, subsets=plan.subsets(), joint=joint)
        warned = [f"{s}: {w}" for s, told in rdms.warnings.items() for w in told]
        scores.append(replace(result, notes=[*warned, *result.notes], n_voxels=rdms.n_voxels))
        if pictures is not None and not pictures:
            pictures.append(movie_pictures(rdms, describe_layers(plan.layers), result.layer, plan.settings.compare))
    return scores


def ensure_plan(store: Store, plan: MovieRsa) -> tuple[dict[str, Any], int, int]:
    """Make a plan's nodes where they are not there; return the group's attributes, nodes written and nodes found."""
    from brainsim.commands import rsa_pictures
    from brainsim.commands.rsa_caveats import ceiling_caveats, lone_caveats
    from brainsim.commands.rsa_group import group_tables
    from brainsim.commands.rsa_rdms import drift_caveats, study_caveats
    from brainsim.rsa.compare import why_untested

    overwrite = plan.request.overwrite
    everyone = [s for group in plan.groups for s in group.subjects]
    key = plan.key()
    keys = {s.name: {**key, "subject": s.name} for s in everyone}
    done = [result_is_done(store, plan.path(s), k, overwrite=overwrite) for s, k in keys.items()]
    done.append(result_is_done(store, plan.path("group"), key, overwrite=overwrite))
    if all(done) or plan.request.dry_run:
        attributes = dict(store.info(plan.path("group")).attributes) if all(done) else {}
        return attributes, 0, len(done) if all(done) else 0
    pictures: list[Pictures] = []
    groups = score_plan(store, plan, pictures=pictures)
    notes = list(dict.fromkeys(note for group in groups for note in group.notes))
    if plan.protocol == "study":
        notes += study_caveats(store, plan.layers, everyone)
    elif plan.settings.lag_means == "kept" and plan.settings.pairs != "between-run":
        notes.append("What depends on the time between TRs alone was kept: unrelated slow series score high by it.")
    elif plan.settings.pairs != "between-run":
        notes += drift_caveats(everyone)
    untested = why_untested(plan.settings.compare)
    if untested is not None:
        notes.append(untested)
    if plan.settings.cv == "subjects":
        notes.append(
            "Layer weights were fitted on other subjects who saw the same: what the layers share by chance with these "
            "very stimuli counts for the model."
        )
    tables = group_tables(
        groups,
        layers=describe_layers(plan.layers),
        models=plan.models,
        families=plan.families,
        subset_spec=plan.request.subset_spec,
        joint_sets=plan.joint_sets(),
        compare=plan.settings.compare,
        seed=plan.request.seed,
    )
    notes += [*ceiling_caveats(plan.groups), *lone_caveats(tables)]
    for group in groups:
        for subject in dict.fromkeys(name for name, _ in group.targets):
            source = next(s for s in everyone if s.name == subject)
            _write_subject(store, plan, group, subject, source.sources, keys[subject], notes)
    rsa_pictures.write_pictures(
        store, plan.request.name, plan.request.dataset, key, pictures[0], sources=[plan.path(s.name) for s in everyone]
    )
    store.write(
        plan.path("group"),
        type="rsa-group",
        key=key,
        arrays={},
        attributes={
            **tables,
            "subjects": [s.name for s in everyone],
            "dataset": plan.request.dataset,
            "protocol": plan.protocol,
            "comparison": plan.settings.compare,
            "distance": plan.settings.distance,
            "options": plan.options(),
            "sources": [plan.path(s.name) for s in everyone],
            "warnings": notes,
        },
        overwrite=overwrite,
    )
    return dict(store.info(plan.path("group")).attributes), len(done), 0


def _write_subject(
    store: Store,
    plan: MovieRsa,
    group: GroupScores,
    subject: str,
    sources: Sequence[str],
    key: Mapping[str, Any],
    notes: Sequence[str],
) -> None:
    rows = [row for row, target in enumerate(group.targets) if target[0] == subject]
    streams = [group.targets[row][1] for row in rows]
    arrays = {
        "layer_score": group.layer[:, rows].mean(axis=-1),
        "model_score": group.model[:, rows].mean(axis=-1),
        "best_score": group.best[:, rows].mean(axis=-1),
        "layer_score_folds": group.layer[:, rows],
        "model_score_folds": group.model[:, rows],
        "together_folds": group.together[rows],
        "layer_weight": group.weight[:, rows],
    }
    for name, values in (("pair_score", group.pair), ("residual_score", group.residual)):
        if values is not None:
            arrays[name] = values[:, :, rows].mean(axis=-1)
    if group.subset_r2 is not None:
        arrays["subset_r2_folds"] = group.subset_r2[:, rows]
    if group.joint is not None:
        arrays["joint_score_folds"] = group.joint[:, rows]
    store.write(
        plan.path(subject),
        type="rsa",
        key=key,
        arrays={n: a.astype(np.float32) for n, a in arrays.items()} | {"best_layer": group.best_layer[:, rows]},
        attributes={
            "layers": describe_layers(plan.layers),
            "models": plan.models,
            "families": {f: list(m) for f, m in plan.families.items()},
            "streams": streams,
            "folds": list(group.blocks),
            "joint_sets": plan.joint_sets(),
            "comparison": plan.settings.compare,
            "distance": plan.settings.distance,
            "n_targets": {stream: group.n_voxels[subject, stream] for stream in streams},
            "warnings": list(notes),
            "options": plan.options(),
            "sources": list(sources),
        },
        overwrite=plan.request.overwrite,
    )


def compare_movies(request: RsaRequest, protocol: str, words: Mapping[str, Any]) -> RsaSummary:
    """Do what `brainsim rsa` does with movies; see `brainsim.commands.rsa.rsa`."""
    started = time.monotonic()
    opened = open_for_results(request.store, dry_run=request.dry_run)
    if protocol == "both":
        beside = replace(request, name=rsa_result_names(request.name, protocol)[-1])
        plans = [
            plan_movies(opened, request, "default", resolve_settings("default", **words)),
            plan_movies(opened, beside, "study", resolve_settings("study", **_NO_WORDS)),
        ]
    else:
        plans = [plan_movies(opened, request, protocol, resolve_settings(protocol, **words))]
    results = [ensure_plan(opened, plan) for plan in plans]
    audit: tuple[dict[str, Any], ...] = ()
    n_written, n_reused = sum(r[1] for r in results), sum(r[2] for r in results)
    if protocol == "both" and not request.dry_run:
        from brainsim.commands.rsa_audit import ensure_audit, tell_not_stored

        audit, steps, written = ensure_audit(opened, *plans, tables=[r[0] for r in results])
        for note in tell_not_stored(steps):
            request.progress.note(note)
        n_written, n_reused = n_written + written, n_reused + 1 - written
    tables = results[0][0]
    warnings = tuple(dict.fromkeys(w for r in results for w in r[0].get("warnings", ())))
    for warning in warnings:
        request.progress.warn(warning)
    return RsaSummary(
        name=request.name,
        dataset=request.dataset,
        store=str(request.store),
        protocol=protocol,
        subjects=tuple(s.name for group in plans[0].groups for s in group.subjects),
        n_models=len(plans[0].columns),
        n_layers=len(plans[0].layers),
        distance=plans[0].settings.distance,
        compare=plans[0].settings.compare,
        rows=tuple(tables.get("rows", ())),
        unique=tuple(row for row in tables.get("unique", ()) if row["quantity"] == "unique"),
        ceilings=tuple(tables.get("ceilings", ())),
        audit=audit,
        n_nodes_written=n_written,
        n_nodes_reused=n_reused,
        warnings=warnings,
        seconds=round(time.monotonic() - started, 3),
    )


_NO_WORDS: dict[str, Any] = {
    "distance": "correlation",
    "compare": None,
    "combine": "nnls",
    "cv": "runs",
    "pairs": "within-run",
    "method": "auto",
    "min_lag_s": None,
    "trim_s": None,
    "keep_lag_means": False,
}
