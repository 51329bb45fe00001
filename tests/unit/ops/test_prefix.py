import torch

from mmret.ops import prefix
from mmret.types import Embeddings


def test_a_prefix_is_the_leading_numbers_at_unit_length():
    found = prefix(Embeddings(torch.tensor([[3.0, 4.0, 12.0], [0.0, 2.0, 1.0]])), 2)
    assert torch.allclose(found.vectors, torch.tensor([[0.6, 0.8], [0.0, 1.0]]))


def test_masked_tokens_stay_zero_and_heads_are_cut_too():
    tokens = torch.tensor([[[3.0, 4.0, 9.0], [0.0, 0.0, 0.0]]])
    mask = torch.tensor([[True, False]])
    found = prefix(Embeddings(tokens, mask, {"vl": Embeddings(torch.tensor([[0.0, 5.0, 5.0]]))}), 2)
    assert torch.allclose(found.vectors, torch.tensor([[[0.6, 0.8], [0.0, 0.0]]]))
    assert found.mask is mask
    assert torch.allclose(found.aux["vl"].vectors, torch.tensor([[0.0, 1.0]]))
