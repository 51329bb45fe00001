"""One model on one split: encode, search, judge."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmret.evaluation.answers import count_answering
from mmret.evaluation.benchmark import Benchmark
from mmret.evaluation.controls import control_contents
from mmret.evaluation.encode import Track, encode, encode_all_queries, evaluating, untracked
from mmret.evaluation.judge import expected, first_places, judge, means, per_query
from mmret.evaluation.judged import Pool
from mmret.evaluation.result import SplitResult
from mmret.index import search
from mmret.models.retriever import Retriever
from mmret.types import Embeddings


@dataclass(frozen=True)
class Settings:
    """How to evaluate; nothing here changes a number."""

    batch_size: int = 64
    """Rows encoded at once."""
    device: torch.device | str | None = None
    """Where to; None: where the model is. It goes back afterwards."""
    num_workers: int = 0
    """Loader processes that read and decode; 0: in this one."""
    track: Track = untracked
    """Shows progress."""


class ModelEvaluator:
    """One model as it is now, on one split after the other. Make a new one when the weights have changed."""

    def __init__(self, model: Retriever, settings: Settings | None = None):
        self.model, self.settings = model, settings or Settings()
        self._corpora: dict[str, EncodedCorpus] = {}

    def __call__(self, benchmark: Benchmark, split: str, control: str | None = None) -> SplitResult:
        """Measure a split, as it is or under a control ("untrained": this model is the untrained one)."""
        questions = benchmark.split(split)
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
            scores, rows = search(self.model, queries, corpus.parts, benchmark.depth, rows=corpus.rows)
        judged = judge(questions, rows)
        # NCCL wants CUDA tensors; elsewhere the CPU, as MPS has no float64.
        metrics = means(questions, judged, device if device.type == "cuda" else torch.device("cpu"), control is None)
        names = benchmark.spec.metrics
        return SplitResult(questions, control, metrics, per_query(names, judged), scores, rows, first_places(judged))

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
    parts: tuple[Embeddings, ...]
    """On the CPU, in batches of like length."""


def by_chance(benchmark: Benchmark, split: str) -> SplitResult:
    """What a ranking by lot is expected to reach, in closed form."""
    questions = benchmark.split(split)
    num_answering = has_answers = None
    if benchmark.answer_depth and questions.has_answers.any():
        num_answering = count_answering(questions.answers, benchmark.corpus.texts())
        has_answers = questions.has_answers
    pool = Pool(len(benchmark.corpus), benchmark.depth, questions.num_relevant, num_answering, has_answers)
    values = expected(benchmark.spec.metrics, pool)
    known = {name: float(value.nanmean()) for name, value in values.items() if not value.isnan().all()}
    return SplitResult(questions, "chance", known, values)


def evaluate(model: Retriever, benchmark: str, split: str, *, control: str | None = None) -> SplitResult:
    """One split of one benchmark, with the default settings."""
    return ModelEvaluator(model)(Benchmark.load(benchmark), split, control)
