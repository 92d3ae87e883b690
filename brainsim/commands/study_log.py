"""Turn what happens to a study into lines of JSON beside its file, and those lines into what earlier runs took."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from brainsim.core.errors import InputFileError
from brainsim.core.provenance import now_utc


def log_path(study: Path) -> Path:
    """Return where a study's log lies: study.toml has study.log.jsonl beside it."""
    return study.with_name(f"{study.stem}.log.jsonl")


class StudyLog:
    """One file, one line per event, only ever added to.

    Parameters
    ----------
    path : Path
        The file; made with its first line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def add(self, event: str, **fields: Any) -> None:
        """Write one line with the time, the event and its fields.

        Raises
        ------
        InputFileError
            A file that cannot be written.
        """
        line = json.dumps({"time": now_utc(), "event": event, **fields}, ensure_ascii=False) + "\n"
        try:
            with self._lock, self.path.open("ab") as file:
                if file.tell() and not _ends_line(self.path):  # a line that broke off: ours begins a new one
                    line = f"\n{line}"
                file.write(line.encode())  # one write: lines of two runs do not mix
        except OSError as error:
            raise InputFileError(f"the log {self.path} cannot be written: {error.strerror}.") from None

    def events(self) -> Iterator[Mapping[str, Any]]:
        """Yield the lines so far; a line that broke off is passed over."""
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and "event" in event:
                yield event

    def last_done(self, step: str) -> Mapping[str, Any]:
        """Return the last line that says that a step was done; empty where there is none."""
        done: Mapping[str, Any] = {}
        for event in self.events():
            if event["event"] == "done" and event.get("step") == step:
                done = event
        return done

    def seconds_per_node(self, step: str, verb: str) -> tuple[float, int] | None:
        """Return what a node took, in seconds, and from how many nodes that is known.

        Earlier runs of the same step are asked first, then those of the same verb.
        """
        done = [e for e in self.events() if e["event"] == "done" and e.get("verb") == verb and e.get("n_written")]
        for chosen in ([event for event in done if event.get("step") == step], done):
            n_nodes = sum(event["n_written"] for event in chosen)
            if n_nodes:
                return sum(event["seconds"] for event in chosen) / n_nodes, n_nodes
        return None


def _ends_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
