//! Handshakes, sessions and timeouts.

use super::*;

#[tokio::test]
async fn a_handshake_gives_back_what_it_was_shown() {
    let service = service(&[]).await;
    let message = HandshakeRequest { protocol_version: 3, payload: Bytes::from_static(b"hello") };
    for (shown, bearer) in [
        (Some("Basic dTpzZWNyZXQ="), "Bearer secret"),
        (Some("basic dTpzZWNyZXQ"), "Bearer secret"),
        (Some("Basic dTpwOnc="), "Bearer p:w"),
        (Some("Bearer abc"), "Bearer abc"),
        (Some("Token abc"), "Bearer abc"),
        (Some("Basic ***"), "Bearer anonymous"),
        (Some("Negotiate x"), "Bearer anonymous"),
        (None, "Bearer anonymous"),
    ] {
        for messages in [vec![], vec![HandshakeRequest::default()], vec![message.clone()]] {
            let headers: Vec<(&str, &str)> = shown.iter().map(|shown| ("authorization", *shown)).collect();
            let first = messages.first().cloned().unwrap_or_default();
            let response =
                service.client.clone().handshake(with_headers(stream::iter(messages), &headers)).await.unwrap();
            assert_eq!(response.metadata().get("authorization").unwrap(), bearer, "{shown:?}");
            let answers: Vec<HandshakeResponse> = response.into_inner().try_collect().await.unwrap();
            assert_eq!(answers.len(), 1);
            assert_eq!((answers[0].protocol_version, &answers[0].payload), (first.protocol_version, &first.payload));
        }
    }
}

/// SetSessionOptionsRequest with one option: a text, or nothing to go back to what holds without it.
fn set(name: &str, value: Option<&str>) -> Vec<u8> {
    let field = |tag: u8, bytes: &[u8]| [&[tag, u8::try_from(bytes.len()).unwrap()], bytes].concat();
    let value = value.map(|value| field(0x0a, value.as_bytes())).unwrap_or_default();
    let entry = [field(0x0a, name.as_bytes()), field(0x12, &value)].concat();
    field(0x0a, &entry)
}

