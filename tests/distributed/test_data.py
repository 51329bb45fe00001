"""Real Lightning processes see the slices of one and the same batch, and a run may go on with fewer of them."""

import json

import lightning as L
import pytest
import torch

from mmret.data import MixtureDataModule
from mmret.recipe.schema import MixtureConfig, SourceConfig
from tests.builders import ToyProcessor, build_toy_source

pytestmark = [
    pytest.mark.dist,
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory"),
]
STEPS = 5


class Recorder(L.LightningModule):
    def __init__(self, folder):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(25))
        self.folder, self.keys = folder, []

    def training_step(self, batch, batch_idx):
        self.keys.append(batch.keys)
        return (batch.query.dense["bytes"].float() / 100 - self.weight).pow(2).mean()

    def on_train_end(self):
        (self.folder / f"{self.global_rank}.json").write_text(json.dumps([self.keys, self.weight.tolist()]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(spec, folder, world, steps=STEPS, start=0, checkpoint=None, workers=0):
    """Train on `world` processes; gives each rank's keys by batch, and the weights."""
    folder.mkdir(exist_ok=True)
    mixture = MixtureConfig(sources={str(spec): SourceConfig()}, batch_size=8, num_workers=workers)
    data = MixtureDataModule(mixture, ToyProcessor(), frozenset(), 0, STEPS)
    data.start = start
    trainer = L.Trainer(
        accelerator="cpu",
        devices=world,
        strategy="ddp_fork" if world > 1 else "auto",
        max_steps=steps,
        max_epochs=1,
        callbacks=[L.pytorch.callbacks.ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1)],
        use_distributed_sampler=False,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Recorder(folder), datamodule=data, ckpt_path=checkpoint, weights_only=False)
    ranks = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(world)]
    keys = [[key for part in batch for key in part] for batch in zip(*(rank[0] for rank in ranks))]
    return keys, torch.tensor(ranks[0][1])


@pytest.fixture
def spec(tmp_path, monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    return build_toy_source(tmp_path / "source", num=50)


def test_two_lightning_ranks_train_on_the_slices_of_the_one_rank_batches(spec, tmp_path):
    keys, weight = fit(spec, tmp_path / "one", 1)
    assert len(keys) == STEPS and all(len(batch) == 8 for batch in keys)
    # Two ranks give the mean of two means: equal but for the order of additions.
    both, both_weight = fit(spec, tmp_path / "two", 2, workers=1)
    assert both == keys
    torch.testing.assert_close(both_weight, weight)


def test_a_run_of_two_ranks_goes_on_with_one(spec, tmp_path):
    keys, weight = fit(spec, tmp_path / "one", 1)
    first, _ = fit(spec, tmp_path / "cut", 2, steps=3)
    rest, rest_weight = fit(spec, tmp_path / "cut", 1, start=3, checkpoint=str(tmp_path / "cut" / "step=3.ckpt"))
    assert first + rest == keys
    torch.testing.assert_close(rest_weight, weight)
