"""M2KR's published tables to shards: the odd cases, the start-up checks, restarts."""

import io
import json

import pyarrow as pa
import pytest
from PIL import Image

from mmret.data.draw import draw
from mmret.data.plan import Row
from mmret.data.sources.m2kr import M2KRConfig, build_m2kr, open_tables
from mmret.data.sources.m2kr.facts import as_printed, facts
from mmret.data.sources.m2kr.rows import as_list
from mmret.data.spec import DataSpec
from mmret.errors import ConfigError, SampleError
from mmret.evaluation.benchmark import Benchmark
from tests.m2kr_tables import (
    DATA_SCHEMAS,
    IMAGE_PLACES,
    PASSAGE_SCHEMAS,
    SPLITS,
    data_row,
    passage_row,
    picture,
    write_parquet,
    write_pictures,
    write_tables,
)


@pytest.fixture
def root(tmp_path):
    """Folders of tables and pictures."""
    write_pictures(tmp_path / "images")
    return tmp_path


def config(root, **changes):
    return M2KRConfig(str(root / "tables"), str(root / "out"), str(root / "images"), **changes)


def open_source(root, dataset, split):
    return DataSpec(
        f"m2kr/{dataset}",
        f"out/{dataset}/{split}.manifest.json",
        documents=f"out/{dataset}/{split}_passages.arrow",
        file=str(root / "spec.yaml"),
    ).open()


def examples(root, dataset, split):
    source = open_source(root, dataset, split)
    return [source.example(index) for index in range(len(source))]


def test_all_ten_datasets_and_all_their_splits_are_built_and_open(root):
    for name in DATA_SCHEMAS:
        write_tables(root / "tables", name)
    built = build_m2kr(config(root))
    assert {one.name for one in built} == {f"{name.lower()}/{split}" for name in SPLITS for split in SPLITS[name]}
    for name in SPLITS:
        for split in SPLITS[name]:
            rows = examples(root, name.lower(), split)
            assert [row.positives[0].id for row in rows] == [f"{name}_{number}" for number in range(4)]
            assert [row.positives[0].text for row in rows] == [f"Thing {n} is a {name} thing." for n in range(4)]
            assert [row.meta["question_id"] for row in rows] == [f"{name}_q{number}" for number in range(4)]
            assert {row.query.instruction for row in rows} == {"Find the document about this image:"}


def test_null_and_empty_questions_become_queries_without_text(root):
    for name in ("CC", "IGLUE"):
        write_tables(root / "tables", name)
    build_m2kr(config(root))
    for dataset, split in (("cc", "train"), ("iglue", "test")):
        assert all(row.query.text is None and row.query.images for row in examples(root, dataset, split))


def test_msmarco_needs_no_pictures_and_has_none(root):
    write_tables(root / "tables", "MSMARCO", ("test",))
    build_m2kr(M2KRConfig(str(root / "tables"), str(root / "out")))
    rows = examples(root, "msmarco", "test")
    assert all(row.query.images == () and row.query.text for row in rows)
    assert all("image_path" not in row.meta for row in rows)


def test_pictures_are_copied_byte_for_byte(root):
    for name in IMAGE_PLACES:
        write_tables(root / "tables", name, SPLITS[name][-1:])
    build_m2kr(config(root))
    for name in IMAGE_PLACES:
        rows = examples(root, name.lower(), SPLITS[name][-1])
        assert [row.query.images[0].data for row in rows] == [picture(number) for number in range(4)]


def test_infoseek_pictures_are_found_in_the_folders_that_its_paths_leave_out(root):
    write_tables(root / "tables", "Infoseek", ("test",))
    assert data_row("Infoseek", 0)["img_path"] == "oven_030000.jpg"
    build_m2kr(config(root))
    assert examples(root, "infoseek", "test")[3].query.images[0].data == picture(3)


