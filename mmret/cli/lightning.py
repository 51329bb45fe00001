"""The `lightning` command: `lightning run RECIPE` trains; other verbs are lightning-sdk's, where that is installed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, PackageNotFoundError, distribution

from mmret.cli.console import say
from mmret.cli.main import main as mmret_main
from mmret.errors import EnvironmentProblem


def main(argv: Sequence[str] | None = None) -> int:
    """`run RECIPE key=value ...` as `mmret run`; anything else is handed on. Returns the exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv[:2] == ["run", "model"]:
        say("`lightning run model SCRIPT` was removed from Lightning; its name is now `fabric run SCRIPT`", "red")
        return EnvironmentProblem.exit_code
    if argv[:1] == ["run"]:
        return mmret_main(argv)
    command = sdk_command()
    if command is None:
        verb = f"`lightning {argv[0]}`" if argv else "`lightning` without a verb"
        say(
            f"{verb} belongs to lightning-sdk, which is not installed (pip install lightning-sdk). "
            "Here, `lightning run RECIPE key=value ...` trains, as `mmret run` does",
            "red",
        )
        return EnvironmentProblem.exit_code
    sys.argv = ["lightning", *argv]
    result = command.load()()
    return result if isinstance(result, int) else 0


def sdk_command() -> EntryPoint | None:
    """lightning-sdk's own `lightning`, which this command may have replaced in the environment's bin folder."""
    try:
        scripts = distribution("lightning-sdk").entry_points.select(group="console_scripts", name="lightning")
    except PackageNotFoundError:
        return None
    return next(iter(scripts), None)
