"""Damaged and hostile .trit files: one clear line each, whatever their bytes."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from fuzz_trit import mutate, outcome, seeds
from hypothesis import given
from hypothesis import strategies as st

from tritbench.errors import TritbenchError
from tritbench.packing import load_trit, read_trit
from tritbench.packing.container import MAX_HEADER, read_container, write_container

SEEDS = seeds()  # made before Hypothesis looks at its watch
GOOD = (Path(__file__).parent / "fixtures/v1/odd.trit").read_bytes()


def parts(data=GOOD):
    """A file's header as plain JSON, its tritbench metadata, and its arrays' bytes."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    about = json.loads(header["__metadata__"]["tritbench"])
    return header, about, data[8 + size :]


def joined(header, about, content):
    header["__metadata__"]["tritbench"] = json.dumps(about)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content


def refused(data, message):
    with pytest.raises(TritbenchError, match=message) as error:
        read_trit(data, "evil.trit")
    text = str(error.value)
    assert text.startswith("evil.trit: not a valid .trit file: ")
    assert text.isprintable()
    assert len(text) < 600


def test_the_good_file_is_read():
    assert len(read_trit(joined(*parts()), "it").packed.graph.nodes) == 11


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.update(format_version=3), "format version 3, expected 1 or 2"),
        (lambda a: a.update(format_version=True), "format version True, expected 1 or 2"),
        (lambda a: a.pop("format_version"), "format version None"),
        (lambda a: a.update(codec="zip"), "codec 'zip', expected one of base3"),
        (lambda a: a.update(codec="2bit"), "layers.1.trits: (code 2|padding)"),
        (lambda a: a.update(codec=["base3"]), "codec = a list of 1: expected a string"),
        (lambda a: a.update(more=1), "metadata more is no key of the format"),
        (lambda a: a.pop("provenance"), "provenance is missing"),
        (lambda a: a.update(provenance=[]), "provenance"),
        (lambda a: a.update(classes=["a", "b"]), r"gives \[3\], expected \[2\], its classes"),
        (lambda a: a.update(classes=[]), "classes"),
        (lambda a: a.update(classes=["a", "b", 3]), r"classes\.2"),
        (lambda a: a.update(layers=[]), "layers"),
        (lambda a: a.update(layers={}), "layers"),
        (lambda a: a["layers"].pop(2), r"layers\.\d\.scale is missing"),
        (
            lambda a: a["layers"][2].update(type="tanh"),
            r"layers\.2\.type = 'tanh': expected one",
        ),
        (lambda a: a["layers"][2].update(type=[]), r"layers\.2\.type = a list"),
        (lambda a: a["layers"][2].pop("type"), r"layers\.2\.type = None"),
        (lambda a: a["layers"][2].update(out=3), r"layers\.2\.out is no key"),
        (lambda a: a["layers"][1].pop("out"), r"layers\.1\.out is missing"),
        (lambda a: a["layers"].__setitem__(2, None), r"layers\.2 = None: expected an object"),
        (lambda a: a["layers"][1].update(out=7), r"layer 5 \(affine\) is given \[28\]"),
        (lambda a: a["layers"][1].update(out=0), r"out = 0"),
        (lambda a: a["layers"][1].update(out=-6), r"out = -6"),
        (lambda a: a["layers"][1].update(out="6"), r"out = '6'"),
        (lambda a: a["layers"][1].update(out=6.0), r"out = 6\.0"),
        (lambda a: a["layers"][1].update(out=True), r"out = True: expected an integer in 1\.\."),
        (lambda a: a["layers"][1].update(out=10**400), r"out"),
        (lambda a: a["layers"][1].update({"in": 2}), r"layer 1 \(conv2d\) is given \[1, 8, 8\]"),
        (lambda a: a["layers"][1].update(group_size=7), "group_size 7, expected at most 6"),
        (lambda a: a["layers"][1].update(group_size=0), "group_size = 0"),
        (lambda a: a["layers"][1].update(group_size=None), "group_size = None"),
        (lambda a: a["layers"][1].update(kernel=[3]), "kernel"),
        (lambda a: a["layers"][1].update(kernel=[3, 9]), r"kernel \[3, 9\], expected at most"),
        (lambda a: a["layers"][1].update(stride=[0, 1]), "stride"),
        (lambda a: a["layers"][1].update(padding=[-1, 0]), "padding"),
        (lambda a: a["layers"][1].update(padding=[2**20, 2**20]), "at most 4194304 values"),
        (lambda a: a["layers"][3].update(kernel=[9, 9]), r"kernel \[9, 9\]"),
        (lambda a: a["layers"].insert(0, {"type": "flatten"}), r"layer 1 \(affine\) is given"),
        (lambda a: a["input"].update(shape=[1, 8]), "input.shape"),
        (lambda a: a["input"].update(shape=[1, 12, 12]), "is given"),
        (lambda a: a["input"].update(shape=[1, 2**20, 2**20]), "the image has the shape"),
        (lambda a: a["input"].update(std=0.0), "input.std = 0.0"),
        (lambda a: a["input"].update(std=-1), "input.std = -1"),
        (lambda a: a["input"].update(std=10**400), "input.std = 1000"),
        (lambda a: a["input"].update(mean=None), "input.mean"),
        (lambda a: a["input"].update(mean=True), "input.mean = True"),
        (lambda a: a.update(input=[]), "input = a list of 0: expected an object"),
    ],
)
def test_wrong_metadata_names_the_key(change, message):
    header, about, content = parts()
    change(about)
    refused(joined(header, about, content), message)


