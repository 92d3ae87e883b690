"""Study files: keys are the verbs' own, mistakes are told with line and near miss, steps find what they need."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from brainsim.commands.study_file import find_line, read_study
from brainsim.commands.study_keys import step_verbs
from brainsim.core.errors import BrainsimError, InputFileError, InvalidValueError

STUDY = """
title = "A study"
stimuli = ["movies/*.npy"]

[defaults]
seed = 3
device = "cpu"

[families]
still = ["cnn-*"]
moving = ["video*"]

[extract.images]
models = ["cnn-static-object", "mae-base"]

[extract.video]
models = "videomae-base,videomae-base-finetuned"
batch_size = 2
seed = 4

[ingest.movie]
source = "bids"
high_pass_s = "none"
streams = {early = ["V1", "V2"]}

[fit.main]
models = ["mae-*"]
delays = "2-4"
alphas = [1, 10, 1e3]
layer_curves = false

[partition.families]

[rsa.geometry]
min_lag_s = 6

[report]
out = "page"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with movies of numbered names."""
    (tmp_path / "movies").mkdir()
    for name in ("run-10.npy", "run-1.npy", "run-2.npy"):
        (tmp_path / "movies" / name).touch()
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "study.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_steps_come_in_the_order_of_the_flow_with_what_they_need(folder: Path) -> None:
    # Turned upside down, the tables of the file give the same steps.
    tables = STUDY.split("\n\n")
    study = read_study(write(folder, "\n\n".join([tables[0], *reversed(tables[1:])])))
    needs = {step.name: set(step.needs) for step in study.steps}
    assert list(needs) == [
        "extract.video", "extract.images", "ingest.movie", "fit.main", "partition.families", "rsa.geometry", "report",
    ]  # fmt: skip
    assert needs["extract.images"] == needs["ingest.movie"] == set()
    assert needs["fit.main"] == {"extract.images", "ingest.movie"}  # no model of the other table is called mae-*
    assert needs["partition.families"] == {"extract.images", "extract.video", "ingest.movie"}
    assert needs["report"] == {"fit.main", "partition.families", "rsa.geometry"}


def test_both_protocols_leave_two_results_that_can_be_named_and_are_told(folder: Path) -> None:
    text = STUDY.replace("min_lag_s = 6", 'protocol = "both"')
    steps = {step.name: step for step in read_study(write(folder, text)).steps}
    assert steps["report"].values["rsas"] == ["geometry", "geometry-study"]
    named = text + '\n[claims.study]\nrsas = ["geometry-study"]\n'
    steps = {step.name: step for step in read_study(write(folder, named)).steps}
    assert "rsa.geometry" in steps["claims.study"].needs
    taken = text + "\n[rsa.geometry-study]\n"
    with pytest.raises(InvalidValueError, match="would both leave a result 'geometry-study'"):
        read_study(write(folder, taken))


def test_a_report_comes_after_answers_and_needs_results(folder: Path) -> None:
    text = STUDY + "\n[claims.study]\n[accuracy.top-1]\n"
    report = {step.name: step for step in read_study(write(folder, text)).steps}["report"]
    assert set(report.needs) == {"fit.main", "partition.families", "rsa.geometry"}
    assert report.after == ("claims.study", "accuracy.top-1")


def test_where_an_option_or_a_value_stands_is_found(folder: Path) -> None:
    study = read_study(write(folder, STUDY))
    steps = {step.name: step for step in study.steps}
    lines = STUDY.splitlines()

    def line_of(step: str, message: str) -> str:
        number = re.search(r"line (\d+), \[", study.locate(steps[step], message))
        assert number is not None
        return lines[int(number[1]) - 1]

    assert line_of("fit.main", "--alphas is 1,10; it must increase.") == "alphas = [1, 10, 1e3]"
    assert line_of("fit.main", "no stored model matches 'mae-*'.") == 'models = ["mae-*"]'
    assert line_of("rsa.geometry", "--seed is 3.") == "seed = 3"  # of [defaults]
    assert line_of("partition.families", "family 'still': 'cnn-*' matches no model.") == "[families]"
    assert line_of("ingest.movie", "no file or folder at bids.") == 'source = "bids"'
    assert line_of("report", "nothing of this file.") == "[report]"


def test_values_become_what_the_functions_take(folder: Path) -> None:
    steps = {step.name: step for step in read_study(write(folder, STUDY)).steps}
    fit = steps["fit.main"].verb.read(steps["fit.main"].values)
    assert fit == {
        "name": "main", "dataset": "movie", "models": ("mae-*",), "delays": (2, 3, 4), "alphas": (1.0, 10.0, 1000.0),
        "layer_curves": False, "seed": 3, "device": "cpu",
    }  # fmt: skip
    ingest = steps["ingest.movie"].verb.read(steps["ingest.movie"].values)
    assert ingest["high_pass_s"] is None
    assert ingest["streams"] == {"early": ("V1", "V2")}
    assert steps["partition.families"].verb.read(steps["partition.families"].values)["families"] == {
        "still": ("cnn-*",),
        "moving": ("video*",),
    }
    assert steps["report"].values["fits"] == ["main"]
    assert steps["report"].values["title"] == "A study"


def test_globs_of_files_are_expanded_as_people_count(folder: Path) -> None:
    steps = {step.name: step for step in read_study(write(folder, STUDY)).steps}
    assert steps["extract.images"].values["stimuli"] == ["movies/run-1.npy", "movies/run-2.npy", "movies/run-10.npy"]


def test_a_table_of_its_own_overrides_the_defaults(folder: Path) -> None:
    steps = {step.name: step for step in read_study(write(folder, STUDY)).steps}
    assert steps["extract.video"].values["seed"] == 4
    assert steps["extract.images"].values["seed"] == 3


def test_the_command_line_overrides_the_file(folder: Path) -> None:
    steps = read_study(write(folder, STUDY), overrides={"cluster": "slurm"}).steps
    assert {s.name: s.values.get("cluster") for s in steps if "cluster" in s.verb.keys} == {
        "extract.images": "slurm", "extract.video": "slurm", "fit.main": "slurm", "partition.families": "slurm",
    }  # fmt: skip
    with pytest.raises(InvalidValueError, match="--cluster: 'slrm' is not allowed; did you mean 'slurm'"):
        read_study(write(folder, STUDY), overrides={"cluster": "slrm"})


def test_every_option_of_every_verb_is_a_key(folder: Path) -> None:
    import inspect

    for word, step in step_verbs().items():
        parameters = set(inspect.signature(step.verb.load()).parameters)
        assert parameters - set(step.keys) <= {"store", "dry_run", "overwrite", "progress"}, word


MISTAKES = {
    "a misspelt key": (
        "min_lag_s = 6",
        "min_lag = 6",
        "line 35: unknown key 'min_lag' in [rsa.geometry]; did you mean 'min_lag_s'",
    ),
    "a key of another verb": ("min_lag_s = 6", "delays = [1]", "unknown key 'delays' in [rsa.geometry]"),
    "a misspelt table": ("[rsa.geometry]", "[rsaa.geometry]", "line 34: unknown table 'rsaa'; did you mean 'rsa'"),
    "an unknown key at the top": (
        'title = "A study"',
        'titel = "A study"',
        "line 2: unknown key 'titel'; did you mean 'title'",
    ),
    "a default that no verb has": (
        "seed = 3",
        "sede = 3",
        "line 6: unknown key 'sede' in [defaults]; did you mean 'seed'",
    ),
    "a text for a number": (
        "min_lag_s = 6",
        'min_lag_s = "six"',
        "line 35: min_lag_s in [rsa.geometry]: 'six' is no number",
    ),
    "a number for a text": ('device = "cpu"', "device = 3", "device in [defaults]: 3 is no text in quotes"),
    "a switch for a number": (
        "batch_size = 2",
        "batch_size = true",
        "batch_size in [extract.video]: True is no whole number",
    ),
    "a fraction for a count": (
        "batch_size = 2",
        "batch_size = 2.5",
        "batch_size in [extract.video]: 2.5 is no whole number",
    ),
    "a number for a switch": (
        "layer_curves = false",
        "layer_curves = 0",
        "layer_curves in [fit.main]: 0 is no true or false",
    ),
    "a word among numbers": (
        "alphas = [1, 10, 1e3]",
        'alphas = [1, "x"]',
        "alphas in [fit.main]: 'x' is no list of numbers",
    ),
    "a number among words": ('models = ["mae-*"]', "models = [1]", "models in [fit.main]: 1 is no text in quotes"),
    "no list where a table is": (
        "[families]\nstill = ",
        "[families]\nstill.x = ",
        "families: {'x': ['cnn-*']} (still) is no list",
    ),
    "a date": ("min_lag_s = 6", "min_lag_s = 2024-01-01", "is no number"),
    "a word that is none of the choices": (
        "min_lag_s = 6",
        'compare = "spaerman"',
        "'spaerman' is not allowed; did you mean 'spearman'",
    ),
    "an unknown dataset": (
        "min_lag_s = 6",
        'dataset = "movies"',
        "unknown dataset 'movies' in [rsa.geometry]; did you mean 'movie'",
    ),
    "an unknown fit": ('out = "page"', 'fits = ["man"]', "unknown fit 'man' in [report]; did you mean 'main'"),
    "no file of that glob": ("movies/*.npy", "movies/*.mp4", "no file matches 'movies/*.mp4'"),
    "a name that the store cannot hold": ("[fit.main]", '[fit."a/b"]', "the name of [fit.a/b] is 'a/b'"),
    "an analysis without a name": (
        "[fit.main]",
        "[fit]",
        "key 'models' stands in [fit] itself; [fit.NAME] is the table of one fit",
    ),
    "nothing required": ('source = "bids"\n', "", "[ingest.movie] has no source"),
    "a key that the table's name gives": (
        "min_lag_s = 6",
        'name = "x"',
        "the table's own name, 'geometry', is its name",
    ),
    "a key that the command gives": ("min_lag_s = 6", "overwrite = true", "--overwrite are options of brainsim run"),
    "a second store": ("min_lag_s = 6", 'store = "x"', "store stands at the top of the file"),
    "a table that is no table": ('title = "A study"', "fit = 3", "fit is 3; it must be a table"),
    "a title that is no text": ('title = "A study"', "title = 3", "title is 3; it must be a text"),
}


@pytest.mark.parametrize(("there", "instead", "told"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_told_with_its_line_and_what_is_allowed(folder: Path, there: str, instead: str, told: str) -> None:
    assert there in STUDY
    text = STUDY.replace(there, instead, 1)
    if instead == "fit = 3":
        text = text[: text.index("[fit.main]")] + text[text.index("[partition") :]
    with pytest.raises(BrainsimError) as error:
        read_study(write(folder, text))
    assert told in error.value.message
    assert "study.toml" in error.value.message
    assert error.value.hint


def test_all_mistakes_are_told_at_once(folder: Path) -> None:
    text = STUDY.replace("seed = 3", "sed = 3").replace("delays =", "delay =")
    with pytest.raises(InvalidValueError, match=r"'sed' in \[defaults\]") as error:
        read_study(write(folder, text))
    assert any("'delay' in [fit.main]" in note for note in error.value.__notes__)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[fit.main]\nmodels = [\n", "end of document"),
        ("[fit.main]\n[fit.main]\n", "line 2"),
        ("seed = 1\nseed = 2\n", "line 2"),
        ("a = \n", "line 1"),
    ],
)
def test_what_is_no_toml_is_told_with_its_line(folder: Path, text: str, told: str) -> None:
    with pytest.raises(InputFileError, match="is no TOML") as error:
        read_study(write(folder, text))
    assert told in error.value.message


def test_other_files_are_refused(folder: Path) -> None:
    with pytest.raises(InputFileError, match="no study file at"):
        read_study(folder / "none.toml")
    with pytest.raises(InputFileError, match="is a folder"):
        read_study(folder)
    (folder / "study.toml").write_bytes(b"title = '\xff'")
    with pytest.raises(InputFileError, match="no text in UTF-8"):
        read_study(folder / "study.toml")
    with pytest.raises(InvalidValueError, match="names nothing to do"):
        read_study(write(folder, 'title = "empty"\n'))


def test_several_datasets_must_be_chosen_from(folder: Path) -> None:
    text = STUDY.replace("[fit.main]", '[ingest.other]\nsource = "bids"\n\n[fit.main]')
    with pytest.raises(InvalidValueError, match=r"\[fit.main\] has no dataset; it must be one of movie, other"):
        read_study(write(folder, text))
    text = text.replace("seed = 3", 'seed = 3\ndataset = "other"')
    steps = {step.name: step for step in read_study(write(folder, text)).steps}
    assert "ingest.other" in steps["fit.main"].needs
    assert "ingest.movie" not in steps["fit.main"].needs
    assert steps["ingest.movie"].values["dataset"] == "movie"


def test_lines_are_found_in_any_spelling() -> None:
    text = '[fit]\n[fit."a b"]\n  "delays" = [1]\n# x = 1\nx=2\n'
    assert find_line(text, "fit.a b", "delays") == 3
    assert find_line(text, "fit.a b", "x") == 5
    assert find_line(text, "fit.a b", "y") == 2
    assert find_line(text, "", "x") == 0


def test_the_study_file_of_the_documents_can_be_read(folder: Path, root_dir: Path) -> None:
    block = re.search(r"```toml\n(.*?)```", (root_dir / "docs" / "studies.md").read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    (folder / "movies" / "run-1.mp4").touch()
    study = read_study(write(folder, block[1]))
    assert len(study.steps) == 7
    assert {step.values.get("device") for step in study.steps if "device" in step.verb.keys} == {"cuda"}
