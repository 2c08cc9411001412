//! Results: with which checksum they are stored and shown, and that one which was changed, on its way or where it is
//! stored, is neither accepted nor shown.

use crate::scene::{self, NOW, ask};
use serde_json::{Value, json};
use sheratan_core::telemetry::Counter;
use sheratan_core::{Calendar, HubKey, JobSeq, Millis, Restore, Timestamp, Utc};
use sheratan_io::integrity::{Signer, as_json};
use sheratan_io::result_keys::ResultKeys;
use sheratan_io::secret::Secret;
use sheratan_io::service::{Service, Settings};

const KEY: &str = "a key of the workers";

fn post(service: &mut Service, path: &str, body: &Value) -> (u16, Value) {
    let (status, text) = ask(service, "POST", path, &body.to_string()).expect("it is answered at once");
    (status, serde_json::from_str(&text).expect("replies are JSON"))
}

fn get(service: &mut Service, job: &Value) -> (u16, Value) {
    let path = format!("/mesh/jobs/{}", job.as_str().expect("an id"));
    let (status, text) = ask(service, "GET", &path, "").expect("it is answered at once");
    (status, serde_json::from_str(&text).expect("replies are JSON"))
}

/// Submits a job under a key and leases it.
fn lease(service: &mut Service, key: &str) -> Value {
    post(service, "/mesh/submit_request", &json!({"kind": "k", "params": [1], "idempotency_key": key}));
    post(service, "/mesh/pull_requests", &json!({"node_id": "n"})).1["jobs"][0].clone()
}

/// A result for a leased job with its checksum, and its signature by `key`.
fn signed(job: &Value, ok: bool, result: &Value, error: &Value, key: Option<&str>) -> Value {
    let raw = |value: &Value| as_json(value.to_string().as_bytes()).expect("it is JSON");
    let (job_id, signer) = (job["job_id"].as_str().expect("an id"), Signer::new(key.map(Secret::new)));
    let integrity = signer.sign(Some(&raw(error)), job_id, ok, Some(&raw(result)));
    let mut body = json!({"job_id": job_id, "lease_id": job["lease_id"], "node_id": "n", "ok": ok, "result": result});
    (body["error"], body["integrity"]) = (error.clone(), json!(integrity));
    body["retryable"] = json!(false);
    body
}

fn success(job: &Value, result: &Value) -> Value {
    signed(job, true, result, &Value::Null, None)
}

fn submit_result(service: &mut Service, body: &Value) -> (u16, Value) {
    post(service, "/mesh/submit_result", body)
}

/// The hub as it is read from a snapshot in which bytes were changed.
fn reread(service: &Service, from: &str, to: &str) -> Service {
    assert_eq!(from.len(), to.len());
    let mut reader = Restore::new(HubKey::new([7; 16]));
    service.hub().snapshot(|record| {
        let mut record = record.to_vec();
        while let Some(at) = record.windows(from.len()).position(|part| part == from.as_bytes()) {
            record[at..at + to.len()].copy_from_slice(to.as_bytes());
        }
        reader.record(&record).expect("its form is unchanged");
    });
    Service::new(reader.finish().expect("it is whole"), 100, scene::settings())
}

fn events(service: &mut Service, name: &str) -> Vec<Value> {
    let events = service.events().drain(..).filter(|event| event.event == name);
    events.map(|event| serde_json::from_slice(&event.details).expect("details are JSON")).collect()
}

fn counted(service: &Service, counter: Counter) -> u64 {
    service.hub().telemetry().total(counter)
}

#[test]
fn a_job_shows_the_checksum_that_its_worker_sent_and_the_mode_in_which_it_was_checked() {
    let settings = Settings { result_keys: ResultKeys::single(Secret::new(KEY)), ..scene::settings() };
    let mut service = scene::service(settings);
    let null = Value::Null;
    for (n, (ok, error, key)) in
        [(true, &null, None), (true, &null, Some(KEY)), (false, &json!("broken"), None)].into_iter().enumerate()
    {
        let job = lease(&mut service, &n.to_string());
        let body = signed(&job, ok, &json!({"b": 1.0, "a": n}), error, key);
        assert_eq!(submit_result(&mut service, &body).0, 200, "{body}");
        let shown = get(&mut service, &job["job_id"]).1;
        let sent = &body["integrity"];
        assert_eq!(shown["job"]["integrity"], json!({"mode": sent["mode"], "sha256": sent["sha256"]}));
        let repeat = post(
            &mut service,
            "/mesh/submit_request",
            &json!({"kind": "k", "params": [1], "idempotency_key": n.to_string()}),
        );
        assert_eq!(repeat.1["integrity"], shown["job"]["integrity"]);
    }
}

