import json
import tarfile

import pytest

from mmret.data import DataSpec
from mmret.data.sources import SOURCES
from mmret.data.sources.mmeb import MMEBConfig, build_mmeb
from mmret.data.sources.mmeb.prompt import published, spec_name
from mmret.data.table import Table
from mmret.errors import ConfigError, SampleError
from mmret.evaluation.suite import Suite
from mmret.models.vlm2vec.prompt import compose
from tests.mmeb_tables import TEST, TRAIN, VERSION_1, ranking_row, train_row, write, write_pictures

CLASSIFY = "<|image_1|>\nRepresent the given image for classification"
ASK = "<|image_1|>\nRepresent the given image with the following question:"
FIND = "Find me an everyday image that matches the given caption:"
SHOWN = "<|image_1|>\nRepresent the given image."
WIKI = "<|image_1|>\nRepresent the given Wikipedia image with related text information:"


def build(tmp_path, tables, **options):
    images = write_pictures(tmp_path / "pictures")
    return build_mmeb(MMEBConfig(str(tables), str(images), str(tmp_path / "out"), **options))


def samples(manifest):
    found = []
    for name in json.loads(manifest.read_text())["shards"]:
        with tarfile.open(manifest.parent / name["name"]) as tar:
            found += [json.loads(tar.extractfile(member).read()) for member in tar if member.name.endswith(".json")]
    return found


@pytest.mark.parametrize(
    ("folder", "instruction", "text", "prompt"),
    [
        ("ImageNet-1K", CLASSIFY, "", "<|image_1|>\nRepresent the given image for classification\n"),
        ("N24News", CLASSIFY, "A dog.", "<|image_1|>\nRepresent the given image for classification A dog.\n"),
        ("ImageNet-R", "<|image_1|> Name it", "", "<|image_1|>  Name it\n"),  # no newline: both blanks stay
        ("OK-VQA", ASK, "Why?", "<|image_1|>\nRepresent the given image with the following question: Why?\n"),
        ("GQA", " Answer \n", "Why? \n", "<|image_1|>\nAnswer Why?\n\n"),
        ("MSCOCO_i2t", "<|image_1|>\nFind a caption.", "", "<|image_1|>\nFind a caption.\n"),
        ("MSCOCO_t2i", FIND, "A cat \nsits", f"{FIND} A cat \nsits\n"),
        ("VisDial", "Find it:", "Q? A.", "Find it: Q? A.\n\n"),
        ("NIGHTS", "<|image_1|>\nFind one like it.", "", "<|image_1|>\nFind one like it.\n"),
        ("RefCOCO", "<|image_1|>\nSelect", '"left dog"', '<|image_1|>\nSelect "left dog"\n'),
    ],
)
def test_a_query_is_the_published_string_byte_for_byte(folder, instruction, text, prompt):
    assert published()[folder].query(instruction, text) == prompt


@pytest.mark.parametrize(
    ("folder", "instruction", "texts", "prompts"),
    [
        ("ImageNet-1K", "", [" tabby cat", "dog "], [" tabby cat", "dog "]),
        ("VisualNews_i2t", "", ["A caption"], ["A caption"]),
        ("MSCOCO_t2i", SHOWN, ["", ""], ["<|image_1|>\nRepresent the given image.\n"] * 2),
        ("RefCOCO", SHOWN, [" "], ["<|image_1|>\nRepresent the given image."]),  # grounding: no newline at the end
        ("WebQA", WIKI, ["A dog"], [f"{WIKI} A dog\n"]),
        ("EDIS", WIKI, ["A dog", ""], [f"{WIKI} A dog\n", f"{WIKI} \n"]),
        ("RefCOCO-Matching", WIKI, ["a", "b"], [f"{WIKI} a\n", f"{WIKI} b\n"]),
    ],
)
def test_candidates_are_the_published_strings_byte_for_byte(folder, instruction, texts, prompts):
    assert published()[folder].candidates(instruction, texts) == prompts


def test_each_of_the_36_sets_is_a_task_and_the_20_with_training_rows_have_a_data_spec():
    suite = Suite.find("mmeb")
    assert suite is not None
    assert sorted(suite.tasks) == sorted(map(spec_name, published())) and len(suite.tasks) == 36
    sizes = {group: len(keys) for group, keys in suite.members.items()}
    assert sizes == {"CLS": 10, "VQA": 10, "RET": 12, "VG": 4, "IND": 20, "OOD": 16, "all": 36}
    for name in suite.members["IND"]:
        assert DataSpec.load(f"mmeb/{name}").name == f"mmeb/{name}"


