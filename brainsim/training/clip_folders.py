"""Turn a folder of videos into clips with their action and their part of the split."""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from brainsim.core.checks import check_file, check_folder
from brainsim.core.errors import InputFileError, InvalidValueError
from brainsim.core.seeds import named_rng
from brainsim.stimuli.arrays import IMAGE_SUFFIXES

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts")
PARTS = ("train", "val", "test")
# Folders that name a part of the split, as Kinetics and ImageNet are laid out.
PART_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
# HAA-500 has 20 videos of each action: 16 to train, 1 to validate, 3 to test (Chung et al. 2021, arXiv:2009.05224).
HAA_N_CLIPS, HAA_N_TRAIN, HAA_N_VAL = 20, 16, 1
_NUMBERED = re.compile(r"^(?P<action>.+?)_(?P<number>\d+)$")


@dataclass(frozen=True)
class Clip:
    """One video file, or one folder of frames.

    Parameters
    ----------
    path : Path
        File or folder.
    name : str
        Its path below the folder of videos, without the file's ending.
    action : str
        What it shows: the name of its folder, or its own name without the number.
    part : str
        "train", "val" or "test"; empty before the split.
    """

    path: Path
    name: str
    action: str
    part: str = ""


def find_clips(folder: Path | str) -> tuple[Clip, ...]:
    """Find the clips below a folder, in order of name.

    Three layouts are known, with or without folders `train`, `val` and `test` above them: one folder of videos (or of
    folders of frames) per action; numbered videos `<action>_<NNN>.mp4`; numbered folders of frames `<action>_<NNN>/`,
    as HAA-500 has them. Actions are sorted by name, so that their numbers are the same on every machine.

    Raises
    ------
    InputFileError
        No such folder, or one without clips.
    """
    folder = check_folder(folder, what="folder of videos")
    entries = _entries(folder)
    parts = {entry.name.lower(): entry for entry in entries}
    if entries and set(parts) <= set(PART_FOLDERS):
        clips = [
            replace(clip, name=f"{entry.name}/{clip.name}", part=PART_FOLDERS[name])
            for name, entry in parts.items()
            for clip in _find_below(entry)
        ]
    else:
        clips = _find_below(folder)
    if not clips:
        raise InputFileError(
            f"{folder} holds no videos; one folder of clips per action is wanted, as files "
            f"({', '.join(VIDEO_SUFFIXES[:4])}, …) or as folders of frames.",
            hint="a folder such as videos/baseball_pitch/001.mp4, videos/archery/001.mp4: --videos videos",
        )
    _check_distinct(clips)
    return tuple(sorted(clips, key=lambda clip: clip.name))


def split_clips(
    clips: Sequence[Clip],
    *,
    split: Path | str | None = None,
    val_share: float = 0.2,
    seed: int = 0,
    by_action: bool = True,
) -> tuple[tuple[Clip, ...], str]:
    """Give every clip its part: from a file, from the folders, from HAA-500's numbers, or drawn.

    Parameters
    ----------
    clips : sequence of Clip
        From `find_clips`.
    split : Path, optional
        Table (tab or comma) with the columns `clip` and `split` (train, val, test).
    val_share : float
        Share of each action's clips that is held out where neither the file nor the folders nor the numbers tell; at
        least one clip of every action that has two.
    seed : int
        Of the draw.
    by_action : bool
        Draw within each action; else from all clips alike.

    Returns
    -------
    clips : tuple of Clip
        With their parts.
    source : str
        Where the parts come from, in words.

    Raises
    ------
    InvalidValueError
        A file that leaves clips out, names others, or leaves nothing to train on or to hold out.
    """
    if split is not None:
        parted, source = _split_by_file(clips, Path(split)), f"the file {split}"
    elif all(clip.part for clip in clips):
        parted, source = list(clips), "the folders train, val and test"
    elif _is_haa(clips):
        parted, source = _split_haa(clips), "HAA-500's numbers: 000-015 train, 016 val, 017-019 test"
    else:
        parted = _draw_split(clips, val_share, seed, by_action=by_action)
        source = f"{val_share:.0%} of {'each action' if by_action else 'all clips'} drawn with seed {seed}"
    counts = Counter(clip.part for clip in parted)
    if not counts["train"] or not counts["val"] + counts["test"]:
        raise InvalidValueError(
            f"the split ({source}) has {counts['train']} clips to train on and {counts['val'] + counts['test']} held "
            "out; at least 1 of each is needed.",
            hint="--split FILE with the columns clip and split",
        )
    return tuple(parted), source


