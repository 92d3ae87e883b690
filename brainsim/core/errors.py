"""Turn what went wrong into one sentence and one hint, under names with builtin semantics."""

from __future__ import annotations


class BrainsimError(Exception):
    """A mistake or a fault that has a name: reported as one sentence, without a traceback.

    Parameters
    ----------
    message : str
        One sentence: what is wrong, the value received, what is allowed.
    hint : str, optional
        What to do next, best a command.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message} Hint: {self.hint}"


class InvalidValueError(BrainsimError, ValueError):
    """A value that is not allowed: an option, an argument, an array's shape or contents."""


class UnknownNameError(BrainsimError, LookupError):
    """A name that is not in its list: a model, a layer, an ROI, a node of the store."""


class AlignmentError(BrainsimError, ValueError):
    """Two things that should line up in time or space and do not: both figures are shown."""


class InputFileError(BrainsimError, OSError):
    """A file that is missing, unreadable, damaged or of another kind than it says."""


class StoreError(BrainsimError, OSError):
    """The store cannot do what is asked: no store there, a format from the future, no space."""


class StoreDamageError(StoreError):
    """A chunk or a node whose bytes are not those that were written."""


class StoreLockedError(StoreError):
    """Another live process is writing this node."""


class IncompleteNodeError(StoreError):
    """A node without its completion mark: unfinished work, never read as a result."""


class CheckpointError(BrainsimError, ValueError):
    """Weights that do not fit the model, or a file that is no checkpoint."""


class NumericalError(BrainsimError, ArithmeticError):
    """A computation that cannot give a trustworthy number."""


class MissingDependencyError(BrainsimError, ImportError):
    """An optional package that is needed for what was asked."""


class DeviceError(BrainsimError, RuntimeError):
    """A device that is not there, or has no room."""
