"""Turn nothing but this package into the whole path: movies, scans, features, fits, a partition and a page."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brainsim.commands.simulate import TINY_SYSTEMS, make_movies, plant_cohort
from brainsim.core.checks import check_count
from brainsim.core.progress import SILENT, Progress

DATASET = "planted"
NAME = "demo"

# Length of each movie run and voxels per stream: what two cores do in well under five minutes.
RUN_S = 240.0
N_VOXELS = 30

# Half-decades around what these responses choose (0.1 to 1): the full default grid would double the time for nothing.
ALPHAS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)

# All 211 patterns of weak and strong families.
N_CANDIDATES = 211


@dataclass(frozen=True)
class DemoSummary:
    """What the demo found.

    Parameters
    ----------
    systems : tuple of str
        Models whose features were planted and fitted.
    recovered : tuple of dict
        Per stream and family: ``planted`` and ``estimated`` unique R2, and the ``low`` and ``high`` ends of the 95 %
        interval over subjects.
    largest_error : float
        Largest difference between planted and estimated.
    report, store, folder : str
        The page, the store, and the folder of the scans.
    seconds : dict of str to float
        Wall time of each step.
    warnings : tuple of str
        What the steps warned of.
    """

    systems: tuple[str, ...]
    recovered: tuple[dict[str, Any], ...]
    largest_error: float
    report: str
    store: str
    folder: str
    seconds: dict[str, float]
    warnings: tuple[str, ...]


def demo(
    *,
    out: Path | str = "brainsim-demo",
    subjects: int = 5,
    seed: int = 0,
    device: str = "auto",
    progress: Progress = SILENT,
) -> DemoSummary:
    """Run the whole path on planted data, offline, and show the truth beside the estimate.

    Eight movies are rendered and encoded, nine small systems watch them, a cohort of scans with known responses is
    written to disk, ingested, fitted, partitioned and compared by representational geometry, and a page is made. A
    second run reuses what is complete.

    Parameters
    ----------
    out : Path
        Folder for everything the demo makes.
    subjects : int
        Number of subjects; at least 2, for intervals.
    seed : int
        Seed of movies, weights and noise.
    device : str
        auto, cpu, cuda or cuda:N.
    progress : Progress
        Where progress is told.

    Returns
    -------
    DemoSummary
    """
    from brainsim.commands.extract import extract
    from brainsim.commands.fit import fit
    from brainsim.commands.ingest import ingest
    from brainsim.commands.partition import partition
    from brainsim.commands.report import report
    from brainsim.commands.rsa import rsa

    check_count("--subjects", subjects, at_least=2)
    folder = Path(out)
    store = folder / "store.zarr"
    seconds: dict[str, float] = {}

    @contextmanager
    def step(name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        seconds[name] = round(time.monotonic() - started, 2)

    with step("movies"):
        movies = make_movies(folder / "movies", seed=seed, run_s=RUN_S, progress=progress)
    with step("extract"):
        extracted = extract(
            movies, models=TINY_SYSTEMS, store=store, pool="mean", seed=seed, device=device, progress=progress
        )
    with step("simulate"):
        planted = plant_cohort(
            folder / "bids",
            store=store,
            dataset=DATASET,
            movies=movies,
            subjects=subjects,
            run_s=RUN_S,
            n_voxels=N_VOXELS,
            seed=seed,
            progress=progress,
        )
    bids = Path(planted.folder)
    with step("ingest"):
        ingested = ingest(
            bids,
            dataset=DATASET,
            store=store,
            rois=bids / "streams_dseg.nii.gz",
            confounds="motion6",
            stimulus_map=bids / "stimulus_map.tsv",
            overwrite=not planted.reused,
            progress=progress,
        )
    # What this folder held for other subjects or another seed is replaced; what is the same is not computed again.
    with step("fit"):
        fitted = fit(
            NAME,
            dataset=DATASET,
            store=store,
            bands="system",
            alphas=ALPHAS,
            n_candidates=30,
            seed=seed,
            subjects=planted.subjects,
            device=device,
            overwrite=True,
            progress=progress,
        )
    with step("partition"):
        parts = partition(
            NAME,
            dataset=DATASET,
            store=store,
            bands="family",
            alphas=ALPHAS,
            n_candidates=N_CANDIDATES,
            seed=seed,
            subjects=planted.subjects,
            device=device,
            overwrite=True,
            progress=progress,
        )
    with step("rsa"):
        compared = rsa(
            NAME, dataset=DATASET, store=store, subjects=planted.subjects, seed=seed, overwrite=True, progress=progress
        )
    with step("report"):
        page = report(store=store, out=folder / "report", title="The brainsim demo", progress=progress)
    truth = {(row["stream"], row["family"]): row["unique"] for row in planted.truth}
    recovered = tuple(
        {
            "stream": row["stream"],
            "family": row["family"],
            "planted": truth[row["stream"], row["family"]],
            "estimated": row["mean"],
            "low": row["low"],
            "high": row["high"],
        }
        for row in parts.rows
    )
    return DemoSummary(
        systems=TINY_SYSTEMS,
        recovered=recovered,
        largest_error=max(abs(row["planted"] - row["estimated"]) for row in recovered),
        report=page.page,
        store=str(store),
        folder=str(bids),
        seconds=seconds,
        warnings=(*extracted.warnings, *ingested.warnings, *fitted.warnings, *parts.warnings, *compared.warnings),
    )
