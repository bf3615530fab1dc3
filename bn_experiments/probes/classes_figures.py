"""Classes, drawn: the accuracy of each class, and the confusion matrices."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from bn_experiments.claims.protocol import Claim
from bn_experiments.figures.arms import PERCENT, Arm, arms_in, joined, measured_in, points
from bn_experiments.figures.drawing import INTERVALS, WIDTH, Drawing, dots_in_rows, legend, panels, plain
from bn_experiments.records.quantities import NotMeasured

QUANTITIES = {
    "classes/train_mode_correct": "right answers by class in training mode",
    "classes/eval_mode_correct": "right answers by class in evaluation mode",
}
MOST_CLASSES = 40  # more are not legible
MOST_IN_A_ROW = 4  # confusion matrices


def accuracy_by_class(arms: Mapping[str, Arm], claims: Sequence[Claim]) -> Drawing:
    """The accuracy of each class in evaluation mode."""
    data = joined(
        points(100 * values, within=PERCENT, **{"class": _labels(arm)}, arm=arm.name)
        for arm, values in measured_in(arms, "classes/eval_mode_acc")
    )
    names, drawn = list(dict.fromkeys(data["class"])), arms_in(data, arms)
    figure, (axes,) = panels(1.0 + 0.24 * len(names))
    dots_in_rows(axes, drawn, data, "class", names, spread=0.6)
    axes.set_ylabel("class")
    axes.set_xlabel("test accuracy, %")
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
    """The confusion matrix of each arm in evaluation mode, over all replicas that did not diverge."""
    counts = {}
    for arm, values in measured_in(arms, "classes/eval_mode_confusion"):
        if (whole := np.isfinite(values).all(axis=(1, 2))).any():
            counts[arm.name] = values[whole].sum(axis=0).astype(int)  # (C, C)
    if not counts:
        raise NotMeasured("every replica diverged")
    names = {name: _labels(arms[name]) for name in counts}
    if any(len(classes) < 2 for classes in names.values()):
        raise NotMeasured("a single class has no mistakes")
    data = joined(_rows(name, names[name], count) for name, count in counts.items())
    top = max(float((_shares(count) * (1 - np.eye(len(count)))).max()) for count in counts.values())
    columns = min(MOST_IN_A_ROW, len(counts))
    rows = math.ceil(len(counts) / columns)
    figure, shown = panels(0.6 + 3.0 * rows, rows, columns, width=max(WIDTH, columns * WIDTH / 2))
    for axes in shown[len(counts) :]:
        axes.set_visible(False)
    for axes, name in zip(shown, counts, strict=False):
        shades = _matrix(axes, _shares(counts[name]), names[name], top)
        axes.set_title(plain(arms[name].title, longest=40))
    figure.supxlabel("answer", fontsize="medium")
    figure.supylabel("class", fontsize="medium")
    figure.colorbar(shades, ax=shown, shrink=0.8, aspect=30, label="mistakes, % of the class")
    return Drawing(
        "confusion",
        "Confusion matrices",
        "Per cent of each class of the test set, over all replicas, in evaluation mode. The shade is of the mistakes "
        "alone, on one scale for all arms; the right answers, on the diagonal, are grey.",
        f"Confusion matrices of {', '.join(counts)}. The commonest mistake: {_commonest_mistakes(data)}.",
        data,
        figure,
    )


def _shares(counts: NDArray) -> NDArray:
    """A confusion matrix (C, C) in per cent of each row."""
    return 100 * counts / counts.sum(axis=1, keepdims=True).clip(1)


def _rows(arm: str, names: list[str], counts: NDArray) -> pd.DataFrame:
    """A confusion matrix (C, C) as a table with one row for each class and answer."""
    truth, answer = np.meshgrid(names, names, indexing="ij")
    columns = {"class": truth.flatten(), "answer": answer.flatten(), "count": counts.flatten()}
    return pd.DataFrame({"arm": arm, **columns, "percent": _shares(counts).flatten()})


def _commonest_mistakes(data: pd.DataFrame) -> str:
    wrong = data[data["class"] != data["answer"]]
    worst = wrong.loc[wrong.groupby("arm", sort=False)["percent"].idxmax()].to_dict("records")
    return "; ".join(f"{row['arm']} takes {row['class']} for {row['answer']} in {row['percent']:.2g}%" for row in worst)


def _matrix(axes: Axes, share: NDArray, names: list[str], top: float) -> AxesImage:
    """A confusion matrix (C, C) in per cent of each row; `top` is the largest mistake, and sets the scale."""
    size = len(names)
    right = np.eye(size, dtype=bool)
    mistakes = np.where(right, np.nan, share)
    shades = axes.imshow(mistakes, cmap="Blues", vmin=0, vmax=top or 1, interpolation="nearest")
    axes.imshow(np.where(right, 0.12, np.nan), cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
    slanted: dict[str, Any] = {"rotation": 50, "ha": "right"} if max(map(len, names)) > 2 else {}
    axes.set_xticks(range(size), [plain(name, 14) for name in names], **slanted)
    axes.set_yticks(range(size), [plain(name, 14) for name in names])
    axes.tick_params(length=0, labelsize=8)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for i, j in np.ndindex(size, size) if size <= 12 else ():
        if i == j or share[i, j] >= 0.05:
            text = f"{share[i, j]:.1f}" if share[i, j] < 9.95 else f"{share[i, j]:.0f}"
            dark = i != j and share[i, j] > 0.6 * top
            axes.text(j, i, text, ha="center", va="center", fontsize=7, color="white" if dark else "#222222")
    return shades


def _labels(arm: Arm) -> list[str]:
    found = arm.labels("classes")
    if len(found) > MOST_CLASSES:
        raise NotMeasured("too many classes to show")
    return found


DRAWINGS = (accuracy_by_class, confusion_matrices)
