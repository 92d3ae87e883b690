"""Turn a data folder into a study file that `brainsim run` understands, with the options that matter as comments."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from brainsim.core.checks import check_folder
from brainsim.core.errors import InputFileError, InvalidValueError

# Where weights come from that are fetched when they are needed.
LIBRARIES = ("torchvision", "timm", "transformers")


@dataclass(frozen=True)
class InitSummary:
    """What was found, and where the study file lies.

    Parameters
    ----------
    study : str
        The file that was written.
    stimuli : tuple of str
        Names of the stimuli found.
    datasets : tuple of dict
        One row per dataset: name, format, source, n_subjects, n_runs.
    steps : tuple of str
        What `brainsim run` would do.
    next : str
        The command to type next.
    warnings : tuple of str
        What is missing or must be chosen before it can be run.
    """

    study: str
    stimuli: tuple[str, ...]
    datasets: tuple[dict[str, object], ...]
    steps: tuple[str, ...]
    next: str
    warnings: tuple[str, ...]


def init(folder: str | Path, *, out: str | Path = "study.toml", title: str | None = None) -> InitSummary:
    """Look into a data folder and write a study file with what is there.

    Movies, arrays of frames and folders of images become the stimuli, BIDS trees, NIfTI files and arrays the datasets;
    no movie is decoded and no scan is read. The file has a fit, a partition, an RSA and a report, and the options that
    matter as comments with their defaults. It is yours to edit; one that is there already is never overwritten.

    Parameters
    ----------
    folder : path
        The data folder.
    out : path
        The study file; paths in it are relative to its folder.
    title : str, optional
        Title of the study; by default the data folder's name.

    Returns
    -------
    InitSummary

    Raises
    ------
    InputFileError
        No such folder, nothing in it that a study could be made of, or a place that cannot be written.
    InvalidValueError
        A study file that is there already.
    """
    from brainsim.commands.models import models_list
    from brainsim.commands.study_file import read_study
    from brainsim.commands.study_found import look_into
    from brainsim.commands.study_text import write_text

    data = check_folder(folder, what="data folder")
    path = Path(out)
    if path.exists():
        raise _is_there(path)
    found = look_into(data)
    if not found.stimuli and not found.scans:
        raise InputFileError(
            f"{data} holds neither movies, arrays of frames nor folders of images, and no scans.",
            hint="brainsim init FOLDER, where FOLDER holds the movies and the BIDS tree",
        )
    rows = models_list().models
    families: dict[str, list[str]] = {}
    for row in rows:
        families.setdefault(row["family"], []).append(row["name"])
    systems = {
        "ready": [row["name"] for row in rows if row["weights"] in LIBRARIES],
        "file": [row["name"] for row in rows if row["weights"] == "file"],
        "families": [f"{family}: {', '.join(names)}" for family, names in families.items()],
    }
    text = write_text(found, folder=path.parent, title=title or data.resolve().name, systems=systems)
    _write_new(path, text)
    return InitSummary(
        study=str(path),
        stimuli=tuple(name for group in found.stimuli for name in group.names),
        datasets=tuple(
            {
                "dataset": scans.name,
                "format": scans.kind,
                "source": str(scans.source[0]),
                "n_subjects": len(scans.subjects),
                "n_runs": len(scans.runs),
            }
            for scans in found.scans
        ),
        steps=tuple(step.name for step in read_study(path).steps),
        next=f"brainsim run {path} --dry-run",
        warnings=(
            *(() if found.stimuli else (f"{data} holds no movies; the study file has a place for them.",)),
            *(() if found.scans else (f"{data} holds no scans; the study file has a place for them.",)),
            *(f"{scans.name}: {scans.problem}" for scans in found.scans if scans.problem),
        ),
    )


def _write_new(path: Path, text: str) -> None:
    """Write a file that is not there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise _is_there(path) from None
    except OSError as error:
        raise InputFileError(f"{path} cannot be written: {error.strerror}.", hint="--out FILE") from None


def _is_there(path: Path) -> InvalidValueError:
    return InvalidValueError(f"{path} is there already, and is never overwritten.", hint="--out FILE names another")
