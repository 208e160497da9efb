"""Are two answers the same?

Rows must come in the same order; whole numbers, text, times and nulls must be equal, floats within a tolerance.
"""

from __future__ import annotations

import math

import pyarrow

# Sums of floats may be added up in any order; the relative error of that stays far below this.
FLOAT_TOLERANCE = 1e-9


def assert_same(actual: pyarrow.Table, expected: pyarrow.Table, tolerance: float = FLOAT_TOLERANCE) -> None:
    """Fails with the first difference. With `tolerance` 0 floats must be equal, too."""
    actual_columns = [(field.name, str(field.type)) for field in actual.schema]
    expected_columns = [(field.name, str(field.type)) for field in expected.schema]
    assert actual_columns == expected_columns, "columns differ"
    assert actual.num_rows == expected.num_rows, f"{actual.num_rows} rows instead of {expected.num_rows}"
    for name in expected.column_names:
        assert_same_column(name, actual.column(name), expected.column(name), tolerance)


def assert_same_column(name, actual: pyarrow.ChunkedArray, expected: pyarrow.ChunkedArray, tolerance: float) -> None:
    # The quick way first: exports are long, and comparing Python objects is slow.
    if actual.equals(expected):
        return
    # Times as integers: Python's own have no nanoseconds.
    if pyarrow.types.is_timestamp(expected.type):
        actual, expected = actual.cast(pyarrow.int64()), expected.cast(pyarrow.int64())
    for row, (got, wanted) in enumerate(zip(actual.to_pylist(), expected.to_pylist(), strict=True)):
        assert same(got, wanted, tolerance), f'row {row}, column "{name}": {got!r} instead of {wanted!r}'


def same(got, wanted, tolerance: float) -> bool:
    if isinstance(got, float) and isinstance(wanted, float):
        return math.isclose(got, wanted, rel_tol=tolerance, abs_tol=tolerance and 1e-12)
    return got == wanted
