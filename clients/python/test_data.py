"""The data itself, without a server: what the lines say is what the frames say."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pyarrow
import pytest

import load_nycflights
import nycflights
from compare import assert_same

WEATHER_FILE = Path(__file__).parents[2] / "tests" / "data" / "nyc_weather.lp.gz"

LINE = re.compile(r"(?P<measurement>\w+)(?P<tags>(?:,\w+=\w+)*) (?P<fields>\w+=[^, ]+(?:,\w+=[^, ]+)*) (?P<time>\d+)")


@pytest.mark.parametrize("table_of", [nycflights.weather, nycflights.flights], ids=["weather", "flights"])
def test_the_lines_read_back_as_the_frame(table_of):
    table = table_of()
    rows = [parsed(line, table.name) for line in table.lines()]
    schema = table.schema()
    columns = [pyarrow.array([row.get(field.name) for row in rows], field.type) for field in schema]
    assert_same(pyarrow.Table.from_arrays(columns, schema=schema), table.arrow(), tolerance=0)


def test_the_stored_weather_file_is_what_the_loader_writes(weather, tmp_path):
    again = tmp_path / "again.lp.gz"
    load_nycflights.write_file([weather], again)
    assert gzip.decompress(again.read_bytes()) == gzip.decompress(WEATHER_FILE.read_bytes())


def test_an_observation_has_one_place_also_when_the_clocks_change(weather):
    frame = weather.frame
    assert not frame.duplicated(["origin", "time"]).any()
    autumn = frame[(frame.origin == "JFK") & frame.time.between("2013-11-03T04:00", "2013-11-03T08:00")]
    # One o'clock in the morning came twice in New York: 05:00 and 06:00 UTC.
    assert [time.hour for time in autumn.time] == [5, 6, 7, 8]


def parsed(line: str, measurement: str) -> dict:
    """The ten lines of line protocol that this data needs; an error is better than a guess."""
    match = LINE.fullmatch(line)
    assert match and match["measurement"] == measurement, line
    row: dict = {"time": int(match["time"])}
    for tag in filter(None, match["tags"].split(",")):
        name, value = tag.split("=")
        row[name] = value
    for field in match["fields"].split(","):
        name, value = field.split("=")
        row[name] = int(value[:-1]) if value.endswith("i") else float(value)
    return row
