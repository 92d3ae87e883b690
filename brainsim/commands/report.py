"""Turn the results of a store into one self-contained page or PDF, its tables and its figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from brainsim.commands.rsa_options import is_of_study
from brainsim.core.checks import check_choice
from brainsim.core.errors import InvalidValueError
from brainsim.core.progress import SILENT, Progress
from brainsim.core.provenance import now_utc, software_record
from brainsim.core.registry import unknown_name

if TYPE_CHECKING:
    from brainsim.report.content import Content
    from brainsim.store import NodeInfo, Store

DEFAULT_STORE = "store/brainsim.zarr"


@dataclass(frozen=True)
class ReportSummary:
    """Where the page lies and what it tells.

    Parameters
    ----------
    page : str
        The page; the PDF, or the folder, where no page was asked for.
    tables, figures : tuple of str
        Files.
    sections : tuple of str
        Titles.
    n_warnings : int
        Warnings at the top of the page.
    seconds : float
        Wall time.
    """

    page: str
    tables: tuple[str, ...]
    figures: tuple[str, ...]
    sections: tuple[str, ...]
    n_warnings: int
    seconds: float


def report(
    *,
    store: str | Path = DEFAULT_STORE,
    out: str | Path = "brainsim-report",
    fits: Sequence[str] | None = None,
    partitions: Sequence[str] | None = None,
    rsas: Sequence[str] | None = None,
    truth: str | None = "auto",
    title: str | None = None,
    format: Sequence[str] = ("html",),
    progress: Progress = SILENT,
) -> ReportSummary:
    """Write one self-contained page, its tables and its figures, from the results in a store.

    The page lies at `out/index.html`, the numbers behind every figure in `out/tables`, the figures in `out/figures`. It
    needs no network and opens from a file; printed, it is a supplement to a paper.

    Parameters
    ----------
    store : path
        The store; read only.
    out : path
        Folder of the page. An earlier page there is replaced.
    fits, partitions, rsas : sequence of str, optional
        Names of the results to tell; None tells all there are, an empty sequence none. Where any is given, answers to
        claims and accuracies that were made from other results are left out, and named among the warnings.
    truth : str or None
        Planted truth to print beside the estimates: "auto" takes `truth/{dataset}` where it exists, a name takes
        `truth/{name}` for every dataset, None takes none.
    title : str, optional
        Title of the page; a sentence about its contents by default.
    format : sequence of {"html", "pdf", "tsv", "png"}
        What is written: the page with its figures as SVG; report.pdf; tables; figures as PNG of 300 dpi. Tables come
        with each of them.
    progress : Progress
        Who is told.

    Returns
    -------
    ReportSummary

    Raises
    ------
    UnknownNameError
        Where a name is not in the store.
    InvalidValueError
        Where the store holds no result, `out` is a file, or a format is not known.
    MissingDependencyError
        Where there is nothing to make a PDF with.
    StoreError, StoreDamageError
        Where the store is missing or damaged.
    """
    from brainsim.commands.report_results import ResultReader
    from brainsim.report.page import FORMATS, write_page
    from brainsim.report.paper import check_pdf
    from brainsim.store import Store

    started = time.perf_counter()
    if not format:
        raise InvalidValueError(f"--format is empty; at least one of {', '.join(FORMATS)} is wanted.")
    for name in format:
        check_choice("--format", name, FORMATS)
    if "pdf" in format:
        check_pdf()  # before minutes of drawing
    source = Store(Path(store), mode="r")
    chosen = {
        "fit": _choose(source, "fits", "fit", fits),
        "partition": _choose(source, "partitions", "partition", partitions),
        "rsa": _choose(source, "rsa", "rsa", rsas),
    }
    if not any(chosen.values()):
        raise InvalidValueError(
            f"{source.path} holds no fit, partition or rsa to report.",
            hint=f"brainsim fit NAME --dataset DATASET --store {source.path}",
        )
    reader = ResultReader(source)
    readers: dict[str, Callable[[Sequence[NodeInfo]], None]] = {
        "fit": reader.add_fit,
        "partition": reader.add_partition,
        "rsa": reader.add_rsa,
    }
    n_results = sum(len(groups) for groups in chosen.values())
    with progress.task("report", total=n_results + 1, unit="results") as task:
        for kind, groups in chosen.items():
            for nodes in groups:
                readers[kind](nodes)
                task.advance()
        content: Content = replace(
            reader.finish(truth=truth, is_choice=any(names is not None for names in (fits, partitions, rsas))),
            title=title,
            store=str(source.path),
            software=software_record(),
            created=now_utc(),
        )
        written = write_page(content, Path(out), formats=tuple(format))
        task.advance()
    if content.warnings:
        progress.note(f"{len(content.warnings)} warning(s) stand at the top of {written.page}.")
    return ReportSummary(
        page=str(written.page),
        tables=tuple(map(str, written.tables)),
        figures=tuple(map(str, written.figures)),
        sections=written.sections,
        n_warnings=len(content.warnings),
        seconds=time.perf_counter() - started,
    )


def _choose(store: Store, folder: str, kind: str, names: Sequence[str] | None) -> list[list[NodeInfo]]:
    """Return the per-subject nodes of each chosen result: one list per name and dataset."""
    groups: dict[tuple[str, str], list[NodeInfo]] = {}
    for info in store.nodes(f"{folder}/", type=kind):
        _, name, dataset, _ = info.path.split("/", 3)
        groups.setdefault((name, dataset), []).append(info)
    if names is None:  # what the study's protocol gives is there to be compared with
        return sorted(groups.values(), key=lambda nodes: is_of_study(nodes[0].attributes))
    there = sorted({name for name, _ in groups})
    for name in names:
        if name not in there:
            raise unknown_name(kind, name, there, hint=f"brainsim store ls {folder} --store {store.path}")
    return [groups[key] for name in names for key in groups if key[0] == name]