def test_training_rows_keep_their_strings_and_read_back_with_pictures(tmp_path, monkeypatch):
    asked = "<|image_1|>\nChange it: make it red\n"
    rows = [
        train_row(asked, "red.png", SHOWN, "images/blue.png", neg_text=SHOWN, neg_image_path="green.png"),
        train_row("only words", "", "an answer"),
        train_row("", "", "an answer"),
    ]
    tables = write(tmp_path / "tables", "CIRR", "original", rows, TRAIN)
    (tmp_path / "pictures" / "images").mkdir(parents=True)
    write_pictures(tmp_path / "pictures" / "images")
    (built,) = build(tmp_path, tables)
    assert (built.name, built.queries.kept, built.skipped) == ("cirr/train", 2, False)
    assert built.queries.left_out == {"empty query or positive": 1}
    monkeypatch.setenv("MMRET_MMEB", str(tmp_path / "out"))
    spec = DataSpec.load("mmeb/cirr")
    spec.required = []
    source = spec.open()
    first, second = source.example(0), source.example(1)
    assert compose(first.query, "<|image_pad|>") == "<|image_pad|>\nChange it: make it red\n"
    assert [len(one.images) for one in (first.query, *first.positives, *first.negatives)] == [1, 1, 1]
    assert (second.query.text, second.positives[0].text, second.query.images) == ("only words", "an answer", ())
    assert SOURCES["mmeb"].variable([built]) == ("MMRET_MMEB", tmp_path / "out")


def test_the_other_wordings_are_another_split_and_none_takes_the_shared_start_away(tmp_path):
    rows = [
        train_row(f"{ASK} {question}\n", "red.png", answer) for question, answer in (("Why?", "yes"), ("Who?", "y"))
    ]
    tables = write(tmp_path / "tables", "OK-VQA", "original", rows, TRAIN)
    write(tables, "OK-VQA", "diverse_instruction", [train_row("Other words", "red.png", "yes")], TRAIN)
    (diverse,) = build(tmp_path, tables, instructions="diverse_instruction")
    assert [one["query"]["text"] for one in samples(diverse.manifest)] == ["Other words"]
    (plain,) = build(tmp_path, tables, instructions="none")
    assert [one["query"]["text"] for one in samples(plain.manifest)] == ["<|image_1|>\nWhy?\n", "<|image_1|>\nWho?\n"]
    assert [one["positives"] for one in samples(plain.manifest)] == [[{"text": "yes"}], [{"text": "y"}]]


def test_candidates_are_written_once_and_each_query_lists_its_own(tmp_path):
    rows = [
        ranking_row(FIND, "a red thing", "", ["", "", ""], ["red.png", "blue.png", "red.png"], SHOWN),
        ranking_row(FIND, "a green thing", "", ["", ""], ["green.png", "red.png"], SHOWN),
    ]
    (built,) = build(tmp_path, write(tmp_path / "tables", "MSCOCO_t2i", "test", rows, TEST))
    table = Table.open(built.passages)
    assert (len(table), built.documents.kept, built.queries.kept) == (3, 3, 2)
    assert {row["text"] for row in table.rows(("text",))} == {"<|image_1|>\nRepresent the given image.\n"}
    assert all(row["image"] for row in table.rows(("image",)))
    # Sorted by digest: the place in the table, by which ties are ranked, says nothing of what is right.
    assert table.ids() == sorted(table.ids())
    first, second = samples(built.manifest)
    assert len(first["candidates"]) == len(second["candidates"]) == 2
    assert first["positives"] == first["candidates"][:1] == second["candidates"][1:]
    assert first["query"] == {"text": f"{FIND} a red thing\n"}


def test_strings_of_the_first_versions_tables_are_whole_already(tmp_path):
    row = {
        "qry_text": f"{CLASSIFY}\n",
        "qry_img_path": "red.png",
        "tgt_text": ["red", "blue"],
        "tgt_img_path": ["", ""],
    }
    (built,) = build(tmp_path, write(tmp_path / "tables", "VOC2007", "test", [row], VERSION_1))
    assert samples(built.manifest)[0]["query"] == {"text": f"{CLASSIFY}\n", "images": ["red.png"]}
    assert sorted(row["text"] for row in Table.open(built.passages).rows(("text",))) == ["blue", "red"]


