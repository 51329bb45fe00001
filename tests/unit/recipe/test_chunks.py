"""What the recipe refuses of chunks, ragged rows and trained parts, before anything is built."""

import pytest

from mmret.recipe import RecipeError, load_recipe
from tests.fake_tables import TINY


def stage_lines(*lines):
    return TINY + "".join(f"    {line}\n" for line in lines)


def test_a_batch_smaller_than_a_chunk_is_refused(write):
    path = write(stage_lines("grad_cache: {chunk_size: 9}"))  # 8 queries, 1 document each
    with pytest.raises(
        RecipeError,
        match=r"stages\[0\]\.grad_cache\.chunk_size  9 rows a chunk, but a rank's part of a batch has 8 at most: "
        r"nothing would be cut up\. Lower it to 8 or less, enlarge data\.batch_size, or leave grad_cache out",
    ):
        load_recipe(path)
    load_recipe(path, ["stages[0].grad_cache.chunk_size=8"])
    load_recipe(path, ["stages[0].data.documents_per_query=2"])  # 16 documents
    with pytest.raises(RecipeError, match="9 rows a chunk, but a rank's part of a batch has 8 at most"):
        load_recipe(path, ["stages[0].data.documents_per_query=2", "trainer.devices=2"])
    with pytest.raises(RecipeError, match="has 4 at most"):
        load_recipe(path, ["trainer.accumulate=2"])
    load_recipe(path, ["trainer.devices=auto"])  # counted at the start


def test_grad_cache_with_an_objective_that_reads_pairs_is_refused(write):
    more = ["stages[0].objectives.match={}", "stages[0].data.documents_per_query=2", "model={name: fusion}"]
    path = write(stage_lines("grad_cache: {chunk_size: 2}"))
    with pytest.raises(
        RecipeError,
        match=r"stages\[0\]\.objectives\.match  match needs pair, which passes through the model again and has no",
    ):
        load_recipe(path, more)
    load_recipe(path, [*more, "stages[0].objectives.match.weight=0"])
    load_recipe(path, [*more, "~stages[0].grad_cache"])


def test_ragged_rows_with_an_objective_that_draws_pairs_are_refused(write):
    more = ["stages[0].objectives.match={}", "stages[0].data.documents_per_query=2", "model={name: fusion}"]
    path = write(TINY)
    with pytest.raises(
        RecipeError, match=r"objectives\.match  match draws pairs from a batch in which every query has"
    ):
        load_recipe(path, [*more, "stages[0].data.fill_negatives=false"])


def test_graphs_to_keep_are_a_number_or_auto(write):
    path = write(stage_lines("grad_cache: {chunk_size: 2, keep_graph: auto, memory_gb: 3}"))
    found = load_recipe(path).stages[0].grad_cache
    assert (found.keep_graph, found.memory_gb) == ("auto", 3.0)
    assert (
        load_recipe(path, ["stages[0].grad_cache={chunk_size: 2, keep_graph: 4}"]).stages[0].grad_cache.keep_graph == 4
    )
    with pytest.raises(
        RecipeError, match=r"keep_graph must be >= 0 or auto, got 'all'|keep_graph  must be >= 0 or auto"
    ):
        load_recipe(path, ["stages[0].grad_cache.keep_graph=all", "~stages[0].grad_cache.memory_gb"])


def test_what_trains_is_said_once(write):
    path = write(stage_lines("train: connector"))
    assert load_recipe(path).stages[0].train == "connector"
    with pytest.raises(RecipeError, match=r"stages\[0\]\.train  'connector' and lr_scale both say what trains"):
        load_recipe(path, ["stages[0].lr_scale={a: 1, '.*': 0}"])
    with pytest.raises(RecipeError, match=r"stages\[0\]\.train  must be all, adapters or connector, got 'conector'"):
        load_recipe(path, ["stages[0].train=conector"])
