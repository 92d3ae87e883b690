"""Turn "file:my.py:make_model" into a row: a network, and what it is shown, from a file that the user names."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import lru_cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from brainsim.core.checks import check_count, check_number
from brainsim.core.errors import InputFileError, InvalidValueError
from brainsim.core.provenance import digest, digest_file
from brainsim.core.registry import unknown_name
from brainsim.models.rows import InputSpec, ModelRow, ProtocolSpec, WeightsSource

if TYPE_CHECKING:
    from brainsim.models.external.layouts import Tokens
    from brainsim.models.network import Network

EXAMPLE = "return model, {'input': {'size': (224, 224), 'n_frames': 1, 'mean': (0.485, …), 'std': (0.229, …)}}"
# What a declaration may hold, and what the input in it must hold.
DECLARED = ("input", "taps", "n_class_tokens", "token_grid", "channels_last", "family", "kind", "trained_to_give",
            "training_set", "citation", "licence")  # fmt: skip
REQUIRED = ("size", "n_frames", "mean", "std")
REQUIRED_OF_CLIPS = ("frame_stride", "layout")


def stamp(rest: str) -> str:
    """Return the digest of the file: another content is another model."""
    path, _ = _split(rest)
    return f"{path.resolve()}:{digest_file(path)}"


def describe(rest: str) -> ModelRow:
    """Return the row of a network that a function in the user's file makes.

    Raises
    ------
    InputFileError
        No such file, or one that cannot be imported.
    InvalidValueError
        A function that returns something else, or a declaration that lacks what cannot be known.
    """
    from brainsim.models.external.describing import describe_network
    from brainsim.models.network import digest_state

    path, function = _split(rest)
    made = _make(path, function)
    told = made.declared
    row = ModelRow(
        name=f"file:{path.name}:{function}",
        family=_text(told, "family", path.stem),
        kind=_text(told, "kind", f"{function} of {path.name}"),
        taps=("?",),
        protocols={"default": ProtocolSpec(_read_input(told, rest))},
        load=f"{__name__}:load",
        weights=WeightsSource("own", digest_state(made.module), (f"a state dict of {function}'s network",)),
        options={"file": made.digest, "function": function},
        address=f"file:{path.resolve()}:{function}",
        trained_to_give=_text(told, "trained_to_give", ""),
        training_set=_text(told, "training_set", ""),
        citation=_text(told, "citation", ""),
        licence=_text(told, "licence", ""),
    )
    tokens = _read_tokens(told, rest)
    return describe_network(
        row, lambda: _build(path, function), lambda network: tokens, taps=tuple(map(str, told.get("taps", ())))
    )


def load(row: ModelRow, protocol: str) -> Network:
    """Call the user's function anew."""
    from dataclasses import replace

    path, function = _split(row.address.partition(":")[2])
    return replace(_build(path, function), layouts=row.modules)


# Modules that user files imported from beside themselves.
_IMPORTED_BESIDE: set[str] = set()


@dataclass(frozen=True)
class _Made:
    module: Any  # nn.Module
    declared: dict[str, Any]
    digest: str


def _build(path: Path, function: str) -> Network:
    from brainsim.models.network import Network

    return Network(_make(path, function).module)


def _split(rest: str) -> tuple[Path, str]:
    file, _, function = rest.rpartition(":")
    path = Path(file).expanduser()
    if not file or not function.isidentifier() or path.suffix != ".py":
        raise InvalidValueError(
            f"model file is {rest!r}; it must be FILE.py:FUNCTION.", hint="--model-file my.py:make_model"
        )
    if not path.is_file():
        raise InputFileError(f"no model file at {path}.", hint="--model-file FILE.py:FUNCTION")
    if not all(c.isalnum() or c in "_-." for c in path.name) or path.name.startswith("."):
        raise InvalidValueError(
            f"model file is {path.name!r}; its name goes into the store and must be made of letters, digits and . _ -"
        )
    return path, function


def _make(path: Path, function: str) -> _Made:
    """Import the file and call the function, on the CPU, with torch's generator at a fixed seed."""
    import torch
    from torch import nn

    # Weights that the file draws are then the same every time, and tensors lie where they can be read.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"), _beside(path):
        torch.manual_seed(0)
        module, code = _import_file(path.resolve(), digest_file(path))
        own = [n for n, item in vars(module).items() if getattr(item, "__module__", "") == module.__name__]
        if not callable(getattr(module, function, None)):
            raise unknown_name(f"function of {path}", function, own)
        torch.manual_seed(0)
        made = _call(path, f"{function}()", getattr(module, function))
    network, declared = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(network, nn.Module):
        raise InvalidValueError(
            f"{function} of {path} returns {type(network).__name__}; a torch.nn.Module and a dict of declarations are "
            "wanted.",
            hint=EXAMPLE,
        )
    if not isinstance(declared, Mapping):
        raise InvalidValueError(
            f"{function} of {path} returns a network without declarations, so that its input is unknown.", hint=EXAMPLE
        )
    for name in declared:
        if name not in DECLARED:
            raise unknown_name(f"declaration of {function} in {path}", str(name), list(DECLARED))
    return _Made(network, dict(declared), code)