def test_a_second_build_redoes_only_what_is_missing(tmp_path):
    rows = [ranking_row(CLASSIFY, "", "red.png", ["red", "blue"])]
    tables = write(tmp_path / "tables", "VOC2007", "test", rows, TEST)
    build(tmp_path, tables)
    folder = tmp_path / "out" / "voc2007"
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    (again,) = build(tmp_path, tables)
    assert again.skipped and before == {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    (folder / "test_documents.arrow").unlink()
    (third,) = build(tmp_path, tables)
    assert not third.skipped
    assert (folder / "test_images.arrow").stat().st_mtime_ns == before[folder / "test_images.arrow"]


def test_another_folder_of_pictures_is_another_build(tmp_path):
    rows = [ranking_row(CLASSIFY, "", "red.png", ["red", "blue"])]
    tables = write(tmp_path / "tables", "VOC2007", "test", rows, TEST)
    build(tmp_path, tables)
    larger = write_pictures(tmp_path / "larger")
    (larger / "red.png").write_bytes((larger / "red.png").read_bytes() + bytes(100))
    (again,) = build_mmeb(MMEBConfig(str(tables), str(larger), str(tmp_path / "out")))
    table = Table.open(tmp_path / "out/voc2007/test_images.arrow")
    assert not again.skipped and table.row(0)["image"] == (larger / "red.png").read_bytes()


def test_a_missing_candidate_takes_its_row_along_only_where_that_is_allowed(tmp_path):
    rows = [
        ranking_row(FIND, "one", "", ["", ""], ["red.png", "gone.png"], SHOWN),
        ranking_row(FIND, "two", "", ["", ""], ["red.png", "blue.png"], SHOWN),
    ]
    tables = write(tmp_path / "tables", "EDIS", "test", rows, TEST)
    with pytest.raises(SampleError, match=r"edis/test: no picture 'gone.png' in .*--skip-missing-images"):
        build(tmp_path, tables)
    (built,) = build(tmp_path, tables, skip_missing_images=True)
    assert [one["query"]["text"] for one in samples(built.manifest)] == [f"{FIND} two\n"]
    assert built.queries.left_out == {"picture missing or broken": 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"datasets": ["ImageNet-1K"]}, r"imagenet_1k: no tables of it in .*voc2007"),
        ({"datasets": ["VOC-2007"]}, r"voc_2007: no set of MMEB; not in"),
        ({"instructions": "diverse"}, "instructions must be one of original, diverse_instruction, none, got 'diverse'"),
        ({"limit": 0}, "limit must be at least 1, got 0"),
    ],
)
def test_wrong_options_are_refused(tmp_path, options, message):
    tables = write(tmp_path / "tables", "VOC2007", "test", [ranking_row(CLASSIFY, "", "red.png", ["red"])], TEST)
    with pytest.raises(ConfigError, match=message):
        build(tmp_path, tables, **options)


def test_wrong_tables_and_picture_folders_are_refused_before_anything_is_written(tmp_path):
    tables = write(tmp_path / "tables", "VOC2007", "test", [ranking_row(CLASSIFY, "", "x/red.png", ["red"])], TEST)
    with pytest.raises(ConfigError, match=r"not one of the first 1 pictures is there; looked for 'x/red.png'"):
        build(tmp_path, tables)
    write(tables, "VOC2007", "test", [{"qry": "what"}], {"qry": TRAIN["qry"]})
    with pytest.raises(
        ConfigError, match="no column qry_text, qry_img_path, tgt_text, tgt_img_path; an MMEB table has"
    ):
        build(tmp_path, tables)
    with pytest.raises(ConfigError, match="has no tables of MMEB; want SET/test"):
        build(tmp_path, tmp_path / "pictures")
    uneven = ranking_row(CLASSIFY, "", "red.png", ["red", "blue"], [""])
    write(tables, "VOC2007", "test", [uneven], TEST)
    with pytest.raises(SampleError, match="row 0 has 2 tgt_text and 1 tgt_img_path"):
        build(tmp_path, tables)
    assert not (tmp_path / "out").exists()
