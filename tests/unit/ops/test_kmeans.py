from itertools import pairwise

import torch
from torch.nn.functional import normalize

from mmret.ops import mean_over_ranks, nearest_centroid, spherical_kmeans


def test_nearest_is_the_largest_product_and_the_first_of_equals():
    vectors = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, -1.0]])
    centroids = torch.tensor([[0.0, 1.0], [0.8, 0.6], [0.8, 0.6]])
    similarity, numbers = nearest_centroid(vectors, centroids)
    assert numbers.tolist() == [1, 1, 1]
    torch.testing.assert_close(similarity, torch.tensor([0.8, 0.96, -0.6]))


def directions(seed=0, each=50):
    """Noise around four directions."""
    generator = torch.Generator().manual_seed(seed)
    axes = torch.cat([torch.eye(2, 5), -torch.eye(2, 5)])
    return normalize(axes.repeat(each, 1) + 0.1 * torch.randn(4 * each, 5, generator=generator), dim=-1), axes


def test_clusters_of_directions_are_found():
    """From some starts k-means ends in a worse optimum, which is a fixed point all the same."""
    vectors, axes = directions()
    found = [spherical_kmeans(vectors, 4, range(40), seed) for seed in range(5)]
    assert any(sorted((axes @ centroids.T).argmax(1).tolist()) == [0, 1, 2, 3] for centroids in found)
    for centroids in found:
        numbers = nearest_centroid(vectors, centroids)[1]
        means = [vectors[numbers == number].mean(0) for number in range(4)]
        torch.testing.assert_close(centroids, normalize(torch.stack(means), dim=-1))


def test_every_round_fits_better():
    vectors, _ = directions()
    fits = [nearest_centroid(vectors, spherical_kmeans(vectors, 6, range(n), 1))[0].mean() for n in range(8)]
    assert all(after >= before - 1e-6 for before, after in pairwise(fits))
    assert fits[-1] > fits[0] + 0.005


def test_the_same_seed_gives_the_same_centroids():
    vectors, _ = directions()
    first, again = (spherical_kmeans(vectors, 9, range(5), 3) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, spherical_kmeans(vectors, 9, range(5), 4))


def test_a_centroid_without_vectors_starts_again_where_the_fit_is_bad():
    """Nearly all vectors are one: start centroids coincide, yet the few others get their own in the end."""
    rare = torch.eye(6)[1:]
    vectors = torch.cat([torch.eye(6)[:1].repeat(500, 1), rare])
    centroids = spherical_kmeans(vectors, 6, range(8), 0)
    assert (vectors @ centroids.T).max(1).values.min() > 0.999


def test_fewer_different_vectors_than_centroids_do_no_harm():
    centroids = spherical_kmeans(torch.eye(3)[[0, 0, 0, 1, 1]], 4, range(4), 0)
    assert centroids.isfinite().all()
    assert sorted(nearest_centroid(torch.eye(3)[:2], centroids)[0].tolist()) == [1, 1]


def test_the_mean_of_nothing_is_zero():
    total = torch.zeros((), requires_grad=True)
    assert mean_over_ranks(total, torch.tensor(0.0)) == 0
    assert mean_over_ranks(torch.tensor(6.0), torch.tensor(4.0)) == 1.5
