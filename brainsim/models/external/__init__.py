"""Turn names such as "timm:vit_small_patch16_224" into rows: one file per source, asked when such a name is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from brainsim.models.rows import ModelRow


@dataclass(frozen=True)
class Source:
    """A place where models are found.

    Parameters
    ----------
    module : str
        File in this folder. It has `stamp(rest)`, text that changes whenever the row would, and `describe(rest)`, the
        row, where `rest` is what stands behind the colon.
    example : str
        A name.
    text : str
        What its names stand for.
    """

    module: str
    example: str
    text: str


SOURCES = {
    "timm": Source("timm_models", "timm:vit_small_patch16_224", "a model of timm, or MODEL.TAG for other weights"),
    "torchvision": Source("torchvision_models", "torchvision:resnet50", "an image or video classifier of torchvision"),
    "hf": Source(
        "transformers_models", "hf:facebook/dinov2-base", "an image or video model of transformers, or ./FOLDER"
    ),
    "file": Source("user_file", "file:my.py:make_model", "what a function in a file of yours returns"),
}


def is_external(name: str) -> bool:
    """Return whether a name says where its model is found."""
    return name.partition(":")[0] in SOURCES and ":" in name


def find_external(name: str) -> ModelRow:
    """Return the row of a model found elsewhere.

    Raises
    ------
    UnknownNameError
        A name that its source does not know.
    InvalidValueError
        A model that brainsim cannot show movies to, or whose input its source does not tell.
    """
    source, _, rest = name.partition(":")
    module = import_module(f"{__name__}.{SOURCES[source].module}")
    return _describe(source, rest, module.stamp(rest))


@lru_cache(maxsize=64)
def _describe(source: str, rest: str, stamp: str) -> ModelRow:
    """Describe each model once per process; `stamp` tells two states of the same name apart."""
    row: ModelRow = import_module(f"{__name__}.{SOURCES[source].module}").describe(rest)
    return row


def explain_module(row: ModelRow, name: str) -> str:
    """Return why a module of an external model cannot be tapped; empty where it has no such module."""
    from brainsim.models.external.describing import refused_modules

    return refused_modules(row).get(name, "")


def tell_sources() -> Sequence[str]:
    """Return one line per source: an example of its names, and what they stand for."""
    return tuple(f"{source.example}: {source.text}" for source in SOURCES.values())
