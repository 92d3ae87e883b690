"""Turn a store into the list of what in it is not as it was written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from brainsim.core.errors import StoreDamageError
from brainsim.core.progress import Progress
from brainsim.store.files import METADATA, files_below
from brainsim.store.reading import is_chunk, read_checked
from brainsim.store.records import NodeRecord
from brainsim.store.scan import Found


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong.

    Parameters
    ----------
    node : str
        Path of the node.
    what : str
        What is wrong, as a sentence.
    chunk : str or None
        The file below the node ("values/c/0/0"); None where it is the node's own zarr.json.
    """

    node: str
    what: str
    chunk: str | None


def verify_nodes(root: Path, found: Iterable[Found], progress: Progress) -> list[Damage]:
    """Read every file of every complete node and return what is wrong; see `Store.verify`."""
    damages: list[Damage] = []
    complete: list[NodeRecord] = []
    for item in found:
        if item.record is None:
            damages.append(Damage(item.path, item.error.message if item.error else "it cannot be read.", None))
        elif item.record.info.complete:
            complete.append(item.record)
    with progress.task("verify", total=sum(r.info.nbytes for r in complete), unit="B") as task:
        for record in complete:
            damages += verify_node(root, record)
            task.advance(record.info.nbytes)
    return damages


def verify_node(root: Path, record: NodeRecord) -> Iterator[Damage]:
    """Yield what is wrong with one complete node."""
    node = record.info.path
    expected = {f"{array}/{METADATA}" for array in record.layouts}
    for array, layout in record.layouts.items():
        expected |= {f"{array}/{layout.chunk_key(index)}" for index in range(layout.n_chunks)}
    for file in sorted(expected | set(record.files)):
        if file not in expected:
            yield Damage(node, f"the manifest names {file!r}, which is no part of its arrays.", file)
            continue
        try:
            data = read_checked(root, record, file)
        except StoreDamageError as error:
            yield Damage(node, error.message, file)
            continue
        if not is_chunk(file) and data.tobytes() != record.layouts[file.split("/")[0]].metadata():
            yield Damage(node, f"{file!r} says otherwise than the node's record.", file)
    for file in sorted(files_below(f"{root}/{node}") - expected - {METADATA}):
        yield Damage(node, f"{file!r} is no part of the node: another program wrote it.", file)
