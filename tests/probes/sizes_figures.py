"""How the report draws the tests' own probe."""

from matplotlib.figure import Figure

from bn_experiments.figures.arms import arms_in
from bn_experiments.figures.axes import legend, plain
from bn_experiments.figures.drawing import WIDTH, Drawing
from bn_experiments.figures.marks import dots
from bn_experiments.figures.readings import by_moment

QUANTITIES = {"sizes/size": "size of the signal"}


def sizes(arms, claims):
    data, places = by_moment(arms, "sizes", "size", "place")
    drawn, last = arms_in(data, arms), data[data["moment"] == "end"]
    figure = Figure(figsize=(WIDTH, 2.0), layout="constrained")
    axes = figure.subplots()
    for arm in drawn:
        own = last[last["arm"] == arm.name]
        dots(axes, arm, own, [places.index(place) for place in own["place"]], sideways=False)
    axes.set_xticks(range(len(places)), [plain(place) for place in places])
    legend(figure, drawn, lines=False)
    caption = f"Claims: {', '.join(claim.claim for claim in claims) or 'none'}."
    return Drawing("sizes", "Sizes", caption, f"Dot plot of the size at {len(places)} places.", data, figure)


DRAWINGS = (sizes,)
