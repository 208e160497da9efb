//! Where the time of small queries goes. Prints, and judges nothing: a figure of a debug build is good for ratios only.

use std::collections::BTreeMap;

use datafusion::execution::SessionStateBuilder;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};

use super::super::plans::Unbound;
use super::super::statement::{self, Parsed, Permitted};
use super::*;
use crate::clock::{Clock, SystemClock};
use crate::model::Tables;

const ROUNDS: u32 = 40;

const TEXTS: [&str; 4] = [
    "SELECT 1 AS one",
    "SELECT date_trunc('minute', time) AS bucket, max(a0) AS a0 FROM cpu WHERE host = 'h3' \
     AND time >= TIMESTAMP '2023-11-14T20:00:00' AND time < TIMESTAMP '2023-11-14T21:00:00' GROUP BY 1 ORDER BY 1",
    "SELECT * FROM cpu WHERE host = 'h3' ORDER BY time DESC LIMIT 1",
    "SELECT DISTINCT ON (host) * FROM cpu ORDER BY host, time DESC",
];

#[tokio::test]
#[ignore = "measures"]
async fn where_the_time_of_small_queries_goes() {
    let fixture = Fixture::new().await;
    for part in 0..4_i64 {
        let mut lines = String::new();
        for host in 0..10 {
            for step in 0..300_i64 {
                let fields: Vec<String> = (0..10).map(|field| format!("a{field}={}", step + field)).collect();
                let time = NOW - (4 - part) * 3_600_000_000_000 + step * 10_000_000_000;
                lines += &format!("cpu,host=h{host},region=r{} {} {time}\n", host % 3, fields.join(","));
            }
        }
        fixture.write(&lines).await;
        fixture.persist().await;
    }
    let clock = SystemClock::new();
    for text in TEXTS {
        fixture.answer(text).await;
        let start = clock.elapsed();
        for _ in 0..ROUNDS {
            fixture.ask(text).await.unwrap();
        }
        let all = (clock.elapsed() - start) / ROUNDS;
        let mut parts: BTreeMap<String, Duration> = BTreeMap::new();
        for _ in 0..ROUNDS {
            let mut last = clock.elapsed();
            let mut mark = |part: &str| {
                *parts.entry(part.to_owned()).or_default() += clock.elapsed() - last;
                last = clock.elapsed();
            };
            let session = fixture.queries.sessions.open(&nyc(), &Tables::All);
            mark("1 session");
            let Parsed::Reading(parsed) = statement::parse(text, 1 << 20, Permitted::Reading).unwrap() else {
                panic!()
            };
            mark("2 parse");
            let made = Unbound::new(&session, (parsed, true), &fixture.engine, &nyc(), CPU.handle()).await.unwrap();
            mark("3 plan and analyze");
            let plan = Arc::unwrap_or_clone(made.plan().unwrap());
            mark("4 clone");
            let mut rules = 0;
            let observe = |_: &_, rule: &dyn datafusion::optimizer::OptimizerRule| {
                rules += 1;
                mark(&format!("6 optimize {}", rule.name()));
            };
            let plan = session.optimizer().optimize(plan, &session, observe).unwrap();
            *parts.entry("6 rules run".to_owned()).or_default() += Duration::from_millis(rules);
            let mut last = clock.elapsed();
            let mut mark = |part: &str| {
                *parts.entry(part.to_owned()).or_default() += clock.elapsed() - last;
                last = clock.elapsed();
            };
            let bare = SessionStateBuilder::new_from_existing(session.clone())
                .with_physical_optimizer_rules(Vec::new())
                .build();
            mark("7 (a bare session)");
            let planner = DefaultPhysicalPlanner::default();
            let plan = planner.create_physical_plan(&plan, &bare).await.unwrap();
            mark("8 physical plan");
            let observe = |_: &dyn datafusion::physical_plan::ExecutionPlan,
                           rule: &dyn datafusion::physical_optimizer::PhysicalOptimizerRule| {
                mark(&format!("9 physical {}", rule.name()));
            };
            planner.optimize_physical_plan(plan, &session, observe).unwrap();
        }
        println!("{text}\n{:>10.1} us in all", all.as_secs_f64() * 1e6);
        for (part, time) in parts {
            println!("{:>10.1} {part}", (time / ROUNDS).as_secs_f64() * 1e6);
        }
    }
}
