//! The requests, by client, in the order in which they are sent: some change what later ones find.

use reqwest::Method;

use super::Expected::{self, Otherwise, Shape};
use super::Request;

/// The range of a dashboard over the points.
const RANGE: &str = "time >= 1704067200000ms and time <= 1704067440000ms";

/// InfluxDB answers `SHOW MEASUREMENTS` as if there were a database without any.
const NO_DATABASE: Expected = Otherwise("that there is no such database is said", 200, "database not found: ");

pub(super) fn grafana() -> Vec<Request> {
    let mut queries: Vec<String> = [
        // Health, and what its editor asks for.
        "SHOW measurements",
        "SHOW RETENTION POLICIES on \"ora\"",
        "SHOW MEASUREMENTS LIMIT 100",
        "SHOW MEASUREMENTS WITH MEASUREMENT =~ /(?i)Cp/ LIMIT 100",
        "SHOW MEASUREMENTS WHERE \"host\" = 'a' LIMIT 100",
        "SHOW MEASUREMENTS WITH MEASUREMENT =~ /(?i)^nothing$/ LIMIT 100",
        "SHOW FIELD KEYS",
        "SHOW FIELD KEYS FROM \"cpu\"",
        "SHOW FIELD KEYS FROM \"autogen\".\"cpu\"",
        "SHOW FIELD KEYS FROM /^(cpu|mem)$/",
        "SHOW TAG KEYS",
        "SHOW TAG KEYS FROM \"cpu\"",
        "SHOW TAG KEYS FROM \"autogen\".\"cpu\"",
        "SHOW TAG KEYS FROM \"cpu\" WHERE \"host\" = 'a'",
        "SHOW TAG VALUES WITH KEY = \"host\"",
        "SHOW TAG VALUES FROM \"cpu\" WITH KEY = \"host\"",
        "SHOW TAG VALUES FROM \"autogen\".\"cpu\" WITH KEY = \"host\" WHERE \"region\" = 'east'",
        "SHOW TAG VALUES FROM \"cpu\" WITH KEY = \"host\" WHERE \"region\" = 'west' AND \"host\" =~ /a|b/",
        "SHOW TAG VALUES FROM \"cpu\" WITH KEY = \"host\" WHERE time >= 1704067200000ms and time <= 1704067440000ms",
        "SHOW TAG VALUES FROM /^(cpu|mem)$/ WITH KEY = \"host\" LIMIT 100",
        "SHOW TAG VALUES WITH KEY = \"nothing\"",
        // Mistakes.
        "SELECT mean(",
        "SELECT mean(\"usage\") FROM \"cpu\" WHERE time > 5x",
        "SELECT bad(\"usage\") FROM \"cpu\"",
        "SELECT mean(\"usage\") FROM \"month\".\"cpu\"",
        "SELECT derivative(\"usage\") FROM \"cpu\" GROUP BY time(10s)",
    ]
    .map(str::to_owned)
    .to_vec();
    for function in ["count", "distinct", "mean", "median", "sum", "stddev", "first", "last", "max", "min", "spread"] {
        for fill in ["null", "none", "0", "previous", "linear"] {
            queries.push(format!(
                "SELECT {function}(\"usage\") FROM \"autogen\".\"cpu\" WHERE (\"host\"::tag =~ /^(a|b)$/ AND \"region\"::tag != 'x') AND \
                 {RANGE} GROUP BY time(30s), \"host\"::tag fill({fill}) ORDER BY time ASC"
            ));
        }
    }
    for transformed in [
        "derivative(mean(\"usage\"), 10s)",
        "non_negative_derivative(max(\"usage\"), 10s)",
        "difference(last(\"usage\"))",
        "non_negative_difference(mean(\"usage\"))",
        "moving_average(mean(\"usage\"), 2)",
        "cumulative_sum(mean(\"usage\"))",
        "elapsed(mean(\"usage\"), 10s)",
        "percentile(\"usage\", 95)",
        "top(\"usage\", 3)",
        "bottom(\"usage\", 3)",
        "mean(\"usage\") / 100",
        "mean(\"usage\") * 1024 + 5",
        "count(distinct(\"usage\"))",
        "mode(\"load\")",
        "holt_winters(mean(\"usage\"), 2, 0)",
        "holt_winters_with_fit(mean(\"usage\"), 2, 0)",
    ] {
        queries.push(format!("SELECT {transformed} AS \"a b\" FROM \"cpu\" WHERE \"host\" = 'a' AND {RANGE} GROUP BY time(40s) fill(none)"));
    }
    for whole in [
        "SELECT integral(\"usage\") FROM \"cpu\" WHERE \"host\" = 'a' AND time <= 1704067440000ms",
        "SELECT \"usage\" FROM \"cpu\" WHERE {range}",
        "SELECT \"usage\", \"host\" FROM \"cpu\" WHERE {range} ORDER BY time DESC LIMIT 5",
        "SELECT \"usage\" FROM \"cpu\" WHERE {range} GROUP BY \"host\" ORDER BY time ASC LIMIT 3",
        "SELECT mean(\"usage\") FROM \"cpu\" WHERE {range} GROUP BY time(1m), \"host\" fill(null) limit 2",
        "SELECT mean(\"usage\") FROM /^(cpu|mem)$/ WHERE {range} GROUP BY time(1m), * fill(null)",
        "SELECT mean(\"usage\"), max(\"load\") AS \"most\" FROM \"cpu\" WHERE {range} GROUP BY time(1m) fill(null)",
        "SELECT mean(\"usage\") FROM \"cpu\" WHERE {range} GROUP BY time(1d) fill(null) tz('Europe/Berlin')",
        "SELECT mean(\"usage\") FROM \"cpu\" WHERE {range} GROUP BY time(1m, 10s) fill(null)",
        "SELECT \"note\", \"host\" FROM \"cpu\" WHERE {range}",
        "SELECT DISTINCT(\"host\") FROM (SELECT * FROM \"cpu\" WHERE {range})",
        "SELECT count(distinct(\"host\")) FROM (SELECT \"usage\", \"host\" FROM \"cpu\" WHERE {range})",
        "SELECT mean(\"usage\") FROM \"nothing\" WHERE {range} GROUP BY time(1m)",
        "SELECT mean(\"nothing\") FROM \"cpu\" WHERE {range} GROUP BY time(1m)",
        "SELECT sum(\"m\") FROM (SELECT mean(\"usage\") AS \"m\" FROM \"cpu\" WHERE {range} GROUP BY time(1m), \"host\") WHERE {range} GROUP BY time(1m)",
    ] {
        queries.push(whole.replace("{range}", RANGE));
    }
    let mut requests: Vec<Request> = Vec::new();
    for (n, q) in queries.iter().enumerate() {
        let pairs = [("db", "ora"), ("epoch", "ms"), ("q", q)];
        // Its data sources may be set to either.
        let request = if n % 2 == 0 { Request::get("Grafana", &pairs) } else { Request::form("Grafana", &pairs) };
        requests.push(match n % 3 {
            0 => request.header("accept-encoding", "gzip"),
            _ => request,
        });
    }
    let rp = [("db", "ora"), ("rp", "autogen"), ("epoch", "ms"), ("q", "SELECT count(\"usage\") FROM \"cpu\"")];
    requests.push(Request::get("Grafana", &rp));
    let unknown = [("db", "nodb"), ("epoch", "ms"), ("q", "SHOW measurements")];
    requests.push(Request::get("Grafana", &unknown).is(NO_DATABASE));
    requests
}

