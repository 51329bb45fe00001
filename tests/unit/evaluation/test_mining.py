import base64
import json

import pytest
import torch

from mmret.data import DataSpec, MixtureDataModule, Sample, Table, write_shards, write_table
from mmret.errors import ConfigError, SampleError
from mmret.evaluation.encode import Settings
from mmret.evaluation.mining import Mineable, MiningRules, mine, write_mining
from mmret.evaluation.mining.outcome import report
from mmret.evaluation.mining.rules import choose
from mmret.evaluation.rerank import Reranker, open_reranker
from mmret.recipe.rerank import RerankConfig
from mmret.recipe.schema import MixtureConfig, SourceConfig
from mmret.types import Need
from tests.builders import ToyProcessor, build_toy_source
from tests.unit.evaluation.pairs import NUM, Pairs, heads, write_benchmarks
from tests.unit.evaluation.toy import WordRetriever

ROWS, SCORES = [4, 7, 1, 9, 3, 8], [1.0, 0.9, 0.8, 0.5, 0.2, -0.1]
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNgYGAAAAAEAAH2FzhVAAAAAElFTkSuQmCC"
)
"""A black PNG of one pixel."""
POSITIVE = 0.9
"""The score of document 7, the positive."""


def chosen(positive=POSITIVE, rows=ROWS, scores=SCORES, known=(7,), **rules):
    rules = MiningRules(**({"k": 6, "negatives": 6} | rules))
    reasons = {row: "positive_id" for row in known}
    found = choose(rules, rows, scores, positive, reasons.get, ("place",))
    return found.rows, dict(found.dropped)


@pytest.mark.parametrize(
    "rules, rows, dropped",
    [
        ({}, [4, 1, 9, 3, 8], {}),
        ({"negatives": 2}, [4, 1], {"surplus": 3}),
        ({"margin": 0.0}, [1, 9, 3, 8], {"margin": 1}),
        ({"margin": 0.2}, [9, 3, 8], {"margin": 2}),
        ({"ratio": 0.5}, [3, 8], {"ratio": 3}),  # at most 0.45
        ({"max_score": 0.8}, [1, 9, 3, 8], {"max_score": 1}),
        ({"min_score": 0.2}, [4, 1, 9, 3], {"min_score": 1}),
        ({"ranks": (1, 3)}, [1, 9], {"range": 3}),  # 4 has rank 0, 1 rank 1: the positive between them has none
        ({"ranks": (1, 6), "min_score": 0.0, "margin": 0.2, "negatives": 1}, [9], 
         {"range": 1, "min_score": 1, "margin": 1, "surplus": 1}),
    ],
)  # fmt: skip
def test_each_rule_drops_what_it_should(rules, rows, dropped):
    assert chosen(**rules) == (rows, {"positive_id": 1} | dropped)


def test_a_ratio_keeps_its_distance_from_a_positive_below_zero():
    # 0.9 of -1 would be -0.9, above the positive itself; a tenth of its size below it is -1.1.
    rows, _ = chosen(positive=-1.0, scores=[-0.95, -1.0, -1.05, -1.1, -1.2, -3.0], ratio=0.9)
    assert rows == [9, 3, 8]


def test_a_random_choice_is_of_what_is_left_and_by_place():
    rules = MiningRules(k=100, negatives=3, sampling="random", ranks=(10, 50))
    rows, scores = list(range(100)), [1 - row / 100 for row in range(100)]
    found = [choose(rules, rows, scores, 2.0, lambda row: None, ("s", place)).rows for place in range(200)]
    assert all(len(set(own)) == 3 and own == sorted(own) and own[0] >= 10 and own[-1] < 50 for own in found)
    assert {row for own in found for row in own} == set(range(10, 50))
    assert found[7] == choose(rules, rows, scores, 2.0, lambda row: None, ("s", 7)).rows