def _entries(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _is_clip(entry: Path) -> bool:
    """Return whether an entry is a video file or a folder that holds images."""
    if entry.is_file():
        return entry.suffix.lower() in VIDEO_SUFFIXES
    return any(child.suffix.lower() in IMAGE_SUFFIXES for child in entry.iterdir())


def _stem(entry: Path) -> str:
    return entry.name if entry.is_dir() else entry.stem


def _find_below(folder: Path) -> list[Clip]:
    clips: list[Clip] = []
    for entry in _entries(folder):
        if _is_clip(entry):
            numbered = _NUMBERED.match(_stem(entry))
            clips.append(Clip(entry, _stem(entry), numbered["action"] if numbered else _stem(entry)))
        elif entry.is_dir():
            inner = [child for child in _entries(entry) if _is_clip(child)]
            clips += [Clip(child, f"{entry.name}/{_stem(child)}", entry.name) for child in inner]
    return clips


def _check_distinct(clips: Sequence[Clip]) -> None:
    counts = Counter(clip.name for clip in clips)
    twice = [name for name, n in counts.items() if n > 1]
    if twice:
        raise InputFileError(f"two clips are called {twice[0]} (files of the same name with different endings).")


def _by_action(clips: Sequence[Clip]) -> dict[str, list[Clip]]:
    grouped: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        grouped[clip.action].append(clip)
    return grouped


def _is_haa(clips: Sequence[Clip]) -> bool:
    """Return whether every action has the clips 000 to 019."""
    wanted = list(range(HAA_N_CLIPS))
    return all(sorted(_number(clip) for clip in own) == wanted for own in _by_action(clips).values())


def _number(clip: Clip) -> int:
    numbered = _NUMBERED.match(clip.name.rpartition("/")[2])
    return int(numbered["number"]) if numbered else -1


def _split_haa(clips: Sequence[Clip]) -> list[Clip]:
    def part(number: int) -> str:
        if number < HAA_N_TRAIN:
            return "train"
        return "val" if number < HAA_N_TRAIN + HAA_N_VAL else "test"

    return [replace(clip, part=part(_number(clip))) for clip in clips]


def _draw_split(clips: Sequence[Clip], val_share: float, seed: int, *, by_action: bool) -> list[Clip]:
    held_out: set[str] = set()
    groups = _by_action(clips) if by_action else {"": list(clips)}
    for action, own in groups.items():
        # A clip per action at least, so that every action is tested; an action of one clip is only learned.
        n_held = min(max(round(val_share * len(own)), 1), len(own) - 1)
        order = named_rng(seed, "split", action).permutation(len(own))
        held_out |= {own[i].name for i in order[:n_held]}
    return [replace(clip, part="val" if clip.name in held_out else "train") for clip in clips]


def _split_by_file(clips: Sequence[Clip], path: Path) -> list[Clip]:
    check_file(path, what="table of the split")
    text = path.read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(text.splitlines(), delimiter="\t" if "\t" in text.partition("\n")[0] else ","))
    if not rows or not {"clip", "split"} <= set(rows[0]):
        found = ", ".join(rows[0]) if rows else "nothing"
        raise InvalidValueError(f"{path} has the columns {found}; `clip` and `split` are wanted.")
    parts = {str(row["clip"]): str(row["split"]).strip().lower() for row in rows}
    wrong = sorted({part for part in parts.values() if part not in PART_FOLDERS})
    if wrong:
        raise InvalidValueError(f"{path} has the split {wrong[0]!r}; {', '.join(PARTS)} are allowed.")
    known = {clip.name: clip for clip in clips} | {clip.path.name: clip for clip in clips}
    known |= {_stem(clip.path): clip for clip in clips}
    unknown = [name for name in parts if name not in known]
    if unknown:
        raise InvalidValueError(f"{path} names {len(unknown)} clips that are not there: {', '.join(unknown[:5])}.")
    given = {known[name].name: PART_FOLDERS[part] for name, part in parts.items()}
    return [replace(clip, part=given[clip.name]) for clip in clips if clip.name in given]
