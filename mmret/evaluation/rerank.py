"""Two-step retrieval: the dual encoder's best documents, sorted anew by a head that reads both sides together."""

# Q queries, R places of a ranking (best first), k of them read again

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mmret.errors import ConfigError
from mmret.evaluation.benchmark import Benchmark
from mmret.evaluation.encode import Settings, device_of, evaluating
from mmret.evaluation.measure import split_result
from mmret.evaluation.names import RERANKED
from mmret.evaluation.result import SplitResult
from mmret.models.retriever import PairEncoder, Retriever
from mmret.objectives.itm import ITM
from mmret.objectives.store import load_objectives
from mmret.ops import rank_and_world
from mmret.recipe.rerank import RerankConfig
from mmret.types import Content, Inputs, Processor


class Reranker:
    """Sorts the first k documents of each query by how well the matching head says they match.

    Raises:
        ConfigError: the model cannot read text and picture together, or has no matching head.
    """

    def __init__(self, model: Retriever, objectives: nn.ModuleDict, config: RerankConfig, settings: Settings):
        self.model, self.config, self.settings = model, config, settings
        if not isinstance(model, PairEncoder):
            raise ConfigError(
                f"re-ranking reads text and picture together, which {type(model).__name__} cannot (encode_pair); "
                "leave --rerank (evaluation.rerank) out"
            )
        self.pair_encoder: PairEncoder = model
        heads = [objective for objective in objectives.values() if isinstance(objective, ITM)]
        if not heads:
            raise ConfigError(
                "re-ranking needs the head of an itm objective, and this model was trained with "
                f"{', '.join(objectives) or 'none'}; evaluate a stage that has itm among its objectives"
            )
        self.itm = heads[0]

    def __call__(self, own: SplitResult) -> SplitResult:
        """The split with its first k places sorted anew; what lies beyond them keeps its order."""
        assert own.scores is not None and own.rows is not None
        split, corpus = own.split, own.split.benchmark.corpus
        rows, scores = own.rows[:, : self.config.k], own.scores[:, : self.config.k]
        pairs = torch.stack([torch.arange(rows.numel()) // rows.shape[1], rows.flatten()], 1)
        matching = self.matching(split.content, corpus.content, pairs, scores.flatten())
        found = reorder(own.scores, own.rows, matching.view_as(rows))
        device = torch.device(self.settings.device or device_of(self.model))
        return split_result(split, RERANKED, *found, device, groups=False)

    def matching(
        self,
        query: Callable[[int], Content],
        document: Callable[[int], Content],
        pairs: Tensor,
        scores: Tensor,
    ) -> Tensor:
        """How well the head says that pairs match, [P] float32 on the CPU, equal on every rank.

        Args:
            query, document: row -> content; texts on one side, pictures on the other.
            pairs: [P, 2] rows of both.
            scores: [P] the dual encoder's.
        """
        texts_asked = _kind(query(int(pairs[0, 0]))) == "text"
        # A picture is decoded once for all of its pairs that share a batch, so they should be neighbours.
        places = pairs[:, 1 if texts_asked else 0].argsort(stable=True)
        with evaluating(nn.ModuleList([self.model, self.itm]), self.settings.device) as device:
            matching = torch.zeros(len(pairs), device=device)
            rank, world = rank_and_world()
            # The same batches as one process would make, so that a score does not depend on the number of ranks.
            batches = places.split(self.settings.batch_size)[rank::world]
            data = _Pairs(query, document, [pairs[batch] for batch in batches], self.model.processor)
            loader = DataLoader(
                data, batch_size=None, num_workers=self.settings.num_workers, generator=torch.Generator()
            )
            for batch, (queries, documents) in zip(batches, self.settings.track(loader, "re-rank", len(batches))):
                sides = [inputs.to(device).select(index.to(device)) for inputs, index in (queries, documents)]
                text, image = sides if texts_asked else sides[::-1]
                logits = self.itm.head(self.pair_encoder.encode_pair(text, image).pooled).float()
                given = scores[batch].to(device)
                matching[batch.to(device)] = self._score(logits, given)
            if world > 1:
                dist.all_reduce(matching)  # each place was filled by one rank and is 0 on the others
        if matching.isnan().any():
            raise ValueError(f"re-ranking: {type(self.model).__name__}'s matching head gave NaN")
        return matching.cpu()

    def _score(self, logits: Tensor, dual: Tensor) -> Tensor:
        """[N] of logits [N, 2] (class 1: match) and the dual encoder's scores [N]."""
        return logits[:, 1] - logits[:, 0] if self.config.score == "itm" else logits[:, 1] + dual


def open_reranker(
    folder: str | Path, model: Retriever, query: Content, document: Content, settings: Settings
) -> Reranker:
    """The matching head of a checkpoint, for pairs of such contents.

    Raises:
        ConfigError: it has none, or these are not a text and a picture.
    """
    sides = [_kind(query), _kind(document)]
    if sorted(sides) != ["picture", "text"]:
        raise ConfigError(
            f"re-ranking wants text on one side and a picture on the other; here queries are {sides[0]}, documents "
            f"{sides[1]}: leave --rerank out"
        )
    inner = Path(folder) / "model"
    objectives = load_objectives(inner if inner.is_dir() else folder, model)
    return Reranker(model, objectives, RerankConfig(1), settings)


def check_rerank(benchmark: Benchmark, split: str, config: RerankConfig) -> None:
    """See, before anything is measured or trained, that there is something to read together.

    Raises:
        ConfigError: not texts on one side and pictures on the other, or k is more than is retrieved.
    """
    if benchmark.own_candidates:
        raise ConfigError(
            f"{benchmark.prefix}/{split} cannot be re-ranked: its queries bring candidates of their own, which are "
            "ranked whole"
        )
    sides = [_kind(benchmark.split(split).content(0)), _kind(benchmark.corpus.content(0))]
    if sorted(sides) != ["picture", "text"]:
        raise ConfigError(
            f"{benchmark.prefix}/{split} cannot be re-ranked: its queries are {sides[0]}, its documents {sides[1]}; "
            "want text on one side and a picture on the other"
        )
    if config.k > benchmark.depth:
        raise ConfigError(
            f"rerank.k is {config.k}, but {benchmark.prefix} retrieves {benchmark.depth} documents a query; "
            f"lower k, or raise depth in {benchmark.file}"
        )


def reorder(scores: Tensor, rows: Tensor, matching: Tensor) -> tuple[Tensor, Tensor]:
    """Rankings with their first k places in the order of other scores; equal ones keep their order.

    Args:
        scores: [Q, R] falling.
        rows: [Q, R].
        matching: [Q, k] scores of the first k places, k <= R.

    Returns:
        scores and rows [Q, R]. Beyond the first k, scores are shifted so that they go on below the lowest of those.
    """
    k = matching.shape[1]
    best, order = matching.sort(dim=1, descending=True, stable=True)
    rest = scores[:, k:] - scores[:, k - 1 : k] + best[:, -1:]
    return torch.cat([best, rest], 1), torch.cat([rows[:, :k].gather(1, order), rows[:, k:]], 1)


def _kind(content: Content) -> str:
    if content.text is None:
        return "picture" if len(content.images) == 1 else "pictures"
    return "text and pictures" if content.images else "text"


class _Pairs(Dataset["tuple[tuple[Inputs, Tensor], tuple[Inputs, Tensor]]"]):
    """Batch i: the inputs of its queries and of its documents, each once, and which of them each pair is of."""

    def __init__(
        self,
        query: Callable[[int], Content],
        document: Callable[[int], Content],
        batches: Sequence[Tensor],
        processor: Processor,
    ):
        self.query, self.document, self.batches, self.processor = query, document, batches, processor

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[tuple[Inputs, Tensor], tuple[Inputs, Tensor]]:
        asked, which_query = self.batches[index][:, 0].unique(return_inverse=True)
        found, which_document = self.batches[index][:, 1].unique(return_inverse=True)
        queries = self.processor([self.query(row) for row in asked.tolist()], "query")
        documents = self.processor([self.document(row) for row in found.tolist()], "document")
        return (queries, which_query), (documents, which_document)