def test_okvqa_rows_keep_answers_and_caption_and_leave_detected_objects_out(root):
    write_tables(root / "tables", "OKVQA", ("test",))
    build_m2kr(config(root))
    meta = examples(root, "okvqa", "test")[0].meta
    assert meta["answers"] == ["Thing 0 ", "a thing"]
    assert meta["img_caption"] == "a thing"
    assert meta["image_path"] == "val2014/COCO_val2014_0000.jpg"
    assert "objects" not in meta


def test_titles_of_passages_stay_beside_the_text(root):
    write_tables(root / "tables", "OKVQA", ("test",))
    build_m2kr(config(root))
    documents = open_source(root, "okvqa", "test").documents
    assert documents.get("OKVQA_2") | {"hash": 0} == {
        "id": "OKVQA_2",
        "text": "Thing 2 is a OKVQA thing.",
        "image": None,
        "title": "Thing 2",
        "hash": 0,
    }


@pytest.mark.parametrize(
    "value, expected",
    [
        (None, []),
        (["a", "b"], ["a", "b"]),
        (["a", None, 3], ["a", "3"]),
        ("['a', 'b']", ["a", "b"]),
        ('["a", "b"]', ["a", "b"]),
        ("[a note in brackets", ["[a note in brackets"]),
        ("single", ["single"]),
        ("", []),
    ],
)
def test_lists_may_come_as_strings(value, expected):
    assert as_list(value) == expected


def test_positives_stored_as_strings_are_read(root):
    schema = DATA_SCHEMAS["EVQA"] | {"pos_item_ids": pa.string(), "answers": pa.string()}
    rows = [data_row("EVQA", n) | {"pos_item_ids": f"['EVQA_{n}', 'EVQA_0']", "answers": "['x']"} for n in range(2)]
    write_tables(root / "tables", "EVQA", ("test",))
    write_parquet(root / "tables/EVQA_data/test-00000-of-00001.parquet", rows, schema)
    build_m2kr(config(root))
    second = examples(root, "evqa", "test")[1]
    assert [document.id for document in second.positives] == ["EVQA_1", "EVQA_0"]
    assert second.meta["answers"] == ["x"]


def test_rows_without_a_known_positive_are_left_out_and_counted(root, caplog):
    write_tables(root / "tables", "KVQA", ("test",))
    rows = [data_row("KVQA", n) for n in range(4)]
    rows[1]["pos_item_ids"], rows[2]["pos_item_ids"] = [], ["elsewhere"]
    write_parquet(root / "tables/KVQA_data/test-00000-of-00001.parquet", rows, DATA_SCHEMAS["KVQA"])
    (built,) = build_m2kr(config(root))
    assert built.queries.left_out == {
        "its pos_item_ids is empty": 1,
        "none of its pos_item_ids is a passage": 1,
    }
    assert (built.queries.rows, built.queries.kept, len(examples(root, "kvqa", "test"))) == (4, 2, 2)
    assert "question_id KVQA_q1" in caplog.text


def test_a_passage_that_stands_twice_is_taken_once(root):
    write_tables(root / "tables", "EVQA", ("test",))
    rows = [passage_row("EVQA", n) for n in (0, 1, 2, 3, 1)]
    write_parquet(root / "tables/EVQA_passages/test_passages-00000-of-00001.parquet", rows, PASSAGE_SCHEMAS["EVQA"])
    (built,) = build_m2kr(config(root))
    assert (built.documents.rows, built.documents.kept) == (5, 4)


@pytest.mark.parametrize(
    "move",
    [
        ("EVQA_data/test-00000-of-00001.parquet", "EVQA_data/test/0000.parquet"),
        ("EVQA_data/test-00000-of-00001.parquet", "EVQA_data/data/test-00000-of-00001.parquet"),
        ("EVQA_data/test-00000-of-00001.parquet", "data/EVQA_data/test-00000-of-00001.parquet"),
        ("EVQA_data/test-00000-of-00001.parquet", "EVQA_data/test.parquet"),
    ],
)
def test_tables_are_found_in_the_hubs_other_layouts(root, move):
    write_tables(root / "tables", "EVQA", ("test",))
    old, new = (root / "tables" / path for path in move)
    new.parent.mkdir(parents=True, exist_ok=True)
    old.rename(new)
    (built,) = build_m2kr(config(root))
    assert built.queries.kept == 4


