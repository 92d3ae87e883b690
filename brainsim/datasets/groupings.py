"""Turn a grouping of ROIs into streams: the user's mapping or file, or one of those that ship in groupings/."""

from __future__ import annotations

import csv
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from brainsim.core.checks import check_file
from brainsim.core.errors import InputFileError, InvalidValueError, UnknownNameError
from brainsim.core.registry import suggest

STREAMS = ("early", "ventral", "lateral", "dorsal")
_FOLDER = resources.files("brainsim.datasets") / "groupings"
_EXAMPLE = '--stream early=V1v,V1d --stream ventral=hV4, or a TOML file with lines such as early = ["V1v", "V1d"]'
# What atlases put around an area's name: lh.V1v, L_V1_ROI, V1v_right …
_SIDE_FIRST = re.compile(r"^(?:lh|rh|left|right|l|r)[._ -]+", re.IGNORECASE)
_SIDE_LAST = re.compile(r"[._ -]+(?:lh|rh|left|right|l|r)$", re.IGNORECASE)
_ROI_LAST = re.compile(r"[._ -]+(?:roi|rois)$", re.IGNORECASE)


@dataclass(frozen=True)
class Grouping:
    """Streams as unions of ROIs.

    Parameters
    ----------
    name : str
        A file's name, a shipped grouping's, or "given".
    streams : mapping of str to tuple of str
        Stream -> ROI names.
    complete : bool
        Whether every ROI named must be there: true of a user's own grouping, not of a shipped one.
    """

    name: str
    streams: Mapping[str, tuple[str, ...]]
    complete: bool = True


def list_groupings() -> tuple[str, ...]:
    """Return the names of the groupings that ship."""
    return tuple(sorted(p.name.removesuffix(".toml") for p in _FOLDER.iterdir() if p.name.endswith(".toml")))


def read_grouping(streams: Mapping[str, Sequence[str]] | Path | str) -> Grouping:
    """Read a grouping.

    Parameters
    ----------
    streams : mapping, path or str
        Stream -> ROI names; a TOML or JSON file of that (at the top or under `streams`); a TSV with the columns stream
        and roi; or the name of a grouping that ships.

    Raises
    ------
    InputFileError
        No such file and no such grouping, or a damaged file.
    InvalidValueError
        Something else than lists of names.
    """
    if isinstance(streams, Mapping):
        return Grouping("given", _check_streams(streams, "the grouping given"))
    if str(streams) in list_groupings():
        text = (_FOLDER / f"{streams}.toml").read_text(encoding="utf-8")
        return Grouping(str(streams), _check_streams(tomllib.loads(text)["streams"], str(streams)), complete=False)
    shipped = ", ".join(list_groupings())
    path = check_file(streams, what="stream grouping", hint=f"groupings that ship: {shipped}")
    try:
        text = path.read_text(encoding="utf-8-sig")
        found = _read_rows(path, text) if path.suffix == ".tsv" else _read_mapping(path, text)
    except (ValueError, OSError) as error:  # TOML, JSON and Unicode errors are ValueErrors
        if isinstance(error, InputFileError | InvalidValueError):
            raise
        raise InputFileError(f"the stream grouping {path} cannot be read: {error}.", hint=_EXAMPLE) from error
    return Grouping(path.name, _check_streams(found, str(path)))


def match_streams(grouping: Grouping, roi_names: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Say which of the ROIs there are make up each stream.

    A name matches exactly, or without side and suffix: V1v stands for lh.V1v and V1v_R, V1 for L_V1_ROI.

    Parameters
    ----------
    grouping : Grouping
    roi_names : sequence of str
        Names of the label image.

    Returns
    -------
    streams : dict of str to list of str
        Stream -> ROI names as the label image has them; at least one each.
    lacking : list of str
        ROIs of the grouping that the label image has not.

    Raises
    ------
    UnknownNameError
        A ROI of a user's grouping that is not there, or a grouping none of whose ROIs is there.
    """
    plain: dict[str, list[str]] = {}
    for name in roi_names:
        plain.setdefault(plain_roi_name(name), []).append(name)
    found: dict[str, list[str]] = {}
    lacking: list[str] = []
    for stream, rois in grouping.streams.items():
        for roi in rois:
            matches = [roi] if roi in roi_names else plain.get(roi, [])
            if matches:
                found.setdefault(stream, []).extend(m for m in matches if m not in found.get(stream, []))
            elif grouping.complete:
                raise UnknownNameError(
                    f"stream {stream!r} wants ROI {roi!r}, which is not in the label image; "
                    f"{suggest(roi, list(roi_names))}",
                    hint="name the ROIs as the label image's TSV does",
                )
            else:
                lacking.append(roi)
    if not found:
        raise UnknownNameError(
            f"none of the ROIs of grouping {grouping.name!r} is in the label image, which has "
            f"{', '.join(list(roi_names)[:12])}{', …' if len(roi_names) > 12 else ''}.",
            hint=f"--stream FILE.toml with your own unions; groupings that ship: {', '.join(list_groupings())}",
        )
    return found, lacking


def plain_roi_name(name: str) -> str:
    """Return an area's name without hemisphere and without "_ROI"."""
    bare = _SIDE_FIRST.sub("", _SIDE_LAST.sub("", _ROI_LAST.sub("", name.strip())))
    return bare or name


def fitting_grouping(roi_names: Sequence[str]) -> str | None:
    """Return the first grouping that ships and knows at least half of the ROIs, if any does."""
    plain = {plain_roi_name(name) for name in roi_names}
    for name in list_groupings():
        known = {roi for rois in read_grouping(name).streams.values() for roi in rois}
        if plain and len(plain & known) * 2 >= len(plain):
            return name
    return None


def _read_mapping(path: Path, text: str) -> Mapping[str, Any]:
    value = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    if not isinstance(value, Mapping):
        raise InvalidValueError(f"{path} holds a {type(value).__name__}; stream = [names] is wanted.", hint=_EXAMPLE)
    return value["streams"] if isinstance(value.get("streams"), Mapping) else value


def _read_rows(path: Path, text: str) -> Mapping[str, Any]:
    rows = list(csv.DictReader(text.splitlines(), delimiter="\t"))
    if not rows or not {"stream", "roi"} <= set(rows[0]):
        raise InvalidValueError(
            f"{path} has not the columns stream and roi; one row per ROI of a stream is wanted.", hint=_EXAMPLE
        )
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["stream"].strip(), []).append(row["roi"].strip())
    return found


def _check_streams(streams: Mapping[str, Any], where: str) -> dict[str, tuple[str, ...]]:
    if not streams:
        raise InvalidValueError(f"{where} has no streams; stream = [ROI names] is wanted.", hint=_EXAMPLE)
    for stream, rois in streams.items():
        if isinstance(rois, str) or not isinstance(rois, Sequence) or not rois:
            raise InvalidValueError(
                f"stream {stream!r} of {where} is {rois!r}; a list of ROI names is wanted.", hint=_EXAMPLE
            )
        if not all(isinstance(roi, str) for roi in rois):
            raise InvalidValueError(
                f"stream {stream!r} of {where} holds names that are not text: {list(rois)!r}.", hint=_EXAMPLE
            )
    return {str(stream): tuple(rois) for stream, rois in streams.items()}
