"""Turn "hf:ID" or "hf:./FOLDER" into a row: the vision model of a transformers configuration, and its own input."""

from __future__ import annotations

import inspect
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainsim.core.errors import CheckpointError, InputFileError, InvalidValueError
from brainsim.core.provenance import digest, digest_file
from brainsim.models.pretrained import load_pretrained
from brainsim.models.rows import ModelRow, ProtocolSpec, WeightsSource
from brainsim.models.weight_files import checkpoint_files, digest_checkpoint

if TYPE_CHECKING:
    from torch import Tensor

    from brainsim.models.external.layouts import Tokens
    from brainsim.models.network import Network, State
    from brainsim.models.rows import InputSpec

# Configurations whose patch tokens are in the order of the picture: time slowest, then rows (each is tested).
ORDERED = (
    "vit", "deit", "beit", "dinov2", "dinov2_with_registers", "dinov3_vit", "clip_vision_model", "siglip_vision_model",
    "data2vec-vision", "vit_msn", "ijepa", "videomae", "vivit", "vjepa2",
)  # fmt: skip
# Parameters that stand in front of the patch tokens, one row each.
CLASS_TOKENS = ("cls_token", "class_token", "class_embedding", "distillation_token", "register_tokens")
# What published files hold beside the encoder: classifiers, decoders, text towers. Known, and not loaded.
HEADS = (
    "classifier.*", "*_classifier.*", "head.*", "fc_norm.*", "*pooler.*", "decoder.*", "*mask_token", "lm_head.*",
    "text_model.*", "text_projection.*", "visual_projection.*", "logit_scale", "logit_bias", "encoder_to_decoder.*",
    "predictor.*",
)  # fmt: skip
# Configurations that brainsim's own rows run, and this loader cannot: they mask and shuffle also when not trained.
INSTEAD = {"vit_mae": "mae-base (or timm:vit_base_patch16_224.mae)"}


def stamp(rest: str) -> str:
    """Return the version of transformers, and the digest of a folder's configurations."""
    parts = [metadata.version("transformers")]
    if is_folder(rest):
        parts += [digest_file(file) for file in sorted(Path(rest).expanduser().glob("*.json"))]
    return " ".join(parts)


def is_folder(rest: str) -> bool:
    """Return whether a name means a folder of this machine; transformers too prefers a folder to the hub."""
    return rest.startswith((".", "/", "~")) or Path(rest).is_dir()


def describe(rest: str) -> ModelRow:
    """Return the row of a transformers model.

    Raises
    ------
    InputFileError
        No such folder, or one without a configuration.
    CheckpointError
        A configuration that cannot be fetched.
    InvalidValueError
        A model that does not take pictures or clips, or one whose input its configuration does not tell.
    """
    from brainsim.models.external.describing import describe_network
    from brainsim.models.external.processors import read_input

    name, source = _find_source(rest)
    config = _read_config(name, source)
    shown, notes = read_input(name, source, config)
    options: dict[str, Any] = {
        "library": "transformers",
        "model": config.model_type,
        "config": digest(_plain(config)),
        "revision": str(getattr(config, "_commit_hash", None) or ""),
    }
    row = ModelRow(
        name=name,
        family=str(config.model_type).replace("_", "-"),
        kind="a video model of transformers" if shown.n_frames > 1 else "an image model of transformers",
        taps=("?",),
        protocols={"default": ProtocolSpec(shown)},
        load=f"{__name__}:load",
        weights=_find_weights(name, source),
        notes=notes,
        options=options,
        address=f"hf:{source}",
    )
    return describe_network(
        row, lambda: _build(name, source, config, shown), lambda network: _read_tokens(network.module, config, shown)
    )


def load(row: ModelRow, protocol: str) -> Network:
    """Build the model; its public weights come through transformers' own loader, which runs no remote code."""
    from dataclasses import replace

    from brainsim.models.external.describing import build_anywhere

    source = row.address.partition(":")[2]
    config = _read_config(row.name, source)
    return replace(build_anywhere(lambda: _build(row.name, source, config, row.input)), layouts=row.modules)


def _find_source(rest: str) -> tuple[str, str]:
    """Return the row's name and what transformers is told."""
    if not is_folder(rest):
        if not all(c.isalnum() or c in "_-./" for c in rest) or rest.count("/") > 1:
            raise InvalidValueError(
                f"transformers model is {rest!r}; it must be an id (ORGANISATION/MODEL) or a folder (./FOLDER)."
            )
        return f"hf:{rest}", rest
    folder = Path(rest).expanduser().resolve()
    if not (folder / "config.json").is_file():
        raise InputFileError(f"{folder} holds no config.json; a transformers folder does.", hint="hf:./FOLDER")
    if not all(c.isalnum() or c in "_-." for c in folder.name) or folder.name.startswith("."):
        raise InvalidValueError(
            f"folder is {folder.name!r}; its name goes into the store and must be made of letters, digits and . _ -"
        )
    return f"hf:./{folder.name}", str(folder)