def test_limit_takes_the_first_rows_and_passages_that_answer_them(root):
    write_tables(root / "tables", "EVQA", ("test",), rows=6)
    rows = [data_row("EVQA", n) | {"pos_item_ids": ["EVQA_5"]} for n in range(6)]
    write_parquet(root / "tables/EVQA_data/test-00000-of-00001.parquet", rows, DATA_SCHEMAS["EVQA"])
    (built,) = build_m2kr(config(root, limit=2))
    assert built.queries.kept == 2
    assert open_source(root, "evqa", "test").documents.ids() == ["EVQA_0", "EVQA_1", "EVQA_5"]


def test_a_sample_is_drawn_at_random_and_always_the_same(root):
    write_tables(root / "tables", "EVQA", ("test",), rows=4, parts=3)
    drawn = []
    for out in ("a", "b"):
        settings = M2KRConfig(str(root / "tables"), str(root / out), str(root / "images"), sample=5)
        build_m2kr(settings)
        source = DataSpec(
            "x",
            f"{out}/evqa/test.manifest.json",
            documents=f"{out}/evqa/test_passages.arrow",
            file=str(root / "s.yaml"),
        ).open()
        drawn.append([source.example(index).meta["question_id"] for index in range(len(source))])
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 5 and drawn[0] != [f"EVQA_q{n}" for n in range(5)]


def test_instructions_are_left_out_of_train_where_the_spec_has_templates_to_draw(root):
    for name in ("EVQA", "KVQA"):
        write_tables(root / "tables", name, ("train", "test"))
    build_m2kr(config(root, draw_instructions=True))
    instructed = {
        (name, split): all(row.query.instruction for row in examples(root, name, split))
        for name in ("evqa", "kvqa")
        for split in ("train", "test")
    }
    assert instructed == {
        ("evqa", "train"): False,
        ("evqa", "test"): True,
        ("kvqa", "train"): True,
        ("kvqa", "test"): True,
    }


def test_shipped_specs_and_benchmarks_open_what_was_built(root, monkeypatch):
    for name in DATA_SCHEMAS:
        write_tables(root / "tables", name)
    build_m2kr(config(root))
    monkeypatch.setenv("MMRET_M2KR", str(root / "out"))
    for name, dataset in facts().datasets.items():
        for split in set(SPLITS[name]) - {"test"}:
            source = DataSpec.load(f"m2kr/{dataset.folder}{'_valid' if split == 'valid' else ''}").open()
            assert len([source.example(index) for index in range(len(source))]) == 4
        if "test" in SPLITS[name]:
            queries = Benchmark.load(f"m2kr/{dataset.folder}").split("test").queries
            assert [query.id for query in queries] == [f"{name}_q{number}" for number in range(4)]
            assert [query.relevant for query in queries] == [(number,) for number in range(4)]


def test_shipped_specs_open_rows_without_instruction_and_draw_one_for_each(root, monkeypatch):
    for name in ("CC", "OKVQA"):
        write_tables(root / "tables", name, ("train",))
    build_m2kr(config(root, draw_instructions=True))
    monkeypatch.setenv("MMRET_M2KR", str(root / "out"))
    for name in ("cc", "okvqa"):
        source = DataSpec.load(f"m2kr/{name}").open()
        drawn = [
            draw(source, Row(source.name, 0, index, index), 2, seed=0).query.instruction for index in range(len(source))
        ]
        assert set(drawn) <= set(source.spec.instructions)
        assert {source.example(index).query.instruction for index in range(len(source))} == {None}


