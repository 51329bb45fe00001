import json
import logging
import shutil
from collections import Counter

import pytest

from mmret.data import DataSpec, Row, Source, Table
from mmret.data.draw import draw
from mmret.data.sources.karpathy import KarpathyConfig, build_karpathy
from mmret.data.sources.karpathy.annotations import read_annotations
from mmret.errors import ConfigError, SampleError
from tests.karpathy_files import picture, rows, write_files


def build(folder, dataset="coco", images=None, **options):
    file, pictures = write_files(folder, dataset, images)
    return build_karpathy(KarpathyConfig(str(file), str(pictures), str(folder / "out"), **options))


def samples(folder, split, way):
    table = {"text_to_image": "images", "image_to_text": "captions"}[way]
    spec = DataSpec(
        "x",
        f"{split}_{way}.manifest.json",
        documents=f"{split}_{table}.arrow",
        images=f"{split}_images.arrow",
        file=str(folder / "out" / "x.yaml"),
    )
    source = Source(spec)
    return [source.example(row) for row in range(len(source))]


def test_train_holds_restval_and_each_caption_asks_for_its_picture(tmp_path):
    build(tmp_path)
    examples = samples(tmp_path, "train", "text_to_image")
    # Three pictures with 5, 6 and 5 captions.
    assert len(examples) == 16
    pictures = [row for row in rows() if row["split"] in ("train", "restval")]
    wanted = {(one["raw"].strip(), str(row["cocoid"])) for row in pictures for one in row["sentences"]}
    assert {(e.query.text, e.positives[0].id) for e in examples} == wanted
    ids = {str(one["sentid"]) for row in pictures for one in row["sentences"]}
    assert {e.meta["question_id"] for e in examples} == ids
    numbers = {e.positives[0].id: e.positives[0].images[0].data for e in examples}
    assert numbers == {"9": picture(0), "25": picture(1), "30": picture(2)}


def test_captions_of_one_training_picture_do_not_stand_together(tmp_path):
    build(tmp_path)
    order = [e.positives[0].id for e in samples(tmp_path, "train", "text_to_image")]
    assert order != sorted(order, key=["9", "25", "30"].index)
    before = (tmp_path / "out/train_text_to_image-000000.tar").read_bytes()
    build(tmp_path / "again")
    assert (tmp_path / "again/out/train_text_to_image-000000.tar").read_bytes() == before


def test_a_picture_asks_for_all_of_its_captions(tmp_path):
    build(tmp_path)
    first, second, _ = samples(tmp_path, "train", "image_to_text")
    assert [p.text for p in first.positives] == [f"Picture 9, said {turn}." for turn in range(5)]
    assert [p.id for p in second.positives] == [str(710 + turn) for turn in range(6)]
    assert first.query.text is None and first.query.images[0].data == picture(0)
    assert [e.meta["question_id"] for e in samples(tmp_path, "test", "image_to_text")] == ["49", "64", "73"]


def test_evaluation_splits_keep_the_order_of_the_file(tmp_path):
    build(tmp_path)
    assert [e.positives[0].id for e in samples(tmp_path, "val", "text_to_image")] == ["36"] * 5 + ["42"] * 5
    captions = Table.open(tmp_path / "out/val_captions.arrow")
    assert captions.row(7) == {"id": "742", "text": "Picture 42, said 2.", "image": None, "image_id": "42"}


def test_flickr30k_has_its_pictures_in_one_folder_and_imgid_for_a_name(tmp_path):
    built = build(tmp_path, "flickr30k")
    assert [one.name for one in built] == [
        f"flickr30k/{split}_{way}" for split in ("train", "val", "test") for way in ("text_to_image", "image_to_text")
    ]
    assert Table.open(tmp_path / "out/train_images.arrow").ids() == ["0", "1"]
    assert samples(tmp_path, "test", "text_to_image")[0].positives[0].images[0].data == picture(4)


def test_counts_say_what_was_kept(tmp_path):
    texts, images = build(tmp_path, splits=["train"])
    assert (texts.queries.kept, texts.documents.kept) == (16, 3)
    assert (images.queries.kept, images.documents.kept) == (3, 16)


def test_a_second_run_writes_nothing_and_one_after_a_loss_only_that(tmp_path):
    assert not any(one.skipped for one in build(tmp_path))
    out = tmp_path / "out"
    times = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    again = build(tmp_path)
    assert all(one.skipped for one in again) and again[0].queries.kept == 16
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == times
    (out / "val_image_to_text-000000.tar").unlink()
    assert [one.name for one in build(tmp_path) if not one.skipped] == ["coco/val_image_to_text"]
    assert (out / "train_images.arrow").stat().st_mtime_ns == times["train_images.arrow"]


def test_other_options_build_anew(tmp_path):
    build(tmp_path)
    assert not any(one.skipped for one in build(tmp_path, limit=1))
    assert len(samples(tmp_path, "test", "image_to_text")) == 1 and len(samples(tmp_path, "test", "text_to_image")) == 5


