import math

import torch
from torch.optim import AdamW

from mmret.training.early_epsilon import use_early_epsilon


def test_it_is_the_older_adam_written_out():
    """p -= lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps), for gradients from 1 down to eps."""
    gradients = torch.tensor([1.0, 1e-3, 1e-6, 1e-8])
    parameter = torch.nn.Parameter(torch.zeros(4))
    optimizer = use_early_epsilon(AdamW([parameter], lr=0.1, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.0))
    expected, m, v = torch.zeros(4), torch.zeros(4), torch.zeros(4)
    for t in range(1, 5):
        parameter.grad = gradients * t
        optimizer.step()
        m, v = 0.9 * m + 0.1 * gradients * t, 0.98 * v + 0.02 * (gradients * t) ** 2
        expected -= 0.1 * math.sqrt(1 - 0.98**t) / (1 - 0.9**t) * m / (v.sqrt() + 1e-8)
    torch.testing.assert_close(parameter.detach(), expected)