def replace_array(name, array):
    arrays = dict(read_container(GOOD)[0])
    arrays[name] = array
    if array is None:
        del arrays[name]
    return write_container(arrays, parts()[0]["__metadata__"])


def filled(name, value):
    array = np.array(read_container(GOOD)[0][name])
    array[..., -1] = value
    return replace_array(name, array)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (filled("layers.1.trits", 243), "layers.1.trits: code 243: expected at most 242"),
        (filled("layers.1.trits", 242), "layers.1.trits: padding at a row's end is not zero"),
        (filled("layers.1.scale", np.nan), "layers.1.scale holds NaN"),
        (filled("layers.1.scale", -np.inf), "layers.1.scale holds NaN or infinity"),
        (filled("layers.0.scale", np.inf), "layers.0.scale holds NaN"),
        (filled("layers.1.bias", np.nan), "layers.1.bias holds NaN"),
        (replace_array("layers.1.bias", None), "layers.1.bias is missing"),
        (replace_array("layers.1.trits", None), "layers.1.trits is missing"),
        (
            replace_array("layers.1.bias", np.zeros(5, "f4")),
            r"layers.1.bias is float32 \[5\], expected floats \[6\]",
        ),
        (replace_array("layers.1.bias", np.zeros(6, "u1")), "layers.1.bias is uint8"),
        (replace_array("layers.1.bias", np.full(6, np.inf, "f2")), "layers.1.bias holds NaN"),
        (replace_array("layers.1.scale", np.zeros((6, 2), "f4")), r"expected floats \[6, 1\]"),
        (replace_array("layers.1.trits", np.zeros((6, 3), "u1")), r"expected uint8 \[6, 2\]"),
        (replace_array("layers.1.trits", np.zeros((6, 2), "f4")), "expected uint8"),
        (replace_array("more", np.zeros(1, "f4")), "unexpected tensors more"),
        (replace_array("line\nbreak \x1b[31m", np.zeros(1, "f4")), r"tensors line\?break \?\[31m"),
    ],
)
def test_wrong_arrays_are_named(data, message):
    refused(data, message)


def entry(**changes):
    def change(header):
        header["layers.1.bias"] |= changes

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.update({"layers.1.bias": []}), "expected dtype, shape and data_offsets"),
        (entry(more=1), "expected dtype, shape and data_offsets"),
        (entry(dtype="F64"), "dtype 'F64', expected one of I64, F32, F16, U8, I8"),
        (entry(dtype={}), "dtype"),
        (entry(shape=[-6]), "shape"),
        (entry(shape=[6, 0]), "shape"),
        (entry(shape=[6.0]), "shape"),
        (entry(shape=[True]), "shape"),
        (entry(shape=[1] * 9), "1 to 8"),
        (entry(shape=[2**63]), "shape"),
        (entry(shape=[2**40, 2**40]), "bytes, expected"),
        (entry(shape=[7]), "24 bytes, expected 28"),
        (entry(data_offsets=[4]), "two integers"),
        (entry(data_offsets=[24, 0]), "-24 bytes, expected 24"),
        (entry(data_offsets=[0, 24]), "overlaps|gap"),
        (entry(data_offsets=[10**9, 10**9 + 24]), "gap|truncated"),
        (lambda h: h.pop("layers.1.bias"), "gap"),
        (lambda h: h.update(__metadata__=None), "__metadata__"),
        (lambda h: h["__metadata__"].update(more="x"), r"metadata \['more', 'tritbench'\]"),
    ],
)
def test_a_header_that_lies_is_refused(change, message):
    header, about, content = parts()
    header["__metadata__"]["tritbench"] = json.dumps(about)
    change(header)
    text = json.dumps(header).encode()
    refused(len(text).to_bytes(8, "little") + text + content, message)