@pytest.mark.parametrize(
    "rules, message",
    [
        ({"k": 0}, "--k must be at least 1, got 0"),
        ({"negatives": 0}, "--negatives must be at least 1"),
        ({"margin": -0.1}, "--margin must be at least 0, got -0.1"),
        ({"ratio": 1.5}, "--ratio must be above 0 and at most 1, got 1.5"),
        ({"ranks": (5, 5)}, r"--range 5:5: want 0 <= from < to <= 100 \(--k\)"),
        ({"ranks": (5, 200)}, r"--range 5:200: want 0 <= from < to <= 100 \(--k\)"),
        ({"sampling": "best"}, "--sampling must be one of top, random, got 'best'"),
    ],
)
def test_rules_that_cannot_be_are_refused(rules, message):
    with pytest.raises(ConfigError, match=message):
        MiningRules(**rules)


def brute_force(model, source, rules):
    """name -> (ids of negatives): every query alone with every document alone."""
    model.eval()
    table, found = source.documents, {}
    documents = [source.decoder.row_document(row) for row in range(len(table))]
    for index in range(len(source)):
        example = source.example(index)
        query = model.encode_query(model.processor([example.query], "query"))

        def score(document, query=query):
            return float(model.score(query, model.encode_document(model.processor([document], "document"))))

        ranked = sorted(range(len(table)), key=lambda row: (-score(documents[row]), row))[: rules.k]
        positive = min(score(document) for document in example.positives)
        ids, texts = {p.id for p in example.positives}, {p.text for p in example.positives}
        left = [row for row in ranked if documents[row].id not in ids and documents[row].text not in texts]
        first, last = rules.ranks or (0, rules.k)
        left = left[first:last]
        if rules.margin is not None:
            left = [row for row in left if score(documents[row]) <= positive - rules.margin]
        if rules.max_score is not None:
            left = [row for row in left if score(documents[row]) <= rules.max_score]
        found[example.key] = [documents[row].id for row in left[: rules.negatives]]
    return found


def mined_ids(mined):
    return {asked.name: [mined.data.id(row) for row in rows] for asked, rows in zip(mined.data.asked, mined.rows)}


@pytest.mark.parametrize(
    "rules",
    [
        MiningRules(k=12, negatives=4),
        MiningRules(k=32, negatives=5, margin=0.75),
        MiningRules(k=20, negatives=8, ranks=(2, 9), max_score=3.5),
    ],
)
@pytest.mark.parametrize("batch_size", [7, 64])
def test_mining_equals_a_loop_over_queries_and_documents(tmp_path, rules, batch_size):
    source = DataSpec.load(build_toy_source(tmp_path, num=20)).open()
    mined = mine(WordRetriever().train(), Mineable(source), rules, Settings(batch_size))
    assert mined_ids(mined) == brute_force(WordRetriever(), source, rules)
    assert any(mined.rows)


def twins(folder, inline=False):
    """Two questions whose answers stand in the table twice, and one whose second answer is in no table."""
    texts = {"a": "red circle", "b": "red circle", "c": "red square", "d": "green square", "e": "blue cross"}
    write_table([{"id": id, "text": text} for id, text in texts.items()], folder / "documents.arrow")
    asked = [("red circle", ["a"]), ("red square", ["c"]), ("green thing", ["d", {"text": "green thing"}])]
    rows = [
        {
            "query": {"text": text},
            "positives": [{"text": texts[p]} if inline and isinstance(p, str) else p for p in positives],
        }
        for text, positives in asked
    ]
    write_shards((Sample(f"{at}", row) for at, row in enumerate(rows)), folder, "train")
    spec = folder / "twins.yaml"
    spec.write_text(
        "name: toy/twins\nshards: train.manifest.json\n" + ("" if inline else "documents: documents.arrow\n")
    )
    return spec


