use super::*;
#[tokio::test]
async fn tmp_depth() {
    let fixture = Fixture::new().await;
    fixture.write("m a=1i 1").await;
    let kind = std::env::var("KIND").unwrap();
    let n: usize = std::env::var("N").unwrap().parse().unwrap();
    let chain = |term: &str, link: &str, count: usize| vec![term; count].join(link);
    let numbered = |link: &str, count: usize| (0..count).map(|n| format!("a<>{}", n + 2)).collect::<Vec<_>>().join(link);
    let text = match kind.as_str() {
        "and" => format!("SELECT a FROM m WHERE {}", numbered(" AND ", n)),
        "or" => format!("SELECT a FROM m WHERE {}", numbered(" OR ", n)),
        "plus" => format!("SELECT {} FROM m", chain("a", "+", n)),
        "ones" => format!("SELECT {}", chain("1", "+", n)),
        "cat" => format!("SELECT {}", chain("'x'", "||", n)),
        "paren" => format!("SELECT {}a{} FROM m", "(".repeat(n), ")".repeat(n)),
        "abs" => format!("SELECT {}a{} FROM m", "abs(".repeat(n), ")".repeat(n)),
        "sub" => format!("SELECT {}1{}", "(SELECT ".repeat(n), ")".repeat(n)),
        "from" => format!("SELECT a FROM {}m{}", "(SELECT a FROM ".repeat(n), ")".repeat(n)),
        "in" => format!("SELECT a FROM m WHERE a IN ({})", chain("1", ",", n)),
        "case" => format!("SELECT {}1{}", "CASE WHEN a=1 THEN ".repeat(n), " END".repeat(n)) + " FROM m",
        "union" => format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(n)),
        "join" => format!("SELECT 1 FROM m{}", (0..n).map(|k| format!(", m m{k}")).collect::<String>()),
        "cols" => format!("SELECT {} FROM m", (0..n).map(|k| format!("a+{k} c{k}")).collect::<Vec<_>>().join(",")),
        "lits" => format!("SELECT {}", (0..n).map(|k| format!("{k} c{k}")).collect::<Vec<_>>().join(",")),
        "values" => format!("VALUES {}", chain("(1)", ",", n)),
        _ => panic!(),
    };
    let t = std::time::Instant::now();
    let p = fixture.plan(&text).await;
    let t1 = t.elapsed();
    let r = match p { Ok(p) => match p.run().await { Ok(s) => s.try_collect::<Vec<_>>().await.map(|_| ()), Err(e) => Err(e) }, Err(e) => Err(e) };
    println!("{kind} {n}: plan {t1:?} total {:?} {}", t.elapsed(), match r { Ok(_) => "ok".to_owned(), Err(e) => e.report().chars().take(150).collect() });
}
