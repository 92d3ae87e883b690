"""Tasks in this process, what may travel, and what options are refused."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import compute_tasks as work
import pytest
from compute_tasks import Square

from brainsim.compute.cluster import CLUSTERS, ClusterOptions, WorkerKilledError, run_tasks
from brainsim.compute.options import read_bytes
from brainsim.compute.parcels import describe_task, perform, unpack
from brainsim.core import errors
from brainsim.core.errors import BrainsimError, InputFileError, InvalidValueError
from brainsim.core.provenance import brainsim_version

HERE = Path(__file__).parent
ALL_ERRORS = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, BrainsimError)]


def test_threads_run_tasks_in_order_one_at_a_time() -> None:
    tasks = [Square(number) for number in (3, 1, 2)]
    told: list[object] = []
    for task, result in run_tasks(work.square, tasks, options=ClusterOptions(), on_start=told.append):
        told.append((task.number, result))
    assert told == [tasks[0], (3, 9), tasks[1], (1, 1), tasks[2], (2, 4)]


def test_threads_load_nothing_of_dask() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(HERE)!r}); import compute_tasks as work\n"
        "from brainsim.compute.cluster import ClusterOptions, run_tasks\n"
        "assert len(list(run_tasks(work.square, [work.Square(1)], options=ClusterOptions()))) == 1\n"
        "print([name for name in ('dask', 'distributed', 'torch', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_tasks_start_no_workers() -> None:
    assert list(run_tasks(work.square, [], options=ClusterOptions("local"))) == []


def test_what_cannot_travel_is_refused_everywhere_before_anything_starts() -> None:
    for options in (ClusterOptions(), ClusterOptions("local")):
        with pytest.raises(InvalidValueError, match=r"the task square of 1 cannot travel to another process"):
            list(run_tasks(lambda task: task, [Square(1)], options=options))
        with pytest.raises(InvalidValueError, match=r"the task \('sub-01', 'x+… is 1\.9 MiB when pickled"):
            list(run_tasks(str, [("sub-01", "x" * 2_000_000)], options=options))
    with pytest.raises(InvalidValueError, match="the result of square of 1 is"):
        list(run_tasks(work.return_too_much, [Square(1)], options=ClusterOptions()))


def test_a_task_is_called_by_its_label_or_by_what_it_prints() -> None:
    assert describe_task(Square(3)) == "square of 3"
    assert describe_task(("sub-01", "V1")) == "('sub-01', 'V1')"
    assert len(describe_task("x" * 1000)) == 200


@pytest.mark.parametrize("kind", ALL_ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_of_brainsim_comes_back_from_pickling_whole(kind: type[BrainsimError]) -> None:
    error = kind("it is wrong, 3.", hint="brainsim doctor")
    error.add_note("in sub-01")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind
    assert (back.message, back.hint, back.__notes__, str(back)) == (
        error.message,
        error.hint,
        ["in sub-01"],
        str(error),
    )


def test_an_error_that_cannot_be_pickled_still_tells_its_text_and_its_place() -> None:
    outcome = perform(pickle.dumps((fail_unpicklably, 1)), "one", brainsim_version())
    with pytest.raises(RuntimeError, match="StubbornError: 7 is stubborn") as error:
        unpack(outcome)
    assert "in fail_unpicklably" in str(error.value.__cause__)


class StubbornError(Exception):
    """An error that pickles into something that cannot be made again."""

    def __init__(self, number: int, *, text: str) -> None:
        super().__init__(f"{number} is {text}")
        self.lock = (piece for piece in text)


def fail_unpicklably(task: int) -> None:
    """Raise it."""
    raise StubbornError(7, text="stubborn")


def test_an_exit_inside_a_task_does_not_end_its_worker() -> None:
    outcome = perform(pickle.dumps((sys.exit, 3)), "one", brainsim_version())
    with pytest.raises(SystemExit):
        unpack(outcome)


def test_an_error_keeps_its_own_words_through_threads() -> None:
    with pytest.raises(InputFileError, match="kernels/abc") as error:
        list(run_tasks(work.fail_with_notes, [Square(1)], options=ClusterOptions()))
    assert error.value.__notes__ == ["while fitting sub-01"]


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("16 GB", 16 * 10**9), ("16GiB", 2**34), ("1.5 kB", 1500), ("512 mib", 2**29), ("1000", 1000), ("2T", 2 * 10**12)],
)
def test_memory_is_read_in_the_units_that_people_write(text: str, n_bytes: int) -> None:
    assert read_bytes(text) == n_bytes


@pytest.mark.parametrize(
    ("told", "match"),
    [
        ({"kind": "slrum"}, "did you mean 'slurm'"),
        ({"kind": "local", "n_workers": -1}, "--n-workers is -1"),
        ({"kind": "local", "memory_per_worker": "a lot"}, "the memory is 'a lot'"),
        ({"kind": "local", "memory_per_worker": "4 GiBB"}, "the memory is '4 GiBB'"),
        ({"kind": "slurm", "walltime": "2h"}, "the walltime is '2h'"),
        (
            {"kind": "threads", "n_workers": 2},
            "n workers is 2, and --cluster threads does not use it.*local, slurm, cuda",
        ),
        ({"kind": "local", "queue": "gpu"}, "queue is 'gpu', and --cluster local does not use it; it is for slurm"),
    ],
)
def test_options_that_cannot_be_or_are_not_used_are_refused(told: dict[str, object], match: str) -> None:
    with pytest.raises(InvalidValueError, match=match):
        ClusterOptions(**told)  # type: ignore[arg-type]  # what a user may pass


@pytest.mark.parametrize("walltime", ["30", "02:00:00", "1-12", "1-12:30:00", "90:00"])
def test_walltimes_are_written_as_slurm_reads_them(walltime: str) -> None:
    assert ClusterOptions("slurm", walltime=walltime).walltime == walltime


def test_every_method_says_what_it_is() -> None:
    assert list(CLUSTERS) == ["threads", "local", "slurm", "cuda"]
    assert all(method.summary and len(method.summary) < 80 for method in CLUSTERS.values())
    assert issubclass(WorkerKilledError, RuntimeError)