pub(super) fn chronograf() -> Vec<Request> {
    let ask = |q: &str| Request::post("Chronograf", &[("db", "ora"), ("rp", ""), ("epoch", "ms"), ("q", q)]);
    let ping = |path: &str| Request { path: path.to_owned(), ..Request::get("Chronograf", &[]) };
    let told = Otherwise("who it is stands in the body too, as with InfluxDB 3", 200, "\"version\"");
    vec![
        ping("/ping").is(told),
        ask("SHOW DATABASES"),
        ask("SHOW RETENTION POLICIES ON \"ora\";SHOW RETENTION POLICIES ON \"nodb\""),
        ask("SHOW MEASUREMENTS"),
        ask("SHOW TAG KEYS FROM \"autogen\".\"cpu\""),
        ask("SHOW FIELD KEYS FROM \"autogen\".\"cpu\""),
        ask("SHOW TAG VALUES FROM \"autogen\".\"cpu\" WITH KEY IN (\"host\", \"region\")"),
        ask("SHOW TAG VALUES WITH KEY = \"host\" WHERE TIME > now() - 10m"),
        ask("show series from /^cpu$|^disk$/ where time > now() - 10m"),
        ask("show series from /^cpu$|^disk$/"),
        ask("SHOW MEASUREMENTS WHERE \"host\" = 'b'"),
        ask(
            "SELECT mean(\"usage\") AS \"mean_usage\" FROM \"ora\".\"autogen\".\"cpu\" WHERE time > 1704067200000ms AND time < 1704067440000ms \
             AND \"host\"='a' GROUP BY time(10s * 6) FILL(null)",
        ),
        ask(
            "SELECT mean(\"usage\") AS \"mean_usage\" FROM \"ora\".\"autogen\".\"cpu\" WHERE time > 1704067200000ms AND time < 1704067440000ms \
             AND \"host\"='a' GROUP BY time(60s) FILL(null)",
        ),
        ask("SELECT mean(\"usage\") FROM \"cpu\" WHERE time > now() - 10s * 10"),
        ask("SHOW QUERIES").is(Shape),
        ask("KILL QUERY 99999"),
        ask("SHOW USERS"),
        ask("SHOW CONTINUOUS QUERIES"),
        ask("SHOW SUBSCRIPTIONS"),
        ask(
            "SHOW DATABASES; SHOW RETENTION POLICIES ON \"ora\"; SHOW MEASUREMENTS; SHOW TAG KEYS FROM \"autogen\".\"cpu\"; SHOW FIELD KEYS \
             FROM \"autogen\".\"cpu\"; SHOW TAG VALUES FROM \"autogen\".\"cpu\" WITH KEY IN (\"host\", \"region\"); SHOW SERIES FROM \"mem\"",
        ),
        ask("CREATE DATABASE \"chrono\" WITH DURATION 720h0m0s REPLICATION 1 SHARD DURATION 24h NAME \"autogen\""),
        ask("SHOW RETENTION POLICIES ON \"chrono\""),
        ask("CREATE RETENTION POLICY \"week\" ON \"chrono\" DURATION 7d REPLICATION 1 DEFAULT"),
        ask("SHOW RETENTION POLICIES ON \"chrono\""),
        ask("ALTER RETENTION POLICY \"autogen\" ON \"chrono\" DURATION 720h0m0s REPLICATION 1 DEFAULT"),
        ask("SHOW RETENTION POLICIES ON \"chrono\""),
        ask("DROP RETENTION POLICY \"week\" ON \"chrono\""),
        ask("DROP DATABASE \"chrono\""),
        ask("SHOW RETENTION POLICIES ON \"chrono\""),
    ]
}

pub(super) fn telegraf() -> Vec<Request> {
    let write = |pairs: &[(&str, &str)], lines: &str| Request::write("Telegraf", pairs, lines);
    let all = [("consistency", "any"), ("db", "telegraf"), ("precision", "ns"), ("rp", "")];
    let seconds = [("consistency", "any"), ("db", "telegraf"), ("precision", "s"), ("rp", "")];
    let unreadable = "behind the line stands our own reason";
    vec![
        write(&[("db", "early")], "cpu v=1 1").is(Otherwise("a write makes its database", 204, "")),
        Request::form("Telegraf", &[("q", "CREATE DATABASE \"telegraf\"")]),
        Request::form("Telegraf", &[("q", "CREATE DATABASE \"telegraf\"")]),
        write(&all, "cpu,host=a usage_idle=99.5,n=1i 1704067200000000000\n").compressed(),
        write(&all, "cpu,host=a usage_idle=98 1704067210000000000\nmem,host=a free=5i 1704067210000000000\n")
            .compressed(),
        write(&all, "cpu,host=a n=1.5 1704067220000000000\ncpu,host=a n=3i 1704067230000000000"),
        write(
            &seconds,
            "cpu,host=a n=1.5 1704067251\ncpu,host=a n=\"x\" 1704067252\nbad line\ncpu,host=a n=true 1704067253",
        ),
        write(&all, "cpu,host=a n=4i 1704067240000000000\nbad line\n").is(Otherwise(
            unreadable,
            400,
            "partial write: unable to parse 'bad line': ",
        )),
        write(&all, "bad line").is(Otherwise(unreadable, 400, "{\"error\":\"unable to parse 'bad line': ")),
        write(&all, "bad\nworse line x").is(Otherwise(unreadable, 400, "\\nunable to parse 'worse line x': ")),
        write(&all, ""),
        write(&all, "# nothing\n"),
        write(&[("consistency", "most"), ("db", "telegraf")], "cpu v=1 1"),
        write(&[("db", "telegraf"), ("precision", "h")], "clock v=1 473352"),
        write(&[("db", "telegraf"), ("precision", "m")], "clock v=2 28401121"),
        write(&[("db", "telegraf"), ("precision", "s")], "clock v=3 1704067262"),
        write(&[("db", "telegraf"), ("precision", "ms")], "clock v=4 1704067263000"),
        write(&[("db", "telegraf"), ("precision", "u")], "clock v=5 1704067264000000"),
        write(&[("db", "telegraf"), ("precision", "n")], "clock v=6 1704067265000000000"),
        write(&[("db", "telegraf"), ("precision", "day")], "other v=7 7").is(Otherwise(
            "a unit that is none is a mistake, as later versions of InfluxDB 1 say",
            400,
            "invalid precision \\\"day\\\"",
        )),
        write(&[("precision", "ns")], "cpu v=1 1"),
        write(&[("db", "telegraf"), ("rp", "nothing")], "cpu v=1 1").is(Otherwise(
            "a write makes its retention policy",
            204,
            "",
        )),
        write(&[("db", "telegraf"), ("u", "telegraf"), ("p", "secret")], "cpu,host=b usage_idle=1 1704067200000000000"),
        Request { method: Method::GET, ..write(&all, "") }.is(Otherwise("axum says no by itself", 405, "")),
        Request { body: b"not compressed".to_vec(), ..write(&all, "").header("content-encoding", "gzip") }
            .is(Otherwise("in words of our own", 400, "gzip")),
        Request::get("Telegraf", &[("db", "telegraf"), ("epoch", "s"), ("q", "SELECT * FROM cpu, mem, clock")]),
        // Its default retention policy is another one.
        Request::form(
            "Telegraf",
            &[("q", "CREATE RETENTION POLICY \"month\" ON \"telegraf\" DURATION INF REPLICATION 1 DEFAULT")],
        ),
        write(&all, "cpu,host=new usage_idle=7 1704067200000000000"),
        Request::get("Telegraf", &[("db", "telegraf"), ("epoch", "s"), ("q", "SELECT * FROM cpu")]),
        Request::get(
            "Telegraf",
            &[("db", "telegraf"), ("epoch", "s"), ("q", "SELECT count(usage_idle) FROM autogen.cpu")],
        ),
        Request::get(
            "Telegraf",
            &[("db", "telegraf"), ("rp", "autogen"), ("epoch", "s"), ("q", "SELECT count(usage_idle) FROM cpu")],
        ),
        Request::get(
            "Telegraf",
            &[("db", "telegraf"), ("epoch", "s"), ("q", "SELECT count(usage_idle) FROM telegraf..cpu")],
        ),
        Request::form("Telegraf", &[("q", "DROP RETENTION POLICY \"month\" ON \"telegraf\"")]),
        write(&all, "cpu v=1 1").is(Otherwise(
            "what is not there is not our fault",
            404,
            "{\"error\":\"retention policy not found: month\"}",
        )),
        Request::get("Telegraf", &[("db", "telegraf"), ("q", "SELECT * FROM cpu")]),
        Request::form("Telegraf", &[("q", "DROP DATABASE \"telegraf\"")]),
        Request::form("Telegraf", &[("q", "DROP DATABASE \"early\"")]),
    ]
}

pub(super) fn home_assistant() -> Vec<Request> {
    let ask = |q: &str| Request::get("Home Assistant", &[("db", "home"), ("q", q)]);
    let write = |lines: &str| Request::write("Home Assistant", &[("db", "home"), ("precision", "ms")], lines);
    vec![
        Request::post("Home Assistant", &[("q", "CREATE DATABASE \"home\"")]),
        ask("SHOW DATABASES;").is(Otherwise("by name, not by age", 200, "[[\"home\"],[\"ora\"]]")),
        write("°C,domain=sensor,entity_id=living\\ room friendly_name_str=\"Living room\",value=21.5 1704067200000\n"),
        write(
            "%,domain=sensor,entity_id=moisture value=44 1704067200000\nstate,domain=light,entity_id=hall state=\"on\",value=1 1704067201000",
        ),
        ask("select mean(value) as value from \"°C\" where entity_id = 'living room'"),
        ask("select last(value) as value from \"°C\" where \"entity_id\" = 'living room'"),
        ask("select mean(value) as value from \"°C\" where entity_id = 'nothing'"),
        ask("select mean(value) as value from \"%\" where time > now() - 1h"),
        Request::post("Home Assistant", &[("q", "DROP DATABASE \"home\"")]),
    ]
}

pub(super) fn kapacitor() -> Vec<Request> {
    let ask = |q: &str| Request::post("Kapacitor", &[("db", ""), ("epoch", ""), ("q", q)]);
    let ping = Request { path: "/ping?wait_for_leader=10s".to_owned(), ..Request::get("Kapacitor", &[]) };
    let at = |first: &str, end: &str| {
        format!(
            "SELECT mean(usage) AS usage FROM ora.autogen.cpu WHERE time >= '{first}' AND time < '{end}' GROUP BY host, time(1m, 0s) fill(none)"
        )
    };
    vec![
        ping.is(Otherwise("who it is stands in the body too, as with InfluxDB 3", 200, "\"version\"")),
        ask("SHOW DATABASES"),
        ask("SHOW RETENTION POLICIES ON ora"),
        ask("SHOW SUBSCRIPTIONS"),
        ask(&at("2024-01-01T00:00:00Z", "2024-01-01T00:02:00Z")),
        ask(&at("2024-01-01T00:02:00Z", "2024-01-01T00:04:00Z")),
        ask("CREATE SUBSCRIPTION \"kapacitor-x\" ON ora.autogen DESTINATIONS ANY 'http://localhost:9092'")
            .is(Otherwise("points are not sent on", 200, "not supported")),
        ask("CREATE DATABASE alerts WITH NAME autogen"),
        Request::write(
            "Kapacitor",
            &[("consistency", "one"), ("db", "alerts"), ("precision", "n"), ("rp", "autogen")],
            "alerts,id=a level=\"OK\",n=1i 1704067200000000000",
        ),
        Request::post("Kapacitor", &[("db", "alerts"), ("q", "SELECT * FROM alerts.autogen.alerts")]),
        ask("DROP DATABASE alerts"),
    ]
}

pub(super) fn influxdb_python() -> Vec<Request> {
    let ask = |q: &str| {
        Request::get("influxdb-python", &[("db", "py"), ("q", q)]).header("authorization", "Basic cm9vdDpyb290")
    };
    let change = |q: &str| {
        Request::post("influxdb-python", &[("db", "py"), ("q", q)]).header("authorization", "Basic cm9vdDpyb290")
    };
    let chunked = [
        ("db", "ora"),
        ("chunked", "true"),
        ("chunk_size", "7"),
        ("epoch", "u"),
        ("q", "SELECT usage FROM cpu GROUP BY host"),
    ];
    let bound =
        [("db", "ora"), ("params", "{\"host\": \"a\"}"), ("q", "SELECT count(usage) FROM cpu WHERE host = $host")];
    vec![
        change("CREATE DATABASE \"py\""),
        change("CREATE DATABASE \"py\""),
        Request::write(
            "influxdb-python",
            &[("db", "py"), ("precision", "s")],
            "m,k=v\\ 1,z=1 i=5i,s=\"a b\",t=True 1704067200\nm,k=w f=1.5 1704067201\n",
        ),
        ask("SHOW DATABASES"),
        ask("SHOW MEASUREMENTS"),
        ask("SHOW SERIES"),
        ask("SHOW SERIES FROM \"m\" WHERE k = 'w'"),
        ask("SHOW TAG KEYS"),
        ask("SHOW RETENTION POLICIES ON \"py\""),
        change("CREATE RETENTION POLICY \"foo\" ON \"py\" DURATION 1d REPLICATION 1 SHARD DURATION 0s"),
        ask("SHOW RETENTION POLICIES ON \"py\""),
        change("ALTER RETENTION POLICY \"foo\" ON \"py\" DURATION 2d REPLICATION 1 DEFAULT"),
        change("ALTER RETENTION POLICY \"bar\" ON \"py\" DEFAULT"),
        change("ALTER RETENTION POLICY \"autogen\" ON \"py\" DEFAULT"),
        change("DROP RETENTION POLICY \"foo\" ON \"py\""),
        ask("SELECT * FROM m"),
        ask("select * from m; select count(*) from m; select * from nothing"),
        change("DROP SERIES FROM \"m\" WHERE \"k\"='w'"),
        ask("SELECT * FROM m"),
        change("DELETE FROM \"m\" WHERE \"k\"='v 1'"),
        ask("SELECT * FROM m"),
        change("DROP MEASUREMENT \"m\""),
        ask("SHOW USERS"),
        ask("SHOW GRANTS FOR \"nobody\""),
        change("GRANT ALL PRIVILEGES TO \"nobody\"").is(Otherwise(
            "tokens are what lets somebody in",
            200,
            "flightline create token",
        )),
        Request::get("influxdb-python", &chunked),
        Request::get("influxdb-python", &bound),
        change("DROP DATABASE \"py\""),
        ask("SHOW MEASUREMENTS").is(NO_DATABASE),
    ]
}

/// Libraries of other languages, and scripts.
pub(super) fn others() -> Vec<Request> {
    let panel = (
        "q",
        "SELECT mean(usage), count(load) FROM cpu WHERE time >= '2024-01-01' AND time < '2024-01-01 00:05:00' GROUP BY time(1m), host",
    );
    let q = |q: &'static str| [("db", "ora"), ("q", q)];
    let method = |method: Method| Request { method, ..Request::get("a script", &q("SHOW DATABASES")) };
    let mut requests = vec![
        Request::get("influxdb-java", &[("u", "root"), ("p", "root"), ("db", "ora"), ("epoch", "ms"), panel])
            .header("accept-encoding", "gzip"),
        Request::post("influxdb-java", &[("u", "root"), ("p", "root"), ("q", "SHOW DATABASES")]),
        Request::get(
            "influxdb-java",
            &[
                ("db", "ora"),
                ("chunked", "true"),
                ("chunk_size", "10"),
                ("epoch", "n"),
                ("q", "SELECT usage FROM cpu LIMIT 25"),
            ],
        ),
        Request::post(
            "the client for Go",
            &[
                ("db", "ora"),
                ("epoch", "ns"),
                ("params", "{\"h\":\"a\",\"n\":2}"),
                ("q", "SELECT usage FROM cpu WHERE host = $h LIMIT $n"),
            ],
        ),
        Request::post(
            "the client for Go",
            &[("db", "ora"), ("params", "{}"), ("q", "SELECT usage FROM cpu WHERE host = $h")],
        ),
        Request::get("node-influx", &q("show series from \"cpu\"")),
        Request::get("node-influx", &q("show tag keys from cpu; show field keys from cpu")),
        Request::get("a script", &q("SELECT usage, load, note FROM cpu WHERE host = 'a' GROUP BY region LIMIT 5"))
            .header("accept", "application/csv"),
        Request::get("a script", &q("SHOW MEASUREMENTS; SHOW TAG KEYS")).header("accept", "text/csv"),
        Request::get(
            "a script",
            &q("SHOW MEASUREMENTS; SHOW TAG KEYS").into_iter().chain([("pretty", "true")]).collect::<Vec<_>>(),
        ),
        Request::get("a script", &q("SHOW SERIES CARDINALITY")),
        Request::get("a script", &q("SHOW SERIES EXACT CARDINALITY FROM cpu")),
        Request::get("a script", &q("SHOW MEASUREMENT CARDINALITY")),
        Request::get("a script", &q("SHOW TAG KEY CARDINALITY FROM cpu")),
        Request::get("a script", &q("SHOW TAG VALUES CARDINALITY FROM cpu WITH KEY = host")),
        Request::get("a script", &q("SHOW FIELD KEY CARDINALITY FROM cpu")),
        Request::get("a script", &q("SELECT last(*) FROM mem GROUP BY *")),
        Request::get("a script", &q("SELECT * FROM cpu ORDER BY time DESC LIMIT 1")),
        Request::post(
            "a script",
            &q("SELECT mean(usage) INTO copies FROM cpu WHERE time < '2024-01-02' GROUP BY host"),
        ),
        Request::get("a script", &q("SELECT * FROM copies")),
        Request::post("a script", &q("DROP MEASUREMENT copies")),
        Request::get("a script", &[("db", "ora")]),
        Request::get("a script", &q("")),
        Request::get("a script", &[("q", "SELECT usage FROM cpu")]),
        Request::get("a script", &[("db", "ora"), ("epoch", "days"), ("q", "SELECT usage FROM cpu LIMIT 1")]),
        method(Method::PUT),
        method(Method::HEAD),
        Request::post("a script", &[("q", "DROP DATABASE nothing")]),
        Request::post("a script", &[("q", "SHOW DATABASES; SHOW NOTHING")]),
        Request::post("a script", &[("q", "CREATE USER \"u\" WITH PASSWORD 'p'")]).is(Otherwise(
            "tokens are what lets somebody in",
            200,
            "flightline create token",
        )),
    ];
    for epoch in ["ns", "u", "ms", "s", "m", "h"] {
        requests
            .push(Request::get("a script", &[("db", "ora"), ("epoch", epoch), ("q", "SELECT usage FROM cpu LIMIT 3")]));
    }
    requests
}
