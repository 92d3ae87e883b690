"""Turn the words that fit and partition share into checked options."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import ceil
from typing import Any, TypedDict

import numpy as np

from brainsim.commands.haemodynamics import haemodynamics, read_haemodynamics
from brainsim.core.checks import check_choice, check_count, check_number
from brainsim.core.errors import DeviceError, InvalidValueError

# Half-decades around the mean diagonal of a kernel: from nearly noiseless responses to pure noise.
DEFAULT_ALPHAS = tuple(float(f"{a:.4g}") for a in np.logspace(-2, 5, 15))

CV_KINDS = ("runs", "groups", "blocks")

# The last of them draws no mixtures and has no grid of penalties.
DESCENT = "himalaya-hyper-gradient"
SOLVERS = ("loro", "himalaya-random-search", DESCENT)

BACKENDS = ("auto", "torch", "torch_cuda", "numpy")

_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


class EncodingWords(TypedDict, total=False):
    """The keyword arguments that fit and partition share; see `EncodingOptions`."""

    models: Sequence[str]
    bands: str
    delays: Sequence[int] | None
    hrf: str
    scaling: str
    cv: str
    n_folds: int
    n_blocks: int
    gap: int
    nested: bool
    solver: str
    backend: str
    alphas: Sequence[float] | None
    n_candidates: int
    concentration: Sequence[float]
    refine: int
    n_nulls: int
    null_shift_s: float
    subjects: Sequence[str]
    rois: Sequence[str]
    device: str
    cluster: str
    n_workers: int
    cluster_options: Sequence[str]
    n_targets_batch: int
    time_budget: str | None
    seed: int


@dataclass(frozen=True)
class EncodingOptions:
    """How features are banded and weighed, how scores are cross-validated, and where that is computed.

    Parameters
    ----------
    models : sequence of str
        Globs over stored models or feature sets.
    bands : {"layer", "system", "family"}
        What gets a weight of its own: every layer, every model or every family.
    delays : sequence of int
        Delays of the features against the BOLD, in TRs; 1,2,3,4 by default.
    hrf : {"fir", "spm", "glover"}
        How features become responses: at several delays, whose weights are the response; or convolved with SPM's or
        Glover's canonical response.
    scaling : {"zscore", "center"}
        Whether features are z-scored or only centred within runs.
    cv : {"runs", "groups", "blocks"}
        Leave one run out, or groups of whole runs (k-fold), or contiguous blocks (for data of one or two runs).
    n_folds : int
        Number of groups with --cv groups.
    n_blocks : int
        Number of blocks with --cv blocks.
    gap : int
        TRs on either side of a block that training leaves out, with --cv blocks.
    nested : bool
        Choose hyperparameters by inner folds that never see the test fold. Without, they are chosen by the test score
        itself, which is faster and too good.
    solver : {"loro", "himalaya-random-search", "himalaya-hyper-gradient"}
        brainsim's exact one-factorisation solver, or one of himalaya's (slower; the references).
    backend : {"auto", "torch", "torch_cuda", "numpy"}
        Backend of himalaya's solvers; by the device by default. Not with loro.
    alphas : sequence of float
        Ridge penalties to try, in units of the kernels' mean diagonal; half-decades from 0.01 to 100,000 by default.
    n_candidates : int
        Band mixtures to try; 0, the default, is enough for these bands and families.
    concentration : sequence of float
        Dirichlet concentrations of the random mixtures within families, used in turn.
    refine : int
        Rounds of further mixtures around the best ones. With loro.
    n_nulls : int
        Null data sets per target, for p and q values: runs of BOLD shifted circularly against the features. With loro.
    null_shift_s : float
        Least shift of a run in a null data set, beyond the BOLD's autocorrelation.
    subjects : sequence of str
        Subjects to take; all by default.
    rois : sequence of str
        Globs over ROIs or streams: only their targets are fitted; all by default.
    device : str
        auto, cpu, cuda or cuda:N.
    cluster : {"threads", "local", "slurm", "cuda"}
        Where tasks run: this process, processes of this machine, SLURM jobs, or one process per GPU.
    n_workers : int
        Workers of the cluster; 0 takes what there is.
    cluster_options : sequence of str
        Further words for the cluster as KEY=VALUE: memory_per_worker, cores_per_worker, queue, account, walltime,
        directives, prologue, interface, log_directory, dashboard_port; by default none.
    n_targets_batch : int
        Targets of one task.
    time_budget : str
        Stop searching after this long with the best so far ("90s", "10m", "2h"); no limit by default. Tasks share it,
        and score a mixture per subset at the least. Layer curves and nulls, where asked for, come after it. With loro.
    seed : int
        Seed of the random mixtures and shifts.
    """

    models: Sequence[str] = ("*",)
    bands: str = "system"
    delays: Sequence[int] | None = None
    hrf: str = "fir"
    scaling: str = "zscore"
    cv: str = "runs"
    n_folds: int = 4
    n_blocks: int = 5
    gap: int = 0
    nested: bool = True
    solver: str = "loro"
    backend: str = "auto"
    alphas: Sequence[float] | None = None
    n_candidates: int = 0
    concentration: Sequence[float] = (0.1, 1.0)
    refine: int = 0
    n_nulls: int = 0
    null_shift_s: float = 20.0
    subjects: Sequence[str] = ()
    rois: Sequence[str] = ()
    device: str = "auto"
    cluster: str = "threads"
    n_workers: int = 0
    cluster_options: Sequence[str] = ()
    n_targets_batch: int = 8192
    time_budget: str | None = None
    seed: int = 0

    @property
    def grid(self) -> tuple[float, ...]:
        """The alphas."""
        return DEFAULT_ALPHAS if self.alphas is None else tuple(self.alphas)

    @property
    def budget_s(self) -> float | None:
        """The time budget in seconds."""
        return None if self.time_budget is None else read_seconds("--time-budget", self.time_budget)

    def null_shift_trs(self, tr_s: float) -> int:
        """Return the least shift of a null data set in TRs."""
        return max(1, ceil(self.null_shift_s / tr_s))

    @property
    def himalaya_backend(self) -> str:
        """The backend that himalaya's solvers use."""
        if self.backend != "auto":
            return self.backend
        return "torch_cuda" if self.device.startswith("cuda") else "torch"

    def record(self, *, dataset: str) -> dict[str, Any]:
        """Return what can change a number, for keys and pages."""
        folds: dict[str, Any] = {}
        if self.cv == "blocks":
            folds = {"n_blocks": self.n_blocks, "gap_trs": self.gap}
        if self.cv == "groups":
            folds = {"n_folds": self.n_folds}
        asked: dict[str, Any] = {"rois": list(self.rois)} if self.rois else {}
        if self.n_nulls:
            asked |= {"n_nulls": self.n_nulls, "null_shift_s": self.null_shift_s}
        if self.refine:
            # What is proposed depends on the targets that are searched together.
            asked |= {"refine": self.refine, "n_targets_batch": self.n_targets_batch}
        if self.time_budget is not None:
            asked["time_budget_s"] = self.budget_s
        return {
            "dataset": dataset,
            "models": list(self.models),
            "bands": self.bands,
            **haemodynamics(self.hrf, self.delays or ()),
            "scaling": self.scaling,
            "cv": self.cv,
            **folds,
            "nested": self.nested,
            "solver": self.solver,
            "alphas": list(self.grid),
            "n_candidates": self.n_candidates,
            "concentration": list(self.concentration),
            **asked,
            "seed": self.seed,
        }