def test_specs_with_templates_are_those_that_the_builder_believes_to_have_them():
    for dataset in facts().datasets.values():
        if "train" in dataset.rows:
            assert bool(DataSpec.load(f"m2kr/{dataset.folder}").instructions) == dataset.templates


def test_large_pictures_are_scaled_down_and_small_ones_stay_as_they_are(root):
    write_tables(root / "tables", "EVQA", ("test",))
    large = picture(7, (400, 300))
    (root / "images/EVQA/inat/train/0001.jpg").write_bytes(large)
    build_m2kr(config(root, max_side=100))
    first, second, *_ = examples(root, "evqa", "test")
    assert first.query.images[0].data == picture(0)
    assert Image.open(io.BytesIO(second.query.images[0].data)).size == (100, 75)


def test_a_picture_that_is_missing_stops_the_build_and_is_named(root):
    write_tables(root / "tables", "EVQA", ("test",))
    (root / "images/EVQA/inat/train/0002.jpg").unlink()
    with pytest.raises(SampleError, match=r"EVQA_data/test row 2 .*EVQA_q2.*inat/train/0002\.jpg.*skip-missing"):
        build_m2kr(config(root))
    (built,) = build_m2kr(config(root, skip_missing_images=True))
    assert built.queries.left_out == {"picture missing or broken": 1}
    assert [row.meta["question_id"] for row in examples(root, "evqa", "test")] == ["EVQA_q0", "EVQA_q1", "EVQA_q3"]


def test_a_wrong_picture_folder_is_refused_before_anything_is_built(root):
    write_tables(root / "tables", "EVQA", ("test",))
    settings = M2KRConfig(str(root / "tables"), str(root / "out"), str(root / "elsewhere"))
    with pytest.raises(ConfigError, match=r"not one of the first 4 pictures.*inat/train/0000\.jpg"):
        build_m2kr(settings)
    assert not (root / "out").exists()


def test_a_path_that_climbs_out_of_the_folder_is_refused(root):
    write_tables(root / "tables", "EVQA", ("test",))
    rows = [data_row("EVQA", n) for n in range(2)]
    rows[1]["img_path"] = "../../secret.jpg"
    write_parquet(root / "tables/EVQA_data/test-00000-of-00001.parquet", rows, DATA_SCHEMAS["EVQA"])
    with pytest.raises(SampleError, match="secret"):
        build_m2kr(config(root))


# Restart ------------------------------------------------------------------------------------------------------------


def test_what_is_finished_is_not_built_again(root):
    write_tables(root / "tables", "EVQA", ("test",))
    (first,) = build_m2kr(config(root))
    before = {path: path.stat().st_mtime_ns for path in (root / "out/evqa").iterdir()}
    (second,) = build_m2kr(config(root))
    assert (first.skipped, second.skipped) == (False, True)
    assert second.queries == first.queries
    assert before == {path: path.stat().st_mtime_ns for path in (root / "out/evqa").iterdir()}


def test_a_build_that_was_stopped_goes_on_with_the_next_part(root):
    # Not among the first 50, by which a folder of pictures is told from others.
    write_tables(root / "tables", "EVQA", ("train",), rows=20, parts=3)
    write_pictures(root / "images", ["EVQA"], 60)
    bad = root / "images/EVQA/inat/train/0055.jpg"
    bad.rename(bad.with_suffix(".away"))
    with pytest.raises(SampleError, match="EVQA_q55"):
        build_m2kr(config(root))
    done = root / "out/evqa/train-00000-000000.tar"
    written = done.stat().st_mtime_ns
    assert not (root / "out/evqa/train.manifest.json").exists()
    bad.with_suffix(".away").rename(bad)
    build_m2kr(config(root))
    assert done.stat().st_mtime_ns == written
    assert [row.meta["question_id"] for row in examples(root, "evqa", "train")] == [f"EVQA_q{n}" for n in range(60)]
    assert not list((root / "out/evqa").glob("*-00000.*json"))


