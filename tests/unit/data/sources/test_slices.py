"""Builds in pieces: killed and begun again, shared out among tasks, joined; always the same bytes."""

import json
import logging
from hashlib import sha256

import pytest

from mmret.cli import main
from mmret.data import DataSpec, Manifest
from mmret.data.sources import Plan, Slice, pieces
from mmret.data.sources.labelled import ClassFolderConfig, build_class_folder
from mmret.data.sources.m2kr import M2KRConfig, build_m2kr
from mmret.data.sources.mmeb import MMEBConfig, build_mmeb
from mmret.data.sources.table import TableConfig, build_table
from mmret.errors import ConfigError, SampleError
from tests import m2kr_tables, mmeb_tables
from tests.unit.data.sources.pictures import picture

ROWS = 23
PIECES = 8
"""Of three rows each, the last of two."""


@pytest.fixture
def table(tmp_path):
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(picture(number))
    lines = [f"{number % 4}.png,caption {number}" for number in range(ROWS)]
    lines[5] = "1.png,"
    (tmp_path / "a.csv").write_text("i,c\n" + "\n".join(lines) + "\n")
    return tmp_path / "a.csv"


def options(table, out, **more):
    fields = {"image_column": "i", "caption_columns": ["c"], "piece_rows": 3, "workers": 2}
    return TableConfig([str(table)], out=str(out), **(fields | more))


def built(folder):
    """Every file of a build that others read, by its digest."""
    files = [file for file in folder.iterdir() if file.is_file()]
    return {file.name: sha256(file.read_bytes()).hexdigest() for file in files if file.name != "train.yaml"}


@pytest.fixture
def whole(table, tmp_path):
    """What an undisturbed build in one go gives."""
    build_table(options(table, tmp_path / "whole"))
    return built(tmp_path / "whole")


def keys(folder):
    source = DataSpec.load(folder / "train.yaml").open()
    return [int(source.reader.read(n).name.partition(":")[2]) for n in range(len(source))]


def test_slices_in_any_order_give_the_bytes_of_one_build(table, whole, tmp_path, caplog):
    out = tmp_path / "out"
    for number in (3, 1, 2):
        assert not (out / "train.manifest.json").exists()
        (one,) = build_table(options(table, out, slice=f"{number}/3"))
        assert one.name == f"out/train {number}/3"
    assert "slice 3/3 is built; 6 of 8 pieces are left to the other slices" in caplog.text
    assert built(out) == whole
    assert keys(out) == [n for n in range(ROWS) if n != 5]


def test_more_slices_than_pieces_and_other_counts_meet_in_one_set(table, whole, tmp_path):
    out = tmp_path / "out"
    for slice in ("20/20", "1/2", "1/20", "2/2"):
        build_table(options(table, out, slice=slice))
    assert built(out) == whole


class Killed(BaseException):
    """As kill -9 ends a process: nothing is tidied up."""


@pytest.mark.parametrize("after", [0, 1, 4, 10, 21])
def test_a_killed_build_goes_on_and_ends_with_the_same_bytes(table, whole, tmp_path, monkeypatch, after):
    out, read = tmp_path / "out", []
    write = pieces.write_shards

    def dying(samples, *place):
        def some():
            for sample in samples:
                if len(read) == after:
                    raise Killed
                read.append(sample.key)
                yield sample

        return write(some(), *place)

    monkeypatch.setattr(pieces, "write_shards", dying)
    with pytest.raises(Killed):
        build_table(options(table, out))
    assert not (out / "train.manifest.json").exists()
    again = []
    monkeypatch.setattr(pieces, "write_shards", lambda samples, *place: write(_noted(samples, again), *place))
    (one,) = build_table(options(table, out))
    assert built(out) == whole and not one.skipped
    # Only the piece that was being written is done twice.
    assert len(set(read) & set(again)) <= 2 and set(read) | set(again) == {f"{n:09d}" for n in range(ROWS) if n != 5}
    assert build_table(options(table, out))[0].skipped


