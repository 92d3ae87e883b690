"""Turn a folder into SLURM: programs of its names that start, list and end jobs as processes of this machine."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import psutil

_SBATCH = """#!{python}
import pathlib, subprocess, sys
jobs = pathlib.Path({jobs!r})
script = pathlib.Path(sys.argv[1]).read_text()
if "#SBATCH -p closed" in script:
    sys.exit("sbatch: error: invalid partition specified: closed")
number = 1001
while True:  # several may be submitted at once
    try:
        (jobs / f"{{number}}.sh").open("x").write(script)
        break
    except FileExistsError:
        number += 1
number = str(number)
copy = jobs / (number + ".sh")
words = [line.split() for line in script.splitlines() if line.startswith("#SBATCH")]
streams = {{w[1]: w[2].replace("%J", number) for w in words if w[1] in ("-o", "-e")}}
with open(streams["-o"], "w") as out, open(streams["-e"], "w") as err:
    job = subprocess.Popen(["bash", copy], stdout=out, stderr=err, stdin=subprocess.DEVNULL, start_new_session=True)
(jobs / (number + ".pid")).write_text(str(job.pid))
print("Submitted batch job", number)
"""

_SQUEUE = """#!{python}
import os, pathlib
for path in pathlib.Path({jobs!r}).glob("*.pid"):
    try:
        os.killpg(int(path.read_text()), 0)
        print(path.stem)
    except ProcessLookupError:
        pass
"""

_SCANCEL = """#!{python}
import os, pathlib, signal, sys
for number in sys.argv[1:]:
    path = pathlib.Path({jobs!r}) / (number + ".pid")
    path.with_suffix(".cancelled").touch()
    try:
        os.killpg(int(path.read_text()), signal.SIGKILL)
    except ProcessLookupError:
        pass
"""


class FakeSlurm:
    """Its jobs, by number."""

    def __init__(self, folder: Path) -> None:
        self.programs = folder / "programs"
        self.jobs = folder / "jobs"
        for made in (self.programs, self.jobs):
            made.mkdir()
        for name, text in (("sbatch", _SBATCH), ("squeue", _SQUEUE), ("scancel", _SCANCEL)):
            program = self.programs / name
            program.write_text(text.format(python=sys.executable, jobs=str(self.jobs)))
            program.chmod(0o755)

    def submitted(self) -> list[str]:
        """Return the numbers of all jobs, in order."""
        return sorted(path.stem for path in self.jobs.glob("*.sh"))

    def cancelled(self) -> list[str]:
        """Return the numbers of the jobs that were cancelled."""
        return sorted(path.stem for path in self.jobs.glob("*.cancelled"))

    def running(self) -> list[str]:
        """Return the numbers of the jobs that have a living process."""
        groups = set()
        for process in psutil.process_iter():
            try:
                if process.status() != psutil.STATUS_ZOMBIE:
                    groups.add(os.getpgid(process.pid))
            except (psutil.NoSuchProcess, ProcessLookupError):
                continue
        return sorted(path.stem for path in self.jobs.glob("*.pid") if int(path.read_text()) in groups)

    def script(self, number: str) -> str:
        """Return what was submitted."""
        return (self.jobs / f"{number}.sh").read_text()

    def end(self, number: str) -> None:
        """End a job as a node failure would."""
        os.killpg(int((self.jobs / f"{number}.pid").read_text()), signal.SIGKILL)
