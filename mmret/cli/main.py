"""`mmret VERB ...`: finds the verb, reads its arguments, turns errors into messages and exit codes."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

import mmret
from mmret.cli import (
    bench,
    check,
    codebook,
    convert,
    cp,
    data,
    encode,
    evaluate,
    ls,
    mine,
    report,
    run,
    search,
    show,
    submit,
)
from mmret.cli.console import say, show_log
from mmret.cli.verb import Verb
from mmret.errors import ConfigError, EnvironmentProblem, MMRetError
from mmret.launch import process_rank
from mmret.recipe.problem import did_you_mean

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells count it."""
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR)
"""What an operating system says where nothing, or no more, can be written."""


VERBS: dict[str, Verb] = {
    "run": run,
    "check": check,
    "show": show,
    "submit": submit,
    "evaluate": evaluate,
    "encode": encode,
    "search": search,
    "mine": mine,
    "bench": bench,
    "report": report,
    "ls": ls,
    "cp": cp,
    "convert": convert,
    "codebook": codebook,
}
GROUPS: dict[str, tuple[str, Mapping[str, Verb]]] = {"data": (data.SUMMARY, data.ACTIONS)}
"""Verbs that are several: `mmret data check`."""


def main(argv: Sequence[str] | None = None) -> int:
    """The `mmret` command; returns its exit code: 0, or that of the error (`mmret.errors`), or 130 after Ctrl-C."""
    argv = sys.argv[1:] if argv is None else list(argv)
    show_log(process_rank(os.environ))
    try:
        return _dispatch(argv)
    except MMRetError as error:
        say(str(error), "red")
        return error.exit_code
    except OSError as error:  # wherever a log or a result is written, also by libraries
        if error.errno not in UNWRITABLE:
            raise
        where = f"{error.filename}: " if error.filename else ""
        say(
            f"{where}{error.strerror}. Make room, get the rights, or choose another folder; what was saved stays", "red"
        )
        return EnvironmentProblem.exit_code
    except KeyboardInterrupt:
        say("interrupted; the same command goes on where this one stopped", "yellow")
        return INTERRUPTED
    except SystemExit as stop:  # argparse, after --help
        return stop.code if isinstance(stop.code, int) else 0


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        say(_help())
        return 0 if argv else ConfigError.exit_code
    if argv[0] == "--version":
        say(f"mmret {mmret.__version__}")
        return 0
    name, rest = argv[0], argv[1:]
    known = [*VERBS, *GROUPS]
    if name not in known:
        hint = f" Did you mean 'mmret run {name}'?" if name.endswith((".yaml", ".yml")) else did_you_mean(name, known)
        raise ConfigError(f"unknown verb '{name}'; known: {', '.join(known)}.{hint}")
    if name in GROUPS:
        summary, actions = GROUPS[name]
        if not rest or rest[0] in ("-h", "--help", "help"):
            say(_list(f"mmret {name} ACTION ...", {action: verb.SUMMARY for action, verb in actions.items()}, summary))
            return 0 if rest else ConfigError.exit_code
        if rest[0] not in actions:
            hint = did_you_mean(rest[0], actions)
            raise ConfigError(f"mmret {name} has no action '{rest[0]}'; known: {', '.join(actions)}.{hint}")
        verb, name, rest = actions[rest[0]], f"{name} {rest[0]}", rest[1:]
    else:
        verb = VERBS[name]
    parser = _Parser(prog=f"mmret {name}", description=verb.SUMMARY, allow_abbrev=False)
    verb.configure(parser)
    args, unknown = parser.parse_known_intermixed_args(rest)
    for option in unknown:
        parser.refuse(option)
    return verb.run(args)


def _help() -> str:
    about = {name: verb.SUMMARY for name, verb in VERBS.items()}
    about |= {name: summary for name, (summary, _) in GROUPS.items()}
    return _list(
        "mmret VERB ...", about, "mmret VERB --help tells more. Settings of a recipe follow it as key.path=value."
    )


def _list(head: str, about: dict[str, str], more: str) -> str:
    width = max(map(len, about))
    return "\n".join([head, "", *(f"  {name:<{width}}  {text}" for name, text in about.items()), "", more])


class _Parser(argparse.ArgumentParser):
    """argparse, with its errors as ours."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}\n{' '.join(self.format_usage().split())}")

    def refuse(self, option: str) -> NoReturn:
        """An argument that nobody declared."""
        known = [name for action in self._actions for name in action.option_strings]
        hint = did_you_mean(option.partition("=")[0], known)
        if "=" in option and not hint:
            hint = f" Settings of a recipe are written without dashes: {option.lstrip('-')}"
        self.error(f"unknown option {option}.{hint}")
