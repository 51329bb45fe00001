"""Two towers that share nothing, with dropout, and a way to train them under Lightning on any number of ranks."""

import logging

import lightning as L
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torch.distributed.tensor import DTensor

from mmret.models import Retriever
from mmret.objectives import HardNegativeConfig, ITCConfig
from mmret.ops import maxsim
from mmret.recipe.schema import MixtureConfig, OptimizerConfig, Stage
from mmret.types import Batch, Embeddings, Inputs

DIM, QUERIES, NUM_DOCUMENTS = 6, 8, 2


class TwoTowers(Retriever):
    """One vector a row, or one a token (late interaction)."""

    config = None

    def __init__(self, late_interaction, dropout=0.0):
        super().__init__()
        torch.manual_seed(3)
        self.query, self.document = nn.Linear(DIM, DIM), nn.Linear(DIM, DIM)
        self.drop = nn.Dropout(dropout)
        self.late_interaction = late_interaction

    def encode_query(self, inputs):
        return self._embed(self.query, inputs)

    def encode_document(self, inputs):
        return self._embed(self.document, inputs)

    def _embed(self, tower, inputs):
        mask = inputs.dense["attention_mask"].bool()
        longest = int(mask.sum(1).max())
        mask, x = mask[:, :longest], self.drop(inputs.dense["x"][:, :longest])
        vectors = nn.functional.normalize(tower(x), dim=-1)
        if not self.late_interaction:
            return Embeddings(vectors[:, 0])
        return Embeddings(vectors * mask.unsqueeze(2), mask)

    def score(self, queries, documents):
        if self.late_interaction:
            return maxsim(queries.vectors, documents.vectors, documents.mask)
        return queries.vectors.float() @ documents.vectors.float().T

    def save(self, folder):
        torch.save(self.state_dict(), folder)

    @classmethod
    def load(cls, folder, **overrides):
        model = cls(**overrides)
        model.load_state_dict(torch.load(folder))
        return model


def batch_of(rank, world, queries=QUERIES, seed=5):
    """This rank's slice of one fixed global batch."""
    generator = torch.Generator().manual_seed(seed)
    sides = {}
    for side, count in {"query": queries, "document": queries * NUM_DOCUMENTS}.items():
        x = torch.randn(count, 5, DIM, generator=generator)
        mask = (torch.arange(5) < (torch.arange(count) * 7 % 4 + 2).unsqueeze(1)).long()
        part = slice(rank * count // world, (rank + 1) * count // world)
        sides[side] = Inputs({"x": x[part], "attention_mask": mask[part]})
    return Batch(sides["query"], sides["document"], NUM_DOCUMENTS)


def stage_of(late_interaction, grad_cache, steps=1, lr=0.1, **more):
    objective = (
        HardNegativeConfig() if late_interaction else ITCConfig(temperature=0.1, learn_temperature=True, symmetric=True)
    )
    return Stage(
        name="toy",
        steps=steps,
        data=MixtureConfig(sources={}, batch_size=QUERIES),
        objectives={"loss": objective},
        optimizer=OptimizerConfig(lr=lr, weight_decay=0.0),
        grad_cache=grad_cache,
        **more,
    )


class GradientBeforeStep(L.Callback):
    """What the optimizer was given, each step, and the learning rate it had."""

    def __init__(self):
        self.gradients, self.rates = [], []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.gradients.append([None if p.grad is None else _whole(p.grad) for p in pl_module.parameters()])
        self.rates.append(optimizer.param_groups[0]["lr"])


def _whole(gradient):
    return (gradient.full_tensor() if isinstance(gradient, DTensor) else gradient).clone()


class RanksOutside(LightningEnvironment):
    """The processes are there already (tests/processes.py)."""

    def __init__(self, rank, world):
        super().__init__()
        self._global_rank, self._world_size, self.rank = rank, world, rank

    creates_processes_externally = True

    def local_rank(self):
        return self.rank

    def set_global_rank(self, rank):
        pass

    def set_world_size(self, size):
        pass


def fit(module, batches, rank=0, world=1, strategy=None, resume=None, callbacks=(), **settings):
    """Train on the given batches; returns what the optimizer was given."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    seen = GradientBeforeStep()
    if strategy is None:
        strategy = "auto" if world == 1 else DDPStrategy()
    if strategy != "auto":
        strategy.cluster_environment = RanksOutside(rank, world)
    trainer = L.Trainer(
        accelerator="cpu",
        devices=world,
        strategy=strategy,
        max_epochs=1,
        logger=False,
        callbacks=[seen, *callbacks],
        enable_checkpointing=bool(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **settings,
    )
    trainer.fit(module, torch.utils.data.DataLoader(batches, batch_size=None), ckpt_path=resume, weights_only=False)
    return seen, trainer