def test_a_positive_under_another_id_is_no_negative(tmp_path):
    mined = mine(WordRetriever(), Mineable(DataSpec.load(twins(tmp_path)).open()), MiningRules(k=5, negatives=5))
    assert {name: sorted(ids) for name, ids in mined_ids(mined).items()} == {
        "train-000000.tar:0": ["c", "d", "e"],
        "train-000000.tar:1": ["a", "b", "d", "e"],
        "train-000000.tar:2": ["a", "b", "c", "e"],
    }
    assert mined.dropped == {"positive_id": 3, "positive_content": 1}


def test_a_positive_beside_the_table_counts_for_the_margin_and_is_not_searched(tmp_path):
    data = Mineable(DataSpec.load(twins(tmp_path)).open())
    assert (len(data), data.num_searched) == (6, 5)
    mined = mine(WordRetriever(), data, MiningRules(k=5, negatives=5, margin=0.0))
    # The last query finds its inline positive whole (2 words: 2) and "green square" by half; the lowest counts.
    model = WordRetriever().eval()
    query, low = (model.processor([content], "query") for content in (data.query(2), data.document(3)))
    assert mined.positives[2] == pytest.approx(float(model.score(model.encode_query(query), model.encode_query(low))))
    assert mined.positives[2] < 2 - 0.1


def test_without_a_table_the_rows_documents_become_one(tmp_path):
    spec = twins(tmp_path, inline=True)
    source = DataSpec.load(spec).open()
    mined = mine(WordRetriever(), Mineable(source), MiningRules(k=4, negatives=2))
    path = write_mining(mined, tmp_path / "mined", "words")
    again = DataSpec.load(path).open()
    assert [values["text"] for values in again.documents.rows(("text",))] == [
        "red circle", "red square", "green square", "green thing",
    ]  # fmt: skip
    example = again.example(1)
    assert example.positives[0].text == "red square" and len(example.negatives) == 2
    assert {document.text for document in example.negatives} <= {"red circle", "green square", "green thing"}
    # The positive of row 0, mined for row 1, is the same document in a batch.
    circle = next(document for document in again.all_documents() if document.text == "red circle")
    assert again.number(circle) == again.number(again.example(0).positives[0]) == source.number(circle)


def test_a_batch_holds_the_mined_negatives(tmp_path):
    source = DataSpec.load(build_toy_source(tmp_path / "data", num=24)).open()
    mined = mine(WordRetriever(), Mineable(source), MiningRules(k=16, negatives=3))
    path = write_mining(mined, tmp_path / "somewhere" / "else", "words")
    wanted = {name: set(ids) for name, ids in mined_ids(mined).items()}
    config = MixtureConfig(sources={str(path): SourceConfig()}, batch_size=8, documents_per_query=4)
    data = MixtureDataModule(config, ToyProcessor(), frozenset({Need.NEGATIVES}), 0, 3)
    number = data.sources()["toy/shapes"].number
    table = data.sources()["toy/shapes"].documents
    ids = {number(document): document.id for document in data.sources()["toy/shapes"].all_documents()}
    assert len(table) == 32
    for batch in data.train_dataloader():
        for key, row in zip(batch.keys, batch.document_ids.view(8, 4).tolist()):
            assert {ids[value] for value in row[1:]} == wanted[key]
    assert source.example(0).negatives == ()  # the shards are as they were


def test_own_negatives_stay_before_the_mined_ones_and_a_teacher_knows_none_of_these(tmp_path):
    write_table([{"id": id, "text": f"text {id}"} for id in "abcde"], tmp_path / "d.arrow")
    row = {"query": {"text": "text a"}, "positives": ["a"], "negatives": ["b"], "scores": [0.9, 0.1]}
    write_shards([Sample("0", row)], tmp_path, "train")
    (tmp_path / "s.yaml").write_text("name: s\nshards: train.manifest.json\ndocuments: d.arrow\n")
    mined = mine(WordRetriever(), Mineable(DataSpec.load(tmp_path / "s.yaml").open()), MiningRules(k=5))
    sample = DataSpec.load(write_mining(mined, tmp_path / "m", "words")).open().parse(0)
    assert sample.negatives[0] == "b" and sorted(sample.negatives) == ["b", "c", "d", "e"]
    assert sample.meta["scores"] == [0.9, 0.1, None, None, None]


