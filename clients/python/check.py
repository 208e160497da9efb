"""Runs the checks; pytest prints each one. The exit code is pytest's: 0 only if every check passed.

    python check.py data                                      the data, without a server
    python check.py server --port 8181 [--host --database --token]
    python check.py files --data-dir D [--database]           after the server has stopped

What follows `--` goes to pytest: `python check.py server --port 8181 -- -k adbc -x`.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

SERVER_CHECKS = [
    "test_answers.py",
    "test_adbc.py",
    "test_adbc_suite.py",
    "test_sessions.py",
    "test_flight.py",
    "test_writing.py",
    "test_influxdb3_python.py",
    "test_influxdb1_and_2.py",
    "test_http.py",
    "test_cancelling.py",
]
CHECKS = {"data": ["test_data.py"], "server": SERVER_CHECKS, "files": ["test_files.py"]}


def main() -> int:
    own, _, for_pytest = split_at_dashes(sys.argv[1:])
    options = arguments().parse_args(own)
    for name in ("host", "port", "database", "token", "data_dir"):
        value = getattr(options, name, None)
        if value is not None:
            os.environ[f"FLIGHTLINE_{name.upper()}"] = str(value)
    files = [str(HERE / name) for name in CHECKS[options.what]]
    return pytest.main([*files, "--rootdir", str(HERE), "-v", "--durations=10", *for_pytest])


def split_at_dashes(words: list[str]) -> tuple[list[str], list[str], list[str]]:
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at : at + 1], words[at + 1 :]


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="what", required=True)
    kinds.add_parser("data", help="the data, without a server")
    server = kinds.add_parser("server", help="a running server that holds the data of load_nycflights.py")
    server.add_argument("--host", default="127.0.0.1")
    server.add_argument("--port", type=int, default=8181)
    server.add_argument("--database", default="nyc")
    server.add_argument("--token", default="")
    files = kinds.add_parser("files", help="the Parquet files of a server that has stopped")
    files.add_argument("--data-dir", type=Path, required=True)
    files.add_argument("--database", default="nyc")
    return parser


if __name__ == "__main__":
    sys.exit(main())
