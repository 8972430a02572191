"""Bars as the table of another library: pandas, polars or pyarrow. Reads nothing."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import pandas as pd

from ktrdr.errors import InvalidRequest, Misconfigured

KINDS = {"pandas": (), "polars": ("polars", "pyarrow"), "pyarrow": ("pyarrow",)}
_BOUNDS = {"polars": "polars>=2.1,<3", "pyarrow": "pyarrow>=26,<27"}


def check_kind(kind: str) -> None:
    """InvalidRequest: an unknown kind. Misconfigured: its library is not installed."""
    if kind not in KINDS:
        raise InvalidRequest(f"as_={kind!r}: expected one of {', '.join(KINDS)}")
    lacking = [name for name in KINDS[kind] if importlib.util.find_spec(name) is None]
    if lacking:
        wanted = " ".join(f"'{_BOUNDS[name]}'" for name in lacking)
        raise Misconfigured(
            f"as_={kind!r}: {' and '.join(lacking)} is not installed",
            hint=f"python3 -m pip --python .venv/bin/python install {wanted}",
        )


def as_kind(frame: pd.DataFrame, kind: str) -> Any:
    """The same rows, with `timestamp` as their first column in UTC.

    In pyarrow the frame's `attrs` are JSON in the schema's metadata, under `ktrdr`; a polars table
    has no place for them.
    """
    if kind == "pandas":
        return frame
    import pyarrow as pa  # noqa: PLC0415  # for those who have it

    facts = json.dumps(frame.attrs, ensure_ascii=False).encode()
    table = pa.Table.from_pandas(frame.reset_index(), preserve_index=False)
    table = table.replace_schema_metadata({b"ktrdr": facts})
    if kind == "pyarrow":
        return table
    import polars as pl  # noqa: PLC0415  # for those who have it

    return pl.from_arrow(table)