def test_another_folder_of_pictures_is_another_build(root):
    write_tables(root / "tables", "EVQA", ("test",))
    build_m2kr(config(root))
    file = root / "images/EVQA/inat/train/0002.jpg"
    file.write_bytes(file.read_bytes() + bytes(100))
    (built,) = build_m2kr(config(root))
    assert not built.skipped and examples(root, "evqa", "test")[2].query.images[0].data == file.read_bytes()


def test_other_settings_build_anew(root):
    write_tables(root / "tables", "EVQA", ("test",))
    build_m2kr(config(root))
    (built,) = build_m2kr(config(root, limit=2))
    assert not built.skipped and len(examples(root, "evqa", "test")) == 2


def test_a_shard_that_was_removed_is_built_again(root):
    write_tables(root / "tables", "EVQA", ("test",))
    build_m2kr(config(root))
    (root / "out/evqa/test-00000-000000.tar").unlink()
    (built,) = build_m2kr(config(root))
    assert not built.skipped and len(examples(root, "evqa", "test")) == 4


# Start-up checks ----------------------------------------------------------------------------------------------------


def findings(root, datasets, splits=()):
    return [(finding.level, finding.text) for finding in open_tables(root / "tables", datasets, list(splits))[1]]


def test_row_counts_other_than_published_are_a_warning_with_both_figures(root):
    write_tables(root / "tables", "EVQA", ("train",))
    data, passages = findings(root, ["evqa"], ["train"])
    assert data[0] == passages[0] == "warning"
    assert "EVQA_data/train: 4 rows, published: 167,369 (dataset card), 212K (docs)" in data[1]
    assert "EVQA_passages/train_passages: 4 rows, published: 50,205" in passages[1]


def test_published_row_counts_pass_in_silence(root, monkeypatch):
    write_tables(root / "tables", "IGLUE", rows=4)
    rows = [data_row("IGLUE", n) for n in range(685)]
    write_parquet(root / "tables/IGLUE_data/test-00000-of-00001.parquet", rows, DATA_SCHEMAS["IGLUE"])
    rows = [passage_row("IGLUE", n) for n in range(1000)]
    write_parquet(root / "tables/IGLUE_passages/test_passages-00000-of-00001.parquet", rows, PASSAGE_SCHEMAS["IGLUE"])
    assert findings(root, ["iglue"]) == []


def test_oven_of_before_june_2024_is_told_by_its_size(root, monkeypatch):
    write_tables(root / "tables", "OVEN", ("test",))
    file = root / "tables/OVEN_data/test-00000-of-00001.parquet"
    file.write_bytes(_padded(file.read_bytes(), 280_035))
    with pytest.raises(ConfigError, match=r"280,035 bytes.*before June 2024.*0\.315.*download OVEN_data(.|\n)*--force"):
        build_m2kr(config(root))
    (built,) = build_m2kr(config(root, force=True))
    assert built.queries.kept == 4


def test_oven_of_before_june_2024_is_told_by_its_validation_rows(root):
    write_tables(root / "tables", "OVEN", ("valid",))
    rows = [data_row("OVEN", 0)] * 20_000
    write_parquet_quickly(root / "tables/OVEN_data/valid-00000-of-00001.parquet", rows, DATA_SCHEMAS["OVEN"])
    errors = [text for level, text in findings(root, ["oven"]) if level == "error"]
    assert len(errors) == 1 and "OVEN_data/valid: 20,000 rows: the tables from before June 2024" in errors[0]


def test_infoseek_with_the_instruction_inside_the_question_is_told(root):
    write_tables(root / "tables", "Infoseek", ("test",))
    rows = [data_row("Infoseek", n) for n in range(4)]
    for row in rows:
        row["question"] = f"Using the given image, access documents about the following question: {row['question']}"
    write_parquet(root / "tables/Infoseek_data/test-00000-of-00001.parquet", rows, DATA_SCHEMAS["Infoseek"])
    with pytest.raises(ConfigError, match=r"4 of the first 4 questions begin with an instruction.*before May 2024"):
        build_m2kr(config(root))


