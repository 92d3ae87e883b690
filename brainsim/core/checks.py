"""Turn a caller's values into checked ones, or into one sentence that says what is wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from brainsim.core.errors import InputFileError, InvalidValueError
from brainsim.core.registry import suggest


def check_choice(name: str, value: str, allowed: Sequence[str], *, hint: str | None = None) -> str:
    """Return `value` if it is one of `allowed`."""
    if value not in allowed:
        raise InvalidValueError(f"{name} is {value!r}; {suggest(str(value), list(allowed))}", hint=hint)
    return value


def check_number(
    name: str,
    value: float,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    unit: str = "",
    hint: str | None = None,
) -> float:
    """Return `value` if it is finite and inside the bounds."""
    bounds = [
        f"above {above:g}" if above is not None else "",
        f"at least {at_least:g}" if at_least is not None else "",
        f"at most {at_most:g}" if at_most is not None else "",
    ]
    allowed = " and ".join(b for b in bounds if b) or "finite"
    wrong = (
        not math.isfinite(value)
        or (above is not None and value <= above)
        or (at_least is not None and value < at_least)
        or (at_most is not None and value > at_most)
    )
    if wrong:
        tail = f" {unit}" if unit else ""
        raise InvalidValueError(f"{name} is {value:g}{tail}; it must be {allowed}{tail}.", hint=hint)
    return value


def check_count(name: str, value: int, *, at_least: int = 1, hint: str | None = None) -> int:
    """Return `value` if it is a whole number of at least `at_least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise InvalidValueError(f"{name} is {value!r}; it must be a whole number of at least {at_least}.", hint=hint)
    return value


def check_file(path: Path | str, *, what: str = "file", hint: str | None = None) -> Path:
    """Return `path` if a file lies there."""
    path = Path(path)
    if path.is_symlink() and not path.exists():
        raise InputFileError(
            f"{path} is a link to {path.readlink()}, which is not there.", hint=f"datalad get {path} (git annex get)"
        )
    if not path.exists():
        raise InputFileError(f"no {what} at {path}.", hint=hint)
    if path.is_dir():
        raise InputFileError(f"{path} is a folder; a {what} is wanted.", hint=hint)
    return path


def check_folder(path: Path | str, *, what: str = "folder", hint: str | None = None) -> Path:
    """Return `path` if a folder lies there."""
    path = Path(path)
    if not path.exists():
        raise InputFileError(f"no {what} at {path}.", hint=hint)
    if not path.is_dir():
        raise InputFileError(f"{path} is a file; a {what} is wanted.", hint=hint)
    return path


def check_node_name(name: str, *, what: str = "name") -> str:
    """Return `name` if it can be one segment of a store path: letters, digits and . _ - @ + : signs."""
    ok = bool(name) and not name.startswith(".") and all(c.isalnum() or c in "._-@+:" for c in name)
    if not ok:
        raise InvalidValueError(
            f"{what} is {name!r}; it must be made of letters, digits and . _ - @ + : and not start with a dot."
        )
    return name
