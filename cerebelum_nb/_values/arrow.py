"""Write frames, series, arrays and Arrow tables as Arrow IPC bytes, and restore them: compact, and safe from anybody.

Only values that come back unchanged are accepted: a frame is read again and compared, and if it differs (for example
with columns of objects) it is left to cloudpickle. pandas and pyarrow are imported when such a value appears.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from .._text.json_text import parse
from .bounds import MOST_VALUE_BYTES

__all__ = ["dumps", "loads", "takes"]

_ABOUT = b"cerebelum_nb"
"""The key of a table's schema under which it says what value it was made of."""
_LABELS = {str, int, type(None)}


def dumps(value: Any, *, compress: bool = True) -> bytes | None:
    """Write a value as Arrow IPC; None if it has another type, would not come back unchanged, or pyarrow is missing.

    Args:
        value: anything.
        compress: False leaves texts searchable.
    """
    if not takes(value):
        return None
    import pyarrow as pa

    kind = _kind(value)
    try:
        table = _TO_TABLE[kind](value)
        if table is None:
            return None
        payload = _to_bytes(table, compress)
        del table  # it may be a copy of the value, and comparing makes another
        return payload if kind[0] != "pandas" or _same(loads(payload), value) else None
    except (pa.ArrowException, TypeError, ValueError, OverflowError, NotImplementedError):
        return None  # Arrow has no such type


def takes(value: Any) -> bool:
    """Whether a value has a type for Arrow and pyarrow is installed; it may still not come back unchanged."""
    return _kind(value) in _TO_TABLE and find_spec("pyarrow") is not None


def _kind(value: Any) -> tuple[str, str]:
    cls = type(value)
    return cls.__module__.partition(".")[0], cls.__name__


def loads(payload: bytes, *, trusted: bool = True) -> Any:
    """Restore a value that `dumps` wrote.

    Args:
        payload: its bytes.
        trusted: False limits their decompressed size.

    Raises:
        ImportError: pyarrow, pandas or numpy is not installed.
        ValueError: the bytes are invalid (``pyarrow.ArrowInvalid`` is a ValueError), or hold too much.
    """
    import pyarrow as pa

    if not trusted and sum(_decompressed_sizes(payload)) > MOST_VALUE_BYTES:
        raise ValueError(f"it holds more than {MOST_VALUE_BYTES >> 20} MB when it is decompressed")
    with pa.ipc.open_stream(payload) as reader:
        return _from_table(reader.read_all())


def _decompressed_sizes(payload: bytes) -> Iterator[int]:
    """Yield the decompressed size that each buffer claims, which Arrow allocates for it.

    The claim precedes the compressed bytes, and the metadata of each message says where that is; it is a flatbuffer of
    the Arrow format (Message.fbs). pyarrow gives neither without decompressing.
    """
    import pyarrow as pa

    try:
        for message in pa.ipc.MessageReader.open_stream(pa.py_buffer(payload)):
            if message.type not in ("record batch", "dictionary"):
                continue
            about, body = memoryview(message.metadata), memoryview(message.body)
            batch = _follow(about, _follow(about, 0), 2)
            if message.type == "dictionary":
                batch = _follow(about, batch, 1)
            if not _follow(about, batch, 3):  # not compressed
                continue
            buffers = _follow(about, batch, 2)
            for number in range(struct.unpack_from("<I", about, buffers)[0] if buffers else 0):
                start, length = struct.unpack_from("<qq", about, buffers + 4 + 16 * number)
                if length >= 8:
                    yield max(0, struct.unpack_from("<q", body, start)[0])  # -1: stored uncompressed
    except struct.error as exc:
        raise ValueError(f"its Arrow metadata is damaged ({exc})") from exc


def _follow(data: memoryview, table: int, field: int | None = None) -> int:
    """Return the offset of the table or vector to which a field of a flatbuffer's table refers; 0 if it is absent.

    Without a field, the reference itself is at ``table``, as for the root.
    """
    at = table
    if field is not None:
        fields = table - struct.unpack_from("<i", data, table)[0]
        size = struct.unpack_from("<H", data, fields)[0]
        place = 4 + 2 * field
        offset = struct.unpack_from("<H", data, fields + place)[0] if place < size else 0
        if not offset:
            return 0
        at = table + offset
    return at + int(struct.unpack_from("<I", data, at)[0])


