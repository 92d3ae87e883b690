"""Turn stored layers into the bands and families that a fit weighs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Protocol

from brainsim.core.checks import check_choice
from brainsim.core.errors import InvalidValueError, UnknownNameError
from brainsim.core.registry import suggest

BAND_LEVELS = ("layer", "system", "family")


class StoredNode(Protocol):
    """What this room needs to know of a stored node of activations."""

    @property
    def path(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def attributes(self) -> Mapping[str, Any]: ...
    @property
    def arrays(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class LayerSource:
    """One layer of one stored feature set, over all stimuli that are wanted.

    Parameters
    ----------
    model, layer, family, feature_set : str
        Names as stored.
    index : int
        Place of the layer in its model, from 0.
    n_features : int
        Columns of its activations.
    nodes : dict of str to str
        Node path for each stimulus.
    digests : tuple of str
        Digest of each node, in the order of `nodes`.
    """

    model: str
    layer: str
    family: str
    feature_set: str
    index: int
    n_features: int
    nodes: Mapping[str, str]
    digests: tuple[str, ...]

    @property
    def name(self) -> str:
        """The layer's full name: model/layer."""
        return f"{self.model}/{self.layer}"


def select_layers(
    nodes: Iterable[StoredNode], *, models: Sequence[str] = ("*",), stimuli: Sequence[str], protocol: str = "default"
) -> list[LayerSource]:
    """Pick the stored layers of some models that cover all stimuli.

    A model that is stored by several protocols is taken by the one that is wanted, else by default, unless its feature
    set is named.

    Parameters
    ----------
    nodes : iterable of nodes of type ``activations``
        What the store holds.
    models : sequence of str
        Globs over model names or feature sets (``mae-*``, ``mae-base@1a2b3c4d``).
    stimuli : sequence of str
        Stimuli that every layer must have.
    protocol : str
        Protocol of extraction that is wanted.

    Returns
    -------
    list of LayerSource
        In the order of models in the store, layers in the order of the network.

    Raises
    ------
    UnknownNameError
        A glob that matches nothing, or a stimulus that a model was not shown.
    InvalidValueError
        One model with several feature sets, where none was chosen.
    """
    table: dict[str, dict[str, dict[str, StoredNode]]] = {}
    for node in nodes:
        feature_set = node.path.split("/")[1]
        attributes = node.attributes
        table.setdefault(feature_set, {}).setdefault(attributes["layer"], {})[attributes["stimulus"]] = node
    told = {fs: next(iter(next(iter(layers.values())).values())).attributes for fs, layers in table.items()}
    model_of = {fs: str(attributes["model"]) for fs, attributes in told.items()}
    protocol_of = {fs: str(attributes.get("protocol", "")) for fs, attributes in told.items()}
    if not table:
        raise UnknownNameError(
            "the store holds no activations.", hint="brainsim extract MOVIE… --models NAME --store STORE"
        )
    chosen: list[str] = []
    for glob in models:
        matching = [fs for fs, model in model_of.items() if fnmatchcase(model, glob) or fnmatchcase(fs, glob)]
        if not matching:
            raise UnknownNameError(
                f"no stored model matches {glob!r}; {suggest(glob, sorted(set(model_of.values())))}",
                hint="brainsim store ls activations",
            )
        if "@" not in glob:
            matching = [fs for fs in matching if fs in _preferred(fs, model_of, protocol_of, protocol)]
        chosen += [fs for fs in matching if fs not in chosen]
    _refuse_twins(chosen, model_of)
    return [source for fs in chosen for source in _layers_of(fs, table[fs], stimuli)]


def _preferred(
    feature_set: str, model_of: Mapping[str, str], protocol_of: Mapping[str, str], wanted: str
) -> Sequence[str]:
    """Return the feature sets of the same model by the wanted protocol, else those by default, else all."""
    twins = [fs for fs, model in model_of.items() if model == model_of[feature_set]]
    for protocol in (wanted, "default"):
        found = [fs for fs in twins if protocol_of[fs] == protocol]
        if found:
            return found
    return twins


def _refuse_twins(chosen: Sequence[str], model_of: Mapping[str, str]) -> None:
    for model in {model_of[fs] for fs in chosen}:
        twins = [fs for fs in chosen if model_of[fs] == model]
        if len(twins) > 1:
            raise InvalidValueError(
                f"{model} is stored with {len(twins)} sets of options: {', '.join(twins)}; one must be chosen.",
                hint=f"--models {twins[0]} (brainsim store show activations/{twins[0]} tells the options)",
            )


