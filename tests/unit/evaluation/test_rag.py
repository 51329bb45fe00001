import json

import pytest

from mmret.errors import ConfigError
from mmret.evaluation import by_chance, evaluate
from mmret.evaluation.rag import rag_rows, write_rag
from tests.builders import build_toy_source
from tests.unit.evaluation.toy import WordRetriever


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    build_toy_source(folder, num=8)
    return evaluate(WordRetriever(), str(folder / "benchmark.yaml"), "heldout")


def read(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_each_question_comes_with_its_best_documents_in_order(result, tmp_path):
    assert write_rag(result, tmp_path / "out.jsonl", k=3) == 64
    rows = read(tmp_path / "out.jsonl")
    corpus = result.split.benchmark.corpus
    for number, (row, query) in enumerate(zip(rows, result.split.queries)):
        assert row["question_id"] == query.id
        assert row["question"] == result.split.content(number).text
        assert row["answers"] == result.split.source.example(number).meta["answers"]
        places = result.rows[number, :3].tolist()
        assert [document["id"] for document in row["documents"]] == [corpus.id(place) for place in places]
        assert [document["text"] for document in row["documents"]] == [corpus.text(place) for place in places]
        scores = [document["score"] for document in row["documents"]]
        assert scores == pytest.approx(result.scores[number, :3].tolist(), abs=1e-4) == sorted(scores, reverse=True)
        assert [document["relevant"] for document in row["documents"]] == [place in query.relevant for place in places]


def test_the_file_holds_what_the_python_side_gives(result, tmp_path):
    write_rag(result, tmp_path / "out.jsonl", k=2)
    assert read(tmp_path / "out.jsonl") == list(rag_rows(result, 2))


def test_pictures_are_written_beside_and_named_from_the_files_folder(result, tmp_path):
    write_rag(result, tmp_path / "out.jsonl", k=1, image_folder=tmp_path / "images")
    rows = read(tmp_path / "out.jsonl")
    for number, row in enumerate(rows):
        assert row["image"].startswith("images/") and row["image"].endswith(".png")
        assert (tmp_path / row["image"]).read_bytes() == result.split.content(number).images[0].data
    assert len({row["image"] for row in rows}) == 64
    write_rag(result, tmp_path / "bare.jsonl", k=1)
    assert "image" not in read(tmp_path / "bare.jsonl")[0]


@pytest.mark.parametrize("k", [0, 33])
def test_more_documents_than_were_retrieved_are_refused(result, tmp_path, k):
    with pytest.raises(ConfigError, match="k must be 1 to 32"):
        write_rag(result, tmp_path / "out.jsonl", k=k)
    assert not (tmp_path / "out.jsonl").exists()


def test_chance_has_no_ranking_to_hand_over(result, tmp_path):
    with pytest.raises(ConfigError, match="no ranking"):
        write_rag(by_chance(result.split.benchmark, "heldout"), tmp_path / "out.jsonl")