#[test]
fn a_result_without_a_checksum_and_the_error_of_a_success_get_the_hubs_own() {
    let mut service = scene::service(scene::settings());
    for (n, with_error) in [false, true].into_iter().enumerate() {
        let job = lease(&mut service, &n.to_string());
        let mut body = signed(&job, true, &json!([n]), &json!("a warning"), None);
        if !with_error {
            body["integrity"] = Value::Null;
        }
        assert_eq!(submit_result(&mut service, &body).0, 200, "{body}");
        let (status, shown) = get(&mut service, &job["job_id"]);
        let of_what_is_shown = success(&job, &json!([n]))["integrity"]["sha256"].clone();
        assert_eq!((status, &shown["job"]["error"]), (200, &Value::Null));
        assert_eq!(shown["job"]["integrity"], json!({"mode": "hub", "sha256": of_what_is_shown}));
    }
}

#[test]
fn a_job_that_no_result_ended_has_no_checksum() {
    let mut service = scene::service(scene::settings());
    let (_, submitted) = post(&mut service, "/mesh/submit_request", &json!({"kind": "k", "ttl_sec": 1}));
    let unfinished = get(&mut service, &submitted["job_id"]).1;
    assert_eq!(unfinished["job"].get("integrity"), None);
    service.handle_timeout(NOW + Millis::from_secs(2));
    let (status, expired) = get(&mut service, &submitted["job_id"]);
    assert_eq!((status, expired["job"].get("integrity")), (200, Some(&Value::Null)));
}

#[test]
fn a_stored_result_that_was_changed_is_not_shown_and_all_else_of_its_job_is() {
    let null = Value::Null;
    for (ok, result, error, from, to) in [
        (true, json!({"sum": 41}), &null, "{\"sum\":41}", "{\"sum\":42}"),
        (true, json!({"sum": 41}), &null, "{\"sum\":41}", "{\"sum\":4x}"),
        (false, json!(null), &json!("no such file"), "no such file", "no such disk"),
        (false, json!({"done": 9}), &json!("broken"), "{\"done\":9}", "{\"done\":8}"),
    ] {
        let mut service = scene::service(scene::settings());
        let job = lease(&mut service, "a key");
        submit_result(&mut service, &signed(&job, ok, &result, error, None));
        assert_eq!(get(&mut service, &job["job_id"]).0, 200);
        let mut service = reread(&service, from, to);
        let sha256 = signed(&job, ok, &result, error, None)["integrity"]["sha256"].clone();
        for _ in 0..3 {
            let (status, shown) = get(&mut service, &job["job_id"]);
            assert_eq!((status, &shown["error"], &shown["ok"]), (500, &json!("result_corrupt"), &json!(false)));
            let ended = if ok { "completed" } else { "dead" };
            let shown = &shown["job"];
            assert_eq!((&shown["status"], &shown["params"], &shown["kind"]), (&json!(ended), &json!([1]), &json!("k")));
            assert_eq!(shown["integrity"], json!({"mode": "sha256", "sha256": sha256}));
            assert!(shown.get("result").is_none() && shown.get("error").is_none(), "{shown}");
            assert_eq!((&shown["attempts"][0]["node_id"], &shown["attempts"][0]["error"]), (&json!("n"), &null));
        }
        let lines = events(&mut service, "RESULT_CORRUPT");
        let line = json!({"job_id": job["job_id"], "mode": "sha256", "stored_in": "job", "reads": 1});
        assert_eq!((lines, counted(&service, Counter::ResultCorrupt)), (vec![line], 3));
    }
}

