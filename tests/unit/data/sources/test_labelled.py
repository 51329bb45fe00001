"""VQAv2, NLVR2 and class folders in their official layout, a few rows each."""

import io
import json
import logging
import shutil

import pytest
from PIL import Image

from mmret.cli import main
from mmret.data import Classes, DataSpec
from mmret.data.sources.labelled import (
    ClassFolderConfig,
    NLVR2Config,
    VQAv2Config,
    build_class_folder,
    build_nlvr2,
    build_vqav2,
)
from mmret.data.sources.labelled.vqa_answers import frequent_answers, normalize_vqa_answer, soft_scores
from mmret.errors import ConfigError, SampleError


def picture(number):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), (number, 2 * number, 255 - number)).save(buffer, "JPEG")
    return buffer.getvalue()


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())


def opened(folder, split, images=True):
    tables = {"images": f"{split}_images.arrow"} if images else {}
    source = DataSpec(
        split, f"{split}.manifest.json", classes="classes.txt", file=str(folder / "x.yaml"), **tables
    ).open()
    rows = [source.parse(row) for row in range(len(source))]
    return source, rows


# --- VQAv2: pictures 1 and 2 of train, 3 of val, 4 of test; answers of ten people ---

TRAIN = {11: (1, "What is it?", ["Cat"] * 7 + ["a cat", "kitten", "dog"]), 12: (1, "How many?", ["two"] * 10),
         13: (2, "What else?", ["rug"] * 10)}  # fmt: skip
VAL = {21: (3, "A cat?", ["the cat"] * 2 + ["cat."] + ["2"] * 5 + ["no", "no"]), 22: (3, "Why?", ["because"] * 10)}
TEST = {31: (4, "Who?", None)}


@pytest.fixture
def vqa(tmp_path):
    """Folder of the annotations, folder of the pictures, output folder."""
    notes, images = tmp_path / "vqa" / "notes", tmp_path / "vqa" / "images"
    parts = {"train2014": (TRAIN, "train2014"), "val2014": (VAL, "val2014"), "test2015": (TEST, "test2015")}
    for name, (rows, folder) in parts.items():
        questions = [{"question_id": id, "image_id": row[0], "question": row[1]} for id, row in rows.items()]
        write(notes / f"v2_OpenEnded_mscoco_{name}_questions.json", {"questions": questions})
        said = [
            {
                "question_id": id,
                "image_id": image,
                "answer_type": "other",
                "question_type": "what",
                "multiple_choice_answer": max(answers, key=answers.count),
                "answers": [{"answer": answer, "answer_id": n} for n, answer in enumerate(answers, 1)],
            }
            for id, (image, _, answers) in reversed(rows.items())
            if answers
        ]
        if said:
            write(notes / f"v2_mscoco_{name}_annotations.json", {"annotations": said})
        for image in {row[0] for row in rows.values()}:
            write(images / folder / f"COCO_{folder}_{image:012d}.jpg", picture(image))
    return notes, images, tmp_path / "vqa" / "out"


def build(vqa, **options):
    notes, images, out = vqa
    return build_vqav2(VQAv2Config(str(notes), str(images), str(out), **{"min_answers": 1, **options}))


def test_vqa_answers_become_classes_with_soft_scores(vqa):
    built = build(vqa)
    assert [one.name for one in built] == ["vqav2/train", "vqav2/val", "vqav2/test"]
    # Most common answers, train's then val's, in the order of the annotation files (which are reversed here).
    assert Classes.load(vqa[2] / "classes.txt").names == ("rug", "2", "cat", "because")
    source, rows = opened(vqa[2], "train")
    assert [row.meta["labels"] for row in rows] == [{"cat": 1.0}, {"2": 1.0}, {"rug": 1.0}]  # kitten, dog: no classes
    assert [row.query.text for row in rows] == ["What is it?", "How many?", "What else?"]
    assert [row.query.images[0].data for row in rows] == [picture(1), picture(1), picture(2)]
    _, (cat, why) = opened(vqa[2], "val")
    assert cat.meta["labels"] == {"cat": 0.9, "2": 1.0}  # "no" was nobody's most common answer
    assert why.meta | {"labels": None} == {"labels": None, "question_id": 22, "answer_type": "other",
                                           "question_type": "what"}  # fmt: skip
    assert source.target(rows[1]).number == 1
    _, (asked,) = opened(vqa[2], "test")
    assert asked.meta == {"question_id": 31} and asked.query.images[0].data == picture(4)


