"""Turn the options of fit and partition into checked subjects, bands, folds and kernels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainsim.commands.encoding_data import Subject, SubjectGroup, find_subjects, group_by_timing
from brainsim.commands.kernels import KernelOptions, band_key, kernel_path
from brainsim.core.checks import check_choice, check_count, check_node_name, check_number
from brainsim.core.errors import DeviceError, InvalidValueError
from brainsim.core.provenance import digest
from brainsim.core.resources import memory_free_bytes, n_cores
from brainsim.core.runs import Fold, folds_by_block, folds_by_run

if TYPE_CHECKING:
    from brainsim.encoding.best import SearchLog, SupportBest
    from brainsim.features.bands import Band, LayerSource
    from brainsim.store import Store

# Half-decades around the mean diagonal of a kernel: from nearly noiseless responses to pure noise.
DEFAULT_ALPHAS = tuple(float(f"{a:.4g}") for a in np.logspace(-2, 5, 15))

CV_KINDS = ("runs", "blocks")

# Above this share of targets at an edge of the alpha grid a user must be told.
EDGE_WARNING_SHARE = 0.05

# A target whose best alpha is the largest one is saturated only if it is explained at all: noise wants infinity.
EXPLAINED_R2 = 0.01


@dataclass(frozen=True)
class EncodingOptions:
    """What fit and partition have in common; see `brainsim.commands.fit.fit`."""

    dataset: str
    models: tuple[str, ...]
    bands: str
    delays: tuple[int, ...]
    cv: str
    n_blocks: int
    gap: int
    alphas: tuple[float, ...]
    n_candidates: int
    concentration: tuple[float, ...]
    scaling: str
    subjects: tuple[str, ...]
    seed: int
    device: str
    n_targets_batch: int

    def record(self) -> dict[str, Any]:
        """Return the options that can change a number, for keys and pages."""
        blocks = {"n_blocks": self.n_blocks, "gap_trs": self.gap} if self.cv == "blocks" else {}
        return {
            "dataset": self.dataset,
            "models": list(self.models),
            "bands": self.bands,
            "delays": list(self.delays),
            "cv": self.cv,
            **blocks,
            "alphas": list(self.alphas),
            "n_candidates": self.n_candidates,
            "concentration": list(self.concentration),
            "scaling": self.scaling,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class EncodingPlan:
    """Everything that is known before the first number is computed.

    Parameters
    ----------
    groups : tuple of SubjectGroup
        Subjects by timing.
    layers : tuple of LayerSource
        Selected layers, in order.
    bands : tuple of Band
        What is weighed.
    families : tuple of str
        Families in the order of the bands.
    """

    options: EncodingOptions
    groups: tuple[SubjectGroup, ...]
    layers: tuple[LayerSource, ...]
    bands: tuple[Band, ...]
    families: tuple[str, ...]

    @property
    def n_workers(self) -> int:
        """How many candidates are scored at once: a GPU takes one, cores as many as their factors leave memory for."""
        if self.options.device != "cpu":
            return 1
        n_rows = max(group.layout.n_rows for group in self.groups)
        # A factor's inverses of all pairs of folds take about four times the kernel, in float64 at worst.
        per_worker = 5 * 8 * n_rows**2
        return max(1, min(n_cores(), memory_free_bytes() // 2 // per_worker))

    @property
    def kernel_options(self) -> KernelOptions:
        """How kernels are made."""
        return KernelOptions(self.options.delays, self.options.scaling, self.options.device)

    def folds(self, group: SubjectGroup) -> tuple[Fold, ...]:
        """Return the outer folds of a group's rows."""
        if self.options.cv == "runs":
            return folds_by_run(group.layout)
        return folds_by_block(group.layout, n_blocks=self.options.n_blocks, gap=self.options.gap)

    def band_groups(self) -> list[int]:
        """Return the number of each band's family."""
        return [self.families.index(band.family) for band in self.bands]

    def result_key(self, kind: str, group: SubjectGroup, subject: Subject, extra: Mapping[str, Any]) -> dict[str, Any]:
        """Return everything that makes one subject's result."""
        return {
            "kind": kind,
            "options": self.options.record(),
            "bands": [[band.name, band.family] for band in self.bands],
            "kernels": [digest(band_key(band, group, self.kernel_options)) for band in self.bands],
            "data": subject.digests,
            **extra,
        }

    def sources(self, group: SubjectGroup, subject: Subject) -> list[str]:
        """Return the node paths that a result rests on."""
        kernels = [kernel_path(band_key(band, group, self.kernel_options)) for band in self.bands]
        return [*kernels, *subject.sources]


def plain_numbers(values: Sequence[float]) -> tuple[Any, ...]:
    """Return numbers as Python's own, whatever array or range they came in: keys are made of them."""
    return tuple(np.asarray(values).tolist())


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
        raise InvalidValueError(
            f"{path} is in the store already, made with other options or data.",
            hint="choose another name, or --overwrite",
        )
    return False


