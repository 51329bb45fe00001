"""`mmret bench FILE`: variants on the same data, budget and evaluation; called again, it goes on where it was."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from mmret.cli.arguments import add_json
from mmret.cli.console import console, say, write_json
from mmret.launch.restart import STOPPED

if TYPE_CHECKING:
    from mmret.bench import Bench, Job

SUMMARY = "train and measure variants on the same data and budget, several seeds; one table of quality and cost"


def configure(parser: argparse.ArgumentParser) -> None:
    """FILE, overrides, --only, --sweep, --task, --list, --json."""
    parser.add_argument("file", metavar="FILE", help="a bench file, or a shipped name (mmret ls benches)")
    parser.add_argument(
        "overrides", metavar="KEY=VALUE", nargs="*", help="settings of the bench: size=tiny  seeds=[0]  budget.steps=50"
    )
    parser.add_argument("--only", metavar="NAME", action="append", default=[], help="this variant; may be given again")
    parser.add_argument(
        "--sweep",
        metavar="KEY=A,B",
        action="append",
        default=[],
        help="each variant under each value (several: the grid), the best picked on evaluation.validation",
    )
    parser.add_argument("--task", metavar="K/N", help="run the K-th of N slices, as one task of a SLURM array")
    parser.add_argument("--list", action="store_true", help="tell the runs and how far each is; run nothing")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Runs, with what they say on stderr; then the table, with --json the results on stdout. 1 if a run failed."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from mmret.bench import plan_jobs, read_bench, resolve_variants, write_results
    from mmret.bench.job import slice_of
    from mmret.bench.process import ProcessStopped
    from mmret.bench.runner import run_jobs
    from mmret.bench.sweep import settings_of
    from mmret.bench.target import primary_key, validation_keys

    loaded = read_bench(args.file, args.overrides)
    bench = loaded.bench
    validation = validation_keys(bench) if args.sweep else []
    variants = resolve_variants(loaded, settings_of(args.sweep), args.only)
    primary = primary_key(bench, variants[0].recipe.evaluation.benchmarks)
    bench.primary = primary
    jobs = plan_jobs(bench, variants)
    chosen = slice_of(jobs, args.task)
    if args.list:
        return _list(bench, chosen, args.json)

    def write() -> dict[str, Any]:
        return write_results(bench, jobs, primary, validation)

    write()
    try:
        ran = run_jobs(chosen, lambda text: say(text, "bold"), lambda text: say(f"  {text}", "dim"), write)
    except ProcessStopped:
        say("stopped; the same command goes on where this one was", "yellow")
        return STOPPED
    results = write()
    _show(bench, results)
    if args.json:
        write_json(results)
    for job in ran.failed:
        say(f"failed: {job.title}: {(job.error or '').splitlines()[0]} ({job.log})", "red")
    return 1 if ran.failed else 0


def _list(bench: Bench, jobs: list[Job], as_json: bool) -> int:
    from mmret.bench.trial import planned_steps

    listed = []
    for job in jobs:
        steps = planned_steps(bench, job.variant)
        stages = [stage.name for stage in job.variant.recipe.stages]
        listed.append(
            {
                "name": job.variant.name,
                "seed": job.seed,
                "status": job.status,
                "folder": str(job.folder),
                "steps": None if steps is None else dict(zip(stages, steps)),
                "data_differs": job.variant.data_differs,
            }
        )
    if as_json:
        write_json(listed)
        return 0
    for entry in listed:
        steps = entry["steps"]
        plan = "steps after a trial" if steps is None else ", ".join(f"{name} {n:,}" for name, n in steps.items())
        data = "  other data" if entry["data_differs"] else ""
        say(f"{entry['status']:<9} {entry['name']} seed {entry['seed']}  {plan}{data}")
    done = sum(entry["status"] == "finished" for entry in listed)
    say(f"{done} of {len(listed)} runs finished; {bench.out}")
    return 0


def _show(bench: Bench, results: dict[str, Any]) -> None:
    """The table of what is finished, and what the test against the best says."""
    from mmret.bench.results import counted
    from mmret.evaluation.compare import Comparison, read_variants
    from mmret.evaluation.compare.screen import show_comparison

    for variant, choice in results["sweep"].items():
        values = ", ".join(f"{name} {value:.4f}" for name, value in choice["values"].items())
        say(f"{variant}: picked {choice['picked']} by {', '.join(choice['by'])} ({values})")
    names = counted(results["variants"])
    variants, origin = read_variants([bench.out])
    shown = [variant for variant in variants if variant.name in names]
    if not any(variant.runs for variant in shown):
        return
    show_comparison(Comparison(shown, origin), console)
    for name, found in results["statistics"].items():
        if found["best"]:
            about = "the best"
        else:
            about = f"p = {found['p_holm']:.3g}{', differs from the best' if found['differs'] else ''}"
        bounds = f"{found['mean']:.2%} ({found['low']:.2%} to {found['high']:.2%})"
        say(f"{results['primary']}  {name}: {bounds}, {about}")
    say(f"{bench.out}/results.json; a page: mmret report {bench.out}")
