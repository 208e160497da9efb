"""Writes three points and reads them back with three clients.

    python quickstart.py --host 127.0.0.1 --port 8181 --database quickstart
"""

from __future__ import annotations

import argparse
import json

import adbc_driver_flightsql.dbapi
import pyarrow.flight
from influxdb_client_3 import InfluxDBClient3

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", type=int, default=8181)
parser.add_argument("--database", default="quickstart")
parser.add_argument("--token", default="")
options = parser.parse_args()

SQL = "SELECT time, room, temp FROM home ORDER BY time, room"

# 1. influxdb3-python writes line protocol and reads Arrow.
with InfluxDBClient3(
    host=f"http://{options.host}:{options.port}", database=options.database, token=options.token
) as client:
    client.write(
        [
            "home,room=kitchen temp=21.5,co=3i 1735689600000000000",
            "home,room=attic temp=12.0 1735689600000000000",
            "home,room=kitchen temp=22.0,co=4i 1735693200000000000",
        ]
    )
    print(client.query(SQL, mode="pandas"))

# 2. ADBC: any program that speaks Flight SQL. The database is named in a header.
settings = {"adbc.flight.sql.rpc.call_header.database": options.database}
if options.token:
    settings["adbc.flight.sql.authorization_header"] = f"Bearer {options.token}"
with (
    adbc_driver_flightsql.dbapi.connect(
        f"grpc://{options.host}:{options.port}", db_kwargs=settings, autocommit=True
    ) as connection,
    connection.cursor() as cursor,
):
    cursor.execute("SELECT room, avg(temp) AS temp FROM home GROUP BY room ORDER BY room")
    print(cursor.fetch_arrow_table().to_pylist())

# 3. Plain Arrow Flight: the ticket is a JSON object.
headers = [(b"authorization", f"Bearer {options.token}".encode())] if options.token else []
with pyarrow.flight.connect(f"grpc://{options.host}:{options.port}") as client:
    ticket = pyarrow.flight.Ticket(json.dumps({"database": options.database, "sql_query": SQL}).encode())
    reader = client.do_get(ticket, pyarrow.flight.FlightCallOptions(headers=headers))
    for chunk in reader:
        print(chunk.data.num_rows, "rows")
