//! A text with parameters is planned once for all values that columns are compared with, and answered as if the values were written in it.

use std::collections::BTreeSet;

use super::super::parameters;
use super::*;
use crate::model::{CacheDefinition, CacheShape, Newest};

/// Questions, and whether one plan serves all values; `{t}`, `{h}`, `{a}` and `{b}` are compared with columns of their kinds.
const QUESTIONS: [(&str, bool); 18] = [
    ("SELECT time, a FROM m WHERE host = {h} AND time >= {t} ORDER BY time", true),
    ("SELECT host, b FROM m WHERE b > {b} ORDER BY host, time", true),
    ("SELECT host, b FROM m WHERE b >= {b} AND b < 5 ORDER BY host, time", true),
    ("SELECT host, a FROM m WHERE a < {a} AND a > 1 AND host <> {h} ORDER BY host, time", true),
    ("SELECT host, time FROM m WHERE time < {t} AND time < '1970-01-01T02:00:00' ORDER BY host, time", true),
    ("SELECT host, time FROM m WHERE time BETWEEN '1970-01-01' AND {t} ORDER BY host, time", true),
    ("SELECT host, a FROM m WHERE host IN ({h}, 'h1') AND host IN ('h2', {h}) ORDER BY host, time", true),
    ("SELECT host, a FROM m WHERE host NOT IN ({h}, 'h7') ORDER BY host, time", true),
    ("SELECT host, max(a) AS a FROM m WHERE region = {h} OR host = {h} GROUP BY host ORDER BY host LIMIT 2", true),
    ("SELECT h, a FROM (SELECT upper(host) AS h, a FROM m) AS x WHERE a <= {a} AND h <> {h} ORDER BY h, a", true),
    ("SELECT DISTINCT ON (host) host, time, a FROM m WHERE host = {h} ORDER BY host, time DESC", true),
    ("SELECT a, time FROM last_cache('m') WHERE host = {h} ORDER BY time", true),
    // There is a plan for each of the values of such parameters, if what is made of them is the same each time.
    ("SELECT {h} AS h, count(*) AS n FROM m WHERE a > {a}", true),
    ("SELECT host, time FROM m ORDER BY host, time LIMIT CAST({b} AS BIGINT) + 1", true),
    ("SELECT host, sum(b) AS s FROM m WHERE host <> {h} GROUP BY host HAVING sum(b) > {b} ORDER BY host", true),
    ("SELECT host, b + {b} AS b FROM m WHERE {a} < a ORDER BY host, time", true),
    ("SELECT host FROM m WHERE time < now() AND host = {h} ORDER BY time", false),
    ("SELECT host FROM m WHERE a = (SELECT max(a) FROM m WHERE host = {h})", false),
];

