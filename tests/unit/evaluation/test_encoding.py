"""Embeddings on disk: the same bytes whoever writes them, complete or not there."""

import json

import pyarrow as pa
import pytest
import torch

from mmret.cli.encode import slice_of
from mmret.data import write_table
from mmret.errors import CheckpointError, ConfigError, SampleError
from mmret.evaluation.benchmark import Benchmark
from mmret.evaluation.encode import Settings
from mmret.evaluation.encoding import encode_to_disk, identity, open_target
from mmret.evaluation.measure import ModelEvaluator
from mmret.index.stored import StoredEmbeddings
from mmret.types import Embeddings
from tests.builders import build_toy_source
from tests.unit.evaluation.toy import WordRetriever


class OneVector(WordRetriever):
    """The mean of the words."""

    def _encode(self, inputs):
        tokens = super()._encode(inputs)
        return Embeddings(torch.nn.functional.normalize(tokens.vectors.sum(1), dim=-1))


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A benchmark of 32 documents and 64 queries."""
    folder = tmp_path_factory.mktemp("encoding")
    build_toy_source(folder, num=8)
    return folder


def encoded(toy, out, side="document", model=None, **settings):
    target = open_target(str(toy / "benchmark.yaml") + ("/heldout" if side == "query" else ""), side)
    return encode_to_disk(model or WordRetriever(), target, out, Settings(batch_size=3), rows_per_part=10, **settings)


def replace_part(toy, out, number, by):
    """An encoded corpus with one part in another's place, not yet looked through."""
    encoded(toy, out)
    (out / "complete.json").unlink()
    parts = sorted(out.glob("part-*"))
    parts[number].write_bytes(parts[by].read_bytes())


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("model", [WordRetriever, OneVector])
@pytest.mark.parametrize("side", ["document", "query"])
def test_slices_write_what_one_process_writes(toy, tmp_path, side, model):
    alone = encoded(toy, tmp_path / "alone", side, model())
    first = encoded(toy, tmp_path / "both", side, model(), slice=(1, 2))
    second = encoded(toy, tmp_path / "both", side, model(), slice=(0, 2))
    assert (alone.written, alone.missing) == (first.written + second.written, 0)
    assert (first.missing, second.missing) == (second.written, 0)
    assert files(tmp_path / "alone") == files(tmp_path / "both")


def test_an_interrupted_encode_goes_on_with_the_part_that_is_missing(toy, tmp_path):
    encoded(toy, tmp_path / "whole")

    def stop(items, what, total=None):
        for number, item in enumerate(items):
            if number == 2:
                raise KeyboardInterrupt
            yield item

    target = open_target(str(toy / "benchmark.yaml"), "document")
    out = tmp_path / "interrupted"
    with pytest.raises(KeyboardInterrupt):
        encode_to_disk(WordRetriever(), target, out, Settings(3, track=stop), rows_per_part=10)
    assert sorted(files(out)) == ["encoding.json", "part-00000-of-00004.arrow", "part-00001-of-00004.arrow"]
    with pytest.raises(CheckpointError, match="2 of 4 parts are missing; the command that wrote the others"):
        StoredEmbeddings(out)
    again = WordRetriever()
    done = encoded(toy, out, model=again)
    assert (done.written, done.skipped, done.missing) == (2, 2, 0)
    assert again.num_documents == 12
    assert files(out) == files(tmp_path / "whole")


@pytest.mark.parametrize("model", [WordRetriever, OneVector])
def test_what_is_read_back_is_what_the_model_gave(toy, tmp_path, model):
    encoded(toy, tmp_path, model=model())
    stored, corpus, fresh = StoredEmbeddings(tmp_path), Benchmark.load(toy / "benchmark.yaml").corpus, model().eval()
    assert stored.ids() == corpus.table.ids() and len(stored) == 32
    row = 0
    for block in stored:
        for one in block.split(1):
            (expected,) = fresh.encode_document(fresh.processor([corpus.content(row)], "document")).split(1)
            vectors = one.vectors if one.mask is None else one.vectors[one.mask]
            wanted = expected.vectors if expected.mask is None else expected.vectors[expected.mask]
            torch.testing.assert_close(vectors, wanted)
            row += 1
    assert row == 32


def test_a_search_of_stored_documents_finds_what_evaluation_finds(toy, tmp_path):
    encoded(toy, tmp_path)
    benchmark = Benchmark.load(toy / "benchmark.yaml")
    fresh = ModelEvaluator(WordRetriever())(benchmark, "heldout")
    model = WordRetriever()
    evaluator = ModelEvaluator(model)
    evaluator.take_stored(benchmark, tmp_path)
    stored = evaluator(benchmark, "heldout")
    assert model.num_documents == 0
    assert stored.metrics == fresh.metrics
    torch.testing.assert_close(stored.scores, fresh.scores)


