"""Turn models, stimuli and a store into jobs: which activations are missing, and how large they will be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from brainsim.commands.extract_options import ExtractOptions
from brainsim.core.errors import InvalidValueError, UnknownNameError
from brainsim.core.provenance import digest
from brainsim.core.registry import suggest
from brainsim.models import MODELS, ModelRow, find_row, weights_key
from brainsim.models.catalogue import UNTRAINED
from brainsim.models.external import explain_module, is_external
from brainsim.models.keys import choose_compile, choose_precision
from brainsim.models.rows import STEPS
from brainsim.models.sketch_size import count_outputs
from brainsim.models.weight_files import checkpoint_files
from brainsim.stimuli import ClipPlan, Stimulus, plan_clips
from brainsim.store import Store

# Counts up when the same options come to give other numbers: nodes of the older format are then not reused.
ACTIVATIONS_FORMAT = 1


@dataclass(frozen=True)
class Job:
    """One model on one stimulus: the nodes it has, and those still to be made.

    Parameters
    ----------
    row : ModelRow
        The model.
    feature_set : str
        Name under `activations/`: the model, and a digest of everything but layer and stimulus.
    key : dict
        Everything but layer and stimulus.
    stimulus : Stimulus
        What it watches.
    plan : ClipPlan
        Its clips.
    layers, missing : tuple of str
        Layers asked for, and those whose node is not complete.
    sketch : int, optional
        Features that are kept of each layer that has more.
    """

    row: ModelRow
    feature_set: str
    key: dict[str, Any]
    stimulus: Stimulus
    plan: ClipPlan
    layers: tuple[str, ...]
    missing: tuple[str, ...]
    sketch: int | None = None

    def node(self, layer: str) -> str:
        """Return the path of a layer's node."""
        return f"activations/{self.feature_set}/{layer}/{self.stimulus.name}"

    def node_key(self, layer: str) -> dict[str, Any]:
        """Return everything that makes a layer's node."""
        return {**self.key, "layer": layer, "stimulus": self.stimulus.digest}


def find_models(names: Sequence[str], options: ExtractOptions) -> list[tuple[ModelRow, tuple[str, ...]]]:
    """Return the rows that names and globs stand for, in the registry's order, with the layers asked of each.

    Models found elsewhere ("timm:…") come after those of the list, as they were named. A glob over layers that matches
    none of their taps may match any of their modules, and the row that is returned has those as taps.

    Raises
    ------
    UnknownNameError
        A name, a glob or a layer glob that matches nothing: near misses are named.
    InvalidValueError
        A checkpoint for several models, or for untrained controls alone.
    InputFileError
        No checkpoint there.
    """
    if options.checkpoint is not None:
        checkpoint_files(options.checkpoint)  # a file, or a folder that holds some
    rows = _find_rows(names)
    if options.checkpoint is not None:
        _check_takers(options.checkpoint, rows)
    layers = {row.name: _match_layers(row, options) for row in rows}
    for glob in options.layers:
        if not any(fnmatchcase(layer, glob) for found in layers.values() for layer in found):
            raise _unknown_layer(glob, rows, options)
    return [
        (replace(row, taps=layers[row.name]) if row.modules else row, layers[row.name])
        for row in rows
        if layers[row.name]
    ]


def keep_changed(
    rows: list[tuple[ModelRow, tuple[str, ...]]], protocol: str
) -> tuple[list[tuple[ModelRow, tuple[str, ...]]], str]:
    """Return the rows that a single step of the study's protocol changes, and a sentence on the others.

    Raises
    ------
    InvalidValueError
        A step that changes none of the models.
    """
    if protocol not in STEPS:
        return rows, ""
    kept = [(row, layers) for row, layers in rows if row.is_changed_by(protocol)]
    others = ", ".join(row.name for row, _ in rows if not row.is_changed_by(protocol))
    if not kept:
        changed = ", ".join(name for name, row in MODELS.items() if row.is_changed_by(protocol))
        raise InvalidValueError(
            f"--protocol {protocol} changes nothing for {others} ({STEPS[protocol][1]}); it does for {changed}.",
            hint="--protocol default",
        )
    return kept, others and f"--protocol {protocol} changes nothing for {others}: protocol default serves for them."


