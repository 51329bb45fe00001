"""`optimizer.ema_decay`: what a stage ends with, and that a stopped one ends there too."""

import lightning as L
import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from mmret.training.averaging import MovingAverage
from mmret.training.callbacks import ProgressLines


class Falling(L.LightningModule):
    """A weight that falls by 1 each step, beside one that never moves."""

    def __init__(self):
        super().__init__()
        self.weight, self.frozen = torch.nn.Parameter(torch.zeros(())), torch.nn.Parameter(torch.ones(()), False)
        self.inside = []

    def training_step(self, batch, index):
        return self.weight * 1.0

    def configure_optimizers(self):
        return torch.optim.SGD([self.weight], lr=1.0)


class Peek(L.Callback):
    """What an evaluation after each step would see."""

    def __init__(self, average):
        self.average = average

    def on_train_batch_end(self, trainer, module, *_):
        with self.average.swapped():
            module.inside.append(module.weight.item())
        assert module.weight.item() == -trainer.global_step  # what trains is back


def take_four_steps(module, *callbacks):
    trainer = L.Trainer(
        max_steps=4,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[*callbacks],
    )
    trainer.fit(module, DataLoader(torch.zeros(8), batch_size=1))


def test_the_average_is_the_one_by_hand_and_the_model_ends_with_it(tmp_path):
    """Weights -1, -2, -3, -4 at decay 0.75: -1, -1.25, -1.6875, -2.265625."""
    average, module = MovingAverage(0.75), Falling()
    take_four_steps(module, average, Peek(average))
    assert module.inside == [-1.0, -1.25, -1.6875, -2.265625]
    assert float(module.weight) == -2.265625
    assert float(module.frozen) == 1.0


@pytest.mark.parametrize(
    "frozen",
    [
        torch.arange(256, dtype=torch.uint8),
        torch.linspace(-1, 1, 1001),
        torch.linspace(-1, 1, 1001, dtype=torch.bfloat16),
    ],
    ids=["4-bit, packed", "float32", "bfloat16"],
)
def test_what_does_not_train_stays_as_it_is_to_the_bit(frozen):
    """0.9 x 7 + 0.1 x 7 in whole numbers is cut off to 6, and in floating point it rounds, at each step."""
    average, module = MovingAverage(0.9), Falling()
    module.frozen = torch.nn.Parameter(frozen.clone(), False)
    take_four_steps(module, average)
    assert torch.equal(module.frozen, frozen)


class PowerCut(RuntimeError):
    """Ends a run in the middle."""


def test_a_stage_that_went_on_from_a_checkpoint_ends_with_the_same_average(run, tmp_path, monkeypatch):
    settings = ["stages.joint.optimizer.ema_decay=0.8", "evaluation.benchmarks=[]"]
    whole, stopped = (tmp_path / name for name in ("whole", "stopped"))
    run(f"out={whole}", *settings)

    def cut(self, trainer, *_):
        if trainer.max_steps == 12 and trainer.global_step == 9:  # one past the joint stage's second checkpoint
            raise PowerCut

    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        patch.setattr(ProgressLines, "on_train_batch_end", cut)
        run(f"out={stopped}", *settings)
    run(f"out={stopped}", *settings)
    one, other = (load_file(f / "joint" / "model" / "model.safetensors") for f in (whole, stopped))
    assert [key for key in one if not torch.equal(one[key], other[key])] == []
    plain = load_file(run(f"out={tmp_path / 'last'}", settings[1]) / "joint" / "model" / "model.safetensors")
    assert any(not torch.equal(one[key], plain[key]) for key in one)  # it is an average


def test_stopped_after_its_last_checkpoint_a_stage_still_ends_with_the_average(run, tmp_path, monkeypatch):
    """The next start has no step left to take: what it writes is the average all the same."""
    settings = ["~stages.mapping", "stages.joint.steps=4", "stages.joint.optimizer.ema_decay=0.8"]
    settings.append("evaluation.benchmarks=[]")
    whole, stopped = (tmp_path / name for name in ("whole", "stopped"))
    run(f"out={whole}", *settings)

    def cut(*_):
        raise PowerCut

    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        patch.setattr("mmret.training.stage.leave", cut)
        run(f"out={stopped}", *settings)
    assert (stopped / "joint" / "checkpoints" / "00000004.ckpt").is_file()
    run(f"out={stopped}", *settings)
    one, other = (load_file(f / "joint" / "model" / "model.safetensors") for f in (whole, stopped))
    assert [key for key in one if not torch.equal(one[key], other[key])] == []
