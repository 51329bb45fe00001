"""`mmret report gain WITH WITHOUT`: what a dataset or stage gave, from the validation losses of two runs."""

from __future__ import annotations

from rich.table import Table

from mmret.cli.console import console, say, write_json


def report_gain(with_it: str, without: str, stage: str | None = None, as_json: bool = False) -> int:
    """Show the gain on stderr, with `as_json` also on stdout.

    Raises:
        CheckpointError: no such run, or no finished stage with a validation loss.
        ConfigError: the two losses do not measure the same.
    """
    from mmret.evaluation.gain import gain

    found = gain(with_it, without, stage)
    table = Table(title="best validation loss (nats)", title_justify="left", title_style="bold")
    for heading in ("", "stage", "step", "loss"):
        table.add_column(heading, justify="right" if heading in ("step", "loss") else "left")
    for title, best in (("with", found.with_it), ("without", found.without)):
        table.add_row(title, str(best.stage), f"{best.step:,}", f"{best.loss:.4f}")
    console.print(table)
    say(f"gain {found.nats:+.4f} nats ({found.bits:+.4f} bits)", "bold")
    for best in (found.with_it, found.without):
        if best.still_falling:
            say(f"{best.stage}: the best is the last, so the loss was still falling; train longer", "yellow")
    if found.other_batches:
        say("the runs have different seeds, so the losses are of different batches and negatives", "yellow")
    if as_json:
        rows = {"with": found.with_it, "without": found.without}
        losses = {name: {"stage": str(best.stage), "step": best.step, "loss": best.loss} for name, best in rows.items()}
        write_json({"nats": found.nats, "bits": found.bits, **losses})
    return 0
