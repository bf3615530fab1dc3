"""Markdown: the verdicts and the published numbers as a page for the repository."""

from collections.abc import Sequence

from bn_experiments.claims.summary import BASELINE
from bn_experiments.refusal import Refusal
from bn_experiments.report import words
from bn_experiments.report.contents import Section, SweepContents
from bn_experiments.report.page import IMAGES, compared, in_order, machines, newest, summarised

INTRODUCTION = (
    "This page is generated from the results of `make reproduce`, which trains every experiment below, by `python -m "
    "bn_experiments.report outputs --markdown docs/reproductions.md`. Each claim is judged on paired networks, arm "
    "against arm from the same seeds; every number stands with its 95% interval and n, the networks behind it. p is "
    "Student's, or Hall's where replicas are so skewed that it is larger, after Holm's correction over an experiment's "
    "claims; a claim fails only where its interval excludes the effect. A published number is of one run, so it is "
    "compared with the interval of one further run (95% prediction interval). Accuracies are shares of 1, losses in "
    "nats."
)


def render(sweeps: Sequence[SweepContents]) -> str:
    """The experiments among the sweeps as Markdown, without a path of this machine.

    Raises:
        Refusal: None of them is an experiment.
    """
    sweeps = [sweep for sweep in in_order(sweeps) if sweep.protocol and sweep.cells]
    if not sweeps:
        remedy = "train one first"
        raise Refusal("the folder", "no experiment is among the sweeps", "folders with an experiment.json", remedy)
    lines = ["# Reproductions", "", f"{INTRODUCTION} Results up to {newest(sweeps)}.", ""]
    lines += ["| experiment | claim | verdict | estimate [95% interval] | n | p |", "|---|---|---|---|--:|--:|"]
    for sweep in sweeps:
        for section in sweep.sections:
            lines += _verdicts(sweep, section)
    for sweep in sweeps:
        lines += _experiment(sweep)
    lines += ["", "## Provenance", ""]
    for name, values in machines(sweeps).items():
        lines += [f"- {name}: {escape('; '.join(values))}"]
    lines += [f"- minutes: {sum(sweep.minutes for sweep in sweeps):.0f} in all, one cell after another"]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    r"""Text on one line that Markdown takes as it is, in a table too.

    >>> escape("a|b <i> x_1*")
    'a\\|b &lt;i&gt; x\\_1\\*'
    """
    text = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{letter}" if letter in "\\`*_|[]" else letter for letter in text)


def context(section: Section) -> str:
    """What the arms have in common, without the settings that hold for one machine alone."""
    return escape(" ".join(text for text in words.settings(section.context) if words.is_portable(text)))


def _briefly(section: Section) -> str:
    """The data set, and what the command set."""
    texts = [text for text in words.settings(section.context) if words.is_portable(text)]
    texts = [text.removeprefix("data=") for text in texts if not text.startswith(("model=", "optimizer="))]
    return escape(", ".join(texts))


def row(cells: Sequence[str]) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |"


def _verdicts(sweep: SweepContents, section: Section) -> list[str]:
    lines = []
    for verdict in section.verdicts:
        name = f"{escape(sweep.title)} ({_briefly(section)})"
        outcome = [escape(verdict.reason), "", ""] if verdict.reason else [
            escape(words.estimate(verdict)), str(verdict.n), words.p_value(verdict.p)
        ]  # fmt: skip
        lines.append(
            row([name, escape(verdict.claim), f"{words.SYMBOLS[verdict.verdict]} {verdict.verdict}", *outcome])
        )
    return lines


def _experiment(sweep: SweepContents) -> list[str]:
    protocol = sweep.protocol
    assert protocol is not None
    lines = ["", f"## {escape(sweep.title)}", ""]
    note = f" **{escape(protocol.note)}**" if protocol.note else ""
    lines += [
        f"`python train.py experiment={protocol.name}`, {sweep.minutes:.1f} minutes. "
        f"Source: {escape(protocol.source)}.{note}"
    ]
    lines += [
        "",
        "Arms: " + "; ".join(f"**{escape(name)}**: {_selector(arm)}" for name, arm in protocol.arms.items()) + ".",
    ]
    if protocol.mistakes:
        lines += ["", "Mistakes of the source, and what they change:", ""]
        lines += [f"- {escape(mistake.what)} {escape(mistake.changes)}" for mistake in protocol.mistakes]
    lines += [line for text in sweep.skipped for line in ("", f"Left out: {escape(text)}")]
    for section in sweep.sections:
        lines += ["", f"Setting: {context(section)}.{f' {IMAGES}' if section.is_of_images else ''}"]
        lines += _summary(section) if section.is_trained else ["", "Nothing is trained: measured at initialization."]
        lines += _published(section)
    return lines


def _selector(selector: dict) -> str:
    return escape(", ".join(f"{key}={'null' if value is None else value}" for key, value in selector.items()))


def _summary(section: Section) -> list[str]:
    lines = []
    for heading, rows in summarised(section).items():
        lines += [
            "",
            row([escape(heading), "mean [95% interval]", f"difference to {BASELINE}", "p", "n"]),
            "|---|--:|--:|--:|--:|",
        ]
        for each in rows:
            diverged = f" ({each['diverged']} diverged)" if each["diverged"] else ""
            numbers = [escape(each[key]) for key in ("mean", "difference", "p", "n")]
            lines.append(row([escape(each["arm"]) + diverged, *numbers]))
    return lines


def _published(section: Section) -> list[str]:
    lines = []
    for quantity, tables in compared(section).items():
        if not quantity:
            lines += ["", row(["arm", "quantity", "published", "mean", "prediction interval", "n", "lies"])]
            lines += ["|---|---|--:|--:|--:|--:|---|"]
            lines += [line for table in tables for line in _numbers(table)]
            continue
        for table in tables:
            inside = sum(bool(each["inside"]) for each in table["rows"])
            note = f" ({escape(table['note'])})" if table["note"] else ""
            count = f"{inside} of {len(table['rows'])} inside, n = {table['n']}"
            lines += ["", f"**{escape(table['arm'])}**, {escape(quantity)}{note}: {count}.", ""]
            lines += [row([table["heading"], *(escape(each["label"]) for each in table["rows"])])]
            lines += ["|---|" + "--:|" * len(table["rows"])]
            for name in ("published", "mean", "interval"):
                lines.append(row([name, *(escape(each[name]) for each in table["rows"])]))
            lines.append(row(["inside", *(_place(each["inside"]) for each in table["rows"])]))
    return lines


def _numbers(table: dict) -> list[str]:
    name = [escape(table["arm"]), escape(table["quantity"] + (f" ({table['note']})" if table["note"] else ""))]
    if table["reason"]:
        return [row([*name, table["published"], escape(f"not compared: {table['reason']}"), "", "", ""])]
    return [
        row(
            [
                *name,
                each["published"],
                each["mean"],
                escape(each["interval"]),
                str(table["n"]),
                _place(each["inside"], "inside", "outside"),
            ]
        )
        for each in table["rows"]
    ]


def _place(inside: bool | None, yes: str = "", no: str = "") -> str:
    return words.DASH if inside is None else f"✓ {yes}".strip() if inside else f"✗ {no}".strip()