def test_training_rows_without_a_known_answer_are_left_out_and_validation_keeps_them(vqa, caplog):
    notes = vqa[0]
    for name in ("train2014", "val2014"):  # "cat" becomes a class; nothing else is said twice
        path = notes / f"v2_mscoco_{name}_annotations.json"
        table = json.loads(path.read_text())
        table["annotations"] += [{**table["annotations"][-1], "question_id": 90 + i} for i in range(2)]
        write(path, table)
    with caplog.at_level(logging.INFO):
        train, val, _ = build(vqa, min_answers=2)
    assert Classes.load(vqa[2] / "classes.txt").names == ("2", "cat")
    assert train.queries.left_out == {"no answer among the classes": 1} and train.queries.kept == 2
    assert val.queries.kept == 2 and opened(vqa[2], "val")[1][1].meta["labels"] == {}


def test_an_unlike_vocabulary_is_told(vqa, caplog):
    with pytest.raises(ConfigError, match="0 answers occur 9 times or more; lower min_answers"):
        build(vqa, min_answers=9)
    assert "0 answers, the published files give 3129" in caplog.text


def test_a_second_build_does_only_what_is_missing(vqa):
    build(vqa, splits=["val"])
    assert [one.skipped for one in build(vqa)] == [False, True, False]
    before = (vqa[2] / "train-000000.tar").stat().st_mtime_ns
    (vqa[2] / "val-000000.tar").unlink()
    assert [one.skipped for one in build(vqa)] == [True, False, True]
    assert (vqa[2] / "train-000000.tar").stat().st_mtime_ns == before
    assert [one.skipped for one in build(vqa, limit=1)] == [False] * 3
    assert len(opened(vqa[2], "train")[1]) == 1


def test_another_folder_of_pictures_is_another_build(vqa, tmp_path):
    build(vqa)
    notes, images, out = vqa
    larger = shutil.copytree(images, tmp_path / "larger")
    assert all(one.skipped for one in build((notes, larger, out)))
    write(larger / "val2014" / f"COCO_val2014_{3:012d}.jpg", picture(3) + bytes(100))
    assert [one.skipped for one in build((notes, larger, out))] == [True, False, True]
    assert opened(out, "val")[1][0].query.images[0].data == picture(3) + bytes(100)


def test_a_missing_picture_stops_the_build_or_leaves_its_questions_out(vqa):
    (vqa[1] / "train2014" / f"COCO_train2014_{1:012d}.jpg").unlink()
    with pytest.raises(SampleError, match=r"no picture 'train2014/COCO_train2014_000000000001.jpg'.*--skip-missing-im"):
        build(vqa)
    train = build(vqa, skip_missing_images=True)[0]
    assert (train.queries.kept, train.queries.left_out) == (1, {"picture missing or broken": 2})
    with pytest.raises(ConfigError, match="not one of the first 1 pictures is there; looked for 'test2015/COCO"):
        (vqa[1] / "test2015" / f"COCO_test2015_{4:012d}.jpg").unlink()
        build(vqa, skip_missing_images=True)


def test_vqa_files_that_are_missing_or_others_are_named(vqa, tmp_path):
    notes = vqa[0]
    with pytest.raises(ConfigError, match=r"no v2_OpenEnded_mscoco_train2014_questions.json nor questions of another"):
        build((tmp_path, vqa[1], vqa[2]))
    with pytest.raises(ConfigError, match=r"test-dev2015_questions.json: no such file; the classes are made from"):
        build(vqa, splits=["test_dev"])
    with pytest.raises(ConfigError, match="no split 'dev'; known: train, val, test_dev, test"):
        build(vqa, splits=["dev"])
    annotations = notes / "v2_mscoco_val2014_annotations.json"
    table = json.loads(annotations.read_text())
    write(annotations, {"annotations": table["annotations"][:1]})
    with pytest.raises(SampleError, match=r"question 21 has no annotation in v2_mscoco_val2014_annotations.json"):
        build(vqa)
    write(annotations, [])
    with pytest.raises(ConfigError, match=r"annotations.json: not a file of VQA annotations"):
        build(vqa)


@pytest.mark.parametrize(
    "answer, wanted",
    [
        ("The Cat", "cat"),
        ("two", "2"),
        ("none", "0"),
        ("1,000", "1000"),
        ("3.5 m.", "3.5 m"),
        ("T-shirt", "t shirt"),
        ("yes !", "yes"),
        ("its 10:30?", "its 10:30"),
        ("dont know", "don't know"),
        ("couldnt've", "couldn't've"),
        ("black/white, red", "black white red"),
        ("\n a\tdog ", "dog"),
        ("an", ""),
    ],
)
def test_answers_are_compared_as_the_official_evaluation_does(answer, wanted):
    assert normalize_vqa_answer(answer) == wanted


