"""What each family of vision models explains in each place of the visual brain, and what they share.

Every verb of the command line is a function here, imported when it is first asked for: ``from brainsim import fit``.
`read_tables` returns what they found as DataFrames.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from brainsim.commands import VERBS

if TYPE_CHECKING:
    from brainsim.commands.accuracy import accuracy as accuracy
    from brainsim.commands.claims import claims as claims
    from brainsim.commands.demo import demo as demo
    from brainsim.commands.doctor import doctor as doctor
    from brainsim.commands.extract import extract as extract
    from brainsim.commands.fit import fit as fit
    from brainsim.commands.ingest import ingest as ingest
    from brainsim.commands.init import init as init
    from brainsim.commands.kernel import kernel as kernel
    from brainsim.commands.models import models_list as models_list
    from brainsim.commands.models import models_show as models_show
    from brainsim.commands.partition import partition as partition
    from brainsim.commands.report import report as report
    from brainsim.commands.rsa import rsa as rsa
    from brainsim.commands.run import run as run
    from brainsim.commands.simulate import simulate as simulate
    from brainsim.commands.store import store_export as store_export
    from brainsim.commands.store import store_fetch as store_fetch
    from brainsim.commands.store import store_import as store_import
    from brainsim.commands.store import store_ls as store_ls
    from brainsim.commands.store import store_show as store_show
    from brainsim.commands.store import store_verify as store_verify
    from brainsim.commands.store_tables import read_tables as read_tables

    __version__: str

_VERBS = {verb.function_name: verb for verb in VERBS}


class _VerbRoom(ModuleType):
    """A room whose name is also a verb: ``brainsim.report`` holds modules, ``brainsim.report(...)`` reports."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _VERBS[self.__name__.rpartition(".")[2]].load()(*args, **kwargs)


class _Package(ModuleType):
    """This package: a room that is imported under a verb's name does not hide the verb."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _VERBS and isinstance(value, ModuleType):
            value.__class__ = _VerbRoom
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from brainsim.core.provenance import brainsim_version

        return brainsim_version()
    if name in _VERBS:
        return _VERBS[name].load()
    if name == "read_tables":
        from brainsim.commands.store_tables import read_tables

        return read_tables
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_VERBS, "read_tables", "__version__"})
