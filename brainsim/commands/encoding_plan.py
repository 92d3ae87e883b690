"""Turn the options of fit and partition into checked subjects, bands and folds: all that is known before any number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainsim.commands.encoding_data import Subject, SubjectGroup, find_subjects, group_by_timing
from brainsim.commands.encoding_options import EncodingOptions
from brainsim.commands.haemodynamics import FIR
from brainsim.commands.kernels import KernelOptions, band_key, kernel_path
from brainsim.core.checks import check_choice, check_node_name
from brainsim.core.errors import InvalidValueError
from brainsim.core.provenance import digest
from brainsim.core.runs import Fold, RunLayout, folds_by_block, folds_by_group, folds_by_run

if TYPE_CHECKING:
    from brainsim.features.bands import Band, LayerSource
    from brainsim.store import Store

# A fit's pool where the user does not say: even, single bands and random mixtures of one group.
FIT_CANDIDATES = 60


@dataclass(frozen=True)
class EncodingPlan:
    """Everything that is known before the first number is computed.

    Parameters
    ----------
    dataset : str
        Name of the dataset.
    options : EncodingOptions
        Checked options.
    groups : tuple of SubjectGroup
        Subjects by timing.
    layers : tuple of LayerSource
        Selected layers, in order.
    bands : tuple of Band
        What is weighed.
    families : tuple of str
        Families in the order of the bands.
    """

    dataset: str
    options: EncodingOptions
    groups: tuple[SubjectGroup, ...]
    layers: tuple[LayerSource, ...]
    bands: tuple[Band, ...]
    families: tuple[str, ...]

    @property
    def subjects(self) -> list[Subject]:
        """All subjects."""
        return [subject for group in self.groups for subject in group.subjects]

    @property
    def kernel_options(self) -> KernelOptions:
        """How kernels are made; on a cluster, "auto" is what each worker finds."""
        options = self.options
        return KernelOptions(tuple(options.delays or ()), options.scaling, options.device, options.hrf)

    @property
    def n_folds(self) -> int:
        """Outer folds of the first group."""
        return len(make_folds(self.options, self.groups[0].fit_layout))

    def band_groups(self) -> list[int]:
        """Return the number of each band's family."""
        return [self.families.index(band.family) for band in self.bands]

    def record(self) -> dict[str, Any]:
        """Return what can change a number."""
        return self.options.record(dataset=self.dataset)

    def result_key(self, kind: str, group: SubjectGroup, subject: Subject, extra: Mapping[str, Any]) -> dict[str, Any]:
        """Return everything that makes one subject's result."""
        return {
            "kind": kind,
            "options": self.record(),
            "bands": [[band.name, band.family] for band in self.bands],
            "kernels": [digest(band_key(band.layers, group, self.kernel_options)) for band in self.bands],
            "data": subject.digests,
            **_held_together(group),
            **extra,
        }

    def sources(self, group: SubjectGroup, subject: Subject) -> list[str]:
        """Return the node paths that a result rests on."""
        kernels = [kernel_path(band_key(band.layers, group, self.kernel_options)) for band in self.bands]
        return [*kernels, *subject.sources]


def _held_together(group: SubjectGroup) -> dict[str, Any]:
    """Return which runs are one fold, where some are: what was made before that was minded is another result."""
    layout = group.fit_layout
    alike = [[layout.names[run] for run in runs] for runs in layout.together if len(runs) > 1]
    return {"held_together": alike} if alike else {}


def make_folds(options: EncodingOptions, layout: RunLayout) -> tuple[Fold, ...]:
    """Return the outer folds of a group's rows."""
    if options.cv == "runs":
        return folds_by_run(layout) if options.nested else folds_by_group(layout, n_folds=len(layout.together))
    if options.cv == "groups":
        return folds_by_group(layout, n_folds=options.n_folds)
    return folds_by_block(layout, n_blocks=options.n_blocks, gap=options.gap)