def test_scores_follow_how_many_of_ten_agree():
    answers = ["yes"] * 4 + ["Yes "] + ["no"] * 2 + ["no.", "maybe", "the"]
    assert soft_scores(answers) == {"yes": 1.0, "no": 0.9, "maybe": 0.3, "a": 0.3}
    # VQA's own rule: the mean over each choice of nine people of min(1, matches / 3).
    for matches in range(11):
        left = [min(1, (matches - (person < matches)) / 3) for person in range(10)]
        assert soft_scores(["x"] * matches + [f"y{n}" for n in range(10 - matches)]).get("x", 0) == pytest.approx(
            sum(left) / 10
        )


def test_classes_are_the_frequent_answers_in_order_of_first_use():
    assert frequent_answers(["x", "dog", "cat", "a dog", "a", "cat", "the", "x"], 2) == ["x", "dog", "cat", "a"]


# --- NLVR2 ---


@pytest.fixture
def nlvr2(tmp_path):
    notes, images = tmp_path / "notes", tmp_path / "images"
    rows = {
        "train": [("train-7-0-0", "True", {"directory": 3}), ("train-7-0-1", "False", {"directory": 3})],
        "dev": [("dev-1-2-0", "false", {})],
    }
    for split, lines in rows.items():
        text = [json.dumps({"identifier": i, "sentence": f"Said {i}.", "label": at, **more}) for i, at, more in lines]
        write(notes / f"{split}.json", "\n".join(text).encode())
    for number, name in enumerate(("train/3/train-7-0-img0", "train/3/train-7-0-img1", "dev/dev-1-2-img0",
                                   "dev/dev-1-2-img1")):  # fmt: skip
        write(images / "images" / f"{name}.png", picture(number))
    return NLVR2Config(str(notes), str(images), str(tmp_path / "out")), tmp_path / "out"


def test_nlvr2_rows_have_both_pictures_left_first(nlvr2):
    config, out = nlvr2
    assert [one.name for one in build_nlvr2(config)] == ["nlvr2/train", "nlvr2/dev"]
    assert Classes.load(out / "classes.txt").names == ("False", "True")
    source, rows = opened(out, "train")
    assert [[image.data for image in row.query.images] for row in rows] == [[picture(0), picture(1)]] * 2
    assert [row.query.text for row in rows] == ["Said train-7-0-0.", "Said train-7-0-1."]
    assert [source.target(row).number for row in rows] == [1, 0]
    source, (row,) = opened(out, "dev")
    assert (source.target(row).number, row.meta["question_id"]) == (0, "dev-1-2-0")


def test_nlvr2_rows_that_are_broken_are_named(nlvr2, tmp_path):
    config, _ = nlvr2
    dev = tmp_path / "notes" / "dev.json"
    for text, message in (
        ('{"identifier": "dev-1-2-0"}', r"dev.json:1: no row of NLVR2; want an object with identifier and sentence"),
        ("{", r"dev.json:1: no JSON"),
        ('{"identifier": "dev-1-2-0", "sentence": "s", "label": "maybe"}', "label is 'Maybe'; want False or True"),
    ):
        dev.write_text(text)
        with pytest.raises(SampleError, match=message):
            build_nlvr2(config)
    with pytest.raises(ConfigError, match=r"neither of train.json, dev.json, test1.json"):
        build_nlvr2(NLVR2Config(str(tmp_path), config.images))


# --- folders of classes ---


@pytest.fixture
def folders(tmp_path):
    root = tmp_path / "pictures"
    for number, name in enumerate(("train/n02/a.JPEG", "train/n02/b.JPEG", "train/n01/c.JPEG", "train/n03/d.png",
                                   "val/n03/e.JPEG", "val/n01/f.JPEG")):  # fmt: skip
        write(root / name, picture(number))
    write(root / "train/n02/notes.txt", b"no picture")
    return root, tmp_path / "imagenet"


def test_classes_are_numbered_by_the_sorted_folders_of_all_splits(folders):
    root, out = folders
    (val,) = build_class_folder(ClassFolderConfig(str(root), out=str(out), splits=["val"]))
    assert (val.name, val.queries.kept) == ("imagenet/val", 2)
    assert Classes.load(out / "classes.txt").names == ("n01", "n02", "n03")
    source, rows = opened(out, "val", images=False)
    assert {(row.meta["file"], source.target(row).number) for row in rows} == {("e.JPEG", 2), ("f.JPEG", 0)}
    assert {row.query.images[0].data for row in rows} == {picture(4), picture(5)} and rows[0].query.text is None
    again = build_class_folder(ClassFolderConfig(str(root), out=str(out)))
    assert [(one.name, one.skipped, one.queries.kept) for one in again] == [
        ("imagenet/train", False, 4),
        ("imagenet/val", True, 2),
    ]


