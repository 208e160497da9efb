//! Requests to `/query` with anything in them: each gets a status and, where it has a body, valid JSON.

use serde_json::Value;

use super::points::Random;
use super::with_points;

/// Requests that are made.
const REQUESTS: u64 = 400;

const PARAMETERS: [&str; 10] = ["q", "db", "rp", "epoch", "chunked", "chunk_size", "pretty", "params", "u", "p"];

/// What clients send, to be spoilt.
const USUAL: [&str; 10] = [
    "SELECT mean(usage) FROM cpu WHERE host =~ /^(a|b)$/ AND time > 0 GROUP BY time(1d), host fill(null) LIMIT 3",
    "SHOW TAG VALUES FROM cpu WITH KEY IN (\"host\", \"region\") WHERE host != 'a'; SHOW DATABASES",
    "SELECT \"usage\" / 2 AS \"é\\\"\" FROM \"ora\".\"autogen\".\"cpu\" WHERE host = $h ORDER BY time DESC LIMIT 1",
    "ora",
    "autogen",
    "ms",
    "true",
    "3",
    r#"{"h": "a", "x": {"regex": "a|b"}, "n": 1e300}"#,
    "",
];

/// Bytes of any kind, often close to what is usual.
fn bytes(random: &mut Random) -> Vec<u8> {
    let mut bytes = match random.below(4) {
        0 => (0..random.below(40)).map(|_| random.below(256) as u8).collect(),
        _ => random.one(&USUAL).as_bytes().to_vec(),
    };
    for _ in 0..random.below(4) {
        let place = random.below(bytes.len() as u64 + 1) as usize;
        match random.below(5) {
            0 => bytes.insert(place, random.below(256) as u8),
            1 => bytes.truncate(place),
            2 if place < bytes.len() => bytes[place] ^= 1 << random.below(8),
            3 => {
                let piece =
                    random.one(&["\0", "'", "\"", "/", "(", "\\", "9223372036854775808", "\u{202e}", "::", "$"]);
                bytes.splice(place..place, piece.bytes());
            }
            _ => {}
        }
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_in_a_parameter_is_answered_with_json() {
    let server = with_points().await;
    for seed in 0..REQUESTS {
        let random = &mut Random::new(seed);
        let mut pairs: Vec<(&str, Vec<u8>)> = Vec::new();
        if random.percent(80) {
            pairs.push(("q", USUAL[random.below(3) as usize].as_bytes().to_vec()));
            pairs.push(("db", b"ora".to_vec()));
        }
        for _ in 0..random.below(4) {
            pairs.push((random.one(&PARAMETERS), bytes(random)));
        }
        let encoded = |(name, value): &(&str, Vec<u8>)| {
            let value: String = value.iter().map(|byte| format!("%{byte:02X}")).collect();
            format!("{name}={value}")
        };
        let text = pairs.iter().map(encoded).collect::<Vec<_>>().join("&");
        let request = match random.below(4) {
            0 => server.http.get(server.url(&format!("/query?{text}"))),
            1 => server.http.post(server.url(&format!("/query?{text}"))),
            2 => {
                let form = server.http.post(server.url("/query")).body(text.clone());
                form.header("content-type", "application/x-www-form-urlencoded")
            }
            // Not encoded at all.
            _ => {
                let body = bytes(random);
                let kinds = ["application/vnd.influxql", "multipart/form-data; boundary=x", "text/plain", ""];
                server.http.post(server.url("/query?db=ora")).body(body).header("content-type", random.one(&kinds))
            }
        };
        let response = request.send().await.unwrap();
        let (status, body) = (response.status().as_u16(), response.bytes().await.unwrap());
        assert!(matches!(status, 200 | 400 | 413 | 414), "seed {seed}: {status} {text}");
        let documents = serde_json::Deserializer::from_slice(&body).into_iter::<Value>();
        let documents = documents.collect::<Result<Vec<_>, _>>();
        let documents = documents.unwrap_or_else(|error| panic!("seed {seed}: {error}: {text}: {body:?}"));
        let is_answer = |document: &Value| document["results"].is_array() || document["error"].is_string();
        assert!(!documents.is_empty() && documents.iter().all(is_answer), "seed {seed}: {text}: {documents:?}");
    }
    // It is as alive as before.
    let (status, text) = super::ask(&server, &[("db", "ora"), ("q", "SELECT count(usage) FROM cpu")]).await;
    assert!(status == 200 && text.contains("series"), "{text}");
}
