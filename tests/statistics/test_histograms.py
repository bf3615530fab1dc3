"""Histograms put together, against counts of all values at once."""

import numpy as np
import pytest

from bn_experiments.statistics.histograms import pooled


def test_histograms_with_the_same_edges_add_up_exactly():
    counts = np.random.default_rng(0).integers(0, 50, (4, 12))
    edges = np.broadcast_to(np.linspace(-3, 5, 13), (4, 13))
    summed, common = pooled(counts, edges)
    np.testing.assert_allclose(summed, counts.sum(0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(common, edges[0], rtol=1e-12)


def test_the_sum_is_near_the_histogram_of_all_values_and_keeps_their_number():
    draws = np.random.default_rng(1)
    values = [draws.normal(center, scale, 20_000) for center, scale in ((0, 1), (2, 0.5), (-1, 3))]
    made = [np.histogram(each, 60) for each in values]
    counts, edges = pooled(np.stack([each[0] for each in made]), np.stack([each[1] for each in made]))
    assert counts.sum() == pytest.approx(60_000)
    whole, _ = np.histogram(np.concatenate(values), edges)
    below, expected = counts.cumsum() / 60_000, whole.cumsum() / 60_000
    # within the own bin that an edge cuts, a cumulative share is off by no more than that bin's share
    assert abs(below - expected).max() < max((each[0] / 60_000).max() for each in made)


def test_a_histogram_of_nothing_does_not_widen_the_range():
    counts, edges = pooled(np.array([[0, 0], [3, 5]]), np.array([[0.0, 0.5, 1.0], [7.0, 8.0, 9.0]]))
    assert (counts.tolist(), edges.tolist()) == ([3.0, 5.0], [7.0, 8.0, 9.0])
    nothing, _ = pooled(np.zeros((2, 3)), np.array([[0.0, 1.0, 2.0, 3.0]] * 2))
    assert nothing.tolist() == [0, 0, 0]
