import pytest
import torch

from bn_experiments.norms.rms import RMSNorm


@pytest.mark.parametrize("over", ["example", "position"])
def test_rms_norm_equals_torchs_on_features(over):
    x = torch.randn(5, 7, dtype=torch.float64)
    ours, theirs = RMSNorm(7, over=over, eps=1e-5, affine=True).double(), torch.nn.RMSNorm(7, eps=1e-5).double()
    scale = torch.randn(7, dtype=torch.float64)
    ours.weight.data, theirs.weight.data = scale.clone(), scale.clone()
    torch.testing.assert_close(ours(x), theirs(x))


def test_rms_norm_of_images_follows_the_formula_over_all_features_and_positions():
    x = torch.randn(3, 4, 5, 6, dtype=torch.float64)
    norm = RMSNorm(4, over="example", eps=1e-3, affine=True).double()
    norm.weight.data = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    for example in range(3):
        root_mean_square = ((x[example] ** 2).sum() / (4 * 5 * 6) + 1e-3) ** 0.5
        for channel in range(4):
            expected = x[example, channel] / root_mean_square * (channel + 1)
            torch.testing.assert_close(norm(x)[example, channel], expected)


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4, 2, 3)])
def test_a_position_is_normalized_as_torch_normalizes_the_last_axis(shape):
    x = torch.randn(shape, dtype=torch.float64)
    norm, theirs = RMSNorm(4, over="position", eps=1e-3, affine=True).double(), torch.nn.RMSNorm(4, eps=1e-3).double()
    theirs.weight.data = norm.weight.data = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    torch.testing.assert_close(norm(x), theirs(x.movedim(1, -1)).movedim(-1, 1))


def test_rms_norm_is_the_same_in_train_and_eval_mode():
    x = torch.randn(4, 3)
    norm = RMSNorm(3, over="example", eps=1e-5, affine=False)
    assert torch.equal(norm.train()(x), norm.eval()(x))
