"""Rows with labels on their way into a batch, and rows without positives."""

import pytest
import torch

from mmret.data import DataSpec, MixtureDataModule, Row, Sample, write_shards
from mmret.data.collate import collate
from mmret.data.draw import draw
from mmret.errors import ConfigError, SampleError
from mmret.recipe.schema import MixtureConfig, SourceConfig
from mmret.types import Batch, Need
from tests.builders import ToyProcessor, toy_samples

CLASSIFY = frozenset({Need.PAIR, Need.TARGETS})
CONTRAST = frozenset({Need.DOCUMENT})
TEXT = {"query": {"text": "q"}}


def source_of(folder, rows, members=None, **fields):
    write_shards([Sample(str(i), row, members or {}) for i, row in enumerate(rows)], folder)
    (folder / "classes.txt").write_text("no\nmaybe\nyes\n")
    fields = {"classes": "classes.txt", **fields}
    return DataSpec("toy", "train.manifest.json", file=str(folder / "toy.yaml"), **fields).open()


def drawn(source, needs, num=None):
    return [draw(source, Row("toy", 0, index, index), 1, 0, needs) for index in range(num or len(source))]


def test_single_labels_become_numbers(tmp_path):
    source = source_of(tmp_path, [TEXT | {"label": "yes"}, TEXT | {"label": 1}, TEXT | {"label": "no"}])
    batch = collate(drawn(source, CLASSIFY), ToyProcessor())
    assert batch.targets is not None and batch.targets.dtype == torch.int64 and batch.targets.tolist() == [2, 1, 0]
    assert (batch.document, batch.num_documents, batch.document_ids, batch.positive_ids) == (None, 0, None, None)
    assert batch.to("cpu").targets.tolist() == [2, 1, 0]


def test_scores_become_a_row_of_the_classes(tmp_path):
    source = source_of(tmp_path, [TEXT | {"labels": {"yes": 1, "maybe": 0.3}}, TEXT | {"labels": {}}])
    batch = collate(drawn(source, CLASSIFY), ToyProcessor())
    assert batch.targets.dtype == torch.float32
    torch.testing.assert_close(batch.targets, torch.tensor([[0, 0.3, 1], [0, 0, 0]]))


def test_labels_are_read_only_where_an_objective_does(tmp_path):
    source = source_of(tmp_path, [TEXT | {"label": "unheard of"}])
    assert collate(drawn(source, frozenset()), ToyProcessor()).targets is None
    with pytest.raises(SampleError, match=r"train-000000.tar:0: label 'unheard of' is none of"):
        drawn(source, CLASSIFY)


def test_a_row_without_label_is_refused_by_name(tmp_path):
    source = source_of(tmp_path, [TEXT | {"positives": [{"text": "p"}]}])
    with pytest.raises(SampleError, match=r"train-000000.tar:0: no label or labels.*\(classify\)"):
        drawn(source, CLASSIFY)


def test_a_row_without_positives_serves_all_but_objectives_that_contrast(tmp_path):
    source = source_of(tmp_path, [TEXT])
    batch = collate(drawn(source, frozenset({Need.MASKED_QUERY})), ToyProcessor())
    assert batch.document is None and len(batch) == 1
    for needs in (CONTRAST, frozenset({Need.NEGATIVES})):
        with pytest.raises(SampleError, match=r"train-000000.tar:0: no positives; each row needs a document"):
            drawn(source, needs)
    strict = source_of(tmp_path / "strict", [TEXT], required=["positives.text"])
    with pytest.raises(SampleError, match=r"train-000000.tar:0: no positives"):
        drawn(strict, frozenset({Need.MASKED_QUERY}))


def test_a_classified_query_with_text_and_picture_needs_no_documents(tmp_path):
    (sample,) = toy_samples(1, 8, 0)
    row = {**sample.json, "positives": [{"text": "p"}], "label": "yes"}
    source = source_of(tmp_path, [row], sample.members)
    assert drawn(source, CLASSIFY)[0].documents == ()
    assert len(drawn(source, CLASSIFY | CONTRAST)[0].documents) == 1
    # A text alone takes its picture from the document.
    apart = {"query": {"text": "q"}, "positives": [{"images": ["q.0.png"]}], "label": "yes"}
    assert len(drawn(source_of(tmp_path / "apart", [apart], sample.members), CLASSIFY)[0].documents) == 1


@pytest.mark.parametrize(
    "rows, needs, message",
    [
        (
            [{"label": 1}, {"labels": {"yes": 1}}],
            CLASSIFY,
            r"differ in their soft scores .*: 0 in toy \(.*:0\), 1 in toy",
        ),
        ([{"positives": [{"text": "p"}]}, {}], frozenset(), r"differ in their documents: 1 in toy .*, 0 in toy"),
    ],
)
def test_rows_of_two_kinds_make_no_batch(tmp_path, rows, needs, message):
    source = source_of(tmp_path, [TEXT | row for row in rows])
    with pytest.raises(SampleError, match=message):
        collate(drawn(source, needs), ToyProcessor())


def test_a_classifying_stage_refuses_a_source_without_classes(tmp_path):
    source_of(tmp_path, [TEXT | {"label": 1}])
    spec = tmp_path / "toy.yaml"
    spec.write_text("name: toy\nshards: train.manifest.json\n")
    mixture = MixtureConfig(sources={str(spec): SourceConfig()}, batch_size=1)
    with pytest.raises(ConfigError, match=r"toy.yaml: an objective of this stage reads labels .* names no `classes`"):
        MixtureDataModule(mixture, ToyProcessor(), CLASSIFY, 0, 1).sources()
    spec.write_text("name: toy\nshards: train.manifest.json\nclasses: classes.txt\n")
    batches = list(MixtureDataModule(mixture, ToyProcessor(), CLASSIFY, 0, 2).train_dataloader())
    assert [isinstance(batch, Batch) and batch.targets.tolist() for batch in batches] == [[1], [1]]
