"""Turn a user's words into functions: the table of verbs, read by the command line and by `from brainsim import …`.

An analysis is one file in this folder and one row here. The function's signature and its Parameters section are its
options on the command line; see docs/extending.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

# The groups of `brainsim --help`, in the order of the flow.
START, MAKE, ANSWER, TELL = "Start", "Make", "Answer", "Tell"


@dataclass(frozen=True)
class Verb:
    """One word of the command line and the function behind it.

    Parameters
    ----------
    word : str
        What a user types: "fit", or "store ls" for a word in a group. The function is called the same, with an
        underscore, and lies in the module of `brainsim.commands` that is called like the first word.
    panel : str
        Its group in `brainsim --help`.
    summary : str
        What it does, in less than half a line. Kept here so that help imports nothing.
    arguments : tuple of str
        Parameters that are given by position although they have a default; those without one are so anyway.
    """

    word: str
    panel: str
    summary: str
    arguments: tuple[str, ...] = ()

    @property
    def function_name(self) -> str:
        """Name of the function, in its module and in `brainsim`."""
        return self.word.replace(" ", "_")

    @property
    def module(self) -> str:
        """Module that holds the function."""
        return f"{__name__}.{self.word.split()[0]}"

    def load(self) -> Callable[..., Any]:
        """Import the module and return the function."""
        function: Callable[..., Any] = getattr(import_module(self.module), self.function_name)
        return function


VERBS = (
    Verb("demo", START, "Run the whole path on planted data and show the truth beside it"),
    Verb("doctor", START, "Check versions, devices, memory, decoder and store"),
    Verb("init", START, "Look into a data folder and write a study file"),
    Verb("run", START, "Do what a study file asks for and is not done yet"),
    Verb("simulate", START, "Write movies and scans with planted responses to disk", arguments=("out",)),
    Verb("train", MAKE, "Train a system that has no public weights on a folder of videos"),
    Verb("extract", MAKE, "Turn movies into layer activations of models"),
    Verb("ingest", MAKE, "Turn scans or tables into clean runs, ROIs and streams"),
    Verb("kernel", MAKE, "Turn activations into the kernels that fits start from"),
    Verb("fit", ANSWER, "Score how well models predict every voxel"),
    Verb("partition", ANSWER, "Split what families explain into unique and shared parts"),
    Verb("rsa", ANSWER, "Compare the geometry of models and streams"),
    Verb("claims", ANSWER, "Test claims that were declared before on stored results"),
    Verb("accuracy", ANSWER, "Relate published accuracy to similarity with the brain"),
    Verb("report", TELL, "Write one HTML page, its tables and its figures"),
    Verb("models list", TELL, "List the models there are"),
    Verb("models show", TELL, "Show one model: input, protocols, layers, weights"),
    Verb("store import", TELL, "Take in features that other programs made"),
    Verb("store fetch", TELL, "Copy nodes of a store that lies elsewhere", arguments=("prefix",)),
    Verb("store export", TELL, "Write nodes as NumPy, Parquet, or a Zarr for xarray"),
    Verb("store ls", TELL, "List what the store holds", arguments=("prefix",)),
    Verb("store show", TELL, "Show one node: what made it, what it holds"),
    Verb("store verify", TELL, "Read every byte and report damage"),
)

# One line for each word that only opens a group of verbs.
GROUPS = {
    "models": "The models: list, show",
    "store": "What is stored: import, fetch, export, ls, show, verify",
}
