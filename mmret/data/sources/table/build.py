"""Building anybody's table: a sample for each row."""

from __future__ import annotations

from mmret.data.sources.record import Built
from mmret.data.sources.row_file import RowFiles
from mmret.data.sources.row_options import build_rows, find_first, picture_reader
from mmret.data.sources.table.config import TableConfig
from mmret.data.sources.table.row import RowReader, is_empty, values
from mmret.data.sources.track import Track, untracked
from mmret.errors import ConfigError


def build_table(config: TableConfig, track: Track = untracked) -> list[Built]:
    """Write `<out>/<name>.manifest.json` with its shards and `<out>/<name>.yaml`, the data spec.

    Raises:
        ConfigError: a file, a column or the folder of pictures is not there.
        SampleError: no row could be used, or a picture is missing or broken and may not be.
    """
    files = RowFiles(config.files, config.columns)
    if not (config.query_text or config.query_images):
        known = ", ".join(next(iter(files.columns.values())))
        raise ConfigError(
            "table: no column asks; name some, as in --image-column photo --caption-columns caption, or --query-text "
            f"question --positive-texts answer. {files.files[0]} has {known}"
        )
    files.require([*config.used, *config.facts])
    pictures = picture_reader(config, files)
    shown = [*config.query_images, *config.positive_images, *config.negative_images]
    first = find_first(files, pictures, lambda row: [value for value in values(row, shown) if not is_empty(value)])
    return [build_rows(config, files, RowReader(config, pictures), _required(config), first, track)]


def _required(config: TableConfig) -> list[str]:
    """Fields that no sample lacks: where a side may have text or picture, neither is sure."""
    sides = (
        ("query", config.query_text, config.query_images),
        ("positives", config.positive_texts, config.positive_images),
    )
    return [f"{side}.{'images' if images else 'text'}" for side, texts, images in sides if bool(texts) != bool(images)]
