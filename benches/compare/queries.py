"""The questions: TSBS's for machines, and what dashboards, notebooks and exports ask beside them.

A question is made of random machines and a random stretch of time; each peer gets it in its own language, where that can say it.
"""

import random
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from points import FIELDS

HOUR = 3600


@dataclass(frozen=True)
class Question:
    """One question in each language that can ask it. PromQL brings the stretch of time and the step along."""

    sql: str | None
    influxql: str | None = None
    promql: tuple[str, int, int, int] | None = None
    questdb: str | None = None
    """Where QuestDB's SQL says it in other words."""
    cached: str | None = None
    """Where Flightline's SQL names a cache."""


@dataclass(frozen=True)
class Kind:
    name: str
    make: object
    """What it asks, once for each run: a function of random numbers and points."""
    is_heavy: bool = False


def stamp(seconds):
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def window(numbers, points, seconds):
    """A stretch of time somewhere in the points."""
    latest = max(points.end_seconds - seconds, points.start_seconds)
    start = numbers.randint(points.start_seconds, latest)
    return start, min(start + seconds, points.end_seconds)


def hosts(numbers, points, count):
    return [f"host_{number}" for number in numbers.sample(range(points.hosts), min(count, points.hosts))]


def sql_where(names, start=None, end=None, also=()):
    said = []
    if len(names) == 1:
        said.append(f"hostname = '{names[0]}'")
    elif names:
        said.append(f"hostname IN ({', '.join(map(repr, names))})")
    if start is not None:
        said.append(f"time >= TIMESTAMP '{stamp(start)[:-1]}'")
    if end is not None:
        said.append(f"time < TIMESTAMP '{stamp(end)[:-1]}'")
    return " AND ".join([*said, *also])


def influxql_where(names, start, end, also=()):
    machines = " OR ".join(f"hostname = '{name}'" for name in names)
    said = [f"({machines})"] if names else []
    return " AND ".join([*said, f"time >= '{stamp(start)}'", f"time < '{stamp(end)}'", *also])


def grouped(metrics, machines, hours, bucket="minute", aggregate="max"):
    """The greatest values of some fields of some machines, a minute or an hour each."""
    seconds = 60 if bucket == "minute" else HOUR

    def make(numbers, points):
        start, end = window(numbers, points, hours * HOUR)
        names, fields = hosts(numbers, points, machines), FIELDS[:metrics]
        columns = ", ".join(f"{aggregate}({field}) AS {field}" for field in fields)
        pattern = "|".join(names)
        return Question(
            f"SELECT date_trunc('{bucket}', time) AS bucket, {columns} FROM cpu WHERE {sql_where(names, start, end)} "
            "GROUP BY 1 ORDER BY 1",
            f"SELECT {columns} FROM cpu WHERE {influxql_where(names, start, end)} GROUP BY time({seconds}s) fill(none)",
            (
                f"{aggregate}({aggregate}_over_time({{__name__=~\"cpu_({'|'.join(fields)})\",hostname=~\"{pattern}\"}}"
                f"[{seconds}s])) by (__name__)",
                start, end, seconds,
            ),
        )

    return make


def double(metrics):
    """The average of some fields of all machines, hour by hour and machine by machine."""

    def make(numbers, points):
        start, end = window(numbers, points, 12 * HOUR)
        fields = FIELDS[:metrics]
        columns = ", ".join(f"avg({field}) AS {field}" for field in fields)
        means = columns.replace("avg(", "mean(")
        return Question(
            f"SELECT date_trunc('hour', time) AS bucket, hostname, {columns} FROM cpu WHERE {sql_where([], start, end)} "
            "GROUP BY 1, 2 ORDER BY 1, 2",
            f"SELECT {means} FROM cpu WHERE {influxql_where([], start, end)} GROUP BY time(1h), hostname fill(none)",
            (
                f"avg(avg_over_time({{__name__=~\"cpu_({'|'.join(fields)})\"}}[1h])) by (__name__, hostname)",
                start, end, HOUR,
            ),
        )

    return make


def order_limit(numbers, points):
    _, end = window(numbers, points, HOUR)
    return Question(
        f"SELECT date_trunc('minute', time) AS bucket, max(usage_user) AS usage_user FROM cpu WHERE {sql_where([], None, end)} "
        "GROUP BY 1 ORDER BY 1 DESC LIMIT 5",
        f"SELECT max(usage_user) AS usage_user FROM cpu WHERE time < '{stamp(end)}' AND time >= '{stamp(points.start_seconds)}' "
        "GROUP BY time(1m) fill(none) ORDER BY time DESC LIMIT 5",
    )


def high(machines):
    def make(numbers, points):
        start, end = window(numbers, points, 12 * HOUR)
        names = hosts(numbers, points, machines) if machines else []
        busy = ["usage_user > 90.0"]
        return Question(
            f"SELECT * FROM cpu WHERE {sql_where(names, start, end, busy)}",
            f"SELECT * FROM cpu WHERE {influxql_where(names, start, end, busy)}",
        )

    return make


