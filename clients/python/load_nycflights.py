"""Writes New York's flights and weather of 2013 to a server, or to a file of line protocol.

    python load_nycflights.py --host http://127.0.0.1:8181 --database nyc
    python load_nycflights.py --only weather --write-line-protocol nyc_weather.lp.gz

The server gets the points through the client library of InfluxDB 3 in its default way (`/api/v2/write`, each request
is stored whole or not at all). Requests go out one after the other, so an error names the first batch that failed.
Sending a batch twice is harmless: a point is replaced by itself.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import sys
import time
from pathlib import Path

import urllib3
from influxdb_client_3 import SYNCHRONOUS, InfluxDBClient3, write_client_options

import nycflights

BATCH_LINES = 10_000

# A request that waits for a slow disk is still better than one that is given up and sent again.
WRITE_TIMEOUT_MS = 60_000

# The answers that mean "not now": too many requests, and storage that does not keep up.
RETRIED_STATUS = (429, 503)
RETRIES_MAX = 8

TABLES = {"weather": nycflights.weather, "flights": nycflights.flights}


def main() -> int:
    options = arguments().parse_args()
    names = [options.only] if options.only else list(TABLES)
    tables = [TABLES[name]() for name in names]
    if options.write_line_protocol:
        write_file(tables, options.write_line_protocol)
    else:
        write_server(tables, options)
    return 0


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="http://127.0.0.1:8181", help="URL of the server (default: %(default)s)")
    parser.add_argument("--database", default=nycflights.DATABASE, help="database to write to (default: %(default)s)")
    parser.add_argument("--token", default="", help="token, if the server asks for one")
    parser.add_argument("--only", choices=list(TABLES), help="write only this table")
    parser.add_argument(
        "--batch-lines", type=positive, default=BATCH_LINES, help="lines in one request (default: %(default)s)"
    )
    parser.add_argument("--gzip", action="store_true", help="compress the requests")
    parser.add_argument(
        "--write-line-protocol",
        type=Path,
        metavar="FILE",
        help="write gzipped line protocol to this file instead of a server",
    )
    return parser


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def write_server(tables: list[nycflights.Table], options: argparse.Namespace) -> None:
    # Writes may be sent again whatever the method says, because a point only ever replaces itself.
    retries = urllib3.Retry(
        total=RETRIES_MAX,
        status_forcelist=RETRIED_STATUS,
        allowed_methods=None,
        backoff_factor=0.25,
        respect_retry_after_header=True,
        raise_on_status=False,
    )
    with InfluxDBClient3(
        host=options.host,
        database=options.database,
        token=options.token,
        enable_gzip=options.gzip,
        write_client_options=write_client_options(write_options=SYNCHRONOUS),
        write_timeout=WRITE_TIMEOUT_MS,
        retries=retries,
    ) as client:
        for table in tables:
            started = time.monotonic()
            lines = table.lines()
            while batch := "\n".join(itertools.islice(lines, options.batch_lines)):
                client.write(batch)
            seconds = time.monotonic() - started
            rows = len(table.frame)
            print(f"{table.name}: {rows} points in {seconds:.1f} s ({rows / seconds:,.0f} points/s)", file=sys.stderr)


def write_file(tables: list[nycflights.Table], path: Path) -> None:
    # No name and no time in the header: the same points give the same file.
    with path.open("wb") as file, gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=9) as out:
        for table in tables:
            for line in table.lines():
                out.write(line.encode() + b"\n")
    print(f"{path}: {path.stat().st_size} bytes", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
