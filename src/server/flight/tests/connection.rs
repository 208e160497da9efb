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

#[tokio::test]
async fn sessions_close_and_keep_to_the_only_catalog_and_schema() {
    let service = service(&["nyc"]).await;
    // SessionOptionValue { string_value }, in a map entry, in SetSessionOptionsRequest.
    let set = |name: &str, value: &str| {
        let field = |tag: u8, bytes: &[u8]| [&[tag, u8::try_from(bytes.len()).unwrap()], bytes].concat();
        let entry = [field(0x0a, name.as_bytes()), field(0x12, &field(0x0a, value.as_bytes()))].concat();
        field(0x0a, &entry)
    };
    let is_set = async |name, value| service.act("SetSessionOptions", set(name, value)).await.unwrap()[0].is_empty();
    assert!(is_set("catalog", "public").await);
    assert!(is_set("schema", "iox").await);
    assert!(!is_set("catalog", "nyc").await);
    assert!(!is_set("colour", "red").await);
    assert_eq!(service.act("CloseSession", vec![]).await.unwrap(), [Bytes::from_static(&[0x08, 0x01])]);
    let options = service.act("GetSessionOptions", vec![]).await.unwrap();
    assert!(options[0].windows(6).any(|window| window == b"public"));

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
