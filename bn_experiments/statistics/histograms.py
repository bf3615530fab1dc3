"""Histograms: several with edges of their own as one."""

import numpy as np
from numpy.typing import NDArray


def pooled(counts: NDArray, edges: NDArray) -> tuple[NDArray, NDArray]:
    """The sum of several histograms, in as many bins, between the outermost edges of those that count anything.

    A bin's count is spread evenly over the bin. So the total is kept, and histograms with the same edges add up.

    Args:
        counts: The counts (R, bins) of R histograms.
        edges: Their edges (R, bins + 1), rising.

    Returns:
        The counts (bins,), which are fractions where edges differ, and the edges (bins + 1,).

    >>> pooled(np.array([[2, 2], [4, 0]]), np.array([[0.0, 1.0, 2.0], [0.0, 2.0, 4.0]]))
    (array([8., 0.]), array([0., 2., 4.]))
    """
    counting = counts.any(1)
    if counting.any():
        counts, edges = counts[counting], edges[counting]
    common = np.linspace(edges.min(), edges.max(), edges.shape[1])
    below = np.concatenate([np.zeros((len(counts), 1)), counts.cumsum(1)], axis=1)  # counts below each edge
    of_common = [np.interp(common, own, cumulative) for own, cumulative in zip(edges, below, strict=True)]
    return np.diff(np.sum(of_common, axis=0)), common