/// It would otherwise get a checksum of the hub's own with its next job, and look whole ever after.
#[test]
fn an_orphan_that_was_changed_is_neither_shown_nor_adopted() {
    let orphan = json!({"job_id": " job_of_before "});
    for (ok, result, error, from, to) in [
        (true, json!({"sum": 41}), Value::Null, "{\"sum\":41}", "{\"sum\":42}"),
        (false, Value::Null, json!("no such file"), "no such file", "no such disk"),
        (true, json!({"sum": 41}), json!("a warning"), "{\"sum\":41}", "{\"sum\":42}"),
    ] {
        let mut service = scene::service(scene::settings());
        let mut body = signed(&orphan, ok, &result, &error, None);
        body.as_object_mut().expect("an object").remove("lease_id");
        assert_eq!(submit_result(&mut service, &body).1["status"], "orphaned");
        let job = post(&mut service, "/mesh/submit_request", &json!({"kind": "k"})).1["job_id"].clone();
        let show = |service: &mut Service| {
            let (status, text) = ask(service, "GET", "/mesh/orphans/0", "").expect("it is answered at once");
            (status, serde_json::from_str::<Value>(&text).expect("replies are JSON"))
        };
        let (status, shown) = show(&mut service);
        assert_eq!((status, &shown["orphan"]["result"]), (200, &result));
        let integrity = shown["orphan"]["integrity"].clone();
        assert!(integrity["sha256"].is_string(), "{shown}");
        let mut service = reread(&service, from, to);
        let (status, shown) = show(&mut service);
        assert_eq!((status, &shown["error"]), (500, &json!("result_corrupt")), "{shown}");
        assert!(shown["detail"].as_str().unwrap().contains("discard it"), "no job can be submitted again: {shown}");
        let shown = &shown["orphan"];
        assert_eq!((&shown["job_id"], &shown["node_id"]), (&json!("job_of_before"), &json!("n")));
        assert_eq!(shown["integrity"], integrity);
        assert!(shown.get("result").is_none() && shown.get("error").is_none(), "{shown}");
        let (status, refused) = post(&mut service, "/mesh/orphans/0/adopt", &json!({"job_id": job}));
        assert_eq!((status, &refused["error"]), (500, &json!("result_corrupt")), "{refused}");
        assert_eq!(get(&mut service, &job).1["job"]["status"], "queued");
        assert_eq!(show(&mut service).0, 500, "it stays");
        let lines = events(&mut service, "RESULT_CORRUPT");
        let line = json!({"job_id": "job_of_before", "orphan_id": 0, "mode": integrity["mode"], "stored_in": "orphan",
            "reads": 1});
        assert_eq!((lines, counted(&service, Counter::ResultCorrupt)), (vec![line], 3));
    }
}

#[test]
fn a_list_of_results_shows_all_but_the_one_that_was_changed() {
    let mut service = scene::service(scene::settings());
    for n in [41, 7] {
        let submit = json!({"kind": "k", "client": {"node_id": "c"}});
        post(&mut service, "/mesh/submit_request", &submit);
        let job = post(&mut service, "/mesh/pull_requests", &json!({"node_id": "n"})).1["jobs"][0].clone();
        submit_result(&mut service, &success(&job, &json!({"sum": n})));
    }
    let mut service = reread(&service, "{\"sum\":41}", "{\"sum\":42}");
    let (status, text) = ask(&mut service, "GET", "/mesh/results/c", "").expect("it is answered at once");
    let list: Value = serde_json::from_str(&text).expect("replies are JSON");
    let [corrupt, whole] = [&list["results"][0], &list["results"][1]];
    assert_eq!((status, &whole["ok"], &whole["result"]), (200, &json!(true), &json!({"sum": 7})));
    assert_eq!((&corrupt["ok"], &corrupt["corrupt"], &corrupt["result"]), (&json!(false), &json!(true), &Value::Null));
    assert_eq!((&corrupt["error"], &corrupt["status"]), (&json!("result_corrupt"), &json!("completed")));
    assert_eq!([&corrupt["integrity"]["mode"], &whole["integrity"]["mode"]], [&json!("sha256"); 2]);
    assert_eq!(events(&mut service, "RESULT_CORRUPT").len(), 1);
}

