"""What graphs take, what is free, and how much of it they are given."""

import pytest
import torch
from torch import nn

from mmret.ops import memory
from mmret.ops.memory import GraphMemory, count_saved, free_bytes, storages

CPU = torch.device("cpu")


def test_a_graph_takes_what_its_backward_needs_and_weights_are_not_counted():
    layer = nn.Linear(8, 8)
    x = torch.randn(5, 8)
    with count_saved(storages(layer.parameters())) as saved:
        y = layer(x).tanh()
    # The layer keeps its input for the weight's gradient, tanh its output.
    assert sorted(saved.values()) == [x.numel() * 4, y.numel() * 4]


def test_a_tensor_that_two_operations_keep_counts_once():
    x = torch.randn(10, requires_grad=True)
    with count_saved(storages([x])) as saved:
        y = x.exp()
        y.sin() + y.cos()
    assert sum(saved.values()) == 40


def test_a_graph_measured_on_the_cpu_is_what_autograd_keeps():
    x = torch.randn(10, requires_grad=True)
    room = GraphMemory(CPU, 1000, weights=storages([x]))
    with room.measure() as size:
        x.exp().sin()
    assert size == [40]


def test_what_is_free_on_the_cpu_is_the_machines_or_the_containers(monkeypatch):
    import psutil

    monkeypatch.setattr(memory, "_container_bytes", lambda: [])
    assert 0 < free_bytes(CPU) <= psutil.virtual_memory().total
    monkeypatch.setattr(memory, "_container_bytes", lambda: [12345])
    assert free_bytes(CPU) == 12345


@pytest.mark.parametrize(
    ("limit", "used", "left"), [("1000\n", "400\n", [600]), ("max\n", "400\n", []), ("100", "400", [0])]
)
def test_a_containers_limit_is_read_from_its_control_group(limit, used, left, tmp_path):
    (tmp_path / "memory.max").write_text(limit)
    (tmp_path / "memory.current").write_text(used)
    assert memory._container_bytes(tmp_path) == left
    assert memory._container_bytes(tmp_path / "nowhere") == []


def test_without_a_limit_half_of_what_is_free_is_shared_among_the_ranks(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    room = GraphMemory(CPU, sharers=2)
    room.begin(reserve=200)
    assert room.room == 200  # (1000 - 200) x 0.5 / 2


def test_a_device_that_does_not_tell_wants_a_limit():
    with pytest.raises(ValueError, match="meta device does not say how much memory is free"):
        GraphMemory(torch.device("meta")).begin()
    GraphMemory(torch.device("meta"), limit=5).begin()


def test_graphs_are_admitted_until_the_room_is_full():
    room = GraphMemory(CPU, limit=100)
    room.begin()
    assert room.allows() and room.admits(40)
    assert room.allows() and room.admits(40)
    assert not room.allows()  # a third of 40 would not fit
    assert not room.admits(40) and room.kept == 80
    room.begin()
    assert room.allows() and not room.admits(101)


def test_what_ran_out_once_is_not_tried_again():
    room = GraphMemory(CPU, limit=100)
    room.begin()
    room.admits(50)
    room.ran_out()
    assert not room.allows()
    room.begin()
    assert room.room == 45
