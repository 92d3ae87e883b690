"""Turn clips into layer activations of many models. This import is light: torch comes with `load_model`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brainsim.models.catalogue import MODELS, find_row, register_rows
from brainsim.models.keys import weights_key
from brainsim.models.rows import Accuracy, InputSpec, ModelRow, ProtocolSpec, TapLayout, WeightsSource

if TYPE_CHECKING:
    from brainsim.models.loading import LoadedModel, load_model, tap_infos
    from brainsim.models.network import Network
    from brainsim.models.taps import TapInfo

__all__ = [
    "MODELS",
    "Accuracy",
    "InputSpec",
    "LoadedModel",
    "ModelRow",
    "Network",
    "ProtocolSpec",
    "TapInfo",
    "TapLayout",
    "WeightsSource",
    "find_row",
    "load_model",
    "register_rows",
    "tap_infos",
    "weights_key",
]

# Names that need torch, and where they are: imported when first asked for.
_LAZY = {
    "LoadedModel": "loading",
    "load_model": "loading",
    "tap_infos": "loading",
    "Network": "network",
    "TapInfo": "taps",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
