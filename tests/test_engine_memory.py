"""The engine reads nothing outside what it is given, and loses no memory."""

import ctypes
import mmap
import resource
import sys

import numpy as np
import pytest
from calibrated_networks import calibrated
from packed_networks import FLATTEN, RELU, conv, dense, network, pixels, pool

from tritbench import runtime

pytestmark = [
    pytest.mark.skipif(not runtime.NATIVE, reason="the native engine was not built"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mprotect as on Linux"),
]

PROT_NONE, PROT_READ_WRITE = 0, mmap.PROT_READ | mmap.PROT_WRITE
libc = ctypes.CDLL(None, use_errno=True)


class Guarded:
    """A copy of an array between two pages that cannot be read, up against one of them."""

    def __init__(self, array, at_end):
        page = mmap.PAGESIZE
        room = -(-array.nbytes // page) * page
        self.memory = mmap.mmap(-1, room + 2 * page)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        start = page + (room - array.nbytes if at_end else 0)
        self.array = np.frombuffer(self.memory, array.dtype, array.size, start).reshape(array.shape)
        self.array[:] = array
        self.guards = (self.base, self.base + page + room)
        self.protect(PROT_NONE)

    def protect(self, how):
        for guard in self.guards:
            assert libc.mprotect(ctypes.c_void_p(guard), mmap.PAGESIZE, how) == 0

    def __enter__(self):
        return self.array

    def __exit__(self, *error):
        self.protect(PROT_READ_WRITE)


def networks():
    random = np.random.default_rng(0)
    for size in (1, 3, 4, 15, 16, 17, 784, 1023):
        yield network(
            FLATTEN, dense(random, size, 11), RELU, dense(random, 11, 2), shape=(1, 1, size)
        )
    for shape in ((1, 5, 5), (3, 4, 7), (1, 28, 28)):
        yield network(
            conv(random, shape[0], 5, (2, 3), padding=(1, 1)),
            RELU,
            pool("max"),
            FLATTEN,
            shape=shape,
        )
        yield network(conv(random, shape[0], 5, (1, 1)), FLATTEN, shape=shape)


@pytest.mark.parametrize("mode", ["int8", "static", "exact"])
@pytest.mark.parametrize("isa", runtime.available_isas())
def test_nothing_is_read_outside_the_images(isa, mode):
    random = np.random.default_rng(0)
    for net in networks():
        if mode == "static":
            net = calibrated(net, pixels(random, 3, net.input.shape))
        model = runtime.from_packed(net, 1, isa, mode)
        for count in (1, 2, 5):
            images = pixels(random, count, net.input.shape)
            for given in (images, images.astype(np.float32)):
                expected = model(given)
                for at_end in (True, False):
                    with Guarded(given, at_end) as guarded:
                        np.testing.assert_array_equal(model(guarded), expected)


def test_models_and_calls_leave_no_memory_behind():
    random = np.random.default_rng(0)

    def work(times):
        for _ in range(times):
            net = network(
                FLATTEN, dense(random, 400, 300), RELU, dense(random, 300, 10), shape=(1, 20, 20)
            )
            model = runtime.from_packed(net, 1, "auto", "int8")
            images = pixels(random, 64, (1, 20, 20))
            for _ in range(10):
                model(images)
            with pytest.raises(ValueError, match="expected"):
                model(images[:, :, :, 1:].copy())

    work(50)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work(300)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4096  # KiB