def _read_config(name: str, source: str) -> Any:
    """Return the configuration of the vision model: of a whole one, or the vision part of one that also reads text."""
    from transformers import AutoConfig

    try:
        config: Any = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(
            f"the configuration of {name} cannot be had ({reason}).",
            hint=f"fetch config.json, preprocessor_config.json and model.safetensors of {source} elsewhere, and name "
            "their folder: hf:./FOLDER",
        ) from error
    revision = getattr(config, "_commit_hash", None)
    config = getattr(config, "vision_config", None) or config
    if revision and not getattr(config, "_commit_hash", None):
        config._commit_hash = revision
    if config.model_type in INSTEAD:
        raise InvalidValueError(
            f"{name} is a {config.model_type} model, which hides and shuffles patches also when it is not trained.",
            hint=f"the row {INSTEAD[config.model_type]} with --checkpoint FOLDER",
        )
    return config


def _plain(config: Any) -> dict[str, Any]:
    """Return a configuration as JSON, without what says where it came from and who wrote it."""
    import json

    told: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    return {k: v for k, v in told.items() if k not in ("_name_or_path", "transformers_version", "architectures")}


def _find_weights(name: str, source: str) -> WeightsSource:
    if not Path(source).is_dir():
        return WeightsSource("transformers", source, (f"model.safetensors of {source}",))
    try:
        checkpoint_files(Path(source))
    except InputFileError:
        return WeightsSource("file", name, ("a model.safetensors or pytorch_model.bin of transformers",))
    # A folder's name says nothing of what lies in it: its bytes are its identifier.
    return WeightsSource("transformers", f"{name} sha256 {digest_checkpoint(Path(source))}", (f"{name}",))


def _build(name: str, source: str, config: Any, shown: InputSpec) -> Network:
    from brainsim.models.network import Network

    model_class = _find_class(name, config)
    arguments = {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(model_class).parameters else {}
    module = model_class(config, **arguments).float()
    more = _more_inputs(module, config, shown)
    options: dict[str, Any] = {"name": name, "dropped": HEADS, "config": config, **arguments}

    def run(batch: Tensor) -> object:
        return module(**{module.main_input_name: batch}, **more)

    def convert(state: State) -> dict[str, Tensor]:
        if set(state) == set(module.state_dict()):
            return dict(state)
        return load_pretrained(model_class, None, state_dict=dict(state), **options)

    def fetch() -> State:
        return load_pretrained(model_class, source, **options)

    return Network(module, run=run, convert=convert, fetch=fetch)


def _find_class(name: str, config: Any) -> Any:
    """Return transformers' class of the bare model, without classifier or decoder."""
    import torch
    import transformers

    auto: Any = transformers.AutoModel
    try:
        with torch.device("meta"):
            found = type(auto.from_config(config, trust_remote_code=False))
    except (ValueError, ImportError) as error:
        raise InvalidValueError(
            f"{name} is a {config.model_type} model; transformers has no bare model of that kind.",
            hint="load it in a file of your own: --model-file FILE.py:make_model (docs/models.md)",
        ) from error
    if getattr(found, "main_input_name", "") not in ("pixel_values", "pixel_values_videos"):
        raise InvalidValueError(
            f"{name} is a {config.model_type} model, which takes {found.main_input_name}; pixel_values are wanted."
        )
    return found


def _more_inputs(module: Any, config: Any, shown: InputSpec) -> dict[str, Any]:
    """Ask for interpolated position codes where the processor's size is not that of the configuration."""
    own = _pair(getattr(config, "image_size", None))
    takes = "interpolate_pos_encoding" in inspect.signature(module.forward).parameters
    return {"interpolate_pos_encoding": True} if takes and own is not None and own != shown.size else {}


def _read_tokens(module: Any, config: Any, shown: InputSpec) -> Tokens:
    """Return the tokens that the configuration implies; they are believed where their number is that which is seen."""
    from brainsim.models.external.layouts import Tokens

    n_class = sum(
        parameter.numel() // parameter.shape[-1]
        for path, parameter in module.named_parameters()
        if path.rpartition(".")[2] in CLASS_TOKENS
    )
    patch = _pair(getattr(config, "patch_size", None))
    tubelet = getattr(config, "tubelet_size", 1)
    n_t, *in_space = tubelet if isinstance(tubelet, list | tuple) else (tubelet,)
    if len(in_space) == 2:
        patch = (int(in_space[0]), int(in_space[1]))
    if patch is None:
        return Tokens(n_class_tokens=n_class)
    grid = (shown.n_frames // int(n_t), shown.size[0] // patch[0], shown.size[1] // patch[1])
    if config.model_type in ORDERED:
        return Tokens(n_class_tokens=n_class, grid=grid)
    return Tokens(n_class_tokens=n_class, n_patches=grid[0] * grid[1] * grid[2])


def _pair(value: Any) -> tuple[int, int] | None:
    if isinstance(value, int):
        return (value, value)
    if isinstance(value, list | tuple) and len(value) == 2:
        return (int(value[0]), int(value[1]))
    return None
