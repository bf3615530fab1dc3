import pytest
import torch

from bn_experiments.config import build, objects


@pytest.mark.parametrize(
    ("keys", "captured"),
    [
        (["trainer.accelerator=gpu"], True),
        (["trainer.accelerator=gpu", "trainer.precision=64-true"], True),
        (["trainer.accelerator=gpu", "trainer.precision=bf16-mixed"], True),
        (["trainer.accelerator=gpu", "trainer.cuda_graph=false"], False),
        (["trainer.accelerator=cpu"], False),
        (["trainer.accelerator=mps"], False),
    ],
)
def test_a_step_is_captured_on_a_gpu_alone(compose_cell, keys, captured):
    assert build.captures(compose_cell(*keys).config) == captured


@pytest.mark.parametrize("captured", [True, False])
@pytest.mark.parametrize(("optimizer", "has_a_say"), [("sgd", False), ("adam", True), ("rmsprop", True)])
def test_an_optimizer_can_be_captured_where_the_step_is(compose_cell, optimizer, has_a_say, captured):
    config = compose_cell(f"optimizer={optimizer}", "optimizer.lr=0.3").config
    made = objects.optimizer(config, captured)(torch.nn.Linear(1, 1))
    assert made.defaults["lr"] == 0.3
    assert made.defaults.get("capturable") == (captured if has_a_say else None)


def test_a_run_is_built_with_convolutions_in_full_float32(compose_cell):
    cudnn = torch.backends.cudnn
    cudnn.conv.fp32_precision = cudnn.rnn.fp32_precision = "tf32"  # torch's default
    build.build(compose_cell("trainer.precision=32-true"))
    assert (cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision) == ("ieee", "ieee")
    assert torch.get_float32_matmul_precision() == "highest", "Lightning asks for it, and torch refuses mixed settings"
    assert torch.backends.cuda.matmul.fp32_precision != "tf32"
