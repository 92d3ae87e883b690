"""Turn "timm:NAME" into a row: input, tokens and weights as timm's own configuration tells them."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any

from brainsim.core.errors import InvalidValueError
from brainsim.core.registry import unknown_name
from brainsim.models.rows import InputSpec, ModelRow, ProtocolSpec, WeightsSource

if TYPE_CHECKING:
    from torch import Tensor

    from brainsim.models.external.layouts import Tokens
    from brainsim.models.network import Network, State


def stamp(rest: str) -> str:
    """Return the version of timm: its configurations come with it."""
    return metadata.version("timm")


def describe(rest: str) -> ModelRow:
    """Return the row of a timm model.

    Raises
    ------
    UnknownNameError
        No such model; timm's nearest names are shown.
    InvalidValueError
        A model that does not take RGB pictures.
    """
    from brainsim.models.external.describing import describe_network

    full_name, config = _find_config(rest)
    shown, note = _read_input(rest, config)
    options = {"library": "timm", "model": full_name}
    row = ModelRow(
        name=f"timm:{rest}",
        family=_find_family(full_name),
        kind="a model of timm",
        taps=("?",),
        protocols={"default": ProtocolSpec(shown)},
        load=f"{__name__}:load",
        training_set=str(config.get("tag") or ""),
        citation=", ".join(f"arXiv:{p.removeprefix('arXiv:')}" for p in _as_list(config.get("paper_ids"))),
        licence=str(config.get("license") or ""),
        weights=_find_weights(full_name, config),
        notes=(note,),
        options=options,
    )
    heads = _as_list(config.get("classifier"))
    return describe_network(row, lambda: _build(options), _read_tokens, heads=heads)


def load(row: ModelRow, protocol: str) -> Network:
    """Build the model; its public weights come through timm's own loader."""
    from dataclasses import replace

    from brainsim.models.external.describing import build_anywhere

    return replace(build_anywhere(lambda: _build(dict(row.options))), layouts=row.modules)


def _build(options: dict[str, Any]) -> Network:
    import timm

    from brainsim.models.checkpoints import strip_prefixes
    from brainsim.models.external.heads import fit_heads
    from brainsim.models.network import Network
    from brainsim.models.torch_cache import check_allowed

    name = options["model"]
    module: Any = timm.create_model(name, pretrained=False)
    heads = _as_list(module.pretrained_cfg.get("classifier"))

    def convert(state: State) -> dict[str, Tensor]:
        return fit_heads(module, strip_prefixes(state, ("module.", "_orig_mod.")), heads)

    def fetch() -> State:
        if not module.pretrained_cfg.get("hf_hub_id") and module.pretrained_cfg.get("url"):
            check_allowed(module.pretrained_cfg["url"])  # the hub's own loader asks by itself
        fetched: State = timm.create_model(name, pretrained=True).state_dict()
        return fetched

    return Network(module, convert=convert, fetch=fetch)


def _find_config(rest: str) -> tuple[str, dict[str, Any]]:
    """Return the full name, with its tag, and timm's configuration of it."""
    import timm
    from timm.models import get_pretrained_cfg

    known = [*timm.list_models(), *timm.list_pretrained()]
    if rest not in known:
        arch = rest.partition(".")[0]
        tags = [name for name in known if name.startswith(f"{arch}.")]
        raise unknown_name(
            "timm model", rest, tags or known, hint="timm.list_models('vit_small*') lists names in Python"
        )
    found: Any = get_pretrained_cfg(rest)
    if found is None:
        raise InvalidValueError(
            f"timm has no configuration of {rest}, so that its input is unknown.",
            hint="declare it in a file of your own: --model-file FILE.py:make_model (docs/models.md)",
        )
    config: dict[str, Any] = found.to_dict()
    arch, tag = rest.partition(".")[0], str(config.get("tag") or "")
    return (f"{arch}.{tag}" if tag else arch), config


def _read_input(rest: str, config: dict[str, Any]) -> tuple[InputSpec, str]:
    import timm.data

    timm_data: Any = timm.data
    data = timm_data.resolve_data_config(pretrained_cfg=config)
    channels, height, width = data["input_size"]
    if channels != 3 or config.get("input_size") is None:
        raise InvalidValueError(f"timm:{rest} takes input of {data['input_size']}; (3, height, width) is wanted.")
    shown = InputSpec(n_frames=1, size=(height, width), mean=tuple(data["mean"]), std=tuple(data["std"]))
    note = (
        f"timm evaluates it on {data['crop_mode']} crops of {data['crop_pct']:g} of the picture, "
        f"{data['interpolation']}; brainsim shows the whole of the shorter side, bilinear"
    )
    return shown, note


def _find_family(full_name: str) -> str:
    """Return timm's file of the architecture: "convnext", "vision_transformer"."""
    from timm.models import model_entrypoint

    return str(model_entrypoint(full_name).__module__).rpartition(".")[2]


def _find_weights(full_name: str, config: dict[str, Any]) -> WeightsSource:
    where = config.get("hf_hub_id") or config.get("url")
    if not where:
        return WeightsSource("file", full_name, (f"a state dict of timm's {full_name}",))
    return WeightsSource("timm", full_name, (f"the weights of {where} (a state dict of timm's {full_name})",))


def _read_tokens(network: Network) -> Tokens:
    from brainsim.models.external.layouts import Tokens

    module: Any = network.module
    # Mixers call it their stem.
    grids = (getattr(getattr(module, name, None), "grid_size", None) for name in ("patch_embed", "stem"))
    grid = next((found for found in grids if found is not None), None)
    widths = {int(stage["num_chs"]) for stage in getattr(module, "feature_info", None) or () if "num_chs" in stage}
    return Tokens(
        n_class_tokens=int(getattr(module, "num_prefix_tokens", 0)),
        grid=None if grid is None or len(grid) != 2 else (1, int(grid[0]), int(grid[1])),
        channels_last=str(getattr(module, "output_fmt", "")) == "NHWC",
        widths=frozenset(widths),
    )


def _as_list(value: Any) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else [str(item) for item in value]