/// What the server says to an action about sessions, and the cookie that it sends along.
async fn session(
    service: &Service,
    name: &str,
    body: Vec<u8>,
    headers: &[(&'static str, &str)],
) -> (Bytes, Option<String>) {
    let request = with_headers(Action::new(name, body), headers);
    let response = service.client.clone().do_action(request).await.unwrap();
    let cookie = response.metadata().get("set-cookie").map(|cookie| cookie.to_str().unwrap().to_owned());
    let results: Vec<arrow_flight::Result> = response.into_inner().try_collect().await.unwrap();
    (results[0].body.clone(), cookie)
}

#[tokio::test]
async fn a_session_is_headers_that_need_not_be_sent() {
    let service = service(&["nyc", "boston"]).await;
    assert_eq!(
        service.info(&query("SELECT 1"), &[]).await.unwrap_err().code(),
        Code::InvalidArgument,
        "which database?"
    );
    let (result, cookie) = session(&service, "SetSessionOptions", set("database", Some("nyc")), &[]).await;
    assert!(result.is_empty(), "no errors");
    let cookie = cookie.unwrap();
    let (pair, attributes) = cookie.split_once(';').unwrap();
    assert!(pair.starts_with("arrow_flight_session_id=v1.") && attributes == " Path=/", "{cookie}");

    // As Go sends it, as Java may, among others, and in a header of its own.
    let quoted = pair.replacen("v1.", "\"v1.", 1) + "\"";
    for brought in [pair.to_owned(), quoted, format!("a=b; {pair}; c=d")] {
        let kept = [("cookie", "x=y"), ("cookie", brought.as_str())];
        assert!(service.info(&query("SELECT * FROM weather"), &kept).await.is_ok(), "{brought}");
    }
    let kept = [("cookie", pair)];
    let both = [("cookie", pair), ("database", "atlantis")];
    assert_eq!(service.info(&query("SELECT 1"), &both).await.unwrap_err().code(), Code::NotFound, "headers come first");

    // One more option, then one less.
    let (_, more) = session(&service, "SetSessionOptions", set("dictionaries", Some("true")), &kept).await;
    let more = more.unwrap();
    let more = [("cookie", more.split(';').next().unwrap())];
    let rows = service.rows(&query("SELECT station FROM weather"), &more).await.unwrap();
    assert!(matches!(rows.schema().field(0).data_type(), DataType::Dictionary(_, _)));
    let (options, none) = session(&service, "GetSessionOptions", vec![], &more).await;
    assert_eq!(none, None);
    for part in ["catalog", "public", "schema", "iox", "database", "nyc", "query_language", "sql", "dictionaries"] {
        assert!(options.windows(part.len()).any(|window| window == part.as_bytes()), "{part}");
    }
    let (_, less) = session(&service, "SetSessionOptions", set("database", None), &more).await;
    let less = less.unwrap();
    let less = [("cookie", less.split(';').next().unwrap())];
    assert_eq!(service.info(&query("SELECT 1"), &less).await.unwrap_err().code(), Code::InvalidArgument);

    let (closed, cookie) = session(&service, "CloseSession", vec![], &kept).await;
    assert_eq!(closed, Bytes::from_static(&[0x08, 0x01]));
    assert!(cookie.unwrap().contains("Expires=Thu, 01 Jan 1970"));
    let foreign = [("cookie", "arrow_flight_session_id=3f2a")];
    assert_eq!(session(&service, "CloseSession", vec![], &foreign).await, (closed, None));
    let broken = service.info(&query("SELECT 1"), &[("cookie", "arrow_flight_session_id=v1.***")]).await.unwrap_err();
    assert_eq!(broken.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn every_option_of_a_session_that_can_not_be_set_says_why() {
    let service = service(&["nyc"]).await;
    let error = |name: &str, code: u8| {
        let entry = [&[0x0a, u8::try_from(name.len()).unwrap()], name.as_bytes(), &[0x12, 2, 0x08, code]].concat();
        Bytes::from([&[0x0a, u8::try_from(entry.len()).unwrap()], entry.as_slice()].concat())
    };
    for (name, value, code) in [
        ("catalog", Some("public"), None),
        ("schema", Some("iox"), None),
        ("catalog", None, None),
        ("catalog", Some("nyc"), Some(2)),
        ("database", Some("atlantis"), Some(2)),
        ("database", Some("../x"), Some(2)),
        ("query_language", Some("cobol"), Some(2)),
        ("ipc_compression", Some("zip"), Some(2)),
        ("endpoints", Some("0"), Some(2)),
        ("table_type", Some("TABLE"), None),
        ("timezone", Some("UTC"), Some(1)),
        ("colour", Some("red"), Some(1)),
    ] {
        let (result, cookie) = session(&service, "SetSessionOptions", set(name, value), &[]).await;
        assert_eq!(result, code.map(|code| error(name, code)).unwrap_or_default(), "{name} = {value:?}");
        assert_eq!(cookie.is_some(), name == "table_type", "{name}: a cookie only where there is something to keep");
    }
}

#[tokio::test]
async fn an_adbc_driver_that_keeps_no_cookies_is_told_that_it_has_no_session() {
    let service = service(&["nyc"]).await;
    // It can't be set as tonic's clients set their own; the header is what counts.
    let adbc = MetadataMap::from_headers(
        [(http::header::USER_AGENT, "ADBC Flight SQL Driver v1.13.0".parse().unwrap())].into_iter().collect(),
    );
    let call = Call::new(&adbc, Principal::everybody()).unwrap();
    let action = Action::new("SetSessionOptions", set("table_type", Some("TABLE")));
    let answer = sessions::answer(&action, &call, &service.engine).unwrap().unwrap();
    assert!(answer.cookie.is_none() && answer.body.ends_with(&[0x08, 3]), "ERROR, of no other kind");
    let mut keeping = adbc.clone();
    keeping.insert("cookie", call.session.cookie().split(';').next().unwrap().parse().unwrap());
    let call = Call::new(&keeping, Principal::everybody()).unwrap();
    let answer = sessions::answer(&action, &call, &service.engine).unwrap().unwrap();
    assert!(answer.cookie.is_some() && answer.body.is_empty());
}

#[tokio::test]
async fn every_action_is_listed_and_others_are_unknown() {
    let service = service(&["nyc"]).await;
    let actions: Vec<ActionType> = service
        .client
        .clone()
        .list_actions(Request::new(Empty {}))
        .await
        .unwrap()
        .into_inner()
        .try_collect()
        .await
        .unwrap();
    assert_eq!(actions.len(), ACTIONS.len());
    for unsupported in ["BeginTransaction", "EndTransaction", "BeginSavepoint", "Sing"] {
        assert_eq!(service.act(unsupported, vec![]).await.unwrap_err().code(), Code::Unimplemented, "{unsupported}");
    }
}

#[test]
fn a_timeout_header_is_read_as_grpc_writes_it() {
    for (text, expected) in [
        ("5S", Some(Duration::from_secs(5))),
        ("100m", Some(Duration::from_millis(100))),
        ("99999999u", Some(Duration::from_micros(99_999_999))),
        ("1H", Some(Duration::from_secs(3600))),
        ("123456789S", None),
        ("S", None),
        ("", None),
        ("-1S", None),
        ("5", None),
        ("5x", None),
    ] {
        let mut headers = MetadataMap::new();
        headers.insert("grpc-timeout", text.parse().unwrap());
        let before = tokio::time::Instant::now();
        let deadline = Call::new(&headers, Principal::everybody()).unwrap().delivery().deadline;
        let close_to = |expected: Duration| {
            deadline.is_some_and(|deadline| (deadline - before).abs_diff(expected) < Duration::from_secs(1))
        };
        assert!(expected.map_or(deadline.is_none(), close_to), "{text}");
    }
}
