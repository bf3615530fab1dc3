"""Gradient by layer, drawn: the norm of the loss's gradient in each layer, at the start and at the end."""

from collections.abc import Mapping, Sequence

from bn_experiments.claims.protocol import Claim
from bn_experiments.figures.arms import MOMENTS, Arm, arms_in, by_moment
from bn_experiments.figures.drawing import Drawing, dots_in_rows, ends, legend, log_axis, panels
from bn_experiments.records.quantities import NotMeasured

MOST = 80  # layers that are drawn, a row each
QUANTITIES = {"gradients/norm": "gradient norm"}


def gradient_by_layer(arms: Mapping[str, Arm], claims: Sequence[Claim]) -> Drawing:
    """The norm of the loss's gradient in each layer, a panel for each moment.

    Raises:
        NotMeasured: There are more layers than a figure holds.
    """
    data, layers = by_moment(arms, "gradients", "norm", "layer")
    if len(layers) > MOST:
        raise NotMeasured(f"{len(layers)} layers are more than a figure holds")
    moments = list(dict.fromkeys(data["moment"]))
    drawn = arms_in(data, arms)
    figure, shown = panels(1.2 + 0.24 * len(layers), columns=len(moments), sharey=True)
    for axes, moment in zip(shown, moments, strict=True):
        own = data[data["moment"] == moment]
        dots_in_rows(axes, drawn, own[own["mean"] > 0], "layer", layers, spread=0.7)
        log_axis(axes.xaxis, own)
        axes.set_title(MOMENTS[moment])
        axes.set_xlabel("gradient norm")
    legend(figure, drawn, lines=False)
    caption = "2-norm of the gradient of the training loss in each layer; means over replicas with their 99% intervals."
    alt = f"Dot plot of gradient norms in {len(layers)} layers: {ends(data)}, in the last layer."
    return Drawing("gradient_norms", "Gradient by layer", caption, alt, data, figure)


DRAWINGS = (gradient_by_layer,)
