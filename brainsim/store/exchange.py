"""Turn two folders into each other at once, so that whoever dies, or looks, finds one of them whole at either name."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable

_HERE = -100  # Linux's AT_FDCWD: paths that are not absolute begin at the working folder
_SWAP = 2  # RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS


def exchange(path: str, other: str) -> bool:
    """Swap two folders of one file system in one step; return False where the system, or the file system, cannot."""
    call = _find_call()
    return call is not None and call(os.fsencode(path), os.fsencode(other)) == 0


def _find_call() -> Callable[[bytes, bytes], int] | None:
    library = ctypes.CDLL(None)
    try:
        if sys.platform == "linux":
            rename = library.renameat2
            return lambda path, other: int(rename(_HERE, path, _HERE, other, _SWAP))
        if sys.platform == "darwin":
            rename = library.renamex_np
            return lambda path, other: int(rename(path, other, _SWAP))
    except AttributeError:  # an older C library
        return None
    return None
