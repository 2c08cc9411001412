//! Heart: registers the node at the hub and sends its heartbeats.

use super::Worker;
use super::board::Wish;
use super::event::Event;
use crate::cli::failure::Failure;
use crate::client::calls::Heard;
use crate::client::{CallError, Client};
use sheratan_io::backoff::Backoff;
use std::time::Duration;

/// Registers the node; returns the interval of heartbeats, or `None` if the operator stopped the worker before.
///
/// It waits for a hub that is unreachable: workers are often started before their hub.
pub fn register(worker: &Worker) -> Result<Option<Duration>, Failure> {
    let mut backoff = Backoff::default();
    let mut refused_since = None;
    while worker.board.wish() == Wish::Run {
        let client = worker.link.client();
        match send(worker, &client) {
            Ok(heard) => {
                worker.say_back();
                worker.log.say(&Event::Registered {
                    node_id: &worker.heartbeat.node_id,
                    kinds: &worker.kinds,
                    slots: worker.board.slots(),
                    hub: &client.endpoint(crate::client::Plane::Data).url,
                });
                return Ok(Some(interval_of(&heard)));
            }
            Err(error) if worker.is_final(&error, &mut refused_since) => return Err(error.into()),
            Err(error) => {
                worker.say_away(&error);
                worker.board.pause(backoff.next_wait(error.retry_after()), Wish::Run);
            }
        }
    }
    Ok(None)
}

/// Sends heartbeats for as long as the process runs.
pub fn beat(worker: &Worker, mut interval: Duration) {
    let mut backoff = Backoff::default();
    let mut is_refused = false;
    loop {
        std::thread::sleep(interval);
        match send(worker, &worker.link.client()) {
            Ok(heard) => {
                interval = interval_of(&heard);
                backoff.reset();
                is_refused = false;
            }
            Err(error) => {
                worker.link.look_again();
                if !error.is_transient() && !std::mem::replace(&mut is_refused, true) {
                    worker.log.say(&Event::HeartbeatRefused { reason: &error.to_string() });
                }
                interval = backoff.next_wait(error.retry_after());
            }
        }
    }
}

/// Sends a heartbeat, signed if the worker has a key. Each one is signed anew: a repeat would count as a recorded one.
fn send(worker: &Worker, client: &Client) -> Result<Heard, CallError> {
    match &worker.identity {
        Some(identity) => client.signed_heartbeat(&identity.sign(&worker.heartbeat)),
        None => client.heartbeat(&worker.heartbeat),
    }
}

/// When to send the next heartbeat, within what a hub may sensibly ask for.
fn interval_of(heard: &Heard) -> Duration {
    Duration::from_millis(heard.next_heartbeat_ms).clamp(Duration::from_millis(500), Duration::from_secs(300))
}