def test_a_missing_picture_stops_the_build_or_leaves_out_with_its_captions(tmp_path):
    file, pictures = write_files(tmp_path)
    (pictures / "val2014/COCO_val2014_000000000064.jpg").unlink()
    options = {"annotations": str(file), "images": str(pictures), "out": str(tmp_path / "out"), "splits": ["test"]}
    with pytest.raises(SampleError, match=r"coco/test: no picture 'val2014/COCO_val2014_000000000064.jpg' in .*--skip"):
        build_karpathy(KarpathyConfig(**options))
    texts, images = build_karpathy(KarpathyConfig(**options, skip_missing_images=True))
    assert (texts.queries.kept, images.queries.kept) == (10, 2)
    assert images.queries.left_out == {"picture missing or broken": 1}
    # The picture comes back: captions and samples must follow it.
    (pictures / "val2014/COCO_val2014_000000000064.jpg").write_bytes(picture(1))
    (tmp_path / "out/test_images.arrow").unlink()
    texts, _ = build_karpathy(KarpathyConfig(**options, skip_missing_images=True))
    assert texts.queries.kept == 15 and len(samples(tmp_path, "test", "text_to_image")) == 15


def test_another_folder_of_pictures_is_another_build(tmp_path):
    build(tmp_path)
    file, pictures = write_files(tmp_path, "coco", None)
    larger = shutil.copytree(pictures, tmp_path / "larger")
    data = picture(1) + bytes(100)
    (larger / "val2014/COCO_val2014_000000000064.jpg").write_bytes(data)
    config = KarpathyConfig(str(file), str(larger), str(tmp_path / "out"))
    assert [one.name for one in build_karpathy(config) if not one.skipped] == [
        "coco/test_text_to_image",
        "coco/test_image_to_text",
    ]
    found = {e.positives[0].id: e.positives[0].images[0].data for e in samples(tmp_path, "test", "text_to_image")}
    assert found["64"] == data


def test_empty_captions_and_pictures_without_any_are_left_out(tmp_path):
    images = rows()
    images[5]["sentences"][2]["raw"] = "  "
    images[6]["sentences"] = []
    texts, shown = build(tmp_path, images=images, splits=["test"])
    assert texts.queries.kept == 9 and texts.queries.left_out == {"caption is empty": 1}
    assert shown.queries.kept == 2 and shown.queries.left_out == {"no caption": 1}


def test_another_number_of_pictures_than_published_is_said(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        build(tmp_path, splits=["test"])
    assert "dataset_coco.json: 3 pictures in test, published: 5,000; results will not be comparable" in caplog.text


@pytest.mark.parametrize(
    "change, message",
    [
        ({"split": "dev"}, r"dataset_coco.json: images\[0\] .* is of split 'dev'; known: train, restval, val, test"),
        ({"sentences": None}, r"images\[0\] .* has no sentences"),
        ({"sentences": [{"raw": "x"}]}, r"sentences\[0\] lacks raw or sentid"),
        ({"filename": ""}, r"images\[0\] has no filename"),
        ({"cocoid": 25}, r"images\[1\] has id 25, as another picture"),
    ],
)
def test_a_broken_row_is_named(tmp_path, change, message):
    images = rows()
    images[0] |= change
    file = tmp_path / "dataset_coco.json"
    file.write_text(json.dumps({"images": images, "dataset": "coco"}))
    with pytest.raises(SampleError, match=message):
        read_annotations(file)


def test_what_is_no_split_file_is_refused(tmp_path):
    file = tmp_path / "captions.json"
    for text, message in (("{", "not JSON"), ("[]", "no Karpathy split file"), ('{"images": {}}', "no Karpathy split")):
        file.write_text(text)
        with pytest.raises(ConfigError, match=message):
            read_annotations(file)
    with pytest.raises(ConfigError, match=r"no such file.*dataset_flickr30k.json"):
        read_annotations(tmp_path / "gone.json")


def test_a_folder_without_any_of_the_pictures_is_refused_at_once(tmp_path):
    file, _ = write_files(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"not one of the first 3 pictures is there; looked for 'train2014/COCO"):
        build_karpathy(KarpathyConfig(str(file), str(tmp_path / "empty"), str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options, message",
    [({"splits": ["restval"]}, "no split 'restval'.*part of train"), ({"limit": 0}, "limit must be")],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        KarpathyConfig("a", "b", **options)


def test_the_shipped_specs_read_it_and_know_all_captions_of_a_picture_for_its_own(tmp_path, monkeypatch):
    build(tmp_path)
    monkeypatch.setenv("MMRET_COCO", str(tmp_path / "out"))
    texts, images = (DataSpec.load(f"coco/{way}").open() for way in ("text_to_image", "image_to_text"))
    rows = [draw(texts, Row("coco/text_to_image", 0, row, row), 1, seed=0) for row in range(len(texts))]
    assert all(row.document_numbers == row.positive_numbers for row in rows)
    assert sorted(Counter(row.document_numbers for row in rows).values()) == [5, 5, 6]
    rows = [draw(images, Row("coco/image_to_text", 0, row, row), 1, seed=0) for row in range(3)]
    assert [len(row.positive_numbers) for row in rows] == [5, 6, 5]
    assert all(row.document_numbers[0] in row.positive_numbers for row in rows)
    for way in ("text_to_image_val", "image_to_text_val"):
        assert len(DataSpec.load(f"coco/{way}").open()) == (10 if way.startswith("text") else 2)
