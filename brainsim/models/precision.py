"""Turn the word for a precision into a forward pass that multiplies in it, and unfit numbers into errors."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from brainsim.core.errors import DeviceError, NumericalError

HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}
# What torch says of an operation that a device does not have in half precision.
_NO_SUCH_OPERATION = ("not implemented for", "dtype", "scalar type")


def check_precision(precision: str, device: torch.device) -> None:
    """Raise DeviceError where a device cannot multiply in a precision.

    It is tried: some versions of torch only warn, and go on in float32.
    """
    if precision == "fp32":
        return
    x = torch.ones(2, 2, device=device)
    try:
        with warnings.catch_warnings(), _autocast(precision, device):
            warnings.simplefilter("ignore")
            product = x @ x
    except (RuntimeError, ValueError) as error:
        reason = f" ({str(error).partition(chr(10))[0]})"
    else:
        if product.dtype == HALF[precision]:
            return
        reason = ""
    raise DeviceError(f"precision {precision} cannot be had on device {device}{reason}.", hint="--precision fp32")


@contextmanager
def run_in_precision(precision: str, device: torch.device, *, name: str) -> Iterator[None]:
    """Multiply in a precision for the length of a `with` block.

    This is torch's autocast: weights stay float32, and convolutions, linear layers and attention take rounded copies of
    what goes in. Where a float32 position code is added to the first of them (timm's transformers: MAE, MVD), the whole
    residual stream stays float32, and errors are a fifth to a quarter smaller than those of a network turned to half
    precision as a whole (`.half()`); elsewhere they are the same.

    Parameters
    ----------
    precision : {"fp32", "fp16", "bf16"}
        "fp32" changes nothing.
    device : torch.device
        Where the network runs.
    name : str
        The model's, for errors.

    Raises
    ------
    DeviceError
        An operation of the network that the device does not have in this precision.
    """
    if precision == "fp32":
        yield
        return
    try:
        with _autocast(precision, device):
            yield
    except RuntimeError as error:
        if not any(words in str(error) for words in _NO_SUCH_OPERATION):
            raise
        reason = str(error).partition("\n")[0]
        raise DeviceError(
            f"{name} cannot be run in {precision} on device {device} ({reason}).",
            hint=f"--precision {'bf16' if precision == 'fp16' else 'fp16'} or fp32",
        ) from error


def check_finite(values: Tensor, *, precision: str, name: str, layer: str) -> None:
    """Raise NumericalError where half precision made infinity or NaN; float32 is left to who knows the clip."""
    if precision == "fp32" or bool(torch.isfinite(values).all()):
        return
    n_bad = int((~torch.isfinite(values)).sum())
    ends = f", which ends at {torch.finfo(HALF[precision]).max:.5g}"
    raise NumericalError(
        f"{name}, layer {layer}: {n_bad:,} of {values.numel():,} activations are not finite in {precision}{ends}.",
        hint="--precision bf16, which reaches as far as fp32" if precision == "fp16" else "--precision fp32",
    )


def _autocast(precision: str, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, dtype=HALF[precision])
