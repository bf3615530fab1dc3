"""Classes, drawn: the accuracy of each class, and the confusion matrices."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bn_experiments.claims.protocol import Claim
from bn_experiments.figures.arms import Arm, arms_in, points
from bn_experiments.figures.axes import legend, plain
from bn_experiments.figures.drawing import WIDTH, Drawing
from bn_experiments.figures.marks import INTERVALS, dots
from bn_experiments.records.quantities import NotMeasured, axis_labels, probes

QUANTITIES = {
    "classes/train_mode_correct": "right answers by class in training mode",
    "classes/eval_mode_correct": "right answers by class in evaluation mode",
}
MOST_CLASSES = 40  # more are not legible


def accuracy_by_class(arms: Mapping[str, Arm], claims: Sequence[Claim]) -> Drawing:
    """The accuracy of each class in evaluation mode."""
    data = _accuracies(arms)
    names, drawn = list(dict.fromkeys(data["class"])), arms_in(data, arms)
    figure = Figure(figsize=(WIDTH, 1.0 + 0.24 * len(names)), layout="constrained")
    axes = figure.subplots()
    for i, arm in enumerate(drawn):
        own = data[data["arm"] == arm.name]
        at = [names.index(name) + (i - (len(drawn) - 1) / 2) * 0.6 / max(2, len(drawn)) for name in own["class"]]
        dots(axes, arm, own, at, sideways=True)
    axes.set_yticks(range(len(names)), [plain(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_ylabel("class")
    axes.set_xlabel("test accuracy, %")
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    legend(figure, drawn, lines=False)
    worst = data.loc[data.groupby("arm", sort=False)["mean"].idxmin()].to_dict("records")
    found = "; ".join(f"{row['arm']} is worst on {row['class']} with {row['mean']:.4g}%" for row in worst)
    return Drawing(
        "accuracy_by_class",
        "Accuracy by class",
        f"On the test set, in evaluation mode. {INTERVALS}",
        f"Dot plot of the accuracy of {len(names)} classes: {found}.",
        data,
        figure,
    )


def confusion_matrices(arms: Mapping[str, Arm], claims: Sequence[Claim]) -> Drawing:
    """The confusion matrix of each arm in evaluation mode, over all replicas."""
    drawn = [arm for arm in arms.values() if "classes/eval_mode_confusion" in probes(arm.folder)]
    if not drawn or len(_labels(drawn[0])) < 2:
        raise NotMeasured("classes were not measured")
    counts = {arm.name: probes(arm.folder)["classes/eval_mode_confusion"][-1].sum(axis=0) for arm in drawn}
    shares = {name: 100 * count / count.sum(axis=1, keepdims=True).clip(1) for name, count in counts.items()}
    top = max(float((share * (1 - np.eye(len(share)))).max()) for share in shares.values())
    columns = min(2, len(drawn))
    rows = math.ceil(len(drawn) / columns)
    figure = Figure(figsize=(WIDTH, 0.4 + 3.2 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in panels[len(drawn) :]:
        axes.set_visible(False)
    for axes, arm in zip(panels, drawn, strict=False):
        _matrix(axes, shares[arm.name], _labels(arm), top)
        axes.set_title(plain(arm.name))
    parts = [_rows(arm.name, _labels(arm), counts[arm.name], shares[arm.name]) for arm in drawn]
    data = pd.concat(parts, ignore_index=True)
    return Drawing(
        "confusion",
        "Confusion matrices",
        "Per cent of each class of the test set, over all replicas, in evaluation mode. The shade is of the mistakes "
        "alone, on one scale for all arms; the right answers, on the diagonal, are grey.",
        f"Confusion matrices of {', '.join(counts)}. The commonest mistake: {_commonest_mistakes(data)}.",
        data,
        figure,
    )


def _accuracies(arms: Mapping[str, Arm]) -> pd.DataFrame:
    """The accuracy in per cent by arm and class."""
    parts = []
    for arm in arms.values():
        try:
            values = 100 * arm.measured("classes/eval_mode_acc")
        except NotMeasured:
            continue
        parts.append(points(values, **{"class": _labels(arm)}, arm=arm.name))
    if not parts:
        raise NotMeasured("classes were not measured")
    return pd.concat(parts, ignore_index=True)


def _rows(arm: str, names: list[str], counts: NDArray, shares: NDArray) -> pd.DataFrame:
    """A confusion matrix (C, C) as a table with one row for each class and answer."""
    truth, answer = np.meshgrid(names, names, indexing="ij")
    columns = {"class": truth.flatten(), "answer": answer.flatten(), "count": counts.flatten()}
    return pd.DataFrame({"arm": arm, **columns, "percent": shares.flatten()})


def _commonest_mistakes(data: pd.DataFrame) -> str:
    wrong = data[data["class"] != data["answer"]]
    worst = wrong.loc[wrong.groupby("arm", sort=False)["percent"].idxmax()].to_dict("records")
    return "; ".join(f"{row['arm']} takes {row['class']} for {row['answer']} in {row['percent']:.2g}%" for row in worst)


def _matrix(axes: Axes, share: NDArray, names: list[str], top: float) -> None:
    """A confusion matrix (C, C) in per cent of each row; `top` is the largest mistake, and sets the scale."""
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


DRAWINGS = (accuracy_by_class, confusion_matrices)
