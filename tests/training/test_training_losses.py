"""Losses of flow against slower ones, and flows whose error is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from generated_movies import move_photograph
from scipy.ndimage import gaussian_filter, map_coordinates
from skimage.metrics import structural_similarity

from brainsim.stimuli.moving import load_photographs
from brainsim.training.flow_losses import (
    SMOOTHNESS_WEIGHTS,
    charbonnier,
    measure_endpoint_error,
    measure_flow_loss,
    measure_ssim,
    warp,
)


@pytest.fixture(scope="module")
def moving() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return move_photograph(load_photographs()[0], n_frames=11, size=64, velocity=(1.5, -0.75), rng=rng)


def test_warping_samples_the_later_frame_where_the_flow_points() -> None:
    rng = np.random.default_rng(0)
    image = rng.random((1, 3, 20, 30))
    flow = rng.normal(0, 3, (1, 2, 20, 30))
    y, x = np.mgrid[:20, :30].astype(float)
    expected = [
        map_coordinates(channel, [y + flow[0, 1], x + flow[0, 0]], order=1, mode="nearest") for channel in image[0]
    ]
    warped = warp(torch.from_numpy(image), torch.from_numpy(flow))
    np.testing.assert_allclose(warped[0].numpy(), expected, atol=1e-9)


def test_structural_similarity_is_that_of_scikit_image_inside_the_border() -> None:
    rng = np.random.default_rng(1)
    a = gaussian_filter(rng.random((3, 40, 50)), (0, 1, 1))
    b = a + 0.1 * rng.standard_normal(a.shape)
    _, expected = structural_similarity(
        a, b, channel_axis=0, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    ours = measure_ssim(torch.from_numpy(a)[None], torch.from_numpy(b)[None])[0].numpy()
    np.testing.assert_allclose(ours[:, 6:-6, 6:-6], expected[:, 6:-6, 6:-6], atol=1e-6)


def test_structural_similarity_of_a_map_with_itself_is_one_up_to_the_border_of_small_maps() -> None:
    image = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(measure_ssim(image, image), torch.ones_like(image))


def test_loss_is_the_sum_of_its_terms_written_out() -> None:
    generator = torch.Generator().manual_seed(0)
    frames = torch.rand(2, 3, 3, 16, 24, generator=generator, dtype=torch.float64)
    flows = [torch.randn(2, 4, 16 // s, 24 // s, generator=generator, dtype=torch.float64) for s in (1, 2, 4, 8)]
    brightness = structure = smoothness = 0.0
    for s, flow, weight in zip((1, 2, 4, 8), flows, SMOOTHNESS_WEIGHTS, strict=True):
        for pair in range(2):
            first, second = (
                torch.nn.functional.avg_pool2d(frames[:, :, pair + k], s) if s > 1 else frames[:, :, pair + k]
                for k in (0, 1)
            )
            own = flow[:, 2 * pair : 2 * pair + 2]
            rebuilt = warp(second, own)
            brightness += (((first - rebuilt) ** 2 + 1e-8) ** 0.4).mean() / 2
            structure += (1 - measure_ssim(first, rebuilt)).mean() / 2
            steps = [own.diff(dim=-1), own.diff(dim=-2)]
            smoothness += weight * sum(((d**2 + 1e-7) ** 0.3).mean() for d in steps) / 2
    loss = measure_flow_loss(frames, flows)
    torch.testing.assert_close(loss.brightness, brightness)
    torch.testing.assert_close(loss.structure, structure)
    torch.testing.assert_close(loss.smoothness, smoothness)
    torch.testing.assert_close(loss.total, brightness + structure + smoothness)


def test_true_flow_rebuilds_frames_better_than_no_flow(moving: tuple[np.ndarray, np.ndarray]) -> None:
    frames, flow = moving
    x = torch.from_numpy(frames).permute(3, 0, 1, 2)[None] / 255  # (1, 3, n_frames, h, w)
    true = torch.from_numpy(flow).permute(0, 3, 1, 2).flatten(0, 1)[None]
    scales = [true] + [torch.nn.functional.avg_pool2d(true, s) / s for s in (2, 4, 8)]
    with_truth = measure_flow_loss(x, scales)
    without = measure_flow_loss(x, [torch.zeros_like(flow) for flow in scales])
    with_opposite = measure_flow_loss(x, [-flow for flow in scales])
    assert with_truth.brightness < 0.6 * without.brightness < 0.6 * with_opposite.brightness
    assert with_truth.structure < 0.6 * without.structure


def test_gradient_of_the_loss_is_finite_where_nothing_moves() -> None:
    frames = torch.zeros(1, 3, 11, 16, 16)
    flows = [torch.zeros(1, 20, 16 // s, 16 // s, requires_grad=True) for s in (1, 2, 4, 8)]
    measure_flow_loss(frames, flows).total.backward()
    assert all(bool(torch.isfinite(flow.grad).all()) for flow in flows)


def test_charbonnier_is_the_formula() -> None:
    assert float(charbonnier(torch.tensor(2.0), 0.4, 1e-8)) == pytest.approx(4**0.4)


def test_endpoint_error_leaves_out_what_is_not_known() -> None:
    truth = torch.zeros(2, 3, 4)
    truth[:, 0] = 1e10
    truth[:, 1, 0] = torch.nan
    flow = torch.full((2, 3, 4), 3.0)
    flow[1] = 4.0
    assert float(measure_endpoint_error(flow, truth)) == pytest.approx(5.0)