def newest_of_one(numbers, points):
    name = hosts(numbers, points, 1)
    return Question(
        f"SELECT * FROM cpu WHERE {sql_where(name)} ORDER BY time DESC LIMIT 1",
        f"SELECT last(usage_user) AS usage_user FROM cpu WHERE hostname = '{name[0]}'",
        (f"last_over_time(cpu_usage_user{{hostname=\"{name[0]}\"}}[{points.steps * 10}s])", points.end_seconds, points.end_seconds, 60),
    )


def export_hour(numbers, points):
    start, end = window(numbers, points, HOUR)
    return Question(
        f"SELECT * FROM cpu WHERE {sql_where([], start, end)}",
        f"SELECT * FROM cpu WHERE {influxql_where([], start, end)}",
    )


def fixed(sql, influxql=None, questdb=None, cached=None):
    return lambda numbers, points: Question(sql, influxql, questdb=questdb, cached=cached)


ALL_FIELDS = ", ".join(f"{'avg' if number % 2 == 0 else 'max'}({field}) AS {field}" for number, field in enumerate(FIELDS))

KINDS = [
    Kind("select-1", fixed("SELECT 1 AS one")),
    Kind("single-groupby-1-1-1", grouped(1, 1, 1)),
    Kind("single-groupby-1-1-12", grouped(1, 1, 12)),
    Kind("single-groupby-1-8-1", grouped(1, 8, 1)),
    Kind("single-groupby-5-1-1", grouped(5, 1, 1)),
    Kind("single-groupby-5-1-12", grouped(5, 1, 12)),
    Kind("single-groupby-5-8-1", grouped(5, 8, 1)),
    Kind("cpu-max-all-1", grouped(10, 1, 8, "hour")),
    Kind("cpu-max-all-8", grouped(10, 8, 8, "hour")),
    Kind("double-groupby-1", double(1)),
    Kind("double-groupby-5", double(5)),
    Kind("double-groupby-all", double(10)),
    Kind("groupby-orderby-limit", order_limit),
    Kind("high-cpu-1", high(1)),
    Kind("high-cpu-all", high(0)),
    Kind("lastpoint", fixed(
        "SELECT DISTINCT ON (hostname) * FROM cpu ORDER BY hostname, time DESC",
        "SELECT last(usage_user) AS usage_user FROM cpu GROUP BY hostname",
        "SELECT * FROM cpu LATEST ON time PARTITION BY hostname",
    )),
    Kind("last-value-1", newest_of_one),
    Kind("newest-100", fixed("SELECT * FROM cpu ORDER BY time DESC LIMIT 100")),
    Kind("distinct-hostname", fixed("SELECT DISTINCT hostname FROM cpu", "SHOW TAG VALUES WITH KEY = hostname")),
    Kind("distinct-region-dc", fixed("SELECT DISTINCT region, datacenter FROM cpu")),
    Kind("count-all", fixed("SELECT count(*) AS rows FROM cpu", "SELECT count(usage_user) FROM cpu")),
    Kind("scan-agg-all", fixed(f"SELECT {ALL_FIELDS} FROM cpu", f"SELECT {ALL_FIELDS.replace('avg(', 'mean(')} FROM cpu"), is_heavy=True),
    Kind("export-1h", export_hour),
    Kind("export-all", fixed("SELECT * FROM cpu"), is_heavy=True),
]




def cached_point(numbers, points):
    asked = newest_of_one(numbers, points)
    cached = asked.sql.replace("FROM cpu", "FROM last_cache('cpu')").removesuffix(" ORDER BY time DESC LIMIT 1")
    return replace(asked, cached=cached)


# Asked when there are caches, which other questions must not find.
CACHES = [
    ("last_cache", {"table": "cpu", "name": "newest", "key_columns": ["hostname"]}),
    ("distinct_cache", {"table": "cpu", "name": "machines", "columns": ["hostname"]}),
]
CACHED_KINDS = [
    Kind("last-cache-1", cached_point),
    Kind("last-cache-all", fixed(
        "SELECT DISTINCT ON (hostname) hostname, usage_user FROM cpu ORDER BY hostname, time DESC",
        questdb="SELECT hostname, usage_user FROM cpu LATEST ON time PARTITION BY hostname",
        cached="SELECT hostname, usage_user FROM last_cache('cpu')",
    )),
    Kind("distinct-cache-all", fixed("SELECT DISTINCT hostname FROM cpu", cached="SELECT hostname FROM distinct_cache('cpu')")),
]


def questions(kind, points, count):
    """The same questions for every peer."""
    numbers = random.Random(f"{kind.name} {points.seed}")
    return [kind.make(numbers, points) for _ in range(count)]
