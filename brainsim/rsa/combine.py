"""Turn the RDMs of a model's layers into one prediction, by weights that never saw what is predicted.

A fold is a block of pairs that is held out: those of a run, or among some stimuli. Weights of all targets are
(n_targets, n_layers).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from brainsim.core.checks import check_choice
from brainsim.core.errors import InvalidValueError
from brainsim.rsa.moments import Moments, pair_moments, pool, pool_others

Columns = Sequence[int] | np.ndarray

# From the moments of all blocks and some layers to the weights for each block, (n_targets, n_columns).
Weigh = Callable[[Sequence[Moments], Columns], list[np.ndarray]]

# How layers are combined.
COMBINATIONS = ("nnls", "ridge")

# Penalties of ridge, relative to the number of pairs: from none to all but none of a layer.
ALPHAS = np.logspace(-5, 2, 15)


def standardise(rdms: np.ndarray) -> np.ndarray:
    """Z-score every RDM over its pairs, float64; a constant one becomes 0."""
    z: np.ndarray = rdms.astype(np.float64) - rdms.mean(axis=-1, keepdims=True)
    std = z.std(axis=-1, keepdims=True)
    z /= np.where(std > 0, std, 1.0)
    return z


def nnls_weights(moments: Moments, columns: Columns) -> np.ndarray:
    """Return the non-negative least squares weights of some layers for every target, with an intercept.

    Centring is the intercept. With the factor R and Z, ``|A w - y|² = |R w - z|² + constant``.

    Returns
    -------
    ndarray of float64, (n_targets, n_columns)
    """
    from scipy.optimize import nnls

    R = np.ascontiguousarray(moments.R[:, columns])
    return np.array([nnls(R, z)[0] for z in moments.Z.T]).reshape(moments.n_targets, R.shape[1])


def ridge_weights(blocks: Sequence[Moments], columns: Columns) -> np.ndarray:
    """Return ridge weights of some layers for every target; the penalty is chosen by leaving out each block in turn.

    Parameters
    ----------
    blocks : sequence of Moments
        At least 2 blocks of training pairs, standardised.

    Returns
    -------
    ndarray of float64, (n_targets, n_columns)
    """
    if len(blocks) < 2:
        raise InvalidValueError(
            f"{len(blocks)} training run(s); ridge chooses its penalty with at least 2.", hint="--combine nnls"
        )
    lost = np.zeros((len(ALPHAS), blocks[0].n_targets))
    for held, others in zip(blocks, pool_others(blocks), strict=True):
        for row, weights in enumerate(_ridge_path(others, columns)):
            lost[row] += held.residual(held.R[:, columns] @ weights.T).power
    best = lost.argmin(axis=0)
    path = np.stack(_ridge_path(pool(blocks), columns))  # (n_alphas, n_targets, n_columns)
    chosen: np.ndarray = path[best, np.arange(len(best))]
    return chosen


def _ridge_path(moments: Moments, columns: Columns) -> list[np.ndarray]:
    U, s, Vt = np.linalg.svd(moments.R[:, columns], full_matrices=False)
    projected = U.T @ moments.Z
    return [(Vt.T @ ((s / (s**2 + alpha * moments.n_pairs))[:, None] * projected)).T for alpha in ALPHAS]


def pooled_weights(
    moments: Sequence[Moments], columns: Columns, *, combine: str = "nnls", others: Sequence[Moments] | None = None
) -> list[np.ndarray]:
    """Return, for each block, the weights that are fitted on all others together.

    Parameters
    ----------
    moments : sequence of Moments
        One per block, standardised so that no run and no layer weighs more than another by its units.
    columns : sequence of int
        Layers that are combined.
    combine : {"nnls", "ridge"}
        Least squares with weights of at least 0, or with a penalty.
    others : sequence of Moments, optional
        What `pool_others` makes of `moments`, where it is known: many sets of layers are fitted to the same.

    Returns
    -------
    list of ndarray, (n_targets, n_columns) per block
    """
    check_choice("--combine", combine, COMBINATIONS)
    if len(moments) < 2:
        raise InvalidValueError(f"{len(moments)} run(s); layers are combined by leaving one run out of at least 2.")
    if combine == "nnls":
        return [nnls_weights(pooled, columns) for pooled in others or pool_others(moments)]
    return [
        ridge_weights([m for other, m in enumerate(moments) if other != held], columns) for held in range(len(moments))
    ]


def averaged_weights(moments: Sequence[Moments], columns: Columns) -> list[np.ndarray]:
    """Return, for each block, the mean of the weights that are fitted on each other block by itself: the study's way.

    Parameters
    ----------
    moments : sequence of Moments
        One per block, in the RDMs' own units.
    """
    return mean_of_others(np.stack([nnls_weights(m, columns) for m in moments]))


def mean_of_others(own: np.ndarray) -> list[np.ndarray]:
    """Return, for each block, the mean over all other blocks, (n_blocks, ...)."""
    if len(own) < 2:
        raise InvalidValueError(f"{len(own)} run(s); layers are combined by leaving one run out of at least 2.")
    return [np.delete(own, held, axis=0).mean(axis=0) for held in range(len(own))]


def other_subjects_weights(subjects: np.ndarray, streams: np.ndarray, *, combine: str = "nnls") -> Weigh:
    """Return the weighing of each subject by the mean standardised RDM of the others, over all blocks.

    Parameters
    ----------
    subjects, streams : ndarray of int, (n_targets,)
        Whose RDM, and of which stream, each target is.

    Raises
    ------
    InvalidValueError
        A stream that only one subject has.
    """
    mixing = (streams[:, None] == streams[None, :]) & (subjects[:, None] != subjects[None, :])
    if not mixing.any(axis=0).all():
        raise InvalidValueError(
            "a stream of one subject cannot be predicted from others; --cv subjects needs 2.", hint="--cv runs"
        )
    mean = mixing / mixing.sum(axis=0)  # (n_targets, n_targets): column t averages the others

    def weigh(moments: Sequence[Moments], columns: Columns) -> list[np.ndarray]:
        others = [Moments(m.R, m.Z @ mean, m.power, m.n_pairs) for m in moments]
        weights = nnls_weights(pool(others), columns) if combine == "nnls" else ridge_weights(others, columns)
        return [weights] * len(moments)

    return weigh


def combine_layers(layers: Sequence[np.ndarray], target: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Predict each run's RDM from a model's layers with weights that never saw that run.

    Parameters
    ----------
    layers : sequence of ndarray, (n_layers, n_pairs) per run
        RDMs of the layers.
    target : sequence of ndarray, (n_pairs,) per run
        The RDM to predict.

    Returns
    -------
    list of ndarray of float64, (n_pairs,) per run
        Zero where no layer has weight.
    """
    moments = [pair_moments(A, y[None]).standardised() for A, y in zip(layers, target, strict=True)]
    weights = pooled_weights(moments, np.arange(len(layers[0])))
    return [w[0] @ standardise(A) for w, A in zip(weights, layers, strict=True)]
