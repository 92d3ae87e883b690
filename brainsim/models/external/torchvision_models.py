"""Turn "torchvision:NAME" into a row: input, accuracy and weights as the entry of its weights tells them."""

from __future__ import annotations

import re
from importlib import metadata
from typing import TYPE_CHECKING, Any

from brainsim.core.errors import InvalidValueError
from brainsim.core.registry import unknown_name
from brainsim.models.rows import Accuracy, InputSpec, ModelRow, ProtocolSpec, WeightsSource

if TYPE_CHECKING:
    from torch import Tensor

    from brainsim.models.external.layouts import Tokens
    from brainsim.models.network import Network, State

# Where torchvision's classes keep their classifier.
_HEADS = ("fc", "classifier", "heads", "head")
# The files of its DenseNets are older than the names of its modules.
_OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.\w+)$")


def stamp(rest: str) -> str:
    """Return the version of torchvision: its configurations come with it."""
    return metadata.version("torchvision")


def describe(rest: str) -> ModelRow:
    """Return the row of a torchvision classifier; "NAME.WEIGHTS" names weights other than its default ones.

    Raises
    ------
    UnknownNameError
        No such model, or no such weights.
    InvalidValueError
        A video model whose weights do not tell how many frames they were trained on.
    """
    from brainsim.models.external.describing import describe_network

    name, weights = _find_weights(rest)
    shown, note = _read_input(rest, weights)
    options = {"library": "torchvision", "model": name, "weights": str(weights)}
    metrics: dict[str, dict[str, float]] = weights.meta.get("_metrics", {})
    data_set = next(iter(metrics), "")
    percent = metrics.get(data_set, {}).get("acc@1")
    row = ModelRow(
        name=f"torchvision:{rest}",
        family=_find_family(name),
        kind="a video classifier of torchvision" if shown.n_frames > 1 else "an image classifier of torchvision",
        taps=("?",),
        protocols={"default": ProtocolSpec(shown)},
        load=f"{__name__}:load",
        trained_to_give="action identity" if shown.n_frames > 1 else "object identity",
        training_set=data_set,
        accuracy=None if percent is None else Accuracy(percent, f"{data_set}, top-1", f"torchvision, {weights}"),
        citation=str(weights.meta.get("recipe", "")),
        weights=WeightsSource("torchvision", str(weights), (f"{weights.url.rpartition('/')[2]} (torchvision)",)),
        notes=(note,),
        options=options,
    )
    return describe_network(row, lambda: _build(options), lambda network: _read_tokens(network, shown))


def load(row: ModelRow, protocol: str) -> Network:
    """Build the model; its public weights come from torchvision's address, through torch's cache."""
    from dataclasses import replace

    from brainsim.models.external.describing import build_anywhere

    return replace(build_anywhere(lambda: _build(dict(row.options))), layouts=row.modules)


def _build(options: dict[str, Any]) -> Network:
    from torchvision.models import get_model, get_weight

    from brainsim.models.checkpoints import strip_prefixes
    from brainsim.models.external.heads import fit_heads, last_layer
    from brainsim.models.network import Network
    from brainsim.models.torch_cache import fetch_file

    name, weights = options["model"], get_weight(options["weights"])
    module = get_model(name, weights=None, **_arguments(name, weights))
    heads = last_layer(module, _HEADS)

    def convert(state: State) -> dict[str, Tensor]:
        named = {_OLD_DENSENET.sub(r"\1\2", key): tensor for key, tensor in strip_prefixes(state, ("module.",)).items()}
        return fit_heads(module, named, heads)

    return Network(module, convert=convert, fetch=lambda: fetch_file(weights.url))


def _arguments(name: str, weights: Any) -> dict[str, Any]:
    """Return what torchvision's builders change in a network that gets these weights, besides filling it."""
    from torchvision.models import get_model_builder

    arguments: dict[str, Any] = {"num_classes": len(weights.meta["categories"])}
    module = get_model_builder(name).__module__.rpartition(".")[2]
    if module == "vision_transformer":
        arguments["image_size"] = weights.meta["min_size"][0]
    elif module == "maxvit":
        arguments["input_size"] = weights.meta["min_size"]
    elif module in ("inception", "googlenet"):
        arguments |= {"transform_input": True, "aux_logits": True, "init_weights": False}
    return arguments


def _find_weights(rest: str) -> tuple[str, Any]:
    """Return the builder's name and the entry of the weights."""
    import torchvision
    from torchvision.models import get_model_weights, list_models

    name, _, wanted = rest.partition(".")
    known = [*list_models(module=torchvision.models), *list_models(module=torchvision.models.video)]
    if name not in known:
        raise unknown_name("torchvision classifier", name, known, hint="torchvision.models.list_models() in Python")
    entries: Any = get_model_weights(name)
    if not wanted:
        return name, entries.DEFAULT
    if wanted not in entries.__members__:
        raise unknown_name(f"weights of torchvision:{name}", wanted, list(entries.__members__))
    return name, entries[wanted]


def _read_input(rest: str, weights: Any) -> tuple[InputSpec, str]:
    preset = weights.transforms()
    crop = [int(side) for side in preset.crop_size]
    size = (crop[0], crop[-1])
    mean, std = tuple(preset.mean), tuple(preset.std)
    resized = " x ".join(str(side) for side in preset.resize_size)
    note = (
        f"torchvision evaluates it on the centre of pictures resized to {resized}, {preset.interpolation.value}; "
        "brainsim shows the whole of the shorter side, bilinear"
    )
    if type(preset).__name__ == "ImageClassification":
        return InputSpec(n_frames=1, size=size, mean=mean, std=std), note
    # The number of frames and their rate are told in words only.
    told = str(weights.meta.get("_docs", ""))
    n_frames, rate_hz = (re.search(rf"{word}=([\d.]*\d)", told) for word in ("clip_len", "frame_rate"))
    if type(preset).__name__ != "VideoClassification" or n_frames is None or rate_hz is None:
        raise InvalidValueError(
            f"torchvision does not tell how many frames torchvision:{rest} is shown, and at what rate.",
            hint="declare it in a file of your own: --model-file FILE.py:make_model (docs/models.md)",
        )
    shown = InputSpec(
        n_frames=int(n_frames[1]), size=size, mean=mean, std=std, layout="channels-frames",
        frame_rate_hz=float(rate_hz[1]), sampling_hz=float(rate_hz[1]),
    )  # fmt: skip
    return shown, note


def _find_family(name: str) -> str:
    """Return torchvision's file of the architecture: "resnet", "video-resnet"."""
    from torchvision.models import get_model_builder

    path = get_model_builder(name).__module__.split(".")
    return f"video-{path[-1]}" if "video" in path else path[-1]


def _read_tokens(network: Network, shown: InputSpec) -> Tokens:
    from torch import nn

    from brainsim.models.external.layouts import Tokens

    module: Any = network.module
    if isinstance(getattr(module, "class_token", None), nn.Parameter):  # the vision transformers
        height, width = (side // int(module.patch_size) for side in shown.size)
        return Tokens(n_class_tokens=1, grid=(1, height, width))
    code = getattr(module, "pos_encoding", None)  # MViT; its blocks tell their grids
    if isinstance(getattr(code, "class_token", None), nn.Parameter):
        return Tokens(n_class_tokens=1)
    return Tokens()
