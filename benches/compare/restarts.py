"""What is left when a server is killed, and how soon it answers again: after `kill -9` right behind the last acknowledgement, and after an
orderly stop.
"""

import http.client
import time

from peers import PATIENCE_SECONDS, VictoriaMetrics, write_all
from queries import Question

# A server whose number of rows stays the same for so long has no more of them.
SETTLED_SECONDS = 5


def restarts(points, servers, writers):
    """Writes the points to each server as lines, kills and starts it, then stops and starts it; prints a table. Rows that were acknowledged
    and are gone are told, and end the run if they are Flightline's."""
    seconds = points.end_seconds - points.start_seconds + 1
    promql = (f"sum(count_over_time(cpu_usage_user[{seconds}s]))", points.end_seconds, points.end_seconds, 1)
    everything = Question("SELECT count(*) AS rows FROM cpu", "SELECT count(usage_user) FROM cpu", promql)
    bodies = list(points.bodies())
    print("| | rows lost by `kill -9` | all rows after s | after an orderly stop, s | MB on the disk |\n|---|---|---|---|---|")
    first = None
    for server in servers:
        write_all(bodies, writers, server.write)
        server.kill()
        left, killed = answered(server, everything, points.count)
        server.at_rest()
        server.stop()
        _, stopped = answered(server, everything, left)
        first = first or (killed, stopped)
        ratios = [f"{took:.2f} ({took / own:.1f})" for took, own in zip((killed, stopped), first)]
        lost = points.count - left
        print(f"| {server.name} | {lost:,} | {ratios[0]} | {ratios[1]} | {disk_bytes(server.directory) / 1e6:,.0f} |", flush=True)
        if lost and server is servers[0]:
            raise SystemExit(f"{server.name} lost {lost} rows that it had acknowledged")


def answered(server, question, expected):
    """Starts a server; the number of rows that it has, and the seconds until it said so."""
    began = time.monotonic()
    server.start()
    rows, since = 0, time.monotonic()
    while rows < expected and time.monotonic() - since < SETTLED_SECONDS:
        now = count(server, question)
        if now != rows:
            rows, since = now, time.monotonic()
        if time.monotonic() - began > PATIENCE_SECONDS:
            raise TimeoutError(f"{server.name}: {rows} rows after {PATIENCE_SECONDS} seconds")
        time.sleep(0.01)
    return rows, since - began


def count(server, question):
    """The rows that it has by now; none as long as it can't say."""
    try:
        answer = server.ask(question)
    except (OSError, RuntimeError, http.client.HTTPException):
        return 0
    return server.rows(answer) if isinstance(server, VictoriaMetrics) else round(server.digest(answer)[1])


def disk_bytes(directory):
    """What files take, which is less than their length where they have holes."""
    return sum(file.stat().st_blocks * 512 for file in directory.rglob("*") if file.is_file())
