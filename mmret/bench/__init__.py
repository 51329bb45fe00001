"""Several variants on the same data, budget and evaluation: what to run, how far each is, what it cost and reached."""

from mmret.bench.config import Bench, Budget, Variant
from mmret.bench.job import Job, plan_jobs
from mmret.bench.read import LoadedBench, read_bench
from mmret.bench.results import write_results
from mmret.bench.variant import ResolvedVariant, resolve_variants

__all__ = [
    "Bench",
    "Budget",
    "Job",
    "LoadedBench",
    "ResolvedVariant",
    "Variant",
    "plan_jobs",
    "read_bench",
    "resolve_variants",
    "write_results",
]