#[test]
fn an_answer_that_was_changed_is_not_given_alone_or_in_a_batch() {
    let mut service = scene::service(scene::settings());
    let job = lease(&mut service, "a key");
    submit_result(&mut service, &success(&job, &json!({"sum": 41})));
    let other = lease(&mut service, "another key");
    submit_result(&mut service, &success(&other, &json!({"sum": 7})));
    let mut service = reread(&service, "{\"sum\":41}", "{\"sum\":42}");
    let repeat = |key: &str| json!({"kind": "k", "params": [1], "idempotency_key": key});
    let (status, refused) = post(&mut service, "/mesh/submit_request", &repeat("a key"));
    assert_eq!((status, &refused["error"]), (500, &json!("result_corrupt")));
    assert_eq!((&refused["job_id"], &refused["job_status"]), (&job["job_id"], &json!("completed")));
    assert_eq!((&refused["dedup"], refused.get("result")), (&json!(true), None));
    let both = json!({"requests": [repeat("a key"), repeat("another key")]});
    let (_, answers) = post(&mut service, "/mesh/submit_requests", &both);
    assert_eq!(answers["results"][0]["error"], "result_corrupt");
    assert_eq!(
        (&answers["results"][0]["status_code"], &answers["results"][1]["result"]),
        (&json!(500), &json!({"sum": 7}))
    );
    let lines = events(&mut service, "RESULT_CORRUPT");
    let line = json!({"job_id": job["job_id"], "mode": "sha256", "stored_in": "answer", "reads": 1});
    assert_eq!((lines, counted(&service, Counter::ResultCorrupt)), (vec![line], 2));
}

#[test]
fn a_result_that_was_changed_on_its_way_changes_nothing_and_the_honest_one_is_accepted_after_it() {
    let settings = Settings { result_keys: ResultKeys::single(Secret::new(KEY)), ..scene::settings() };
    let mut service = scene::service(settings);
    let job = lease(&mut service, "a key");
    let honest = signed(&job, true, &json!({"sum": 41}), &Value::Null, Some(KEY));
    let (before, last_seq) = (service.hub().digest(), service.last_seq());
    let changed = |member: &str, value: Value| {
        let mut body = honest.clone();
        body[member] = value;
        body
    };
    let with_key = |key| signed(&job, true, &json!({"sum": 41}), &Value::Null, Some(key))["integrity"].clone();
    let mut unsigned = honest["integrity"].clone();
    unsigned["sig"] = json!("00".repeat(32));
    let tampered = [
        changed("result", json!({"sum": 42})),
        changed("ok", json!(false)),
        changed("error", json!("e")),
        changed("integrity", with_key("another key")),
        changed("integrity", unsigned),
    ];
    for body in &tampered {
        let (status, refused) = submit_result(&mut service, body);
        assert_eq!((status, &refused["error"]), (403, &json!("result_integrity_fail")), "{body}");
        assert_eq!((service.hub().digest(), service.last_seq()), (before, last_seq), "{body}");
    }
    let batch = json!({"results": tampered});
    let (_, answers) = post(&mut service, "/mesh/submit_results", &batch);
    assert!(answers["results"].as_array().unwrap().iter().all(|answer| answer["status_code"] == 403), "{answers}");
    assert_eq!((service.hub().digest(), service.last_seq()), (before, last_seq));
    let twice = 2 * tampered.len();
    assert_eq!(events(&mut service, "RESULT_INTEGRITY_FAIL").len(), twice);
    assert_eq!(counted(&service, Counter::IntegrityFailed), twice as u64);
    assert_eq!(submit_result(&mut service, &honest).1["status"], "completed");
    assert_eq!(get(&mut service, &job["job_id"]).1["job"]["result"], json!({"sum": 41}));
}

