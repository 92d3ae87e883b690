"""Turn the best candidate of every support into the best of every subset of groups, in a few passes over the lattice.

In a subset every candidate competes whose support lies inside it. Merging the supports of each subset one by one takes
3^m merges for all subsets of m groups. The best of a subset is also the best of itself and of the subsets that lack one
group, so m passes over the lattice do, one per group, with 2^(m-1) merges each (the zeta transform of "the greater of
two"). What is merged is one integer per fold and target, which holds a score above the number of the support that
reached it; the candidate's own scores are looked up in the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch

from brainsim.core.errors import InvalidValueError
from brainsim.encoding.best import SupportBest

# What the values of one tile of targets may take: 4,096 integers of each of 511 supports; larger tiles are slower.
TILE_BYTES = 16 * 2**20

# What the scores of the masks that are looked up at once may take.
BLOCK_BYTES = 128 * 2**20

_FIELDS = ("inner", "r2", "r", "candidate", "alpha")

# Low bits of an integer that hold the number of a support.
_LAST = 2**15 - 1


def charge(inner: torch.Tensor, n_groups: int, price: float) -> torch.Tensor:
    """Return what a candidate with `n_groups` groups competes by: ``R2 - price * n_groups * (1 - R2)``.

    Each group costs a share of what is left to explain. With no price the largest support wins a little too often, by
    chance, and is then a little worse on the test run: useless groups come out below zero.
    """
    return inner - price * n_groups * (1 - inner) if price else inner


def best_of_subsets(
    bests: Mapping[int, SupportBest], masks: Sequence[int], *, price: float = 0.0
) -> Iterator[tuple[int, SupportBest]]:
    """Let every candidate compete in each subset that contains its support.

    Parameters
    ----------
    bests : mapping of int to SupportBest
        From `search_supports`, by support.
    masks : sequence of int
        Subsets wanted.
    price : float
        What each group in a candidate's support costs (`charge`).

    Returns
    -------
    iterator of (mask, SupportBest)
        In the order of `masks`; besides `bests`, two bytes per mask, fold and target are held, and two buffers of
        bounded size. What candidates compete by never falls from a subset to one that contains it; of equals the
        support with the smaller mask wins.

    Raises
    ------
    InvalidValueError
        No candidate lies inside some subset, or there are more supports than can be numbered.
    """
    supports = sorted(bests)
    if len(supports) > _LAST + 1:
        raise InvalidValueError(
            f"{len(supports):,} different supports compete; at most {_LAST + 1:,} can.",
            hint="fewer --n-candidates, or merge families with --family NAME=GLOB,GLOB",
        )
    for mask in masks:
        if not any(support & mask == support for support in supports):
            raise InvalidValueError(f"no candidate lies inside subset {mask:b}.")
    return _look_up(bests, supports, list(masks), price)


def best_with_group(bests: Mapping[int, SupportBest], group: int, *, within: int, price: float = 0.0) -> SupportBest:
    """Return the best candidate that gives weight to one group and lies inside a subset.

    Parameters
    ----------
    bests : mapping of int to SupportBest
        From `search_supports`, by support.
    group : int
        Number of the group, from 0.
    within : int
        The subset, as a bit mask.
    price : float
        What each group in a candidate's support costs (`charge`).

    Raises
    ------
    InvalidValueError
        No candidate with that group lies inside the subset.
    """
    supports = [support for support in sorted(bests) if support >> group & 1 and support & within == support]
    if not supports:
        raise InvalidValueError(f"no candidate with group {group} lies inside subset {within:b}.")
    ((_, best),) = _look_up(bests, supports, [within], price)
    return best


def _look_up(
    bests: Mapping[int, SupportBest], supports: list[int], masks: list[int], price: float
) -> Iterator[tuple[int, SupportBest]]:
    """Yield the winner's scores of each mask, looked up for as many masks at once as `BLOCK_BYTES` hold."""
    if not masks:
        return
    shape = bests[supports[0]].inner.shape
    columns = {name: [getattr(bests[support], name).reshape(-1) for support in supports] for name in _FIELDS}
    winners = _winners(bests, supports, masks, price)
    n_columns = winners.shape[1]
    tile = max(1, TILE_BYTES // (4 * len(supports)))
    n_block = max(1, BLOCK_BYTES // (4 * len(_FIELDS) * max(n_columns, 1)))
    for first in range(0, len(masks), n_block):
        block = slice(first, first + n_block)
        found = {name: torch.empty_like(winners[block], dtype=columns[name][0].dtype) for name in _FIELDS}
        for start in range(0, n_columns, tile):
            part = slice(start, start + tile)
            ranks = winners[block, part].long()
            for name in _FIELDS:
                there = torch.stack([values[part] for values in columns[name]])  # (n_supports, n_columns of the tile)
                found[name][:, part] = there.gather(0, ranks)
        for index, mask in enumerate(masks[block]):
            yield mask, SupportBest(*(found[name][index].reshape(shape).clone() for name in _FIELDS))


def _winners(bests: Mapping[int, SupportBest], supports: list[int], masks: list[int], price: float) -> torch.Tensor:
    """Return the place in `supports` of the best support of each mask, int16 (n_masks, n_folds * n_targets)."""
    n_groups = max(mask.bit_length() for mask in masks)
    inside = [[rank for rank, support in enumerate(supports) if support & mask == support] for mask in masks]
    # Few subsets of many groups are sooner done one by one.
    is_lattice = n_groups * 2 ** (n_groups - 1) < sum(len(ranks) for ranks in inside)
    example = bests[supports[0]].inner
    n_columns = example.numel()
    winners = torch.empty((len(masks), n_columns), dtype=torch.int16, device=example.device)
    n_rows = 2**n_groups if is_lattice else len(supports)
    tile = max(1, TILE_BYTES // (8 * n_rows))
    for start in range(0, n_columns, tile):
        stop = min(start + tile, n_columns)
        keys = torch.full(
            (n_rows, stop - start), torch.iinfo(torch.int64).min, dtype=torch.int64, device=example.device
        )
        for rank, support in enumerate(supports):
            row = support if is_lattice else rank
            if row < n_rows:  # a support beyond all masks competes nowhere
                scores = charge(bests[support].inner.reshape(-1)[start:stop], support.bit_count(), price)
                keys[row] = _keys(scores, rank)
        if is_lattice:
            _spread(keys, n_groups)
        for index, mask in enumerate(masks):
            best = keys[mask] if is_lattice else keys[inside[index]].amax(dim=0)
            winners[index, start:stop] = (_LAST - (best & _LAST)).to(torch.int16)
    return winners


def _keys(scores: torch.Tensor, rank: int) -> torch.Tensor:
    """Return int64 that order as the scores do and, of equal scores, put the smaller rank above.

    The bits of a float32 order as integers where it is positive, and the wrong way round where it is negative.
    """
    scores = torch.nan_to_num(scores, nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf) + 0.0  # -0 becomes 0
    bits = scores.view(torch.int32)
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long() * (_LAST + 1) + (_LAST - rank)


def _spread(keys: torch.Tensor, n_groups: int) -> None:
    """Let every row take over what is greater in the rows of its subsets; rows are numbered by mask."""
    for group in range(n_groups):
        halves = keys.view(2 ** (n_groups - 1 - group), 2, 2**group, -1)
        torch.maximum(halves[:, 1], halves[:, 0], out=halves[:, 1])
