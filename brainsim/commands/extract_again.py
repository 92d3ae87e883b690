"""Turn an extraction's options into a record in its nodes, and that into the command that makes a node again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainsim.core.errors import BrainsimError

if TYPE_CHECKING:
    from brainsim.commands.extract_jobs import Job
    from brainsim.commands.extract_options import ExtractOptions
    from brainsim.store import NodeInfo, Store

# Options that stand in the key of what was made, under the same names; those left out there have their default.
KEY_WORDS = ("protocol", "pool", "dtype", "step_s", "clip_window", "resize", "precision", "pad")


def record_command(job: Job, options: ExtractOptions) -> dict[str, Any]:
    """Return what a job was called with and its key does not say word by word; paths are absolute."""
    stimulus = job.stimulus
    array = stimulus.kind == "array"
    frame_s = None
    if stimulus.kind != "video":
        frame_s = float(stimulus.frame_time_s[1]) if stimulus.n_frames > 1 else stimulus.duration_s
    checkpoint = options.checkpoint_of(job.row)
    return {
        "stimuli": str(stimulus.path.absolute()),
        "models": job.row.address or job.row.name,
        "frame_s": frame_s,
        "axes": stimulus.axes if array else None,
        "value_range": list(stimulus.value_range) if stimulus.value_range else None,
        "tap": options.tap,
        "checkpoint": None if checkpoint is None else str(checkpoint.absolute()),
        "random_weights": options.random_weights,
        "compile": options.compile,
        "device": options.device,
    }


def tell_extract(store: Store, info: NodeInfo) -> str:
    """Return the command that makes a node of `extract` again, from any folder; of older ones, what they say of it."""
    attributes = info.attributes
    called = attributes.get("command") or {}
    model = str(called.get("models", attributes["model"]))
    words = ["brainsim", "extract", str(called.get("stimuli") or _find_source(store, info)), "--models", model]
    words += _as_words({name: info.key.get(name) for name in KEY_WORDS})
    sketch = info.key.get("sketch")
    words += _as_words(
        {
            "sketch": sketch["n_outputs"] if isinstance(sketch, Mapping) else None,
            "seed": attributes.get("seed"),
            "batch_size": attributes.get("batch_size"),
            **{name: value for name, value in called.items() if name not in ("stimuli", "models")},
            "layers": attributes["layer"],
            "names": attributes["stimulus"],
            "store": str(Path(store.path).absolute()),
        }
    )
    told = shlex.join(words)
    return told if called else f"{told} (and what else it was given)"


def _as_words(options: Mapping[str, Any]) -> list[str]:
    words = []
    for name, value in options.items():
        if value is None or value is False:
            continue
        words.append(f"--{name.replace('_', '-')}")
        if isinstance(value, list):
            words.append(",".join(map(repr, value)))
        elif value is not True:
            words.append(value if isinstance(value, str) else repr(value))  # repr keeps every digit
    return words


def _find_source(store: Store, info: NodeInfo) -> str:
    try:
        return str(store.info(f"stimuli/{info.attributes['stimulus']}").attributes["source"])
    except (BrainsimError, KeyError):
        return str(info.attributes["stimulus"])