@lru_cache(maxsize=16)
def _import_file(path: Path, content: str) -> tuple[ModuleType, str]:
    """Import a file once per content; return it with the digest of its code and of what it imports from beside it."""
    name = f"brainsim_user_{path.stem}_{content[:12]}"
    for older in _IMPORTED_BESIDE:  # may have changed since
        sys.modules.pop(older, None)
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputFileError(f"{path} cannot be imported as a Python module.")
    module = module_from_spec(spec)
    before = set(sys.modules)
    sys.modules[name] = module  # where dataclasses and pickles look
    loader = spec.loader
    try:
        _call(path, "the import", lambda: loader.exec_module(module))
    except BaseException:
        del sys.modules[name]
        raise
    new = {n: Path(str(getattr(sys.modules[n], "__file__", None) or "")) for n in set(sys.modules) - before - {name}}
    beside = {n: file for n, file in new.items() if file.is_file() and file.resolve().is_relative_to(path.parent)}
    _IMPORTED_BESIDE.update(beside)
    parts = [content, *sorted(f"{n}:{digest_file(file)}" for n, file in beside.items())]
    return module, content if len(parts) == 1 else digest(parts)


@contextmanager
def _beside(path: Path) -> Iterator[None]:
    """Let a file import what lies beside it, for the length of a `with` block."""
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _call(path: Path, what: str, function: Any) -> Any:
    """Call the user's code; an error of its own becomes ours, with the line it came from."""
    try:
        return function()
    except Exception as error:  # whatever the user's code raises
        line, trace = "", error.__traceback__
        while trace is not None:
            if Path(trace.tb_frame.f_code.co_filename) == path.resolve():
                line = f", line {trace.tb_lineno}"
            trace = trace.tb_next
        reason = str(error).strip().partition("\n")[0]
        raise InputFileError(f"{what} of {path} failed ({type(error).__name__}{line}: {reason}).") from error


def _read_input(told: Mapping[str, Any], rest: str) -> InputSpec:
    given = told.get("input")
    if isinstance(given, InputSpec):
        return given
    if not isinstance(given, Mapping):
        raise InvalidValueError(f"file:{rest} declares no input; a dict or an InputSpec is wanted.", hint=EXAMPLE)
    known = [f.name for f in fields(InputSpec)]
    for name in given:
        if name not in known:
            raise unknown_name(f"word in the input of file:{rest}", str(name), known)
    required = REQUIRED + (REQUIRED_OF_CLIPS if given.get("n_frames", 1) != 1 else ())
    missing = [name for name in required if name not in given]
    if missing:
        raise InvalidValueError(
            f"the input of file:{rest} does not tell {', '.join(missing)}; it needs {', '.join(required)}.",
            hint=EXAMPLE,
        )
    values: dict[str, Any] = {n: tuple(v) if isinstance(v, list | tuple) else v for n, v in given.items()}
    for name, length in (("size", 2), ("mean", 3), ("std", 3)):
        found = values[name] if isinstance(values[name], tuple) else ()
        if len(found) != length or not all(isinstance(n, int | float) for n in found):
            raise InvalidValueError(
                f"the input of file:{rest} has {name} {given[name]!r}; {length} numbers are wanted."
            )
    for name in ("n_frames", "frame_stride"):
        check_count(f"{name} in the input of file:{rest}", values.get(name, 1))
    for name in ("divisor", "sampling_hz"):
        if values.get(name) is not None:
            check_number(f"{name} in the input of file:{rest}", values[name], above=0)
    return InputSpec(**values)


def _read_tokens(told: Mapping[str, Any], rest: str) -> Tokens:
    from brainsim.models.external.layouts import Tokens

    grid = told.get("token_grid")
    if grid is not None and (len(grid) != 3 or not all(isinstance(n, int) for n in grid)):
        raise InvalidValueError(f"file:{rest} declares token_grid {grid!r}; (time, height, width) is wanted.")
    return Tokens(
        n_class_tokens=int(told.get("n_class_tokens", 0)),
        grid=None if grid is None else (grid[0], grid[1], grid[2]),
        channels_last=bool(told.get("channels_last", False)),
    )


def _text(told: Mapping[str, Any], name: str, default: str) -> str:
    return str(told.get(name) or default)
