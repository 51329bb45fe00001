import pickle
from contextlib import suppress

import lightning as L
import pytest
import torch

from mmret.data import MixtureDataModule
from mmret.errors import SampleError
from mmret.recipe.schema import MixtureConfig, SourceConfig
from tests.builders import ToyProcessor, build_toy_source
from tests.unit.data.test_dataset import break_samples, module

BATCHES = 6
pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory"),
]


@pytest.fixture(scope="module")
def specs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    one = build_toy_source(folder / "one", num=150)
    two = build_toy_source(folder / "two", num=20, negatives=2)
    two.write_text(two.read_text().replace("toy/shapes", "toy/two") + 'instructions: ["look", "find"]\n')
    return {one: 0.7, two: 0.3}


def data_of(specs, **fields):
    return module(specs, **({"batches": BATCHES, "documents_per_query": 3, "block_size": 4} | fields))


def content(batch):
    """Everything that a batch says, as plain values."""
    return {
        "query": batch.query.dense["bytes"].tolist(),
        "document": batch.document.dense["bytes"].tolist(),
        "ids": batch.document_ids.tolist(),
        "positives": batch.positive_ids.tolist(),
        "keys": list(batch.keys),
        "sources": list(batch.sources),
    }


def load(data):
    return [content(batch) for batch in data.train_dataloader()]


def joined(parts):
    """Batches of several ranks, in rank order, as batches of one."""
    return [{name: [x for part in batch for x in part[name]] for name in batch[0]} for batch in zip(*parts)]


@pytest.fixture(scope="module")
def whole(specs):
    return load(data_of(specs))


def test_both_sources_and_both_instructions_occur(whole):
    assert {source for batch in whole for source in batch["sources"]} == {"toy/shapes", "toy/two"}
    texts = {bytes(row[:5]) for batch in whole for row in batch["query"]}
    assert {b"look|", b"find|"} < texts


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_joined_in_order_are_the_one_rank_batch(specs, whole, world):
    parts = []
    for rank in range(world):
        data = data_of(specs)
        data.rank, data.world = rank, world
        parts.append(load(data))
    assert joined(parts) == whole


@pytest.mark.parametrize("accumulate", [2, 4])
def test_micro_batches_joined_are_the_whole_batch(specs, whole, accumulate):
    parts = load(data_of(specs, accumulate=accumulate, batches=BATCHES * accumulate))
    assert joined([parts[offset::accumulate] for offset in range(accumulate)]) == whole


@pytest.mark.parametrize("start", [1, 5, BATCHES])
def test_a_start_in_the_middle_gives_the_same_tail(specs, whole, start):
    data = data_of(specs)
    data.start = start
    assert load(data) == whole[start:]
    assert len(data.train_dataloader()) == BATCHES


@pytest.mark.parametrize("workers, method", [(1, "fork"), (3, "fork")])
def test_workers_do_not_change_the_batches(specs, whole, workers, method):
    data = data_of(specs, num_workers=workers)
    data.multiprocessing_context = method
    data.start = 1
    assert load(data) == whole[1:]


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_start_methods_do_not_change_the_batches(specs, whole, method):
    data = data_of(specs, num_workers=2)
    data.multiprocessing_context = method
    assert load(data) == whole


def test_a_dataset_in_use_pickles(specs, whole):
    dataset = data_of(specs).dataset()
    dataset[0]
    assert content(pickle.loads(pickle.dumps(dataset))[3]) == whole[3]


def test_two_sources_of_one_shard_feed_eight_workers(specs, tmp_path):
    one, two = build_toy_source(tmp_path / "1", num=9), build_toy_source(tmp_path / "2", num=5)
    two.write_text(two.read_text().replace("toy/shapes", "toy/two"))
    data = module({one: 1, two: 1}, batches=10, num_workers=8, batch_size=2)
    data.multiprocessing_context = "fork"
    assert sum(len(batch) for batch in data.train_dataloader()) == 20


def test_workers_tell_how_many_samples_were_broken(tmp_path):
    spec, _ = break_samples(tmp_path, (3, 17, 40, 63), "document")
    alone, shared = module({spec: 1}, max_bad_fraction=1), module({spec: 1}, max_bad_fraction=1, num_workers=2)
    shared.multiprocessing_context = "fork"
    assert [batch.keys for batch in alone.train_dataloader()] == [batch.keys for batch in shared.train_dataloader()]
    assert alone.bad == shared.bad >= 4


def test_an_error_in_a_worker_keeps_its_own_text(tmp_path):
    spec, _ = break_samples(tmp_path, range(0, 64, 2), "document")
    data = module({spec: 1}, num_workers=1)
    data.multiprocessing_context = "fork"
    with pytest.raises(SampleError, match=r"^source toy/shapes: "):
        list(data.train_dataloader())


class Recorder(L.LightningModule):
    """A model of one weight whose training depends on what it sees, and when."""

    def __init__(self, stop=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(25))
        self.stop, self.keys = stop, []

    def training_step(self, batch, batch_idx):
        self.keys.append(batch.keys)
        if self.trainer.global_step == self.stop:
            raise KeyboardInterrupt
        return (batch.query.dense["bytes"].float().mean(0) / 100 - self.weight).pow(2).sum()

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def fit(folder, specs, steps, checkpoint=None, start=0, stop=None, workers=0, every=2):
    sources = {str(spec): SourceConfig(weight) for spec, weight in specs.items()}
    mixture = MixtureConfig(sources=sources, batch_size=8, num_workers=workers)
    data = MixtureDataModule(mixture, ToyProcessor(), frozenset(), 0, steps * 2, accumulate=2)
    data.start = start
    data.multiprocessing_context = "fork"
    model = Recorder(stop)
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=steps,
        max_epochs=1,
        accumulate_grad_batches=2,
        callbacks=[L.pytorch.callbacks.ModelCheckpoint(folder, "{step}", every_n_train_steps=every, save_top_k=-1)],
        use_distributed_sampler=False,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with suppress(KeyboardInterrupt, SystemExit):
        trainer.fit(model, datamodule=data, ckpt_path=checkpoint, weights_only=False)
    return model


@pytest.mark.parametrize("workers", [0, 2])
def test_lightning_resumes_with_the_next_batch_and_ends_with_the_same_weights(specs, tmp_path, workers):
    steps, every = 6, 2
    through = fit(tmp_path / "a", specs, steps)
    assert len(through.keys) == steps * 2
    fit(tmp_path / "b", specs, steps, stop=5)
    resumed = fit(tmp_path / "b", specs, steps, str(tmp_path / "b" / "step=4.ckpt"), start=4 * every, workers=workers)
    assert resumed.keys == through.keys[4 * 2 :]
    assert torch.equal(resumed.weight, through.weight)


def test_drawn_names_the_samples_that_the_batches_hold(specs):
    data = data_of(specs, batches=3)
    keys = {key for batch in data.train_dataloader() for key in batch.keys}
    drawn = data.drawn()
    named = {
        data.sources()[name].example(index).key for name, indices in drawn.items() for index in indices or range(0)
    }
    assert 0 < sum(len(indices or ()) for indices in drawn.values()) == len(named)
    assert keys == named


def test_a_stage_longer_than_its_data_draws_all(specs):
    assert set(data_of(specs, batches=200).drawn().values()) == {None}