def test_the_report_counts_every_document_found_once(tmp_path):
    source = DataSpec.load(build_toy_source(tmp_path, num=20)).open()
    mined = mine(WordRetriever(), Mineable(source), MiningRules(k=12, negatives=4, margin=0.75))
    path = write_mining(mined, tmp_path / "mined", "words")
    facts = json.loads((path.parent / "mining.json").read_text())
    assert facts == {"model": "words"} | report(mined)
    assert facts["found"] == 20 * 12 == sum(facts["dropped"].values()) + facts["negatives"]
    gaps = sorted(p - s for p, own in zip(mined.positives, mined.scores) for s in own)
    assert facts["gap"]["p50"] == pytest.approx(float(torch.tensor(gaps).quantile(0.5)))
    assert min(gaps) >= 0.75 - 1e-6 and facts["above_positive"] == 0
    scores = Table.open(path.parent / "negatives.arrow").row(0, ("negatives", "scores"))
    assert len(scores["negatives"]) == len(scores["scores"]) and scores["scores"] == sorted(scores["scores"])[::-1]


def test_nothing_left_is_an_error_that_says_what_took_it(tmp_path):
    source = DataSpec.load(build_toy_source(tmp_path, num=4)).open()
    mined = mine(WordRetriever(), Mineable(source), MiningRules(k=8, max_score=-9))
    with pytest.raises(ConfigError, match=r"no negatives are left of 32 documents found \(.*above --max-s"):
        write_mining(mined, tmp_path / "mined", "words")


def test_negatives_of_other_shards_are_refused(tmp_path):
    source = DataSpec.load(build_toy_source(tmp_path / "a", num=4)).open()
    path = write_mining(mine(WordRetriever(), Mineable(source), MiningRules(k=8)), tmp_path / "m", "words")
    other = build_toy_source(tmp_path / "b", num=8)
    path.write_text(path.read_text().replace("../a/train", "../b/train"))
    source = DataSpec.load(path).open()
    missing = next(at for at in range(len(source)) if int(source.reader.name(at)[-3:]) >= 4)
    with pytest.raises(SampleError, match=r"tar:00000\d: .*negatives.arrow has no such sample; it was mined for other"):
        source.parse(missing)
    other.write_text(other.read_text() + "negatives: passages.arrow\n")
    with pytest.raises(ConfigError, match=r"passages.arrow: no table of mined negatives \(no column negatives\)"):
        DataSpec.load(other).open()


def test_documents_of_several_pictures_have_no_place_in_a_table(tmp_path):
    row = {"query": {"text": "a"}, "positives": [{"images": ["p.0.png", "p.1.png"]}]}
    write_shards([Sample("0", row, {"p.0.png": PICTURE, "p.1.png": PICTURE})], tmp_path, "train")
    (tmp_path / "s.yaml").write_text("name: s\nshards: train.manifest.json\n")
    with pytest.raises(ConfigError, match="tar:0: a document of positives has 2 pictures, which no row of a documents"):
        Mineable(DataSpec.load(tmp_path / "s.yaml").open())


def test_a_picture_that_does_not_decode_makes_a_broken_sample_and_does_not_stop_the_encoding(tmp_path):
    wrong = [{"images": ["n.png"]}]
    rows = [("good", PICTURE, "a"), ("query", PICTURE[:30], "b"), ("own", PICTURE, "c"), ("other", PICTURE, "d")]
    samples = [
        Sample(key, {"query": {"images": ["q.png"]}, "positives": [{"text": text}], "negatives": wrong},
               {"q.png": data, "n.png": b"none" if key == "own" else PICTURE})
        for key, data, text in rows
    ]  # fmt: skip
    write_shards(samples, tmp_path, "train")
    (tmp_path / "s.yaml").write_text("name: s\nshards: train.manifest.json\n")
    data = Mineable(DataSpec.load(tmp_path / "s.yaml").open())
    assert [asked.name.rpartition(":")[2] for asked in data.asked] == ["good", "other"] and data.broken == 2
    assert {data.document(row).text for row in range(len(data))} == {"a", "d", None}


