"""The help: one screen in the order of the flow, and no option without words, unit and default."""

from __future__ import annotations

import inspect
import re
import resource
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from brainsim.cli.main import app
from brainsim.cli.options import INJECTED, VerbOption, find_unit, make_options
from brainsim.commands import VERBS, Verb
from brainsim.commands.docstrings import ParameterText, read_docstring

# What starting the command line must not wait for.
HEAVY = ("torch", "torchvision", "timm", "transformers", "himalaya", "zarr", "nibabel", "nilearn", "av", "matplotlib",
         "pandas", "sklearn", "skimage", "dask")  # fmt: skip

# Processor time of `brainsim --help`, best of three; a whole second is what a user begins to notice.
HELP_LIMIT_S = 0.6

run = CliRunner().invoke


def name_of(verb: Verb) -> str:
    return verb.function_name


def test_help_fits_a_screen_of_80_by_40(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = run(app, ["--help"]).stdout.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)


def test_help_groups_the_verbs_in_the_order_of_the_flow() -> None:
    text = run(app, ["--help"]).stdout
    words = ["Start", "demo", "doctor", "init", "run", "simulate", "Make", "train", "extract", "ingest", "kernel",
             "Answer", "fit", "partition", "rsa", "claims", "accuracy", "Tell", "report", "models",
             "store"]  # fmt: skip
    places = [re.search(rf"[│─] {word} ", text) for word in words]
    assert None not in places
    starts = [place.start() for place in places if place is not None]
    assert starts == sorted(starts)


def test_no_arguments_show_the_help_and_are_a_usage_error() -> None:
    result = run(app, [])
    assert result.exit_code == 2
    assert "partition" in result.output


@pytest.mark.parametrize("verb", VERBS, ids=name_of)
def test_every_verb_has_help_that_names_every_option(verb: Verb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    result = run(app, [*verb.word.split(), "--help"])
    assert result.exit_code == 0
    for option in make_options(verb, verb.load()):
        assert option.flag.removeprefix("--") in result.stdout
    assert all(len(line) <= 100 for line in result.stdout.splitlines())


@pytest.mark.parametrize("verb", VERBS, ids=name_of)
def test_every_parameter_of_a_verb_is_an_option(verb: Verb) -> None:
    function = verb.load()
    wanted = [name for name in inspect.signature(function).parameters if name not in INJECTED]
    assert [option.name for option in make_options(verb, function)] == wanted


@pytest.mark.parametrize("verb", VERBS, ids=name_of)
def test_every_option_has_words_a_unit_and_a_default(verb: Verb) -> None:
    texts = read_docstring(verb.load()).parameters
    faults = [option.name for option in make_options(verb, verb.load()) if not is_documented(option, texts)]
    assert not faults, f"{verb.function_name}() does not document {faults}"


def is_documented(option: VerbOption, texts: dict[str, ParameterText]) -> bool:
    is_switch = option.kind.form is bool and "[default: yes]" not in option.help
    has_words = option.name in texts and bool(texts[option.name].text)
    has_default = is_switch or option.is_required or "default" in option.help.lower()
    return has_words and has_default and option.help.rstrip("]").endswith(find_unit(option.name))


@pytest.mark.parametrize("verb", VERBS, ids=name_of)
def test_every_verb_has_a_summary_in_plain_words(verb: Verb) -> None:
    summary = read_docstring(verb.load()).summary
    assert summary
    assert summary[0].isupper()
    assert "`" not in summary


def imported_by(*arguments: str) -> set[str]:
    """Return the top-level packages that a run of the command line imports."""
    code = (
        "import sys\nfrom brainsim.cli.main import app\n"
        f"try:\n    app({list(arguments)!r})\nexcept SystemExit:\n    pass\n"
        "print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["models", "list"], ["models", "list", "--json"]])
def test_help_and_listings_import_nothing_heavy(words: list[str]) -> None:
    assert imported_by(*words).isdisjoint(HEAVY)


@pytest.mark.parametrize("verb", VERBS, ids=name_of)
def test_a_verbs_help_imports_nothing_heavy(verb: Verb) -> None:
    assert imported_by(*verb.word.split(), "--help").isdisjoint(HEAVY)


def test_help_starts_quickly() -> None:
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-c", "from brainsim.cli.main import app; app(['--help'])"], capture_output=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert min(times) < HELP_LIMIT_S


def test_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert run(app, ["--version"]).stdout == f"brainsim {version('brainsim-toolkit')}\n"
