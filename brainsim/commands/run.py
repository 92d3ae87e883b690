"""Turn a study file into what it asks for: every step that is missing, in the order of the flow, with one log."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brainsim.commands.study_file import Step, Study, read_study
from brainsim.commands.study_log import StudyLog, log_path
from brainsim.commands.study_plan import DONE, STALE, WRONG, StepPlan, fingerprint, plan_study
from brainsim.commands.study_schedule import FAILED, NOT_RUN, Outcome, run_schedule
from brainsim.commands.study_worker import StepBug, WorkerPool
from brainsim.core.checks import check_count
from brainsim.core.errors import BrainsimError
from brainsim.core.progress import SILENT, Progress
from brainsim.core.resources import disk_free_bytes


@dataclass(frozen=True)
class RunSummary:
    """What was done of a study, or would be done.

    Parameters
    ----------
    study, store, log : str
        The file, the store and the log.
    steps : tuple of dict
        One row per step, in the order of the flow. In a dry run: step, state ("done", "stale", "to do", "wrong"),
        n_nodes to be made, their bytes, estimated seconds, note. Else: step, state ("done", "failed", "not run"),
        n_written, n_reused, seconds, note. What is not known is None.
    n_bytes_free : int
        Free space on the store's disk.
    error : dict or None
        step, message, notes and hint of the first step that failed, is stale or is wrong, with the line of the file.
    warnings : tuple of str
        What the steps warned of.
    seconds : float
        Wall time.
    dry_run : bool
        Whether nothing was written.
    """

    study: str
    store: str
    log: str
    steps: tuple[dict[str, Any], ...]
    n_bytes_free: int
    error: dict[str, Any] | None
    warnings: tuple[str, ...]
    seconds: float
    dry_run: bool = False

    @property
    def ok(self) -> bool:
        """Whether every step is done, or can be."""
        return self.error is None


def run(
    study: str | Path,
    *,
    dry_run: bool = False,
    overwrite: bool = False,
    cluster: str | None = None,
    n_workers: int | None = None,
    cluster_options: Sequence[str] = (),
    n_parallel: int = 1,
    progress: Progress = SILENT,
) -> RunSummary:
    """Do what a study file asks for and is not done yet: extract, ingest, fit, partition, rsa, report.

    Every table of the file is one call of one verb. A step whose results are complete is not computed again, and a
    study that broke off goes on from there by the same command. A step that fails keeps back the steps that need it,
    and no others; a report waits for claims and accuracy, and does without those that fail. Each step is logged, with
    times, in STUDY.log.jsonl beside the file.

    Parameters
    ----------
    study : path
        The study file; `brainsim init` writes one. Paths in it are relative to its folder.
    dry_run : bool
        Show what is done, stale and to do, with estimated time and disk, and do nothing.
    overwrite : bool
        Make stale results anew: those of the study's names that were made with other options or data.
    cluster : {"threads", "local", "slurm", "cuda"}
        Where the tasks of every step run that can run elsewhere; by default what the file says, else this process.
    n_workers : int
        Workers of the cluster of each step; by default what the file says.
    cluster_options : sequence of str
        Further words for the cluster as KEY=VALUE, as for `brainsim fit`; by default what the file says.
    n_parallel : int
        Steps that compute on this machine at a time, each with its share of cores and memory. Steps whose tasks
        run in SLURM jobs go side by side anyway.
    progress : Progress
        Told of each step.

    Returns
    -------
    RunSummary
        `ok` is false where a step failed: the others went on.

    Raises
    ------
    InputFileError, InvalidValueError
        A file that cannot be read, or says what no verb understands, or options that no data could make right.
        Nothing has been done then.
    """
    started = time.monotonic()
    check_count("--n-parallel", n_parallel)
    overrides = {"cluster": cluster, "n_workers": n_workers, "cluster_options": list(cluster_options) or None}
    asked = read_study(study, overrides={key: value for key, value in overrides.items() if value is not None})
    log = StudyLog(log_path(asked.path))
    with WorkerPool(asked.folder, n_parallel=n_parallel) as workers:
        runner = _Runner(asked, workers, log, progress, overwrite=overwrite)
        plans = plan_study(asked, runner.dry_run, log, progress)
        if dry_run:
            rows, error = tuple(plan.row() for plan in plans.values()), _first_refusal(plans, asked, overwrite)
        else:
            _refuse_wrong(plans.values())
            rows, error = runner.run(plans, n_parallel=n_parallel)
    return RunSummary(
        study=str(study),
        store=str(asked.folder / asked.store),
        log=str(log.path),
        steps=rows,
        n_bytes_free=disk_free_bytes(asked.folder / asked.store),
        error=error,
        warnings=() if dry_run else tuple(dict.fromkeys(runner.warnings)),
        seconds=round(time.monotonic() - started, 3),
        dry_run=dry_run,
    )


class _Runner:
    """A study, who works for it, and who is told."""

    def __init__(
        self, study: Study, workers: WorkerPool, log: StudyLog, progress: Progress, *, overwrite: bool
    ) -> None:
        self.study, self.workers, self.log, self.progress = study, workers, log, progress
        self.overwrite = overwrite
        self.plans: Mapping[str, StepPlan] = {}
        self.warnings: list[str] = []
        self.undone: set[str] = set()

    def dry_run(self, step: Step, *, store: str, overwrite: bool) -> Mapping[str, Any]:
        """Ask a verb what it would do; its notes and warnings are told when it does it."""
        given: dict[str, Any] = {"store": store, "dry_run": True}
        if step.verb.can_overwrite:
            given["overwrite"] = overwrite
        summary: Mapping[str, Any] = self.workers.call(step.verb.verb.word, step.values, given, SILENT)
        return summary

    def run(
        self, plans: Mapping[str, StepPlan], *, n_parallel: int
    ) -> tuple[tuple[dict[str, Any], ...], dict[str, Any] | None]:
        """Run the steps; return a row for each of them, and the first error."""
        self.plans = plans
        todo = [plan.step for plan in plans.values() if not _is_settled(plan)]
        self.log.add("begin", study=str(self.study.path), n_steps=len(plans), n_done=len(plans) - len(todo))
        try:
            outcomes = run_schedule(todo, self._call, n_parallel=n_parallel, tell=self._tell, stop=self.workers.close)
        except KeyboardInterrupt:
            self.log.add("interrupted")
            raise
        rows = tuple(_outcome_row(plan, outcomes.get(name)) for name, plan in plans.items())
        failed = [(name, o.error) for name, o in outcomes.items() if o.error is not None]
        self.log.add("end", n_failed=len(failed), n_not_run=sum(o.state == NOT_RUN for o in outcomes.values()))
        if not failed:
            return rows, None
        name, error = failed[0]
        return rows, _describe(plans[name], error, self.study)

    def _call(self, step: Step) -> Outcome:
        given: dict[str, Any] = {"store": self.study.store}
        for name in step.after:
            if name in self.undone:
                self._warn(step, f"does without {name}, which was not done")
        # Analyses keep what was made with the same options; a source makes everything anew.
        wants_anew = step.verb.is_analysis or self.plans[step.name].state == STALE
        if step.verb.can_overwrite:
            given["overwrite"] = self.overwrite and wants_anew
        self.log.add("start", step=step.name, verb=step.verb.verb.word, values=dict(step.values), **given)
        started = time.monotonic()
        try:
            summary = self.workers.call(step.verb.verb.word, step.values, given, _Named(self.progress, step.name))
        except BrainsimError as error:
            return Outcome(FAILED, seconds=time.monotonic() - started, error=error)
        return Outcome(DONE, summary, seconds=time.monotonic() - started)

    def _tell(self, step: Step, outcome: Outcome) -> None:
        """Log how a step ended, and tell what the user must see."""
        self.undone |= {step.name} if outcome.state != DONE else set()
        seconds = round(outcome.seconds, 3)
        common: dict[str, Any] = {"step": step.name, "verb": step.verb.verb.word}
        if outcome.state == DONE:
            self.warnings += [f"{step.name}: {warning}" for warning in outcome.summary.get("warnings", ())]
            made = outcome.summary.get("page")
            extra = {"made": made, "made_from": fingerprint(self.study, step)} if made else {}
            n_written, n_reused = (outcome.summary.get(f"n_nodes_{word}") for word in ("written", "reused"))
            self.log.add("done", **common, seconds=seconds, n_written=n_written, n_reused=n_reused, **extra)
        elif outcome.state == NOT_RUN:
            self.log.add("not run", **common, because_of=list(outcome.because_of))
            self.progress.warn(f"{step.name} is not run: it needs {', '.join(outcome.because_of)}.")
        else:
            error = outcome.error
            assert error is not None
            trace = {"trace": error.trace} if isinstance(error, StepBug) else {}
            self.log.add("failed", **common, seconds=seconds, message=error.message, hint=error.hint, **trace)
            self.progress.warn(f"{step.name} failed: {error.message}")

    def _warn(self, step: Step, sentence: str) -> None:
        self.warnings.append(f"{step.name} {sentence}.")
        self.progress.warn(self.warnings[-1])


@dataclass(frozen=True)
class _Named:
    """Progress whose lines name the step: two may be running."""

    progress: Progress
    name: str

    def task(self, label: str, *, total: float | None = None, unit: str = "") -> Any:
        return self.progress.task(f"{self.name}: {label}", total=total, unit=unit)

    def note(self, message: str) -> None:
        self.progress.note(f"{self.name}: {message}")

    def warn(self, message: str) -> None:
        self.progress.warn(f"{self.name}: {message}")


def _is_settled(plan: StepPlan) -> bool:
    """Return whether a step needs no call. A dry run of an analysis tells of subjects, not of the group's table."""
    return plan.state == DONE and not plan.step.verb.is_analysis


