"""Turn a user's words about a cluster into checked options."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any

from brainsim.core.checks import check_choice, check_count
from brainsim.core.errors import BrainsimError, InvalidValueError

_OF_WORKERS = frozenset({"n_workers", "cores_per_worker", "memory_per_worker", "dashboard_port"})
_OF_JOBS = frozenset({"queue", "account", "walltime", "directives", "prologue", "interface", "log_directory"})


@dataclass(frozen=True)
class ClusterMethod:
    """One place where tasks can run.

    Parameters
    ----------
    summary : str
        One line for `--cluster`.
    start : str
        "module:function" that starts workers there, imported when it is needed; "" runs tasks in this process.
    uses : frozenset of str
        Fields of `ClusterOptions` that it listens to.
    """

    summary: str
    start: str
    uses: frozenset[str]


# The table of `--cluster`; another queueing system is one more file and one more line.
CLUSTERS = {
    "threads": ClusterMethod("this process, one task after another, each on all cores", "", frozenset()),
    "local": ClusterMethod("processes of this machine", "brainsim.compute.local:start_local", _OF_WORKERS),
    "slurm": ClusterMethod("SLURM jobs, one per worker", "brainsim.compute.slurm:start_slurm", _OF_WORKERS | _OF_JOBS),
    "cuda": ClusterMethod("one process per GPU of this machine", "brainsim.compute.local:start_cuda", _OF_WORKERS),
}

# Bytes in each unit that people write; without a letter, a number is bytes.
_UNITS = {"": 1, "B": 1} | {
    f"{letter}{end}": base**power
    for power, letter in enumerate("KMGT", start=1)
    for end, base in (("", 1000), ("B", 1000), ("IB", 1024))
}

_WALLTIME = re.compile(r"^(\d+|\d+:\d+|\d+:\d+:\d+|\d+-\d+(:\d+){0,2})$")


class ClusterError(BrainsimError, RuntimeError):
    """Workers that cannot be started, do not come, or are not the same software as the driver."""


class WorkerKilledError(ClusterError):
    """A task whose worker process died every time: most often it needs more memory than there is."""


@dataclass(frozen=True)
class ClusterOptions:
    """Where tasks run and with what; what is left empty is chosen here or by the user's own dask configuration.

    Parameters
    ----------
    kind : str
        A name of `CLUSTERS`.
    n_workers : int
        Tasks at once; 0 chooses: local as many as cores and memory allow, cuda one per GPU, slurm at most 8.
    cores_per_worker : int
        Cores of one worker; 0 shares this machine's cores out (local, cuda) or takes what the dask configuration says
        for SLURM, else 4.
    memory_per_worker : str
        Memory of one worker as text ("16 GB", "16 GiB"); "" shares out what is free now (local, cuda), or takes what
        the dask configuration says for SLURM, else 16 GB. A worker that grows beyond it is killed and its task run
        again.
    queue, account, walltime : str
        SLURM's partition, account and time limit of one job ("02:00:00").
    directives : tuple of str
        Further directives of the job script, without #SBATCH ("--gres=gpu:1").
    prologue : tuple of str
        Shell lines that a job runs before its worker ("module load cuda").
    interface : str
        Network interface that scheduler and workers talk on ("ib0").
    log_directory : str
        Folder for the jobs' output; "" is brainsim-slurm-logs in the working directory.
    dashboard_port : int
        Port of Dask's dashboard; 0 is no dashboard.
    """

    kind: str = "threads"
    n_workers: int = 0
    cores_per_worker: int = 0
    memory_per_worker: str = ""
    queue: str = ""
    account: str = ""
    walltime: str = ""
    directives: tuple[str, ...] = ()
    prologue: tuple[str, ...] = ()
    interface: str = ""
    log_directory: str = ""
    dashboard_port: int = 0

    def __post_init__(self) -> None:
        check_choice("--cluster", self.kind, list(CLUSTERS))
        check_count("--n-workers", self.n_workers, at_least=0)
        check_count("the cores of a worker", self.cores_per_worker, at_least=0)
        check_count("the dashboard's port", self.dashboard_port, at_least=0)
        read_bytes(self.memory_per_worker or "0")
        if self.walltime and not _WALLTIME.match(self.walltime):
            raise InvalidValueError(
                f"the walltime is {self.walltime!r}; allowed are minutes, HH:MM:SS and D-HH:MM:SS.",
                hint="02:00:00 is two hours",
            )
        self._refuse_what_is_not_used()

    @property
    def memory_bytes(self) -> int:
        """Memory of one worker in bytes; 0 where it is left to be chosen."""
        return read_bytes(self.memory_per_worker) if self.memory_per_worker else 0

    def _refuse_what_is_not_used(self) -> None:
        for field in fields(self):
            value: Any = getattr(self, field.name)
            if field.name == "kind" or value == field.default or field.name in CLUSTERS[self.kind].uses:
                continue
            kinds = [name for name, method in CLUSTERS.items() if field.name in method.uses]
            raise InvalidValueError(
                f"{field.name.replace('_', ' ')} is {value!r}, and --cluster {self.kind} does not use it; "
                f"it is for {', '.join(kinds)}.",
                hint=f"--cluster {kinds[0]}",
            )


def read_bytes(text: str) -> int:
    """Return the bytes in "16 GB" (decimal), "16 GiB" (binary) or a plain number.

    Raises
    ------
    InvalidValueError
        Where it is no amount of memory.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if match is None or match[2].upper() not in _UNITS:
        raise InvalidValueError(f"the memory is {text!r}; it must be a number and a unit.", hint="16 GB, or 16 GiB")
    return int(float(match[1]) * _UNITS[match[2].upper()])
