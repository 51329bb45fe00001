import pytest

from mmret.data import Sample, write_shards, write_table
from mmret.errors import ConfigError, SampleError
from mmret.evaluation import Benchmark
from tests.builders import build_toy_source

SPEC = """
name: small/things
corpus: passages.arrow
splits:
  one: {shards: one.manifest.json, title: "The one split"}
metrics: [recall@1]
"""


def write_benchmark(folder, samples, spec=SPEC):
    write_table([{"id": "a", "text": "Ah"}, {"id": "b", "text": "Beh"}], folder / "passages.arrow")
    write_shards(samples, folder, "one")
    (folder / "things.yaml").write_text(spec)
    return folder / "things.yaml"


def row(**more):
    return {"query": {"text": "which?"}, "positives": ["b"], **more}


def test_a_benchmark_gives_queries_relevant_rows_answers_and_groups(tmp_path):
    build_toy_source(tmp_path, num=8)
    benchmark = Benchmark.load(tmp_path / "benchmark.yaml")
    split = benchmark.split("heldout")
    assert (benchmark.prefix, split.title, len(split), len(benchmark.corpus)) == ("shapes", "New drawings", 64, 32)
    example, query = split.source.example(5), split.queries[5]
    assert split.content(5).text == example.query.text and len(split.content(5).images) == 1
    assert [benchmark.corpus.id(r) for r in query.relevant] == [d.id for d in example.positives]
    assert query.answers == (example.meta["answers"][0].lower(),)
    assert query.group == example.meta["topic"]
    assert benchmark.corpus.text(query.relevant[0]) == example.positives[0].text
    assert split.num_relevant.tolist() == [1] * 64 and split.has_answers.all()


def test_ids_are_question_ids_where_each_query_has_its_own(tmp_path):
    file = write_benchmark(tmp_path, [Sample("x", row(question_id=7)), Sample("y", row(question_id=8))])
    assert [q.id for q in Benchmark.load(file).split("one").queries] == ["7", "8"]
    file = write_benchmark(tmp_path, [Sample("x", row(question_id=7)), Sample("y", row(question_id=7))])
    assert [q.id for q in Benchmark.load(file).split("one").queries] == ["x", "y"]


def test_a_benchmark_is_found_by_name_and_a_split_as_its_last_part(tmp_path, monkeypatch):
    write_benchmark(tmp_path, [Sample("x", row())])
    folder = tmp_path / "data_specs" / "benchmarks" / "small"
    folder.mkdir(parents=True)
    text = SPEC.replace("passages.arrow", str(tmp_path / "passages.arrow"))
    (folder / "things.yaml").write_text(text.replace("one.manifest.json", str(tmp_path / "one.manifest.json")))
    monkeypatch.chdir(tmp_path)
    assert Benchmark.load_target("small/things")[1] == ["one"]
    benchmark, splits = Benchmark.load_target("small/things/one")
    assert splits == ["one"] and len(benchmark.split("one")) == 1
    with pytest.raises(ConfigError, match=r"no split 'onne'.*Did you mean one"):
        Benchmark.load_target("small/things/onne")
    with pytest.raises(ConfigError, match=r"smal/things.*Did you mean benchmarks/small/things"):
        Benchmark.load_target("smal/things")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("metrics: [recall@1]", "metric: [recall@1]"), "(?s)'metric' not in.*fields of a benchmark: name, corpus"),
        (("[recall@1]", "[recal@1]"), "metrics: unknown metric 'recal@1'.*Did you mean recall"),
        (("[recall@1]", "[recall@1]\ncontrols: [shufled_images]"), "controls: .*Did you mean shuffled_images"),
        (("[recall@1]", "[recall@1]\ngallery: onee"), "gallery: no split 'onee'.*Did you mean one"),
        (("[recall@1]", "[recall@1]\ndepth: many"), "(?s)depth: Value 'many'.*fields of a benchmark"),
        (("name: small/things", "description: nameless"), "(?s)name.*mandatory|missing"),
    ],
)
def test_a_wrong_benchmark_file_is_refused_with_file_and_nearest_name(tmp_path, change, message):
    file = write_benchmark(tmp_path, [Sample("x", row())], SPEC.replace(*change))
    with pytest.raises(ConfigError, match=message) as caught:
        Benchmark.load(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (row(positives=["c"]), r"one-\d+.tar:x: positives names document 'c', which the corpus .*passages.arrow"),
        (row(positives=[{"text": "no id"}]), "positives names document None"),
        (row(answers=[1, 2]), r"answers is \[1, 2\]; want a text or a list of texts"),
    ],
)
def test_a_broken_query_is_named_by_shard_and_key(tmp_path, sample, message):
    file = write_benchmark(tmp_path, [Sample("x", sample)])
    with pytest.raises(SampleError, match=message):
        _ = Benchmark.load(file).split("one").queries


def test_group_by_a_field_that_no_sample_has_is_refused(tmp_path):
    spec = SPEC.replace('"The one split"', '"The one split", group_by: topik')
    file = write_benchmark(tmp_path, [Sample("x", row(topic="t"))], spec)
    with pytest.raises(ConfigError, match="group_by is 'topik', but no sample has such a field"):
        _ = Benchmark.load(file).split("one").queries


def test_empty_answers_are_not_found_everywhere(tmp_path):
    file = write_benchmark(tmp_path, [Sample("x", row(answers=["  ", " Beh "]))])
    assert Benchmark.load(file).split("one").queries[0].answers == ("beh",)
