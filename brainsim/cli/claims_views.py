"""Turn answers to claims, and accuracies beside scores, into text: the answers first, then the numbers behind them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from brainsim.cli.output import make_lines, make_table, tell, tell_p

ANSWER_STYLES = {"supported": "bold green", "not supported": "bold red", "undecided": "yellow", "not tested": "dim"}


def show_claims(summary: Any) -> RenderableType:
    """Show each claim with its answer, then one row per part and stream."""
    lines = {
        "claims": f"{summary.name} of {summary.dataset}, in {summary.store}",
        "declared": _tell_rules(summary.rules),
    }
    parts: list[RenderableType] = [*_heading(summary), make_lines(lines)]
    for measure in dict.fromkeys(row["measure"] for row in summary.answers):
        answers = [row for row in summary.answers if row["measure"] == measure]
        parts += [Text(), Text(f"Answers from {measure}", style="bold")]
        for row in answers:
            parts.append(_tell_answer(row))
        tests = [{**row, "interval": _interval(row)} for row in summary.tests if row["measure"] == measure]
        if tests:
            columns = {
                "claim": "claim", "part": "part", "stream": "stream", "estimate": "estimate", "interval": "[low, high]",
                "bound": "bound", "p_for": "p for", "p_against": "p against", "n_subjects": "subjects",
            }  # fmt: skip
            title = "Estimates, mean over subjects; bound: what counts as little, or the smallest effect of interest"
            parts += [Text(), Text(title, style="bold"), make_table(tests, columns=columns)]
    return Group(*parts)


def show_accuracy(summary: Any) -> RenderableType:
    """Show the correlation of each stream, then the models."""
    lines = {"accuracy": f"{summary.name} of {summary.dataset}, in {summary.store}", "correlation": summary.method}
    correlations = [{**row, "interval": _interval(row)} for row in summary.correlations]
    columns = {
        "measure": "measure", "stream": "stream", "correlation": "correlation", "interval": "[low, high] over subjects",
        "p": "p over models", "n_models": "models", "n_subjects": "subjects", "source": "from",
    }  # fmt: skip
    rows = [{**row, "interval": _interval(row)} for row in summary.rows]
    shown = {
        "measure": "measure", "stream": "stream", "model": "model", "accuracy": "top-1 (%)", "score": "score",
        "normalised": "of the ceiling", "interval": "[low, high]", "task": "task", "accuracy_source": "source",
    }  # fmt: skip
    return Group(
        *_heading(summary),
        make_lines(lines),
        Text(),
        make_table(correlations, columns=columns),
        Text(),
        make_table(rows, columns=shown),
    )


def _heading(summary: Any) -> list[RenderableType]:
    is_dry = not (summary.n_nodes_written or summary.n_nodes_reused)
    return [Text("Dry run: nothing was written.", style="bold")] if is_dry else []


def _tell_rules(rules: Mapping[str, Any]) -> str:
    shares = [
        f"{word} {', '.join(f'{value:g} ({measure})' for measure, value in rules[word].items())}"
        for word in ("little", "smallest")
    ]
    return f"alpha {rules['alpha']:g}, {rules['correction']} over claims; of what can be reached: {'; '.join(shares)}"


def _tell_answer(row: Mapping[str, Any]) -> Text:
    text = Text("  ")
    text.append(f"{row['answer']:<14}", style=ANSWER_STYLES.get(row["answer"], ""))
    text.append(f" {row['says']}")
    if row["answer"] == "not tested":
        text.append(f" ({row['reason']})", style="dim")
    else:
        q = f"q for {tell_p(row['q_for'])}, q against {tell_p(row['q_against'])}"
        text.append(f" ({q}; {row['n_subjects']} subjects; {row['source']})", style="dim")
    return text


def _interval(row: Mapping[str, Any]) -> str | None:
    return None if row.get("low") is None else f"[{tell(row['low'])}, {tell(row['high'])}]"
