"""Turn stored activations into the kernels of layers and bands on a dataset's TR grid, before any fit needs them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainsim.core.checks import check_choice, check_count, check_node_name
from brainsim.core.progress import SILENT, Progress

if TYPE_CHECKING:
    from brainsim.commands.encoding_data import SubjectGroup
    from brainsim.commands.kernels import KernelOptions
    from brainsim.features.bands import Band
    from brainsim.store import Store


@dataclass(frozen=True)
class KernelSummary:
    """What `brainsim kernel` made.

    Parameters
    ----------
    dataset, store : str
        Whose runs the kernels are of, and where they lie: ``kernels/{digest16}``.
    n_layers, n_bands : int
        Layers and bands that have a kernel for each group of subjects who saw the same.
    kernels : tuple of dict
        Per group and band: band, family, n_layers, n_features, n_trs, subjects, node, and state: "there", "made", or
        "missing" in a dry run.
    n_nodes_written, n_nodes_reused : int
        Kernels of layers and bands made now (in a dry run: to be made), and found complete.
    nbytes : int
        Bytes of those made, or to be made.
    dry_run : bool
        Whether nothing was written.
    seconds : float
        Wall time.
    """

    dataset: str
    store: str
    n_layers: int
    n_bands: int
    kernels: tuple[dict[str, Any], ...]
    n_nodes_written: int
    n_nodes_reused: int
    nbytes: int
    dry_run: bool
    seconds: float


def kernel(
    *,
    dataset: str,
    store: Path | str = "store/brainsim.zarr",
    models: Sequence[str] = ("*",),
    bands: str = "system",
    families: Mapping[str, Sequence[str]] | None = None,
    delays: Sequence[int] | None = None,
    hrf: str = "fir",
    scaling: str = "zscore",
    subjects: Sequence[str] = (),
    device: str = "auto",
    cluster: str = "threads",
    n_workers: int = 0,
    cluster_options: Sequence[str] = (),
    dry_run: bool = False,
    progress: Progress = SILENT,
) -> KernelSummary:
    """Make the kernels that `fit` and `partition` start from: aligned to TRs, delayed, standardised within runs.

    Those make what they lack by themselves; this makes it beforehand, where the GPU or the cluster is. Features are
    read once, a block of columns at a time, and never copied per delay.

    Parameters
    ----------
    dataset : str
        Dataset given at ingest: its runs say which TRs there are.
    store : Path
        Store that holds the activations and the BOLD.
    models : sequence of str
        Globs over stored models or feature sets.
    bands : {"layer", "system", "family"}
        What gets a weight of its own: every layer, every model or every family.
    families : mapping of str to sequence of str
        Families as NAME=GLOB,GLOB over models, each of which must match one; those of the models by default.
    delays : sequence of int
        Delays of the features against the BOLD, in TRs; 1,2,3,4 by default.
    hrf : {"fir", "spm", "glover"}
        How features become responses: at several delays, whose weights are the response; or convolved with SPM's or
        Glover's canonical response.
    scaling : {"zscore", "center"}
        Whether features are z-scored or only centred within runs.
    subjects : sequence of str
        Subjects to take; all by default.
    device : str
        auto, cpu, cuda or cuda:N.
    cluster : {"threads", "local", "slurm", "cuda"}
        Where layers are made: one after another on all cores, or each by a worker.
    n_workers : int
        Workers of the cluster; with "threads", cores that products use; 0 takes what there is.
    cluster_options : sequence of str
        Further words for the cluster as KEY=VALUE; by default none.
    dry_run : bool
        Say what would be done, and do nothing.
    progress : Progress
        Where progress is told.

    Returns
    -------
    KernelSummary

    Raises
    ------
    UnknownNameError, InvalidValueError, AlignmentError
        Names that are not stored, options that do not fit the data, TRs without features.
    StoreError
        Where the kernels do not fit on the disk.
    """
    from brainsim.commands.cluster_words import read_cluster_words
    from brainsim.commands.encoding_data import find_subjects, group_by_timing
    from brainsim.commands.encoding_options import resolve_device
    from brainsim.commands.encoding_plan import open_for_results
    from brainsim.commands.haemodynamics import FIR, read_haemodynamics
    from brainsim.commands.kernel_tasks import ensure_kernels
    from brainsim.commands.kernels import KernelOptions
    from brainsim.compute.threads import use_cores
    from brainsim.features.bands import BAND_LEVELS, make_bands, select_layers
    from brainsim.features.kernels import SCALINGS, check_delays

    started = time.monotonic()
    check_node_name(dataset, what="--dataset")
    check_choice("--bands", bands, BAND_LEVELS)
    check_choice("--scaling", scaling, SCALINGS)
    check_count("--n-workers", n_workers, at_least=0)
    workers = read_cluster_words(cluster, 0 if cluster == "threads" else n_workers, cluster_options)
    # Elsewhere "auto" is what the worker finds.
    found = resolve_device(device) if cluster == "threads" else device
    options = KernelOptions(read_haemodynamics(hrf, delays), scaling, found, hrf)
    opened = open_for_results(store, dry_run=dry_run)
    groups = group_by_timing(find_subjects(opened, dataset, subjects))
    stimuli = list(dict.fromkeys(s for group in groups for s in group.stimuli))
    layers = select_layers(opened.nodes("activations", type="activations"), models=models, stimuli=stimuli)
    made = make_bands(layers, level=bands, families=families)
    for group in groups if options.hrf == FIR else ():
        check_delays(options.delays, group.layout)
    rows = [row for group in groups for row in _describe(opened, made, group, options)]
    missing = {path: n_trs for group in groups for path, n_trs in _missing(opened, made, group, options).items()}
    nbytes = sum(4 * n_trs**2 for n_trs in missing.values())
    n_all = len({path for group in groups for path in _paths(made, group, options)})
    if missing and not dry_run:
        _check_space(opened, nbytes)
        with use_cores(n_workers if cluster == "threads" else 0):
            ensure_kernels(opened, made, groups, options, cluster=workers, progress=progress)
        rows = [{**row, "state": "made" if row["state"] == "missing" else "there"} for row in rows]
    return KernelSummary(
        dataset=dataset,
        store=str(store),
        n_layers=sum(len(band.layers) for band in made),
        n_bands=len(made),
        kernels=tuple(rows),
        n_nodes_written=len(missing),
        n_nodes_reused=n_all - len(missing),
        nbytes=nbytes,
        dry_run=dry_run,
        seconds=round(time.monotonic() - started, 3),
    )


def _paths(bands: Sequence[Band], group: SubjectGroup, options: KernelOptions) -> list[str]:
    """Return the nodes of a group's bands and layers; a band of one layer is that layer's."""
    from brainsim.commands.kernels import band_key, kernel_path

    several = [band.layers for band in bands] + [(layer,) for band in bands for layer in band.layers]
    return list(dict.fromkeys(kernel_path(band_key(layers, group, options)) for layers in several))


def _missing(store: Store, bands: Sequence[Band], group: SubjectGroup, options: KernelOptions) -> dict[str, int]:
    paths = _paths(bands, group, options)
    return {path: group.layout.n_rows for path in paths if not store.has(path)}


def _describe(store: Store, bands: Sequence[Band], group: SubjectGroup, options: KernelOptions) -> list[dict[str, Any]]:
    from brainsim.commands.kernels import band_key, kernel_path

    rows = []
    for band in bands:
        node = kernel_path(band_key(band.layers, group, options))
        rows.append(
            {
                "band": band.name,
                "family": band.family,
                "n_layers": len(band.layers),
                "n_features": sum(layer.n_features for layer in band.layers),
                "n_trs": group.layout.n_rows,
                "subjects": [subject.name for subject in group.subjects],
                "node": node,
                "state": "there" if store.has(node) else "missing",
            }
        )
    return rows


def _check_space(store: Store, nbytes: int) -> None:
    from brainsim.core.errors import StoreError
    from brainsim.core.resources import disk_free_bytes, format_bytes

    free = disk_free_bytes(store.path)
    if nbytes > free:
        raise StoreError(
            f"the kernels need {format_bytes(nbytes)}; {format_bytes(free)} are free at {store.path}.",
            hint="fewer --models, or a larger disk",
        )
