"""Gradient by layer, drawn: the norm of the loss's gradient in each layer, at the start and at the end."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from bn_experiments.claims.protocol import Claim
from bn_experiments.figures.arms import Arm, arms_in
from bn_experiments.figures.axes import legend, log_axis_for, plain
from bn_experiments.figures.drawing import WIDTH, Drawing
from bn_experiments.figures.marks import dots, ends
from bn_experiments.figures.readings import MOMENTS, by_moment

QUANTITIES = {"gradients/norm": "gradient norm"}


def gradient_by_layer(arms: Mapping[str, Arm], claims: Sequence[Claim]) -> Drawing:
    """The norm of the loss's gradient in each layer, a panel for each moment."""
    data, layers = by_moment(arms, "gradients", "norm", "layer")
    moments = list(dict.fromkeys(data["moment"]))
    drawn = arms_in(data, arms)
    figure = Figure(figsize=(WIDTH, 1.2 + 0.24 * len(layers)), layout="constrained")
    panels = figure.subplots(1, len(moments), sharey=True, squeeze=False)[0]
    for axes, moment in zip(panels, moments, strict=True):
        own = data[data["moment"] == moment]
        for i, arm in enumerate(drawn):
            rows = own[(own["arm"] == arm.name) & (own["mean"] > 0)]
            offset = (i - (len(drawn) - 1) / 2) * 0.7 / max(2, len(drawn))
            dots(axes, arm, rows, [layers.index(layer) + offset for layer in rows["layer"]], sideways=True)
        log_axis_for(axes.xaxis, own)
        axes.set_title(MOMENTS[moment])
        axes.set_xlabel("gradient norm")
        axes.grid(axis="y")
        axes.set_axisbelow(True)
    panels[0].set_yticks(range(len(layers)), [plain(layer) for layer in layers])
    panels[0].set_ylim(len(layers) - 0.4, -0.6)
    legend(figure, drawn, lines=False)
    caption = "2-norm of the gradient of the training loss in each layer; means over replicas with their 95% intervals."
    alt = f"Dot plot of gradient norms in {len(layers)} layers: {ends(data)}, in the last layer."
    return Drawing("gradient_norms", "Gradient by layer", caption, alt, data, figure)


DRAWINGS = (gradient_by_layer,)
