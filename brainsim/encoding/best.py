"""Turn scores of candidates into the best so far, per fold and target, with a log of what happened."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

_FIELDS = ("inner", "r2", "r", "candidate", "alpha")


@dataclass
class SupportBest:
    """The best candidate so far whose support is exactly one subset of the groups.

    Parameters
    ----------
    inner : Tensor of float32, (n_folds, n_targets)
        Best validation R2, by which candidates are chosen.
    r2, r : Tensor of float32, (n_folds, n_targets)
        Test scores of that candidate.
    candidate, alpha : Tensor of int32, (n_folds, n_targets)
        Which one it is; -1 where none could be scored.
    """

    inner: torch.Tensor
    r2: torch.Tensor
    r: torch.Tensor
    candidate: torch.Tensor
    alpha: torch.Tensor

    @classmethod
    def empty(cls, n_folds: int, n_targets: int, device: torch.device) -> SupportBest:
        """Return a best of nothing."""

        def full(value: float, dtype: torch.dtype) -> torch.Tensor:
            return torch.full((n_folds, n_targets), value, dtype=dtype, device=device)

        return cls(
            full(-torch.inf, torch.float32),
            full(torch.nan, torch.float32),
            full(torch.nan, torch.float32),
            full(-1, torch.int32),
            full(-1, torch.int32),
        )

    def challenge(self, other: SupportBest) -> None:
        """Take over what is better in `other`; ties keep what is here."""
        self.take(other, other.inner > self.inner)

    def take(self, other: SupportBest, better: torch.Tensor) -> None:
        """Take over what `better` (n_folds, n_targets) marks."""
        for name in _FIELDS:
            mine = getattr(self, name)
            mine[better] = getattr(other, name)[better]

    def to(self, device: str) -> SupportBest:
        """Return the same on a device."""
        return SupportBest(*(getattr(self, n).to(device) for n in _FIELDS))

    def copy(self) -> SupportBest:
        """Return an independent copy."""
        return SupportBest(*(getattr(self, n).clone() for n in _FIELDS))


@dataclass
class SearchLog:
    """What happened in a search, for the result's warnings.

    Parameters
    ----------
    n_factored, n_float64 : int
        Candidates times alphas that were factorised, and how many of them needed float64.
    failed : list of (candidate, alpha)
        Pairs that even float64 could not factorise; they took no part.
    n_scored : int
        Candidates times alphas times targets that were scored.
    n_candidates_done : int
        Candidates that were searched before the time ran out.
    n_candidates : int
        Candidates that there were.
    """

    n_factored: int = 0
    n_float64: int = 0
    failed: list[tuple[int, int]] = field(default_factory=list)
    n_scored: int = 0
    n_candidates_done: int = 0
    n_candidates: int = 0

    @property
    def is_stopped(self) -> bool:
        """Whether the time ran out before all candidates were searched."""
        return self.n_candidates_done < self.n_candidates

    def add(self, other: SearchLog) -> None:
        """Count what another log counted."""
        self.n_factored += other.n_factored
        self.n_float64 += other.n_float64
        self.failed += other.failed
        self.n_scored += other.n_scored
        self.n_candidates_done += other.n_candidates_done
        self.n_candidates += other.n_candidates
