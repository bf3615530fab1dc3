"""Modes, drawn: the accuracy of each split in training mode beside that in evaluation mode."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from bn_experiments.claims.protocol import Claim
from bn_experiments.figures.arms import PERCENT, Arm, arms_in, joined, measured_in, points
from bn_experiments.figures.drawing import INTERVALS, Drawing, dots, panels, plain

QUANTITIES = {
    "modes/train_mode_loss": "loss in training mode",
    "modes/train_mode_acc": "accuracy in training mode",
    "modes/eval_mode_loss": "loss in evaluation mode",
    "modes/eval_mode_acc": "accuracy in evaluation mode",
}
MODES = {"train": "training mode", "eval": "evaluation mode"}
KEY = [
    Line2D([], [], color="#333333", linestyle="", marker="o", markerfacecolor=face, label=label)
    for face, label in (("#333333", MODES["train"]), ("white", MODES["eval"]))
]


def accuracy_by_mode(arms: Mapping[str, Arm], claims: Sequence[Claim]) -> Drawing:
    """The accuracy of each split in training mode and in evaluation mode, a panel for each split."""
    data = joined(
        points(
            100 * arm.measured(f"modes/{mode}_mode_acc"),
            within=PERCENT,
            split=arm.labels("modes"),
            arm=arm.name,
            mode=mode,
        )
        for arm, _ in measured_in(arms, "modes/eval_mode_acc")
        for mode in MODES
    )
    splits, drawn = list(dict.fromkeys(data["split"])), arms_in(data, arms)
    figure, shown = panels(1.2 + 0.42 * len(drawn), columns=len(splits), sharey=True)
    for axes, split in zip(shown, splits, strict=True):
        _panel(axes, drawn, data[data["split"] == split])
        axes.set_title(f"{plain(split)} set")
    shown[0].set_yticks(range(len(drawn)), [plain(arm.title, longest=40) for arm in drawn])
    shown[0].set_ylim(len(drawn) - 0.5, -0.5)
    figure.legend(KEY, [str(line.get_label()) for line in KEY], loc="outside upper left", ncols=2)
    test = data[data["split"] == splits[-1]].to_dict("records")
    found = "; ".join(f"{row['arm']} {row['mean']:.4g}% in {MODES[row['mode']]}" for row in test)
    return Drawing(
        "modes",
        "Training mode against evaluation mode",
        f"{INTERVALS} In training mode batch norm uses the statistics of each batch, and dropout acts.",
        f"Dot plot of accuracies. On the {splits[-1]} set: {found}.",
        data,
        figure,
    )


def _panel(axes: Axes, arms: Sequence[Arm], data: pd.DataFrame) -> None:
    for i, arm in enumerate(arms):
        for mode, offset in (("train", -0.15), ("eval", 0.15)):
            own = data[(data["arm"] == arm.name) & (data["mode"] == mode)]
            dots(axes, arm, own, [i + offset] * len(own), hollow=mode == "eval", sideways=True)
    axes.set_xlabel("accuracy, %")
    axes.grid(axis="x")
    axes.set_axisbelow(True)


DRAWINGS = (accuracy_by_mode,)
