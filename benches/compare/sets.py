"""More sets of points beside the machines' processors (`points.py`): everything that TSBS's machines report, very many series, and
very wide rows. Each knows its questions.

A set has `name`, `tables` (the names of its tables), `count` (its rows), `bodies()` (line protocol in order of time), `kinds`, and what
`flightline serve` has to be told for it; and `caches`, which are made before `cached_kinds` are asked.
"""

import random
from dataclasses import dataclass

from points import BODY_ROWS, FIELDS, INTERVAL_SECONDS, SECOND, Points
from queries import HOUR, Kind, Question, fixed, hosts, influxql_where, sql_where, window

# What each measurement of TSBS's "devops" reports besides the processors; "%" marks what is a share of something.
DEVOPS = {
    "disk": ["total", "free", "used", "used_percent%", "inodes_total", "inodes_free", "inodes_used"],
    "diskio": ["reads", "writes", "read_bytes", "write_bytes", "read_time", "write_time", "io_time"],
    "kernel": ["boot_time", "interrupts", "context_switches", "processes_forked", "disk_pages_in", "disk_pages_out"],
    "mem": [
        "total", "available", "used", "free", "cached", "buffered", "used_percent%", "available_percent%", "buffered_percent%",
    ],
    "net": ["bytes_sent", "bytes_recv", "packets_sent", "packets_recv", "err_in", "err_out", "drop_in", "drop_out"],
    "nginx": ["accepts", "active", "handled", "reading", "requests", "waiting", "writing"],
    "postgresl": [
        "numbackends", "xact_commit", "xact_rollback", "blks_read", "blks_hit", "tup_returned", "tup_fetched", "tup_inserted",
        "tup_updated", "tup_deleted", "conflicts", "temp_files", "temp_bytes", "deadlocks", "blk_read_time", "blk_write_time",
    ],
    "redis": [
        "uptime_in_seconds", "total_connections_received", "expired_keys", "evicted_keys", "keyspace_hits", "keyspace_misses",
        "instantaneous_ops_per_sec", "instantaneous_input_kbps", "instantaneous_output_kbps", "connected_clients", "used_memory",
        "used_memory_rss", "used_memory_peak", "used_memory_lua", "rdb_changes_since_last_save", "sync_full", "sync_partial_ok",
        "sync_partial_err", "pubsub_channels", "pubsub_patterns", "latest_fork_usec", "connected_slaves", "master_repl_offset",
        "repl_backlog_active", "repl_backlog_size", "repl_backlog_histlen", "mem_fragmentation_ratio", "used_cpu_sys",
        "used_cpu_user", "used_cpu_sys_children", "used_cpu_user_children",
    ],
}

# The tags that some measurements have besides those of the machine, with what one machine has there.
MORE_TAGS = {
    "disk": lambda numbers: f",path=/dev/sda{numbers.randrange(10)},fstype={numbers.choice(['ext3', 'ext4', 'btrfs'])}",
    "diskio": lambda numbers: f",serial={numbers.randrange(1000)}-{numbers.randrange(1000)}",
    "net": lambda numbers: f",interface=eth{numbers.randrange(4)}",
    "nginx": lambda numbers: f",port={numbers.randrange(20000)},server=nginx_{numbers.randrange(100_000)}",
    "redis": lambda numbers: f",port={numbers.randrange(20000)},server=redis_{numbers.randrange(100_000)}",
}


def packed(lines, rows=BODY_ROWS):
    """Lines as bodies of so many."""
    body = []
    for line in lines:
        body.append(line)
        if len(body) == rows:
            yield "\n".join(body).encode()
            body = []
    if body:
        yield "\n".join(body).encode()


