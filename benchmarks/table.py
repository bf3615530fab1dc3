"""The table of what was measured: medians, with the least and the most."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

Pairs = Sequence[float]


def markdown(runs: Sequence[Mapping[str, Any]]) -> str:
    """Every run's table, the newest last."""
    return "\n\n".join(_run(run) for run in runs)


def _run(run: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {run['versions'][name]}" for name in ("python", "torch", "pytorch-lightning"))
    head = f"{run['date']}: {run['processor']}, {run['cores']} cores, {versions}, commit {str(run['git_commit'])[:12]}"
    return "\n".join([head, "", *_rates(run), "", *_commands(run)])


def _rates(run: Mapping[str, Any]) -> list[str]:
    threads = f"bare, {run['cores']} threads"
    lines = [
        f"| workload | bare loop, examples/s | {run['cores']} threads | ours / bare | ten replicas / bare "
        "| ours / notebook | ours / plain Lightning |",
        "|---|---|---|---|---|---|---|",
    ]
    for workload, rates in run["examples_per_s"].items():
        quicker = max("bare", threads, key=lambda name: median(rates[name]))
        cells = [
            f"{median(rates['bare']):,.0f}",
            f"{median(rates[threads]):,.0f}",
            _ratio(rates["ours"], rates["bare"]),
            _ratio(rates["ten replicas"], rates[quicker]),
            *(_ratio(rates["ours"], rates[name]) if name in rates else "" for name in ("notebook", "plain Lightning")),
        ]
        lines.append(f"| `{workload}` | {' | '.join(cells)} |")
    return lines


def _commands(run: Mapping[str, Any]) -> list[str]:
    lines = ["| command | seconds |", "|---|---|"]
    jobs = {}
    for name, values in run["commands"].items():
        if not isinstance(values[0], Mapping):
            lines.append(f"| {name} | {_spread(values)} |")
            continue
        for part in ("whole", "training"):
            jobs[name, part] = [value[part] for value in values]
            lines.append(f"| {name}, {part} | {_spread(jobs[name, part])} |")
    (default, *others) = dict.fromkeys(name for name, _ in jobs)
    for other in others:
        for part in ("whole", "training"):
            ratio = _ratio(jobs[other, part], jobs[default, part])
            lines.append(f"| {other} / {default}, {part} (a ratio) | {ratio} |")
    for workload, shares in run["writing_share"].items():
        lines.append(
            f"| writing, share of the training time of ten replicas, `{workload}` (a ratio) | {_spread(shares)} |"
        )
    for name, peak in run["peak_bytes"].items():
        lines.append(f"| most memory, ten replicas of `{name}`, in GB | {peak / 1e9:.2f} |")
    return lines


def _ratio(these: Pairs, those: Pairs) -> str:
    """The spread of the ratios of pairs that ran one after the other."""
    return _spread([a / b for a, b in zip(these, those, strict=True)])


def _spread(values: Pairs) -> str:
    digits = 2 if median(values) > 0.1 else 3
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"
