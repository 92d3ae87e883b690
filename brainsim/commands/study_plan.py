"""Turn a study into what is done, stale and still to do, by the verbs' own dry runs; nothing is computed or written."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from brainsim.commands.study_file import Step, Study
from brainsim.commands.study_links import result_names
from brainsim.commands.study_log import StudyLog
from brainsim.commands.study_models import check_globs, find_models, foresee
from brainsim.core.errors import BrainsimError, InputFileError, StoreError
from brainsim.core.progress import Progress
from brainsim.core.provenance import brainsim_version, digest

DONE, STALE, TO_DO, WRONG = "done", "stale", "to do", "wrong"

# A store that is not there: a verb that complains of nothing else has found its options in order.
NO_STORE = ".no-such-store"

# Calls a verb: (step, dry_run, overwrite, store) -> its summary as JSON values.
DryRun = Callable[..., Mapping[str, Any]]


@dataclass(frozen=True)
class StepPlan:
    """What is known of a step before it is run.

    Parameters
    ----------
    step : Step
        The step.
    state : {"done", "stale", "to do", "wrong"}
        Complete; complete, but made with other options or data; missing in part or whole; or not to be done as it is
        written.
    n_missing : int or None
        Nodes to be made; None where that is not known yet.
    bytes : int or None
        Bytes that they will take in the store.
    seconds : float or None
        Estimated time, from what earlier runs took for a node.
    note : str
        What it waits for, where the estimate comes from, or what is wrong.
    error : BrainsimError or None
        What is wrong, or stale.
    is_in_file : bool
        Whether what is wrong are the file's own words, whatever the data are.
    where : str
        Where the file speaks of what is wrong or stale: its line and table.
    """

    step: Step
    state: str
    n_missing: int | None = None
    bytes: int | None = None
    seconds: float | None = None
    note: str = ""
    error: BrainsimError | None = None
    is_in_file: bool = False
    where: str = ""

    def row(self) -> dict[str, Any]:
        """Return it as a row of the plan table."""
        return {
            "step": self.step.name,
            "state": self.state,
            "n_nodes": self.n_missing,
            "bytes": self.bytes,
            "seconds": None if self.seconds is None else round(self.seconds, 1),
            "note": f"{self.where}: {self.note}" if self.state == WRONG and self.where else self.note,
        }


def plan_study(study: Study, dry_run: DryRun, log: StudyLog, progress: Progress) -> dict[str, StepPlan]:
    """Ask every verb what it would do.

    Parameters
    ----------
    study : Study
        A checked study.
    dry_run : callable
        (step, store, overwrite) -> summary of the verb's dry run; raises what the verb raises.
    log : StudyLog
        What earlier runs took.
    progress : Progress
        Told of each step.

    Returns
    -------
    dict of str to StepPlan
        In the order of the steps.
    """
    plans: dict[str, StepPlan] = {}
    models = find_models(study)
    with progress.task("planning", total=len(study.steps), unit="steps") as task:
        for step in study.steps:
            undone = [name for name in step.waits_for if plans[name].state != DONE]
            plan_step = _plan_by_dry_run if step.verb.can_dry_run else _plan_by_log
            plan = plan_step(study, step, undone, dry_run, log)
            if models is not None and step.verb.is_analysis:
                plan = _foresee(study, plan, models)
            if plan.error is not None:
                plan = replace(plan, where=study.locate(step, plan.error.message))
            plans[step.name] = plan
            task.advance()
    return plans


def _foresee(study: Study, plan: StepPlan, models: Collection[str]) -> StepPlan:
    """Find what cannot be done with the models that will be there: before they are extracted, no verb can tell."""
    if plan.state in (DONE, STALE) or plan.is_in_file:
        return plan
    try:
        check_globs(plan.step, models)
    except BrainsimError as error:
        return StepPlan(plan.step, WRONG, note=error.message, error=error, is_in_file=True)
    if plan.state == TO_DO:
        try:
            foresee(study, plan.step, models)
        except BrainsimError as error:
            return StepPlan(plan.step, WRONG, note=error.message, error=error)
    return plan


def _plan_by_dry_run(study: Study, step: Step, undone: Sequence[str], dry_run: DryRun, log: StudyLog) -> StepPlan:
    try:
        summary = dry_run(step, store=study.store, overwrite=False)
    except BrainsimError as error:
        return _plan_of_refusal(study, step, undone, dry_run, error)
    n_missing = count_missing(summary)
    if n_missing == 0 and not undone:
        return StepPlan(step, DONE, 0)
    after = f"after {', '.join(undone)}" if undone else ""
    if n_missing == 0:
        return StepPlan(step, TO_DO, note=f"looked at again {after}")
    rate = log.seconds_per_node(step.name, step.verb.verb.word)
    source = f"time as of {rate[1]} earlier nodes" if rate is not None and n_missing else ""
    return StepPlan(
        step,
        TO_DO,
        n_missing,
        bytes=summary.get("bytes"),
        seconds=n_missing * rate[0] if rate is not None and n_missing else None,
        note=", ".join(part for part in (after, source) if part),
    )


def _plan_of_refusal(
    study: Study, step: Step, undone: Sequence[str], dry_run: DryRun, error: BrainsimError
) -> StepPlan:
    """Tell apart why a verb refuses: its result was made otherwise, what it needs is not there yet, or it is wrong."""
    if step.verb.can_overwrite:
        try:
            summary = dry_run(step, store=study.store, overwrite=True)
        except BrainsimError:
            pass
        else:
            return StepPlan(step, STALE, count_missing(summary), summary.get("bytes"), note=error.message, error=error)
    if step.verb.is_analysis:
        try:
            dry_run(step, store=NO_STORE, overwrite=False)
        except StoreError:
            pass
        except BrainsimError as wrong:
            # A file that is not there is no word of the study's: it may come, and until then one step fails.
            is_in_file = not isinstance(wrong, InputFileError)
            return StepPlan(step, WRONG, note=wrong.message, error=wrong, is_in_file=is_in_file)
        if undone:
            return StepPlan(step, TO_DO, note=f"after {', '.join(undone)}")
    return StepPlan(step, WRONG, note=error.message, error=error)


def count_missing(summary: Mapping[str, Any]) -> int | None:
    """Return how many nodes a dry run found to be made; None where its summary does not tell."""
    if summary.get("dry_run") and "n_nodes_written" in summary:
        return int(summary["n_nodes_written"])
    if "n_nodes_reused" in summary and "subjects" in summary:  # one result for each subject
        return max(len(summary["subjects"]) - int(summary["n_nodes_reused"]), 0)
    return None


def _plan_by_log(study: Study, step: Step, undone: Sequence[str], _: DryRun, log: StudyLog) -> StepPlan:
    """Plan a verb that has no dry run: it is done if the log says so, of the same words and the same results."""
    if undone:
        return StepPlan(step, TO_DO, note=f"after {', '.join(undone)}")
    last = log.last_done(step.name)
    made = last.get("made")
    is_done = last.get("made_from") == fingerprint(study, step) and made and (study.folder / made).exists()
    if is_done:
        return StepPlan(step, DONE, 0)
    return StepPlan(step, TO_DO, seconds=last.get("seconds"), note="time as of the last one" if last else "")


def fingerprint(study: Study, step: Step) -> str:
    """Return a digest of what a step without nodes is made from: its values, and the results that it needs."""
    needed = [other for other in study.steps if other.name in step.waits_for and other.verb.is_analysis]
    places = [(name, str(other.values.get("dataset", ""))) for other in needed for name in result_names(other)]
    return digest([dict(step.values), brainsim_version(), [_result_digests(study, *place) for place in places]])


def _result_digests(study: Study, name: str, dataset: str) -> list[list[str]]:
    """Return path, digest and time of the nodes of a result, whatever kind it is."""
    from brainsim.store import Store

    root = Path(study.store) if Path(study.store).is_absolute() else study.folder / study.store
    folders = sorted(folder.name for folder in root.iterdir() if name and (folder / name / dataset).is_dir())
    store = Store(root, mode="r")
    nodes = [node for folder in folders for node in store.nodes(f"{folder}/{name}/{dataset}/")]
    return [[node.path, node.digest, node.created] for node in nodes]
