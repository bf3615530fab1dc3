import torch
from torch import nn

from bn_experiments.training.snapshot import Snapshot


class Counting(nn.Module):
    """A layer that keeps all kinds of state; its parent is part of it, so that there is a ring."""

    def __init__(self, parent: nn.Module):
        super().__init__()
        self.register_buffer("total", torch.zeros(2))
        self.parent = [parent]
        self.calls, self.seen, self.by_name = 0, [[1]], {"last": (torch.zeros(1),)}

    def step(self) -> None:
        self.calls += 1
        self.total = self.total + 1
        self.seen[0].append(self.calls)
        self.by_name["last"][0].fill_(torch.nan)
        self.by_name["new"] = self


def network() -> nn.Module:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    network.add_module("counting", Counting(network))
    return network


def test_all_that_a_step_changed_is_put_back_in_place():
    made = network()
    optimizer = torch.optim.Adam(made.parameters(), lr=torch.tensor(0.1))
    before = {name: (id(tensor), tensor.clone()) for name, tensor in made.state_dict(keep_vars=True).items()}
    snapshot = Snapshot(made, optimizer)
    drawn = torch.rand(1)
    made[:2](torch.randn(4, 2)).sum().backward()
    optimizer.step()
    optimizer.param_groups[0]["lr"].fill_(0.2)
    made.counting.step()
    snapshot.put_back()
    for name, tensor in made.state_dict(keep_vars=True).items():
        assert id(tensor) == before[name][0], name
        assert torch.equal(tensor, before[name][1]), name
    counting = made.counting
    assert (counting.calls, counting.seen, counting.by_name) == (0, [[1]], {"last": (torch.zeros(1),)})
    assert not optimizer.state
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert torch.equal(torch.rand(1), drawn)


def test_what_holds_another_object_or_number_is_named_and_a_tensor_with_other_values_is_not():
    made = network()
    snapshot = Snapshot(made)
    assert snapshot.replaced() == []
    made[1](torch.randn(4, 2))
    assert snapshot.replaced() == [], "the running statistics are the same tensors"
    made.counting.step()
    assert snapshot.replaced() == ["calls", "new", "seen", "total"]
