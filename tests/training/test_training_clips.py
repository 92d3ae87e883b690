"""Folders of clips, their splits, and windows in shuffled batches."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from brainsim.core.errors import InputFileError, InvalidValueError
from brainsim.stimuli import open_stimulus, write_video
from brainsim.training.clip_folders import find_clips, split_clips
from brainsim.training.windows import Source, WindowSpec, iter_batches, iter_windows, read_ahead, spread_starts


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Source]:
    """Clips whose every frame tells its clip and its number by its grey."""
    folder = tmp_path_factory.mktemp("clips")
    made = []
    for clip, n_frames in enumerate((12, 17, 30)):
        frames = [np.full((16, 16, 3), 8 * k, np.uint8) for k in range(n_frames)]
        path = folder / f"clip_{clip}.mp4"
        write_video(path, frames, 25, crf=0)
        made.append(Source(open_stimulus(path), clip, f"clip_{clip}"))
    return made


def test_folders_per_action_numbered_files_and_folders_of_frames_are_found(tmp_path: Path) -> None:
    by_action = touch(
        tmp_path / "a", "archery/1.mp4", "archery/2.avi", "bowling/x/001.jpg", ".hidden/1.mp4", "notes.txt"
    )
    assert [(c.name, c.action) for c in find_clips(by_action)] == [
        ("archery/1", "archery"),
        ("archery/2", "archery"),
        ("bowling/x", "bowling"),
    ]
    haa = touch(tmp_path / "b", "high_jump_000/1.png", "high_jump_001/1.png", "archery_000/1.png")
    assert [c.action for c in find_clips(haa)] == ["archery", "high_jump", "high_jump"]
    parted = touch(tmp_path / "c", "train/archery/1.mp4", "validation/archery/2.mp4")
    assert [(c.name, c.part) for c in find_clips(parted)] == [
        ("train/archery/1", "train"),
        ("validation/archery/2", "val"),
    ]


def test_an_empty_folder_and_twins_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="holds no videos"):
        find_clips(tmp_path)
    with pytest.raises(InputFileError, match="two clips are called"):
        find_clips(touch(tmp_path / "d", "a/1.mp4", "a/1.avi"))
    with pytest.raises(InputFileError, match="no folder of videos"):
        find_clips(tmp_path / "nowhere")


def test_actions_have_the_same_order_in_every_process(tmp_path: Path) -> None:
    folder = touch(tmp_path, *(f"{action}/{i}.mp4" for action in "qwertyuiop" for i in range(3)))
    code = (
        "import sys; from brainsim.training.clip_folders import find_clips, split_clips; "
        "print([(c.name, c.part) for c in split_clips(find_clips(sys.argv[1]))[0]])"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code, str(folder)], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(printed) == 1


def test_haa_numbers_give_its_own_split(tmp_path: Path) -> None:
    folder = touch(tmp_path, *(f"{action}/{action}_{i:03d}.mp4" for action in ("archery", "yoga") for i in range(20)))
    clips, source = split_clips(find_clips(folder))
    assert Counter(clip.part for clip in clips) == {"train": 32, "val": 2, "test": 6}
    assert {clip.name for clip in clips if clip.part == "val"} == {"archery/archery_016", "yoga/yoga_016"}
    assert "HAA-500" in source


def test_drawn_split_holds_out_clips_of_every_action_and_depends_on_the_seed_alone(tmp_path: Path) -> None:
    folder = touch(tmp_path, *(f"{action}/{i}.mp4" for action in ("a", "b") for i in range(10)))
    clips, _ = split_clips(find_clips(folder), val_share=0.2, seed=1)
    assert Counter((c.action, c.part) for c in clips) == {
        (a, p): n for a in "ab" for p, n in (("train", 8), ("val", 2))
    }
    assert clips == split_clips(find_clips(folder), val_share=0.2, seed=1)[0]
    assert clips != split_clips(find_clips(folder), val_share=0.2, seed=2)[0]


def test_a_table_gives_the_split_and_its_mistakes_are_named(tmp_path: Path) -> None:
    clips = find_clips(touch(tmp_path / "v", "a/1.mp4", "a/2.mp4", "b/3.mp4"))
    table = tmp_path / "split.tsv"
    table.write_text("clip\tsplit\na/1\ttrain\n2.mp4\ttest\n3\tvalidation\n")
    assert [c.part for c in split_clips(clips, split=table)[0]] == ["train", "test", "val"]
    table.write_text("clip,split\na/1,train\na/9,val\n")
    with pytest.raises(InvalidValueError, match="1 clips that are not there: a/9"):
        split_clips(clips, split=table)
    table.write_text("clip,split\na/1,practice\n")
    with pytest.raises(InvalidValueError, match="'practice'"):
        split_clips(clips, split=table)
    table.write_text("file,part\na/1,train\n")
    with pytest.raises(InvalidValueError, match="columns file, part"):
        split_clips(clips, split=table)
    table.write_text("clip,split\na/1,train\n")
    with pytest.raises(InvalidValueError, match="1 clips to train on and 0 held out"):
        split_clips(clips, split=table)


def first_grey(frames: np.ndarray) -> int:
    return round(float(frames.mean()) / 8)


def test_windows_are_consecutive_frames_from_their_start(sources: list[Source]) -> None:
    windows = list(iter_windows(sources[1], WindowSpec(5, 3, (16, 16))))
    assert [w.start for w in windows] == [0, 3, 6, 9, 12]
    for window in windows:
        assert [first_grey(frame) for frame in window.frames] == list(range(window.start, window.start + 5))
    chosen = list(iter_windows(sources[1], WindowSpec(5, 3, (16, 16)), starts=[1, 11]))
    assert [first_grey(w.frames[0]) for w in chosen] == [1, 11]


def test_spread_windows_reach_both_ends(sources: list[Source]) -> None:
    assert spread_starts(sources[1], 11, 10) == [0, 1, 2, 3, 4, 5, 6]
    assert spread_starts(sources[2], 11, 3) == [0, 10, 19]
    assert spread_starts(sources[0], 12, 3) == [0]


@pytest.mark.parametrize("n_workers", [1, 3])
def test_an_epoch_shows_every_window_once_in_an_order_of_the_seed_alone(sources: list[Source], n_workers: int) -> None:
    spec = WindowSpec(11, 1, (16, 16))

    def epoch(seed: int, workers: int) -> list[tuple[str, int]]:
        rng = np.random.default_rng(seed)
        batches = list(iter_batches(sources, spec, batch_size=2, rng=rng, n_workers=workers))
        for batch in batches:
            greys = [[first_grey(frame) for frame in clip] for clip in batch.frames]
            assert greys == [list(range(w.start, w.start + 11)) for w in batch.windows]
            assert batch.labels.tolist() == [w.source.label for w in batch.windows]
        return [(w.source.name, w.start) for batch in batches for w in batch.windows]

    shown = epoch(0, n_workers)
    everything = {(s.name, k) for s in sources for k in range(s.stimulus.n_frames - 10)}
    assert len(shown) == len(set(shown)) == len(everything) // 2 * 2
    assert set(shown) <= everything
    assert shown == epoch(0, 2)
    assert shown != epoch(1, n_workers)
    assert [name for name, _ in shown] != sorted(name for name, _ in shown)


def test_reading_ahead_gives_the_same_batches_and_hands_errors_on(sources: list[Source]) -> None:
    spec = WindowSpec(11, 1, (16, 16))

    def batches() -> list[np.ndarray]:
        ahead = read_ahead(iter_batches(sources, spec, batch_size=4, rng=np.random.default_rng(3), n_workers=2))
        return [batch.frames for batch in ahead]

    plain = list(iter_batches(sources, spec, batch_size=4, rng=np.random.default_rng(3), n_workers=1))
    for one, other in zip(batches(), plain, strict=True):
        np.testing.assert_array_equal(one, other.frames)

    def fail():
        yield plain[0]
        raise InputFileError("the clip is damaged.")

    ahead = read_ahead(fail())
    next(ahead)
    with pytest.raises(InputFileError, match="damaged"):
        next(ahead)


def test_a_reader_that_stops_early_leaves_no_thread_waiting(sources: list[Source]) -> None:
    ahead = read_ahead(
        iter_batches(sources, WindowSpec(11, 1, (16, 16)), batch_size=1, rng=np.random.default_rng(0), n_workers=2)
    )
    next(ahead)
    ahead.close()
