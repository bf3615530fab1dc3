"""How the report draws the tests' own probe."""

from bn_experiments.figures.arms import arms_in, by_moment
from bn_experiments.figures.drawing import Drawing, dots, legend, panels, plain

QUANTITIES = {"sizes/size": "size of the signal"}


def sizes(arms, claims):
    data, places = by_moment(arms, "sizes", "size", "place")
    drawn, last = arms_in(data, arms), data[data["moment"] == "end"]
    figure, (axes,) = panels(2.0)
    for arm in drawn:
        own = last[last["arm"] == arm.name]
        dots(axes, arm, own, [places.index(place) for place in own["place"]], sideways=False)
    axes.set_xticks(range(len(places)), [plain(place) for place in places])
    legend(figure, drawn, lines=False)
    caption = f"Claims: {', '.join(claim.claim for claim in claims) or 'none'}."
    return Drawing("sizes", "Sizes", caption, f"Dot plot of the size at {len(places)} places.", data, figure)


DRAWINGS = (sizes,)
