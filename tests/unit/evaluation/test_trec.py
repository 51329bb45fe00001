from itertools import pairwise

import ir_measures
import pytest
import torch
from ir_measures import RR, P, Success, nDCG

from mmret.errors import SampleError
from mmret.evaluation.judged import Judged
from mmret.evaluation.metrics import build_metric
from mmret.evaluation.trec import read_qrels, read_run, write_qrels, write_run


def test_ids_with_whitespace_percent_and_unicode_survive(tmp_path):
    ids = ["a b", "100%25", "tab\there", "Österreich/wien", "no\u00a0break", "line\u2028end", "next\x85", "plain"]
    write_run(tmp_path / "x.run", ["q 1"], [ids], [[float(-i) for i in range(len(ids))]], "mmret")
    write_qrels(tmp_path / "x.qrels", ["q 1"], [ids[:2]])
    assert [id for id, _ in read_run(tmp_path / "x.run")["q 1"]] == ids
    assert read_qrels(tmp_path / "x.qrels") == {"q 1": set(ids[:2])}
    assert all(len(line.split()) == 6 for line in (tmp_path / "x.run").read_text().splitlines())


def test_tied_scores_are_written_in_falling_order(tmp_path):
    write_run(tmp_path / "x.run", ["q"], [["a", "b", "c", "d"]], [[2.0, 2.0, 2.0, 1.0]], "mmret")
    scores = [torch.tensor(score) for _, score in read_run(tmp_path / "x.run")["q"]]
    assert all(first > second for first, second in pairwise(scores))
    assert float(scores[3]) == 1.0 and abs(float(scores[2]) - 2) < 1e-6


def test_ir_measures_reads_our_files_and_finds_the_same_numbers(tmp_path):
    generator = torch.Generator().manual_seed(0)
    queries, depth, documents = 20, 30, 200
    rows = torch.stack([torch.randperm(documents, generator=generator)[:depth] for _ in range(queries)])
    # Coarse scores: many ties, which trec_eval would break by document id.
    scores = torch.randint(0, 5, (queries, depth), generator=generator).sort(1, descending=True).values.float()
    relevant = [torch.randperm(documents, generator=generator)[: 1 + q % 20].tolist() for q in range(queries)]
    names = [f"query {q}" for q in range(queries)]
    write_run(tmp_path / "x.run", names, [[f"d {r}" for r in ids] for ids in rows.tolist()], scores.tolist(), "mmret")
    write_qrels(tmp_path / "x.qrels", names, [[f"d {r}" for r in ids] for ids in relevant])
    judged = Judged(
        torch.stack([torch.isin(ids, torch.tensor(wanted)) for ids, wanted in zip(rows, relevant)]),
        torch.tensor([len(wanted) for wanted in relevant]),
    )
    theirs = {"recall@1": Success @ 1, "recall@10": Success @ 10, "mrr": RR, "ndcg@10": nDCG @ 10, "precision@5": P @ 5}
    qrels = list(ir_measures.read_trec_qrels(str(tmp_path / "x.qrels")))
    run = list(ir_measures.read_trec_run(str(tmp_path / "x.run")))
    found = ir_measures.calc_aggregate(theirs.values(), qrels, run)
    for name, measure in theirs.items():
        assert float(build_metric(name).per_query(judged).mean()) == pytest.approx(found[measure], abs=1e-9), name


def test_a_line_with_missing_columns_is_named(tmp_path):
    (tmp_path / "x.run").write_text("q Q0 d 1 0.5 mmret\nq Q0 d\n")
    with pytest.raises(SampleError, match=r"x.run:2: 3 columns, want 6"):
        read_run(tmp_path / "x.run")
