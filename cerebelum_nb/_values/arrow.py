"""Frames, series, arrays and Arrow tables as Arrow IPC bytes, and back: compact, and safe to load from anybody.

Only what comes back the same is taken: a frame is read again and compared, and what differs (columns of objects,
say) is left to cloudpickle. pandas and pyarrow are imported when such a value is met.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import Any

from .._text.json_text import parse

__all__ = ["dumps", "loads"]

_ABOUT = b"cerebelum_nb"
"""The key under which a table's schema says what it was made of."""
_LABELS = {str, int, type(None)}


def dumps(value: Any, *, compress: bool = True) -> bytes | None:
    """Write a value as Arrow IPC; None when it is none of these, would not come back the same, or pyarrow is missing.

    Args:
        value: anything.
        compress: False leaves texts in it readable, for a search.
    """
    cls = type(value)
    kind = (cls.__module__.partition(".")[0], cls.__name__)
    if kind not in _TO_TABLE or find_spec("pyarrow") is None:
        return None
    import pyarrow as pa

    try:
        table = _TO_TABLE[kind](value)
        if table is None:
            return None
        payload = _written(table, compress)
        return payload if kind[0] != "pandas" or _same(loads(payload), value) else None
    except (pa.ArrowException, TypeError, ValueError, OverflowError, NotImplementedError):
        return None  # Arrow has no such type


def loads(payload: bytes) -> Any:
    """Restore a value that `dumps` wrote.

    Raises:
        ImportError: pyarrow, or pandas or numpy, is not installed.
        ValueError: these are no such bytes (``pyarrow.ArrowInvalid`` is one).
    """
    import pyarrow as pa

    with pa.ipc.open_stream(payload) as reader:
        table = reader.read_all()
    table.validate(full=True)  # offsets that point nowhere would end the process when they are followed
    return _from_table(table)


def _written(table: Any, compress: bool) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd" if compress else None)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _from_table(table: Any) -> Any:
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
            frame = table.to_pandas()
            if about["freq"] is not None:
                frame.index.freq = about["freq"]
            if kind == "series":
                return frame["0"].rename(about["name"])
            frame.columns = _columns(about["columns"])
            return frame


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
    return _marked(pa.Table.from_pandas(frame), freq=getattr(frame.index, "freqstr", None), **about)


def _same(one: Any, other: Any) -> bool:
    from pandas import testing

    check = testing.assert_series_equal if other.ndim == 1 else testing.assert_frame_equal
    freqs = {getattr(value.index, "freq", None) for value in (one, other)}
    try:
        check(one.iloc[:0], other.iloc[:0], check_index_type=True)  # types and names; much slower on the values
        return bool(one.equals(other) and one.attrs == other.attrs and len(freqs) == 1)
    except (AssertionError, TypeError, ValueError):  # the last two: what cannot be compared
        return False


_TO_TABLE = {
    ("pandas", "DataFrame"): _frame,
    ("pandas", "Series"): _series,
    ("numpy", "ndarray"): _array,
    ("pyarrow", "Table"): _table,
}