def read_options(words: Mapping[str, Any], *, verb: str) -> EncodingOptions:
    """Check the shared words of a verb, as far as that can be done without the store.

    Raises
    ------
    TypeError
        A word that is none.
    InvalidValueError, UnknownNameError, DeviceError
        A value that is not allowed.
    """
    known = {field.name for field in fields(EncodingOptions)}
    for word in words:
        if word not in known:
            raise TypeError(f"{verb}() got an unexpected keyword argument {word!r}")
    options = EncodingOptions(**words)
    options = replace(
        options,
        models=tuple(options.models),
        subjects=tuple(options.subjects),
        rois=tuple(options.rois),
        cluster_options=tuple(options.cluster_options),
        delays=read_haemodynamics(options.hrf, options.delays),
        concentration=plain_numbers(options.concentration),
        alphas=None if options.alphas is None else plain_numbers(options.alphas),
    )
    _check(options)
    # Elsewhere "auto" is what the worker finds.
    return replace(options, device=resolve_device(options.device)) if options.cluster == "threads" else options


def _check(options: EncodingOptions) -> None:
    check_choice("--cv", options.cv, CV_KINDS)
    check_choice("--solver", options.solver, SOLVERS)
    check_choice("--backend", options.backend, BACKENDS)
    check_count("--n-candidates", options.n_candidates, at_least=0)
    check_count("--n-targets-batch", options.n_targets_batch)
    check_count("--refine", options.refine, at_least=0)
    check_count("--n-workers", options.n_workers, at_least=0)
    check_count("--nulls", options.n_nulls, at_least=0)
    check_number("--null-shift-s", options.null_shift_s, above=0, unit="s")
    if not options.concentration:
        raise InvalidValueError(
            "--concentration is empty; it must be numbers above 0.", hint="leave it out for 0.1 and 1 in turn"
        )
    for level in options.concentration:
        check_number("--concentration", level, above=0)
    _check_alphas(options.grid)
    if not options.models:
        raise InvalidValueError(
            "the list of models is empty; it must name at least one.",
            hint="leave it out to take all that the store holds",
        )
    _check_folding(options)
    if options.solver != "loro":
        _check_himalaya(options)
    elif options.backend != "auto":
        raise InvalidValueError(
            f"--backend is {options.backend}, and goes with himalaya's solvers; --solver is loro.",
            hint="--device says where loro computes",
        )
    if options.budget_s is not None:
        check_number("--time-budget", options.budget_s, above=0, unit="s")


