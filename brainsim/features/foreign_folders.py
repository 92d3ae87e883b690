"""Turn the folders that feature extractors write into one array per layer, checked against what their names say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from brainsim.core.checks import check_choice
from brainsim.core.errors import InputFileError
from brainsim.core.ordering import natural_order, stimulus_order
from brainsim.features.foreign import SUFFIXES, ForeignArray, check_numbers, npz_shapes, open_arrays, read_member

FILES, PER_STIMULUS, PER_LAYER, THINGSVISION = "files", "net2brain", "net2brain-layers", "thingsvision"
LAYOUTS = ("auto", FILES, PER_STIMULUS, PER_LAYER, THINGSVISION)

# What stimuli are called: it tells a folder with a file per stimulus from one with a file per layer.
STIMULUS_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".mp4", ".avi", ".mov", ".mkv", ".wav", ".mp3",
)  # fmt: skip
ROWS_IN_NAME = re.compile(r"_(\d+)-(\d+)$")


def open_sources(sources: Sequence[Path], *, layout: str = "auto") -> list[ForeignArray]:
    """Open files and folders as one array per layer.

    Parameters
    ----------
    sources : sequence of Path
        Files, each an array or several by name, or one folder.
    layout : {"auto", "files", "net2brain", "net2brain-layers", "thingsvision"}
        How a folder is laid out: array files side by side; a .npz per stimulus that holds the layers; a .npz per layer
        that holds the stimuli; or a folder per module with `features_FIRST-LAST` files. "auto" looks at the names.

    Raises
    ------
    InputFileError
        Nothing there, names that contradict what is in the files, layers of the same name.
    """
    check_choice("--layout", layout, LAYOUTS)
    found: list[ForeignArray] = []
    for source in sources:
        if source.is_dir():
            found += _open_folder(source, layout)
        elif source.is_file():
            found += open_arrays(source)
        else:
            raise InputFileError(f"no file or folder at {source}.")
    names = [array.name for array in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputFileError(
            f"{len(twice)} layers are there twice ({', '.join(twice[:5])}); each needs a name of its own.",
            hint="import them in commands of their own, with --names",
        )
    if not found:
        raise InputFileError(f"{', '.join(map(str, sources))} holds no arrays.")
    return found


def _open_folder(folder: Path, layout: str) -> list[ForeignArray]:
    if layout == "auto":
        layout = _guess(folder)
    if layout == THINGSVISION:
        return _open_thingsvision(folder)
    if layout == FILES:
        return [array for file in _array_files(folder) for array in open_arrays(file)]
    files = [file for file in _array_files(folder) if file.suffix == ".npz"]
    if not files:
        raise InputFileError(f"{folder} holds no .npz files; --layout {layout} is made of them.")
    return _open_per_stimulus(folder, files) if layout == PER_STIMULUS else _open_layers(files)


def _guess(folder: Path) -> str:
    files = _array_files(folder)
    inner = [file for sub in _folders(folder) for file in _array_files(sub)]
    if not files and not inner:
        raise InputFileError(f"{folder} holds no files of features ({', '.join(SUFFIXES)}).")
    if inner or any(_is_part(file) for file in files) or (folder / "file_names.txt").exists():
        return THINGSVISION
    if any(file.suffix != ".npz" for file in files):
        return FILES
    if any(file.stem.startswith("consolidated") for file in files):
        return PER_LAYER
    if all(_is_stimulus(file.stem) for file in files):
        return PER_STIMULUS
    if all(_is_stimulus(name) for name in npz_shapes(files[0])):
        return PER_LAYER
    raise InputFileError(
        f"the .npz files of {folder} may be one per stimulus or one per layer; their names do not tell.",
        hint=f"--layout {PER_STIMULUS} (each holds all layers of a stimulus), {PER_LAYER} or {FILES}",
    )


def _open_per_stimulus(folder: Path, files: Sequence[Path]) -> list[ForeignArray]:
    """Open a folder with a .npz per stimulus: rows in the order that a folder of the images has."""
    files = sorted(files, key=lambda file: stimulus_order(file.stem))
    shapes = {file: npz_shapes(file) for file in files}
    first = shapes[files[0]]
    for file, own in shapes.items():
        if own != first:
            what = sorted(set(own) ^ set(first)) or [name for name in own if own[name] != first[name]]
            raise InputFileError(
                f"{file} and {files[0]} differ in {', '.join(what[:4])}; all stimuli must have the same layers in the "
                "same shapes and types.",
                hint="features that vary in length must be pooled before",
            )
    names = tuple(file.stem for file in files)
    arrays = []
    for name, (shape, dtype) in first.items():
        # One stimulus is a batch of one there.
        row = shape[1:] if len(shape) > 1 and shape[0] == 1 else shape

        def blocks(name: str = name, row: tuple[int, ...] = row) -> Iterator[np.ndarray]:
            for file in files:
                yield read_member(file, name).reshape(1, *row)

        arrays.append(ForeignArray(name, (len(files), *row), dtype, tuple(files), blocks, names))
    return sorted(arrays, key=lambda array: natural_order(array.name))


def _open_layers(files: Sequence[Path]) -> list[ForeignArray]:
    """Open a .npz per layer; all must name the same stimuli, since a row is one stimulus in every layer."""
    arrays = [_open_per_layer(file) for file in files]
    first = set(arrays[0].row_names or ())
    for array, file in zip(arrays, files, strict=True):
        if odd := sorted(first ^ set(array.row_names or ()), key=natural_order):
            raise InputFileError(
                f"{file} and {files[0]} are not of the same stimuli: {', '.join(odd[:4])} are in one of them.",
                hint="extract those that are missing, or import each folder of stimuli on its own",
            )
    return arrays


def _open_per_layer(file: Path) -> ForeignArray:
    """Open a .npz that holds one layer's features of each stimulus."""
    shapes = npz_shapes(file)
    names = sorted(shapes, key=stimulus_order)
    if len(set(shapes.values())) != 1:
        raise InputFileError(
            f"{file} holds stimuli of {len(set(shapes.values()))} different shapes or types; all must be the same.",
            hint="features that vary in length must be pooled before",
        )
    shape, dtype = shapes[names[0]]
    row = shape[1:] if len(shape) > 1 and shape[0] == 1 else shape

    def blocks() -> Iterator[np.ndarray]:
        for name in names:
            yield read_member(file, name).reshape(1, *row)

    layer = file.stem.removeprefix("consolidated_")
    return ForeignArray(layer, (len(names), *row), dtype, (file,), blocks, tuple(names))