#[test]
fn a_repeat_with_another_payload_is_already_final_and_its_integrity_is_looked_at_first() {
    for with_lease in [true, false] {
        let mut service = scene::service(scene::settings());
        let job = lease(&mut service, "a key");
        let named = |mut body: Value| {
            body["result_id"] = json!("r-1");
            if !with_lease {
                body["lease_id"] = Value::Null;
            }
            body
        };
        let accepted = named(success(&job, &json!(1)));
        assert_eq!(submit_result(&mut service, &accepted).0, 200);
        let (status, again) = submit_result(&mut service, &accepted);
        assert_eq!((status, &again["duplicate"]), (200, &json!(true)));
        let (status, refused) = submit_result(&mut service, &named(success(&job, &json!(2))));
        assert_eq!((status, &refused["error"]), (409, &json!("already_final")), "with a lease: {with_lease}");
        let mut tampered = named(success(&job, &json!(2)));
        tampered["result"] = json!(3);
        let (status, refused) = submit_result(&mut service, &tampered);
        assert_eq!((status, &refused["error"]), (403, &json!("result_integrity_fail")));
        assert_eq!(get(&mut service, &job["job_id"]).1["job"]["result"], json!(1));
        assert_eq!(service.hub().queue().get(JobSeq::FIRST).map(|job| job.status()), Some("completed"));
    }
}

const OLD: &str = "the key that is replaced";
const NEW: &str = "the key that replaces it";

fn rotation(until: Timestamp) -> ResultKeys {
    let until = Utc::from_millis(until.as_millis());
    ResultKeys::new(Some(Secret::new(OLD)), Some(Secret::new(NEW)), Some(until)).expect("a rotation")
}

/// Submits a result that is signed with this key; the status of the answer.
fn submit_signed(service: &mut Service, now: Timestamp, key: &str) -> (u16, Value) {
    let body = json!({"kind": "k"}).to_string();
    scene::ask_at(now, service, "POST", "/mesh/submit_request", &body);
    let pull = json!({"node_id": "n"}).to_string();
    let (_, pulled) = scene::ask_at(now, service, "POST", "/mesh/pull_requests", &pull).expect("there is a job");
    let job = serde_json::from_str::<Value>(&pulled).expect("replies are JSON")["jobs"][0].clone();
    let body = signed(&job, true, &json!(1), &Value::Null, Some(key)).to_string();
    let (status, text) = scene::ask_at(now, service, "POST", "/mesh/submit_result", &body).expect("it is answered");
    (status, serde_json::from_str(&text).expect("replies are JSON"))
}

#[test]
fn until_the_instant_of_a_rotation_both_keys_are_accepted_and_at_it_the_next_one_alone() {
    let until = NOW + Millis::from_secs(100);
    let mut service = scene::service(Settings { result_keys: rotation(until), ..scene::settings() });
    service.begin_result_keys(NOW);
    let begun = events(&mut service, "RESULT_KEY_ROTATION_BEGUN");
    assert_eq!(begun[0]["old_key"], Secret::new(OLD).to_string());
    assert_eq!((begun.len(), &begun[0]["new_key"]), (1, &json!(Secret::new(NEW).to_string())));
    let before = until - Millis::new(1);
    for now in [NOW, before] {
        assert_eq!([OLD, NEW].map(|key| submit_signed(&mut service, now, key).0), [200, 200]);
        assert_eq!(submit_signed(&mut service, now, "a third key").1["reason"], "sig_mismatch");
    }
    let used = events(&mut service, "RESULT_KEY_OLD_ACCEPTED_IN_WINDOW");
    assert_eq!(used.len(), 2, "a line a minute");
    assert_eq!(
        (&used[0]["node_id"], &used[0]["ip"], &used[0]["results"]),
        (&json!("n"), &json!("127.0.0.1"), &json!(1))
    );
    let signed =
        |service: &Service| [Counter::SignedByNewKey, Counter::SignedByOldKey].map(|key| counted(service, key));
    assert_eq!(signed(&service), [2, 2]);

    // Whether the timer fires or a result comes first.
    for is_timer_first in [true, false] {
        let mut service = scene::service(Settings { result_keys: rotation(until), ..scene::settings() });
        submit_signed(&mut service, NOW, OLD);
        service.settle(NOW);
        assert!(service.next_timeout().is_some_and(|at| at <= until), "the window's end is a timer");
        if is_timer_first {
            service.handle_timeout(until);
        }
        let (status, refused) = submit_signed(&mut service, until, OLD);
        assert_eq!((status, &refused["reason"]), (403, &json!("sig_mismatch")));
        assert!(refused["detail"].as_str().unwrap().contains("the key that was replaced"), "{refused}");
        assert_eq!(submit_signed(&mut service, until + Millis::new(1), NEW).0, 200);
        service.handle_timeout(until + Millis::from_secs(1));
        let mut finalized = Vec::new();
        let mut failed = Vec::new();
        for event in service.events().drain(..) {
            let details: Value = serde_json::from_slice(&event.details).expect("details are JSON");
            match event.event {
                "RESULT_KEY_ROTATION_FINALIZED" => finalized.push(details),
                "RESULT_INTEGRITY_FAIL" => failed.push(details),
                _ => {}
            }
        }
        assert_eq!((finalized.len(), &finalized[0]["old_key_results"]), (1, &json!(1)), "exactly once");
        assert_eq!(failed[0]["old_key"], true);
        assert_eq!(signed(&service), [1, 1]);
    }
}

