"""Turn tensors on a device into tensors in this machine's memory without holding up the device."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor


class HostCopy:
    """A tensor that will be in this machine's memory when somebody asks for it, in another thread perhaps.

    Made where the tensor's computation was ordered, which may not have ended. On a GPU the copy waits for that alone,
    on a stream of its own into pinned memory, so that copying and the next forward pass overlap.

    Parameters
    ----------
    values : Tensor
        On any device.
    """

    def __init__(self, values: Tensor) -> None:
        self._values = values
        self._made: torch.cuda.Event | None = None
        if values.device.type == "cuda":
            self._made = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch does not say
            self._made.record(torch.cuda.current_stream(values.device))

    def result(self) -> Tensor:
        """Return the values on the CPU; waits until they are there."""
        if self._made is None:
            return self._values.cpu()
        stream = _copy_stream(self._values.device)
        with torch.cuda.stream(stream):
            stream.wait_event(self._made)
            host = torch.empty(self._values.shape, dtype=self._values.dtype, pin_memory=True)
            host.copy_(self._values, non_blocking=True)
            self._values.record_stream(stream)  # its memory must not be given away before the copy has read it
        stream.synchronize()
        return host


def to_device(frames: Tensor, device: torch.device) -> Tensor:
    """Return a copy of a CPU tensor on a device; to a GPU through pinned memory, so that the caller need not wait."""
    if device.type == "cuda":
        return frames.pin_memory().to(device, non_blocking=True)
    return frames.to(device, copy=True)


@cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch does not say
