"""Arrow bytes of an untrusted log: the memory that they need is known before it is allocated."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pandas as pd
import pytest

from cerebelum_nb._values import arrow
from cerebelum_nb._values.codec import decode, encode
from cerebelum_nb._values.foreign import ForeignBytes
from cerebelum_nb.errors import SerializationError

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra [arrow])")

ZEROS = np.zeros(1_000_000)


def written(table, compression="zstd"):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def marked(table, kind="frame"):
    return arrow._marked(table, kind=kind, freq=None, columns={"range": [0, table.num_columns, 1], "name": None})


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_the_size_of_compressed_buffers_is_known_without_decompressing_them(compression):
    category = pd.Series(["a" * 1000, "b" * 1000] * 5000, dtype="category")
    for table in (
        pa.table({"x": ZEROS}),
        pa.Table.from_batches([pa.record_batch({"x": ZEROS, "y": ZEROS})] * 3),
        pa.table({"c": pa.array(category)}),
        pa.table({"t": ["text"] * 10_000, "l": [[1, 2, 3]] * 10_000}),
    ):
        told = sum(arrow._decompressed_sizes(written(table, compression)))
        assert 0.9 * table.nbytes <= told <= 1.1 * table.nbytes + 1024


def test_buffers_that_are_not_compressed_claim_no_size():
    assert list(arrow._decompressed_sizes(written(pa.table({"x": ZEROS}), None))) == []


@pytest.mark.parametrize("value", [ZEROS, pd.DataFrame({"x": ZEROS}), pd.Series(ZEROS), pa.table({"x": ZEROS})])
def test_a_bomb_is_refused_from_a_log_that_is_not_trusted(value, monkeypatch):
    stored = encode(value)
    assert stored.codec == "arrow" and stored.size < 100_000
    monkeypatch.setattr(arrow, "MOST_VALUE_BYTES", 1 << 20)
    for load, trusted in ((stored.payload, False), (ForeignBytes(stored.payload), True)):
        with pytest.raises(SerializationError, match="holds more than 1 MB when it is decompressed"):
            decode(stored, lambda digest, load=load: load, trusted=trusted)
    assert len(decode(stored, lambda digest: stored.payload)) == len(ZEROS), "a trusted log may hold it"


def test_many_rows_in_few_bytes_are_refused():
    endless = written(marked(pa.table({"0": pa.nulls(10**6)})))
    with pytest.raises(ValueError, match=r"1,000,000 rows in \d+ bytes"):
        arrow.loads(endless)


def test_damaged_metadata_is_refused_or_read_and_nothing_worse():
    whole = written(pa.table({"x": np.arange(1000), "t": ["text"] * 1000}))
    for place in range(0, len(whole), 3):
        bent = bytearray(whole)
        bent[place] ^= 0xFF
        with suppress(ValueError, OSError):  # ArrowInvalid is a ValueError; nothing else comes out
            assert sum(arrow._decompressed_sizes(bytes(bent))) >= 0


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"a": [1.5, 2.5], "b": [1, 2]}),
        pd.DataFrame({"t": pd.to_datetime(["2026-01-01", "2026-01-02"])}),
        pd.DataFrame({"a": [True, False]}, index=pd.Index([5, 7], name="k")),
        pd.DataFrame({"a": pd.array([1, None], dtype="Int64"), "c": pd.Categorical(["x", "y"]), "s": ["a", "b"]}),
        pd.DataFrame(index=range(3)),
        pd.DataFrame({"a": []}),
    ],
)
def test_a_frame_comes_back_equal_and_can_be_written_to(frame):
    stored = encode(frame)
    found = decode(stored, lambda digest: stored.payload)
    pd.testing.assert_frame_equal(found, frame)
    for place, name in enumerate(frame.columns):
        found.loc[:, name] = found[name].iloc[::-1].array
        if len(frame):
            found.iloc[0, place] = found.iloc[1, place]


def test_a_frame_whose_levels_are_named_by_numbers_keeps_them():
    frame = pd.DataFrame({"a": [1, 2]}, index=pd.MultiIndex.from_tuples([(1, 2), (3, 4)], names=[0, 1]))
    stored = encode(frame)
    pd.testing.assert_frame_equal(decode(stored, lambda digest: stored.payload), frame)
