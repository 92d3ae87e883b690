"""Turn the lengths that a container gives of its own parts into whether a file holds all of them.

FFmpeg plays what is there of a file that is cut off, and says nothing. Containers say how long each part is: a part
that ends behind the end of the file is cut.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# Boxes of ISO 14496-12 that hold the film or its index; what follows the last one may be anything.
MP4_BOXES = (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"sidx", b"mfra", b"free", b"skip", b"wide", b"uuid")
# Identifiers of RFC 9559 (Matroska).
SEGMENT, CLUSTER = 0x18538067, 0x1F43B675
# Transport streams are packets of 188 bytes; some recorders add 4 bytes of time, some 16 of parity.
TS_PACKETS = (188, 192, 204)


def find_cut(path: Path, format_name: str) -> str | None:
    """Return what of a file lies behind its end, as words for an error; None where all is there, or nothing tells.

    Parameters
    ----------
    path : Path
        The file.
    format_name : str
        FFmpeg's names of its container, joined by commas.
    """
    kinds = format_name.split(",")
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if "mp4" in kinds:
            return _find_cut_mp4(file, size)
        if "matroska" in kinds:
            return _find_cut_matroska(file, size)
    if "mpegts" in kinds and all(size % length for length in TS_PACKETS):
        return f"it ends within a packet of {TS_PACKETS[0]} bytes"
    return None


def read_fragments_s(path: Path) -> float | None:
    """Return how long a fragmented MP4 says all its fragments are, 0 where it does not; None for other MP4 files.

    The header may say so (mvex/mehd, in units of mvhd); an index (sidx) is read by FFmpeg.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        inside = next((box[1:] for box in _boxes(file, 0, size) if box[0] == b"moov"), None)
        parts = {} if inside is None else {kind: (at, end) for kind, at, end in _boxes(file, *inside)}
        if b"mvex" not in parts:
            return None
        extends = {kind: at for kind, at, _ in _boxes(file, *parts[b"mvex"])}
        if b"mehd" not in extends or b"mvhd" not in parts:
            return 0.0
        long = _read(file, extends[b"mehd"], 1) == 1
        length = _read(file, extends[b"mehd"] + 4, 8 if long else 4)
        # Behind version and flags lie two times of 4 or 8 bytes, then the units per second.
        units = _read(file, parts[b"mvhd"][0] + (20 if _read(file, parts[b"mvhd"][0], 1) == 1 else 12), 4)
    return length / units if units else 0.0


def _find_cut_mp4(file: BinaryIO, size: int) -> str | None:
    for kind, _, end in _boxes(file, 0, size):
        if end > size:
            return f"its last box, {kind.decode()!r}, lacks {end - size} bytes"
    return None


def _boxes(file: BinaryIO, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, begin of the content and end of each box from `at` on; the last one may end behind the file."""
    while at + 8 <= end:
        length, begin = _read(file, at, 4), at + 8
        kind = file.read(4)
        if length == 1:
            length, begin = _read(file, at + 8, 8), at + 16
        elif length == 0:  # until the end of the file
            length = end - at
        if length < begin - at or (kind not in MP4_BOXES and at + length > end):
            return  # no box: something else was appended
        yield kind, begin, at + length
        at += length


def _find_cut_matroska(file: BinaryIO, size: int) -> str | None:
    at = 0
    while (found := _read_element(file, at, size)) is not None:
        element, begin, length = found
        if length is None:
            if element != SEGMENT:
                return None
            at = begin  # written to a pipe, which lengths cannot be put into afterwards: look at its parts
        elif begin + length > size:
            what = {SEGMENT: "its segment", CLUSTER: "its last cluster"}.get(element, "its last element")
            return f"{what} lacks {begin + length - size} bytes"
        elif element == SEGMENT:
            return None
        else:
            at = begin + length
    return None


def _read_element(file: BinaryIO, at: int, size: int) -> tuple[int, int, int | None] | None:
    """Return an element's identifier, the begin of its content and its length, None where that is not said.

    Both numbers begin with as many zero bits as further bytes follow the first; identifiers keep the bit after them.
    """
    if at + 2 > size:
        return None
    n_identifier = 9 - _read(file, at, 1).bit_length()
    n_length = 9 - _read(file, at + n_identifier, 1).bit_length()
    begin = at + n_identifier + n_length
    if n_identifier > 4 or n_length > 8 or begin > size:
        return None
    mask = (1 << 7 * n_length) - 1
    length = _read(file, at + n_identifier, n_length) & mask
    return _read(file, at, n_identifier), begin, None if length == mask else length


def _read(file: BinaryIO, at: int, n_bytes: int) -> int:
    file.seek(at)
    return int.from_bytes(file.read(n_bytes), "big")
