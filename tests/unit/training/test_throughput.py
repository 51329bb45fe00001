"""Counters of a run, by hand-made clocks."""

import logging
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmret.data import module
from mmret.ops.flops import ModelFlops
from mmret.ops.grad_cache import CachedEncoding, fixed_chunks
from mmret.ops.peak import peak_flops, peak_of
from mmret.training.callbacks import ProgressLines
from mmret.training.progress import Pace, duration
from mmret.training.throughput import RECENT, Reading, Throughput
from mmret.types import Embeddings, Inputs


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class FakeModule:
    device = torch.device("cpu")

    def __init__(self):
        self.logged = {}

    def log_dict(self, values, **_):
        self.logged = values


def meter(peak=0.0, accumulate=1):
    clock, wait = Clock(), SimpleNamespace(s=0.0, bad=0)
    throughput = Throughput(64, accumulate, waited=lambda: wait.s, skipped=lambda: wait.bad, peak=peak, clock=clock)
    throughput.on_train_start(SimpleNamespace(precision="32-true"), FakeModule())
    return throughput, clock, wait


def batch(throughput, clock, wait, seconds, waited=0.0):
    throughput.on_train_batch_start()
    clock.now += seconds
    wait.s += waited
    last = FakeModule()
    throughput.on_train_batch_end(SimpleNamespace(), last)
    return last.logged


def test_samples_and_waits_are_those_of_the_time_that_passed():
    throughput, clock, wait = meter()
    batch(throughput, clock, wait, 2.0, waited=0.5)
    wait.bad = 3
    logged = batch(throughput, clock, wait, 6.0, waited=1.5)
    assert logged["train/samples_per_s"] == 2 * 64 / 8
    assert logged["train/data_wait"] == 2.0 / 8
    assert logged["train/skipped"] == 3
    assert "train/mfu" not in logged


def test_no_number_waits_for_a_gpu_to_be_logged():
    """Lightning makes a tensor of a plain number on the module's device, by a copy that waits."""
    logged = batch(*meter(), 1.0)
    assert {type(value) for value in logged.values()} == {torch.Tensor}
    assert {value.device.type for value in logged.values()} == {"cpu"}


def test_a_batch_of_an_accumulated_step_counts_its_part():
    throughput, clock, wait = meter(accumulate=4)
    assert batch(throughput, clock, wait, 1.0)["train/samples_per_s"] == 16


def test_evaluation_and_checkpoints_do_not_count():
    throughput, clock, wait = meter()
    batch(throughput, clock, wait, 1.0)
    clock.now += 500
    throughput.pause()
    assert batch(throughput, clock, wait, 1.0)["train/samples_per_s"] == 64
    assert throughput.samples_per_s == 64


def test_what_is_shown_is_recent_and_what_is_kept_is_the_whole():
    throughput, clock, wait = meter()
    for _ in range(RECENT):
        batch(throughput, clock, wait, 3.0)
    for _ in range(RECENT):
        logged = batch(throughput, clock, wait, 1.0)
    assert logged["train/samples_per_s"] == 64
    assert throughput.samples_per_s == 32


def test_mfu_is_the_batches_operations_over_what_the_device_could_have_done():
    throughput, clock, _ = meter(peak=1000.0)
    model = nn.Linear(4, 5, bias=False)
    for _ in range(4):
        throughput.on_train_batch_start()
        model(torch.ones(3, 4)).sum().backward()
        clock.now += 2.0
        last = FakeModule()
        throughput.on_train_batch_end(SimpleNamespace(), last)
    # Forward and the weights' gradient: 2 x 3 x 4 x 5 operations each; the input needs no gradient.
    assert throughput.flops == 240
    assert last.logged["train/mfu"] == pytest.approx(240 / (2.0 * 1000))


def test_a_step_that_fails_ends_its_count():
    throughput, *_ = meter(peak=1000.0)
    throughput.on_train_batch_start()
    throughput.on_exception()
    assert not torch.utils._python_dispatch.is_in_torch_dispatch_mode()


class Encoder(nn.Module):
    def __init__(self, checkpointed=False):
        super().__init__()
        self.first, self.second, self.checkpointed = nn.Linear(4, 8), nn.Linear(8, 2), checkpointed

    def forward(self, inputs):
        x = inputs.dense["x"]
        hidden = checkpoint(self.first, x, use_reentrant=False) if self.checkpointed else self.first(x)
        return Embeddings(self.second(torch.tanh(hidden)))


def counted(run):
    count = ModelFlops()
    count.open()
    run()
    return count.close()


