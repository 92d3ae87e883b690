"""Turn a checkout into its checks: `nox -s tests` installs what it needs and runs the suite.

torch and its like take minutes and gigabytes to install, so the sessions that need them share one environment,
.nox/brainsim, which is made again only where pyproject.toml has changed. Nothing outside the checkout is written.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".nox" / "brainsim"
CACHES = ROOT / ".nox" / "caches"

# Two test processes: the suite is written for two cores and its memory for two at a time.
N_WORKERS = 2

# What tests need beside the package and its dependencies; some skip without theirs.
TEST_TOOLS = (
    "aiohttp", "dask-jobqueue", "hypothesis", "isal", "pyarrow", "pytest", "pytest-timeout", "pytest-xdist",
    "xarray>=2025.1",
)  # fmt: skip

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["tests"]


def shared_environment(session: nox.Session) -> Path:
    """Make or reuse the environment with brainsim (editable) and all it needs; return its folder of programs."""
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + sys.version.encode()).hexdigest()
    mark = ENVIRONMENT / "installed.sha256"
    programs = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin")
    if not (mark.exists() and mark.read_text() == wanted):
        session.run(sys.executable, "-m", "virtualenv", "--quiet", str(ENVIRONMENT), external=True)
        session.run(str(programs / "python"), "-m", "pip", "install", "--quiet", "-e", ".[dev]", external=True)
        mark.write_text(wanted)
    return programs


def run_shared(session: nox.Session, *command: str, n_processes: int = 1) -> None:
    """Run a program of the shared environment, with its caches in the checkout and a fair share of the cores."""
    programs = shared_environment(session)
    threads = str(max((os.cpu_count() or 1) // n_processes, 1))
    environment = {
        "BRAINSIM_ARTEFACTS": str(ROOT / ".nox" / "artefacts"),  # what tests leave to be looked at: the demo's page
        "HF_HOME": str(CACHES / "huggingface"),
        "HF_HUB_OFFLINE": "1",
        "MPLCONFIGDIR": str(CACHES / "matplotlib"),
        "OMP_NUM_THREADS": threads,
        "PATH": os.pathsep.join([str(programs), os.environ.get("PATH", "")]),
        "TORCH_HOME": str(CACHES / "torch"),
    }
    program, *arguments = command
    session.run(str(programs / program), *arguments, external=True, env=environment)


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """Run the test suite; arguments after -- go to pytest."""
    # By file: what a file sets up for its tests is set up once.
    arguments = session.posargs or ["-n", str(N_WORKERS), "--dist", "loadfile", "-q"]
    run_shared(session, "pytest", *arguments, n_processes=1 if session.posargs else N_WORKERS)


@nox.session(venv_backend="none")
def slow(session: nox.Session) -> None:
    """Run the tests that take minutes each; they leave the demo's page in .nox/artefacts/demo-page."""
    run_shared(session, "pytest", "-q", "-m", "slow", "--timeout", "1800", *session.posargs)


@nox.session(venv_backend="none", default=False)
def lowest(session: nox.Session) -> None:
    """Run the test suite with the lowest versions that pyproject.toml declares; needs uv, which can ask for them."""
    folder = ROOT / ".nox" / "lowest"
    versions, python = folder / "versions.txt", folder / "bin" / "python"
    compile_lowest = ("compile", "--quiet", "--resolution", "lowest-direct", "--python-version", "3.11")
    session.run("uv", "venv", "--quiet", "--clear", "--python", "3.11", str(folder), external=True)
    session.run("uv", "pip", *compile_lowest, "pyproject.toml", "--output-file", str(versions), external=True)
    install = ("uv", "pip", "install", "--quiet", "--python", str(python))
    session.run(*install, "-r", str(versions), *TEST_TOOLS, "-e", ".", external=True)
    # Warnings of old versions about other old versions are nobody's fault.
    arguments = session.posargs or ["-n", str(N_WORKERS), "--dist", "loadfile", "-q", "--ignore", "tests/architecture"]
    environment = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(max((os.cpu_count() or 1) // N_WORKERS, 1))}
    session.run(str(python), "-m", "pytest", "-W", "default", *arguments, external=True, env=environment)


@nox.session(reuse_venv=True)
def lint(session: nox.Session) -> None:
    """Check style and form."""
    session.install("ruff>=0.8")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(venv_backend="none")
def types(session: nox.Session) -> None:
    """Check types, strictly."""
    run_shared(session, "mypy", *session.posargs)


@nox.session(reuse_venv=True)
def contracts(session: nox.Session) -> None:
    """Check that imports go one way between rooms."""
    session.install("import-linter>=2.1")
    session.run("lint-imports", "--no-cache", env={"PYTHONPATH": str(ROOT)})


@nox.session(venv_backend="none", default=False)
def bench(session: nox.Session) -> None:
    """Measure speed and memory (docs/performance.md); arguments after -- name benchmarks."""
    out = ROOT / ".nox" / "bench" / "figures.json"
    run_shared(session, "python", "-m", "benchmarks", "--out", str(out), *session.posargs)


@nox.session(venv_backend="none", default=False)
def demo(session: nox.Session) -> None:
    """Run `brainsim demo`; arguments after -- go to it."""
    run_shared(session, "brainsim", "demo", *(session.posargs or ["--out", str(ROOT / ".nox" / "demo")]))
