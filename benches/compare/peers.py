"""Who is asked: Flightline in each of its protocols, and the databases beside it. Each answers with a number of rows and a sum of
their numbers, so that answers can be held against one another, and keeps connections open as dashboards do.
"""

import http.client
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 600


class Unanswered(Exception):
    """The peer has no way to ask this."""


def said(text):
    """The question in the peer's language, if that can say it."""
    if text is None:
        raise Unanswered
    return text


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait(what, is_done):
    until = time.monotonic() + PATIENCE_SECONDS
    while not is_done():
        if time.monotonic() > until:
            raise TimeoutError(f"{what}: not within {PATIENCE_SECONDS} seconds")
        time.sleep(0.01)


class Http:
    """Connections that stay open, one for each thread."""

    def __init__(self, port):
        self.port = port
        self.local = threading.local()

    def request(self, method, path, body=None, headers=None):
        try:
            return self.once(method, path, body, headers)
        except http.client.RemoteDisconnected:
            # Nobody asked for longer than a server keeps a connection open. What writes is not repeated.
            if method != "GET":
                raise
            return self.once(method, path, body, headers)

    def once(self, method, path, body, headers):
        connection = getattr(self.local, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
            connection.connect()
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.local.connection = connection
        try:
            connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()
            answer = response.read()
        except OSError:
            self.local.connection = None
            raise
        if response.status >= 300:
            raise RuntimeError(f"{method} {path[:200]}: {response.status} {answer[:500].decode(errors='replace')}")
        return answer

    def answers(self, path):
        try:
            self.request("GET", path)
            return True
        except (OSError, RuntimeError, http.client.HTTPException):
            return False


class Process:
    """A server that is asked to stop at the end."""

    def __init__(self, arguments, log, environment=None):
        self.log = open(log, "ab")
        self.process = subprocess.Popen(
            [str(argument) for argument in arguments], stdout=self.log, stderr=self.log, env={**os.environ, **(environment or {})}
        )

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wait_until_idle(self):
        """Until it takes less than a tenth of a processor for a second, but for no longer than a minute."""
        for _ in range(60):
            before = self.cpu_seconds()
            time.sleep(1)
            if self.cpu_seconds() - before < 0.1:
                return

    def peak_bytes(self):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
        return 0

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(PATIENCE_SECONDS)
        self.log.close()


def write_all(bodies, writers, write):
    """Hands bodies to so many threads; the seconds of each write. What one of them raises ends all."""
    bodies, lock, seconds, failures = iter(bodies), threading.Lock(), [], []

    def work():
        while not failures:
            with lock:
                body = next(bodies, None)
            if body is None:
                return
            began = time.perf_counter()
            try:
                write(body)
            except Exception as error:
                failures.append(error)
            seconds.append(time.perf_counter() - began)

    threads = [threading.Thread(target=work) for _ in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return sorted(seconds)


def digest(rows):
    """Number of rows and the sum of their numbers, times aside."""
    total = 0.0
    for row in rows:
        for value in row:
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                total += value
    return len(rows), total


def digest_arrow(table):
    import pyarrow
    import pyarrow.compute

    total = 0.0
    for column in table.columns:
        if pyarrow.types.is_floating(column.type) or pyarrow.types.is_integer(column.type):
            total += pyarrow.compute.sum(column).as_py() or 0.0
    return table.num_rows, total


def agree(one, other):
    return one[0] == other[0] and math.isclose(one[1], other[1], rel_tol=1e-9, abs_tol=1e-6)


class Flightline:
    """The server; `ask` is over Flight, as Grafana and the client libraries of InfluxDB 3 do it."""

    name = "Flightline"

    def __init__(self, directory, arguments=()):
        self.directory, self.arguments = Path(directory) / "flightline", arguments
        self.start()

    def start(self):
        from pyarrow import flight

        self.port = free_port()
        flightline = os.environ.get("FLIGHTLINE", ROOT / "target/release/flightline")
        self.process = Process(
            [flightline, "serve", "--without-auth", "--data-dir", self.directory, "--http-bind", f"127.0.0.1:{self.port}",
             "--log-filter", "warn", *self.arguments],
            f"{self.directory}.log",
        )
        self.http = Http(self.port)
        wait("Flightline's start", lambda: self.http.answers("/health"))
        self.flight = flight.FlightClient(f"grpc://127.0.0.1:{self.port}", generic_options=[("grpc.max_receive_message_length", 1 << 30)])

    def write(self, body, parameters=""):
        self.http.request("POST", f"/api/v3/write_lp?db=bench&precision=ns{parameters}", body)

    def writer(self):
        """A stream of batches, each of which is acknowledged when it is durable."""
        from pyarrow import flight

        return ArrowWriter(flight.FlightClient(f"grpc://127.0.0.1:{self.port}"))

    def make_caches(self, caches):
        """Makes caches of last or distinct values, and waits until they are filled."""
        for kind, cache in caches:
            body = json.dumps({"db": "bench", **cache})
            # On a connection of its own: nobody asked on the others for a while, and what changes something is not repeated.
            Http(self.port).request("POST", f"/api/v3/configure/{kind}", body, {"content-type": "application/json"})
        for kind in {kind for kind, _ in caches}:
            text = f"SELECT count(*) AS rows FROM system.{kind}s WHERE state = 'filling'"
            wait("Flightline's caches", lambda text=text: self.flight_table(text, "sql").to_pylist() == [{"rows": 0}])

    def at_rest(self):
        """Everything in Parquet: an orderly stop and a start."""
        self.stop()
        self.start()

    def ask(self, question):
        return self.flight_table(said(question.cached or question.sql), "sql")

    def flight_table(self, text, language):
        from pyarrow import flight

        ticket = json.dumps({"database": "bench", "sql_query": text, "query_type": language})
        return self.flight.do_get(flight.Ticket(ticket)).read_all()

    digest = staticmethod(digest_arrow)

    def files(self):
        return sorted(self.directory.rglob("*.parquet"))

    def tables(self):
        """The directory of each table, which is called NUMBER-NAME and has one for each day."""
        directories = {file.parent.parent for file in self.files()}
        return {directory.name.split("-", 1)[1]: directory for directory in sorted(directories)}

    def stored_bytes(self):
        return sum(file.stat().st_size for file in self.files())

    def stop(self, how=signal.SIGTERM):
        self.flight.close()
        self.process.stop(how)

    def kill(self):
        self.stop(signal.SIGKILL)


class ArrowWriter:
    """One connection that sends batches and has a few under way."""

    def __init__(self, client, under_way=4):
        self.client, self.places, self.sent, self.waits, self.failure = client, threading.Semaphore(under_way), [], [], None
        self.stream = None

    def write(self, batch):
        from pyarrow import flight

        if self.stream is None:
            path = flight.FlightDescriptor.for_path("bench", "cpu")
            self.stream, answers = self.client.do_put(path, batch.schema)
            self.reader = threading.Thread(target=self.read, args=(answers,))
            self.reader.start()
        self.places.acquire()
        if self.failure:
            raise self.failure
        self.sent.append(time.perf_counter())
        self.stream.write_batch(batch)

    def read(self, answers):
        try:
            while answers.read() is not None:
                self.waits.append(time.perf_counter() - self.sent[len(self.waits)])
                self.places.release()
        except Exception as error:
            self.failure = error
            self.places.release()

    def close(self):
        if self.stream is not None:
            self.stream.done_writing()
            self.reader.join()
            self.stream.close()
        if self.failure or len(self.waits) != len(self.sent):
            raise self.failure or RuntimeError("a batch was not acknowledged")
        self.client.close()


class FlightlineJson:
    """The same server over HTTP, with answers in JSON."""

    name = "Flightline, JSON"

    def __init__(self, flightline):
        self.flightline = flightline

    def ask(self, question):
        parameters = urllib.parse.urlencode({"db": "bench", "q": said(question.cached or question.sql), "format": "json"})
        return self.flightline.http.request("GET", f"/api/v3/query_sql?{parameters}")

    @staticmethod
    def digest(answer):
        return digest([row.values() for row in json.loads(answer)])


class FlightlineInfluxQl(FlightlineJson):
    """The same server, asked in InfluxQL as a server of InfluxDB 1 is."""

    name = "Flightline, InfluxQL"

    def ask(self, question):
        return influxql(self.flightline.http, said(question.influxql))

    @staticmethod
    def digest(answer):
        return digest_influxql(answer)


def influxql(http, text):
    return http.request("GET", "/query?" + urllib.parse.urlencode({"db": "bench", "epoch": "s", "q": text}))


def digest_influxql(answer):
    (result,) = json.loads(answer)["results"]
    if "error" in result:
        raise RuntimeError(result["error"])
    rows = [row[1:] for series in result.get("series", []) for row in series["values"]]
    return digest(rows)


def program(name, variable):
    """From the environment, beside this Python (where `install` puts it), or from PATH."""
    beside = Path(sys.executable).parent / name
    found = os.environ.get(variable) or (beside if beside.exists() else shutil.which(name))
    if found is None:
        raise FileNotFoundError(f"no {name}: run benches/compare/install, or name one in ${variable}")
    return found


class Influxd:
    """InfluxDB 1.x, each batch synced (its default)."""

    name = "InfluxDB 1.6"

    def __init__(self, directory):
        influxd = program("influxd", "INFLUXD")
        self.directory = Path(directory) / "influxd"
        self.directory.mkdir()
        self.port, rpc = free_port(), free_port()
        config = self.directory / "influxdb.conf"
        config.write_text(
            f'reporting-disabled = true\nbind-address = "127.0.0.1:{rpc}"\n[meta]\ndir = "{self.directory}/meta"\n'
            f'[data]\ndir = "{self.directory}/data"\nwal-dir = "{self.directory}/wal"\nindex-version = "tsi1"\n'
            "[monitor]\nstore-enabled = false\n[subscriber]\nenabled = false\n[continuous_queries]\nenabled = false\n"
            f'[retention]\nenabled = false\n[http]\nbind-address = "127.0.0.1:{self.port}"\nlog-enabled = false\n'
            'max-body-size = 0\n[logging]\nlevel = "warn"\n'
        )
        self.arguments = [influxd, "run", "-config", config]
        self.start()
        self.http.request("POST", "/query?" + urllib.parse.urlencode({"q": "CREATE DATABASE bench WITH DURATION INF SHARD DURATION 520w"}))

    def start(self):
        self.process = Process(self.arguments, self.directory / "log")
        self.http = Http(self.port)
        wait("influxd's start", lambda: self.http.answers("/ping"))

    def write(self, body):
        self.http.request("POST", "/write?db=bench&precision=ns", body)

    def at_rest(self):
        """Gives it the time to write its cache away."""
        time.sleep(5)

    def ask(self, question):
        return influxql(self.http, said(question.influxql))

    digest = staticmethod(digest_influxql)

    def stop(self):
        self.process.stop()

    def kill(self):
        self.process.stop(signal.SIGKILL)


class VictoriaMetrics:
    """VictoriaMetrics, which acknowledges before anything is on a disk."""

    name = "VictoriaMetrics 1.79"

    def __init__(self, directory):
        victoria = program("victoria-metrics", "VICTORIA_METRICS")
        self.directory = Path(directory) / "victoria"
        self.directory.mkdir()
        self.port = free_port()
        self.arguments = [
            victoria, f"-storageDataPath={self.directory}/data", f"-httpListenAddr=127.0.0.1:{self.port}", "-retentionPeriod=100y",
            "-search.disableCache", "-search.latencyOffset=0s", "-influxListenAddr=",
        ]
        self.start()

    def start(self):
        self.process = Process(self.arguments, self.directory / "log")
        self.http = Http(self.port)
        wait("VictoriaMetrics' start", lambda: self.http.answers("/health"))

    def write(self, body):
        self.http.request("POST", "/write?db=bench&precision=ns", body)

    def at_rest(self):
        self.http.request("GET", "/internal/force_flush")
        self.http.request("GET", "/internal/resetRollupResultCache")

    def ask(self, question):
        text, start, end, step = said(question.promql)
        parameters = {"query": text, "start": start, "end": end, "step": f"{step}s", "nocache": 1}
        return self.http.request("GET", "/api/v1/query_range?" + urllib.parse.urlencode(parameters))

    @staticmethod
    def digest(_):
        return None  # its windows close at the other end, so that its numbers are others

    @staticmethod
    def rows(answer):
        """The number that an answer of one series ends with."""
        series = json.loads(answer)["data"]["result"]
        return round(float(series[0]["values"][-1][1])) if series else 0

    def stop(self):
        self.process.stop()

    def kill(self):
        self.process.stop(signal.SIGKILL)


class QuestDb:
    """QuestDB: lines over HTTP, which it acknowledges before anything is synced (its default), and SQL with answers in JSON."""

    name = "QuestDB 9.3"

    def __init__(self, directory, tables):
        jar = program("questdb.jar", "QUESTDB_JAR")
        self.directory = Path(directory) / "questdb"
        self.directory.mkdir()
        self.port = free_port()
        self.settings = {
            "QDB_HTTP_BIND_TO": f"127.0.0.1:{self.port}", "QDB_HTTP_MIN_ENABLED": "false", "QDB_PG_ENABLED": "false",
            "QDB_LINE_TCP_ENABLED": "false", "QDB_TELEMETRY_ENABLED": "false",
        }
        self.arguments = [
            "java", "-XX:+UseParallelGC", "--add-exports", "java.base/jdk.internal.math=io.questdb", "-p", jar,
            "-m", "io.questdb/io.questdb.ServerMain", "-d", self.directory, "-f",
        ]
        self.start()
        # The other columns come with the lines; the time is to be called as everywhere.
        for table in tables:
            self.sql(f"CREATE TABLE {table} (time TIMESTAMP) TIMESTAMP(time) PARTITION BY DAY WAL")

    def start(self):
        self.process = Process(self.arguments, self.directory / "output", self.settings)
        self.http = Http(self.port)
        wait("QuestDB's start", lambda: self.http.answers("/exec?query=SELECT%201"))

    def sql(self, text):
        return self.http.request("GET", "/exec?" + urllib.parse.urlencode({"query": text}))

    def write(self, body):
        self.http.request("POST", "/write?precision=n", body)

    def at_rest(self):
        """Waits until what was written is in the tables."""
        text = "SELECT count(*) FROM wal_tables() WHERE writerTxn <> sequencerTxn OR suspended"
        wait("QuestDB's tables", lambda: json.loads(self.sql(text))["dataset"] == [[0]])

    def ask(self, question):
        return self.sql(said(question.questdb or question.sql))

    @staticmethod
    def digest(answer):
        return digest(json.loads(answer)["dataset"])

    def stop(self):
        self.process.stop()

    def kill(self):
        self.process.stop(signal.SIGKILL)


class DuckDb:
    """DuckDB in this process, over these Parquet files or over a table of its own made of them."""

    def __init__(self, tables, native):
        import duckdb

        self.name = "DuckDB, native" if native else "DuckDB, Parquet"
        self.database = duckdb.connect()
        self.database.execute("SET TimeZone = 'UTC'")
        kind = "TABLE" if native else "VIEW"
        for table, directory in tables.items():
            source = f"SELECT * FROM read_parquet('{directory}/**/*.parquet')"
            columns = {name for name, *_ in self.database.execute(f"DESCRIBE {source}").fetchall()}
            key = "hostname" if "hostname" in columns else "device"
            order = f" ORDER BY {key}, time" if native else ""
            self.database.execute(f"CREATE {kind} {table} AS {source}{order}")

    def ask(self, question):
        return self.database.sql(said(question.sql)).to_arrow_table()

    digest = staticmethod(digest_arrow)

    def stop(self):
        self.database.close()


class DataFusion:
    """DataFusion in this process, over these Parquet files."""

    name = "DataFusion, Parquet"

    def __init__(self, tables):
        import datafusion

        config = datafusion.SessionConfig({
            "datafusion.execution.parquet.pushdown_filters": "true",
            "datafusion.execution.listing_table_ignore_subdirectory": "false",  # there is one for each day
        })
        self.context = datafusion.SessionContext(config)
        for table, directory in tables.items():
            self.context.register_parquet(table, str(directory))

    def ask(self, question):
        return self.context.sql(said(question.sql)).to_arrow_table()

    digest = staticmethod(digest_arrow)

    def stop(self):
        pass
