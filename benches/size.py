#!/usr/bin/env python3
"""Bytes on disk for the same points: Flightline, DuckDB's Parquet, InfluxDB 1.x. Prints a table.

    cargo build --release && python benches/size.py

needs the Python package duckdb, and for its rows influxd 1.x (Debian's package influxdb) in PATH or $INFLUXD; without it they are left out.
FLIGHTLINE names another program than target/release/flightline, FLIGHTLINE_BENCH_ROWS the rows. Everything happens in a temporary directory.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = os.environ.get("FLIGHTLINE", ROOT / "target/release/flightline")
INFLUXD = os.environ.get("INFLUXD") or shutil.which("influxd")
ROWS = int(os.environ.get("FLIGHTLINE_BENCH_ROWS", "500000"))

HOSTS = 100
FIELDS = ["user", "system", "idle", "nice", "iowait", "irq", "softirq", "steal", "guest", "guest_nice"]
START_NS, INTERVAL_NS = 1_704_067_200_000_000_000, 10_000_000_000
BATCH_ROWS = 10_000
PATIENCE_SECONDS = 300


def batches(kind):
    """Line protocol: 100 hosts with ten tags, every ten seconds ten fields that walk at random between 0 and 100."""
    numbers = random.Random(7)
    walks = [[50.0] * len(FIELDS) for _ in range(HOSTS)]
    tags = [
        f"cpu,hostname=host_{host},region=eu-central-{host % 9},datacenter=eu-central-{host % 9}a,rack={host % 50},os=Ubuntu16.10,"
        f"arch=x64,team=NYC,service={host % 19},service_version={host % 2},service_environment=production"
        for host in range(HOSTS)
    ]
    write = {"two decimals": "{:.2f}".format, "integers": lambda value: f"{round(value)}i", "all digits": repr}[kind]
    lines = []
    for row in range(ROWS):
        host, when = row % HOSTS, START_NS + row // HOSTS * INTERVAL_NS
        walk = [min(max(value + numbers.uniform(-1, 1), 0.0), 100.0) for value in walks[host]]
        walks[host] = walk
        fields = ",".join(f"usage_{name}={write(value)}" for name, value in zip(FIELDS, walk))
        lines.append(f"{tags[host]} {fields} {when}")
        if len(lines) == BATCH_ROWS or row + 1 == ROWS:
            yield "\n".join(lines).encode()
            lines = []


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def post(url, body=b""):
    with urllib.request.urlopen(urllib.request.Request(url, data=body, method="POST"), timeout=60) as response:
        response.read()


def wait(what, is_done):
    until = time.monotonic() + PATIENCE_SECONDS
    while not is_done():
        if time.monotonic() > until:
            sys.exit(f"{what}: not within {PATIENCE_SECONDS} seconds")
        time.sleep(0.2)


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status < 300
    except OSError:
        return False


def size(files):
    return sum(file.stat().st_size for file in files)


class Process:
    """A server that is asked to stop at the end."""

    def __init__(self, arguments, log):
        self.process = subprocess.Popen(arguments, stdout=log, stderr=subprocess.STDOUT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE_SECONDS)


def flightline(directory, kind, log):
    """Writes the points; the Parquet files after an orderly stop."""
    port = free_port()
    command = [PROGRAM, "serve", "--without-auth", "--data-dir", directory, "--http-bind", f"127.0.0.1:{port}", "--log-filter", "warn"]
    with Process(command, log):
        wait("Flightline's start", lambda: answers(f"http://127.0.0.1:{port}/health"))
        for body in batches(kind):
            post(f"http://127.0.0.1:{port}/api/v3/write_lp?db=bench&precision=ns&no_sync=true", body)
    return sorted(directory.rglob("*.parquet"))


def duckdb_parquet(directory, files, order, codec):
    """The rows of these files, written by DuckDB with its defaults but for the codec."""
    import duckdb

    target = directory / f"{order.replace(', ', '-')}-{codec}.parquet"
    with duckdb.connect() as database:
        database.execute("SET preserve_insertion_order = true")
        paths = [str(file) for file in files]
        # Tags as the texts they are; and DuckDB's times are as exact as ours.
        rows = database.read_parquet(paths).order(order)
        rows.write_parquet(str(target), compression=codec)
        count = database.execute("SELECT count(*) FROM read_parquet(?)", [str(target)]).fetchone()[0]
    assert count == ROWS, f"{count} rows"
    return target.stat().st_size


def influxdb(directory, kind, log):
    """Writes the points; bytes of TSM files, and with the index of series, once everything is compacted."""
    http, rpc = free_port(), free_port()
    config = directory / "influxdb.conf"
    directory.mkdir()
    config.write_text(
        f'reporting-disabled = true\nbind-address = "127.0.0.1:{rpc}"\n'
        f'[meta]\ndir = "{directory}/meta"\n'
        f'[data]\ndir = "{directory}/data"\nwal-dir = "{directory}/wal"\nindex-version = "tsi1"\n'
        'cache-snapshot-write-cold-duration = "1s"\ncompact-full-write-cold-duration = "2s"\n'
        "[monitor]\nstore-enabled = false\n[subscriber]\nenabled = false\n[continuous_queries]\nenabled = false\n"
        f'[retention]\nenabled = false\n[http]\nbind-address = "127.0.0.1:{http}"\nmax-body-size = 0\n[logging]\nlevel = "warn"\n'
    )
    tsm = lambda: sorted((directory / "data").rglob("*.tsm"))
    with Process([INFLUXD, "run", "-config", config], log):
        wait("influxd's start", lambda: answers(f"http://127.0.0.1:{http}/ping"))
        post(f"http://127.0.0.1:{http}/query?q=CREATE%20DATABASE%20bench%20WITH%20DURATION%20INF%20SHARD%20DURATION%20520w")
        for body in batches(kind):
            post(f"http://127.0.0.1:{http}/write?db=bench&precision=ns", body)
        # One shard: at rest there is one file, and nothing of weight in the log.
        at_rest = lambda: len(tsm()) == 1 and size((directory / "wal").rglob("*.wal")) < 1 << 20
        wait("influxd's compaction", at_rest)
    others = [file for file in (directory / "data").rglob("*") if file.is_file() and file.suffix != ".tsm"]
    return size(tsm()), size(tsm()) + sum(file.stat().st_blocks * 512 for file in others)


def main():
    values = ROWS * len(FIELDS)
    print(f"{ROWS} rows of 10 tags and 10 values; bytes a value, tags and times included (times Flightline's)\n")
    print("| | two decimals | integers | all digits |\n|---|---|---|---|")
    table = {}
    with tempfile.TemporaryDirectory() as root, open(os.devnull, "w") as log:
        for kind in ["two decimals", "integers", "all digits"]:
            directory = Path(root) / kind.replace(" ", "-")
            files = flightline(directory / "flightline", kind, log)
            bytes_of = {"Flightline": size(files)}
            for order in ["time", "hostname, time"]:
                for codec in ["snappy", "zstd"]:
                    name = f"DuckDB's Parquet, {codec}{' (its default)' if codec == 'snappy' else ''}, by {order.replace('hostname', 'host')}"
                    bytes_of[name] = duckdb_parquet(directory, files, order, codec)
            if INFLUXD:
                tsm, whole = influxdb(directory / "influxdb", kind, log)
                bytes_of["InfluxDB 1.x, TSM files"] = tsm
                bytes_of["InfluxDB 1.x, with its index"] = whole
            for name, count in bytes_of.items():
                ratio = count / bytes_of["Flightline"]
                table.setdefault(name, []).append(f"{count / values:.2f} ({ratio:.2f})")
            shutil.rmtree(directory)
    for name, cells in table.items():
        print(f"| {name} | {' | '.join(cells)} |")
    if not INFLUXD:
        print("\nwithout InfluxDB: no influxd in PATH or $INFLUXD")


if __name__ == "__main__":
    main()
