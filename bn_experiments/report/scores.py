"""Scores: accuracy in either mode, by class, and what is taken for what."""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bn_experiments.records.quantities import NotMeasured, axis_labels, probes
from bn_experiments.report.arms import Arm, points
from bn_experiments.report.contents import Section
from bn_experiments.report.figures import WIDTH, Drawing, dots, legend, plain

MODES = {"train": "training mode", "eval": "evaluation mode"}
MOST_CLASSES = 40  # more are not legible
INTERVALS = "Means over replicas with their 95% intervals."
KEY = [
    Line2D([], [], color="#333333", linestyle="", marker="o", markerfacecolor=face, label=label)
    for face, label in (("#333333", MODES["eval"]), ("white", MODES["train"]))
]


def modes(section: Section) -> Drawing:
    """The accuracy of each split in training mode and in evaluation mode."""
    parts = []
    for arm in section.arms.values():
        for mode in MODES:
            try:
                values = 100 * arm.measured(f"modes/{mode}_mode_acc")
            except NotMeasured:
                continue
            parts.append(points(values, split=axis_labels(probes(arm.folder), "modes"), arm=arm.name, mode=mode))
    if not parts:
        raise NotMeasured("modes were not measured")
    data = pd.concat(parts, ignore_index=True)
    splits, arms = list(dict.fromkeys(data["split"])), _drawn(section, data)
    figure = Figure(figsize=(WIDTH, 1.2 + 0.42 * len(arms)), layout="constrained")
    panels = figure.subplots(1, len(splits), sharey=True, squeeze=False)[0]
    for axes, split in zip(panels, splits, strict=True):
        for i, arm in enumerate(arms):
            for mode, offset in (("eval", -0.15), ("train", 0.15)):
                own = data[(data["split"] == split) & (data["arm"] == arm.name) & (data["mode"] == mode)]
                dots(axes, arm, own, [i + offset] * len(own), hollow=mode == "train", sideways=True)
        axes.set_title(f"{plain(split)} set")
        axes.set_xlabel("accuracy, %")
        axes.grid(axis="x")
        axes.set_axisbelow(True)
    panels[0].set_yticks(range(len(arms)), [plain(arm.name) for arm in arms])
    panels[0].set_ylim(len(arms) - 0.5, -0.5)
    figure.legend(KEY, [str(line.get_label()) for line in KEY], loc="outside upper left", ncols=2)
    test = data[data["split"] == splits[-1]].to_dict("records")
    told = "; ".join(f"{row['arm']} {row['mean']:.4g}% in {MODES[row['mode']]}" for row in test)
    return Drawing(
        "modes",
        "Training mode against evaluation mode",
        f"{INTERVALS} In training mode batch norm uses the statistics of each batch, and dropout acts.",
        f"Dot plot of accuracies. On the {splits[-1]} set: {told}.",
        data,
        figure,
    )


