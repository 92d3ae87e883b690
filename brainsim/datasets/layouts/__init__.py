"""Turn the names of public data sets into what is known of their runs: TOML files, one each."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

from brainsim.core.errors import AlignmentError
from brainsim.datasets.runs import RunSource
from brainsim.datasets.stimulus_map import Showing

_FOLDER = resources.files("brainsim.datasets.layouts")


@dataclass(frozen=True)
class KnownLayout:
    """What is known of a public data set.

    Parameters
    ----------
    name : str
        What --dataset calls it.
    task : str
        Pattern of the tasks that are taken.
    tr_s : float
        Seconds.
    n_volumes : tuple of int
        Of each run, from run-1 on.
    film : str
        What the runs show parts of.
    film_start_s, duration_s : tuple of float
        Where in the film each run's stimulus begins, and how long it is; seconds.
    """

    name: str
    task: str
    tr_s: float
    n_volumes: tuple[int, ...]
    film: str
    film_start_s: tuple[float, ...]
    duration_s: tuple[float, ...]

    def complete(self, showing: Showing, source: RunSource) -> Showing:
        """Return what was shown in a run with everything that is known of it.

        Raises
        ------
        AlignmentError
            A run that the data set does not have.
        """
        word = source.run.split("_")[-1].removeprefix("run-")
        if not word.isdecimal() or not 1 <= int(word) <= len(self.n_volumes):
            raise AlignmentError(
                f"{source.where} is {source.run} of {source.subject}; {self.name} has run-1 to "
                f"run-{len(self.n_volumes)}.",
                hint="--dataset with another name takes runs as they are",
            )
        index = int(word) - 1
        return replace(
            showing,
            tr_s=self.tr_s,
            n_volumes=self.n_volumes[index],
            duration_s=self.duration_s[index] - showing.offset_s,
            film=self.film,
            film_start_s=self.film_start_s[index],
        )


def list_layouts() -> tuple[str, ...]:
    """Return the names of the data sets that are known."""
    return tuple(sorted(p.name.removesuffix(".toml") for p in _FOLDER.iterdir() if p.name.endswith(".toml")))


def find_layout(dataset: str) -> KnownLayout | None:
    """Return what is known of a data set; None where nothing is."""
    if dataset not in list_layouts():
        return None
    values: dict[str, Any] = tomllib.loads((_FOLDER / f"{dataset}.toml").read_text(encoding="utf-8"))
    return KnownLayout(
        name=dataset,
        task=values["task"],
        tr_s=values["tr_s"],
        n_volumes=tuple(values["n_volumes"]),
        film=values["film"],
        film_start_s=tuple(frame / values["fps_hz"] for frame in values["start_frame"]),
        duration_s=tuple(values["duration_s"]),
    )