def _noted(samples, keys):
    for sample in samples:
        keys.append(sample.key)
        yield sample


def test_a_shard_that_went_missing_is_built_again_alone(table, whole, tmp_path):
    out = tmp_path / "out"
    build_table(options(table, out))
    (out / "train-00002-000000.tar").unlink()
    before = (out / "train-00001-000000.tar").stat().st_mtime_ns
    build_table(options(table, out))
    assert built(out) == whole and (out / "train-00001-000000.tar").stat().st_mtime_ns == before


def test_other_options_remove_what_was_built_and_an_edited_spec_stays(table, tmp_path):
    out = tmp_path / "out"
    build_table(options(table, out))
    build_table(options(table, out, piece_rows=10))
    assert len(Manifest.load(out / "train.manifest.json").shards) == 3 == len(list(out.glob("*.tar")))
    spec = (out / "train.yaml").read_text().replace("description: rows of a.csv", "license: mine")
    (out / "train.yaml").write_text(spec)
    build_table(options(table, out, limit=4))
    assert (out / "train.yaml").read_text() == spec and len(keys(out)) == 4
    with pytest.raises(ConfigError, match=r"train.pieces: of a build from other files or with other options"):
        build_table(options(table, out, slice="1/2"))


def test_join_says_what_is_missing_and_joins_what_is_there(table, whole, tmp_path, capsys):
    out = tmp_path / "out"
    build_table(options(table, out, slice="1/2"))
    assert main(["data", "join", str(out)]) == 2
    assert "4 of 8 pieces are not built (00001, 00003, 00005, 00007)" in capsys.readouterr().err.replace("\n", " ")
    build_table(options(table, out, slice="2/2"))
    for file in ("train.manifest.json", "train.yaml", "train.left_out.jsonl"):
        (out / file).unlink()
    assert main(["data", "join", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"train": {"samples": ROWS - 1, "shards": PIECES}}
    assert built(out) == whole
    assert main(["data", "join", str(tmp_path)]) == 2
    assert "no pieces of a build here" in capsys.readouterr().err


def test_a_slice_without_a_usable_row_leaves_the_others_alone(tmp_path):
    (tmp_path / "a.csv").write_text("q,a\n1,\n2,\n3,x\n")
    fields = {"image_column": None, "caption_columns": ["a"], "query_text": "q", "piece_rows": 2}
    build_table(options(tmp_path / "a.csv", tmp_path / "out", slice="1/2", **fields))
    build_table(options(tmp_path / "a.csv", tmp_path / "out", slice="2/2", **fields))
    assert keys(tmp_path / "out") == [2]
    (tmp_path / "a.csv").write_text("q,a\n1,\n2,\n")
    with pytest.raises(SampleError, match=r"none of 2 rows could be used: 2 x nothing answers \(first: a.csv row 1"):
        build_table(options(tmp_path / "a.csv", tmp_path / "none", **fields))


def test_a_plan_is_read_back_as_it_was_saved(table, tmp_path):
    build_table(options(table, tmp_path / "out"))
    plan = Plan.load(tmp_path / "out", "train")
    assert plan is not None and len(plan.pieces) == PIECES
    assert [(piece.first, piece.rows, piece.row) for piece in plan.pieces] == [
        (first, min(3, ROWS - first), first) for first in range(0, ROWS, 3)
    ]
    (plan.records / "plan.json").write_text("{")
    assert Plan.load(tmp_path / "out", "train") is None


def test_a_folder_of_classes_is_sliced_as_well(tmp_path):
    for number in range(10):
        path = tmp_path / f"photos/train/{'ab'[number % 2]}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
    folders = {"images": str(tmp_path / "photos"), "piece_rows": 3}
    build_class_folder(ClassFolderConfig(out=str(tmp_path / "whole"), **folders))
    for slice in ("2/2", "1/2"):
        build_class_folder(ClassFolderConfig(out=str(tmp_path / "out"), slice=slice, **folders))
    assert built(tmp_path / "out") == built(tmp_path / "whole")
    source = DataSpec.load(tmp_path / "out/train.yaml").open()
    assert len(source) == 10 and source.target(source.parse(0)) is not None


def write_m2kr(root):
    m2kr_tables.write_pictures(root / "images")
    for name in ("OKVQA", "MSMARCO", "IGLUE"):
        m2kr_tables.write_tables(root / "tables", name, ("test",), rows=5 if name == "MSMARCO" else 4)


def write_mmeb(root):
    mmeb_tables.write_pictures(root / "images")
    for name in ("NIGHTS", "CIRR", "VOC2007"):
        row = mmeb_tables.train_row("<|image_1|>\nq", "red.png", positive="blue.png")
        rows = [row] * (2 if name == "CIRR" else 1)
        mmeb_tables.write(root / "tables", name, "original", rows, mmeb_tables.TRAIN)


@pytest.mark.parametrize(
    "write, config, build, largest",
    [
        (write_m2kr, M2KRConfig, build_m2kr, "msmarco/test"),
        (write_mmeb, MMEBConfig, build_mmeb, "cirr/train"),
    ],
)
def test_collections_of_many_sets_are_sliced_by_sets(tmp_path, write, config, build, largest):
    write(tmp_path)
    folders = {"tables": str(tmp_path / "tables"), "images": str(tmp_path / "images"), "out": str(tmp_path / "out")}
    slices = [{one.name for one in build(config(slice=f"{number}/2", **folders))} for number in (1, 2)]
    # The largest are dealt out first, and each is built once.
    assert largest in slices[0] and not slices[0] & slices[1] and [len(one) for one in slices] == [2, 1]
    assert build(config(slice="9/9", **folders)) == []
    assert all(one.skipped for one in build(config(**folders)))


@pytest.mark.parametrize(
    "environ, wanted",
    [
        ({"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_MIN": "3", "SLURM_ARRAY_TASK_COUNT": "4"}, "3/4"),
        ({"SLURM_ARRAY_TASK_ID": "8", "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_COUNT": "5",
          "SLURM_ARRAY_TASK_STEP": "4"}, "3/5"),
        ({"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "6", "SLURM_PROCID": "5"}, "6/6"),
        ({"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_COUNT": "2",
          "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "3", "SLURM_PROCID": "1"}, "5/6"),
    ],
)  # fmt: skip
def test_slurm_says_which_slice(environ, wanted):
    assert str(Slice.of_slurm(environ)) == wanted


def test_slices_that_are_none_are_refused():
    for text in ("0/3", "4/3", "1", "a/b", "slurm"):
        with pytest.raises(ConfigError, match=r"want NUMBER/COUNT, from 1/COUNT to COUNT/COUNT \(3/16\), or slurm"):
            Slice.parse(text)
    with pytest.raises(ConfigError, match="neither a task of a job array nor one of srun"):
        Slice.of_slurm({"SLURM_JOB_ID": "1"})
    with pytest.raises(ConfigError, match=r"task 7 of an array of 2 tasks with gaps; .*--slice \$SLURM_ARRAY_TASK_ID"):
        Slice.of_slurm({"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "3", "SLURM_ARRAY_TASK_COUNT": "2"})


def test_the_command_line_takes_the_slice_from_slurm(table, whole, tmp_path, monkeypatch, capsys, caplog):
    caplog.set_level(logging.INFO)
    out = tmp_path / "out"
    command = ["data", "build", "table", "--file", str(table), "--image-column", "i", "--caption-columns", "c",
               "--piece-rows", "3", "--out", str(out), "--slice", "slurm"]  # fmt: skip
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
    monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", "0")
    for task in ("0", "1"):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", task)
        assert main(command) == 0
    assert built(out) == whole
    assert main(["data", "build", "karpathy", "--slice", "1/2", "--annotations", "a", "--images", "b"]) == 2
    assert "karpathy takes no --slice" in capsys.readouterr().err
