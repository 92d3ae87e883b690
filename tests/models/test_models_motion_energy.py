"""Motion energy against explicit 3-D filters, against pymoten where it is installed, and on gratings that drift."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab

import brainsim
from brainsim.models.loading import LoadedModel, load_model
from brainsim.models.networks.motion_energy import (
    DIRECTIONS_DEG,
    FRAME_RATE_HZ,
    LOG_OFFSET,
    N_FRAMES,
    SPATIAL_CYCLES,
    Channel,
    list_channels,
    measure_lightness,
)
from brainsim.stimuli import render_moving_photographs, write_video
from brainsim.store import Store

SIDE = 96


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load_model("motion-energy")


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    """Return 16 frames of a film, (1, 16, 96, 96, 3)."""
    frames = render_moving_photographs(1, 1, duration_s=1, fps_hz=24, width=SIDE, height=SIDE)
    return np.stack([next(frames) for _ in range(N_FRAMES)])[None]


def energies(model: LoadedModel, frames: np.ndarray) -> dict[str, np.ndarray]:
    return {name: np.exp(x.numpy()) - LOG_OFFSET for name, x in model.activations(frames).items()}


def drifting(direction_deg: float, *, cycles: float, hz: float, contrast: float = 1.0) -> np.ndarray:
    """Return a grating that drifts, 0 to the right and 90 upwards; (1, 16, 96, 96, 3)."""
    x, y = np.meshgrid(np.linspace(0, 1, SIDE), np.linspace(0, 1, SIDE))
    along = x * np.cos(np.deg2rad(direction_deg)) - y * np.sin(np.deg2rad(direction_deg))
    t = np.arange(N_FRAMES)[:, None, None] / FRAME_RATE_HZ
    grey = 128 + 100 * contrast * np.sin(2 * np.pi * (cycles * along - hz * t))
    return np.repeat(grey.round().astype(np.uint8)[None, ..., None], 3, axis=-1)


def explicit_energy(
    lightness: np.ndarray, *, cx: float, cy: float, env: float, cycles: int, deg: int, hz: float
) -> float:
    """Return the energy of one filter, written out in space and time: a grating that drifts, under Gaussians."""
    x, y = np.meshgrid(np.linspace(0, 1, SIDE) - cx, np.linspace(0, 1, SIDE) - cy)
    t = (N_FRAMES - 1 - np.arange(N_FRAMES)[:, None, None]) / N_FRAMES - 0.5  # shares of the clip, back in time
    spread_t = min(10 / hz, 0.3) if hz else 0.3
    envelope = np.exp(-(x**2 + y**2) / (2 * env**2) - t**2 / (2 * spread_t**2))
    angle = np.deg2rad(deg)
    phase = 2 * np.pi * (cycles * (x * np.cos(angle) - y * np.sin(angle)) + hz * N_FRAMES / FRAME_RATE_HZ * t)
    return float(np.hypot((lightness * envelope * np.sin(phase)).sum(), (lightness * envelope * np.cos(phase)).sum()))


def test_the_pyramid_has_the_published_number_of_filters(model: LoadedModel) -> None:
    assert sum(tap.n_features for tap in model.taps) == 6555
    assert [tap.shape for tap in model.taps] == [(23, n, n) for n in (1, 1, 3, 7, 15)]


def test_lightness_is_that_of_the_cie() -> None:
    rgb = np.random.default_rng(0).random((2, 4, 5, 6, 3))
    rgb[0, 0] *= 0.02  # the straight part
    ours = measure_lightness(torch.from_numpy(rgb).permute(0, 4, 1, 2, 3)).numpy()
    np.testing.assert_allclose(ours, rgb2lab(rgb)[..., 0], atol=0.01)  # its matrix has more digits


def test_every_kind_of_filter_is_its_explicit_3d_gabor(model: LoadedModel, clip: np.ndarray) -> None:
    found = energies(model, clip)
    lightness = rgb2lab(clip[0] / 255)[..., 0]  # (16, 96, 96)
    rng = np.random.default_rng(0)
    for cycles, n in zip(SPATIAL_CYCLES, (1, 1, 3, 7, 15), strict=True):
        env = min(0.6 / cycles, 0.3)
        centres = 0.5 + 3.5 * env * (np.arange(n) - n // 2)
        for index, channel in enumerate(list_channels(cycles)):
            row, column = rng.integers(n, size=2)
            expected = explicit_energy(
                lightness,
                cx=centres[column],
                cy=centres[row],
                env=env,
                cycles=channel.cycles,
                deg=channel.direction_deg,
                hz=channel.temporal_hz,
            )
            ours = found[f"cycles_{cycles}"][0, index, row, column]
            assert ours == pytest.approx(expected, rel=1e-3, abs=0.05)  # sums reach 1e5: float32


def their_direction(channel: Channel) -> int:
    """Return the direction by which pymoten names a filter: the opposite of what it answers to."""
    if not channel.cycles:
        return 0
    return channel.direction_deg if not channel.temporal_hz else (channel.direction_deg + 180) % 360


def test_filters_are_those_of_pymoten(model: LoadedModel, clip: np.ndarray) -> None:
    moten = pytest.importorskip("moten", reason="pymoten is not installed")
    pyramid = moten.get_default_pyramid(
        vhsize=(SIDE, SIDE), fps=24, spatial_frequencies=[0, *SPATIAL_CYCLES], filter_temporal_width=N_FRAMES
    )
    lightness = rgb2lab(clip[0] / 255)[..., 0].reshape(N_FRAMES, -1)
    found = energies(model, clip)
    theirs: dict[tuple[float, ...], float] = {}
    for filter_ in pyramid.filters:
        gabor = moten.core.mk_3d_gabor((SIDE, SIDE), **filter_)
        sine, cosine = moten.core.dotdelay_frames(*gabor, lightness, masklimit=-1)
        # The frame at which its filter, which looks both ways, sees the whole clip.
        energy = float(np.hypot(sine[N_FRAMES // 2], cosine[N_FRAMES // 2]))
        names = ("spatial_env", "spatial_freq", "direction", "temporal_freq", "centerv", "centerh")
        theirs[tuple(round(float(filter_[name]), 6) for name in names)] = energy
    assert len(theirs) == 6555
    for cycles, n in zip(SPATIAL_CYCLES, (1, 1, 3, 7, 15), strict=True):
        env = min(0.6 / cycles, 0.3)
        centres = 0.5 + 3.5 * env * (np.arange(n) - n // 2)
        expected = [
            theirs[tuple(round(float(v), 6) for v in (env, c.cycles, their_direction(c), c.temporal_hz, y, x))]
            for c in list_channels(cycles)
            for y in centres
            for x in centres
        ]
        np.testing.assert_allclose(found[f"cycles_{cycles}"].ravel(), expected, rtol=1e-3, atol=0.05)


@pytest.mark.parametrize("direction", DIRECTIONS_DEG)
@pytest.mark.parametrize(("cycles", "hz"), [(4, 2.0), (8, 4.0), (16, 2.0)])
def test_a_drifting_grating_is_answered_most_by_its_own_filter(
    model: LoadedModel, direction: int, cycles: int, hz: float
) -> None:
    found = energies(model, drifting(direction, cycles=cycles, hz=hz))
    middle = {
        channel: energy[0, index, energy.shape[2] // 2, energy.shape[3] // 2] * scale**2
        for scale, energy in zip(SPATIAL_CYCLES, found.values(), strict=True)
        for index, channel in enumerate(list_channels(scale))
        if channel.cycles
    }
    best = max(middle, key=lambda channel: middle[channel])
    assert (best.cycles, best.direction_deg, best.temporal_hz) == (cycles, direction, hz)
    opposite = next(
        c for c in middle if (c.cycles, c.direction_deg, c.temporal_hz) == (cycles, (direction + 180) % 360, hz)
    )
    assert middle[opposite] < 0.5 * middle[best]


def test_what_stands_still_has_the_same_energy_in_opposite_directions(model: LoadedModel) -> None:
    still = np.repeat(drifting(45, cycles=8, hz=0)[:, :1], N_FRAMES, axis=1)
    energy = energies(model, still)["cycles_8"][0, :, 1, 1]
    by_channel = dict(zip(list_channels(8), energy, strict=True))
    gratings = {(c.direction_deg, c.temporal_hz): e for c, e in by_channel.items() if c.cycles}
    assert max(gratings, key=lambda c: gratings[c]) == (45, 0.0)
    for direction in (0, 45, 90, 135):
        for hz in (2.0, 4.0):
            assert gratings[direction, hz] == pytest.approx(gratings[direction + 180, hz], rel=1e-3, abs=0.05)


def test_energy_grows_with_contrast_in_lightness(model: LoadedModel) -> None:
    index = next(i for i, c in enumerate(list_channels(8)) if (c.direction_deg, c.temporal_hz) == (0, 2.0))
    ramps = [drifting(0, cycles=8, hz=2.0, contrast=c) for c in (0.05, 0.1, 0.2)]
    low, middle, high = (energies(model, frames)["cycles_8"][0, index, 1, 1] for frames in ramps)
    assert low < 0.6 * middle < 0.36 * high


def test_it_is_extracted_like_any_model(tmp_path: Path) -> None:
    frames = render_moving_photographs(0, 1, duration_s=3, fps_hz=25)
    write_video(tmp_path / "film.mp4", frames, 25)
    store = tmp_path / "s.zarr"
    brainsim.extract([tmp_path / "film.mp4"], models="motion-energy", store=store, pool="spatial-2x2")
    nodes = Store(store).nodes("activations")
    assert sorted(node.attributes["layer"] for node in nodes) == sorted(f"cycles_{c}" for c in SPATIAL_CYCLES)
    fine = next(node for node in nodes if node.attributes["layer"] == "cycles_32")
    values = Store(store).read(fine.path, "values")
    assert values.shape == (3, 23 * 4)
    assert np.isfinite(values).all()
