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
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import report  # noqa: E402
from peers import (  # noqa: E402
    DataFusion, DuckDb, Flightline, FlightlineInfluxQl, FlightlineJson, Influxd, QuestDb, Unanswered, VictoriaMetrics, agree, write_all,
)
from points import Points  # noqa: E402
from queries import Question, questions  # noqa: E402
from restarts import restarts  # noqa: E402
from sets import Devops, Series, Wide  # noqa: E402


def arguments():
    parser = argparse.ArgumentParser(prog="benches/compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000, help="rows of ten fields [%(default)s]")
    parser.add_argument("--hosts", type=int, default=100, help="machines, each a series [%(default)s]")
    parser.add_argument("--runs", type=int, default=20, help="questions of each kind; a fourth of them of the heavy ones [%(default)s]")
    parser.add_argument("--writers", type=int, default=4, help="connections that write at once [%(default)s]")
    parser.add_argument("--sets", default="cpu", help="sets of points, by comma, each with servers of its own: cpu, devops, series, wide [%(default)s]")
    parser.add_argument("--series", type=int, default=1_000_000, help="series of the set 'series' [%(default)s]")
    parser.add_argument("--fields", type=int, default=1000, help="fields a row of the set 'wide', which has a hundredth of the rows [%(default)s]")
    parser.add_argument("--only", default="", help="kinds of questions whose names contain this")
    parser.add_argument("--without", default="", help="peers to leave out, by comma: duckdb, datafusion, influxd, questdb, victoria")
    parser.add_argument("--answers", choices=["buffer", "parquet"], default="parquet", help="ask before or after an orderly restart [%(default)s]")
    parser.add_argument("--first", action="store_true", help="time each question when it is asked for the first time, not when it is asked again")
    parser.add_argument("--serve", default="", help="more arguments for `flightline serve`")
    parser.add_argument("--restarts", action="store_true", help="kill, stop and start the servers instead of asking them; of the set cpu")
    parser.add_argument("--svg", type=Path, help="where to write the picture")
    parser.add_argument("--directory", type=Path, help="where the data goes [a temporary directory]")
    return parser.parse_args()


def load(peer, points, writers):
    """Writes the points as lines, and prints how fast. Returns when the server is done with them, so that it takes nothing from the next one."""
    bodies = list(points.bodies())
    timed(peer, peer.name, points.count, lambda: write_all(bodies, writers, peer.write))
    peer.process.wait_until_idle()


def load_unsynced(directory, points, writers, serve):
    """Writes the points as lines to a server of its own that answers before they are on the disk, as some peers do, and prints how fast."""
    peer = Flightline(directory, serve)
    try:
        bodies = list(points.bodies())
        write = lambda body: peer.write(body, "&no_sync=true")
        timed(peer, "Flightline, without sync", points.count, lambda: write_all(bodies, writers, write))
    finally:
        peer.stop()


def load_arrow(directory, points, writers, serve):
    """Writes the same points as Arrow to a server of its own, prints how fast, and says what is stored then."""
    peer = Flightline(directory, serve)
    try:
        batches = list(points.batches())

        def write():
            streams, local, lock = [], threading.local(), threading.Lock()

            def put(batch):
                if not hasattr(local, "stream"):
                    local.stream = peer.writer()
                    with lock:
                        streams.append(local.stream)
                local.stream.write(batch)

            write_all(batches, writers, put)
            for stream in streams:
                stream.close()
            return sorted(wait for stream in streams for wait in stream.waits)

        timed(peer, "Flightline, Arrow", points.count, write)
        return peer.digest(peer.ask(EVERYTHING))
    finally:
        peer.stop()


# What rows are stored, as few numbers.
EVERYTHING = Question("SELECT hostname, rack, count(*) AS rows, sum(usage_user) AS total FROM cpu GROUP BY hostname, rack")


def timed(peer, name, rows, write):
    """Prints rows a second, and how long a writer waited for its acknowledgement."""
    cpu = peer.process.cpu_seconds()
    began = time.perf_counter()
    waits = write()
    seconds = time.perf_counter() - began
    cpu = peer.process.cpu_seconds() - cpu
    p99 = waits[int((len(waits) - 1) * 0.99)]
    print(
        f"| {name} | {rows / seconds / 1e3:,.0f}k | {rows / max(cpu, 1e-9) / 1e3:,.0f}k | {statistics.median(waits) * 1e3:.1f} | "
        f"{p99 * 1e3:.1f} | {peer.process.peak_bytes() / 1e6:,.0f} |",
        flush=True,
    )


def compare(kind, asked, peers, truth, hot):
    """Median seconds of each peer, of questions that were asked before if `hot`. Answers of those that speak of the same rows must agree: who
    answers otherwise than `truth` has no time, and Flightline ends the run."""
    figures = {}
    for peer in peers:
        try:
            answers = [peer.ask(asked[0])]  # not timed: it warms up
        except Unanswered:
            continue
        found = peer.digest(answers[0])
        expected = truth(peer, asked[0])
        if None not in (found, expected) and not agree(found, expected):
            said = f"{kind.name}: {peer.name} answers {found}, not {expected}, to\n{asked[0]}"
            if peer.name.startswith("Flightline"):
                raise SystemExit(said)
            print(f"{said}\nIts time is left out.", file=sys.stderr, flush=True)
            continue
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
    now = int(time.time()) // 10 * 10
    sets = {
        "cpu": lambda: Points(wanted.hosts, wanted.rows, now),
        "devops": lambda: Devops(wanted.hosts, wanted.rows, now),
        "series": lambda: Series(wanted.series, now),
        "wide": lambda: Wide(wanted.fields, wanted.rows // 100, now),
    }
    names = ["cpu"] if wanted.restarts else wanted.sets.split(",")
    if unknown := [name for name in names if name not in sets]:
        raise SystemExit(f"no such set: {', '.join(unknown)}; there are {', '.join(sets)}")
    for name in names:
        compare_set(sets[name](), wanted, left_out)


def kinds(points, only, flightline):
    """The kinds of questions whose names contain this; caches are made when no other question can find them any more."""
    yield from (kind for kind in points.kinds if only in kind.name)
    cached = [kind for kind in points.cached_kinds if only in kind.name]
    if cached:
        flightline.make_caches(points.caches)
    yield from cached


def compare_set(points, wanted, left_out):
    with tempfile.TemporaryDirectory(dir=wanted.directory) as directory:
        serve = [*wanted.serve.split(), *points.serve]
        servers = [Flightline(directory, serve)]
        flightline = servers[0]
        try:
            if "influxd" not in left_out:
                servers.append(Influxd(directory))
            if "victoria" not in left_out:
                servers.append(VictoriaMetrics(directory))
            if "questdb" not in left_out:
                servers.append(QuestDb(directory, points.tables))
            print(f"\n{points.name}: {points.count:,} rows in {len(points.tables)} tables, {wanted.writers} writers\n")
            if wanted.restarts:
                restarts(points, servers, wanted.writers)
                return
            print("| | rows/s | rows/CPU-s | ack p50 ms | ack p99 ms | peak MB |\n|---|---|---|---|---|---|")
            for server in servers:
                load(server, points, wanted.writers)
                if server is flightline and points.name == "cpu":
                    (Path(directory) / "unsynced").mkdir()
                    load_unsynced(Path(directory) / "unsynced", points, wanted.writers, serve)
                    (Path(directory) / "arrow").mkdir()
                    arrow = load_arrow(Path(directory) / "arrow", points, wanted.writers, serve)
                    lines = flightline.digest(flightline.ask(EVERYTHING))
                    if not agree(arrow, lines):
                        raise SystemExit(f"as Arrow there is {arrow} stored, as lines {lines}")
            if wanted.answers == "parquet":
                for server in servers:
                    server.at_rest()
            peers = [flightline, FlightlineJson(flightline), FlightlineInfluxQl(flightline), *servers[1:]]
            in_process = []
            if wanted.answers == "parquet":
                tables = flightline.tables()
                if "duckdb" not in left_out:
                    in_process += [DuckDb(tables, native=False), DuckDb(tables, native=True)]
                in_process += [] if "datafusion" in left_out else [DataFusion(tables)]
                print(f"\n{flightline.stored_bytes() / points.count:.1f} bytes a row in {len(flightline.files())} Parquet files")
            names = [peer.name for peer in [*peers, *in_process]]
            figures = {}
            for kind in kinds(points, wanted.only, flightline):
                asked = questions(kind, points, max(wanted.runs // 4, 3) if kind.is_heavy else wanted.runs)
                truths = {}

                def truth(peer, question, truths=truths):
                    """SQL is held against the first SQL answer there is from another engine; InfluxQL against InfluxDB's."""
                    language = "influxql" if peer.name in ("Flightline, InfluxQL", "InfluxDB 1.6") else "sql"
                    if peer.name.startswith("Victoria"):
                        return None
                    return truths.setdefault(language, peer.digest(peer.ask(question)))

                figures[kind.name] = compare(kind, asked, [*in_process, *peers], truth, not wanted.first)
                print(f"{kind.name}: " + json.dumps({name: round(s * 1e3, 2) for name, s in figures[kind.name].items()}), file=sys.stderr, flush=True)
            print("\n" + report.table(names, figures))
            if wanted.svg and points.name == "cpu":
                wanted.svg.write_text(report.picture("Median milliseconds, logarithmic", names, figures))
            for peer in in_process:
                peer.stop()
        finally:
            for server in servers:
                server.stop()


if __name__ == "__main__":
    main()