def test_what_is_computed_twice_to_save_memory_counts_once():
    inputs = Inputs({"x": torch.randn(6, 4)})

    def plain(model):
        return lambda: model(inputs).vectors.square().sum().backward()

    def cached():
        encoding = CachedEncoding(Encoder(), inputs, fixed_chunks(6, 2), keep=1)
        encoding.embeddings.vectors.square().sum().backward()
        encoding.replay()

    forward = 2 * 6 * (4 * 8 + 8 * 2)
    backward = 2 * 6 * (4 * 8 + 2 * 8 * 2)
    assert counted(plain(Encoder())) == forward + backward
    assert counted(plain(Encoder(checkpointed=True))) == forward + backward
    assert counted(cached) == forward + backward


def test_counting_changes_no_gradient():
    model, inputs = Encoder(), Inputs({"x": torch.randn(6, 4)})
    model(inputs).vectors.square().sum().backward()
    plain = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    counted(lambda: model(inputs).vectors.square().sum().backward())
    assert all(torch.equal(one, parameter.grad) for one, parameter in zip(plain, model.parameters()))


@pytest.mark.parametrize(
    ("name", "format", "bfloat16", "tera"),
    [
        ("NVIDIA A100-SXM4-80GB", "16-bit", True, 312),
        ("NVIDIA A100-SXM4-80GB", "fp32", False, 19.5),
        ("NVIDIA H100 80GB HBM3", "16-bit", True, 989.4),
        ("NVIDIA H100 PCIe", "tf32", False, 378),
        ("NVIDIA H200", "16-bit", True, 989.4),
        ("NVIDIA L40S", "16-bit", True, 362),
        ("NVIDIA L4", "16-bit", True, 121),
        ("NVIDIA A10G", "16-bit", True, 70),
        ("NVIDIA GeForce RTX 4090", "16-bit", True, 165.2),
        ("Tesla V100-SXM2-32GB", "16-bit", False, 125),
        ("Tesla T4", "fp32", False, 8.1),
    ],
)
def test_peaks_are_found_by_the_names_that_drivers_give(name, format, bfloat16, tera):
    assert peak_flops(name, format, bfloat16) == pytest.approx(tera * 1e12)


@pytest.mark.parametrize(
    "name", ["NVIDIA A100-SXM4-40GB MIG 1g.5gb", "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA GeForce GTX 1080"]
)
def test_other_devices_have_no_known_peak(name):
    assert peak_flops(name, "16-bit") is None


def test_no_peak_where_it_would_mislead():
    assert peak_flops("Tesla V100-SXM2-32GB", "16-bit", bfloat16=True) is None
    assert peak_of(torch.device("cpu"), "bf16-mixed") is None


def test_lines_come_soon_at_first_and_once_a_minute_later():
    clock, seconds = Clock(), []
    pace = Pace(clock)
    for second in range(400):
        clock.now = 100.0 + second
        if pace.due():
            seconds.append(second)
    assert seconds == [0, 5, 15, 35, 75, 135, 195, 255, 315, 375]


def test_a_line_has_stage_step_loss_speed_and_time_left(caplog):
    throughput, clock, wait = meter()
    batch(throughput, clock, wait, 0.5, waited=0.05)
    wait.bad = 1234
    lines = ProgressLines("joint", throughput)
    trainer = SimpleNamespace(
        is_global_zero=True, global_step=10, max_steps=1210, callback_metrics={"train/loss": torch.tensor(1.25)}
    )
    with caplog.at_level(logging.INFO):
        lines.on_train_batch_end(trainer, None, None)
        lines.on_train_batch_end(trainer, None, None)
    (record,) = caplog.records
    before, _, after = record.getMessage().partition(", peak GB ")
    assert before == "joint: step 10/1210, loss 1.250, samples/s 128, data wait 10%, skipped 1,234"
    assert after.endswith(", 10 min left")


def test_mfu_and_memory_are_left_out_where_they_are_not_known():
    assert Reading(10, 0.25, None, 0, None).texts() == {"samples/s": "10", "data wait": "25%"}
    assert Reading(10, 0.25, 0.414, 0, 2048).texts()["MFU"] == "41%"


def test_durations_are_told_as_people_do():
    assert [duration(s) for s in (48, 720, 18_180)] == ["48 s", "12 min", "5 h 03 min"]


def test_the_loader_is_waited_for_only_between_asking_and_having(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "clock", clock)

    class Slow:
        def __len__(self):
            return 3

        def __getitem__(self, index):
            clock.now += 2.0
            return index

    loader = module._Loader(Slow(), batch_size=None)
    for _ in loader:
        clock.now += 100.0  # the step
    assert loader.waited_s == 6.0
