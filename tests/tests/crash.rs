//! kill -9 at any moment loses nothing that was acknowledged.
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::client::result;
use sheratan_tests::{Client, Hub};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc;
use std::thread;

const SUBMITS: usize = 2_000;
const CLIENTS: usize = 8;
const KILLS: usize = 10;

/// Submits from several clients until the hub is killed; returns the acknowledged jobs.
fn submit_until_killed(hub: &mut Hub, round: usize) -> BTreeSet<String> {
    let (sender, acknowledged) = mpsc::channel();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (mut data, sender) = (hub.data(), sender.clone());
            thread::spawn(move || {
                for n in 0..SUBMITS / CLIENTS {
                    let body = json!({"kind": "k", "params": {"round": round, "client": client, "n": n}});
                    let Ok(response) = data.try_request("POST", "/mesh/submit_request", Some(&body)) else { return };
                    sender.send(response.ok()["job_id"].as_str().unwrap().to_owned()).unwrap();
                }
            })
        })
        .collect();
    drop(sender);
    // Each round kills at another point: after so many acknowledgements.
    let kill_after = SUBMITS * (round + 1) / (KILLS + 1);
    let mut ids: BTreeSet<_> = acknowledged.iter().take(kill_after).collect();
    hub.kill();
    ids.extend(acknowledged.iter());
    clients.into_iter().for_each(|client| client.join().unwrap());
    ids
}

fn pull_all(data: &mut Client) -> Vec<Value> {
    let body = json!({"node_id": "n", "max": 1000, "lease_sec": 600});
    data.post("/mesh/pull_requests", &body).ok()["jobs"].as_array().unwrap().clone()
}

#[test]
fn every_acknowledged_job_is_found_after_each_kill_and_completed_once() {
    let mut hub = Hub::start_with(&["--max-leases-per-node", "100000", "--max-inflight", "100000"]);
    let mut acknowledged = BTreeSet::new();
    for round in 0..KILLS {
        let ids = submit_until_killed(&mut hub, round);
        assert!(ids.len() < SUBMITS, "round {round}: the kill came in the middle");
        acknowledged.extend(ids);
        hub.restart();
        let mut data = hub.data();
        for id in &acknowledged {
            assert_eq!(data.get(&format!("/mesh/jobs/{id}")).status, 200, "round {round}: {id} is lost");
        }
    }
    let mut data = hub.data();
    let mut completed: BTreeMap<String, usize> = BTreeMap::new();
    loop {
        let jobs = pull_all(&mut data);
        if jobs.is_empty() {
            break;
        }
        for job in jobs {
            let taken = data.post("/mesh/submit_result", &result(&job, "n", &job["params"])).ok();
            assert_eq!(taken["duplicate"], Value::Null);
            *completed.entry(job["job_id"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    for id in &acknowledged {
        assert_eq!(completed.get(id), Some(&1), "{id}");
    }
}

#[test]
fn results_and_leases_that_were_acknowledged_survive_a_kill() {
    let mut hub = Hub::start();
    let mut expected = BTreeMap::new();
    for round in 0..5 {
        let mut data = hub.data();
        let requests: Vec<_> = (0..50).map(|n| json!({"kind": "k", "params": [round, n]})).collect();
        data.post("/mesh/submit_requests", &json!({"requests": requests})).ok();
        let jobs = data.post("/mesh/pull_requests", &json!({"node_id": "n", "max": 50, "lease_sec": 600})).ok();
        let jobs = jobs["jobs"].as_array().unwrap().clone();
        assert_eq!(jobs.len(), 50, "what is leased is not given again");
        let (now, later) = jobs.split_at(25);
        for job in now {
            data.post("/mesh/submit_result", &result(job, "n", &job["params"])).ok();
            expected.insert(job["job_id"].as_str().unwrap().to_owned(), job["params"].clone());
        }
        hub.kill();
        hub.restart();
        let mut data = hub.data();
        for job in now {
            let again = data.post("/mesh/submit_result", &result(job, "n", &job["params"])).ok();
            assert_eq!(again["duplicate"], true);
        }
        for job in later {
            let taken = data.post("/mesh/submit_result", &result(job, "n", &job["params"])).ok();
            assert_eq!(taken["status"], "completed", "the lease outlived the kill");
            expected.insert(job["job_id"].as_str().unwrap().to_owned(), job["params"].clone());
        }
    }
    let mut data = hub.data();
    for (id, params) in &expected {
        assert_eq!(data.get(&format!("/mesh/jobs/{id}")).ok()["job"]["result"], *params);
    }
}
