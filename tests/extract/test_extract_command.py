"""extract writes what a model gives by hand, once, and says what is wrong in a sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from brainsim.commands import extract_run, extract_sizes
from brainsim.commands.extract import ExtractSummary, extract
from brainsim.core.errors import (
    InputFileError,
    InvalidValueError,
    NumericalError,
    StoreError,
    UnknownNameError,
)
from brainsim.core.progress import SilentProgress
from brainsim.models import MODELS, InputSpec, ModelRow, Network, ProtocolSpec, load_model, register_rows
from brainsim.stimuli import iter_frames, open_stimulus, plan_clips, render_moving_photographs, write_video
from brainsim.store import Store

FPS = 12


class Toy(nn.Module):
    """Three layers of an image; one gives what the brightest pixel says: NaN at 250, 1e5 at 240."""

    def __init__(self) -> None:
        super().__init__()
        self.maps, self.tokens, self.vector, self.moody = (nn.Identity() for _ in range(4))

    def forward(self, batch: Tensor) -> None:
        self.maps(batch * 2)  # (B, 3, 12, 16)
        self.tokens(batch.flatten(2).transpose(1, 2))  # (B, 192, 3)
        self.vector(batch.mean(dim=(2, 3)))  # (B, 3)
        peak = batch.amax(dim=(1, 2, 3), keepdim=True)
        moody = torch.where(peak > 249 / 255, torch.nan, torch.where(peak > 239 / 255, 1e5, peak))
        self.moody(moody.flatten(1))


def load_toy(row: ModelRow, protocol: str) -> Network:
    return Network(Toy())


@pytest.fixture(autouse=True)
def toy() -> Iterator[None]:
    row = ModelRow(
        name="toy",
        family="toys",
        kind="toy",
        taps=("maps", "tokens", "vector", "moody"),
        protocols={"default": ProtocolSpec(InputSpec(n_frames=1, size=(12, 16)))},
        load=f"{__name__}:load_toy",
    )
    register_rows([row])
    yield
    MODELS.remove("toy")


@pytest.fixture
def movies(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"run-{run}.mp4" for run in (1, 2)]
    for run, path in enumerate(paths):
        write_video(path, render_moving_photographs(0, run, duration_s=6, fps_hz=FPS, width=64, height=48), FPS)
    return paths


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "s.zarr"


def contents(path: Path) -> dict[str, np.ndarray]:
    box = Store(path)
    return {f"{info.path}:{array}": box.read(info.path, array) for info in box.nodes() for array in info.arrays}


def assert_same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    assert first.keys() == second.keys()
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name], err_msg=name)


def test_values_equal_frames_cut_by_hand_and_one_call_of_the_model(movies: list[Path], store: Path) -> None:
    summary = extract(movies, models=["pixels", "frame-difference"], store=store, step_s=0.5, batch_size=5)
    assert (summary.n_nodes_written, summary.n_nodes_reused, summary.n_clips) == (4, 0, 48)
    box = Store(store)
    for name in ("pixels", "frame-difference"):
        model = load_model(name)
        for path in movies:
            stimulus = open_stimulus(path)
            plan = plan_clips(stimulus, n_frames=model.input.n_frames, step_s=0.5)
            size = model.input.size
            every = np.stack([f[size] for _, f in iter_frames(stimulus, {size: np.ones(stimulus.n_frames, bool)})])
            expected = model.activations(every[plan.frame_index])["grid"].flatten(1).numpy()
            info = box.info(f"activations/{summary.feature_sets[name]}/grid/{path.stem}")
            np.testing.assert_array_equal(box.read(info.path, "values"), expected)
            np.testing.assert_allclose(box.read(info.path, "time_s"), np.arange(1, 13) / 2)
            np.testing.assert_array_equal(box.read(info.path, "window_s"), plan.window_s)
            assert info.attributes["model"] == name
            assert info.attributes["shape"] == [1, 9, 16]
            assert info.attributes["layer_index"] == 0
            assert info.key["stimulus"] == stimulus.digest
    shown = box.info("stimuli/run-1")
    assert (shown.attributes["n_frames"], shown.attributes["kind"]) == (72, "video")
    np.testing.assert_allclose(box.read("stimuli/run-1", "frame_time_s"), np.arange(72) / FPS)


def test_the_summary_is_json(movies: list[Path], store: Path) -> None:
    summary = extract(movies, models=["pixels"], store=store, dry_run=True)
    assert json.loads(json.dumps(asdict(summary)))["stimuli"] == ["run-1", "run-2"]


def test_the_same_command_does_nothing_the_second_time(
    movies: list[Path], store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"models": ["toy", "pixels"], "layers": ["maps", "grid"], "store": store}
    first = extract(movies, **options)
    before = contents(store)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("nothing may be loaded or decoded")

    for name in ("load_models", "run_jobs"):
        monkeypatch.setattr(extract_run, name, refuse)
    second = extract(movies, **options)
    assert (second.n_nodes_written, second.n_nodes_reused, second.bytes) == (0, first.n_nodes_written, 0)
    assert second.feature_sets == first.feature_sets
    assert_same(before, contents(store))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"axes": "txy"}, r"--axes is txy, and goes with arrays \(.npy, .npz\); run-1, run-2 is none"),
        ({"value_range": (0.0, 2.0)}, r"--value-range is 0,2, and goes with arrays"),
    ],
)
def test_words_for_arrays_are_refused_where_there_is_none(
    movies: list[Path], store: Path, words: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidValueError, match=message):
        extract(movies, models=["pixels"], store=store, **words)
    assert not store.exists()


def test_threads_use_as_many_cores_as_are_allowed(
    movies: list[Path], store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, before = [], torch.get_num_threads()
    count = extract_run.count_at_once

    def watched(*args: Any, **words: Any) -> int:
        seen.append(torch.get_num_threads())
        return count(*args, **words)

    monkeypatch.setattr(extract_run, "count_at_once", watched)
    try:
        torch.set_num_threads(3)
        for n_workers in (2, 0, 8):
            extract(movies[0], models=["pixels"], store=store, n_workers=n_workers, overwrite=True)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert seen == [2, 3, 3]


def test_only_what_is_missing_is_made(movies: list[Path], store: Path) -> None:
    extract(movies[:1], models=["toy"], layers=["maps"], store=store)
    more = extract(movies, models=["toy"], layers=["maps", "vector"], store=store)
    assert (more.n_nodes_written, more.n_nodes_reused) == (3, 1)
    assert_same(contents(store), make_afresh(movies, store, models=["toy"], layers=["maps", "vector"]))


def make_afresh(movies: list[Path], store: Path, **options: Any) -> dict[str, np.ndarray]:
    extract(movies, store=store.with_name("fresh.zarr"), **options)
    return contents(store.with_name("fresh.zarr"))


@pytest.mark.parametrize(
    "change",
    [
        {"step_s": 0.5},
        {"clip_window": "centred"},
        {"resize": "stretch"},
        {"pool": "mean"},
        {"dtype": "float16"},
    ],
)
def test_a_changed_option_makes_a_feature_set_of_its_own(
    movies: list[Path], store: Path, change: dict[str, Any]
) -> None:
    plain = extract(movies[:1], models=["pixels"], store=store)
    changed = extract(movies[:1], models=["pixels"], store=store, **change)
    assert plain.feature_sets["pixels"] != changed.feature_sets["pixels"]
    assert changed.n_nodes_written == 1
    assert len(Store(store).nodes("activations")) == 2


def test_a_dry_run_tells_nodes_and_bytes_and_writes_nothing(movies: list[Path], store: Path) -> None:
    told = extract(movies, models=["toy"], layers=["maps", "vector"], store=store, dry_run=True)
    assert not store.exists()
    assert [(row["layer"], row["n_features"], row["bytes"], row["state"]) for row in told.plan[:2]] == [
        ("maps", 576, 6 * 576 * 4, "write"),
        ("vector", 3, 6 * 3 * 4, "write"),
    ]
    done = extract(movies, models=["toy"], layers=["maps", "vector"], store=store)
    assert {row["node"] for row in told.plan} == {info.path for info in Store(store).nodes("activations")}
    assert done.bytes == told.bytes
    again = extract(movies, models=["toy"], layers=["maps", "vector"], store=store, dry_run=True)
    assert {row["state"] for row in again.plan} == {"reuse"}


def test_a_dry_run_warns_where_the_disk_is_too_small(
    movies: list[Path], store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brainsim.commands.extract_sizes.disk_free_bytes", lambda path: 1000)
    told = extract(movies, models=["toy"], layers=["maps"], store=store, dry_run=True)
    assert any("do not fit into the 1000 B free" in warning for warning in told.warnings)
    assert not store.exists()


@pytest.mark.parametrize(
    ("layer", "pool", "n_features"),
    [
        ("maps", "none", 576), ("maps", "mean", 3), ("maps", "spatial-2x2", 12),
        ("tokens", "mean", 3), ("vector", "mean", 3), ("vector", "spatial-2x2", 3),
    ],
)  # fmt: skip
def test_pools_average_over_places_not_channels(
    movies: list[Path], store: Path, layer: str, pool: str, n_features: int
) -> None:
    full = extract(movies[:1], models=["toy"], layers=["maps"], store=store)
    pooled = extract(movies[:1], models=["toy"], layers=[layer], pool=pool, store=store)
    box = Store(store)
    maps = box.read(f"activations/{full.feature_sets['toy']}/maps/run-1", "values").reshape(6, 3, 12, 16)
    values = box.read(f"activations/{pooled.feature_sets['toy']}/{layer}/run-1", "values")
    assert values.shape == (6, n_features)
    if pool == "mean":
        np.testing.assert_allclose(values, maps.mean(axis=(2, 3)) / (2 if layer != "maps" else 1), rtol=1e-5)
    elif pool == "spatial-2x2" and layer == "maps":
        quarters = maps.reshape(6, 3, 2, 6, 2, 8).mean(axis=(3, 5))
        np.testing.assert_allclose(values, quarters.reshape(6, 12), rtol=1e-5)


def test_a_damaged_node_stands_in_nobody_elses_way_and_is_made_again(movies: list[Path], store: Path) -> None:
    options: dict[str, Any] = {"models": ["toy"], "store": store}
    first = extract(movies[:1], layers=["maps"], **options)
    record = store / "activations" / first.feature_sets["toy"] / "maps" / "run-1" / "zarr.json"
    record.write_bytes(record.read_bytes()[:-20])
    assert extract(movies[:1], layers=["vector"], **options).n_nodes_written == 1
    assert extract(movies[:1], layers=["maps"], overwrite=True, **options).n_nodes_written == 1
    assert Store(store).verify() == []


def test_room_is_asked_for_what_an_interrupted_run_has_not_written(
    movies: list[Path], store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from brainsim.store import layout

    monkeypatch.setattr(layout, "CHUNK_ROWS", 2)
    monkeypatch.setattr(layout, "MIN_CHUNK_BYTES", 1)
    options: dict[str, Any] = {"models": ["toy"], "layers": ["maps"], "store": store, "batch_size": 1}
    compute, n_left = extract_run._compute, [5]

    def break_off(*arguments: Any) -> Any:
        n_left[0] -= 1
        if not n_left[0]:
            raise RuntimeError("broken off")
        return compute(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(extract_run, "_compute", break_off)
        with pytest.raises(RuntimeError, match="broken off"):
            extract(movies[:1], **options)
    (info,) = Store(store).nodes("activations", complete=False)
    assert info.nbytes == 4 * 576 * 4 + 2 * 4 or info.nbytes == 2 * 576 * 4 + 4
    monkeypatch.setattr(extract_sizes, "disk_free_bytes", lambda _: 6 * 576 * 4 - info.nbytes - 1)
    with pytest.raises(StoreError, match="do not fit into"):
        extract(movies[:1], **options)
    monkeypatch.setattr(extract_sizes, "disk_free_bytes", lambda _: 6 * 576 * 4 - info.nbytes)
    assert extract(movies[:1], **options).n_nodes_written == 1


@pytest.mark.parametrize(("rows", "columns"), [(3, 4), (1, 1), (12, 2)])
def test_pictures_can_be_pooled_on_any_grid(movies: list[Path], store: Path, rows: int, columns: int) -> None:
    full = extract(movies[:1], models=["toy"], layers=["maps"], store=store)
    pooled = extract(movies[:1], models=["toy"], layers=["maps"], pool=f"spatial-{rows}x{columns}", store=store)
    box = Store(store)
    maps = box.read(f"activations/{full.feature_sets['toy']}/maps/run-1", "values").reshape(6, 3, 12, 16)
    values = box.read(f"activations/{pooled.feature_sets['toy']}/maps/run-1", "values")
    cells = maps.reshape(6, 3, rows, 12 // rows, columns, 16 // columns).mean(axis=(3, 5))
    np.testing.assert_allclose(values, cells.reshape(6, -1), rtol=1e-5)


def test_the_class_token_is_the_one_that_the_model_declares(movies: list[Path], store: Path) -> None:
    options: dict[str, Any] = {"models": ["mae-base-tiny"], "layers": ["*1*"], "random_weights": True, "store": store}
    full, alone = extract(movies[:1], **options), extract(movies[:1], pool="cls", **options)
    box = Store(store)
    layer = alone.plan or box.nodes(f"activations/{alone.feature_sets['mae-base-tiny']}")[0].attributes["layer"]
    info = box.info(f"activations/{full.feature_sets['mae-base-tiny']}/{layer}/run-1")
    every = box.read(info.path, "values").reshape(-1, *info.attributes["shape"])
    found = box.read(f"activations/{alone.feature_sets['mae-base-tiny']}/{layer}/run-1", "values")
    np.testing.assert_array_equal(found, every[:, 0])


def test_a_model_without_a_class_token_is_refused_before_anything_is_written(movies: list[Path], store: Path) -> None:
    with pytest.raises(InvalidValueError, match="no token of which its model says that it stands for the whole clip"):
        extract(movies[:1], models=["videomae-base-tiny"], pool="cls", random_weights=True, store=store)
    assert Store(store).nodes() == []


def test_sketched_features_are_those_of_the_sketch_and_small_layers_stay(movies: list[Path], store: Path) -> None:
    from brainsim.models.sketch import Sketch

    options: dict[str, Any] = {"models": ["toy"], "layers": ["maps", "vector"], "store": store}
    full, less = extract(movies, **options), extract(movies, sketch=100, **options)
    assert full.feature_sets != less.feature_sets
    assert extract(movies, sketch=100, seed=1, **options).feature_sets != less.feature_sets
    box = Store(store)
    for name in ("run-1", "run-2"):
        maps = box.read(f"activations/{full.feature_sets['toy']}/maps/{name}", "values")
        found = box.read(f"activations/{less.feature_sets['toy']}/maps/{name}", "values")
        expected = Sketch(100, seed=0, device=torch.device("cpu"))(torch.from_numpy(maps)).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)
        vector = [box.read(f"activations/{s.feature_sets['toy']}/vector/{name}", "values") for s in (full, less)]
        np.testing.assert_array_equal(*vector)
    info = box.info(f"activations/{less.feature_sets['toy']}/maps/run-1")
    assert info.attributes["sketch"] == {"n_outputs": 100, "error": None}
    assert info.key["sketch"] == {"n_outputs": 100, "seed": 0}
    assert box.info(f"activations/{less.feature_sets['toy']}/vector/run-1").attributes["sketch"] is None


def test_the_size_of_a_sketch_follows_from_its_error_and_all_clips(movies: list[Path], store: Path) -> None:
    from brainsim.models.sketch_size import count_outputs

    told = extract(movies, models=["toy"], layers=["maps"], sketch_error=0.5, store=store, dry_run=True)
    assert {row["n_features"] for row in told.plan} == {count_outputs(12, 0.5)}  # 12 clips in two movies: 134
    done = extract(movies, models=["toy"], layers=["maps"], sketch_error=0.5, store=store)
    assert done.bytes == told.bytes == 12 * count_outputs(12, 0.5) * 4


@pytest.mark.parametrize("pad", ["repeat", "drop", "error"])
def test_clips_beyond_the_movie_are_repeated_left_out_or_refused(tmp_path: Path, store: Path, pad: str) -> None:
    options: dict[str, Any] = {"models": ["frame-difference"], "frame_s": 0.1, "step_s": 0.1, "store": store}
    movie = impulse(tmp_path / "m.npy", 3)
    if pad == "error":
        with pytest.raises(InvalidValueError, match=r"m lasts 6.000 s; 1 of 60 clips reach beyond it and 0 into gaps"):
            extract(movie, pad=pad, **options)
        return
    summary = extract(movie, pad=pad, **options)
    (info,) = Store(store).nodes("activations")
    assert (info.attributes["n_padded_clips"], info.attributes["n_dropped_clips"]) == ((1, 0), (0, 1))[pad == "drop"]
    assert info.arrays["values"][0][0] == (59 if pad == "drop" else 60)
    assert ("are left out" if pad == "drop" else "is repeated there") in summary.warnings[0]


def test_tokens_without_known_places_cannot_be_pooled_by_place(movies: list[Path], store: Path) -> None:
    with pytest.raises(InvalidValueError, match=r"'tokens' of shape .* has no known place"):
        extract(movies[:1], models=["toy"], layers=["tokens"], pool="spatial-2x2", store=store)


def impulse(path: Path, at: int | None, *, n_frames: int = 60) -> Path:
    values = np.zeros((n_frames, 12, 16), np.uint8)
    if at is not None:
        values[at] = 200
    np.save(path, values)
    return path


@pytest.mark.parametrize("model", ["pixels", "frame-difference"])
@pytest.mark.parametrize("at", [0, 17, 18, 30, 59])
def test_an_impulse_moves_only_clips_whose_window_holds_it(tmp_path: Path, store: Path, model: str, at: int) -> None:
    frame_s, step_s = 0.1, 0.3
    options: dict[str, Any] = {"models": [model], "store": store, "frame_s": frame_s, "step_s": step_s}
    summary = extract([impulse(tmp_path / "flash.npy", at), impulse(tmp_path / "black.npy", None)], **options)
    box = Store(store)
    node = f"activations/{summary.feature_sets[model]}/grid"
    moved = (box.read(f"{node}/flash", "values") != box.read(f"{node}/black", "values")).any(axis=1)
    window_s = box.read(f"{node}/flash", "window_s")
    holds = (window_s[:, 0] < (at + 0.5) * frame_s) & ((at + 0.5) * frame_s < window_s[:, 1])
    if model == "frame-difference":
        holds |= (at == 0) & (window_s[:, 0] < 0)
    np.testing.assert_array_equal(moved, holds)
    assert not moved[box.read(f"{node}/flash", "time_s") <= at * frame_s + 1e-9].any()


def test_activations_that_are_not_finite_keep_nothing(tmp_path: Path, store: Path) -> None:
    values = np.full((6, 12, 16), 100, np.uint8)
    values[4] = 255
    np.save(tmp_path / "flash.npy", values)
    with pytest.raises(NumericalError, match=r"toy, layer moody: activations of clip 4 of flash \(at 5.000 s\)"):
        extract(tmp_path / "flash.npy", models=["toy"], frame_s=1, store=store, batch_size=3)
    assert Store(store).nodes("activations") == []


def test_bfloat16_is_float32_rounded_in_half_the_bytes(movies: list[Path], store: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"models": ["toy"], "layers": ["maps", "vector"], "step_s": 0.5, "batch_size": 5}
    whole = extract(movies, store=tmp_path / "whole.zarr", **options)
    planned = extract(movies, store=store, dtype="bfloat16", dry_run=True, **options)
    done = extract(movies, store=store, dtype="bfloat16", **options)
    assert planned.bytes == done.bytes == whole.bytes / 2
    assert done.feature_sets != whole.feature_sets
    for info in Store(tmp_path / "whole.zarr").nodes("activations"):
        twin = info.path.replace(whole.feature_sets["toy"], done.feature_sets["toy"])
        expected = torch.from_numpy(Store(tmp_path / "whole.zarr").read(info.path, "values")).bfloat16().float().numpy()
        np.testing.assert_array_equal(Store(store).read(twin, "values"), expected)


def test_bfloat16_holds_what_float16_cannot(tmp_path: Path, store: Path) -> None:
    np.save(tmp_path / "bright.npy", np.full((4, 12, 16), 242, np.uint8))
    done = extract(tmp_path / "bright.npy", models=["toy"], layers=["moody"], frame_s=1, dtype="bfloat16", store=store)
    values = Store(store).read(f"activations/{done.feature_sets['toy']}/moody/bright", "values")
    np.testing.assert_allclose(values, 1e5, rtol=2**-8)


def test_float16_refuses_what_it_cannot_hold(tmp_path: Path, store: Path) -> None:
    np.save(tmp_path / "bright.npy", np.full((6, 12, 16), 245, np.uint8))
    with pytest.raises(NumericalError, match="activations reach 100000; float16 ends at 65504"):
        extract(tmp_path / "bright.npy", models=["toy"], layers=["moody"], frame_s=1, dtype="float16", store=store)
    extract(tmp_path / "bright.npy", models=["toy"], layers=["moody"], frame_s=1, store=store)


def test_padded_clips_are_counted_and_told(tmp_path: Path, store: Path) -> None:
    summary = extract(impulse(tmp_path / "m.npy", 3), models=["frame-difference"], frame_s=0.1, step_s=0.1, store=store)
    assert summary.n_padded_clips == 1
    assert "1 clips reach beyond" in summary.warnings[0]
    assert Store(store).nodes("activations")[0].attributes["n_padded_clips"] == 1


def test_little_memory_means_more_passes_and_the_same_numbers(
    movies: list[Path], store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"models": ["toy", "pixels", "contrast-energy"], "layers": ["maps", "grid"]}
    with monkeypatch.context() as patch:
        patch.setattr(extract_sizes, "memory_free_bytes", lambda: 1)
        extract(movies[:1], store=store, **options)
    assert_same(contents(store), make_afresh(movies[:1], store, **options))


def test_another_movie_of_the_same_name_is_refused_unless_it_shall_replace(
    movies: list[Path], tmp_path: Path, store: Path
) -> None:
    extract(movies[0], models=["pixels"], store=store, names=["run"])
    with pytest.raises(InvalidValueError, match="another movie under the name 'run'") as error:
        extract(movies[1], models=["pixels"], store=store, names=["run"])
    assert "--names" in str(error.value.hint)
    replaced = extract(movies[1], models=["pixels"], store=store, names=["run"], overwrite=True)
    assert replaced.n_nodes_written == 1
    assert replaced.warnings == ()
    assert Store(store).info("stimuli/run").key["stimulus"] == open_stimulus(movies[1]).digest


def test_activations_to_a_replaced_movie_are_told(movies: list[Path], store: Path) -> None:
    extract(movies[0], models=["pixels", "contrast-energy"], store=store, names=["run"])
    replaced = extract(movies[1], models=["pixels"], store=store, names=["run"], overwrite=True)
    assert "1 activations nodes to an older movie of the name 'run' are left in contrast" in replaced.warnings[0]


def test_a_full_disk_is_told_before_anything_is_computed(
    movies: list[Path], store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract_sizes, "disk_free_bytes", lambda _: 1000)
    with pytest.raises(StoreError, match=r"of activations do not fit into the 1000 B free"):
        extract(movies, models=["pixels"], store=store)
    assert Store(store).nodes() == []


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"models": ["pixel"]}, UnknownNameError, "unknown model 'pixel'; did you mean 'pixels'"),
        ({"models": []}, InvalidValueError, "no models given"),
        ({"models": ["none-*"]}, UnknownNameError, "unknown model 'none-"),
        ({"layers": ["map"]}, UnknownNameError, "no layer of toy matches 'map'; did you mean 'maps'"),
        ({"layers": ["maps", "conv*"]}, UnknownNameError, r"matches 'conv\*'"),
        ({"pool": "max"}, InvalidValueError, "pool is 'max'"),
        ({"pool": "spatial-0x2"}, InvalidValueError, "pool is 'spatial-0x2'; allowed: none, mean, cls, and spatial"),
        ({"pad": "zeros"}, InvalidValueError, "pad is 'zeros'"),
        ({"sketch": 0}, InvalidValueError, "sketch is 0"),
        ({"sketch_error": 2.0}, InvalidValueError, "sketch_error is 2; it must be above 0 and below 1"),
        ({"sketch": 10, "sketch_error": 0.1}, InvalidValueError, "sketch is 10 and sketch_error 0.1; one of them"),
        ({"dtype": "int8"}, InvalidValueError, "dtype is 'int8'"),
        ({"resize": "warp"}, InvalidValueError, "resize is 'warp'"),
        ({"clip_window": "leading"}, InvalidValueError, "clip_window is 'leading'"),
        ({"step_s": -1.0}, InvalidValueError, "step_s is -1 s"),
        ({"step_s": 60.0}, InvalidValueError, "less than one step of 60 s"),
        ({"batch_size": 0}, InvalidValueError, "batch_size is 0"),
        ({"protocol": "paper"}, InvalidValueError, "protocol is 'paper'"),
        ({"names": ["a"]}, InvalidValueError, "1 names for 2 stimuli"),
        ({"names": ["a", "a"]}, InvalidValueError, "would both be called 'a'"),
        ({"names": ["a", "b/c"]}, InvalidValueError, "stimulus name is 'b/c'"),
        ({"frame_s": 0.04}, InvalidValueError, "carries its own times"),
        ({"checkpoint": "absent.pth"}, InputFileError, "no checkpoint at absent.pth"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    movies: list[Path], store: Path, options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        extract(movies, **({"models": ["toy"], "store": store} | options))
    assert not store.exists() or Store(store).nodes() == []


def test_stimuli_are_needed_and_one_path_will_do(movies: list[Path], store: Path) -> None:
    with pytest.raises(InvalidValueError, match="no stimuli given"):
        extract([], models=["toy"], store=store)
    assert isinstance(extract(str(movies[0]), models="toy", layers="vector", store=store), ExtractSummary)  # type: ignore[arg-type]  # one word is taken as a list of one


def test_a_checkpoint_fits_one_model(movies: list[Path], tmp_path: Path, store: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"weights")
    with pytest.raises(InvalidValueError, match="one checkpoint for 2 models"):
        extract(movies, models=["toy", "pixels"], checkpoint=tmp_path / "w.pth", store=store)


def test_images_are_one_row_each(tmp_path: Path, store: Path) -> None:
    from PIL import Image

    folder = tmp_path / "set"
    folder.mkdir()
    for grey in (10, 20, 30):
        Image.new("RGB", (128, 72), (grey,) * 3).save(folder / f"{grey}.png")
    summary = extract(folder, models=["pixels", "frame-difference"], store=store)
    box = Store(store)
    pixels = box.read(f"activations/{summary.feature_sets['pixels']}/grid/set", "values")
    np.testing.assert_allclose(pixels.mean(axis=1), np.array([10, 20, 30]) / 255, rtol=1e-5)
    still = box.read(f"activations/{summary.feature_sets['frame-difference']}/grid/set", "values")
    assert (still == 0).all()


def test_a_step_of_the_study_is_extracted_for_the_models_that_it_changes(movies: list[Path], store: Path) -> None:
    told = Notes()
    models = ["mae-base-tiny", "mae-base-finetuned-tiny", "cnn-flow-selfsup-tiny"]
    options: dict[str, Any] = {"store": store, "layers": ["*1*"], "step_s": 2.0, "progress": told}
    extract(movies[0], models=models, **options)
    summary = extract(movies[0], models=models, protocol="study-mask", **options)
    assert list(summary.feature_sets) == ["mae-base-tiny"]
    assert told.notes == [
        "--protocol study-mask changes nothing for cnn-flow-selfsup-tiny, mae-base-finetuned-tiny: protocol default "
        "serves for them."
    ]
    with pytest.raises(
        InvalidValueError, match=r"--protocol study-window changes nothing .*; it does for videomae-base"
    ):
        extract(movies[0], models=models, protocol="study-window", **options)
    nodes = Store(store).nodes("activations")
    assert {n.attributes["protocol"] for n in nodes if n.attributes["model"] == "mae-base-tiny"} == {
        "default",
        "study-mask",
    }


class Notes(SilentProgress):
    """Keeps what is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


def test_random_masks_do_not_depend_on_what_was_extracted_before(movies: list[Path], store: Path) -> None:
    options: dict[str, Any] = {"models": ["mae-base-tiny"], "layers": ["*0*"], "protocol": "study", "step_s": 2.0}
    for path, batch_size in zip(movies[::-1], (1, 8), strict=True):
        extract(path, store=store, batch_size=batch_size, **options)
    apart, together = contents(store), make_afresh(movies, store, **options)
    assert apart.keys() == together.keys()
    for name, values in apart.items():
        np.testing.assert_allclose(values, together[name], rtol=1e-4, atol=1e-5, err_msg=name)