#[test]
fn a_window_that_is_over_at_the_start_accepts_the_next_key_alone() {
    let mut service = scene::service(Settings { result_keys: rotation(NOW), ..scene::settings() });
    service.begin_result_keys(NOW);
    assert_eq!([OLD, NEW].map(|key| submit_signed(&mut service, NOW, key).0), [403, 200]);
    assert!(events(&mut service, "RESULT_KEY_ROTATION_FINALIZED").is_empty(), "it ended before this start");
}

#[test]
fn keys_that_are_read_again_begin_extend_and_end_a_rotation() {
    let keys = || ResultKeys::single(Secret::new(OLD));
    let mut service = scene::service(Settings { result_keys: keys(), ..scene::settings() });
    let accepted = |service: &mut Service, ms: u64| {
        [OLD, NEW].map(|key| submit_signed(service, NOW + Millis::new(ms), key).0 == 200)
    };
    assert_eq!(accepted(&mut service, 0), [true, false]);
    service.set_result_keys(NOW, rotation(NOW + Millis::new(1_000)));
    assert_eq!(accepted(&mut service, 999), [true, true]);
    service.set_result_keys(NOW, rotation(NOW + Millis::new(5_000)));
    assert_eq!((accepted(&mut service, 4_999), accepted(&mut service, 5_000)), ([true, true], [false, true]));
    service.set_result_keys(NOW, rotation(NOW + Millis::new(5_000)));
    assert_eq!(accepted(&mut service, 5_001), [false, true], "the same settings change nothing");
    service.set_result_keys(NOW, ResultKeys::single(Secret::new(NEW)));
    assert_eq!(accepted(&mut service, 5_002), [false, true]);
    service.set_result_keys(NOW, rotation(NOW));
    assert_eq!(accepted(&mut service, 5_003), [false, true], "an instant that is past ends it at once");
    service.set_result_keys(NOW, ResultKeys::single(Secret::new(NEW)));
    let names = ["RESULT_KEY_ROTATION_BEGUN", "RESULT_KEY_ROTATION_FINALIZED"];
    let count = |name: &str| service.events().iter().filter(|event| event.event == name).count();
    assert_eq!(names.map(count), [2, 2]);
    let changed = events(&mut service, "RESULT_KEYS_CHANGED");
    assert_eq!(changed.len(), 5);
    assert_eq!(changed[2]["keys"], json!([Secret::new(NEW).to_string()]));
}

#[test]
fn a_calendar_that_is_set_moves_the_end_of_the_window_and_does_not_open_it_again() {
    let until = NOW + Millis::from_secs(100);
    let mut service = scene::service(Settings { result_keys: rotation(until), ..scene::settings() });
    service.set_calendar(NOW, Calendar::from_offset_ms(100_000)).unwrap();
    assert_eq!([OLD, NEW].map(|key| submit_signed(&mut service, NOW, key).0), [403, 200]);
    service.set_calendar(NOW, Calendar::from_offset_ms(0)).unwrap();
    assert_eq!([OLD, NEW].map(|key| submit_signed(&mut service, NOW, key).0), [403, 200]);
}