def documents_with_pictures(folder, **pictures):
    """Queries a, b, ... whose positives are documents of these pictures, and a text document "other"."""
    rows = [{"id": id, "text": f"word {id}", "image": data} for id, data in pictures.items()]
    write_table([*rows, {"id": "other", "text": "other words"}], folder / "documents.arrow")
    write_shards((Sample(id, {"query": {"text": f"word {id}"}, "positives": [id]}) for id in pictures), folder, "train")
    (folder / "s.yaml").write_text("name: s\nshards: train.manifest.json\ndocuments: documents.arrow\n")
    return DataSpec.load(folder / "s.yaml").open()


def test_a_document_whose_picture_does_not_decode_is_neither_searched_nor_stops_the_encoding(tmp_path):
    data = Mineable(documents_with_pictures(tmp_path, a=PICTURE, b=PICTURE[:30], c=None))
    assert data.unreadable == {1} and data.broken == 1  # the sample that it answers
    mined = mine(WordRetriever(), data, MiningRules(k=9, negatives=9))
    assert [[data.id(row) for row in rows] for rows in mined.rows] == [["c", "other"], ["a", "other"]]
    facts = report(mined)
    assert (facts["documents"], facts["broken_documents"]) == (3, 1)


def test_documents_of_which_none_decodes_are_refused(tmp_path):
    source = documents_with_pictures(tmp_path, a=b"none")
    write_table([{"id": "a", "image": b"none"}], tmp_path / "documents.arrow")
    with pytest.raises(ConfigError, match=r"documents.arrow: no document's picture decodes"):
        Mineable(DataSpec.load(source.spec.file).open())


def test_rows_without_positives_cannot_be_mined_for(tmp_path):
    write_shards([Sample("0", {"query": {"text": "a"}, "label": 1})], tmp_path, "train")
    (tmp_path / "s.yaml").write_text("name: s\nshards: train.manifest.json\n")
    with pytest.raises(ConfigError, match=r"s.yaml: no sample has positives; negatives need them"):
        Mineable(DataSpec.load(tmp_path / "s.yaml").open())


def test_the_matching_head_scores_anew_what_was_found(tmp_path):
    write_benchmarks(tmp_path)
    spec = tmp_path / "pairs.yaml"
    rows = (Sample(f"{n:02d}", {"query": {"text": f"thing {n}"}, "positives": [f"p{n}"]}) for n in range(NUM))
    write_shards(rows, tmp_path, "train")
    spec.write_text("name: pairs\nshards: train.manifest.json\ndocuments: images.arrow\n")
    data, objectives = Mineable(DataSpec.load(spec).open()), heads(((0.0, 0.3, 0.0), (0.0, 1.0, 0.2)))
    reranker = Reranker(Pairs(), objectives, RerankConfig(1), Settings(5))
    plain = mine(Pairs(), data, MiningRules(k=6, negatives=6), Settings(5))
    again = mine(Pairs(), data, MiningRules(k=6, negatives=6), Settings(5), reranker)
    model, head = Pairs().eval(), objectives["itm"].head

    def score(query, document):
        sides = [model.processor([one], "query") for one in (data.query(query), data.document(document))]
        no, yes = head(model.encode_pair(*sides).pooled)[0].tolist()
        return yes - no

    for query in range(NUM):
        expected = sorted(plain.rows[query], key=lambda row: -score(query, row))
        assert again.rows[query] == expected
        assert again.scores[query] == pytest.approx([score(query, row) for row in expected], abs=1e-5)
        assert again.positives[query] == pytest.approx(score(query, query), abs=1e-5)
    with pytest.raises(ConfigError, match="queries are text, documents text: leave --rerank out"):
        open_reranker("nowhere", Pairs(), data.query(0), data.query(0), Settings())