def _check_folding(options: EncodingOptions) -> None:
    """Refuse what another way of cross-validation would need, rather than leave it out."""
    default = EncodingOptions()
    for flag, field, cv in (
        ("--folds", "n_folds", "groups"),
        ("--blocks", "n_blocks", "blocks"),
        ("--gap", "gap", "blocks"),
    ):
        given = getattr(options, field)
        if options.cv != cv and given != getattr(default, field):
            raise InvalidValueError(f"{flag} is {given}, and goes with --cv {cv}; --cv is {options.cv}.")


def _check_himalaya(options: EncodingOptions) -> None:
    """Refuse what himalaya's solvers cannot do, rather than leave it out."""
    asked = {
        "--no-nested": not options.nested,
        "--refine": options.refine > 0,
        "--nulls": options.n_nulls > 0,
        "--time-budget": options.time_budget is not None,
    }
    for flag, is_asked in asked.items():
        if is_asked:
            raise InvalidValueError(f"{flag} goes with --solver loro; --solver is {options.solver}.")
    if options.solver == DESCENT and (options.n_candidates or options.concentration != EncodingOptions().concentration):
        flag = "--n-candidates" if options.n_candidates else "--concentration"
        raise InvalidValueError(f"{flag} goes with a search; --solver {DESCENT} descends, and draws no mixtures.")
    if options.himalaya_backend == "torch_cuda" and options.cluster in ("threads", "local"):
        resolve_device("cuda")


def _check_alphas(alphas: Sequence[float]) -> None:
    if not alphas or any(not np.isfinite(a) or a <= 0 for a in alphas) or list(alphas) != sorted(set(alphas)):
        raise InvalidValueError(
            f"--alphas is {','.join(f'{a:g}' for a in alphas) or 'empty'}; it must be increasing numbers above 0.",
            hint="leave --alphas out for half-decades from 0.01 to 100,000",
        )


def plain_numbers(values: Sequence[float]) -> tuple[Any, ...]:
    """Return numbers as Python's own, whatever array or range they came in: keys are made of them."""
    return tuple(np.asarray(values).tolist())


def read_seconds(name: str, text: str) -> float:
    """Return the seconds in "90s", "10m", "2h" or "1h30m".

    Raises
    ------
    InvalidValueError
        Any other text.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d)", text)
    if not parts or re.sub(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d)|\s", "", text):
        raise InvalidValueError(
            f"{name} is {text!r}; allowed are numbers with a unit: s, m, h or d.", hint=f"{name} 10m, or 1h30m"
        )
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def resolve_device(device: str) -> str:
    """Return the torch device for "auto", or check the one that was named."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = device.partition(":")
    check_choice("--device", kind, ("auto", "cpu", "cuda"))
    if device not in ("cpu", "cuda") and not (kind == "cuda" and number.isdecimal()):
        raise InvalidValueError(f"--device is {device!r}; allowed: auto, cpu, cuda, cuda:0, cuda:1, ….")
    n_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "cuda" and int(number or 0) >= n_devices:
        raise DeviceError(
            f"--device is {device}; torch sees {n_devices} CUDA devices here.", hint="brainsim doctor, or --device cpu"
        )
    return device
