"""One model on one split: encode, search, judge."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mmret.errors import CheckpointError
from mmret.evaluation.answers import count_answering
from mmret.evaluation.benchmark import Benchmark
from mmret.evaluation.classification import class_by_chance, classify
from mmret.evaluation.controls import control_contents
from mmret.evaluation.encode import Settings, encode, encode_all_queries, evaluating
from mmret.evaluation.encoding import identity
from mmret.evaluation.judge import expected, first_places, judge, means, per_query
from mmret.evaluation.judged import Pool
from mmret.evaluation.result import SplitResult
from mmret.evaluation.split import QuerySplit
from mmret.index import rank_lists, search
from mmret.index.stored import StoredEmbeddings
from mmret.models.retriever import Retriever
from mmret.types import Embeddings


class ModelEvaluator:
    """One model as it is now, on one split after the other. Make a new one when the weights have changed."""

    def __init__(self, model: Retriever, settings: Settings | None = None, objectives: nn.ModuleDict | None = None):
        self.model, self.settings = model, settings or Settings()
        self.objectives = nn.ModuleDict() if objectives is None else objectives
        self._corpora: dict[str, EncodedCorpus] = {}

    def __call__(self, benchmark: Benchmark, split: str, control: str | None = None) -> SplitResult:
        """Measure a split, as it is or under a control ("untrained": this model is the untrained one)."""
        questions = benchmark.split(split)
        if benchmark.classifies:
            return classify(self.model, self.objectives, questions, control, self.settings)
        s = self.settings
        with evaluating(self.model, s.device) as device:
            queries = encode_all_queries(
                self.model,
                control_contents(questions, control),
                len(questions),
                batch_size=s.batch_size,
                num_workers=s.num_workers,
                track=s.track,
            )
            corpus = self._corpus(benchmark)
            if benchmark.own_candidates:
                lists = [query.candidates for query in questions.queries if query.candidates is not None]
                scores, rows = rank_lists(self.model, queries, corpus.parts, corpus.rows, lists, benchmark.depth)
            else:
                scores, rows = search(self.model, queries, corpus.parts, benchmark.depth, rows=corpus.rows)
        return split_result(questions, control, scores, rows, device, groups=control is None)

    def take_stored(self, benchmark: Benchmark, folder: str | Path) -> None:
        """Search these embeddings (`mmret encode`) instead of encoding the benchmark's documents; on one process.

        Raises:
            CheckpointError: the folder is not complete, of another model, of queries, or of other documents.
        """
        stored = StoredEmbeddings(folder)
        mine = identity(self.model)
        if stored.encoding.side != "document" or stored.encoding.model != mine:
            raise CheckpointError(
                f"{folder}: embeddings of {stored.encoding.data}, side {stored.encoding.side}, by model "
                f"{stored.encoding.model}; want documents by this model, {mine}"
            )
        if stored.ids() != benchmark.corpus.table.ids():
            raise CheckpointError(
                f"{folder}: {len(stored):,} documents of {stored.encoding.data}, not the {len(benchmark.corpus):,} of "
                f"{benchmark.file} in their order; these: mmret encode CHECKPOINT {benchmark.source} --out FOLDER"
            )
        self._corpora[benchmark.spec.name] = EncodedCorpus(torch.arange(len(stored)), stored)

    def _corpus(self, benchmark: Benchmark) -> EncodedCorpus:
        if benchmark.spec.name not in self._corpora:
            corpus, s = benchmark.corpus, self.settings
            # Neighbours of like length pad each other little; the stable order keeps equal lengths in corpus order.
            order = sorted(range(len(corpus)), key=corpus.lengths().__getitem__)
            numbers, parts = [torch.zeros(0, dtype=torch.int64)], []
            for rows, part in encode(
                self.model,
                corpus.content,
                order,
                "document",
                batch_size=s.batch_size,
                num_workers=s.num_workers,
                track=s.track,
            ):
                numbers.append(rows)
                parts.append(part.to("cpu"))
            self._corpora[benchmark.spec.name] = EncodedCorpus(torch.cat(numbers), tuple(parts))
        return self._corpora[benchmark.spec.name]


@dataclass(frozen=True)
class EncodedCorpus:
    """A benchmark's documents as one model sees them; with several ranks, this rank's share."""

    rows: Tensor
    """[N] place of each document in the corpus."""
    parts: Iterable[Embeddings]
    """On the CPU, in batches of like length, or as they lie on disk; read as often as wanted."""


def split_result(
    split: QuerySplit, control: str | None, scores: Tensor, rows: Tensor, device: torch.device, groups: bool
) -> SplitResult:
    """What rankings come to.

    Args:
        scores, rows: [Q, R] on the CPU, best first, the same on every rank.
        device: where the model is.
        groups: give the metrics of each group too.
    """
    judged, names = judge(split, rows), split.benchmark.spec.metrics
    # NCCL wants CUDA tensors; elsewhere the CPU, as MPS has no float64.
    metrics = means(split, judged, device if device.type == "cuda" else torch.device("cpu"), groups)
    return SplitResult(split, control, metrics, per_query(names, judged), scores, rows, first_places(judged))


def by_chance(benchmark: Benchmark, split: str) -> SplitResult:
    """What a ranking, or a class, by lot is expected to reach, in closed form."""
    questions = benchmark.split(split)
    if benchmark.classifies:
        return class_by_chance(questions)
    num_answering = has_answers = None
    if benchmark.answer_depth and questions.has_answers.any():
        num_answering = count_answering(questions.answers, benchmark.corpus.texts())
        has_answers = questions.has_answers
    values = {name: torch.zeros(len(questions), dtype=torch.float64) for name in benchmark.spec.metrics}
    for documents in questions.num_documents.unique().tolist():
        rows = (questions.num_documents == documents).nonzero().flatten()
        pool = Pool(
            documents,
            benchmark.depth,
            questions.num_relevant[rows],
            None if num_answering is None else num_answering[rows],
            None if has_answers is None else has_answers[rows],
            None if questions.grades is None else questions.grades[rows],
        )
        for name, value in expected(benchmark.spec.metrics, pool).items():
            values[name][rows] = value
    known = {name: float(value.nanmean()) for name, value in values.items() if not value.isnan().all()}
    return SplitResult(questions, "chance", known, values)


def evaluate(model: Retriever, benchmark: str, split: str, *, control: str | None = None) -> SplitResult:
    """One split of one benchmark, with the default settings."""
    return ModelEvaluator(model)(Benchmark.load(benchmark), split, control)
