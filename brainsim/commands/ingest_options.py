"""Turn the words of ingest into checked options: which runs, how they are cleaned, aligned, and where targets lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from brainsim.core.checks import check_choice, check_number
from brainsim.core.errors import InvalidValueError

if TYPE_CHECKING:
    from brainsim.datasets.cleaning import CleaningOptions
    from brainsim.datasets.runs import Selection

# What targets can be selected by: word -> array of the targets' node.
MEASURES = {"explainable": "explainable_variance", "reliability": "reliability"}
OVERLAPS = ("trim", "keep")
REPEATS = ("mean", "keep")


@dataclass(frozen=True)
class IngestOptions:
    """Options of ingest beside source, dataset and store.

    Parameters
    ----------
    format : str
        "auto", "bids", "nifti", "surface" (CIFTI and GIFTI), "table", "gallant" (shortclips, vim-2), "betas", or one
        that a plug-in brings.
    subjects : sequence of str
        Subjects wanted, with or without "sub-"; all by default.
    session : str, optional
        Session wanted, or a pattern.
    task : str, optional
        Task wanted, where there are several; a pattern such as "MOVIE*" takes several as runs.
    run : str, optional
        Run wanted, or a pattern such as "[1-4]".
    space : str, optional
        Space wanted, where there are several; "native" for images that name none.
    desc : str, optional
        Version of the runs wanted (desc-); preprocessed ones by default.
    tr_s : float, optional
        Repetition time where files do not say it; must agree where they do.
    rois : path, optional
        Label image in the space of the runs: NIfTI with a TSV of names (index, name) beside it, .dlabel.nii, or one of
        a pair of .label.gii or .annot files; for tables a TSV with a column roi, one row per target.
    streams : mapping or path, optional
        Streams as unions of ROIs: a TOML, JSON or TSV file, or a grouping that ships (wang2015-four, wang2015-study,
        glasser2016-four); without it every ROI is a stream.
    mask : path, optional
        Image whose places above 0 are targets; without it the ROIs' places, else all that change over time. Of tables
        every column is a target.
    resample : bool
        Resample mask and labels to the grid of the runs (nearest neighbour) where they are on another one.
    select : str
        "all", or which targets stay: "explainable>0.1" or "reliability>0.2", which need runs that were repeated.
    confounds : str
        "none", "motion6", "motion24", "acompcor5", or columns of the confounds table with commas between.
    high_pass_s : float or None
        Longest period that is kept; None for no high-pass.
    detrend : bool
        Regress out a straight line.
    smooth_mm : float, optional
        Full width at half maximum of a Gaussian over volumes.
    scrub : str
        TRs that fits must not see, with commas between: "fd>0.5" (framewise displacement above 0.5 mm), and columns of
        the confounds table that are 1 there ("motion_outlier*"). They keep their place in time.
    drop_volumes : int
        Volumes left out at the beginning of each run.
    standardize : str
        "zscore", "psc" (percent signal change) or "none" (centred), per run.
    stimulus_map : path, optional
        TSV with the columns run, stimulus, onset_s (into the run), offset_s (into the stimulus), and if you like
        duration_s, tr_s, n_volumes, film, film_start_s; without it each run's stimulus is called like the run and began
        with it.
    events : str, optional
        Column of each run's BIDS events table that names its stimulus, in place of a map: "stim_file".
    overlap : str
        What happens with seconds of a film that two runs both show: "trim" divides their TRs between the runs, "keep"
        leaves them in both, where they leak across cross-validation.
    repeats : str
        Runs of a subject that showed the same at the same times: "mean" averages them, "keep" keeps each as a run, and
        fits leave them out together.
    between_subjects : bool
        Keep how well the mean of the other subjects predicts each one's targets, where all lie in one space and saw the
        same.
    """

    format: str = "auto"
    subjects: Sequence[str] = ()
    session: str | None = None
    task: str | None = None
    run: str | None = None
    space: str | None = None
    desc: str | None = None
    tr_s: float | None = None
    rois: Path | None = None
    streams: Mapping[str, Sequence[str]] | Path | None = None
    mask: Path | None = None
    resample: bool = False
    select: str = "all"
    confounds: str = "none"
    high_pass_s: float | None = 128.0
    detrend: bool = False
    smooth_mm: float | None = None
    scrub: str = "none"
    drop_volumes: int = 0
    standardize: str = "zscore"
    stimulus_map: Path | None = None
    events: str | None = None
    overlap: str = "trim"
    repeats: str = "mean"
    between_subjects: bool = False

    def make_cleaning(self) -> CleaningOptions:
        """Return how runs are cleaned."""
        from brainsim.datasets.cleaning import CleaningOptions
        from brainsim.datasets.confounds import parse_strategy
        from brainsim.datasets.scrubbing import parse_scrub

        return CleaningOptions(
            confounds=parse_strategy(self.confounds),
            high_pass_s=self.high_pass_s,
            drop_volumes=self.drop_volumes,
            standardize=self.standardize,
            detrend=self.detrend,
            smooth_mm=self.smooth_mm,
            scrub=parse_scrub(self.scrub),
        )

    def make_selection(self, *, default_task: str | None) -> Selection:
        """Return which runs are wanted."""
        from brainsim.datasets.runs import Selection

        return Selection(
            subjects=tuple(self.subjects),
            task=self.task,
            default_task=default_task,
            space=self.space,
            session=self.session,
            run=self.run,
            desc=self.desc,
        )

    def __post_init__(self) -> None:
        check_choice("overlap", self.overlap, OVERLAPS, hint="--overlap trim")
        check_choice("repeats", self.repeats, REPEATS, hint="--repeats mean")
        if self.tr_s is not None:
            check_number("tr_s", self.tr_s, above=0, unit="s", hint="--tr-s 2")
        if self.events is not None and self.stimulus_map is not None:
            raise InvalidValueError(
                f"both events ({self.events}) and a stimulus map ({self.stimulus_map}) are given; one is wanted.",
                hint="leave one of them out",
            )


def parse_select(select: str) -> tuple[str, float] | None:
    """Return the array and the threshold of a word such as "explainable>0.1"; None for all.

    Raises
    ------
    InvalidValueError
        Another word, or no number.
    """
    if select == "all":
        return None
    word, _, text = select.partition(">")
    try:
        threshold = float(text)
    except ValueError:
        threshold = float("nan")
    if word.strip() not in MEASURES or not abs(threshold) <= 1:
        raise InvalidValueError(
            f"select is {select!r}; all, or {' or '.join(f'{name}>NUMBER' for name in MEASURES)} with a number from "
            "-1 to 1 is wanted.",
            hint="--select 'explainable>0.1'",
        )
    return MEASURES[word.strip()], threshold