def with_header(text):
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "truncated"),
        (GOOD[:7], "truncated"),
        (GOOD[:8], "truncated"),
        (GOOD[:100], "truncated"),
        (GOOD[:-1], "truncated"),
        (GOOD + b"\0", "1 bytes after the last array"),
        (b"\xff" * 8 + GOOD[8:], "truncated"),
        (with_header(b" " * (MAX_HEADER + 1)), "expected at most 1048576"),
        (with_header(b"[]"), "a JSON list, expected an object"),
        (with_header(b"\xff\xfe"), "not JSON"),
        (with_header(b"{"), "not JSON"),
        (with_header(b'{"a":1}{'), "not JSON"),
        (with_header(b'{"a":NaN}'), "not a finite number"),
        (with_header(b'{"a":-Infinity}'), "not a finite number"),
        (with_header(b'{"a":1e999}'), "not a finite number"),
        (with_header(b'{"a":' + b"9" * 5000 + b"}"), "not JSON"),
        (with_header(b'{"a":1,"a":1}'), "'a' stands twice"),
        (with_header(b"[" * 500_000), "nested too deeply"),
        (with_header(b'{"a":' * 100_000), "nested too deeply"),
        (with_header(b'{"__metadata__":{"tritbench":"' + b"[" * 500_000 + b'"}}'), "nested"),
        (with_header(b'{"__metadata__":{"tritbench":"1"}}'), "a JSON int, expected an object"),
        (with_header(b'{"__metadata__":{}}'), r"metadata \[\], expected tritbench"),
        (b"PK\x03\x04" + bytes(100), "truncated|not JSON|expected at most"),
        (b"\x80\x05\x95" + bytes(100), "truncated|not JSON|expected at most"),
    ],
)
def test_what_is_no_container_is_refused(data, message):
    refused(data, message)


def test_deep_provenance_is_refused_or_read_but_never_a_crash():
    header, about, content = parts()
    for depth in (10, 300, 900):
        about["provenance"] = json.loads('{"a":' * depth + "1" + "}" * depth)
        assert outcome(joined(header, about, content)) in ("read", "refused")


def test_a_small_file_cannot_ask_for_much_memory():
    header, about, content = parts()
    about["layers"][-1] |= {"out": 2**22}
    about["classes"] = ["x"] * 3
    huge = [joined(header, about, content)]
    about["codec"] = "entropy"
    about["layers"] = [{"type": "flatten"}, {"type": "linear", "in": 2**20, "out": 3}]
    about["input"]["shape"] = [1, 1024, 1024]
    huge.append(joined(header, about, content))
    about["layers"] = [{"type": "flatten"}]
    about["layers"] += [{"type": "linear", "in": 4096, "out": 4096}] * 1000
    about["input"]["shape"] = [1, 64, 64]
    about["classes"] = ["x"] * 4096
    huge.append(joined(header, about, content))
    tracemalloc.start()
    try:
        for data in huge:
            refused(data, "expected")
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


def test_folders_and_devices_are_refused(tmp_path):
    with pytest.raises(TritbenchError, match="is a folder"):
        load_trit(tmp_path)
    with pytest.raises(TritbenchError, match="no such file"):
        load_trit(tmp_path / "none" / "x.trit")


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data):
    assert outcome(data) == "refused"
    assert outcome(with_header(data)) == "refused"


@given(st.integers(0, 2**32 - 1))
def test_any_mutation_is_read_or_refused(seed):
    random = np.random.default_rng(seed)
    for data in SEEDS:
        assert outcome(mutate(data, random)) in ("read", "refused")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.data())
def test_any_json_in_place_of_any_value_is_read_or_refused(data):
    """Replaces one value, somewhere in the header or the metadata."""
    header, about, content = parts()
    place = data.draw(st.sampled_from([header, about]))
    while True:
        key = data.draw(
            st.sampled_from(list(place) if isinstance(place, dict) else range(len(place)))
        )
        below = place[key]
        if not isinstance(below, dict | list) or not below or data.draw(st.booleans()):
            break
        place = below
    place[key] = data.draw(json_values)
    if not isinstance(header.get("__metadata__"), dict):
        text = json.dumps(header).encode()
        assert outcome(with_header(text) + content) == "refused"
    else:
        assert outcome(joined(header, about, content)) in ("read", "refused")
