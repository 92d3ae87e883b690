"""Turn clips on disk into opened ones, and tell which cannot be used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from brainsim.compute.threads import map_in_order
from brainsim.core.errors import BrainsimError, InputFileError
from brainsim.core.progress import Progress

if TYPE_CHECKING:
    from brainsim.stimuli import Stimulus
    from brainsim.training.clip_folders import Clip
    from brainsim.training.windows import Source

# Names that a warning lists before it says how many more there are.
N_LISTED = 5


@dataclass(frozen=True)
class OpenedClips:
    """The clips that can be used.

    Parameters
    ----------
    sources : dict of str to tuple of Source
        By part: "train", "val", "test".
    actions : tuple of str
        In order of their number.
    warnings : tuple of str
        Which were left out, and why.
    """

    sources: dict[str, tuple[Source, ...]]
    actions: tuple[str, ...]
    warnings: tuple[str, ...]


def open_clips(clips: Sequence[Clip], *, n_frames: int, n_workers: int, progress: Progress) -> OpenedClips:
    """Read the frame times of every clip; clips that are damaged or too short for one window are left out, and told.

    Raises
    ------
    InputFileError
        None of those to train on can be used.
    """
    from brainsim.training.clip_folders import PARTS
    from brainsim.training.windows import Source

    actions = tuple(sorted({clip.action for clip in clips}))
    sources: dict[str, list[Source]] = {part: [] for part in PARTS}
    damaged: list[str] = []
    short: list[str] = []
    with progress.task("reading clips", total=len(clips), unit="clips") as task:
        for clip, found in map_in_order(_open, clips, n_workers=n_workers):
            task.advance()
            if isinstance(found, BrainsimError):
                damaged.append(f"{clip.name} ({found.message})")
            elif found.n_frames < n_frames:
                short.append(f"{clip.name} ({found.n_frames} frames)")
            else:
                sources[clip.part].append(Source(found, actions.index(clip.action), clip.name))
    warnings = _tell(damaged, "cannot be read") + _tell(short, f"are shorter than {n_frames} frames")
    if not sources["train"] or not sources["val"] + sources["test"]:
        raise InputFileError(
            f"{len(sources['train'])} clips to train on and {len(sources['val']) + len(sources['test'])} held out can "
            f"be used; at least 1 of each is needed. {' '.join(warnings)}".rstrip()
        )
    return OpenedClips({part: tuple(own) for part, own in sources.items()}, actions, warnings)


def _open(clip: Clip) -> Stimulus | BrainsimError:
    from brainsim.stimuli import open_stimulus

    try:
        return open_stimulus(clip.path)
    except BrainsimError as error:
        return error


def _tell(names: list[str], what: str) -> tuple[str, ...]:
    if not names:
        return ()
    more = f" and {len(names) - N_LISTED} more" if len(names) > N_LISTED else ""
    return (f"{len(names)} clips {what} and are left out: {', '.join(names[:N_LISTED])}{more}.",)
