//! Clients that take more than their share: of the loop's time, of the hub's memory, of its connections.

use crate::engine::{Stage, request};
use crate::scene;
use sheratan_io::http::Limits;
use sheratan_io::secret::Secret;
use sheratan_io::service::{Plane, Settings};
use sheratan_io::shared_token::SharedToken;
use sheratan_io::token::Token;
use std::net::{IpAddr, Ipv4Addr};

const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const TOKEN: &str = "a-token-of-sixteen-bytes";

fn with_token() -> Settings {
    let token = Token::new(Secret::new(TOKEN.as_bytes())).expect("it is long enough");
    Settings { token: Some(SharedToken::single(&token)), ..scene::settings() }
}

#[test]
fn who_pipelines_waits_behind_who_asks_once() {
    let mut stage = Stage::new(scene::settings());
    let strangers: Vec<_> = (0..20).map(|_| stage.connect_from(Plane::Data, FAR)).collect();
    for stranger in &strangers {
        stage.put(stranger, &request("GET", "/api/policies", "").repeat(500));
    }
    for _ in 0..10 {
        let probe = stage.connect();
        stage.put(&probe, &request("GET", "/livez", ""));
        stage.round();
        assert_eq!(probe.statuses(), [200], "it is answered in the round in which it asks");
        let answered: usize = strangers.iter().map(|stranger| stranger.statuses().len()).sum();
        assert!((1..=40).contains(&answered), "{answered} in one round");
    }
    let mut rest = 0;
    while stage.engine.has_ready() {
        stage.round();
        rest += strangers.iter().map(|stranger| stranger.statuses().len()).sum::<usize>();
    }
    assert!(rest > 9_000, "all of them are answered in the end: {rest}");
}

fn head(length: usize, token: Option<&str>, more: &str) -> String {
    let token = token.map_or(String::new(), |token| format!("X-Sheratan-Token: {token}\r\n"));
    format!("POST /mesh/submit_request HTTP/1.1\r\nHost: hub\r\n{token}{more}Content-Length: {length}\r\n\r\n")
}

#[test]
fn a_body_without_a_valid_token_is_refused_at_its_head() {
    let expect = "Expect: 100-continue\r\n";
    for (token, more, answers) in [
        (None, "", &[403][..]),
        (Some("wrong"), "", &[403]),
        (None, expect, &[403]),
        (Some(TOKEN), expect, &[100]),
        (Some(TOKEN), "", &[]),
    ] {
        let mut stage = Stage::new(with_token());
        let client = stage.connect();
        stage.put(&client, &head(100_000, token, more));
        stage.round();
        assert_eq!(client.statuses(), answers, "{token:?} {more}");
        if answers == [403] {
            stage.put(&client, &"x".repeat(60_000));
            stage.round();
            assert_eq!(stage.engine.buffered_bytes(), 0, "what follows is discarded");
        }
    }
}

#[test]
fn a_client_that_goes_on_sending_after_its_refusal_is_closed_after_a_quarter_megabyte() {
    let mut stage = Stage::new(with_token());
    let client = stage.connect();
    stage.put(&client, &head(1_000_000, None, ""));
    stage.round();
    let mut sent = 0;
    while stage.engine.connections() > 0 {
        stage.put(&client, &"x".repeat(64 << 10));
        stage.round();
        sent += 64 << 10;
    }
    assert_eq!(sent, (256 << 10) + (64 << 10));
}

#[test]
fn a_body_that_comes_with_a_path_of_the_other_plane_is_refused_at_its_head() {
    let mut stage = Stage::new(with_token());
    let client = stage.connect_from(Plane::Control, FAR);
    stage.put(&client, &head(100_000, None, ""));
    stage.round();
    assert_eq!(client.statuses(), [410]);
}

#[test]
fn where_clients_hold_too_much_those_with_the_most_are_refused() {
    let mut stage = Stage::new(with_token());
    stage.engine.set_buffered_bytes_max(1 << 20);
    let clients: Vec<_> = (0..20).map(|_| stage.connect()).collect();
    for client in &clients {
        stage.put(client, &head(1_000_000, Some(TOKEN), ""));
    }
    stage.round();
    for _ in 0..40 {
        for client in &clients {
            stage.put(client, &"x".repeat(20_000));
        }
        stage.round();
        assert!(stage.engine.buffered_bytes() <= (1 << 20) + 20 * (64 << 10), "{}", stage.engine.buffered_bytes());
    }
    // Those that were read on no longer are not refused; one that asks for little is served.
    let probe = stage.connect();
    stage.send(&probe, "GET", "/livez", "");
    assert_eq!(probe.statuses(), [200]);
}

#[test]
fn a_client_that_reads_none_of_its_replies_is_disconnected_where_memory_is_scarce() {
    let mut stage = Stage::new(scene::settings());
    stage.engine.set_buffered_bytes_max(100_000);
    stage.limits = Limits::DEFAULT;
    let client = stage.connect();
    client.block(true);
    stage.put(&client, &request("GET", "/metrics", "").repeat(200));
    for _ in 0..100 {
        stage.round();
        if stage.engine.connections() == 0 {
            break;
        }
    }
    assert_eq!((stage.engine.connections(), stage.engine.buffered_bytes()), (0, 0));
}

#[test]
fn the_registry_is_read_in_pages() {
    let mut stage = Stage::new(scene::settings());
    let client = stage.connect_from(Plane::Control, scene::LOCAL);
    for node in ["a", "b", "c"] {
        stage.send(&client, "POST", "/mesh/heartbeat", &format!(r#"{{"node_id":"{node}"}}"#));
    }
    stage.commit();
    client.received();
    for (query, nodes, next) in [
        ("", "abc", "null"),
        ("?limit=2", "ab", r#""b""#),
        ("?limit=2&cursor=b", "c", "null"),
        ("?limit=3", "abc", "null"),
        ("?cursor=c", "", "null"),
    ] {
        stage.send(&client, "GET", &format!("/api/registry{query}"), "");
        stage.commit();
        let reply = client.received();
        let body: serde_json::Value = serde_json::from_str(reply.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        let shown: String = body["nodes"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!((&*shown, &*body["next_cursor"].to_string()), (nodes, next), "{query}");
    }
}
