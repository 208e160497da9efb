"""What is asked of the server through every client, and what DuckDB is asked over the same frames.

A question's `sql` is what the server gets. DuckDB gets the same text unless its dialect differs: `duckdb`. Every
question orders its rows completely, so that answers can be compared row by row. `columns` is part of the expectation:
an answer over Arrow must have exactly these names and types.
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb
import pyarrow

from nycflights import Table

TEXT = pyarrow.string()
WHOLE = pyarrow.int64()
REAL = pyarrow.float64()
TIME = pyarrow.timestamp("ns")


@dataclass(frozen=True)
class Question:
    name: str
    columns: dict[str, pyarrow.DataType]
    sql: str
    duckdb: str | None = None

    def schema(self) -> pyarrow.Schema:
        return pyarrow.schema(list(self.columns.items()))

    def answer(self, frames: duckdb.DuckDBPyConnection) -> pyarrow.Table:
        """What DuckDB says, in this question's types (its sums of integers, for one, are wider than anyone's)."""
        table = frames.sql(self.duckdb or self.sql).to_arrow_table()
        return table.rename_columns(list(self.columns)).cast(self.schema())


QUESTIONS = [
    Question(
        "rows per origin",
        {"origin": TEXT, "observations": WHOLE},
        "SELECT origin, count(*) AS observations FROM weather GROUP BY origin ORDER BY origin",
    ),
    Question(
        "values present per origin",
        {"origin": TEXT, "gusts": WHOLE, "pressures": WHOLE, "directions": WHOLE, "rain": REAL},
        """
        SELECT origin, count(wind_gust) AS gusts, count(pressure) AS pressures, count(wind_dir) AS directions,
               sum(precip) AS rain
        FROM weather GROUP BY origin ORDER BY origin
        """,
    ),
    Question(
        "monthly mean temperature per origin",
        {"month": TIME, "origin": TEXT, "temp": REAL, "observations": WHOLE},
        """
        SELECT date_bin(INTERVAL '1 month', time) AS month, origin, avg(temp) AS temp, count(temp) AS observations
        FROM weather GROUP BY 1, 2 ORDER BY 1, 2
        """,
        """
        SELECT date_trunc('month', time), origin, avg(temp), count(temp)
        FROM weather GROUP BY 1, 2 ORDER BY 1, 2
        """,
    ),
    Question(
        "six-hourly pressure in one week",
        {"bin": TIME, "lowest": REAL, "highest": REAL, "mean": REAL},
        """
        SELECT date_bin(INTERVAL '6 hours', time) AS bin, min(pressure) AS lowest, max(pressure) AS highest,
               avg(pressure) AS mean
        FROM weather WHERE time >= '2013-02-04T00:00:00Z' AND time < '2013-02-11T00:00:00Z'
        GROUP BY 1 ORDER BY 1
        """,
        """
        SELECT make_timestamp_ns(epoch_ns(time) // 21600000000000 * 21600000000000), min(pressure), max(pressure),
               avg(pressure)
        FROM weather
        WHERE time >= TIMESTAMP '2013-02-04 00:00:00' AND time < TIMESTAMP '2013-02-11 00:00:00'
        GROUP BY 1 ORDER BY 1
        """,
    ),
    Question(
        "strongest gust per origin",
        {"origin": TEXT, "gust": REAL, "coldest": REAL, "hottest": REAL},
        """
        SELECT origin, max(wind_gust) AS gust, min(temp) AS coldest, max(temp) AS hottest
        FROM weather GROUP BY origin ORDER BY origin
        """,
    ),
    Question(
        "spread and relation of measurements",
        {"origin": TEXT, "middle": REAL, "spread": REAL, "relation": REAL},
        """
        SELECT origin, median(temp) AS middle, stddev(temp) AS spread, corr(temp, dewp) AS relation
        FROM weather GROUP BY origin ORDER BY origin
        """,
    ),
    Question(
        "the day the clocks went forward",
        {"time": TIME, "temp": REAL, "pressure": REAL, "wind_gust": REAL},
        """
        SELECT time, temp, pressure, wind_gust FROM weather
        WHERE origin = 'JFK' AND time >= '2013-03-10T00:00:00Z' AND time < '2013-03-11T00:00:00Z' ORDER BY time
        """,
        """
        SELECT time, temp, pressure, wind_gust FROM weather
        WHERE origin = 'JFK' AND time >= TIMESTAMP '2013-03-10 00:00:00' AND time < TIMESTAMP '2013-03-11 00:00:00'
        ORDER BY time
        """,
    ),
    Question(
        "the newest observations",
        {"time": TIME, "origin": TEXT, "temp": REAL, "wind_gust": REAL},
        "SELECT time, origin, temp, wind_gust FROM weather ORDER BY time DESC, origin LIMIT 7",
    ),
    Question(
        "the last value of each origin",
        {"origin": TEXT, "time": TIME, "temp": REAL},
        """
        SELECT origin, max(time) AS time, last_value(temp ORDER BY time) AS temp
        FROM weather GROUP BY origin ORDER BY origin
        """,
        "SELECT origin, max(time), arg_max_null(temp, time) FROM weather GROUP BY origin ORDER BY origin",
    ),
    Question(
        "the warmest hour of each month",
        {"month": TIME, "origin": TEXT, "time": TIME, "temp": REAL},
        """
        WITH ranked AS (
            SELECT date_trunc('month', time) AS month, origin, time, temp,
                   row_number() OVER (PARTITION BY date_trunc('month', time) ORDER BY temp DESC, time, origin) AS place
            FROM weather WHERE temp IS NOT NULL
        )
        SELECT month, origin, time, temp FROM ranked WHERE place = 1 ORDER BY month
        """,
    ),
    Question(
        "temperature change to the hour before",
        {"time": TIME, "change": REAL},
        """
        SELECT time, temp - lag(temp) OVER (ORDER BY time) AS change FROM weather
        WHERE origin = 'LGA' AND time < '2013-01-08T00:00:00Z' ORDER BY time
        """,
        """
        SELECT time, temp - lag(temp) OVER (ORDER BY time) FROM weather
        WHERE origin = 'LGA' AND time < TIMESTAMP '2013-01-08 00:00:00' ORDER BY time
        """,
    ),
    Question(
        "no rows",
        {"time": TIME, "origin": TEXT, "temp": REAL},
        "SELECT time, origin, temp FROM weather WHERE temp > 1000 ORDER BY time, origin",
    ),
    Question(
        "flights per carrier",
        {"carrier": TEXT, "flights": WHOLE, "planes": WHOLE, "miles": WHOLE},
        """
        SELECT carrier, count(*) AS flights, count(DISTINCT tailnum) AS planes, sum(distance) AS miles
        FROM flights GROUP BY carrier ORDER BY flights DESC, carrier
        """,
    ),
    Question(
        "mean departure delay by origin and month",
        {"origin": TEXT, "month": TIME, "delay": REAL, "cancelled": WHOLE},
        """
        SELECT origin, date_bin(INTERVAL '1 month', time) AS month, avg(dep_delay) AS delay,
               count(*) - count(dep_time) AS cancelled
        FROM flights GROUP BY 1, 2 ORDER BY 1, 2
        """,
        """
        SELECT origin, date_trunc('month', time), avg(dep_delay), count(*) - count(dep_time)
        FROM flights GROUP BY 1, 2 ORDER BY 1, 2
        """,
    ),
    Question(
        "top 10 delays",
        {"time": TIME, "carrier": TEXT, "flight": WHOLE, "tailnum": TEXT, "dest": TEXT, "dep_delay": WHOLE},
        """
        SELECT time, carrier, flight, tailnum, dest, dep_delay FROM flights
        WHERE dep_delay IS NOT NULL ORDER BY dep_delay DESC, time, carrier, flight LIMIT 10
        """,
    ),
    Question(
        "flights without a tail number",
        {"carrier": TEXT, "flights": WHOLE, "first": TIME},
        """
        SELECT carrier, count(*) AS flights, min(time) AS first FROM flights
        WHERE tailnum IS NULL GROUP BY carrier ORDER BY carrier
        """,
    ),
    Question(
        "one plane's first flights",
        {"time": TIME, "origin": TEXT, "dest": TEXT, "flight": WHOLE, "air_time": WHOLE},
        """
        SELECT time, origin, dest, flight, air_time FROM flights
        WHERE tailnum = 'N328AA' ORDER BY time LIMIT 25
        """,
    ),
    Question(
        "letters of tail numbers",
        {"letter": TEXT, "flights": WHOLE},
        """
        SELECT CASE WHEN tailnum LIKE 'N%' THEN upper(substr(tailnum, 1, 2)) ELSE 'other' END AS letter,
               count(*) AS flights
        FROM flights GROUP BY 1 HAVING count(*) > 100 ORDER BY 1
        """,
    ),
    Question(
        "destinations that are later than the mean",
        {"dest": TEXT, "flights": WHOLE, "delay": REAL},
        """
        SELECT dest, count(*) AS flights, avg(arr_delay) AS delay FROM flights
        GROUP BY dest HAVING avg(arr_delay) > (SELECT avg(arr_delay) + 5 FROM flights)
        ORDER BY delay DESC, dest
        """,
    ),
    Question(
        "flights of the stormiest days",
        {"origin": TEXT, "flights": WHOLE, "cancelled": WHOLE},
        """
        SELECT origin, count(*) AS flights, count(*) - count(dep_time) AS cancelled FROM flights
        WHERE date_trunc('day', time) IN (SELECT date_trunc('day', time) FROM weather WHERE wind_gust > 55)
        GROUP BY origin ORDER BY origin
        """,
    ),
    Question(
        "delay in wet and dry hours",
        {"origin": TEXT, "wet": pyarrow.bool_(), "flights": WHOLE, "delay": REAL},
        """
        SELECT f.origin, w.precip > 0 AS wet, count(*) AS flights, avg(f.dep_delay) AS delay
        FROM flights f JOIN weather w ON f.origin = w.origin AND date_trunc('hour', f.time) = w.time
        GROUP BY 1, 2 ORDER BY 1, 2
        """,
    ),
    Question(
        "flights in hours that nobody observed",
        {"origin": TEXT, "flights": WHOLE},
        """
        SELECT f.origin, count(*) AS flights
        FROM flights f LEFT JOIN weather w ON f.origin = w.origin AND date_trunc('hour', f.time) = w.time
        WHERE w.time IS NULL GROUP BY 1 ORDER BY 1
        """,
    ),
    Question(
        "both tables side by side",
        {"source": TEXT, "origin": TEXT, "points": WHOLE, "first": TIME, "last": TIME},
        """
        SELECT 'flights' AS source, origin, count(*) AS points, min(time) AS first, max(time) AS last
        FROM flights GROUP BY origin
        UNION ALL
        SELECT 'weather' AS source, origin, count(*) AS points, min(time) AS first, max(time) AS last
        FROM weather GROUP BY origin
        ORDER BY source, origin
        """,
    ),
]


def export(table: Table) -> str:
    """Everything in the order in which `table.arrow()` has it: by time, then tags, nulls last."""
    order = ", ".join(f"{column} ASC NULLS LAST" for column in ("time", *table.tags))
    return f"SELECT {', '.join(table.columns())} FROM {table.name} ORDER BY {order}"
