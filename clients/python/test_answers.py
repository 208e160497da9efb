"""Every question through every client: the answer is DuckDB's answer over the same rows."""

from __future__ import annotations

import pyarrow
import pytest

from compare import assert_same
from questions import QUESTIONS, export


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_the_answer_is_that_of_duckdb(client, question, frames):
    actual = client.ask(question.sql, question.schema())
    assert_same(actual, question.answer(frames))


def test_all_weather_comes_back_as_it_was_written(client, weather):
    expected = weather.arrow()
    actual = client.ask(export(weather), expected.schema)
    assert_same(actual, expected, tolerance=0)


def test_select_star_lists_the_columns_by_name(client, weather):
    expected = weather.arrow()
    actual = client.ask("SELECT * FROM weather", expected.schema)
    # Nobody asked for an order, so any is right.
    assert_same(actual.sort_by([("time", "ascending"), ("origin", "ascending")]), expected, tolerance=0)


def test_all_flights_come_back_as_they_were_written(client, flights):
    expected = flights.arrow()
    actual = client.ask(export(flights), expected.schema)
    assert_same(actual, expected, tolerance=0)


def test_the_comparison_sees_a_difference(frames):
    """A guard over the guards: one wrong digit, null, type or row must fail."""
    right = pyarrow.table({"a": [1.0, None], "b": ["x", "y"]})
    assert_same(right, right)
    for wrong in (
        pyarrow.table({"a": [1.00000001, None], "b": ["x", "y"]}),
        pyarrow.table({"a": [1.0, 0.0], "b": ["x", "y"]}),
        pyarrow.table({"a": [1.0, None], "b": ["x", "z"]}),
        pyarrow.table({"a": [1.0, None], "b": pyarrow.array(["x", "y"]).dictionary_encode()}),
        pyarrow.table({"a": [1.0], "b": ["x"]}),
        pyarrow.table({"b": ["x", "y"], "a": [1.0, None]}),
    ):
        with pytest.raises(AssertionError):
            assert_same(wrong, right)
