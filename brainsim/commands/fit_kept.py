"""Turn what a user wants to keep of the fitted models into checked words, and refuse what would not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from brainsim.commands.encoding_options import DESCENT
from brainsim.core.checks import check_choice
from brainsim.core.errors import InvalidValueError, StoreError
from brainsim.core.resources import disk_free_bytes, format_bytes, memory_free_bytes

if TYPE_CHECKING:
    from brainsim.commands.encoding_options import EncodingOptions
    from brainsim.commands.encoding_plan import EncodingPlan
    from brainsim.store import Store

# A task holds what it keeps twice, while it is written; the rest of the memory is the search's.
MEMORY_SHARE = 0.25


def read_kept(keep: Sequence[str], options: EncodingOptions) -> tuple[str, ...]:
    """Check the words of --keep, and put them into the order of the table.

    Raises
    ------
    UnknownNameError, InvalidValueError
        A word that is none, or a solver that has no such models.
    """
    from brainsim.encoding.chosen import KEEPABLE

    words = (keep,) if isinstance(keep, str) else tuple(keep)
    for word in words:
        check_choice("--keep", word, list(KEEPABLE))
    if words and options.solver == DESCENT:
        raise InvalidValueError(f"--keep is {','.join(words)}; --solver {options.solver} keeps scores alone.")
    return tuple(word for word in KEEPABLE if word in words)


def check_kept_size(store: Store, plan: EncodingPlan, kept: Sequence[str]) -> None:
    """Refuse to keep what the disk or a task's memory cannot hold, before anything is computed.

    Raises
    ------
    StoreError, InvalidValueError
        With the size, and what makes it smaller.
    """
    from brainsim.commands.encoding_plan import make_folds
    from brainsim.encoding.chosen import kept_bytes

    if not kept:
        return
    on_disk = in_task = per_target = 0
    for group in plan.groups:
        n_folds, n_bands = len(make_folds(plan.options, group.fit_layout)), len(plan.bands)
        size = kept_bytes(kept, n_rows=group.fit_layout.n_rows, n_folds=n_folds, n_bands=n_bands, n_targets=1)
        n_targets = sum(int(subject.targets.attributes["n_targets"]) for subject in group.subjects)
        on_disk += size * n_targets
        in_task = max(in_task, size * min(plan.options.n_targets_batch, n_targets))
        per_target = max(per_target, size)
    free = disk_free_bytes(store.path)
    if 2 * on_disk > free:  # once in the tasks' nodes, once in the result
        raise StoreError(
            f"--keep {','.join(kept)} takes {format_bytes(2 * on_disk)} while it is written; {format_bytes(free)} are "
            f"free at {store.path}.",
            hint="--rois or --subjects take fewer targets, --bands family fewer bands",
        )
    room = int(MEMORY_SHARE * memory_free_bytes())
    if in_task > room:
        raise InvalidValueError(
            f"--keep {','.join(kept)} takes {format_bytes(in_task)} of a task's memory; {format_bytes(room)} are to "
            "spare.",
            hint=f"--n-targets-batch {max(1, room // per_target)}",
        )
