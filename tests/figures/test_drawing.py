import matplotlib.style
import pytest

from bn_experiments.figures.arms import Arm, looks
from bn_experiments.figures.drawing import STYLE, legend, panels
from tests.cells_by_hand import a_result


@pytest.mark.parametrize("name", ["bn", "orth_sum_0.1", "a name of an arm that is long"])
def test_the_legend_of_any_number_of_arms_lies_within_the_figure(tmp_path, name):
    for count in range(1, 14):
        arms = {f"{name}_{i}": f"{name}_{i}" for i in range(count)}
        styles = looks(arms)
        with matplotlib.style.context(STYLE):
            figure, _ = panels(2.9)
            legend(
                figure, [Arm(title, tmp_path, a_result(title, {"test/acc": [0.5]}), styles[title]) for title in arms]
            )
            figure.draw_without_rendering()
            box = figure.legends[0].get_window_extent()
        assert box.x0 >= 0, count
        assert box.x1 <= figure.bbox.x1, count
