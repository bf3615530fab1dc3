"""Moments, drawn: the variance of what layers and norms put out, in training mode beside evaluation mode."""

from collections.abc import Mapping, Sequence

from matplotlib.lines import Line2D

from bn_experiments.claims.protocol import Claim
from bn_experiments.figures.arms import MOMENTS, Arm, arms_in, joined, measured_in, points
from bn_experiments.figures.drawing import INTERVALS, Drawing, dots, ends, legend, log_axis, panels, plain
from bn_experiments.figures.oracles import ORACLE, of_claims

KINDS = {
    "second_moment": "second moment",
    "variance": "variance",
    "fourth_moment": "fourth moment",
    "rectified": "mean behind a relu",
    "largest": "largest number",
}
WORDS = {"train": "in training mode", "eval": "in evaluation mode"}
QUANTITIES = {f"moments/{mode}_{kind}": f"{text} {WORDS[mode]}" for mode in WORDS for kind, text in KINDS.items()}
KEY = [
    Line2D([], [], color="#333333", linestyle="", marker="o", markerfacecolor=face, label=f"{label}")
    for face, label in (("#333333", WORDS["train"]), ("white", WORDS["eval"]))
]
FEW = 12  # places that are named


def variance_by_place(arms: Mapping[str, Arm], claims: Sequence[Claim]) -> Drawing:
    """The variance of what each layer and norm puts out, in both modes, at the first reading."""
    moment = "start" if any(True for _ in measured_in(arms, "moments/train_variance", moment="start")) else "end"
    data = joined(
        points(values, arm=arm.name, mode=mode, place=arm.labels("moments"))
        for mode in ("train", "eval")
        for arm, values in measured_in(arms, f"moments/{mode}_variance", moment=moment)
    )
    drawn, places = arms_in(data, arms), list(dict.fromkeys(data["place"]))
    figure, (axes,) = panels(3.1)
    for i, arm in enumerate(drawn):
        for mode, shift in (("train", -0.12), ("eval", 0.12)):
            own = data[(data["arm"] == arm.name) & (data["mode"] == mode)]
            at = [places.index(place) + shift + (i - (len(drawn) - 1) / 2) * 0.06 for place in own["place"]]
            dots(axes, arm, own, at, hollow=mode == "eval", sideways=False)
    found = of_claims(arms, claims, "moments/train_variance", moment)
    theory = [(q, oracle) for q, oracle in found if oracle.ndim == 1 and len(q.arms) == 1 and q.label is None]
    for quantity, oracle in theory:
        at = [places.index(label) for label in quantity.labels or places]
        axes.plot(at, oracle, color="#111111", linestyle=(0, (1, 1.5)), linewidth=1.6, zorder=5)
    log_axis(axes.yaxis, data)
    if len(places) <= FEW:
        axes.set_xticks(range(len(places)), [plain(place) for place in places], rotation=25, ha="right")
    axes.set_xlabel("layers and norms, from the input to the output")
    axes.set_ylabel("variance over examples")
    legend(figure, drawn, [*KEY, *[ORACLE] * bool(theory)], lines=False)
    dotted = " Dotted: what theory says." if theory else ""
    caption = f"{INTERVALS.rstrip('.')}, {MOMENTS[moment]}.{dotted}"
    alt = f"Dot plot of the variance at {len(places)} places: {ends(data)}, in evaluation mode."
    return Drawing("moments", "Variance in both modes", caption, alt, data, figure)


DRAWINGS = (variance_by_place,)
