#!/usr/bin/env python3
"""Rows as they are, as many as wanted, out of InfluxQL in pieces: seconds, the first byte, and what memory that takes.

    cargo bench --no-run && benches/compare/install && target/bench/bin/python benches/raw_rows.py

FLIGHTLINE names another program than target/release/flightline, FLIGHTLINE_BENCH_ROWS the rows: of one tag with a hundred values and one
field, loaded as Arrow. Everything happens in a temporary directory.
"""

import http.client
import os
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "compare"))

import numpy  # noqa: E402
import pyarrow  # noqa: E402
from peers import Flightline  # noqa: E402

ROWS = int(os.environ.get("FLIGHTLINE_BENCH_ROWS", "100_000_000"))
HOSTS = 100
BATCH_ROWS = 200_000
START_NS, INTERVAL_NS = 1_700_000_000_000_000_000, 1_000_000_000
PATIENCE_SECONDS = 3600

QUESTIONS = ["SELECT * FROM cpu", "SELECT v FROM cpu WHERE host = 'h7'", "SELECT mean(v) FROM cpu GROUP BY time(1m), host"]


def batches():
    numbers, steps = numpy.random.default_rng(7), BATCH_ROWS // HOSTS
    codes = pyarrow.array(numpy.tile(numpy.arange(HOSTS, dtype=numpy.int32), steps))
    host = pyarrow.DictionaryArray.from_arrays(codes, pyarrow.array([f"h{number}" for number in range(HOSTS)]))
    for first in range(0, ROWS // HOSTS, steps):
        times = numpy.repeat(START_NS + (first + numpy.arange(steps)) * INTERVAL_NS, HOSTS)
        values = numpy.round(numbers.random(BATCH_ROWS) * 100, 2)
        columns = [host, pyarrow.array(times, pyarrow.timestamp("ns")), pyarrow.array(values)]
        yield pyarrow.record_batch(columns, names=["host", "time", "v"])


def ask(port, question):
    """Seconds until the first byte and until the last, and how many there are."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    parameters = urllib.parse.urlencode({"db": "bench", "epoch": "ns", "chunked": "true", "q": question})
    began = time.perf_counter()
    connection.request("GET", f"/query?{parameters}")
    response = connection.getresponse()
    piece = response.read(1)
    first, size, end = time.perf_counter() - began, 0, b""
    while piece:
        size, end = size + len(piece), (end + piece)[-500:]
        piece = response.read(1 << 20)
    if response.status != 200 or b'"error"' in end or b'"partial":true' in end:
        raise SystemExit(f"{question}: {response.status} {end.decode(errors='replace')}")
    return first, time.perf_counter() - began, size


def main():
    with tempfile.TemporaryDirectory() as directory:
        server = Flightline(Path(directory))
        try:
            began, writer = time.perf_counter(), server.writer()
            for batch in batches():
                writer.write(batch)
            writer.close()
            print(f"{ROWS:,} rows loaded in {time.perf_counter() - began:.1f} s, {server.process.peak_bytes() / 1e6:,.0f} MB at most\n")
            print("| | first byte s | all s | MB | memory at most, MB |\n|---|---|---|---|---|")
            for question in QUESTIONS:
                server.at_rest()
                first, last, size = ask(server.port, question)
                memory = server.process.peak_bytes() / 1e6
                print(f"| `{question}` | {first:.2f} | {last:.1f} | {size / 1e6:,.0f} | {memory:,.0f} |", flush=True)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
