"""Time and peak memory of masking, cleaning and storing one run, beside nilearn's NiftiMasker and an .npy file."""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SHAPE, N_TRS, TR_S = (64, 64, 36), 450, 2.0
N_ROUNDS = 3  # the best of these: others work beside


def run(*, quick: bool, device: str) -> dict[str, Any]:
    """Measure one run of 64 x 64 x 36 voxels x 450 volumes, int16, as .nii.gz and as .nii, with 24 motion confounds.

    Each in a process of its own. A third of the voxels lies in the mask, as a head does in its box. Peak memory is what
    the process takes above what it has after its imports.
    """
    shape, n_trs = ((8, 8, 6), 60) if quick else (SHAPE, N_TRS)
    found: dict[str, Any] = {}
    for ending in (".nii.gz", ".nii"):
        with tempfile.TemporaryDirectory(prefix="brainsim-bench-") as name:
            folder = Path(name)
            _write_run(folder, ending, shape, n_trs)
            told: dict[str, dict[str, float]] = {"ours": {}, "nilearn": {}}
            for number in range(1 if quick else N_ROUNDS):
                for who in told:
                    out = folder / f"{who}-{number}.json"
                    process = multiprocessing.get_context("spawn").Process(
                        target=_measure, args=(who, folder, ending, number, out)
                    )
                    process.start()
                    process.join()
                    if process.exitcode:
                        raise RuntimeError(f"{who} with {ending} ended with {process.exitcode}")
                    for key, value in json.loads(out.read_text()).items():
                        told[who][key] = min(value, told[who].get(key, float("inf")))
            for who, figures in told.items():
                found |= {f"{ending} {who} {key}": value for key, value in figures.items()}
            for key in ("seconds", "peak_mib"):
                found[f"{ending} ratio_{key}"] = told["ours"][key] / max(told["nilearn"][key], 1e-9)
            found[f"{ending} largest_difference"] = _largest_difference(folder)
    return found


def _measure(who: str, folder: Path, ending: str, number: int, out: Path) -> None:
    measure = {"ours": _ingest, "nilearn": _mask_and_clean}[who]
    measure(folder, ending, number, is_warming_up=True)
    _reset_peak()
    before = _memory_mib("VmRSS")
    started = time.monotonic()
    measure(folder, ending, number, is_warming_up=False)
    seconds = time.monotonic() - started
    out.write_text(json.dumps({"seconds": seconds, "peak_mib": max(_memory_mib("VmHWM") - before, 0.1)}))


def _ingest(folder: Path, ending: str, number: int, *, is_warming_up: bool) -> None:
    from brainsim.commands.ingest import ingest

    source = folder / ("small" if is_warming_up else "run")
    ingest(
        source / f"sub-01_run-1_bold{ending}",
        dataset="bench",
        store=source / f"store-{number}.zarr",
        mask=source / "mask.nii.gz",
        confounds="motion24",
    )


def _mask_and_clean(folder: Path, ending: str, number: int, *, is_warming_up: bool) -> None:
    import pandas as pd
    from nilearn.maskers import NiftiMasker

    source = folder / ("small" if is_warming_up else "run")
    table = pd.read_csv(source / "sub-01_run-1_desc-confounds_timeseries.tsv", sep="\t")
    masker = NiftiMasker(
        str(source / "mask.nii.gz"),
        standardize="zscore_sample",
        high_pass=1 / 128,
        t_r=TR_S,
        detrend=False,
        dtype="float32",
        clean_args={"filter": "cosine"},
    )
    values = masker.fit_transform(str(source / f"sub-01_run-1_bold{ending}"), confounds=table.to_numpy())
    np.save(source / "nilearn.npy", values)


def _largest_difference(folder: Path) -> float:
    """Return by how much the two answers differ at most, in standard deviations."""
    from brainsim.store import Store

    ours = Store(folder / "run" / "store-0.zarr").read("bold/bench/sub-01/run-1", "values")
    theirs = np.load(folder / "run" / "nilearn.npy")
    n = len(ours)
    return float(np.abs(ours - theirs * np.sqrt(n / (n - 1))).max())


def _write_run(folder: Path, image_ending: str, shape: tuple[int, int, int], n_trs: int) -> None:
    import nibabel as nib

    from brainsim.datasets.bids_write import write_bold, write_confounds

    affine = np.diag([3.0, 3.0, 3.5, 1.0])
    rng = np.random.default_rng(0)
    for name, size, length in (("run", shape, n_trs), ("small", (8, 8, 6), 60)):
        mask = np.zeros(size, np.uint8)
        mask[tuple(slice(n // 6, n - n // 6) for n in size)] = 1
        values = np.empty((*size, length), np.int16)
        for t in range(length):
            values[..., t] = mask * 1000.0 + rng.normal(0, 20, size) * (1 + 4.0 * mask)
        write_bold(folder / name / f"sub-01_run-1_bold{image_ending}", values, affine=affine, tr_s=TR_S)
        nib.save(nib.Nifti1Image(mask, affine), folder / name / "mask.nii.gz")
        endings = ("", "_derivative1", "_power2", "_derivative1_power2")
        motion = [f"{kind}_{axis}{ending}" for ending in endings for kind in ("trans", "rot") for axis in "xyz"]
        table = {column: rng.normal(size=length) for column in motion}
        write_confounds(folder / name / "sub-01_run-1_desc-confounds_timeseries.tsv", table)


def _memory_mib(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def _reset_peak() -> None:
    """Forget the peak so far, which the imports made."""
    Path("/proc/self/clear_refs").write_text("5")
