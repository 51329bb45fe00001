"""`mmret cp NAME DEST`: a shipped recipe as a file of one's own, to edit."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmret.cli.console import say
from mmret.errors import ConfigError
from mmret.recipe import shipped
from mmret.recipe.problem import Origin, Problems
from mmret.recipe.yaml_marks import parse_yaml

SUMMARY = "copy a shipped recipe to a file of your own"


def configure(parser: argparse.ArgumentParser) -> None:
    """NAME, DEST."""
    parser.add_argument("name", metavar="NAME", help="a shipped recipe (mmret ls recipes), or a recipe file")
    parser.add_argument("dest", metavar="DEST", help="the new file, or a folder to put it in")


def run(args: argparse.Namespace) -> int:
    """Copy; never over an existing file."""
    source = Path(args.name) if Path(args.name).is_file() else shipped.find("recipe", args.name)
    dest = Path(args.dest)
    if dest.is_dir():
        dest = dest / source.name
    elif dest.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"{dest}: a recipe's name ends in .yaml, or name a folder that exists")
    if dest.exists():
        raise ConfigError(f"{dest} exists; choose another name, or delete it first")
    dest.parent.mkdir(parents=True, exist_ok=True)
    dest.write_text(_text_for(source, dest), encoding="utf-8")
    say(f"{dest}: edit it, then mmret check {dest}")
    return 0


def _text_for(source: Path, dest: Path) -> str:
    """The recipe's text; a parent that it names relative to its own place is named from anywhere."""
    text = source.read_text(encoding="utf-8")
    root = parse_yaml(text, Origin(str(source), 1, 1), Problems())
    parent = root.child("extends")
    if parent is None or not isinstance(parent.value, str):
        return text
    file = source.parent / parent.value
    if not file.is_file() or (dest.parent / parent.value).resolve() == file.resolve():
        return text
    assert parent.origin.line is not None
    lines = text.splitlines(keepends=True)
    ending = "\n" if lines[parent.origin.line - 1].endswith("\n") else ""
    lines[parent.origin.line - 1] = f"extends: {_name_of(file)}{ending}"
    return "".join(lines)


def _name_of(file: Path) -> str:
    """`preflmr/_base` for a file under a recipes folder, else its absolute path."""
    for root in shipped.roots("recipe"):
        if file.resolve().is_relative_to(root.resolve()):
            return file.resolve().relative_to(root.resolve()).with_suffix("").as_posix()
    return str(file.resolve())
