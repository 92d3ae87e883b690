"""Turn a result into what claims are asked of: the score of each set of systems, by subject and stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

# Behind the name of a row: the same network, small, for demonstrations. It stands for the row.
TINY = "-tiny"


@dataclass(frozen=True)
class Scores:
    """Scores of sets of systems.

    Parameters
    ----------
    source : str
        What they are from, in words: "partition systems".
    measure : str
        "encoding" (R2) or "geometry" (similarity of RDMs).
    subjects, streams : tuple of str
        Axes of the arrays.
    sets : mapping of frozenset of str to ndarray of float64, (n_subjects, n_streams)
        Systems that were scored together -> their score; NaN where a subject has no such stream.
    reachable : ndarray of float64, (n_subjects, n_streams), optional
        What a score can reach at all in these data: the R2 of all systems together, the lower noise ceiling.
    reachable_is : str
        What that is, in words.
    nodes : tuple of str
        Nodes of the store they were read from.
    twins : tuple of str
        Small twins that stand for the system of a row here.
    """

    source: str
    measure: str
    subjects: tuple[str, ...]
    streams: tuple[str, ...]
    sets: Mapping[frozenset[str], np.ndarray]
    reachable: np.ndarray | None = None
    reachable_is: str = ""
    nodes: tuple[str, ...] = ()
    twins: tuple[str, ...] = ()

    @property
    def systems(self) -> frozenset[str]:
        """All systems that were scored."""
        return frozenset(system for members in self.sets for system in members)

    def single(self, system: str) -> np.ndarray | None:
        """Return a system's own score, or None where it was not scored alone."""
        return self.sets.get(frozenset((system,)))


def name_systems(models: Iterable[str], *, as_rows: bool = True) -> dict[str, str]:
    """Return the system that each stored model stands for: its name without digest, and without ``-tiny``.

    Parameters
    ----------
    models : iterable of str
        As stored.
    as_rows : bool
        Whether a small twin stands for the system of its row; where both are there, it never does.
    """
    bare = {model: model.split("@")[0] for model in models}
    taken = set(bare.values())
    systems = {}
    for model, name in bare.items():
        full = name.removesuffix(TINY)
        systems[model] = full if as_rows and full not in taken else name
    return systems


def find_twins(system_of: Mapping[str, str]) -> tuple[str, ...]:
    """Return the models that stand for a system of another name."""
    return tuple(model for model, system in system_of.items() if model.split("@")[0] != system)
