//! A submitter fetches its results from a hub that restarts, drops what is old, and makes it wait.
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::client::result;
use sheratan_tests::{Client, Hub};
use std::collections::BTreeSet;
use std::thread;

/// Submits a job of a client and completes it; returns its id.
fn complete_one(data: &mut Client, client: &str) -> String {
    let submit = json!({"kind": "k", "client": {"node_id": client}});
    let id = data.post("/mesh/submit_request", &submit).ok()["job_id"].as_str().unwrap().to_owned();
    let job = data.post("/mesh/pull_requests", &json!({"node_id": "worker"})).ok()["jobs"][0].clone();
    data.post("/mesh/submit_result", &result(&job, "worker", &json!({"of": id}))).ok();
    id
}

fn fetch(data: &mut Client, client: &str, query: &str) -> Value {
    data.get(&format!("/mesh/results/{client}?{query}")).ok()
}

fn ids(answer: &Value) -> Vec<&str> {
    answer["results"].as_array().unwrap().iter().map(|result| result["job_id"].as_str().unwrap()).collect()
}

#[test]
fn a_client_reads_on_after_each_kill_and_gets_every_result_once() {
    let mut hub = Hub::start();
    let (mut cursor, mut read, mut ended) = (String::new(), Vec::new(), Vec::new());
    for _ in 0..4 {
        let mut data = hub.data();
        ended.extend((0..3).map(|_| complete_one(&mut data, "NODE_A")));
        complete_one(&mut data, "NODE_B");
        hub.kill();
        hub.restart();
        let mut data = hub.data();
        let answer = fetch(&mut data, "NODE_A", &format!("limit=2{cursor}"));
        read.extend(ids(&answer).into_iter().map(str::to_owned));
        cursor = format!("&after={}", answer["cursor"].as_str().unwrap());
        assert_eq!(answer["dropped"], false);
    }
    let answer = fetch(&mut hub.data(), "NODE_A", &cursor[1..]);
    read.extend(ids(&answer).into_iter().map(str::to_owned));
    assert_eq!(read, ended);
}

#[test]
fn clients_that_wait_are_answered_with_the_results_of_their_own_jobs() {
    let hub = Hub::start();
    let clients: Vec<_> = ["NODE_A", "NODE_B", "NODE_C"]
        .map(|client| {
            let mut data = hub.data();
            thread::spawn(move || {
                let (mut after, mut read) = (String::new(), BTreeSet::new());
                while read.len() < 5 {
                    let answer = fetch(&mut data, client, &format!("wait_ms=30000{after}"));
                    for id in ids(&answer) {
                        assert!(read.insert(id.to_owned()), "{id} came twice");
                    }
                    after = format!("&after={}", answer["cursor"].as_str().unwrap());
                }
                read
            })
        })
        .into_iter()
        .collect();
    let mut data = hub.data();
    let mut ended = [const { BTreeSet::new() }; 3];
    for n in 0..15 {
        _ = ended[n % 3].insert(complete_one(&mut data, ["NODE_A", "NODE_B", "NODE_C"][n % 3]));
    }
    let read: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    assert_eq!(read, ended);
}
