"""Turn BIDS file names, of today's and of old fMRIPrep, into entities."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from brainsim.datasets.runs import plain_number

VOLUME_ENDINGS = (".nii.gz", ".nii")
SERIES_ENDINGS = (".dtseries.nii", ".func.gii", ".L.func.gii", ".R.func.gii")
# What tells one measured run from another; the others (space, desc, res, den) tell versions of the same run apart.
RUN_ENTITIES = ("sub", "ses", "task", "acq", "ce", "rec", "dir", "run", "echo", "part")
# fMRIPrep before 1.2 put these words at the end of a name, after the suffix: …_bold_space-T1w_preproc.nii.gz
_OLD_ENDINGS = {
    "preproc": ("bold", "preproc"),
    "brainmask": ("mask", "brain"),
    "confounds": ("timeseries", "confounds"),
}
_ENTITY = re.compile(r"^([A-Za-z]+)-([A-Za-z0-9+.]+)$")


@dataclass(frozen=True)
class BidsName:
    """A file name, read.

    Parameters
    ----------
    path : Path
        The file.
    entities : mapping of str to str
        {"sub": "01", "task": "movie", "run": "1", …}; run numbers without zeros in front.
    suffix : str
        "bold", "timeseries", "dseg", …
    ending : str
        ".nii.gz", ".json", …
    """

    path: Path
    entities: Mapping[str, str]
    suffix: str
    ending: str

    @property
    def run_entities(self) -> tuple[tuple[str, str], ...]:
        """The entities that tell runs apart, in order."""
        return tuple((name, self.entities[name]) for name in RUN_ENTITIES if name in self.entities)


def parse_name(path: Path) -> BidsName:
    """Read a file name; one without entities gives none, and its stem as suffix."""
    stem, dot, ending = path.name.partition(".")
    entities: dict[str, str] = {}
    words: list[str] = []
    for part in stem.split("_"):
        match = _ENTITY.match(part)
        if match and words in ([], ["bold"]):  # old fMRIPrep has entities after the suffix
            entities.setdefault(match[1], match[2])
        else:
            words.append(part)
    suffix = "_".join(words)
    if suffix in ("bold_preproc", "bold_confounds", "bold_brainmask"):
        suffix, desc = _OLD_ENDINGS[words[-1]]
        entities["desc"] = entities.pop("variant", desc)
    elif suffix == "regressors":
        suffix = "timeseries"
    if "run" in entities:
        entities["run"] = plain_number(entities["run"])
    return BidsName(path, entities, suffix, dot + ending)