def test_a_download_that_was_cut_off_is_told_by_the_numbers_in_its_file_names(root):
    write_tables(root / "tables", "WIT", ("train",), parts=3)
    (root / "tables/WIT_data/train-00001-of-00003.parquet").unlink()
    with pytest.raises(ConfigError, match=r"WIT_data/train: files number 1 are missing"):
        build_m2kr(config(root))


def test_a_git_lfs_pointer_is_told(root):
    write_tables(root / "tables", "EVQA", ("test",))
    (root / "tables/EVQA_data/test-00000-of-00001.parquet").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ConfigError, match="git lfs pull"):
        build_m2kr(config(root))


def test_passages_that_are_not_there_are_named(root):
    write_tables(root / "tables", "EVQA", ("test",))
    (root / "tables/EVQA_passages/test_passages-00000-of-00001.parquet").unlink()
    with pytest.raises(ConfigError, match="download EVQA_passages"):
        build_m2kr(config(root))


def test_a_table_without_a_needed_column_is_refused(root):
    write_tables(root / "tables", "EVQA", ("test",))
    schema = {name: kind for name, kind in DATA_SCHEMAS["EVQA"].items() if name != "pos_item_ids"}
    rows = [{name: value for name, value in data_row("EVQA", 0).items() if name in schema}]
    write_parquet(root / "tables/EVQA_data/test-00000-of-00001.parquet", rows, schema)
    with pytest.raises(ConfigError, match="EVQA_data/test lacks the column pos_item_ids"):
        build_m2kr(config(root))


def test_an_unknown_dataset_or_split_gets_the_nearest_name(root):
    with pytest.raises(ConfigError, match=r"no dataset 'okvq'.*Did you mean okvqa"):
        build_m2kr(config(root, datasets=["okvq"]))
    with pytest.raises(ConfigError, match="no split 'val'"):
        config(root, splits=["val"])
    with pytest.raises(ConfigError, match="CC has no split test; published: train"):
        build_m2kr(config(root, datasets=["cc"], splits=["test"]))
    with pytest.raises(ConfigError, match="no M2KR table here"):
        build_m2kr(config(root))


@pytest.mark.parametrize(
    "count, figure, same",
    [
        (5120, "5,120", True),
        (5121, "5,120", False),
        (2_810_679, "2.8M", True),
        (2_950_000, "2.8M", False),
        (16_215, "16.3K", True),
        (39_478, "40K", True),
    ],
)
def test_rounded_figures_are_compared_as_printed(count, figure, same):
    assert as_printed(count, figure) is same


def test_the_published_figures_cover_the_whole_card():
    assert {name: set(dataset.rows) for name, dataset in facts().datasets.items()} == {
        name: set(splits) for name, splits in SPLITS.items()
    }
    assert all(set(dataset.rows) == set(dataset.passages) for dataset in facts().datasets.values())


def test_the_build_record_says_from_what_a_split_was_made(root):
    write_tables(root / "tables", "EVQA", ("test",))
    build_m2kr(config(root))
    record = json.loads((root / "out/evqa/test.build.json").read_text())
    assert [file[0] for file in record["made_from"]["files"]] == [
        "test-00000-of-00001.parquet",
        "test_passages-00000-of-00001.parquet",
    ]
    assert record["counts"]["kept"] == 4


def write_parquet_quickly(path, rows, schema):
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows, pa.schema(schema)), path)


def _padded(data, size):
    """The same table with zeros before its footer, which a reader never looks at."""
    footer = int.from_bytes(data[-8:-4], "little") + 8
    return data[:-footer] + b"\0" * (size - len(data)) + data[-footer:]
