"""Intervals of a partition cover what they say, over movies and subjects drawn anew. Five minutes: run by nox -s slow.

All subjects see the same runs, and respond alike to what no model has: chance likeness of a family to that is shared by
everyone, and intervals over subjects alone would miss it. Each set of data is new features, new runs and new subjects.
"""

from __future__ import annotations

import numpy as np
import pytest

from brainsim.core.runs import RunLayout, folds_by_run
from brainsim.datasets.planted import centre_runs, draw_noise
from brainsim.encoding.candidates import draw_pool
from brainsim.encoding.competition import best_of_subsets
from brainsim.encoding.folds import index_folds
from brainsim.encoding.search import SearchOptions, search_supports
from brainsim.stats.intervals import crossed_interval
from brainsim.variance.lattice import commonality_parts, subset_plan, unique_parts

N_SETS = 200
N_SUBJECTS, N_VOXELS, N_FEATURES = 8, 5, 30
LAYOUT = RunLayout(tuple("abcdef"), (60,) * 6)
ALPHAS = tuple(np.logspace(-1, 4, 6))
N_FAMILIES = 3
PLAN = subset_plan(N_FAMILIES, "all")

# Three standard errors of a share of 95 % over so many sets.
MIN_COVERAGE = 0.95 - 3 * np.sqrt(0.95 * 0.05 / N_SETS)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def slow_series(rng: np.random.Generator, n: int, *, ar: float = 0.7) -> np.ndarray:
    """Return series that are correlated in time and begin anew in each run, centred there, (n_rows, n)."""
    return centre_runs(draw_noise(rng, LAYOUT, n, ar=ar, shared=0.0), LAYOUT)


def scores_of_a_set(seed: int) -> np.ndarray:
    """Return the R2 of each subset of three families, (n_subsets, n_subjects, n_runs), in data drawn from a seed.

    The first family has signals of its own and shares others with the second; the third has nothing.
    """
    rng = np.random.default_rng(seed)
    shared = slow_series(rng, 5)
    features = [slow_series(rng, N_FEATURES) for _ in range(N_FAMILIES)]
    for X in features[:2]:
        X[:, :5] += 2 * shared
    kernels = [X @ X.T for X in features]
    unmodelled = slow_series(rng, 2)
    n = N_SUBJECTS * N_VOXELS
    likings = 1 + 0.5 * rng.standard_normal((2, n))  # alike in all subjects
    Y = 0.35 * shared @ rng.standard_normal((5, n)) / np.sqrt(5)
    Y += 0.35 * features[0][:, 5:15] @ rng.standard_normal((10, n)) / np.sqrt(10)
    Y += np.sqrt(0.3 / 2.5) * unmodelled @ likings
    Y += np.sqrt(0.6) * slow_series(rng, n, ar=0.4)
    bests, _ = search_supports(
        [(K / np.trace(K) * len(K)).astype(np.float32) for K in kernels],
        (Y / Y.std(axis=0)).astype(np.float32),
        pool=draw_pool(range(N_FAMILIES), n_candidates=12),
        alphas=ALPHAS,
        folds=index_folds(folds_by_run(LAYOUT), LAYOUT.n_rows),
        device="cpu",
        options=SearchOptions(n_workers=2),
    )
    r2 = [best.r2.cpu().numpy() for _, best in best_of_subsets(bests, PLAN.masks, price=4 / LAYOUT.n_rows)]
    by_subject: np.ndarray = np.stack(r2).reshape(len(r2), -1, N_SUBJECTS, N_VOXELS).mean(axis=3).swapaxes(1, 2)
    return by_subject


@pytest.fixture(scope="module")
def parts() -> np.ndarray:
    """Return unique and other parts and the joint score of every set, (n_sets, n_quantities, n_subjects, n_runs)."""
    sets = []
    for seed in range(N_SETS):
        scores = scores_of_a_set(seed)
        sets.append(np.concatenate([unique_parts(scores, PLAN), commonality_parts(scores, PLAN), scores[-1:]]))
    return np.stack(sets)


def test_intervals_cover_the_mean_over_movies_and_subjects(parts: np.ndarray) -> None:
    truth = parts.mean(axis=(0, 2, 3))
    covered = np.empty(parts.shape[:2])
    for which, quantities in enumerate(parts):
        for quantity, values in enumerate(quantities):
            interval = crossed_interval(values)
            covered[which, quantity] = interval.low <= truth[quantity] <= interval.high
    assert covered.mean(axis=0).min() >= MIN_COVERAGE, covered.mean(axis=0)


def test_a_family_without_effect_is_hardly_ever_above_zero(parts: np.ndarray) -> None:
    for quantity in (1, 2):  # what the second shares with the first is not its own; the third has nothing
        low = np.array([crossed_interval(values).low for values in parts[:, quantity]])
        assert (low > 0).mean() <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / N_SETS)
