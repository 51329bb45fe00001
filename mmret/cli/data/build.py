"""`mmret data build SOURCE`: what others publish, as shards and tables that training and evaluation read."""

from __future__ import annotations

import argparse
import ast
import inspect
import os
import textwrap
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

from omegaconf import MISSING
from rich.table import Table

from mmret.cli.arguments import add_json
from mmret.cli.console import console, say, write_json
from mmret.errors import ConfigError

_VALUES = {"Folder": "DIR", "Column": "COLUMN"}
"""First word of an option's help -> its value's name."""
SUMMARY = "turn what others publish into shards: mmret data build SOURCE; sources: --help"


def configure(parser: argparse.ArgumentParser) -> None:
    """SOURCE, and the options of all sources; each takes its own."""
    from mmret.data.sources import SOURCES

    about = "; ".join(f"{name}: {source.summary}" for name, source in SOURCES.items())
    parser.add_argument("source", metavar="SOURCE", choices=[*SOURCES], help=about)
    options = {name: kind for source in SOURCES.values() for name, kind in get_type_hints(source.Config).items()}
    groups: dict[str, argparse._ArgumentGroup] = {}
    for name, kind in options.items():
        takes = [title for title, source in SOURCES.items() if name in get_type_hints(source.Config)]
        title = ", ".join(takes) if len(takes) < len(SOURCES) else "all sources"
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        flag = f"--{name.replace('_', '-')}"
        text = field_help(SOURCES[takes[0]].Config).get(name, "")
        # Absent options are told from given ones: a source gets only those that were given.
        groups[title].add_argument(
            *((flag, flag.removesuffix("s")) if kind == list[str] else (flag,)),
            dest=name,
            default=argparse.SUPPRESS,
            help=text.replace("%", "%%"),
            **_argument(kind, text),
        )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Build; a table of what was built on stderr, with --json the same on stdout."""
    from mmret.data.sources import SOURCES, Slice
    from mmret.training.progress import track

    source = SOURCES[args.source]
    given = {name: value for name, value in vars(args).items() if name not in ("source", "json")}
    known = {field.name: field for field in fields(source.Config)}
    for name in given:
        if name not in known:
            raise ConfigError(f"{args.source} takes no --{name.replace('_', '-')}")
    for name, field in known.items():
        if field.default == MISSING and field.default_factory is NO_DEFAULT and name not in given:
            raise ConfigError(f"mmret data build {args.source}: --{name.replace('_', '-')} is missing")
    if given.get("slice") == "slurm":
        given["slice"] = str(Slice.of_slurm(os.environ))
    built = source.build(source.Config(**given), track)
    table = Table(title=args.source, title_justify="left", title_style="bold")
    for heading in ("", "queries", "left out", "documents", ""):
        table.add_column(heading, justify="right" if heading else "left")
    for one in built:
        left_out = sum(one.queries.left_out.values())
        table.add_row(
            one.name,
            f"{one.queries.kept:,}",
            f"{left_out:,}" if left_out else "",
            f"{one.documents.kept:,}",
            "finished before" if one.skipped else "built",
        )
    console.print(table)
    for one in built:
        spec = one.manifest.with_name(one.manifest.name.replace(".manifest.json", ".yaml"))
        if one.manifest.is_file() and spec.is_file():
            say(f"{one.name}: a recipe names it by its spec: data.sources: {{{spec}: 1}}")
    found = source.variable(built)
    if found is not None:
        name, folder = found
        say(f"the data specs find it after: export {name}={folder.resolve()}")
    if args.json:
        write_json({one.name: {"queries": one.queries.kept, "documents": one.documents.kept} for one in built})
    return 0


def field_help(config: type) -> dict[str, str]:
    """The docstring below each field of a dataclass: what its options say of themselves."""
    inherited = (field_help(base) for base in config.__bases__ if is_dataclass(base))
    found: dict[str, str] = {name: text for texts in inherited for name, text in texts.items()}
    (section,) = ast.parse(textwrap.dedent(inspect.getsource(config))).body
    assert isinstance(section, ast.ClassDef)
    for entry, after in zip(section.body, section.body[1:]):
        text = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else None
        if isinstance(entry, ast.AnnAssign) and isinstance(entry.target, ast.Name) and isinstance(text, str):
            found[entry.target.id] = text
    return found


def _argument(kind: Any, text: str) -> dict[str, Any]:
    """How argparse reads a field's type; what the field says of itself tells what to call its value."""
    if kind is bool:
        return {"action": "store_true"}
    if kind == list[str]:
        return {"nargs": "+", "metavar": "COLUMN" if text.startswith("Column") else "NAME"}
    plain = next((one for one in get_args(kind) if one is not type(None)), kind)
    if plain in (int, float):
        return {"type": plain, "metavar": "N"}
    return {"type": plain, "metavar": _VALUES.get(text.partition(" ")[0], "TEXT")}
