//! Clients that mean no good, byte by byte: what they keep from others, and how soon they are sent away.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::harness::server::TestServer;

/// How long the server waits for a slow client.
const PATIENCE: Duration = Duration::from_secs(1);

/// What "soon" means on a machine that does much else.
const SOON: Duration = Duration::from_secs(30);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// Frames of HTTP/2.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const CANCEL: u32 = 8;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

async fn server() -> TestServer {
    TestServer::start_with(|settings| settings.connections.patience = PATIENCE).await
}

async fn connect(server: &TestServer) -> TcpStream {
    TcpStream::connect(server.address()).await.unwrap()
}

/// Others are answered, if not always at once: on a machine that does much else, they are slow clients themselves.
async fn is_healthy(server: &TestServer) {
    let answered = async {
        while !server.http.get(server.url("/health")).send().await.is_ok_and(|response| response.status() == 200) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, answered).await.expect("others are answered");
}

/// All that the server says until it closes the connection, which it does soon.
async fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    // A connection that is reset is closed too.
    let _ = timeout(SOON, stream.read_to_end(&mut said)).await.expect("the connection is closed");
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_begin_a_request_or_end_its_head_is_sent_away() {
    let server = server().await;
    for begun in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n", b"GET /health HTTP/1.1\r\nHost: x\r\n"] {
        let mut stream = connect(&server).await;
        stream.write_all(begun).await.unwrap();
        let from = Instant::now();
        until_closed(&mut stream).await;
        assert!(from.elapsed() >= PATIENCE / 2, "it had time: {begun:?}");
    }
    // One byte after the other is no progress.
    let (mut from, mut to) = connect(&server).await.into_split();
    let sending = tokio::spawn(async move {
        for byte in b"GET /health HTTP/1.1\r\nA: ".iter().chain(std::iter::repeat(&b'b')) {
            if to.write_all(&[*byte]).await.is_err() {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    });
    let closed = timeout(SOON, from.read_to_end(&mut Vec::new())).await;
    sending.abort();
    assert!(closed.is_ok(), "the connection is closed");
    is_healthy(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_not_used_any_more_is_closed() {
    let server = server().await;
    let mut stream = connect(&server).await;
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let said = until_closed(&mut stream).await;
    assert!(said.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&said));
    // One of HTTP/2 that doesn't answer pings.
    let mut stream = connect(&server).await;
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
    until_closed(&mut stream).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_a_body_slowly_is_told_so_and_keeps_nobody_from_writing() {
    let server = server().await;
    let mut slow = Vec::new();
    // More than can write at one time.
    for _ in 0..80 {
        let mut stream = connect(&server).await;
        let head = "POST /api/v3/write_lp?db=db HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nt v=1 1\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let silent = slow.pop().unwrap();
    let trickling = tokio::spawn(async move {
        loop {
            for stream in &mut slow {
                let _ = stream.write_all(b"#").await;
            }
            sleep(Duration::from_millis(200)).await;
        }
    });
    timeout(4 * SOON, server.write("db", "t v=1 1")).await.expect("others write");
    trickling.abort();
    let mut silent = silent;
    let said = String::from_utf8_lossy(&until_closed(&mut silent).await).into_owned();
    assert!(said.starts_with("HTTP/1.1 400 ") && said.contains("too slowly"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_has_no_more_connections_than_it_may() {
    let server = TestServer::start_with(|settings| settings.connections.per_address_max = Some(2)).await;
    let ask = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
    let answered = async |stream: &mut TcpStream| {
        let mut bytes = [0; 12];
        let asked = stream.write_all(ask).await.is_ok();
        asked && timeout(SOON, stream.read_exact(&mut bytes)).await.expect("an answer or an end").is_ok()
    };
    let (mut first, mut second) = (connect(&server).await, connect(&server).await);
    assert!(answered(&mut first).await && answered(&mut second).await);
    let mut third = connect(&server).await;
    assert!(!answered(&mut third).await);
    drop(first);
    let back = async {
        while !answered(&mut connect(&server).await).await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, back).await.expect("a place comes free");
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

/// A head as HPACK has it, all of it literal but for the names.
fn head(method: u8, path: &str) -> Vec<u8> {
    let length = u8::try_from(path.len()).unwrap();
    [&[method, 0x86, 0x44, length][..], path.as_bytes(), &[0x41, 1, b'x']].concat()
}

const GET: u8 = 0x82;
const POST: u8 = 0x83;

/// A frame: its kind, its stream, and the first number in it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Frame {
    kind: u8,
    stream: u32,
    number: Option<u32>,
    second: Option<u32>,
}

/// The whole frames in what the server said.
fn frames(mut said: &[u8]) -> Vec<Frame> {
    let number = |bytes: &[u8], from: usize| {
        bytes.get(from..from + 4).map(|bytes| u32::from_be_bytes(bytes.try_into().unwrap()))
    };
    let mut frames = Vec::new();
    while said.len() >= 9 {
        let length = u32::from_be_bytes([0, said[0], said[1], said[2]]) as usize;
        let Some(payload) = said.get(9..9 + length) else { break };
        let stream = number(said, 5).unwrap() & 0x7fff_ffff;
        frames.push(Frame { kind: said[3], stream, number: number(payload, 0), second: number(payload, 4) });
        said = &said[9 + length..];
    }
    frames
}

/// A connection of HTTP/2 that has begun.
async fn http2(server: &TestServer) -> TcpStream {
    let mut stream = connect(server).await;
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
    stream
}

fn went_away(frames: &[Frame]) -> Option<u32> {
    frames.iter().find(|frame| frame.kind == GOAWAY).and_then(|frame| frame.second)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_opens_streams_to_reset_them_is_told_to_calm_down() {
    let server = server().await;
    let burst = |count: u32| {
        let streams = (0..count).map(|number| 2 * number + 1);
        let pair = |stream| {
            let open = frame(HEADERS, END_HEADERS | END_STREAM, stream, &head(GET, "/health"));
            [open, frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())].concat()
        };
        streams.flat_map(pair).collect::<Vec<u8>>()
    };
    // In one piece, so that all of it was read before the connection is closed and the reason arrives.
    let mut stream = http2(&server).await;
    stream.write_all(&burst(300)).await.unwrap();
    let said = frames(&until_closed(&mut stream).await);
    assert_eq!(went_away(&said), Some(ENHANCE_YOUR_CALM), "{said:?}");
    // Very many, on several connections.
    let floods = (0..4).map(|_| async {
        let (mut from, mut to) = http2(&server).await.into_split();
        let flood = burst(20_000);
        let sending = tokio::spawn(async move { to.write_all(&flood).await });
        let closed = timeout(SOON, from.read_to_end(&mut Vec::new())).await;
        sending.abort();
        assert!(closed.is_ok(), "the connection is closed");
    });
    tokio::join!(futures::future::join_all(floods), is_healthy(&server));
    is_healthy(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_without_end_is_cut_off() {
    let server = server().await;
    let (mut from, mut to) = http2(&server).await.into_split();
    let sending = tokio::spawn(async move {
        let first = frame(HEADERS, 0, 1, &head(GET, "/health"));
        let more = frame(CONTINUATION, 0, 1, &[&[0x40, 1, b'a', 100][..], &[b'b'; 100]].concat());
        to.write_all(&first).await?;
        for _ in 0..200_000 {
            to.write_all(&more).await?;
        }
        std::io::Result::Ok(())
    });
    let closed = timeout(SOON, from.read_to_end(&mut Vec::new())).await;
    sending.abort();
    assert!(closed.is_ok(), "the connection is closed");
    is_healthy(&server).await;
    // One that ends, and is large.
    let large = server.http.get(server.url("/health")).header("x-large", "x".repeat(1 << 20)).send().await;
    assert!(large.is_err() || large.is_ok_and(|response| response.status() == 431));
}

/// So many streams on which a body is to follow.
fn half_open(count: u32) -> Vec<u8> {
    let streams = (0..count).map(|number| 2 * number + 1);
    streams.flat_map(|stream| frame(HEADERS, END_HEADERS, stream, &head(POST, "/api/v3/write_lp?db=db"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_opens_more_streams_than_there_may_be_is_told_to_calm_down() {
    let server = server().await;
    let mut stream = http2(&server).await;
    stream.write_all(&half_open(1100)).await.unwrap();
    let said = frames(&until_closed(&mut stream).await);
    let refused = said.iter().filter(|frame| frame.kind == RST_STREAM && frame.number == Some(REFUSED_STREAM)).count();
    assert!(refused > 0 && said.iter().all(|frame| frame.kind != RST_STREAM || frame.stream > 2 * 1024), "{said:?}");
    assert_eq!(went_away(&said), Some(ENHANCE_YOUR_CALM), "{said:?}");
    is_healthy(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_stay_half_open_end() {
    let server = server().await;
    let mut stream = http2(&server).await;
    stream.write_all(&half_open(100)).await.unwrap();
    // Answered, or closed with their connection, which answers no ping.
    let said = frames(&until_closed(&mut stream).await);
    assert!(said.iter().all(|frame| frame.kind != RST_STREAM || frame.stream > 0), "{said:?}");
    is_healthy(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_empty_frames_is_no_progress() {
    let server = server().await;
    let (mut from, mut to) = http2(&server).await.into_split();
    let sending = tokio::spawn(async move {
        let head = frame(HEADERS, END_HEADERS, 1, &head(POST, "/api/v3/write_lp?db=db"));
        let nothing: Vec<u8> = (0..100).flat_map(|_| frame(DATA, 0, 1, &[])).collect();
        let mut sent = to.write_all(&head).await;
        while sent.is_ok() {
            sent = to.write_all(&nothing).await;
            sleep(Duration::from_millis(10)).await;
        }
    });
    let (mut said, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    let answered = async {
        while !frames(&said).iter().any(|frame| frame.kind == HEADERS || frame.kind == GOAWAY) {
            match from.read(&mut buffer).await {
                Ok(count) if count > 0 => said.extend_from_slice(&buffer[..count]),
                _ => return,
            }
        }
    };
    let answered = timeout(SOON, answered).await;
    sending.abort();
    assert!(answered.is_ok(), "there is an answer, or an end");
    is_healthy(&server).await;
}
