"""Flightline beside the databases that people compare it with: one machine, one run, the same points, the same questions.

    cargo build --release && benches/compare/install && target/bench/bin/python benches/compare

Loads the points into each server over its own protocol, asks all of them the same questions one after the other, holds the answers
against one another, and prints tables: median milliseconds, and how many times as long as Flightline a peer took. Figures of
one run belong together; those of two runs or machines don't.
"""

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import report  # noqa: E402
from peers import (  # noqa: E402
    DataFusion, DuckDb, Flightline, FlightlineInfluxQl, FlightlineJson, Influxd, Unanswered, VictoriaMetrics, agree, write_all,
)
from points import Points  # noqa: E402
from queries import KINDS, questions  # noqa: E402


def arguments():
    parser = argparse.ArgumentParser(prog="benches/compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000, help="rows of ten fields [%(default)s]")
    parser.add_argument("--hosts", type=int, default=100, help="machines, each a series [%(default)s]")
    parser.add_argument("--runs", type=int, default=20, help="questions of each kind; a fourth of them of the heavy ones [%(default)s]")
    parser.add_argument("--writers", type=int, default=4, help="connections that write at once [%(default)s]")
    parser.add_argument("--only", default="", help="kinds of questions whose names contain this")
    parser.add_argument("--without", default="", help="peers to leave out, by comma: duckdb, datafusion, influxd, victoria")
    parser.add_argument("--answers", choices=["buffer", "parquet"], default="parquet", help="ask before or after an orderly restart [%(default)s]")
    parser.add_argument("--first", action="store_true", help="time each question when it is asked for the first time, not when it is asked again")
    parser.add_argument("--serve", default="", help="more arguments for `flightline serve`")
    parser.add_argument("--svg", type=Path, help="where to write the picture")
    parser.add_argument("--directory", type=Path, help="where the data goes [a temporary directory]")
    return parser.parse_args()


def load(peer, points, writers):
    """Rows a second, and how long a writer waited for its acknowledgement."""
    bodies = list(points.bodies())
    cpu = peer.process.cpu_seconds()
    began = time.perf_counter()
    waits = write_all(bodies, writers, peer.write)
    seconds = time.perf_counter() - began
    cpu = peer.process.cpu_seconds() - cpu
    rows = points.steps * points.hosts
    facts = {
        "rows/s": rows / seconds,
        "rows/CPU-s": rows / max(cpu, 1e-9),
        "ack p50": statistics.median(waits),
        "ack p99": waits[int((len(waits) - 1) * 0.99)],
        "peak memory": peer.process.peak_bytes(),
    }
    print(
        f"| {peer.name} | {facts['rows/s'] / 1e3:,.0f}k | {facts['rows/CPU-s'] / 1e3:,.0f}k | {facts['ack p50'] * 1e3:.1f} | "
        f"{facts['ack p99'] * 1e3:.1f} | {facts['peak memory'] / 1e6:,.0f} |",
        flush=True,
    )
    return facts


def compare(kind, asked, peers, truth, hot):
    """Median seconds of each peer, of questions that were asked before if `hot`; the answers of those that speak of the same rows must agree."""
    figures = {}
    for peer in peers:
        try:
            answers = [peer.ask(asked[0])]  # not timed: it warms up
        except Unanswered:
            continue
        found = peer.digest(answers[0])
        expected = truth(peer, asked[0])
        if None not in (found, expected) and not agree(found, expected):
            raise SystemExit(f"{kind.name}: {peer.name} answers {found}, not {expected}, to\n{asked[0]}")
        del answers
        seconds = []
        for is_timed in [False, True] if hot else [True]:
            gc.collect()
            for question in asked:
                began = time.perf_counter()
                peer.ask(question)
                if is_timed:
                    seconds.append(time.perf_counter() - began)
        figures[peer.name] = statistics.median(seconds)
    return figures


def main():
    wanted = arguments()
    left_out = set(filter(None, wanted.without.split(",")))
    points = Points(wanted.hosts, wanted.rows, int(time.time()) // 10 * 10)
    with tempfile.TemporaryDirectory(dir=wanted.directory) as directory:
        servers = [Flightline(directory, wanted.serve.split())]
        flightline = servers[0]
        try:
            if "influxd" not in left_out:
                servers.append(Influxd(directory))
            if "victoria" not in left_out:
                servers.append(VictoriaMetrics(directory))
            print(f"{points.steps * points.hosts:,} rows of {points.hosts} machines, {wanted.writers} writers of 10,000 lines a request\n")
            print("| | rows/s | rows/CPU-s | ack p50 ms | ack p99 ms | peak MB |\n|---|---|---|---|---|---|")
            for server in servers:
                load(server, points, wanted.writers)
            if wanted.answers == "parquet":
                for server in servers:
                    server.at_rest()
            peers = [flightline, FlightlineJson(flightline), FlightlineInfluxQl(flightline), *servers[1:]]
            in_process = []
            if wanted.answers == "parquet":
                in_process += [] if "datafusion" in left_out else [DataFusion(flightline.files())]
                if "duckdb" not in left_out:
                    in_process += [DuckDb(flightline.files(), native=False), DuckDb(flightline.files(), native=True)]
                print(f"\n{flightline.stored_bytes() / points.steps / points.hosts:.1f} bytes a row in {len(flightline.files())} Parquet files")
            names = [peer.name for peer in [*peers, *in_process]]
            figures = {}
            for kind in [kind for kind in KINDS if wanted.only in kind.name]:
                asked = questions(kind, points, max(wanted.runs // 4, 3) if kind.is_heavy else wanted.runs)
                truths = {}

                def truth(peer, question, truths=truths, kind=kind):
                    """SQL is held against the first SQL answer there is from another engine; InfluxQL against InfluxDB's."""
                    language = "influxql" if peer.name in ("Flightline, InfluxQL", "InfluxDB 1.6") else "sql"
                    if peer.name.startswith("Victoria"):
                        return None
                    return truths.setdefault(language, peer.digest(peer.ask(question)))

                figures[kind.name] = compare(kind, asked, [*in_process, *peers], truth, not wanted.first)
                print(f"{kind.name}: " + json.dumps({name: round(s * 1e3, 2) for name, s in figures[kind.name].items()}), file=sys.stderr, flush=True)
            print("\n" + report.table(names, figures))
            if wanted.svg:
                wanted.svg.write_text(report.picture("Median milliseconds, logarithmic", names, figures))
            for peer in in_process:
                peer.stop()
        finally:
            for server in servers:
                server.stop()


if __name__ == "__main__":
    main()