def _open_thingsvision(folder: Path) -> list[ForeignArray]:
    """Open a folder with `features` files, or with a folder of them per module, and perhaps a list of the images."""
    listed = folder / "file_names.txt"
    names = tuple(line.strip() for line in listed.read_text().splitlines() if line.strip()) if listed.exists() else None
    modules = {sub.name: _array_files(sub) for sub in sorted(_folders(folder), key=lambda sub: natural_order(sub.name))}
    modules = {name: files for name, files in modules.items() if files} or {folder.name: _array_files(folder)}
    arrays = []
    for module, files in modules.items():
        parts = [part for file in files for part in open_arrays(file)]
        if len(parts) != len(files) or not parts:
            raise InputFileError(f"a file of {module} in {folder} holds several arrays; one is wanted in each.")
        for part in parts:
            check_numbers(part)
        array = _join(module, parts) if len(parts) > 1 or _is_part(files[0]) else replace(parts[0], name=module)
        if names is not None and len(names) != array.shape[0]:
            raise InputFileError(
                f"{module} in {folder} has {array.shape[0]} rows; {listed.name} lists {len(names)} images.",
                hint="extract it again: rows that are missing cannot be told apart",
            )
        arrays.append(replace(array, row_names=names))
    return arrays


def _join(module: str, parts: Sequence[ForeignArray]) -> ForeignArray:
    """Join the parts of a module in the order of their rows, which must be those that their names say."""
    ranges = {}
    for part in parts:
        match = ROWS_IN_NAME.search(part.files[0].stem)
        if match is None:
            raise InputFileError(f"{part.files[0]} lies among parts and does not say which rows it holds.")
        ranges[part.files[0]] = (int(match[1]), int(match[2]))
    ordered = sorted(parts, key=lambda part: ranges[part.files[0]])
    at = 0
    for part in ordered:
        first, last = ranges[part.files[0]]
        if first != at or last - first != part.shape[0]:
            raise InputFileError(
                f"{part.files[0]} holds {part.shape[0]} rows and says {first} to {last}, where {at} is the next: rows "
                f"of {module} are missing or mislabelled.",
                hint="extract module by module: some versions of thingsvision keep the last batch alone of the others",
            )
        if part.shape[1:] != ordered[0].shape[1:] or part.dtype != ordered[0].dtype:
            raise InputFileError(f"{part.files[0]} is {part.shape[1:]} {part.dtype}; {ordered[0].files[0]} is not.")
        at = last

    def blocks() -> Iterator[np.ndarray]:
        for part in ordered:
            yield from part.blocks()

    files = tuple(file for part in ordered for file in part.files)
    return ForeignArray(module, (at, *ordered[0].shape[1:]), ordered[0].dtype, files, blocks)


def _folders(folder: Path) -> list[Path]:
    return [sub for sub in folder.iterdir() if sub.is_dir() and not sub.name.startswith(".")]


def _array_files(folder: Path) -> list[Path]:
    found = [f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES and f.is_file() and not f.name.startswith(".")]
    return sorted(found, key=lambda file: natural_order(file.stem))


def _is_part(file: Path) -> bool:
    return ROWS_IN_NAME.search(file.stem) is not None


def _is_stimulus(name: str) -> bool:
    return Path(name).suffix.lower() in STIMULUS_SUFFIXES