#[tokio::test]
async fn other_values_are_answered_as_if_they_were_written_in_the_text() {
    let fixture = Fixture::with(QuerySettings { threads: 2, ..QuerySettings::default() }).await;
    fixture.write("m,host=h0,region=r0 a=1,b=1i 10\nm,host=h1,region=r1 a=2 20\nm,host=h1 b=3i 3600000000010").await;
    fixture.persist().await;
    fixture.write("m,host=h2,region=r0 a=5,b=6i 7200000000000").await;
    let last = CacheShape::Last { keys: None, values: None, newest: Newest::Points(1), ttl: None };
    let cache = CacheDefinition { name: "c".to_owned(), shape: last };
    fixture.engine.create_cache(&nyc(), &TableName::new("m").unwrap(), cache).await.unwrap();
    let hosts = ["h1", "h0", "it's", "r0", "", "H1"];
    let instants = ["1970-01-01T00:00:00", "1970-01-01T01:00:00Z", "1970-01-01T02:00:00.5", "1970-01-01"];
    let mut different = BTreeSet::new();
    for round in 0..12 {
        let (host, instant) = (hosts[round % hosts.len()], instants[round % instants.len()]);
        let (a, b) = (f64::from(i32::try_from(round % 5).unwrap()) + 0.5, i64::try_from(round % 7).unwrap() - 1);
        let written = [
            ("{h}", format!("'{}'", host.replace('\'', "''")), Parameter::String(host.to_owned())),
            ("{t}", format!("'{instant}'"), Parameter::String(instant.to_owned())),
            ("{a}", format!("{a:?}"), Parameter::Float(a)),
            ("{b}", b.to_string(), Parameter::Integer(b)),
        ];
        for (question, is_one_for_all) in QUESTIONS {
            let (mut text, mut plain) = (question.to_owned(), format!("/* {round} */ {question}"));
            let mut values = Vec::new();
            for (place, literal, value) in &written {
                let name = place.trim_matches(['{', '}']).to_owned();
                text = text.replace(place, &format!("${name}"));
                plain = plain.replace(place, literal);
                values.push((name, value.clone()));
            }
            let asked = Query { parameters: values.clone(), ..query(&text) };
            let expected = fixture.shown(query(&plain)).await;
            for _ in 0..2 {
                let found = fixture.shown(asked.clone()).await;
                if found != expected {
                    different.insert(format!("{plain}\n{found}\n{expected}"));
                }
            }
            if fixture.has_one_for_all(&asked).await != is_one_for_all {
                different.insert(format!("{question}: {is_one_for_all}"));
            }
        }
    }
    assert!(different.is_empty(), "{}", different.into_iter().collect::<Vec<_>>().join("\n"));
}

#[tokio::test]
async fn what_a_parameter_may_be_is_checked_each_time() {
    let fixture = Fixture::new().await;
    fixture.write("m,host=h0 a=1,b=1i 10\nm,host=h1 a=2,b=2i 20").await;
    let text = "SELECT host FROM m WHERE time >= $t AND b > $b ORDER BY host";
    let asked = async |t: Parameter, b: Parameter| {
        let rows = fixture.ask_for(query_with(text, &[("t", t), ("b", b)])).await;
        rows.map(|batches| batches.iter().map(RecordBatch::num_rows).sum::<usize>()).map_err(|error| error.to_string())
    };
    let instant = || Parameter::String("1970-01-01T00:00:00".to_owned());
    for _ in 0..2 {
        assert_eq!(asked(instant(), Parameter::Integer(1)).await, Ok(1));
        assert_eq!(asked(instant(), Parameter::Float(0.5)).await, Ok(2));
        assert_eq!(asked(instant(), Parameter::Float(1.5)).await, Ok(1));
        assert_eq!(asked(instant(), Parameter::Unsigned(u64::MAX)).await, Ok(0));
        assert_eq!(asked(instant(), Parameter::Null).await, Ok(0));
        let refused = asked(Parameter::String("soon".to_owned()), Parameter::Integer(1)).await.unwrap_err();
        assert_eq!(refused, "the parameter $t is soon (Utf8), which can't be Timestamp(ns)");
    }
    let missing = fixture.ask_for(query_with(text, &[("t", instant())])).await.unwrap_err();
    assert_eq!(missing.to_string(), "no value for the parameter \"$b\"");
}

impl Fixture {
    async fn shown(&self, query: Query) -> String {
        let text = query.text.clone();
        let schema = Arc::clone(self.queries.plan(query.clone()).await.unwrap().schema());
        let batches = self.ask_for(query).await.unwrap_or_else(|error| panic!("{text}: {}", error.report()));
        pretty_format_batches_with_schema(schema, &batches).unwrap().to_string()
    }

    /// Whether there is a plan for other values, too.
    async fn has_one_for_all(&self, query: &Query) -> bool {
        let plans = &self.queries.plans;
        let kept = plans.get(&self.engine, &nyc(), &query.text).await.unwrap();
        let key = parameters::for_others(&query.text, &kept.parameters, &query.parameters).unwrap().key;
        plans.get(&self.engine, &nyc(), &key).await.is_some_and(|known| known.is_exchangeable)
    }
}