def _to_bytes(table: Any, compress: bool) -> bytes:
    import pyarrow as pa

    sink = io.BytesIO()  # hands over its bytes, where a buffer of Arrow would be copied
    options = pa.ipc.IpcWriteOptions(compression="zstd" if compress else None)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _from_table(table: Any) -> Any:
    table.validate(full=True)  # invalid offsets would crash the process
    metadata = dict(table.schema.metadata or {})
    about = parse(metadata.pop(_ABOUT))
    table = table.replace_schema_metadata(metadata or None)
    match about["kind"]:
        case "table":
            return table
        case "array":
            import numpy as np

            flat = np.array(table.column(0).combine_chunks().to_numpy(zero_copy_only=False))
            return flat.view(about["dtype"]).reshape(about["shape"], order=about["order"])
        case kind:
            _check_rows(table)
            frame = table.to_pandas(self_destruct=True)  # frees each column when it is converted
            del table
            for number, dtype in enumerate(frame.dtypes):
                if dtype == "category":  # their codes are still memory of Arrow, which is read-only
                    frame.isetitem(number, frame.iloc[:, number].array.copy())
            if about["freq"] is not None:
                frame.index.freq = about["freq"]
            if kind == "series":
                return frame["0"].rename(about["name"])
            frame.columns = _columns(about["columns"])
            return frame


def _check_rows(table: Any) -> None:
    """Refuse rows that take no space in Arrow, such as those of type null, but would in pandas."""
    if table.num_columns and table.num_rows > 8 * table.nbytes:
        raise ValueError(f"it claims {table.num_rows:,} rows in {table.nbytes:,} bytes")


def _marked(table: Any, **about: Any) -> Any:
    return table.replace_schema_metadata({**(table.schema.metadata or {}), _ABOUT: json.dumps(about)})


def _table(table: Any) -> Any:
    return _marked(table, kind="table")


def _array(array: Any) -> Any:
    import pyarrow as pa

    if array.dtype.kind not in "biufmM" or not array.dtype.isnative:
        return None
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    flat = array.ravel(order=order)
    numbers = flat if array.dtype.kind in "iuf" else flat.view("u1" if array.dtype.kind == "b" else "i8")
    table = pa.table({"0": pa.array(numbers)})
    return _marked(table, kind="array", dtype=array.dtype.str, shape=array.shape, order=order)


def _series(series: Any) -> Any:
    if type(series.name) not in _LABELS:
        return None
    return _pandas(series.to_frame("0"), kind="series", name=series.name)


def _frame(frame: Any) -> Any:
    import pandas as pd

    labels = frame.columns
    if type(labels.name) not in _LABELS:
        return None
    about: dict[str, Any] = {"name": labels.name}
    if isinstance(labels, pd.RangeIndex):
        about["range"] = [labels.start, labels.stop, labels.step]
    elif {str} >= set(map(type, labels)) or labels.dtype == "int64":
        about |= {"labels": labels.tolist(), "dtype": str(labels.dtype)}
    else:
        return None
    return _pandas(frame.set_axis([str(i) for i in range(len(labels))], axis=1), kind="frame", columns=about)


def _columns(about: dict[str, Any]) -> Any:
    import pandas as pd

    if "range" in about:
        start, stop, step = about["range"]
        return pd.RangeIndex(start, stop, step, name=about["name"])
    return pd.Index(about["labels"], dtype=about["dtype"], name=about["name"])


def _pandas(frame: Any, **about: Any) -> Any:
    import pyarrow as pa

    if any(dtype == "object" for dtype in frame.dtypes):
        return None
    if frame.index.nlevels > 1 and not all(name is None or isinstance(name, str) for name in frame.index.names):
        return None  # pyarrow would convert the names to text, and warn
    return _marked(pa.Table.from_pandas(frame), freq=getattr(frame.index, "freqstr", None), **about)


def _same(one: Any, other: Any) -> bool:
    from pandas import testing

    check = testing.assert_series_equal if other.ndim == 1 else testing.assert_frame_equal
    freqs = {getattr(value.index, "freq", None) for value in (one, other)}
    try:
        check(one.iloc[:0], other.iloc[:0], check_index_type=True)  # types and names; much slower on the values
        return bool(one.equals(other) and one.attrs == other.attrs and len(freqs) == 1)
    except (AssertionError, TypeError, ValueError):  # the last two: values that cannot be compared
        return False


_TO_TABLE = {
    ("pandas", "DataFrame"): _frame,
    ("pandas", "Series"): _series,
    ("numpy", "ndarray"): _array,
    ("pyarrow", "Table"): _table,
}
