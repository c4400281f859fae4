"""Queries as they come in, by a clock that only calls and looks move."""

import numpy as np
import pytest
import torch

from scenarios.queries import LEAST_QUERIES, offline, server, single_stream


class World:
    """A clock, which a look at it moves, and a network that takes `seconds[i]` for its i-th query,
    over and over."""

    def __init__(self, *seconds, look=1e-9):
        self.now, self.seconds, self.look, self.calls = 0.0, seconds, look, 0

    def clock(self):
        self.now += self.look
        return self.now

    def call(self, images):
        self.now += self.seconds[self.calls % len(self.seconds)]
        self.calls += 1
        return torch.stack([images.flatten().float()] * 2, 1)


IMAGES = torch.arange(6, dtype=torch.uint8).view(6, 1)


def test_a_single_stream_asks_in_turn_until_there_are_enough_queries_and_seconds():
    world = World(*[0.001] * 9, 0.005)
    taken = single_stream(world.call, IMAGES, 0.5, world.clock)
    assert len(taken.latencies) == taken.images == LEAST_QUERIES
    assert taken.percentile(90) == pytest.approx(0.001, rel=0.01)
    assert taken.percentile(91) == pytest.approx(0.005, rel=0.01)
    assert taken.logits[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    longer = single_stream(world.call, IMAGES, 3.0, world.clock)
    assert longer.seconds >= 3.0
    assert longer.images / longer.seconds == pytest.approx(1 / 0.0014, rel=0.01)


def test_offline_answers_all_images_and_counts_those_of_a_smaller_last_batch():
    world = World(0.01)
    taken = offline(world.call, IMAGES, 4, 0.0, world.clock)
    assert (taken.images, len(taken.latencies)) == (6, 2)
    assert taken.logits[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    longer = offline(world.call, IMAGES, 4, 0.1, world.clock)
    assert longer.images / longer.seconds == pytest.approx(300, rel=0.01)


def test_a_server_lets_those_wait_that_come_while_another_is_answered():
    """Lindley's recursion: a query waits for what is left of the one before it."""
    world, rate, seed = World(1.0, look=1e-3), 0.5, 3
    taken = server(world.call, IMAGES, rate, 0.0, seed, world.clock)
    gaps = np.random.default_rng(seed).exponential(1 / rate, LEAST_QUERIES)
    waits = [0.0]
    for gap in gaps[1:]:
        waits.append(max(0.0, waits[-1] + 1.0 - gap))
    np.testing.assert_allclose(taken.latencies, np.add(waits, 1.0), atol=0.05)
    assert max(waits) > 3
    assert taken.images == LEAST_QUERIES
    assert taken.images / taken.seconds == pytest.approx(rate, rel=0.1)
