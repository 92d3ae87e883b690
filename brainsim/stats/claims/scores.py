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
    """

    source: str
    measure: str
    subjects: tuple[str, ...]
    streams: tuple[str, ...]
    sets: Mapping[frozenset[str], np.ndarray]
    reachable: np.ndarray | None = None
    reachable_is: str = ""
    nodes: tuple[str, ...] = ()

    @property
    def systems(self) -> frozenset[str]:
        """All systems that were scored."""
        return frozenset(system for members in self.sets for system in members)

    def single(self, system: str) -> np.ndarray | None:
        """Return a system's own score, or None where it was not scored alone."""
        return self.sets.get(frozenset((system,)))


def name_systems(models: Iterable[str]) -> dict[str, str]:
    """Return the system that each stored model stands for: its name without digest, and without ``-tiny``.

    Where a network and its tiny twin are both there, the twin is a system of its own.
    """
    bare = {model: model.split("@")[0] for model in models}
    taken = set(bare.values())
    systems = {}
    for model, name in bare.items():
        full = name.removesuffix(TINY)
        systems[model] = name if full in taken else full
    return systems