def test_half_precision_takes_half_the_room(toy, tmp_path):
    encoded(toy, tmp_path, dtype="float16")
    (file,) = tmp_path.glob("part-00000*")
    column = pa.ipc.open_file(file).get_batch(0).column("vectors")
    assert column.type.value_type.value_type == pa.float16()
    assert next(iter(StoredEmbeddings(tmp_path))).vectors.dtype == torch.float32


def test_other_embeddings_are_not_mixed_in(toy, tmp_path):
    encoded(toy, tmp_path)
    with pytest.raises(ConfigError, match=r"holds other embeddings \(model: .* there, .* now\); choose another: --out"):
        encoded(toy, tmp_path, model=WordRetriever(seed=1))
    with pytest.raises(ConfigError, match=r"holds other embeddings \(dtype: 'float32' there, 'float16' now\)"):
        encoded(toy, tmp_path, dtype="float16")


def test_search_refuses_embeddings_of_another_model(toy, tmp_path):
    encoded(toy, tmp_path, model=WordRetriever(seed=1))
    with pytest.raises(CheckpointError, match="want documents by this model"):
        ModelEvaluator(WordRetriever()).take_stored(Benchmark.load(toy / "benchmark.yaml"), tmp_path)


def test_search_refuses_embeddings_of_queries(toy, tmp_path):
    encoded(toy, tmp_path, "query")
    with pytest.raises(CheckpointError, match="side query, by model"):
        ModelEvaluator(WordRetriever()).take_stored(Benchmark.load(toy / "benchmark.yaml"), tmp_path)


def test_search_refuses_embeddings_of_other_documents(toy, tmp_path, monkeypatch):
    encoded(toy, tmp_path)
    benchmark = Benchmark.load(toy / "benchmark.yaml")
    turned = benchmark.corpus.table.ids()[::-1]
    monkeypatch.setattr(benchmark.corpus.table, "ids", lambda: turned)
    with pytest.raises(CheckpointError, match=r"not the 32 of .* in their order"):
        ModelEvaluator(WordRetriever()).take_stored(benchmark, tmp_path)


def test_an_id_that_comes_twice_is_found_when_the_last_part_is_there(toy, tmp_path):
    replace_part(toy, tmp_path, 1, by=0)
    with pytest.raises(SampleError, match=r"is that of rows 0 and 10; each row has its own"):
        encoded(toy, tmp_path)
    assert not (tmp_path / "complete.json").exists()


def test_a_part_with_a_row_too_few_is_named(toy, tmp_path):
    replace_part(toy, tmp_path, 0, by=3)
    with pytest.raises(SampleError, match=r"part-00000-of-00004.arrow: 2 rows, want 10; delete it"):
        encoded(toy, tmp_path)


def test_a_data_spec_gives_its_documents_and_what_its_rows_ask(toy, tmp_path):
    assert open_target(str(toy / "toy.yaml"), "document").rows == 32
    asked = open_target(str(toy / "toy.yaml"), "query")
    assert asked.rows == 8 and len({asked.id(row) for row in range(8)}) == 8
    lone = tmp_path / "lone.yaml"
    lone.write_text(f"name: toy/lone\nshards: {toy}/train.manifest.json\n")
    with pytest.raises(ConfigError, match="names no `documents`; --side query encodes what its rows ask"):
        open_target(str(lone), "document")


def test_queries_want_one_split():
    with pytest.raises(ConfigError, match=r"has the splits unseen_style, .*; name one: demo/emoji/unseen_style"):
        open_target("demo/emoji", "query")


def test_ranks_divide_a_slice():
    tasks = [slice_of(f"{k}/2", {"RANK": str(r), "WORLD_SIZE": "3"}) for k in (1, 2) for r in range(3)]
    assert tasks == [(number, 6) for number in range(6)]
    assert slice_of(None, {}) == (0, 1)
    srun = [{"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "3", "SLURM_PROCID": str(r)} for r in range(3)]
    assert [slice_of(f"{k}/2", task) for k in (1, 2) for task in srun] == tasks
    assert [slice_of(None, task) for task in srun] == [(0, 3), (1, 3), (2, 3)]
    assert slice_of("slurm", {**srun[2], "SLURM_STEP_NUM_TASKS": "3"}) == (2, 3)
    with pytest.raises(ConfigError, match="want NUMBER/COUNT"):
        slice_of("0/4", {})


def test_the_identity_follows_any_weight():
    model = WordRetriever()
    before = identity(model)
    assert identity(WordRetriever()) == before
    with torch.no_grad():
        model.words.weight.mul_(1.0001)
    assert identity(model) != before


def test_a_folder_of_other_things_is_no_folder_of_embeddings(tmp_path):
    with pytest.raises(CheckpointError, match=r"no folder of embeddings .*; mmret encode writes one"):
        StoredEmbeddings(tmp_path)
    write_table([{"id": "a", "text": "b"}], tmp_path / "documents.arrow")
    (tmp_path / "note.json").write_text(json.dumps({}))
    with pytest.raises(CheckpointError):
        StoredEmbeddings(tmp_path)