def _outcome_row(plan: StepPlan, outcome: Outcome | None) -> dict[str, Any]:
    note = "" if outcome is not None else "complete already"
    outcome = outcome or Outcome(DONE)
    note = f"needs {', '.join(outcome.because_of)}" if outcome.because_of else outcome.summary.get("page", note)
    return {
        "step": plan.step.name,
        "state": outcome.state,
        "n_written": outcome.summary.get("n_nodes_written", 0),
        "n_reused": outcome.summary.get("n_nodes_reused"),
        "seconds": round(outcome.seconds, 3),
        "note": outcome.error.message if outcome.error is not None else note,
    }


def _refuse_wrong(plans: Iterable[StepPlan]) -> None:
    """Raise the first error that the file's own words make, whatever the data are, with the others as notes.

    What is wrong with data, such as a file that is missing, is the failure of one step.
    """
    wrong = [(plan.where, plan.error) for plan in plans if plan.is_in_file and plan.error is not None]
    if not wrong:
        return
    (first, error), *others = wrong
    refusal = type(error)(f"{first}: {error.message}", hint=error.hint)
    for note in getattr(error, "__notes__", ()):
        refusal.add_note(note)
    for where, other in others:
        refusal.add_note(f"{where}: {other.message}")
    raise refusal


def _first_refusal(plans: Mapping[str, StepPlan], study: Study, overwrite: bool) -> dict[str, Any] | None:
    """Return what a dry run ends with: the first step that is wrong, or stale and not to be made anew."""
    for plan in plans.values():
        if plan.error is not None and (plan.state == WRONG or (plan.state == STALE and not overwrite)):
            return _describe(plan, plan.error, study, begins=plan.where)
    return None


def _describe(plan: StepPlan, error: BrainsimError, study: Study, *, begins: str = "") -> dict[str, Any]:
    """Return an error of a step; what it does not begin with stands in its notes."""
    hint = f"brainsim run {study.path} --overwrite makes stale results anew" if plan.state == STALE else error.hint
    where = [] if begins else [f"asked for in {study.locate(plan.step, error.message)}"]
    return {
        "step": plan.step.name,
        "message": f"{begins or plan.step.name}: {error.message}",
        "notes": [*getattr(error, "__notes__", ()), *where],
        "hint": hint,
    }
