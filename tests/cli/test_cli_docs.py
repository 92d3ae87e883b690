"""The documents: every command in them exists with all its options, every verb and every link has its place."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from brainsim.cli.options import SHARED_FLAGS, make_options
from brainsim.commands import VERBS, Verb

SHARED = {flag for flags, _ in SHARED_FLAGS.values() for flag in flags}
ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(text: str) -> list[list[str]]:
    """Return the words of each brainsim command in the console blocks of a page."""
    blocks = re.findall(r"```(?:console|bash|sh)\n(.*?)```", text, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    parts = [part for line in lines for part in line.removeprefix("$ ").split("#")[0].split("&&")]
    return [shlex.split(part) for part in parts if part.split()[:1] == ["brainsim"]]


def find_verb(words: list[str]) -> Verb | None:
    return next((verb for verb in VERBS if words[1 : 1 + len(verb.word.split())] == verb.word.split()), None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_in_a_page_exists_with_its_options(page: Path) -> None:
    for words in commands(page.read_text()):
        if words[1:] in (["--help"], ["--version"], ["--install-completion"]):
            continue
        verb = find_verb(words)
        assert verb is not None, " ".join(words)
        flags = {option.flag for option in make_options(verb, verb.load())} | SHARED | {"--help"}
        flags |= {f"--no-{flag[2:]}" for flag in flags}
        typed = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert typed <= flags, " ".join(words)


def test_every_verb_is_shown_in_the_documents() -> None:
    shown = {verb.word for page in PAGES for words in commands(page.read_text()) if (verb := find_verb(words))}
    assert [verb.word for verb in VERBS if verb.word not in shown] == []


def test_the_readme_has_its_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert "pip install . && brainsim demo" in text
    assert "pip install nox && nox -s tests" in text


def test_the_tour_has_the_walk_on_real_responses() -> None:
    text = (ROOT / "docs" / "tour.md").read_text()
    walk = re.search(r"<!-- tour:szinte -->\n(```console\n.*?```)", text, re.DOTALL)
    assert walk is not None
    verbs = [verb.word for words in commands(walk.group(1)) if (verb := find_verb(words))]
    assert verbs == ["extract", "ingest", "fit", "report"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []
