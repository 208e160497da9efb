//! `serve --demo`: real weather on the first start, three answers over Flight SQL, and how to go on.

use std::net::SocketAddr;

use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::TryStreamExt;
use tonic::transport::{Channel, Endpoint};

use crate::error::{Error, ErrorKind, Result};
use crate::model::DatabaseName;
use crate::server::Server;
use crate::server::pretty::PrettyTable;

/// Hourly weather of New York's three airports in 2013; see `tests/data/README.md`.
const WEATHER: &[u8] = include_bytes!("../../tests/data/nyc_weather.lp.gz");

const DATABASE: &str = "nyc";

/// Questions a newcomer understands at sight, from the simplest up.
const QUERIES: [&str; 3] = [
    "SELECT origin, count(*) AS observations, min(time) AS first, max(time) AS last FROM weather GROUP BY origin ORDER BY origin",
    "SELECT origin, date_bin(INTERVAL '1 month', time) AS month, round(avg(temp), 1) AS fahrenheit FROM weather \
     WHERE time < '2013-04-01' GROUP BY 1, 2 ORDER BY 1, 2",
    "SELECT time, origin, wind_gust FROM weather WHERE wind_gust IS NOT NULL ORDER BY wind_gust DESC, time, origin LIMIT 5",
];

/// Loads the weather if it isn't there, asks three questions as a client would, prints how to connect.
///
/// # Errors
/// If the server's own port does not answer as it should.
pub(super) async fn run(server: &Server) -> Result<()> {
    let address = server.address();
    let database = DatabaseName::new(DATABASE).map_err(|error| Error::internal(error.to_string()))?;
    if server.services().engine.table_schema(&database, "weather").is_none() {
        load(address).await?;
        println!(
            "Loaded the hourly weather of 2013 at EWR, JFK and LGA into the table \"weather\" of the database \"{DATABASE}\"."
        );
    }
    let mut client = connect(address).await?;
    for query in QUERIES {
        println!("\n> {query}\n{}", ask(&mut client, query).await?);
    }
    println!("{}", hints(address));
    Ok(())
}

/// Writes the weather as any client does.
async fn load(address: SocketAddr) -> Result<()> {
    let failed = |error| Error::with_source(ErrorKind::Internal, "could not write the demo's data", error);
    let response = reqwest::Client::builder()
        .no_proxy()
        .build()
        .map_err(failed)?
        .post(format!("http://{address}/api/v3/write_lp?db={DATABASE}&precision=nanosecond"))
        .header("content-encoding", "gzip")
        .body(WEATHER)
        .send()
        .await
        .map_err(failed)?;
    if response.status().is_success() {
        return Ok(());
    }
    let (status, text) = (response.status(), response.text().await.map_err(failed)?);
    Err(Error::internal(format!("the demo's data was refused with status {status}: {text}")))
}

async fn connect(address: SocketAddr) -> Result<FlightSqlServiceClient<Channel>> {
    let failed = |error| Error::with_source(ErrorKind::Internal, "could not connect to the demo's own server", error);
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(failed)?;
    let mut client = FlightSqlServiceClient::new(endpoint.connect().await.map_err(failed)?);
    client.set_header("database", DATABASE);
    Ok(client)
}

async fn ask(client: &mut FlightSqlServiceClient<Channel>, query: &str) -> Result<String> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        Error::with_source(ErrorKind::Internal, format!("the demo's query failed: {query}"), error)
    };
    let info = client.execute(query.to_owned(), None).await.map_err(|error| failed(error.into()))?;
    let mut text = String::new();
    for endpoint in info.endpoint {
        let ticket = endpoint.ticket.ok_or_else(|| failed("an endpoint without a ticket".into()))?;
        let mut rows = client.do_get(ticket).await.map_err(|error| failed(error.into()))?;
        let mut table: Option<PrettyTable> = None;
        while let Some(batch) = rows.try_next().await.map_err(|error| failed(error.into()))? {
            text += &table.get_or_insert_with(|| PrettyTable::new(&batch.schema())).rows(&batch)?;
        }
        if let Some(mut table) = table {
            text += &table.end();
        }
    }
    Ok(text)
}

fn hints(address: SocketAddr) -> String {
    format!(
        "\
Flightline listens on {address}. In another terminal:

  flightline query --host http://{address} --database {DATABASE} \"SELECT * FROM weather LIMIT 5\"
  curl -G http://{address}/api/v3/query_sql --data-urlencode db={DATABASE} --data-urlencode format=csv --data-urlencode 'q=SELECT count(*) FROM weather'

  ADBC (Python)      adbc_driver_flightsql.dbapi.connect(\"grpc://{address}\", db_kwargs={{\"adbc.flight.sql.rpc.call_header.database\": \"{DATABASE}\"}})
  pyarrow            pyarrow.flight.connect(\"grpc://{address}\").do_get(pyarrow.flight.Ticket('{{\"database\": \"{DATABASE}\", \"sql_query\": \"SELECT 1\", \"query_type\": \"sql\"}}'))
  influxdb3-python   InfluxDBClient3(host=\"http://{address}\", database=\"{DATABASE}\", token=\"any\")
  JDBC               jdbc:arrow-flight-sql://{address}/?useEncryption=false&database={DATABASE}
  Grafana            data source FlightSQL or InfluxDB (SQL), host {address}, insecure, metadata database={DATABASE}

Stop with Ctrl-C: the rows are then in Parquet under the data directory.
"
    )
}
