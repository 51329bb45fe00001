import torch

from mmret.ops import false_negatives


def test_only_known_positives_that_are_not_the_target_are_false_negatives():
    positives = torch.tensor([[7, -1], [8, 9], [5, -1]])
    documents = torch.tensor([7, 1, 8, 7, 5, 9])
    known = false_negatives(positives, documents, targets=torch.tensor([0, 2, 4]))
    assert known.int().tolist() == [[0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0]]