def resolve_device(device: str) -> str:
    """Return the torch device for "auto", or check the one that was named."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = device.partition(":")
    check_choice("--device", kind, ("auto", "cpu", "cuda"))
    if device not in ("cpu", "cuda") and not (kind == "cuda" and number.isdecimal()):
        raise InvalidValueError(f"--device is {device!r}; allowed: auto, cpu, cuda, cuda:0, cuda:1, ….")
    n_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "cuda" and int(number or 0) >= n_devices:
        raise DeviceError(
            f"--device is {device}; torch sees {n_devices} CUDA devices here.", hint="brainsim doctor, or --device cpu"
        )
    return device


def plan_encoding(
    store: Store, options: EncodingOptions, *, families: Mapping[str, Sequence[str]] | None = None
) -> EncodingPlan:
    """Check the options against what the store holds.

    Raises
    ------
    UnknownNameError, InvalidValueError
        Unknown datasets, models or families; impossible delays, folds or alphas.
    """
    from brainsim.features.bands import make_bands, select_layers
    from brainsim.features.kernels import SCALINGS

    check_node_name(options.dataset, what="--dataset")
    check_choice("--cv", options.cv, CV_KINDS)
    check_choice("--scaling", options.scaling, SCALINGS)
    check_count("--n-candidates", options.n_candidates)
    check_count("--n-targets-batch", options.n_targets_batch)
    for level in options.concentration:
        check_number("--concentration", level, above=0)
    _check_alphas(options.alphas)
    if not options.models or (families is not None and not families):
        raise InvalidValueError(
            f"the list of {'families' if options.models else 'models'} is empty; it must name at least one.",
            hint="leave it out to take all that the store holds",
        )
    groups = group_by_timing(find_subjects(store, options.dataset, options.subjects))
    stimuli = list(dict.fromkeys(s for group in groups for s in group.stimuli))
    layers = select_layers(store.nodes("activations", type="activations"), models=options.models, stimuli=stimuli)
    bands = make_bands(layers, level=options.bands, families=families)
    plan = EncodingPlan(
        options=options,
        groups=tuple(groups),
        layers=tuple(layer for band in bands for layer in band.layers),
        bands=tuple(bands),
        families=tuple(dict.fromkeys(band.family for band in bands)),
    )
    for group in groups:
        plan.folds(group)
        _check_delays(options.delays, group)
    return plan


def _check_delays(delays: Sequence[int], group: SubjectGroup) -> None:
    shortest = min(group.layout.n_trs)
    whole = all(isinstance(delay, int) for delay in delays)
    if not delays or not whole or min(delays) < 0 or max(delays) >= shortest or len(set(delays)) != len(delays):
        raise InvalidValueError(
            f"--delays is {','.join(map(str, delays)) or 'empty'}; it must be different whole TRs from 0 to "
            f"{shortest - 1} (the shortest run has {shortest} TRs).",
            hint="--delays 1,2,3,4 covers 2 to 8 s at a TR of 2 s",
        )


def _check_alphas(alphas: Sequence[float]) -> None:
    if not alphas or any(not np.isfinite(a) or a <= 0 for a in alphas) or list(alphas) != sorted(set(alphas)):
        raise InvalidValueError(
            f"--alphas is {','.join(f'{a:g}' for a in alphas) or 'empty'}; it must be increasing numbers above 0.",
            hint="leave --alphas out for half-decades from 0.01 to 100,000",
        )


def pack_subjects(group: SubjectGroup, max_targets: int) -> Iterator[SubjectGroup]:
    """Split a group into packs of subjects that fit one batch of targets (a larger subject is a pack of its own)."""
    pack: list[Subject] = []
    size = 0
    for subject in group.subjects:
        n = int(subject.targets.attributes["n_targets"])
        if pack and size + n > max_targets:
            yield SubjectGroup(group.timing, tuple(pack))
            pack, size = [], 0
        pack.append(subject)
        size += n
    if pack:
        yield SubjectGroup(group.timing, tuple(pack))


def column_batches(n_columns: int, size: int) -> Iterator[slice]:
    """Yield batches of columns."""
    for start in range(0, n_columns, size):
        yield slice(start, min(start + size, n_columns))


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


def edge_shares(best: SupportBest, n_alphas: int) -> np.ndarray:
    """Return each target's share of folds whose alpha sits at an edge of the grid although it is explained."""
    if n_alphas < 3:
        return np.zeros(best.alpha.shape[1])
    low = best.alpha == 0
    high = (best.alpha == n_alphas - 1) & (best.inner > EXPLAINED_R2)
    shares: np.ndarray = (low | high).double().mean(dim=0).cpu().numpy()
    return shares


def tell_warnings(*, share_at_edge: float, n_masked: int, n_targets: int, logs: Sequence[SearchLog]) -> list[str]:
    """Return the sentences that a user must see with a result."""
    warnings = []
    if share_at_edge > EDGE_WARNING_SHARE:
        warnings.append(
            f"{share_at_edge:.0%} of the targets chose an alpha at an edge of the grid; widen it with --alphas."
        )
    if n_masked:
        warnings.append(f"{n_masked} of {n_targets} targets were masked (constant or not finite in some run).")
    n_failed = sum(len(log.failed) for log in logs)
    if n_failed:
        warnings.append(f"{n_failed} candidates could not be factorised even in float64 and took no part.")
    return warnings
