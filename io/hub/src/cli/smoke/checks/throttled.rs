//! A full queue: refused with a time to come back, and accepted again when there is room.
//!
//! A running hub's queue is large and its clients' own, so this is checked on a hub that is started for it, of this
//! program, on a temporary folder and with a queue of two.

use super::{Verdict, expect, expect_member, parse, said, verdict};
use crate::cli::demo::cast::Hub;
use crate::client::{Answer, Auth, Client, Plane, Request};
use serde_json::Value;
use std::time::Duration;

const DEPTH: &str = "2";

/// Starts the hub, and checks it.
pub fn check() -> Verdict {
    let folder = match tempfile::Builder::new().prefix("sheratan-smoke-").tempdir() {
        Ok(folder) => folder,
        Err(error) => return Verdict::Skipped(format!("no temporary folder for a hub with a queue of two: {error}")),
    };
    let mut hub = match Hub::start_with(folder.path(), &["--max-queue-depth", DEPTH]) {
        Ok(hub) => hub,
        Err(failure) => return Verdict::Skipped(format!("no hub with a queue of two can be started: {failure}")),
    };
    let checked = hub.client().map_err(|failure| failure.to_string()).and_then(|client| throttle(&client));
    hub.stop();
    verdict(checked)
}

fn throttle(client: &Client) -> Result<String, String> {
    let submit = || post(client, "/mesh/submit_request", r#"{"kind":"smoke"}"#);
    for _ in 0..2 {
        expect(&submit()?, 200)?;
    }
    let refused = submit()?;
    expect(&refused, 429)?;
    expect_member(&refused, "error", "backpressure")?;
    let wait = refused.retry_after.ok_or("the refusal has no Retry-After")?;
    if !(1..=300).contains(&wait.as_secs()) {
        return Err(format!("the refusal's Retry-After is {} s", wait.as_secs()));
    }
    let metrics = exchange(client, None, "/api/metrics")?;
    let metrics = parse::<Value>(&metrics)?;
    if metrics["queue_drop_1m"] != 1 || metrics["backpressure_active"] != true {
        return Err("the metrics do not show the refusal".to_owned());
    }
    expect(&post(client, "/mesh/pull_requests", r#"{"node_id":"SHERATAN_SMOKE"}"#)?, 200)?;
    expect(&submit()?, 200)?;
    Ok(format!("429 with Retry-After: {}, and accepted once a job was leased (on a hub of its own)", wait.as_secs()))
}

fn post(client: &Client, path: &str, body: &str) -> Result<Answer, String> {
    exchange(client, Some(body.as_bytes()), path)
}

fn exchange(client: &Client, body: Option<&[u8]>, path: &str) -> Result<Answer, String> {
    let request = Request { plane: Plane::Data, body, path, auth: Auth::Own, wait: Duration::from_secs(1) };
    client.exchange(&request).map_err(said)
}
