"""Imports go one way between rooms, every room is under contract, and importing the package costs next to nothing."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from importlinter.cli import lint_imports
from packaging.requirements import Requirement

import brainsim
from brainsim.commands import VERBS, Verb

HEAVY = ("torch", "timm", "transformers", "himalaya", "zarr", "nibabel", "nilearn", "av", "matplotlib", "pandas")

MAX_LINES = 400


def test_import_contracts_are_kept(root_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = lint_imports(config_filename=str(root_dir / "pyproject.toml"), no_cache=True)
    assert code == 0, capsys.readouterr().out


def test_every_room_stands_in_the_layers(root_dir: Path) -> None:
    settings = tomllib.loads((root_dir / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = " ".join(settings["contracts"][0]["layers"])
    rooms = [path.parent.name for path in (root_dir / "brainsim").glob("*/__init__.py")]
    assert [room for room in rooms if f"brainsim.{room}" not in layers] == []


def test_numbers_are_kept_from_the_store_in_every_room_between_commands_and_core(root_dir: Path) -> None:
    settings = tomllib.loads((root_dir / "pyproject.toml").read_text())["tool"]["importlinter"]
    guarded = next(c for c in settings["contracts"] if "brainsim.store" in c.get("forbidden_modules", ()))
    free = {"cli", "commands", "compute", "store"}
    rooms = {path.parent.name for path in (root_dir / "brainsim").glob("*/__init__.py")} - free
    assert {f"brainsim.{room}" for room in rooms} == set(guarded["source_modules"])


def test_every_package_that_is_imported_is_declared(root_dir: Path) -> None:
    """What another package happens to bring is gone when that package changes its mind."""
    project = tomllib.loads((root_dir / "pyproject.toml").read_text())["project"]
    extras = [line for name, lines in project["optional-dependencies"].items() if name != "dev" for line in lines]
    declared = {Requirement(line).name.lower().replace("_", "-") for line in (*project["dependencies"], *extras)}
    homes = packages_distributions()
    missing: dict[str, str] = {}
    for path in (root_dir / "brainsim").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module]
            for name in {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"brainsim"}:
                owners = {owner.lower().replace("_", "-") for owner in homes.get(name, [name])}
                if not owners & declared:
                    missing[name] = path.name
    assert missing == {}


@pytest.mark.parametrize("module", ["brainsim", "brainsim.cli.main", "brainsim.commands", "brainsim.core"])
def test_importing_is_light(module: str) -> None:
    code = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()).isdisjoint(HEAVY)


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.function_name)
def test_every_verb_is_a_function_of_the_package(verb: Verb) -> None:
    function = getattr(brainsim, verb.function_name)
    assert callable(function)
    assert verb.function_name in dir(brainsim)
    assert all(
        parameter.kind is inspect.Parameter.KEYWORD_ONLY
        for parameter in list(inspect.signature(verb.load()).parameters.values())[2:]
    )


@pytest.mark.parametrize("name", ["report", "rsa"])
def test_a_verb_can_be_called_before_and_after_its_namesake_room_is_imported(name: str) -> None:
    code = (
        f"import brainsim, inspect\nfrom brainsim import {name} as before\nimport brainsim.{name} as room\n"
        f"from brainsim import {name} as after\nfrom brainsim.core.errors import BrainsimError\n"
        f"from brainsim.commands import VERBS\n"
        f"verb = next(v for v in VERBS if v.word == '{name}')\n"
        "assert before is verb.load()\n"
        "try:\n    after(store='/nowhere', **({} if 'report' == verb.word else dict(name='x', dataset='y')))\n"
        "except BrainsimError as error:\n    print(error.message)\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert "/nowhere" in done.stdout


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        _ = brainsim.fitt


def test_types_of_the_package_name_only_verbs_of_the_table(root_dir: Path) -> None:
    tree = ast.parse((root_dir / "brainsim" / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {
        alias.asname: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    table = {verb.function_name: verb.module for verb in VERBS}
    table["read_tables"] = "brainsim.commands.store_tables"  # what verbs found, for Python alone
    assert typed.items() <= table.items()


def test_modules_say_what_they_turn_into_what_and_stay_readable(root_dir: Path) -> None:
    paths = sorted((root_dir / "brainsim").rglob("*.py"))
    texts = {str(path.relative_to(root_dir)): path.read_text() for path in paths}
    docs = {path: ast.get_docstring(ast.parse(text)) or "" for path, text in texts.items()}
    assert [path for path, text in texts.items() if len(text.splitlines()) > MAX_LINES] == []
    assert [path for path, doc in docs.items() if not doc] == []
    modules = {path: doc for path, doc in docs.items() if not path.endswith("__init__.py")}
    assert [path for path, doc in modules.items() if not doc.startswith("Turn ")] == []
