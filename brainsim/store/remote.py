"""Turn a URL that fsspec opens into a store that is read, and its nodes into checked copies in a store on disk."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from brainsim.core.errors import InvalidValueError, MissingDependencyError, StoreDamageError, StoreError
from brainsim.core.progress import SILENT, Progress, Task
from brainsim.store.beginning import prepare_folder
from brainsim.store.files import METADATA, file_size, make_folder, named_os_errors, put
from brainsim.store.locks import NodeLock
from brainsim.store.reading import Rows, check_bytes, damage, read_array, read_checked
from brainsim.store.records import (
    RECORD,
    STORE_TYPE,
    NodeRecord,
    group_document,
    node_document,
    other_key,
    parse_group,
    parse_node,
    unfinished_record,
)
from brainsim.store.root import is_url
from brainsim.store.scan import Found, Place, scan
from brainsim.store.store import ALL, Store
from brainsim.store.verify import Damage

# Files on their way at once: latency, not bandwidth, is what a chunk at a time would cost.
N_AT_ONCE = 4


def open_store(place: str | Path) -> Store:
    """Open a store for reading, on disk or at a URL."""
    return UrlStore(str(place)) if is_url(place) else Store(place)


class UrlStore(Store):
    """A store that lies elsewhere: read and verified chunk by chunk, never written.

    Parameters
    ----------
    url : str
        Anything that fsspec opens and lists.

    Raises
    ------
    StoreError
        Where no store is, or it cannot be reached.
    MissingDependencyError
        Where the package for that kind of URL is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = re.sub(r"^([a-z0-9+.-]+):/(?=[^/])", r"\1://", url)  # a Path has eaten a slash
        self.url = re.sub(r"(?<![:/])/+$", "", self.url)
        self.path = Path(self.url)
        self.mode = "r"
        self._records = {}
        self._checked = {}
        self._nodes: dict[str, NodeRecord] = {}
        self._fs, self._base = _connect(self.url)
        data = self._cat(METADATA)
        attributes = None if data is None else parse_group(data, "")
        if attributes is None or attributes[RECORD]["type"] != STORE_TYPE:
            raise StoreError(f"there is no store at {self.url}.", hint="give the URL of the folder that brainsim made")

    def __reduce__(self) -> tuple[type[UrlStore], tuple[str]]:  # type: ignore[override]
        return UrlStore, (self.url,)

    def __repr__(self) -> str:
        return f"UrlStore({self.url!r})"

    def scan(self, prefix: str = "") -> Iterator[Found]:
        """Yield every node under a path, as `Store.scan` does."""
        return scan(self._names_in, prefix, self._load)

    def read(self, node: str, array: str, rows: Rows = ALL, columns: Rows = ALL) -> np.ndarray:
        """Read as `Store.read` does; whole chunks travel, whatever the columns."""
        record = self._with_array(node, array)
        return read_array(self.path, record, array, rows, columns, {}, fetch=lambda file: self.fetch(record, file))

    def open_array(self, node: str, array: str) -> Any:
        """Refuse: libraries that stream from Zarr open URLs themselves, but would take missing chunks for numbers."""
        raise InvalidValueError(
            f"array {array!r} of {node!r} lies at {self.url}; only arrays on disk are opened.",
            hint="brainsim store fetch brings it here",
        )

    def verify(self, progress: Progress = SILENT, *, prefix: str = "") -> list[Damage]:
        """Fetch every file of every complete node and return what is not as it was written."""
        damages: list[Damage] = []
        for found in self.scan(prefix):
            if found.record is None:
                damages.append(Damage(found.path, found.error.message if found.error else "it cannot be read.", None))
            elif found.record.info.complete:
                for file in found.record.files:
                    try:
                        self.fetch(found.record, file)
                    except StoreDamageError as error:
                        damages.append(Damage(found.path, error.message, file))
        return damages

    def fetch(self, record: NodeRecord, file: str) -> np.ndarray:
        """Return the bytes of a file of a node, uint8 (n_bytes,), checked against the node's manifest."""
        if file not in record.files:
            raise damage(self.path, record.info.path, file, "is not in the node's manifest")
        found = self._cat(f"{record.info.path}/{file}")
        if found is None:
            raise damage(self.path, record.info.path, file, "is missing")
        data = np.frombuffer(found, np.uint8)
        check_bytes(self.path, record, file, data)
        return data

    def document(self, node: str) -> bytes:
        """Return the bytes of a node's zarr.json."""
        return self._cat(f"{node}/{METADATA}") or b""

    def _load(self, node: str) -> Place:
        if node in self._nodes:
            return Place("node", self._nodes[node])
        data = self._cat(f"{node}/{METADATA}")
        if data is None:
            return Place("nothing")
        attributes = parse_group(data, node)
        if attributes is None:
            return Place("group")
        record = parse_node(attributes, node)
        if record.info.complete:
            self._nodes[node] = record
        return Place("node", record)

    def _cat(self, file: str) -> bytes | None:
        with named_url_errors(self.url):
            try:
                data: bytes = self._fs.cat_file(self._at(file))
            except (FileNotFoundError, NotADirectoryError, KeyError):
                return None
        return data

    def _at(self, path: str) -> str:
        """Return where a path of the store is for the file system; the store may be its root, as in an archive."""
        if not path or not self._base:
            return path or self._base
        return f"{self._base.rstrip('/')}/{path}"

    def _names_in(self, path: str) -> list[str]:
        folder = self._at(path)
        is_web = self._base.startswith("http")
        with named_url_errors(self.url):
            try:
                listed = self._fs.ls(f"{folder}/" if is_web else folder, detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return []
        names = {str(entry).partition("?")[0].rstrip("/").rpartition("/")[2] for entry in listed}
        return sorted({unquote(name) if is_web else name for name in names} - {""})


def fetch_node(remote: UrlStore, node: str, store: Store, *, overwrite: bool, task: Task) -> bool:
    """Copy a complete node to a store on disk, byte by byte the same; return whether anything had to be copied.

    Every file is checked on arrival, and the completion mark is written last. A copy that broke off is gone on from.

    Raises
    ------
    InvalidValueError
        Where a complete node of another key is there and `overwrite` is False.
    StoreDamageError
        Where what arrives is not what was written.
    StoreLockedError
        Where another writer is at the node.
    """
    record = remote._complete(node)
    folder = f"{store.path}/{node}"
    with named_os_errors(store.path, f"copying node {node!r}"), NodeLock(store.path, node) as lock:
        there = store._standing(node, overwrite)
        if there is not None and there.info.complete and not overwrite:
            if there.info.digest != record.info.digest:
                raise other_key(there.info, record.info)
            if all(file_size(f"{folder}/{file}") == size for file, (size, _) in there.files.items()):
                task.advance(record.info.nbytes)
                return False
        begun = unfinished_record(record, {}, {})
        if there is None or (there.info.complete, there.info.digest, there.info.created) != (
            False, record.info.digest, record.info.created,
        ):  # fmt: skip
            prepare_folder(store.path, node, node_document(begun), lock, group_document({}))
        with ThreadPoolExecutor(N_AT_ONCE, thread_name_prefix="brainsim-fetch") as threads:
            files = [file for file in record.files if not _is_here(store.path, record, file)]
            task.advance(record.info.nbytes - sum(record.files[file][0] for file in files))
            for start in range(0, len(files), N_AT_ONCE):
                some = files[start : start + N_AT_ONCE]
                for file, data in zip(some, threads.map(lambda name: remote.fetch(record, name), some), strict=True):
                    make_folder(f"{folder}/{file}".rpartition("/")[0])
                    task.advance(put(f"{folder}/{file}", lock.partial, data.data))
        put(f"{folder}/{METADATA}", lock.partial, remote.document(node))
    return True


def _is_here(root: Path, record: NodeRecord, file: str) -> bool:
    try:
        read_checked(root, record, file)
    except StoreDamageError:
        return False
    return True


@contextlib.contextmanager
def named_url_errors(url: str) -> Iterator[None]:
    """Turn whatever a file system elsewhere raises into a StoreError that names the URL."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:  # each file system has its own
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise StoreError(f"{url} cannot be read ({reason}).") from error


def _connect(url: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError:
        raise MissingDependencyError(
            "URLs are read by fsspec, which is not installed.", hint="pip install 'brainsim-toolkit[url]'"
        ) from None
    try:
        fs, base = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise MissingDependencyError(
            f"{url} needs a package that is not installed ({error}).", hint="pip install 'brainsim-toolkit[url]'"
        ) from None
    except (ValueError, OSError) as error:
        raise StoreError(f"{url} is no URL that fsspec opens ({error}).") from error
    return fs, str(base).rstrip("/") or str(base)[:1]