@dataclass(frozen=True)
class Devops(Points):
    """Nine measurements of each machine, 101 fields in all; `rows` of all nine together."""

    name = "devops"
    tables = ("cpu", *DEVOPS)
    caches = cached_kinds = ()

    @property
    def steps(self):
        return max(self.rows // self.hosts // len(self.tables), 1)

    @property
    def count(self):
        return self.steps * self.hosts * len(self.tables)

    def bodies(self, rows=BODY_ROWS):
        import numpy

        numbers, choices = numpy.random.default_rng(self.seed), random.Random(self.seed)
        fields = {"cpu": [f"{field}%" for field in FIELDS], **DEVOPS}
        tags = [",".join(map("=".join, zip(self.tag_names, tags))) for tags in self.tags()]
        heads = {table: [f"{table},{of}{MORE_TAGS.get(table, lambda _: '')(choices)} " for of in tags] for table in fields}
        # Shares walk between 0 and 100 in hundredths; what is counted goes up by whole numbers.
        forms = {
            table: ",".join(f"{name[:-1]}=%d.%02d" if name.endswith("%") else f"{name}=%di" for name in names)
            for table, names in fields.items()
        }
        state = {table: numbers.integers(0, 10_001, (self.hosts, len(names))) for table, names in fields.items()}

        def lines():
            for step in range(self.steps):
                time = (self.start_seconds + step * INTERVAL_SECONDS) * SECOND
                for table, names in fields.items():
                    shares = numpy.array([name.endswith("%") for name in names])
                    moved = state[table] + numpy.where(
                        shares, numbers.integers(-100, 101, state[table].shape), numbers.integers(0, 50, state[table].shape)
                    )
                    state[table] = numpy.where(shares, numpy.clip(moved, 0, 10_000), moved)
                    for head, row in zip(heads[table], state[table].tolist()):
                        values = []
                        for share, value in zip(shares, row):
                            values.extend((value // 100, value % 100) if share else (value,))
                        yield f"{head}{forms[table] % tuple(values)} {time}"

        yield from packed(lines(), rows)

    @property
    def kinds(self):
        def by_hour(table, field):
            def make(numbers, points):
                start, end = window(numbers, points, 12 * HOUR)
                return Question(
                    f"SELECT date_trunc('hour', time) AS bucket, hostname, avg({field}) AS {field} FROM {table} "
                    f"WHERE {sql_where([], start, end)} GROUP BY 1, 2 ORDER BY 1, 2",
                    f"SELECT mean({field}) FROM {table} WHERE {influxql_where([], start, end)} GROUP BY time(1h), hostname fill(none)",
                )

            return Kind(f"{table}-{field}-by-hour", make)

        def spread(table, field):
            def make(numbers, points):
                start, end = window(numbers, points, HOUR)
                (name,) = hosts(numbers, points, 1)
                return Question(
                    f"SELECT date_trunc('minute', time) AS bucket, max({field}) - min({field}) AS moved FROM {table} "
                    f"WHERE {sql_where([name], start, end)} GROUP BY 1 ORDER BY 1",
                    f"SELECT spread({field}) FROM {table} WHERE {influxql_where([name], start, end)} GROUP BY time(1m) fill(none)",
                )

            return Kind(f"{table}-{field}-of-one", make)

        def joined(numbers, points):
            start, end = window(numbers, points, HOUR)
            return Question(
                "SELECT c.hostname, avg(c.usage_user) AS usage_user, avg(m.used_percent) AS used_percent FROM cpu c "
                "JOIN mem m ON c.hostname = m.hostname AND c.time = m.time "
                f"WHERE {sql_where([], start, end).replace('time', 'c.time')} GROUP BY c.hostname ORDER BY c.hostname"
            )

        fullest = "SELECT hostname, min(free) AS free FROM disk GROUP BY hostname"
        return [
            by_hour("cpu", "usage_user"), by_hour("mem", "used_percent"), by_hour("redis", "used_memory"),
            spread("diskio", "reads"), spread("net", "bytes_recv"), spread("nginx", "requests"),
            spread("postgresl", "xact_commit"), spread("kernel", "interrupts"),
            Kind("disk-fullest", fixed(fullest, "SELECT min(free) FROM disk GROUP BY hostname")),
            Kind("redis-lastpoint", fixed(
                "SELECT DISTINCT ON (hostname) * FROM redis ORDER BY hostname, time DESC",
                "SELECT last(used_memory) FROM redis GROUP BY hostname",
                "SELECT * FROM redis LATEST ON time PARTITION BY hostname",
            )),
            Kind("cpu-with-mem", joined),
        ]


@dataclass(frozen=True)
class Series:
    """So many devices of a thousand sites, each of which reports one number twice."""

    series: int
    end_seconds: int
    seed: int = 7
    name = "series"
    tables = ("reading",)
    serve = ()
    reports = 2
    caches = (
        ("last_cache", {"table": "reading", "name": "newest", "key_columns": ["device"]}),
        ("distinct_cache", {"table": "reading", "name": "sites", "columns": ["site"]}),
    )

    @property
    def count(self):
        return self.series * self.reports

    @property
    def start_seconds(self):
        return self.end_seconds - (self.reports - 1) * HOUR

    def bodies(self, rows=BODY_ROWS):
        import numpy

        numbers = numpy.random.default_rng(self.seed)

        def lines():
            for report in range(self.reports):
                time = (self.start_seconds + report * HOUR) * SECOND
                for device, value in enumerate(numbers.integers(0, 10_001, self.series).tolist()):
                    yield f"reading,device=device_{device},site=site_{device % 1000} value={value // 100}.{value % 100:02d} {time}"

        yield from packed(lines(), rows)

    @property
    def kinds(self):
        def one(columns):
            def make(numbers, points):
                device = f"device_{numbers.randrange(points.series)}"
                rows = f"FROM reading WHERE device = '{device}'"
                if columns == "*":
                    last = f"last_over_time(reading_value{{device=\"{device}\"}}[{points.reports}h])"
                    asked = (last, points.end_seconds, points.end_seconds, 60)
                    return Question(f"SELECT * {rows} ORDER BY time", f"SELECT value {rows}", asked)
                return Question(f"SELECT value {rows} ORDER BY time DESC LIMIT 1", f"SELECT last(value) {rows}")

            return make

        def site(numbers, _):
            name = f"site_{numbers.randrange(1000)}"
            return Question(
                f"SELECT sum(value) AS value FROM reading WHERE site = '{name}'", f"SELECT sum(value) FROM reading WHERE site = '{name}'"
            )

        def shown(statement):
            return lambda numbers, _: Question(None, f"{statement} WHERE site = 'site_{numbers.randrange(1000)}'")

        return [
            Kind("one-series", one("*")),
            Kind("last-point-of-one", one("value")),
            Kind("sum-of-a-site", site),
            Kind("count-of-series", fixed("SELECT count(DISTINCT device) AS devices FROM reading"), is_heavy=True),
            Kind("tag-values", fixed("SELECT DISTINCT site FROM reading", "SHOW TAG VALUES FROM reading WITH KEY = site"), is_heavy=True),
            Kind("tag-values-of-each", fixed("SELECT DISTINCT device FROM reading", "SHOW TAG VALUES FROM reading WITH KEY = device"), is_heavy=True),
            Kind("mean-by-site", fixed(
                "SELECT site, avg(value) AS value FROM reading GROUP BY site", "SELECT mean(value) FROM reading GROUP BY site"
            ), is_heavy=True),
            Kind("last-by-site", fixed(None, "SELECT last(value) FROM reading GROUP BY site"), is_heavy=True),
            Kind("show-tag-values-of-a-site", shown("SHOW TAG VALUES FROM reading WITH KEY = device")),
            Kind("show-series-of-a-site", shown("SHOW SERIES FROM reading")),
            Kind("show-series", fixed(None, "SHOW SERIES FROM reading"), is_heavy=True),
            Kind("show-ten-series", fixed(None, "SHOW SERIES FROM reading LIMIT 10"), is_heavy=True),
            Kind("show-series-cardinality", fixed(None, "SHOW SERIES EXACT CARDINALITY"), is_heavy=True),
            Kind("show-tag-keys-of-a-site", shown("SHOW TAG KEYS FROM reading")),
        ]

    @property
    def cached_kinds(self):
        def newest(numbers, points):
            where = f"device = 'device_{numbers.randrange(points.series)}'"
            return Question(
                f"SELECT value FROM reading WHERE {where} ORDER BY time DESC LIMIT 1",
                f"SELECT last(value) FROM reading WHERE {where}",
                cached=f"SELECT value FROM last_cache('reading') WHERE {where}",
            )

        return [
            Kind("last-cache-1", newest),
            Kind("distinct-cache-all", fixed(
                "SELECT DISTINCT site FROM reading", "SHOW TAG VALUES FROM reading WITH KEY = site",
                cached="SELECT site FROM distinct_cache('reading')",
            )),
        ]


@dataclass(frozen=True)
class Wide:
    """Few machines with so many fields a row."""

    fields: int
    rows: int
    end_seconds: int
    seed: int = 7
    name = "wide"
    tables = ("wide",)
    caches = cached_kinds = ()
    serve = ("--max-columns-per-table", "10000")
    hosts = 10

    @property
    def steps(self):
        return max(self.rows // self.hosts, 1)

    @property
    def count(self):
        return self.steps * self.hosts

    @property
    def start_seconds(self):
        return self.end_seconds - (self.steps - 1) * INTERVAL_SECONDS

    def bodies(self, rows=None):
        import numpy

        numbers = numpy.random.default_rng(self.seed)
        walks = numbers.integers(0, 10_001, (self.hosts, self.fields))
        form = ",".join(f"f{field}=%d.%02d" for field in range(self.fields))

        def lines():
            nonlocal walks
            for step in range(self.steps):
                walks = numpy.clip(walks + numbers.integers(-100, 101, walks.shape), 0, 10_000)
                time = (self.start_seconds + step * INTERVAL_SECONDS) * SECOND
                values = numpy.stack([walks // 100, walks % 100], axis=2).reshape(self.hosts, -1).tolist()
                for host, row in enumerate(values):
                    yield f"wide,hostname=host_{host} {form % tuple(row)} {time}"

        # As many values a request as elsewhere.
        yield from packed(lines(), rows or max(BODY_ROWS * len(FIELDS) // self.fields, 1))

    @property
    def kinds(self):
        def some(count):
            def make(numbers, points):
                names = [f"f{field}" for field in sorted(numbers.sample(range(points.fields), min(count, points.fields)))]
                (machine,) = hosts(numbers, points, 1)
                of = lambda function: ", ".join(f"{function}({name}) AS {name}" for name in names)
                return Question(
                    f"SELECT {of('avg')} FROM wide WHERE hostname = '{machine}'",
                    f"SELECT {of('mean')} FROM wide WHERE hostname = '{machine}'",
                )

            return make

        def newest(numbers, points):
            (machine,) = hosts(numbers, points, 1)
            return Question(
                f"SELECT * FROM wide WHERE hostname = '{machine}' ORDER BY time DESC LIMIT 1",
                f"SELECT * FROM wide WHERE hostname = '{machine}' ORDER BY time DESC LIMIT 1",
            )

        every = lambda function: ", ".join(f"{function}(f{field}) AS f{field}" for field in range(self.fields))
        return [
            Kind("one-field-of-one", some(1)),
            Kind("ten-fields-of-one", some(10)),
            Kind("newest-row-of-one", newest),
            Kind("count-all", fixed("SELECT count(*) AS rows FROM wide", "SELECT count(f0) FROM wide")),
            Kind("mean-of-every-field", fixed(f"SELECT {every('avg')} FROM wide", f"SELECT {every('mean')} FROM wide"), is_heavy=True),
            Kind("export-all", fixed("SELECT * FROM wide"), is_heavy=True),
        ]