def test_class_names_come_from_a_file_and_twins_keep_their_folder(folders, tmp_path):
    root, out = folders
    names = tmp_path / "names.txt"
    names.write_text("n01 crane\nn02 hot dog, sausage\nn03 crane\nn99 unused\n")
    build_class_folder(ClassFolderConfig(str(root), str(names), str(out)))
    assert Classes.load(out / "classes.txt").names == ("crane (n01)", "hot dog, sausage", "crane (n03)")
    names.write_text("n01 crane\n")
    with pytest.raises(ConfigError, match=r"names.txt: no name for class n02 \(2 of 3 classes\)"):
        build_class_folder(ClassFolderConfig(str(root), str(names), str(out)))


def test_folders_of_another_layout_are_refused(folders, tmp_path):
    root, out = folders
    write(root / "flat" / "x.JPEG", picture(9))
    with pytest.raises(ConfigError, match="flat: no class folders in it; pictures must be sorted"):
        build_class_folder(ClassFolderConfig(str(root), out=str(out), splits=["flat"]))
    with pytest.raises(ConfigError, match="test: no such folder; splits here: flat, train, val"):
        build_class_folder(ClassFolderConfig(str(root), out=str(out), splits=["test"]))
    with pytest.raises(ConfigError, match="no folder of splits; want train/<class>"):
        build_class_folder(ClassFolderConfig(str(tmp_path / "none"), out=str(out)))
    write(root / "train/n01/bad.png", b"")
    with pytest.raises(SampleError, match=r"bad.png: the image is empty.*--skip-missing-images"):
        build_class_folder(ClassFolderConfig(str(root), out=str(out), splits=["train"]))
    options = {"splits": ["train"], "skip_missing_images": True}
    (train,) = build_class_folder(ClassFolderConfig(str(root), out=str(out), **options))
    assert (train.queries.kept, train.queries.left_out) == (4, {"picture broken": 1})


def test_the_command_line_builds_what_the_shipped_specs_read(vqa, nlvr2, folders, monkeypatch, capsys):
    notes, images, out = map(str, vqa)
    assert main(["data", "build", "vqav2", "--annotations", notes, "--images", images, "--out", out,
                 "--min-answers", "1"]) == 0  # fmt: skip
    assert f"export MMRET_VQAV2={out}" in capsys.readouterr().err.replace("\n", "")
    config, _ = nlvr2
    assert main(["data", "build", "nlvr2", "--annotations", config.annotations, "--images", config.images,
                 "--out", config.out]) == 0  # fmt: skip
    assert main(["data", "build", "image_folder", "--images", str(folders[0]), "--out", str(folders[1])]) == 0
    for name, folder in (("VQAV2", out), ("NLVR2", config.out), ("IMAGENET", str(folders[1]))):
        monkeypatch.setenv(f"MMRET_{name}", folder)
    for name in ("vqav2/train", "vqav2/val", "nlvr2/train", "nlvr2/dev", "imagenet/train", "imagenet/val"):
        source = DataSpec.load(name).open()
        assert source.target(source.parse(0)) is not None and source.parse(0).query.images


def test_class_folders_with_other_pictures_of_the_same_number_are_built_again(tmp_path):
    root = tmp_path / "inet"
    for number, name in enumerate(("a/1.jpg", "a/2.jpg", "b/1.jpg")):
        write(root / "train" / name, picture(number))

    def built():
        (one,) = build_class_folder(ClassFolderConfig(str(root), out=str(tmp_path / "inet_out")))
        _, rows = opened(tmp_path / "inet_out", "train", images=False)
        return one.skipped, sorted((row.meta["file"], row.meta["label"]) for row in rows)

    assert built()[0] is False and built()[0] is True
    (root / "train/a/2.jpg").rename(root / "train/b/2.jpg")
    assert built() == (False, [("1.jpg", 0), ("1.jpg", 1), ("2.jpg", 1)])


def test_a_file_that_is_no_picture_is_not_put_into_a_shard(tmp_path):
    for name in ("a/1.jpg", "b/1.jpg"):
        write(tmp_path / "inet/train" / name, picture(1))
    write(tmp_path / "inet/train/b/2.jpg", b"<html>not found</html>")
    options = ClassFolderConfig(str(tmp_path / "inet"), out=str(tmp_path / "out"))
    with pytest.raises(SampleError, match=r"b/2.jpg: 22 bytes do not decode .*--skip-missing-images"):
        build_class_folder(options)
    options.skip_missing_images = True
    assert build_class_folder(options)[0].queries.left_out == {"picture broken": 1}


def test_a_question_without_its_fields_is_named(vqa):
    path = vqa[0] / "v2_OpenEnded_mscoco_train2014_questions.json"
    table = json.loads(path.read_text())
    del table["questions"][1]["image_id"]
    write(path, table)
    with pytest.raises(SampleError, match=r"questions\[1\] is no question \(KeyError: 'image_id'\)"):
        build(vqa)
