import weakref

import pytest
import torch
from torch._subclasses import FakeTensorMode

from mmret.ops import regathered


def setting():
    torch.manual_seed(0)
    table = torch.randn(5, requires_grad=True)
    x = torch.randn(3, 4, 2, requires_grad=True)
    index = torch.tensor([[0, 3], [4, 4], [1, 0], [2, 2]])
    made = []

    def make():
        values = table[index]
        made.append(weakref.ref(values.untyped_storage()))
        return values

    return table, x, make, made


@pytest.mark.parametrize("expanded", [False, True])
def test_gradients_are_those_of_a_kept_tensor(expanded):
    gradients = []
    for remake in (False, True):
        table, x, make, made = setting()
        if remake:
            with regathered(make) as bias:
                y = x * (bias.expand(3, 4, 2) if expanded else bias)
        else:
            bias = make()
            y = x * bias
        (y**2).sum().backward()
        gradients.append((table.grad, x.grad))
        assert len(made) == 1 + remake
    assert torch.equal(gradients[0][0], gradients[1][0])
    assert torch.equal(gradients[0][1], gradients[1][1])


@pytest.mark.parametrize("part", [slice(None), slice(0, 1)])
def test_it_is_gone_after_the_forward_pass(part):
    table, x, make, made = setting()
    with regathered(make) as bias:
        y = (x[..., part] * bias[..., part]).sum()
    del bias
    assert made[0]() is None
    y.backward()
    assert table.grad is not None


def test_other_tensors_are_kept_as_they_were():
    _, x, make, made = setting()
    with regathered(make) as bias:
        y = x.exp() + bias.sum()
    y.sum().backward()
    assert torch.equal(x.grad, x.detach().exp())
    assert len(made) == 1


def test_tensors_without_data_are_told_apart():
    """What estimates memory runs whole steps on such tensors."""
    with FakeTensorMode():
        _, x, make, made = setting()
        with regathered(make) as bias:
            y = x.exp() * bias
        y.sum().backward()
    assert len(made) == 2
    assert x.grad.shape == x.shape
