"""`mmret convert SOURCE DEST`: a checkpoint from one layout into another."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, cast

import yaml

from mmret.cli.console import say
from mmret.errors import CheckpointError, ConfigError

SUMMARY = "write a checkpoint in our layout, or in the one its authors published"


def configure(parser: argparse.ArgumentParser) -> None:
    """SOURCE, DEST, KEY=VALUE..., --to, --merge."""
    parser.add_argument(
        "source", metavar="SOURCE", help="a stage's or model folder, a published checkpoint, or a .ckpt"
    )
    parser.add_argument("dest", metavar="DEST", help="what to write; must not exist (VLMo, published: a .pt file)")
    parser.add_argument(
        "settings", metavar="KEY=VALUE", nargs="*", help="settings that the source does not say: relative_text_span=20"
    )
    parser.add_argument(
        "--to",
        choices=("mmret", "published", "adapter"),
        default="mmret",
        help="the layout to write; adapter: the adapters alone, as peft does",
    )
    parser.add_argument("--merge", action="store_true", help="put the adapters' effect into the weights first")


def run(args: argparse.Namespace) -> int:
    """Load strictly, write with the heads of its objectives, read back."""
    source, dest = Path(args.source), Path(args.dest)
    if dest.exists():
        raise CheckpointError(f"{dest} exists; name a new one, or delete it first")
    from mmret.models import VLM2Vec
    from mmret.models.load import load
    from mmret.models.publish import publish, settings_beside
    from mmret.objectives.store import copy_objectives, stored_state

    if source.suffix == ".ckpt":
        return _unfinished(source, dest, args)
    folder = source / "model" if (source / "model").is_dir() else source
    model = load(folder if folder.exists() else args.source, **_settings(args.settings))
    told: dict[str, Any] = {}
    if (args.merge or args.to == "adapter") and not getattr(model.config, "peft", None):
        raise CheckpointError(f"{source} has no adapters (no peft section)")
    if args.merge and args.to == "adapter":
        raise ConfigError("--merge leaves no adapters to write with --to adapter; give one of them")
    if args.merge:
        model = cast(VLM2Vec, model).merged()
    objectives: dict[str, Any] = {}
    if args.to == "adapter":
        cast(VLM2Vec, model).save_adapter(dest)
    elif args.to == "mmret":
        model.save(dest)
        objectives = copy_objectives(folder, dest)
    else:
        objectives = stored_state(folder)
        publish(model, dest, objectives)
        told = settings_beside(model)
    load(dest, **told)
    beside = f", with {', '.join(f'{key}={value}' for key, value in told.items())}" if told else ""
    heads = list(dict.fromkeys(key.split(".")[0] for key in objectives))
    say(f"{dest}: written, and opens{beside}{'; heads: ' if heads else ''}{', '.join(heads)}", "green")
    return 0


def _unfinished(source: Path, dest: Path, args: argparse.Namespace) -> int:
    """A checkpoint in the middle of a stage, into a model folder."""
    if args.to != "mmret" or args.merge or args.settings:
        raise ConfigError(f"{source}: a checkpoint becomes a model folder first; convert that one further")
    from mmret.models.load import load
    from mmret.objectives.store import save_objectives
    from mmret.training.export import module_of_checkpoint

    module = module_of_checkpoint(source)
    module.model.save(dest)
    save_objectives(module.objectives, dest)
    load(dest)
    say(f"{dest}: the model of {source}, written, and opens", "green")
    return 0


def _settings(given: list[str]) -> dict[str, Any]:
    settings = {}
    for one in given:
        key, equals, value = one.partition("=")
        if not equals:
            raise ConfigError(f"mmret convert takes one SOURCE and one DEST, then KEY=VALUE; '{one}' is neither")
        settings[key] = yaml.safe_load(value)
    return settings
