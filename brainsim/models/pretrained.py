"""Turn an id on the hub, a folder or a state dict into a transformers model's weights: quietly, and never in part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from brainsim.core.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor


def load_pretrained(
    model_class: Any, source: str | None, *, name: str, dropped: Sequence[str], **options: Any
) -> dict[str, Tensor]:
    """Load through transformers, which knows the older names of its weights, and accept nothing partial.

    Parameters
    ----------
    model_class : class
        Of transformers.
    source : str, optional
        Id on the hub, or folder; None where the options hold a state dict.
    name : str
        The model's, for errors.
    dropped : sequence of str
        Globs of what published files hold beside the model: decoders, classifiers.
    **options
        For `from_pretrained`.

    Raises
    ------
    CheckpointError
        Weights that are missing, unexpected or of another shape: transformers itself only warns.
    """
    from brainsim.models.checkpoints import tell_misfits

    with quiet():
        model, record = model_class.from_pretrained(source, output_loading_info=True, **options)
    missing = sorted(record["missing_keys"])
    unexpected = sorted(k for k in record["unexpected_keys"] if not any(fnmatchcase(k, p) for p in dropped))
    misshapen = sorted(str(k[0] if isinstance(k, tuple) else k) for k in record["mismatched_keys"])
    wrong = tell_misfits(missing, unexpected, misshapen)
    if wrong:
        raise CheckpointError(f"the weights do not fit {name}: {wrong}.", hint=f"brainsim models show {name}")
    loaded: dict[str, Tensor] = model.state_dict()
    return loaded


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from writing to the terminal for the length of a `with` block."""
    import transformers

    logging: Any = transformers.utils.logging
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
