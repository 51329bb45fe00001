import pytest
import torch
from torch import nn

from mmret.errors import CheckpointError
from mmret.training.handover import Handover, hand_over, hand_over_objectives


class Model(nn.Module):
    def __init__(self, **sizes):
        super().__init__()
        for name, size in sizes.items():
            setattr(self, name, nn.Linear(size, 1, bias=False))

    def adapt_state(self, state):
        return state

    def handover_source(self, key):
        return key.replace("query", "document") if key.startswith("query") else None


def test_report_names_kept_copied_new_and_dropped():
    old, new = Model(document=2, gone=2), Model(document=2, query=2, fresh=2)
    before = new.fresh.weight.clone()
    report = hand_over(new, old.state_dict(), "stage a")
    assert (report.kept, report.copied) == (["document.weight"], {"query.weight": "document.weight"})
    assert (report.new, report.dropped) == (["fresh.weight"], ["gone.weight"])
    assert torch.equal(new.query.weight, old.document.weight)
    assert torch.equal(new.document.weight, old.document.weight)
    assert torch.equal(new.fresh.weight, before)


def test_copies_do_not_share_memory():
    old, new = Model(document=2), Model(document=2, query=2)
    hand_over(new, old.state_dict(), "stage a")
    new.query.weight.data.add_(1)
    assert torch.equal(new.document.weight, old.document.weight)


def test_entry_of_another_shape_is_refused():
    with pytest.raises(CheckpointError, match=r"document.weight: \(1, 3\) there, \(1, 2\) here"):
        hand_over(Model(document=2), Model(document=3).state_dict(), "stage a")


def test_objectives_of_the_same_name_keep_their_parameters():
    report = Handover("stage a")
    new = nn.ModuleDict({"itc": nn.Linear(1, 1)})
    hand_over_objectives(new, {"itc.weight": torch.tensor([[3.0]]), "mlm.weight": torch.ones(1)}, report)
    assert new["itc"].weight.item() == 3.0
    assert report.new == ["objectives.itc.bias"]
    assert report.dropped == ["objectives.mlm.weight"]


def test_summary_counts_by_module():
    report = Handover("x", kept=["a.b.c", "a.b.d", "e"], copied={"q.w.x": "d.w.x"})
    assert report.summary()["kept"] == ["a.b (2)", "e"]
    assert report.summary()["copied"] == ["q.w from d.w"]


def test_entries_fitted_to_another_size_are_named_with_both_shapes():
    class Resampling(Model):
        def adapt_state(self, state):
            return {**state, "table.weight": state["table.weight"][:, :2]}

    report = hand_over(Resampling(table=2, same=3), Model(table=5, same=3).state_dict(), "stage a")
    assert report.resized == {"table.weight": "(1, 5) to (1, 2)"}
    assert report.summary()["resized"] == ["table.weight (1, 5) to (1, 2)"]
    assert report.kept == ["table.weight", "same.weight"]
