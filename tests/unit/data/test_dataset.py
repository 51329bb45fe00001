import logging

import pytest

from mmret.data import MixtureDataModule, Sample, write_shards
from mmret.errors import ConfigError, SampleError
from mmret.recipe.schema import MixtureConfig, SourceConfig
from mmret.types import Need
from tests.builders import ToyProcessor, build_toy_source, toy_samples


def module(specs, batches=10, needs=frozenset(), seed=0, accumulate=1, **fields):
    sources = {str(spec): SourceConfig(weight) for spec, weight in specs.items()}
    mixture = MixtureConfig(**({"sources": sources, "batch_size": 8, "shuffle_window": 16} | fields))
    return MixtureDataModule(mixture, ToyProcessor(), needs, seed, batches, accumulate)


def break_samples(folder, numbers, how, num=64):
    """The toy source with some samples broken: their picture does not decode, or a document is unknown."""
    spec = build_toy_source(folder, num=num)
    samples = toy_samples(num, 32, 0)
    for number in numbers:
        sample = samples[number]
        if how == "picture":
            samples[number] = Sample(sample.key, sample.json, {"q.0.png": b"no picture"})
        else:
            samples[number] = Sample(sample.key, {**sample.json, "positives": ["unknown"]}, sample.members)
    write_shards(samples, folder, max_samples=100)
    return spec, [f"train-000000.tar:{samples[number].key}" for number in numbers]


def batch_keys(data, batches=10, **place):
    for name, value in place.items():
        setattr(data, name, value)
    dataset = data.dataset()
    return [dataset[i].keys for i in range(batches)], dataset


def test_a_batch_is_query_major_with_the_positive_first(tmp_path):
    spec = build_toy_source(tmp_path, num=64, negatives=3)
    batch = module({spec: 1}, documents_per_query=3).dataset()[0]
    assert len(batch) == 8 and batch.num_documents == 3
    assert batch.document is not None and batch.document.dense["bytes"].shape == (24, 25)
    assert batch.sources == ("toy/shapes",) * 8 and len(set(batch.keys)) == 8
    assert batch.document_ids is not None and batch.positive_ids is not None
    numbers = batch.document_ids.view(8, 3)
    for row, positives in zip(numbers.tolist(), batch.positive_ids):
        assert [row[0]] == positives.tolist() and len(set(row)) == 3


@pytest.mark.parametrize("how", ["picture", "document"])
def test_broken_samples_never_reach_a_batch_and_batches_stay_full_on_any_number_of_ranks(tmp_path, how, caplog):
    spec, broken = break_samples(tmp_path, (3, 17, 40, 63), how)
    whole = module({spec: 1}, max_bad_fraction=1)
    keys, dataset = batch_keys(whole)
    assert all(len(set(batch)) == 8 and not set(batch) & set(broken) for batch in keys)
    # 10 batches of 8 are 80 rows: the epoch of 64 has met each broken sample once.
    assert dataset.bad >= 4
    shown = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(shown) == 3 and "counted only" in shown[-1]
    assert all(any(key in line for key in broken) for line in shown)
    for world in (2, 4):
        parts = [batch_keys(module({spec: 1}, max_bad_fraction=1), rank=r, world=world)[0] for r in range(world)]
        assert [sum(batch, ()) for batch in zip(*parts)] == keys


def test_too_many_broken_samples_stop_the_run(tmp_path):
    spec, _ = break_samples(tmp_path, range(0, 64, 4), "document")
    with pytest.raises(SampleError, match=r"toy/shapes: 6 of \d+ samples read are broken, .*max_bad_fraction = 0\.1"):
        batch_keys(module({spec: 1}, max_bad_fraction=0.1))
    batch_keys(module({spec: 1}, max_bad_fraction=0.5))


def test_few_broken_samples_do_not_stop_a_run_however_long(tmp_path):
    spec, _ = break_samples(tmp_path, (1, 2, 3), "document")
    _, dataset = batch_keys(module({spec: 1}, max_bad_fraction=0.001), batches=100)
    assert dataset.bad > 20


def test_a_share_of_zero_allows_no_broken_sample(tmp_path):
    spec, broken = break_samples(tmp_path, (5,), "picture")
    with pytest.raises(SampleError, match=f"{broken[0]}.q.0.png.* do not decode"):
        batch_keys(module({spec: 1}, max_bad_fraction=0))


def test_a_source_without_a_whole_sample_ends_in_an_error(tmp_path):
    spec, _ = break_samples(tmp_path, range(3), "document", num=3)
    with pytest.raises(SampleError, match="are broken"):
        batch_keys(module({spec: 1}, max_bad_fraction=1))


def test_sources_with_one_table_mean_the_same_documents(tmp_path):
    one = build_toy_source(tmp_path, num=32)
    two = tmp_path / "again.yaml"
    two.write_text(one.read_text().replace("toy/shapes", "toy/again"))
    sources = module({one: 1, two: 1}).sources()
    example = sources["toy/again"].example(0).positives[0]
    assert sources["toy/again"].number(example) == sources["toy/shapes"].number(example)


def test_the_order_does_not_depend_on_where_the_files_lie(tmp_path):
    keys = [batch_keys(module({build_toy_source(tmp_path / name, num=64): 1}))[0] for name in "ab"]
    assert keys[0] == keys[1]


def test_what_cannot_be_is_refused_before_the_first_batch(tmp_path):
    spec = build_toy_source(tmp_path, num=16)
    with pytest.raises(ConfigError, match="documents_per_query is 1"):
        module({spec: 1}, needs=frozenset({Need.NEGATIVES}))
    with pytest.raises(ConfigError, match="do not divide into 3"):
        module({spec: 1}, accumulate=3)
    (tmp_path / "copy.yaml").write_text(spec.read_text())
    with pytest.raises(ConfigError, match="another source is named toy/shapes"):
        module({spec: 1, tmp_path / "copy.yaml": 1}).sources()
    data = module({spec: 1})
    data.rank, data.world = 0, 3
    with pytest.raises(ConfigError, match="8 rows do not divide over 3 ranks"):
        data.train_dataloader()
    assert list(module({spec: 1, tmp_path / "absent.yaml": 0}).sources()) == ["toy/shapes"]


def test_rows_of_a_batch_that_has_to_be_drawn_again_count_once_in_the_share(tmp_path):
    one_in_each_batch = [8 * batch + batch % 8 for batch in range(40)]  # and none where its replacement is
    spec, _ = break_samples(tmp_path, one_in_each_batch, "picture", num=320)
    dataset = module({spec: 1}, batches=40, shuffle_window=0, max_bad_fraction=0.1).dataset()
    for batch in range(19):
        dataset[batch]
    with pytest.raises(SampleError, match=r"20 of 1\d\d samples read are broken"):
        dataset[19]
