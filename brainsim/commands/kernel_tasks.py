"""Turn the layers and bands that a fit needs into kernels of the store: each made once, whoever asks for it first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from brainsim.commands.kernels import KernelOptions, band_key, kernel_path, layer_kernel
from brainsim.commands.made_once import make_once
from brainsim.core.progress import SILENT, Progress, SilentProgress, progress_of_tasks

if TYPE_CHECKING:
    from brainsim.commands.encoding_data import RunTiming, SubjectGroup
    from brainsim.compute.cluster import ClusterOptions
    from brainsim.features.bands import Band, LayerSource
    from brainsim.store import Store


@dataclass(frozen=True)
class KernelTask:
    """One layer's kernel on the TR grid of one group of subjects.

    Parameters
    ----------
    store : str
        The store's folder.
    layer : LayerSource
        Whose kernel it is.
    timing : tuple of RunTiming
        The group's runs.
    options : KernelOptions
        How it is made.
    """

    store: str
    layer: LayerSource
    timing: tuple[RunTiming, ...]
    options: KernelOptions

    @property
    def label(self) -> str:
        """What a person calls it."""
        return f"kernel of {self.layer.name}"


@dataclass(frozen=True)
class KernelReceipt:
    """What a task did: the kernel's node, and the seconds that another process was waited for, which made it."""

    node: str
    waited_s: float


def run_kernel_task(task: KernelTask) -> KernelReceipt:
    """Make one layer's kernel and write it."""
    from brainsim.commands.encoding_data import SubjectGroup
    from brainsim.commands.encoding_options import resolve_device
    from brainsim.store import Store

    group = SubjectGroup(task.timing, ())
    options = replace(task.options, device=resolve_device(task.options.device))  # what the worker finds
    store = Store(task.store, "a")
    return make_kernel(
        store, [task.layer], task.layer.name, group, options, lambda: layer_kernel(store, task.layer, group, options)
    )


def ensure_kernels(
    store: Store,
    bands: Sequence[Band],
    groups: Sequence[SubjectGroup],
    options: KernelOptions,
    *,
    cluster: ClusterOptions | None = None,
    progress: Progress = SILENT,
) -> list[tuple[list[str], list[str]]]:
    """Make the kernels that are not stored yet, of layers first; return each group's nodes of bands and of layers.

    A band's kernel is the mean of its layers' kernels, each of mean diagonal 1. So each layer's activations are read
    once, whatever the bands. Layers are tasks of their own, of all groups together: on a cluster, they are made side by
    side. What another process is making is waited for.
    """
    from brainsim.compute.cluster import ClusterOptions, run_tasks

    layers = [layer for band in bands for layer in band.layers]
    tasks = {
        path: KernelTask(str(store.path), layer, group.timing, options)
        for group in groups
        for layer in layers
        if not store.has(path := kernel_path(band_key([layer], group, options)))
    }
    where = cluster or ClusterOptions()
    with progress_of_tasks(progress):
        if tasks:
            with progress.task("kernels", total=len(tasks), unit="layers") as bar:
                for task, receipt in run_tasks(
                    run_kernel_task, list(tasks.values()), options=where, progress=_WithoutBars(progress)
                ):
                    bar.advance()
                    if receipt.waited_s and where.kind != "threads":  # there it was told when it began
                        progress.note(
                            f"the {task.label} was made by another process; that took {receipt.waited_s:.0f} s more."
                        )
        return [
            (
                [_band_kernel(store, band, group, options) for band in bands],
                [kernel_path(band_key([layer], group, options)) for layer in layers],
            )
            for group in groups
        ]


class _WithoutBars(SilentProgress):
    """Tells what a cluster says of its jobs and workers; the bar is the kernels' own."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def note(self, message: str) -> None:
        self._progress.note(message)

    def warn(self, message: str) -> None:
        self._progress.warn(message)


def _band_kernel(store: Store, band: Band, group: SubjectGroup, options: KernelOptions) -> str:
    """Make the kernel of a band from those of its layers, unless it is there; return its node."""

    def average() -> np.ndarray:
        total = np.zeros((group.layout.n_rows, group.layout.n_rows))
        for layer in band.layers:
            total += store.read(kernel_path(band_key([layer], group, options)), "K")
        return total

    return make_kernel(store, band.layers, band.name, group, options, average).node


def make_kernel(
    store: Store,
    layers: Sequence[LayerSource],
    name: str,
    group: SubjectGroup,
    options: KernelOptions,
    compute: Callable[[], np.ndarray],
) -> KernelReceipt:
    """Compute a kernel and write it, unless it is there or another process is at it; see `make_once`."""
    from brainsim.features.kernels import normalise_kernel
    from brainsim.store import ArraySpec

    key, n_rows = band_key(layers, group, options), group.layout.n_rows
    path = kernel_path(key)
    waited_s = make_once(
        store,
        path,
        type="kernel",
        key=key,
        arrays={"K": ArraySpec((n_rows, n_rows))},
        attributes={
            "band": name,
            "family": layers[0].family,
            "layers": [layer.name for layer in layers],
            "layout": [[t.run, t.grid.n_trs] for t in group.timing],
            "delays": list(options.delays),
            "hrf": options.hrf,
            "scaling": options.scaling,
            "n_features": sum(layer.n_features for layer in layers),
        },
        compute=lambda: {"K": normalise_kernel(compute(), name=name)},
        what=f"kernel of {name}",
    )
    return KernelReceipt(path, waited_s)