def plan_encoding(
    store: Store, dataset: str, options: EncodingOptions, *, families: Mapping[str, Sequence[str]] | None = None
) -> EncodingPlan:
    """Check the options against what the store holds.

    Raises
    ------
    UnknownNameError, InvalidValueError
        Unknown datasets, models, families or ROIs; impossible delays or folds.
    """
    from brainsim.features.bands import make_bands, select_layers
    from brainsim.features.kernels import SCALINGS

    check_node_name(dataset, what="--dataset")
    check_choice("--scaling", options.scaling, SCALINGS)
    if families is not None and not families:
        raise InvalidValueError(
            "the list of families is empty; it must name at least one.",
            hint="leave it out to take all that the store holds",
        )
    groups = group_by_timing(find_subjects(store, dataset, options.subjects))
    stimuli = list(dict.fromkeys(s for group in groups for s in group.stimuli))
    layers = select_layers(store.nodes("activations", type="activations"), models=options.models, stimuli=stimuli)
    bands = make_bands(layers, level=options.bands, families=families)
    for group in groups:
        _check_folds(options, group)
        if options.hrf == FIR:
            _check_delays(options.delays or (), group)
        _check_betas(options, group)
        _check_nulls(options, group)
    plan = EncodingPlan(
        dataset=dataset,
        options=options,
        groups=tuple(groups),
        layers=tuple(layer for band in bands for layer in band.layers),
        bands=tuple(bands),
        families=tuple(dict.fromkeys(band.family for band in bands)),
    )
    _check_rois(plan)
    return plan


def _check_folds(options: EncodingOptions, group: SubjectGroup) -> None:
    n_folds = len(make_folds(options, group.fit_layout))
    if options.nested and n_folds < 3:
        raise InvalidValueError(
            f"{n_folds} folds; nested cross-validation needs at least 3.",
            hint="--no-nested chooses hyperparameters by the test score itself, which is too good",
        )


def _check_delays(delays: Sequence[int], group: SubjectGroup) -> None:
    shortest = min(group.fit_layout.n_trs)
    whole = all(isinstance(delay, int) for delay in delays)
    if not delays or not whole or min(delays) < 0 or max(delays) >= shortest or len(set(delays)) != len(delays):
        raise InvalidValueError(
            f"--delays is {','.join(map(str, delays)) or 'empty'}; it must be different whole TRs from 0 to "
            f"{shortest - 1} (the shortest run has {shortest} TRs).",
            hint="--delays 1,2,3,4 covers 2 to 8 s at a TR of 2 s",
        )


def _check_betas(options: EncodingOptions, group: SubjectGroup) -> None:
    told = [subject.name for subject in group.subjects if subject.has_betas]
    delays = tuple(options.delays or ())
    if told and delays != (0,):
        given = f"--delays is {','.join(map(str, delays))}" if options.hrf == FIR else f"--hrf is {options.hrf}"
        raise InvalidValueError(
            f"{given}; rows of {told[0]} are stimuli (betas), and come no later than what was shown.",
            hint="--delays 0 --cv blocks",
        )


def _check_nulls(options: EncodingOptions, group: SubjectGroup) -> None:
    if options.n_nulls:
        from brainsim.encoding.nulls import check_shift

        check_shift(group.fit_layout, options.null_shift_trs(group.timing[0].grid.tr_s))


def _check_rois(plan: EncodingPlan) -> None:
    from brainsim.commands.encoding_data import roi_names_of

    for subject in plan.subjects:
        if plan.options.rois:
            roi_names_of(subject.targets, plan.options.rois)


def open_for_results(path: Path | str, *, dry_run: bool) -> Store:
    """Open a store that must be there already, for writing unless nothing is to be done."""
    from brainsim.store import Store

    there = Store(path, mode="r")
    return there if dry_run else Store(path, mode="a")


def result_is_done(store: Store, path: str, key: Mapping[str, Any], *, overwrite: bool) -> bool:
    """Tell whether a result with this key is complete; refuse early where another one has its name.

    Raises
    ------
    InvalidValueError
        Where a complete node of this path was made otherwise and must not be overwritten.
    """
    if store.has(path, key=key):
        return True
    if store.has(path) and not overwrite:
        is_old = store.info(path).key.get("version") != key.get("version")
        how = "by a version of brainsim that computes it otherwise" if is_old else "with other options or data"
        raise InvalidValueError(
            f"{path} is in the store already, made {how}.", hint="choose another name, or --overwrite"
        )
    return False


def describe_layers(layers: Sequence[LayerSource]) -> list[dict[str, Any]]:
    """Return the layers as a result node lists them."""
    return [{"model": la.model, "layer": la.layer, "index": la.index, "family": la.family} for la in layers]


def stream_masks(store: Store, subject: Subject) -> dict[str, np.ndarray]:
    """Return which targets belong to each stream, (n_targets,) bool: the union of the stream's ROIs."""
    membership = store.read(subject.targets.path, "membership").astype(bool)  # (n_rois, n_targets)
    names = list(subject.targets.attributes["roi_names"])
    streams: Mapping[str, Sequence[str]] = subject.targets.attributes["streams"]
    return {
        stream: np.asarray(membership[[names.index(roi) for roi in rois]].any(axis=0))
        for stream, rois in streams.items()
    }
