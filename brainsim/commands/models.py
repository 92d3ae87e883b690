"""Turn the list of models into summaries: what each is, is shown and gives, and where its weights are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from brainsim.core.registry import unknown_name
from brainsim.models.catalogue import MODELS, UNTRAINED, find_row, has_control
from brainsim.models.external import tell_sources
from brainsim.models.rows import Accuracy, InputSpec, ModelRow, ProtocolSpec

FLOAT32_BYTES = 4
_CONTROLS = f"mae-base{UNTRAINED}: mae-base with random weights; every row that has weights has such a control"


@dataclass(frozen=True)
class ModelsSummary:
    """The models there are.

    Parameters
    ----------
    models : tuple of dict
        One per row, with all that it holds: name, family, kind, trained_to_give, training_set, accuracy_percent (None
        where none is published), n_layers, n_frames, frame_stride, size (height, width in px), mean, std, weights
        (kind), weights_identifier, weights_files (what `--checkpoint` reads), licence, citation, accuracy (percent,
        task, source), taps, tap_sets, options, notes, the name of its untrained control, and protocols, as in
        `ModelSummary`.
    others : tuple of str
        How any other model is named: an example and what it stands for.
    controls : str
        How the untrained control of a row is named.
    """

    models: tuple[dict[str, Any], ...]
    others: tuple[str, ...] = ()
    controls: str = ""


@dataclass(frozen=True)
class ModelSummary:
    """One model.

    Parameters
    ----------
    model : dict
        Everything else that its row holds, as in `ModelsSummary`.
    protocols : tuple of dict
        One per protocol: what the network is shown, masks, and notes.
    layers : tuple of dict
        In order of depth: name, index, shape per clip, n_features, bytes_per_clip (float32), channel_axis,
        n_class_tokens, grid. Empty where layers were not asked for.
    """

    model: dict[str, Any]
    protocols: tuple[dict[str, Any], ...]
    layers: tuple[dict[str, Any], ...]


def models_list(family: str | None = None, *, untrained: bool = False) -> ModelsSummary:
    """Return every model, or those of one family; nothing heavy is imported.

    Parameters
    ----------
    family : str, optional
        The only family to list; all by default.
    untrained : bool
        List the untrained controls too, which are families of their own.

    Raises
    ------
    UnknownNameError
        A family that no model belongs to.
    """
    controls = [MODELS[name] for name in MODELS.list_controls()]
    families = sorted({row.family for row in (*MODELS.values(), *controls)})
    if family is not None and family not in families:
        raise unknown_name("family", family, families, hint="brainsim models list --untrained")
    rows = sorted(MODELS.values(), key=lambda row: row.weights.kind == "random")  # full systems before their twins
    rows += controls if untrained or family in {row.family for row in controls} else []
    chosen = [row for row in rows if family in (None, row.family)]
    models = tuple({**_tell(row), "protocols": list(_protocols(row))} for row in chosen)
    return ModelsSummary(models, tuple(tell_sources()), _CONTROLS)


def models_show(
    name: str, *, protocol: str = "default", tap: str | None = None, layers: bool = True, modules: bool = False
) -> ModelSummary:
    """Return all that is known of one model.

    Parameters
    ----------
    name : str
        Row's name, or timm:NAME, torchvision:NAME, hf:ID, hf:./FOLDER, file:FILE.py:FUNCTION.
    protocol : {"default", "study"}
        Protocol whose layer shapes are listed.
    tap : str, optional
        Another set of taps of the row ("mlp-out", "residual").
    layers : bool
        List the layers with their shapes: builds the network without weights, which imports torch.
    modules : bool
        List every module that --layers can name, not only the layers taken by default; of models that are not rows.

    Raises
    ------
    UnknownNameError
        No such model.
    InvalidValueError
        No such protocol or tap set.
    """
    row = find_row(name)
    row.protocol(protocol)
    row.layers(tap)
    if modules and row.modules:
        row = replace(row, taps=tuple(row.modules))
    return ModelSummary(
        model=_tell(row),
        protocols=_protocols(row),
        layers=_layers(row, protocol=protocol, tap=tap) if layers else (),
    )


def _tell(row: ModelRow) -> dict[str, Any]:
    shown = row.input
    return {
        "name": row.name,
        "family": row.family,
        "kind": row.kind,
        "trained_to_give": row.trained_to_give,
        "training_set": row.training_set,
        "accuracy_percent": row.accuracy.percent if row.accuracy else None,
        "n_layers": len(row.taps),
        "n_modules": len(row.modules) or None,
        "n_frames": shown.n_frames,
        "frame_stride": shown.frame_stride,
        "size": list(shown.size),
        "weights": row.weights.kind,
        "weights_identifier": row.weights.identifier,
        "licence": row.licence,
        "mean": list(shown.mean),
        "std": list(shown.std),
        "accuracy": _accuracy(row.accuracy) if row.accuracy else None,
        "citation": row.citation,
        "weights_files": list(row.weights.files),
        "taps": list(row.taps),
        "tap_sets": {tap: list(names) for tap, names in row.tap_sets.items()},
        "options": dict(row.options),
        "notes": list(row.notes),
        "untrained_control": f"{row.name}{UNTRAINED}" if row.name in MODELS and has_control(row) else None,
    }


def _accuracy(accuracy: Accuracy) -> dict[str, Any]:
    return {"percent": accuracy.percent, "task": accuracy.task, "source": accuracy.source}


def _protocols(row: ModelRow) -> tuple[dict[str, Any], ...]:
    return tuple(_protocol(name, spec) for name, spec in row.protocols.items())


def _protocol(name: str, spec: ProtocolSpec) -> dict[str, Any]:
    return {
        "protocol": name,
        **_input(spec.input),
        "random_mask": spec.random_mask,
        "masked_tokens": spec.masked_tokens,
        "notes": list(spec.notes),
    }


def _input(shown: InputSpec) -> dict[str, Any]:
    return {
        "n_frames": shown.n_frames,
        "frame_stride": shown.frame_stride,
        "size": list(shown.size),
        "mean": list(shown.mean),
        "std": list(shown.std),
        "divisor": shown.divisor,
        "frame_rate_hz": shown.frame_rate_hz,
        "sampling_hz": shown.sampling_hz,
        "layout": shown.layout,
    }


def _layers(row: ModelRow, *, protocol: str, tap: str | None) -> tuple[dict[str, Any], ...]:
    from brainsim.models.loading import tap_infos

    return tuple(
        {
            "name": info.name,
            "index": index,
            "shape": list(info.shape),
            "n_features": info.n_features,
            "bytes_per_clip": info.n_features * FLOAT32_BYTES,
            "channel_axis": info.channel_axis,
            "n_class_tokens": info.n_class_tokens,
            "grid": None if info.grid is None else list(info.grid),
        }
        for index, info in enumerate(tap_infos(row, protocol=protocol, tap=tap))
    )