def _layers_of(
    feature_set: str, layers: Mapping[str, Mapping[str, StoredNode]], stimuli: Sequence[str]
) -> list[LayerSource]:
    sources = []
    for layer, by_stimulus in layers.items():
        missing = [s for s in stimuli if s not in by_stimulus]
        if missing:
            raise UnknownNameError(
                f"{feature_set} layer {layer} was not extracted for {len(missing)} of {len(stimuli)} stimuli "
                f"({', '.join(missing[:5])}{', …' if len(missing) > 5 else ''}); "
                f"stored: {', '.join(sorted(by_stimulus)[:8])}.",
                hint="brainsim extract these movies, or name them alike (extract --names, ingest --stimulus-map)",
            )
        picked = [by_stimulus[s] for s in stimuli]
        attributes = picked[0].attributes
        widths = {int(node.arrays["values"][0][1]) for node in picked}
        if len(widths) != 1:
            raise InvalidValueError(f"{feature_set} layer {layer} has {sorted(widths)} features in different stimuli.")
        sources.append(
            LayerSource(
                model=attributes["model"],
                layer=layer,
                family=attributes["family"],
                feature_set=feature_set,
                index=int(attributes["layer_index"]),
                n_features=widths.pop(),
                nodes={s: node.path for s, node in zip(stimuli, picked, strict=True)},
                digests=tuple(node.digest for node in picked),
            )
        )
    return sorted(sources, key=lambda source: source.index)


@dataclass(frozen=True)
class Band:
    """Layers that share one weight.

    Parameters
    ----------
    name, family : str
        The band and the family it counts for.
    layers : tuple of LayerSource
        Their kernels, each of mean diagonal 1, are averaged: layers count alike whatever their width.
    """

    name: str
    family: str
    layers: tuple[LayerSource, ...] = field(repr=False)


def regroup(
    layers: Sequence[LayerSource], families: Mapping[str, Sequence[str]] | None
) -> list[tuple[str, LayerSource]]:
    """Pair every layer with its family: the row's own, or the user's grouping of models.

    Parameters
    ----------
    layers : sequence of LayerSource
        What was selected.
    families : dict of str to sequence of str, optional
        Family name -> globs over models. A model in no family is left out; one in two is an error.
    """
    if families is None:
        return [(layer.family, layer) for layer in layers]
    family_of = group_models([layer.model for layer in layers], families)
    return [(name, layer) for name in families for layer in layers if family_of.get(layer.model) == name]


def group_models(models: Sequence[str], families: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the family of each model that is in one, by globs over models.

    Raises
    ------
    UnknownNameError, InvalidValueError
        Names or globs that match no model, each of them: the first is the error, the others are its notes. A family
        without a name in it; a model in two families.
    """
    known = list(dict.fromkeys(models))
    _refuse_unmatched(known, families)
    found: dict[str, str] = {}
    for name, globs in families.items():
        for model in (model for model in known if any(fnmatchcase(model, glob) for glob in globs)):
            if found.setdefault(model, name) != name:
                raise InvalidValueError(f"model {model} is in two families, {found[model]} and {name}; one is allowed.")
    return found


def _refuse_unmatched(models: Sequence[str], families: Mapping[str, Sequence[str]]) -> None:
    """Refuse members of families that are no model: a family that lacks one silently would be another family."""
    for name, globs in families.items():
        if not globs:
            raise InvalidValueError(f"family {name!r} is empty; it must name at least one model.")
    missing = [
        f"family {name!r}: {glob!r} matches no stored model of this analysis; {suggest(glob, sorted(models))}"
        for name, globs in families.items()
        for glob in globs
        if not any(fnmatchcase(model, glob) for model in models)
    ]
    if missing:
        error = UnknownNameError(missing[0], hint="brainsim store ls activations lists the stored models")
        for sentence in missing[1:]:
            error.add_note(sentence)
        raise error


def make_bands(
    layers: Sequence[LayerSource], *, level: str = "system", families: Mapping[str, Sequence[str]] | None = None
) -> list[Band]:
    """Group layers into bands.

    Parameters
    ----------
    layers : sequence of LayerSource
        What was selected.
    level : {"layer", "system", "family"}
        One band per layer, per model or per family.
    families : dict, optional
        See `regroup`.
    """
    check_choice("--bands", level, BAND_LEVELS)
    grouped: dict[tuple[str, str], list[LayerSource]] = {}
    for family, layer in regroup(layers, families):
        name = {"layer": layer.name, "system": layer.model, "family": family}[level]
        grouped.setdefault((family, name), []).append(layer)
    bands = [Band(name, family, tuple(members)) for (family, name), members in grouped.items()]
    order = list(dict.fromkeys(band.family for band in bands))
    return sorted(bands, key=lambda band: order.index(band.family))
