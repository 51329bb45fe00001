"""From a model to numbers and pages: benchmarks, metrics, controls, reports. No training, no index structures."""

from mmret.evaluation.benchmark import Benchmark
from mmret.evaluation.evaluator import Evaluator, evaluate_checkpoint
from mmret.evaluation.measure import by_chance, evaluate
from mmret.evaluation.metrics import METRICS, build_metrics
from mmret.evaluation.names import CONTROLS
from mmret.evaluation.result import Evaluation, SplitResult

__all__ = [
    "CONTROLS",
    "METRICS",
    "Benchmark",
    "Evaluation",
    "Evaluator",
    "SplitResult",
    "build_metrics",
    "by_chance",
    "evaluate",
    "evaluate_checkpoint",
]
