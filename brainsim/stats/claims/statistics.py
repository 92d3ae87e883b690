"""Turn scores into the number per subject and stream that a part of a claim speaks of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from brainsim.core.errors import UnknownNameError
from brainsim.core.registry import Registry
from brainsim.stats.claims.rows import Part
from brainsim.stats.claims.scores import Scores

Roles = Mapping[str, Sequence[str]]
Statistic = Callable[[Scores, Part, Roles], np.ndarray]

STATISTICS: Registry[Statistic] = Registry("statistic")


@STATISTICS.register("alone")
def score_alone(scores: Scores, part: Part, roles: Roles) -> np.ndarray:
    """Return the mean score of a role's systems, each alone, (n_subjects, n_streams)."""
    return _mean_alone(scores, part.role, roles)


@STATISTICS.register("difference")
def score_difference(scores: Scores, part: Part, roles: Roles) -> np.ndarray:
    """Return how much better a role's systems are than the others', each alone, (n_subjects, n_streams)."""
    rest: np.ndarray = np.mean([_mean_alone(scores, other, roles) for other in part.others], axis=0)
    above: np.ndarray = _mean_alone(scores, part.role, roles) - rest
    return above


@STATISTICS.register("unique")
def score_unique(scores: Scores, part: Part, roles: Roles) -> np.ndarray:
    """Return what all systems together gain by a role's systems, (n_subjects, n_streams).

    It is asked of the largest set that was scored; where that leaves out one of the others, it says nothing here.
    """
    everything = max(scores.sets, key=len)
    if len(everything) == 1:
        raise UnknownNameError(
            f"{scores.source} scores each system by itself; what is unique needs joint scores.",
            hint="brainsim partition NAME --dataset DATASET, or brainsim rsa with two families or more",
        )
    own = frozenset(roles[part.role]) & everything
    if not own:
        raise _missing(scores, part.role, roles, "in the largest set that was scored")
    for other in part.others:
        if not frozenset(roles[other]) & everything:
            raise _missing(scores, other, roles, "beside it")
    rest = scores.sets.get(everything - own)
    if rest is None:
        raise UnknownNameError(
            f"{scores.source} has no score of all systems but {', '.join(sorted(own))}.",
            hint="brainsim partition NAME --dataset DATASET, with these systems as a family of their own",
        )
    gain: np.ndarray = scores.sets[everything] - rest
    return gain


def systems_used(scores: Scores, part: Part, roles: Roles) -> tuple[str, ...]:
    """Return the systems of a part's roles that the scores hold."""
    there = scores.systems
    named = [s for role in (part.role, *part.others) for s in roles[role] if s in there]
    return tuple(dict.fromkeys(named))


def _mean_alone(scores: Scores, role: str, roles: Roles) -> np.ndarray:
    found = [values for system in roles[role] if (values := scores.single(system)) is not None]
    if not found:
        raise _missing(scores, role, roles, "alone")
    mean: np.ndarray = np.mean(found, axis=0)
    return mean


def _missing(scores: Scores, role: str, roles: Roles, where: str) -> UnknownNameError:
    names = ", ".join(roles[role])
    return UnknownNameError(
        f"{scores.source} scores none of {names} {where}.",
        hint="brainsim partition NAME --dataset DATASET --family SYSTEM=SYSTEM …, one family for each system",
    )
