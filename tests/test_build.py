import pytest
import torch

from bn_experiments import build


@pytest.mark.parametrize(
    ("keys", "captured"),
    [
        (["trainer.accelerator=gpu"], True),
        (["trainer.accelerator=gpu", "trainer.precision=64-true"], True),
        (["trainer.accelerator=gpu", "trainer.precision=bf16-mixed"], False),
        (["trainer.accelerator=gpu", "trainer.cuda_graph=false"], False),
        (["trainer.accelerator=cpu"], False),
        (["trainer.accelerator=mps"], False),
    ],
)
@pytest.mark.parametrize(("optimizer", "can_be_captured"), [("sgd", None), ("adam", True), ("rmsprop", True)])
def test_a_step_is_captured_on_a_gpu_in_full_precision(compose_cell, keys, captured, optimizer, can_be_captured):
    config = compose_cell(f"optimizer={optimizer}", *keys).config
    assert build.captures(config) == captured
    made = build.optimizer(config)([torch.nn.Parameter(torch.zeros(1))])
    assert made.defaults.get("capturable") == (can_be_captured and captured), "as far as torch's class has a say in it"