def _check_takers(checkpoint: Path, rows: Sequence[ModelRow]) -> None:
    takers = [row for row in rows if not row.control_of]
    if not takers:
        raise InvalidValueError(
            f"--checkpoint {checkpoint} is given, but {', '.join(row.name for row in rows)} take none: untrained.",
            hint=f"--models {rows[0].control_of},{rows[0].name}",
        )
    if len(takers) > 1:
        raise InvalidValueError(
            f"one checkpoint for {len(takers)} models ({', '.join(row.name for row in takers)}); it fits one.",
            hint="extract model by model where each has a file of its own",
        )


def _find_rows(names: Sequence[str]) -> list[ModelRow]:
    if not names:
        raise InvalidValueError("no models given; at least one name or glob is needed.", hint="brainsim models list")
    chosen: dict[str, ModelRow] = {}
    for name in names:
        if name not in MODELS and is_external(name):
            row = find_row(name)
            other = chosen.setdefault(row.name, row)
            if (other.identity(), other.weights) != (row.identity(), row.weights):
                raise InvalidValueError(
                    f"two models would both be called {row.name} in the store; each needs a name of its own.",
                    hint="rename one of the files or folders, or extract into two stores",
                )
            continue
        chosen.update({match: MODELS[match] for match in MODELS.match(name)})
    # Each control stands behind its model; models found elsewhere come last, as they were named.
    places = {name: place for place, known in enumerate(MODELS) for name in (known, f"{known}{UNTRAINED}")}
    return sorted(chosen.values(), key=lambda row: (places.get(row.name, len(places)), row.control_of))


def _match_layers(row: ModelRow, options: ExtractOptions) -> tuple[str, ...]:
    """Return the layers that any glob matches: of the taps, and of all modules for a glob that matches no tap."""
    taps = row.layers(options.tap)
    found = {tap for glob in options.layers for tap in taps if fnmatchcase(tap, glob)}
    for glob in options.layers:
        if not any(fnmatchcase(tap, glob) for tap in taps):
            found |= {module for module in row.modules if fnmatchcase(module, glob)}
    return tuple(layer for layer in (row.modules or taps) if layer in found)


def _unknown_layer(glob: str, rows: Sequence[ModelRow], options: ExtractOptions) -> UnknownNameError:
    taps = [tap for row in rows for tap in row.layers(options.tap)]
    every = list(dict.fromkeys([*taps, *(module for row in rows for module in row.modules)]))
    reasons = [reason for row in rows if row.modules and (reason := explain_module(row, glob))]
    why = f"there is one, but {reasons[0]}." if reasons else suggest(glob, every)
    return UnknownNameError(
        f"no layer of {', '.join(row.name for row in rows)} matches {glob!r}; {why}",
        hint=f"brainsim models show {rows[0].address or rows[0].name}",
    )


def plan_jobs(
    rows: Sequence[tuple[ModelRow, tuple[str, ...]]],
    stimuli: Sequence[Stimulus],
    options: ExtractOptions,
    store: Store | None,
) -> list[Job]:
    """Return one job per stimulus and model; nothing is loaded or decoded.

    Raises
    ------
    InvalidValueError
        Where the store holds another movie under a stimulus's name and `overwrite` is off.
    """
    plans = {(s.name, row.name): _plan(s, row, options) for s in stimuli for row, _ in rows}
    jobs = []
    for stimulus in stimuli:
        _check_same_movie(stimulus, store, options)
        for row, layers in rows:
            sketch = options.sketch
            if options.sketch_error is not None:
                sketch = count_outputs(sum(plans[s.name, row.name].n_clips for s in stimuli), options.sketch_error)
            key = feature_key(row, options, sketch=sketch)
            plan = plans[stimulus.name, row.name]
            job = Job(row, f"{row.node_name}@{digest(key)[:8]}", key, stimulus, plan, layers, (), sketch)
            missing = tuple(
                layer
                for layer in layers
                if options.overwrite or store is None or not store.has(job.node(layer), key=job.node_key(layer))
            )
            jobs.append(replace(job, missing=missing))
    return jobs