def classes(section: Section) -> Drawing:
    """The accuracy of each class in evaluation mode."""
    parts = []
    for arm in section.arms.values():
        try:
            values = 100 * arm.measured("classes/eval_mode_acc")
        except NotMeasured:
            continue
        parts.append(points(values, **{"class": _labels(arm)}, arm=arm.name))
    if not parts:
        raise NotMeasured("classes were not measured")
    data = pd.concat(parts, ignore_index=True)
    names, arms = list(dict.fromkeys(data["class"])), _drawn(section, data)
    figure = Figure(figsize=(WIDTH, 1.0 + 0.24 * len(names)), layout="constrained")
    axes = figure.subplots()
    for i, arm in enumerate(arms):
        own = data[data["arm"] == arm.name]
        at = [names.index(name) + (i - (len(arms) - 1) / 2) * 0.6 / max(2, len(arms)) for name in own["class"]]
        dots(axes, arm, own, at, sideways=True)
    axes.set_yticks(range(len(names)), [plain(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_ylabel("class")
    axes.set_xlabel("test accuracy, %")
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    legend(figure, arms, lines=False)
    worst = data.loc[data.groupby("arm", sort=False)["mean"].idxmin()].to_dict("records")
    told = "; ".join(f"{row['arm']} is worst on {row['class']} with {row['mean']:.4g}%" for row in worst)
    return Drawing(
        "accuracy_by_class",
        "Accuracy by class",
        f"On the test set, in evaluation mode. {INTERVALS}",
        f"Dot plot of the accuracy of {len(names)} classes: {told}.",
        data,
        figure,
    )


def confusion(section: Section) -> Drawing:
    """The confusion matrix of each arm in evaluation mode, over all replicas."""
    arms = [arm for arm in section.arms.values() if "classes/eval_mode_confusion" in probes(arm.folder)]
    if not arms or len(_labels(arms[0])) < 2:
        raise NotMeasured("classes were not measured")
    counts = {arm.name: probes(arm.folder)["classes/eval_mode_confusion"][-1].sum(axis=0) for arm in arms}
    shares = {name: 100 * count / count.sum(axis=1, keepdims=True).clip(1) for name, count in counts.items()}
    top = max(float((share * (1 - np.eye(len(share)))).max()) for share in shares.values())
    columns = min(2, len(arms))
    rows = math.ceil(len(arms) / columns)
    figure = Figure(figsize=(WIDTH, 0.4 + 3.2 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in panels[len(arms) :]:
        axes.set_visible(False)
    parts = []
    for axes, arm in zip(panels, arms, strict=False):
        names, share = _labels(arm), shares[arm.name]
        _matrix(axes, share, names, top)
        axes.set_title(plain(arm.name))
        truth, answer = np.meshgrid(names, names, indexing="ij")
        columns_of = {"class": truth.flatten(), "answer": answer.flatten(), "count": counts[arm.name].flatten()}
        parts.append(pd.DataFrame({"arm": arm.name, **columns_of, "percent": share.flatten()}))
    data = pd.concat(parts, ignore_index=True)
    wrong = data[data["class"] != data["answer"]]
    worst = wrong.loc[wrong.groupby("arm", sort=False)["percent"].idxmax()].to_dict("records")
    told = "; ".join(f"{r['arm']} takes {r['class']} for {r['answer']} in {r['percent']:.2g}%" for r in worst)
    return Drawing(
        "confusion",
        "What is taken for what",
        "Per cent of each class of the test set, over all replicas, in evaluation mode. The shade is of the mistakes "
        "alone, on one scale for all arms; the right answers, on the diagonal, are grey.",
        f"Confusion matrices of {', '.join(counts)}. The commonest mistake: {told}.",
        data,
        figure,
    )


def _matrix(axes: Axes, share: np.ndarray, names: list[str], top: float) -> None:
    """A confusion matrix in per cent of each row."""
    size = len(names)
    right = np.eye(size, dtype=bool)
    axes.imshow(np.where(right, np.nan, share), cmap="Blues", vmin=0, vmax=1.25 * top or 1, interpolation="nearest")
    axes.imshow(np.where(right, 0.12, np.nan), cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
    long = max(map(len, names)) > 2
    axes.set_xticks(
        range(size), [plain(name, 14) for name in names], rotation=50 if long else 0, ha="right" if long else "center"
    )
    axes.set_yticks(range(size), [plain(name, 14) for name in names])
    axes.tick_params(length=0, labelsize=7)
    axes.set_xlabel("answer")
    axes.set_ylabel("class")
    for spine in axes.spines.values():
        spine.set_visible(False)
    if size > 12:
        return
    for i, j in np.ndindex(size, size):
        if i == j or share[i, j] >= 0.05:
            text = f"{share[i, j]:.1f}" if share[i, j] < 9.95 else f"{share[i, j]:.0f}"
            dark = i != j and share[i, j] > 0.75 * top
            axes.text(j, i, text, ha="center", va="center", fontsize=6, color="white" if dark else "#222222")


def _labels(arm: Arm) -> list[str]:
    found = axis_labels(probes(arm.folder), "classes")
    if len(found) > MOST_CLASSES:
        raise NotMeasured("too many classes to show")
    return found


def _drawn(section: Section, data: pd.DataFrame) -> list[Arm]:
    return [arm for arm in section.arms.values() if arm.name in set(data["arm"])]
