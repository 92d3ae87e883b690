"""A planted cohort of realistic length: every unique and shared part comes back. An hour: run by nox -s slow.

Ten subjects, four streams, nine systems of five families, eight runs of a quarter of an hour (3,600 TRs, as in
StudyForrest), through the commands a user types. Few voxels per stream serve: the mean over subjects and voxels is what
is compared. There are two truths: what the best prediction explains that is fitted to as many TRs as noisy as these,
which estimates have to meet, and what it would explain if nothing were noisy, which the least of noise hides in part:
what a family computes only faintly then counts as unique to others.
"""

from __future__ import annotations

import numpy as np
import pytest

from brainsim.commands.ingest import ingest
from brainsim.commands.partition import partition
from brainsim.commands.simulate import simulate
from brainsim.store import Store

N_SUBJECTS, N_VOXELS, RUN_S = 10, 10, 900.0
TOLERANCE = 0.01  # R2, at cohort level

pytestmark = [pytest.mark.slow, pytest.mark.timeout(10800)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("cohort")
    path = folder / "store.zarr"
    simulate(folder / "planted", store=path, subjects=N_SUBJECTS, run_s=RUN_S, n_voxels=N_VOXELS, device="cpu")
    bids = folder / "planted" / "bids"
    ingest(
        bids,
        dataset="planted",
        store=path,
        rois=bids / "streams_dseg.nii.gz",
        confounds="motion6",
        stimulus_map=bids / "stimulus_map.tsv",
    )
    partition("planted", store=path, dataset="planted", rois=("early", "ventral", "lateral", "dorsal"), device="cpu")
    return Store(path)


def test_every_part_of_the_planted_variance_is_found(store: Store) -> None:
    truth = store.info("truth/planted").attributes
    group = store.info("partitions/planted/planted/group").attributes
    found = {(row["stream"], frozenset(row["families"])): row["mean"] for row in group["parts"]}
    planted = {(row["stream"], frozenset(row["families"])): row for row in truth["parts"]}
    assert len(planted) == 4 * 31
    assert found.keys() == planted.keys()
    errors = {key: found[key] - planted[key]["attainable"] for key in planted}
    worst = max(errors, key=lambda key: abs(errors[key]))
    told = f"{worst[0]}, {' & '.join(sorted(worst[1]))}: {found[worst]:.4f} for {planted[worst]['attainable']:.4f}"
    assert max(map(abs, errors.values())) < TOLERANCE, told
    assert float(np.sqrt(np.mean(np.square(list(errors.values()))))) < TOLERANCE / 3
    noiseless = np.array([found[key] - planted[key]["r2"] for key in planted])
    assert np.abs(noiseless).max() < 2 * TOLERANCE
    assert np.mean(np.abs(noiseless) < TOLERANCE) > 0.9


def test_nothing_is_found_where_nothing_was_planted(store: Store) -> None:
    null = {tuple(row) for row in store.info("truth/planted").attributes["null"]}
    rows = store.info("partitions/planted/planted/group").attributes["rows"]
    unique = {(row["stream"], row["family"]): row for row in rows if row["quantity"] == "unique"}
    assert len(null) == 12
    assert all(abs(unique[key]["mean"]) < TOLERANCE for key in null)
    assert sum(unique[key]["low"] > 0 for key in null) <= 2  # of 12 intervals at 95 %