def _plan(stimulus: Stimulus, row: ModelRow, options: ExtractOptions) -> ClipPlan:
    shown = row.protocol(options.protocol).input
    try:
        return plan_clips(
            stimulus,
            n_frames=shown.n_frames,
            frame_stride=shown.frame_stride,
            frame_rate_hz=shown.sampling_hz,
            step_s=options.step_s,
            window=options.clip_window,
            pad=options.pad,
        )
    except InvalidValueError as error:
        error.add_note(f"for {row.name}, which takes {shown.n_frames} frames at a time.")
        raise


def feature_key(row: ModelRow, options: ExtractOptions, *, sketch: int | None = None) -> dict[str, Any]:
    """Return everything that makes a model's activations but layer and stimulus."""
    precision = choose_precision(row, options.precision)
    return {
        "format": ACTIVATIONS_FORMAT,
        "model": row.name,
        **weights_key(
            row,
            protocol=options.protocol,
            checkpoint=options.checkpoint_of(row),
            random_weights=options.random_weights,
            seed=options.seed,
        ),
        "protocol": options.protocol,
        "pool": options.pool,
        "dtype": options.dtype,
        "step_s": options.step_s,
        "clip_window": options.clip_window,
        "resize": options.resize,
        # Left out where they are not used, so that they leave the keys of all who do without them as they were.
        **({} if precision == "fp32" else {"precision": precision}),
        # With the taps, which are in the code: of a model that is not a row, those that were chosen.
        **({"compile": digest(list(row.layers(options.tap)))} if choose_compile(row, options.compile) else {}),
        **({} if options.pad == "repeat" else {"pad": options.pad}),
        **({} if sketch is None else {"sketch": {"n_outputs": sketch, "seed": options.seed}}),
    }


def open_store(path: Path, *, dry_run: bool) -> Store | None:
    """Open the store, and make it where there is none; a dry run makes nothing and returns None then."""
    if not dry_run:
        return Store(path, "a")
    return Store(path, "r") if path.exists() else None


def write_stimulus(store: Store, stimulus: Stimulus, *, overwrite: bool) -> None:
    """Write the node that says what was shown, and when."""
    store.write(
        f"stimuli/{stimulus.name}",
        type="stimulus",
        key={"stimulus": stimulus.digest},
        arrays={"frame_time_s": stimulus.frame_time_s},
        attributes={
            "source": str(stimulus.path),
            "digest": stimulus.digest,
            "fps_hz": stimulus.fps_hz,
            "n_frames": stimulus.n_frames,
            "duration_s": stimulus.duration_s,
            "start_s": stimulus.start_s,
            "width": stimulus.width,
            "height": stimulus.height,
            "kind": stimulus.kind,
        },
        overwrite=overwrite,
    )


def find_stale(store: Store, stimuli: Sequence[Stimulus]) -> tuple[str, ...]:
    """Return a warning per stimulus that was replaced while activations to its older self are still there."""
    nodes, warnings = store.nodes("activations", type="activations"), []
    for stimulus in stimuli:
        stale = [
            info.path
            for info in nodes
            if info.attributes["stimulus"] == stimulus.name and info.key["stimulus"] != stimulus.digest
        ]
        if stale:
            sets = sorted({path.split("/")[1] for path in stale})
            warnings.append(
                f"{len(stale)} activations nodes to an older movie of the name {stimulus.name!r} are left in "
                f"{', '.join(sets)}; extract them again with --overwrite."
            )
    return tuple(warnings)


def _check_same_movie(stimulus: Stimulus, store: Store | None, options: ExtractOptions) -> None:
    node = f"stimuli/{stimulus.name}"
    if store is None or options.overwrite or not store.has(node):
        return
    if store.info(node).key != {"stimulus": stimulus.digest}:
        raise InvalidValueError(
            f"the store holds another movie under the name {stimulus.name!r} than {stimulus.path} (its bytes or "
            "options differ).",
            hint="--names gives this one a name of its own; --overwrite replaces the other",
        )
