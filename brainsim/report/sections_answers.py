"""Turn answers to claims, and accuracies beside scores, into sections of the page."""

from __future__ import annotations

from brainsim.report.content import AccuracySet, ClaimsSet
from brainsim.report.figures.accuracy import draw_accuracy, tabulate_correlations
from brainsim.report.figures.claims import tabulate_answers, tabulate_tests, tell_declaration
from brainsim.report.figures.claims_forest import draw_tests
from brainsim.report.section import KeyMaker, Section, keep_blocks


def claims_section(c: ClaimsSet, keys: KeyMaker) -> Section:
    """Return the answers, the tests behind them as a figure, and these in numbers."""
    measures = dict.fromkeys(str(row["measure"]) for row in c.tests)
    return Section(
        keys.make("claims", c.name, c.dataset),
        f"What was claimed before: answers “{c.name}” from {c.dataset}",
        keep_blocks(
            tabulate_answers(c, key=keys.make(c.name, "answers")),
            *(draw_tests(c, measure, key=keys.make(c.name, "forest", measure)) for measure in measures),
            tabulate_tests(c, key=keys.make(c.name, "tests")),
        ),
        tell_declaration(c),
    )


def accuracy_section(a: AccuracySet, keys: KeyMaker) -> Section:
    """Return a scatter per measure and the correlations."""
    measures = dict.fromkeys(str(row["measure"]) for row in a.correlations)
    drawings = [draw_accuracy(a, measure, key=keys.make(a.name, "accuracy", measure)) for measure in measures]
    return Section(
        keys.make("accuracy", a.name, a.dataset),
        f"Is accuracy related to similarity with the brain? “{a.name}” of {a.dataset}",
        keep_blocks(*drawings, tabulate_correlations(a, key=keys.make(a.name, "correlations"))),
        a.warnings,
    )
