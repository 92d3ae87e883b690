"""Turn what a user says of the time of imported rows into a window per row, checked against the stimulus."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainsim.core.checks import check_number
from brainsim.core.errors import AlignmentError, InputFileError, InvalidValueError
from brainsim.core.ordering import natural_order, stimulus_order
from brainsim.core.provenance import digest

if TYPE_CHECKING:
    import numpy as np

    from brainsim.features.foreign import ForeignArray
    from brainsim.store import Store


def read_times(
    n_rows: int, step_s: float | None, start_s: float, times: Path | None, *, per_stimulus: bool
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return each row's window, float64 (n_rows, 2) in s, and what the key says of it."""
    import numpy as np

    given = [word for word, is_given in (("--step-s", step_s is not None), ("--times", times is not None),
                                         ("--per-stimulus", per_stimulus)) if is_given]  # fmt: skip
    if len(given) != 1:
        raise InvalidValueError(
            f"{' and '.join(given) or 'nothing'} says when rows were; exactly one of --step-s, --times and "
            "--per-stimulus must.",
            hint="--step-s TR where each row is a TR; --per-stimulus where each row is an image",
        )
    if times is not None:
        if start_s:
            raise InvalidValueError(
                f"--start-s is {start_s:g} s, but --times {times} says when each row was; --start-s is for --step-s.",
                hint="leave --start-s out, or add it to the times",
            )
        window_s = read_windows(times, n_rows)
        return window_s, {"times": digest([list(map(float, row)) for row in window_s])}
    step = 1.0 if step_s is None else check_number("--step-s", step_s, above=0, unit="s")
    check_number("--start-s", start_s, unit="s")
    begin_s = start_s + step * np.arange(n_rows)
    clock = {"step_s": step, "start_s": start_s, **({"per_stimulus": True} if per_stimulus else {})}
    return np.stack([begin_s, start_s + step * np.arange(1, n_rows + 1)], axis=1), clock


def read_windows(path: Path, n_rows: int) -> np.ndarray:
    """Read a table of times, one row per row of the features: when its window ends, or begins and ends.

    Returns
    -------
    ndarray of float64, (n_rows, 2)
        In seconds; where only ends are given, a window begins where the last one ended.
    """
    import numpy as np

    if not path.is_file():
        raise InputFileError(f"no file of times at {path}.")
    try:
        if path.suffix.lower() == ".npy":
            table = np.asarray(np.load(path, allow_pickle=False), np.float64)
        else:
            separator = {".csv": ",", ".tsv": "\t"}.get(path.suffix.lower())
            table = np.loadtxt(path, delimiter=separator, ndmin=2)
    except (ValueError, OSError) as error:
        raise InputFileError(f"{path} is no table of times ({str(error).partition(chr(10))[0]}).") from error
    table = table.reshape(len(table), -1)
    if table.shape[0] != n_rows or table.shape[1] not in (1, 2):
        raise AlignmentError(
            f"{path} has {table.shape[0]} x {table.shape[1]} numbers; the features have {n_rows} rows, so {n_rows} x 1 "
            f"(ends) or {n_rows} x 2 (begins and ends) are wanted, in seconds."
        )
    end = table[:, -1]
    if not np.isfinite(table).all() or (np.diff(end) <= 0).any():
        raise InvalidValueError(f"times in {path} are not finite and increasing.")
    if table.shape[1] == 2:
        if (table[:, 0] > end).any():
            raise InvalidValueError(f"a window in {path} ends before it begins.")
        return table
    first = end[0] - (end[1] - end[0]) if n_rows > 1 else end[0]
    return np.stack([np.concatenate([[first], end[:-1]]), end], axis=1)


def check_stimulus(store: Store | None, stimulus: str, window_s: np.ndarray) -> tuple[str | None, list[str]]:
    """Return the digest of the stimulus where the store has it, and what is odd about the rows' times beside it."""
    node = f"stimuli/{stimulus}"
    if store is None or not store.has(node):
        return None, []
    info = store.info(node)
    duration_s, last_s = float(info.attributes["duration_s"]), float(window_s[-1, 1])
    step_s = float(window_s[-1, 1] - window_s[-1, 0])
    if abs(last_s - duration_s) <= max(step_s, 1.0):
        return str(info.key["stimulus"]), []
    return str(info.key["stimulus"]), [
        f"rows end at {last_s:.1f} s; {stimulus} lasts {duration_s:.1f} s: check --step-s and --stimulus."
    ]


def was_reordered(names: Sequence[str] | None) -> bool:
    """Return whether rows of these names come in the plain order of names, and would not in natural order."""
    return names is not None and list(names) == sorted(names, key=stimulus_order) != sorted(names, key=natural_order)


def tell_order(arrays: Iterable[ForeignArray]) -> tuple[str, ...]:
    """Return a warning where rows of stimuli do not come in the order that a folder of them has."""
    for array in arrays:
        stems = [Path(name).stem for name in array.row_names or ()]
        ordered = sorted(stems, key=stimulus_order)
        if stems != ordered:
            row = next(row for row, (own, other) in enumerate(zip(stems, ordered, strict=True)) if own != other)
            return (
                f"row {row} of {array.name} is {stems[row]!r}; in a folder of the images, as extract and betas have "
                f"them, it would be {ordered[row]!r}. Compare such rows only with rows of the same order.",
            )
    return ()
