//! The same statements to a real InfluxDB 1.6.7 and to us: the recorded ones, and random ones.
//!
//! `FLIGHTLINE_INFLUXQL_SEEDS` sets how many random statements are asked, `FLIGHTLINE_INFLUXQL_FIRST_SEED` the first of them, and
//! `FLIGHTLINE_INFLUXQL_SHOW` shows each; a failure names the seed and the smallest statement
//! whose answers differ.

use serde_json::{Value, json};

use super::comparison::{is_near, sort_equal_times, sort_series};
use super::parts::Statement;
use super::{generator, otherwise, points};
use crate::harness::influxdb::InfluxDb;
use crate::harness::server::TestServer;

/// Random statements in a run of all tests.
const SEEDS: u64 = 2_500;

/// Differences that are shown.
const SHOWN_MAX: usize = 25;

/// Both, with the same points.
struct Both {
    ours: TestServer,
    theirs: InfluxDb,
}

impl Both {
    async fn start(database: &str, points: &str) -> Self {
        let (ours, theirs) = (TestServer::start().await, InfluxDb::start());
        ours.write(database, points).await;
        theirs.write(database, points).await;
        Self { ours, theirs }
    }

    async fn ask(&self, database: &str, text: &str) -> [Value; 2] {
        let form = [("db", database), ("q", text)];
        let ours = self.ours.http.post(self.ours.url("/query")).form(&form).send().await.unwrap();
        let theirs = self.theirs.http.post(self.theirs.url("/query")).form(&form).send().await.unwrap();
        let mut answers = [Value::Null, Value::Null];
        for (answer, response) in answers.iter_mut().zip([ours, theirs]) {
            let (status, text) = (response.status().as_u16(), response.text().await.unwrap());
            let body: Value = serde_json::from_str(&text).unwrap_or(Value::String(text));
            *answer = json!({ "status": status, "body": body });
        }
        answers
    }

    /// Whether the answers to a statement agree, or differ for a reason that is known.
    async fn is_understood(&self, statement: &Statement, ours: &Value, theirs: &Value) -> bool {
        let text = statement.text();
        if agree(ours, theirs) || otherwise::reason(&text, ours, theirs).is_some() {
            return true;
        }
        for clauses in otherwise::limits(&text) {
            let unlimited = statement.without_clauses(clauses);
            let [ours, theirs] = self.ask("orb", &unlimited.text()).await;
            if agree(&ours, &theirs) || otherwise::reason(&unlimited.text(), &ours, &theirs).is_some() {
                return true;
            }
        }
        false
    }
}

/// Whether the answers are the same but for what is free.
pub fn agree(ours: &Value, theirs: &Value) -> bool {
    let (mut ours, mut theirs) = (ours.clone(), theirs.clone());
    for answer in [&mut ours, &mut theirs] {
        sort_equal_times(&mut answer["body"]);
        sort_series(&mut answer["body"]);
    }
    is_near(&ours, &theirs)
}

/// Makes a statement smaller as long as the answers differ.
async fn minimised(both: &Both, statement: Statement) -> (Statement, [Value; 2]) {
    let mut smallest = statement;
    let mut answers = both.ask("orb", &smallest.text()).await;
    'smaller: loop {
        for smaller in smallest.smaller() {
            let [ours, theirs] = both.ask("orb", &smaller.text()).await;
            // One that has become an error elsewhere is another matter.
            let is_error = |answer: &Value| answer["status"] != 200 || !answer["body"]["results"][0]["error"].is_null();
            let same_kind = is_error(&ours) == is_error(&answers[0]) && is_error(&theirs) == is_error(&answers[1]);
            if same_kind && !both.is_understood(&smaller, &ours, &theirs).await {
                (smallest, answers) = (smaller, [ours, theirs]);
                continue 'smaller;
            }
        }
        return (smallest, answers);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_statements_are_answered_as_by_influxdb() {
    let number = |name: &str, usual| std::env::var(name).map_or(usual, |text| text.parse().unwrap());
    let (first, count) = (number("FLIGHTLINE_INFLUXQL_FIRST_SEED", 0), number("FLIGHTLINE_INFLUXQL_SEEDS", SEEDS));
    let both = Both::start("orb", &points::points()).await;
    let (mut answered, mut wrong) = (0, Vec::new());
    // Each of them again for other times: plans are kept, and bounds are exchanged in them.
    let statements = (first..first + count).flat_map(|seed| {
        let (statement, later) = (generator::statement(seed), generator::moved(seed, 15));
        let again = (later.text() != statement.text()).then_some((seed, later));
        std::iter::once((seed, statement)).chain(again)
    });
    let mut asked = 0;
    for (seed, statement) in statements {
        asked += 1;
        if std::env::var_os("FLIGHTLINE_INFLUXQL_SHOW").is_some() {
            println!("{seed}: {}", statement.text());
        }
        let [ours, theirs] = both.ask("orb", &statement.text()).await;
        answered += u64::from(!theirs["body"]["results"][0]["series"].is_null());
        if both.is_understood(&statement, &ours, &theirs).await {
            continue;
        }
        let (smallest, [ours, theirs]) = minimised(&both, statement).await;
        let (text, ours, theirs) = (smallest.text(), ours["body"].to_string(), theirs["body"].to_string());
        wrong.push(format!("seed {seed}: {text}\n  InfluxDB: {theirs}\n  ours:     {ours}"));
        if wrong.len() >= SHOWN_MAX {
            break;
        }
    }
    println!("{answered} of {asked} random statements have rows");
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(answered * 3 > asked, "the statements ask for too little");
}
