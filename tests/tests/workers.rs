//! Workers on a bad day: proxies that answer for the hub, networks that are away, leases that end, commands that are not
//! there, logs that cannot be written.
#![cfg(unix)]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::family::{family, family_command, is_running};
use sheratan_tests::hub::{Options, command, until};
use sheratan_tests::proxy::{BAD_GATEWAY, FAULTS};
use sheratan_tests::tools::skipped;
use sheratan_tests::{Fault, Hub, Proxy, Worker};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use tempfile::TempDir;

#[test]
fn a_result_is_delivered_whatever_a_proxy_answers_for_the_hub() {
    let hub = Hub::start();
    let proxy = Proxy::to(hub.data);
    let _worker = Worker::through(&hub, hub.control, proxy.addr, &["--exec", "echo 42"]);
    for fault in FAULTS {
        for times in [1, 2] {
            proxy.heal();
            proxy.fail("submit_result", times, fault);
            let job = hub.until_final(&hub.submit(json!({"kind": "k"})));
            assert_eq!((&job["status"], &job["result"]), (&json!("completed"), &json!(42)), "{fault:?}: {job}");
            assert_eq!(job["attempts"].as_array().unwrap().len(), 1, "{fault:?}: {job}");
        }
    }
}

#[test]
fn a_worker_waits_while_a_proxy_answers_its_heartbeats_and_pulls() {
    let hub = Hub::start();
    for (kind, fault) in FAULTS.iter().enumerate().map(|(number, fault)| (format!("k{number}"), *fault)) {
        let (control, data) = (Proxy::to(hub.control), Proxy::to(hub.data));
        control.fail("heartbeat", 1, fault);
        data.fail("pull_requests", 1, fault);
        // A pull that arrived and whose answer was lost has leased the job: its lease is short.
        let args = ["--kinds", &kind, "--lease-sec", "1", "--exec", "cat"];
        let mut worker = Worker::through(&hub, control.addr, data.addr, &args);
        until("it has pulled", || data.asked("pull_requests") > 0 || worker.has_ended());
        let job_id = hub.submit(json!({"kind": kind, "params": 7}));
        assert_eq!(hub.until_final(&job_id)["result"], 7, "{fault:?}: {}", worker.said("stderr"));
    }
}

#[test]
fn a_lease_is_kept_while_extensions_fail_now_and_then() {
    let hub = Hub::start();
    let proxy = Proxy::to(hub.data);
    let _worker = Worker::through(&hub, hub.control, proxy.addr, &["--lease-sec", "3", "--exec", "sleep 5; echo 1"]);
    for (fault, times) in [
        (Fault::Answer(502, BAD_GATEWAY), 2),
        (Fault::Reset, 1),
        (Fault::Answer(200, "{\"ok\":true,\"leases\":[]}"), 1),
    ] {
        proxy.heal();
        proxy.fail("extend_lease", times, fault);
        let job = hub.until_final(&hub.submit(json!({"kind": "k"})));
        assert_eq!((&job["result"], job["attempts"].as_array().unwrap().len()), (&json!(1), 1), "{fault:?}: {job}");
    }
}

#[test]
fn the_lease_is_kept_while_the_result_is_not_delivered() {
    let hub = Hub::start();
    let proxy = Proxy::to(hub.data);
    proxy.fail("submit_result", u64::MAX, Fault::Answer(502, BAD_GATEWAY));
    let _worker = Worker::through(&hub, hub.control, proxy.addr, &["--lease-sec", "1", "--exec", "echo 42"]);
    let job_id = hub.submit(json!({"kind": "k"}));
    // Each extends a lease of one second by a third of it.
    until("the lease would have ended", || proxy.asked("extend_lease") > 6);
    proxy.heal();
    let job = hub.until_final(&job_id);
    assert_eq!((&job["result"], job["attempts"].as_array().unwrap().len()), (&json!(42), 1), "{job}");
}

#[test]
fn a_result_that_cannot_be_delivered_is_in_a_file_after_a_stop_and_is_delivered_from_it() {
    let hub = Hub::start();
    let proxy = Proxy::to(hub.data);
    proxy.fail("submit_result", u64::MAX, Fault::Answer(502, BAD_GATEWAY));
    let mut worker = Worker::through(&hub, hub.control, proxy.addr, &["--exec", "echo '{\"b\": 1.0}'"]);
    let job_id = hub.submit(json!({"kind": "k"}));
    until("a result was sent", || proxy.asked("submit_result") > 0);
    worker.interrupt();
    assert_eq!(worker.wait(), Some(1), "a result is left");
    let files = worker.files();
    let [file] = &files[..] else { panic!("one file: {files:?}") };
    assert!(worker.said("stderr").contains(file.file_name().unwrap().to_str().unwrap()), "{}", worker.said("stderr"));
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(hub.job(&job_id)["status"], "leased", "it is not reported as failed");

    let resend = || hub.run(&["worker", "--resend", file.to_str().unwrap()]);
    let run = resend();
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let done = hub.job(&job_id);
    assert_eq!((&done["status"], &done["result"]), (&json!("completed"), &json!({"b": 1.0})));
    assert!(!file.exists(), "nothing is left to deliver");
    assert_eq!(resend().code, Some(1), "the file is gone");
}

#[test]
fn what_the_hub_refuses_stays_in_the_file_and_is_named() {
    let hub = Hub::start();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("results.jsonl");
    let line = |job_id: &str| json!({"job_id": job_id, "node_id": "n", "lease_id": "lease_x", "ok": true, "result": 1, "retryable": true});
    let job_id = hub.submit(json!({"kind": "k"}));
    fs::write(&file, format!("{}\n", line(&job_id))).unwrap();
    let run = hub.run(&["worker", "--resend", file.to_str().unwrap()]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains(&job_id) && run.stderr.contains("lease_lost"), "{}", run.stderr);
    assert_eq!(serde_json::from_str::<Value>(&fs::read_to_string(&file).unwrap()).unwrap()["job_id"], json!(job_id));
}

#[test]
fn a_result_that_the_hub_cannot_take_in_any_form_ends_its_job_with_the_reason() {
    let hub = Hub::start_with(&["--max-body-bytes", "4096"]);
    let _worker = Worker::start(&hub, &["--exec", "head -c 9000 /dev/zero | tr '\\0' x"]);
    let job = hub.until_final(&hub.submit(json!({"kind": "k"})));
    assert_eq!((&job["status"], &job["error"]["error"]), (&json!("dead"), &json!("payload_too_large")), "{job}");
}

#[test]
fn a_worker_without_the_results_key_stops_and_keeps_the_result() {
    let key = ("SHERATAN_RESULT_HMAC_KEY".to_owned(), "k3y-of-the-results".to_owned());
    let env = vec![key.clone(), ("SHERATAN_RESULT_INTEGRITY_MODE".to_owned(), "hmac".to_owned())];
    let hub = Hub::start_in(TempDir::new().unwrap(), Options { args: Vec::new(), env });
    let jobs: Vec<_> = (0..3).map(|n| hub.submit(json!({"kind": "k", "params": n}))).collect();
    let mut worker = Worker::start(&hub, &["--exec", "cat"]);
    assert_eq!(worker.wait(), Some(1));
    assert!(worker.said("stderr").contains("SHERATAN_RESULT_HMAC_KEY"), "{}", worker.said("stderr"));
    assert_eq!(worker.events("started").len(), 1, "it does not run the others for nothing");
    let name = fs::read_dir(hub.folder()).unwrap().map(|entry| entry.unwrap().path());
    let file = name.into_iter().find(|path| path.to_string_lossy().contains("sheratan-results-")).unwrap();
    let mut resend =
        command(&["worker", "--resend", file.to_str().unwrap(), "--data-dir", hub.folder().to_str().unwrap()]);
    assert!(resend.env(&key.0, &key.1).output().unwrap().status.success(), "with the key it is taken");
    assert_eq!(hub.job(&jobs[0])["status"], "completed");
}

#[test]
fn a_worker_goes_on_when_its_log_cannot_be_written() {
    let hub = Hub::start();
    let folder = hub.folder().to_str().unwrap();
    for stream in ["stdout", "stderr"] {
        for is_full in [true, false] {
            let mut worker = command(&["worker", "--data-dir", folder, "--exec", "cat"]);
            let output = match is_full {
                true => Stdio::from(fs::OpenOptions::new().write(true).open("/dev/full").unwrap()),
                // The read end is closed at once.
                false => Stdio::from(std::io::pipe().unwrap().1),
            };
            worker.stdout(Stdio::null()).stderr(Stdio::null());
            match stream {
                "stdout" => worker.stdout(output),
                _ => worker.stderr(output),
            };
            let mut worker = worker.spawn().unwrap();
            for n in 0..3 {
                let done = hub.until_final(&hub.submit(json!({"kind": "k", "params": n})));
                assert_eq!(done["result"], n, "{stream}, full: {is_full}");
            }
            assert!(worker.try_wait().unwrap().is_none(), "{stream}, full: {is_full}");
            worker.kill().unwrap();
            worker.wait().unwrap();
        }
    }
}

#[test]
fn a_reader_that_hangs_does_not_stop_the_jobs() {
    let hub = Hub::start();
    let mut worker = command(&["worker", "--json", "--data-dir", hub.folder().to_str().unwrap(), "--exec", "cat"]);
    // The pipe takes 64 KiB and is never read.
    let mut worker = worker.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let kind = "k".repeat(100);
    let requests: Vec<_> = (0..400).map(|n| json!({"kind": kind, "params": n})).collect();
    let answers = hub.data().post("/mesh/submit_requests", &json!({"requests": requests})).ok();
    let last = answers["results"][399]["job_id"].as_str().unwrap();
    assert_eq!(hub.until_final(last)["result"], 399);
    worker.kill().unwrap();
    worker.wait().unwrap();
}

#[test]
fn a_worker_that_is_cut_off_stops_its_command_before_another_worker_has_the_job() {
    let hub = Hub::start();
    let folder = TempDir::new().unwrap();
    let proxy = Proxy::to(hub.data);
    let exec = family_command(folder.path());
    let worker = Worker::through(&hub, hub.control, proxy.addr, &["--lease-sec", "2", "--exec", &exec]);
    worker.until_registered();
    proxy.fail("extend_lease", u64::MAX, Fault::Hang);
    let job_id = hub.submit(json!({"kind": "k"}));
    until("the command runs", || family(folder.path()).len() == 2);
    let processes = family(folder.path());
    until("the hub ends the lease", || hub.job(&job_id)["attempts"][0]["outcome"] == "lease_expired");
    let left: Vec<_> = processes.iter().filter(|pid| is_running(pid)).collect();
    assert!(left.is_empty(), "{left:?} still run");
    until("the worker knows", || !worker.events("lease_lost").is_empty());
}

#[test]
fn a_job_that_the_hub_took_back_is_stopped_with_its_children() {
    let hub = Hub::start();
    let folder = TempDir::new().unwrap();
    let worker = Worker::start(&hub, &["--lease-sec", "2", "--exec", &family_command(folder.path())]);
    hub.submit(json!({"kind": "k", "params": 1, "idempotency_key": "a"}));
    until("the command runs", || family(folder.path()).len() == 2);
    let processes = family(folder.path());
    hub.submit(
        json!({"kind": "other-kind-of-work", "params": 2, "idempotency_key": "a", "on_duplicate": "latest_wins"}),
    );
    until("both have ended", || !processes.iter().any(|pid| is_running(pid)));
    until("the worker says so", || !worker.events("lease_lost").is_empty());
}

#[test]
fn the_commands_of_a_worker_that_is_killed_end_with_it() {
    let hub = Hub::start();
    let folder = TempDir::new().unwrap();
    let mut worker = Worker::start(&hub, &["--exec", &family_command(folder.path())]);
    hub.submit(json!({"kind": "k"}));
    until("the command runs", || family(folder.path()).len() == 2);
    let processes = family(folder.path());
    worker.kill();
    until("both have ended", || !processes.iter().any(|pid| is_running(pid)));
}

#[test]
fn a_worker_that_is_the_first_process_of_a_container_reaps_what_its_commands_leave() {
    let mut probe = Command::new("unshare");
    probe.args(["--pid", "--fork", "--mount-proc", "true"]).stdout(Stdio::null()).stderr(Stdio::null());
    if !probe.status().is_ok_and(|status| status.success()) {
        return skipped("a PID namespace needs root, and unshare");
    }
    let hub = Hub::start();
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).arg(sheratan_tests::binary());
    // Each command leaves a child, and says how many zombies there are: its own shell is none.
    let exec = "(true &) ; sleep 0.05; grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l";
    unshare.args(["worker", "--json", "--data-dir"]).arg(hub.folder()).args(["--exec", exec]).stdin(Stdio::null());
    let worker = Worker::spawn(unshare, TempDir::new().unwrap());
    worker.until_registered();
    let jobs: Vec<_> = (0..10).map(|_| hub.submit(json!({"kind": "k"}))).collect();
    let zombies = jobs.iter().map(|job_id| hub.until_final(job_id)["result"].as_u64().unwrap());
    // The last orphan may not be reaped yet.
    assert!(zombies.clone().max().unwrap() <= 1, "{:?}", zombies.collect::<Vec<_>>());
}

#[test]
fn a_worker_whose_command_is_not_there_stops_and_the_queue_does_not_suffer() {
    let hub = Hub::start();
    let jobs: Vec<_> = (0..5).map(|n| hub.submit(json!({"kind": "k", "params": n, "max_attempts": 1}))).collect();
    let folder = hub.folder().to_str().unwrap();
    for command in [&["--exec", "/not/there"][..], &["--exec", "not-there --fast"], &["--", "/not/there"]] {
        let mut worker = Worker::begin(&[&["--data-dir", folder], command].concat(), &[]);
        assert_eq!(worker.wait(), Some(1), "{command:?}");
        assert!(worker.said("stderr").contains("cannot be started"), "{command:?}: {}", worker.said("stderr"));
    }
    assert!(jobs.iter().all(|job_id| hub.job(job_id)["status"] == "queued"));
}

#[test]
fn a_worker_stops_when_its_command_goes_away_under_it() {
    let hub = Hub::start();
    let folder = TempDir::new().unwrap();
    let program = folder.path().join("program");
    fs::write(&program, "#!/bin/sh\ncat\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = program.to_str().unwrap();
    for command in [&["--exec", path][..], &["--", path]] {
        let mut worker = Worker::start(&hub, command);
        hub.until_final(&hub.submit(json!({"kind": "k", "params": 1})));
        let away = folder.path().join("away");
        fs::rename(&program, &away).unwrap();
        let jobs: Vec<_> = (0..5).map(|n| hub.submit(json!({"kind": "k", "params": n, "max_attempts": 1}))).collect();
        assert_eq!(worker.wait(), Some(1), "{command:?}");
        assert!(worker.said("stderr").contains("cannot be started"), "{}", worker.said("stderr"));
        let waiting = jobs.iter().filter(|job_id| hub.job(job_id)["attempts"].as_array().is_none_or(Vec::is_empty));
        assert!(waiting.count() >= 4, "{command:?}: at most one job met it");
        fs::rename(&away, &program).unwrap();
        let _other = Worker::start(&hub, command);
        assert!(jobs.iter().all(|job_id| hub.until_final(job_id)["status"] == "completed"), "{command:?}");
    }
}

#[test]
fn a_lease_that_is_given_back_costs_its_job_no_attempt() {
    let hub = Hub::start();
    let job_id = hub.submit(json!({"kind": "k", "max_attempts": 1}));
    let release = |node: &str, lease: &Value| {
        let body = json!({"node_id": node, "leases": [lease, "lease_none"]});
        hub.data().post("/mesh/release_lease", &body).ok()["leases"].clone()
    };
    let pull = || hub.data().post("/mesh/pull_requests", &json!({"node_id": "n"})).ok()["jobs"][0].clone();
    let lease = pull()["lease_id"].clone();
    assert_eq!(release("other", &lease)[0]["error"], "lease_lost", "it is another node's");
    let answers = release("n", &lease);
    assert_eq!((&answers[0], &answers[1]["error"]), (&json!({"lease_id": lease, "ok": true}), &json!("lease_lost")));
    assert_eq!(release("n", &lease)[0]["error"], "lease_lost", "it was given back");
    assert_eq!(hub.job(&job_id)["status"], "queued");
    let result = sheratan_tests::client::result(&pull(), "n", &json!(1));
    assert_eq!(hub.data().post("/mesh/submit_result", &result).ok()["status"], "completed");
}

#[test]
fn a_job_whose_own_work_finds_no_program_fails_alone() {
    let hub = Hub::start();
    let mut worker = Worker::start(&hub, &["--exec", "cat > /dev/null; no-such-program"]);
    let job = hub.until_final(&hub.submit(json!({"kind": "k", "max_attempts": 1})));
    assert_eq!(job["error"]["exit_code"], 127);
    assert!(!worker.has_ended());
}

#[test]
fn a_command_gets_no_secret_of_the_hub() {
    // The worker signs with its key, and the hub checks what is signed.
    let env = vec![("SHERATAN_RESULT_HMAC_KEY".to_owned(), "s3cret-key".to_owned())];
    let hub = Hub::start_in(TempDir::new().unwrap(), Options { args: Vec::new(), env });
    let token = hub.token();
    let secrets = [
        ("SHERATAN_HUB_TOKEN", token.as_str()),
        ("SHERATAN_HUB_TOKEN_ACTIVE", "s3cret-active"),
        ("SHERATAN_HUB_TOKEN_NEXT", "s3cret-next"),
        ("SHERATAN_RESULT_HMAC_KEY", "s3cret-key"),
        ("SHERATAN_RESULT_HMAC_KEY_NEXT", "s3cret-key-next"),
        ("SHERATAN_ALERT_WEBHOOK_URL", "http://s3cret"),
        ("SHERATAN_MINE", "mine"),
    ];
    let folder = hub.folder().to_str().unwrap();
    let environment = |flags: &[&str], kind: &str| {
        let args = [&["--data-dir", folder, "--kinds", kind, "--once", "--exec", "env"], flags].concat();
        let job_id = hub.submit(json!({"kind": kind}));
        let mut worker = Worker::begin(&args, &secrets);
        assert_eq!(worker.wait(), Some(0), "{}", worker.said("stderr"));
        hub.job(&job_id)["result"].as_str().unwrap().to_owned()
    };
    let closed = environment(&[], "closed");
    assert!(closed.contains("SHERATAN_MINE=mine") && closed.contains("SHERATAN_JOB_ID="), "{closed}");
    assert!(!closed.contains(&token) && !closed.contains("s3cret"), "{closed}");
    let open = environment(&["--pass-token"], "open");
    assert!(open.contains(&format!("SHERATAN_HUB_TOKEN={token}")) && !open.contains("s3cret-key"), "{open}");
}

#[test]
fn a_worker_that_is_started_before_its_hub_finds_address_and_token_and_follows_a_move() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    let worker = Worker::begin(&["--data-dir", &path, "--exec", "cat"], &[]);
    until("it waits", || !worker.events("hub_away").is_empty());
    let mut hub = Hub::start_in(folder, Options::default());
    worker.until_registered();
    for n in 0..2 {
        assert_eq!(hub.until_final(&hub.submit(json!({"kind": "k", "params": n})))["result"], n);
        // Each start is on new ports.
        hub.kill();
        hub.restart();
    }
    // A new token, as after a rotation by hand.
    hub.stop();
    fs::remove_file(hub.folder().join("secrets/hub_token")).unwrap();
    hub.restart();
    assert_eq!(hub.until_final(&hub.submit(json!({"kind": "k", "params": 5})))["result"], 5);
}

#[test]
fn a_refusal_that_is_final_ends_the_worker() {
    let hub = Hub::start();
    let folder = hub.folder().to_str().unwrap();
    let kinds = (0..70).map(|n| format!("k{n}")).collect::<Vec<_>>().join(",");
    let mut worker = Worker::begin(&["--data-dir", folder, "--kinds", &kinds, "--exec", "cat"], &[]);
    assert_eq!(worker.wait(), Some(1));
    assert!(worker.said("stderr").contains("400 bad_request"), "{}", worker.said("stderr"));
    let args = ["--data-dir", folder, "--exec", "cat"];
    let mut worker = Worker::begin(&args, &[("SHERATAN_HUB_TOKEN", "not-this-hubs-token")]);
    assert_eq!(worker.wait(), Some(1));
    let said = worker.said("stderr");
    assert!(said.contains("auth_failure") && said.contains("SHERATAN_HUB_TOKEN"), "{said}");
}

#[test]
fn names_on_the_command_line_are_trimmed_or_refused() {
    let hub = Hub::start();
    let folder = hub.folder().to_str().unwrap();
    for flags in [
        ["--kinds", ""],
        ["--kinds", "a,,b"],
        ["--capabilities", ""],
        ["--node", " "],
        ["--zone", ""],
        ["--exec", " "],
        ["--kinds", "a\u{200b}"],
    ] {
        let exec: &[&str] = if flags[0] == "--exec" { &[] } else { &["--exec", "cat"] };
        let mut worker = Worker::begin(&[&["--data-dir", folder], &flags[..], exec].concat(), &[]);
        assert_eq!(worker.wait(), Some(2), "{flags:?}");
        assert!(worker.said("stderr").contains(flags[0]), "{flags:?}: {}", worker.said("stderr"));
    }
    let _worker = Worker::start(
        &hub,
        &["--kinds", "a, b", "--capabilities", "gpu:true, cuda:12", "--node", " n ", "--exec", "cat"],
    );
    let job_id = hub.submit(json!({"kind": "b", "params": 1, "requires": ["cuda:12"]}));
    let job = hub.until_final(&job_id);
    assert_eq!((&job["result"], &job["attempts"][0]["node_id"]), (&json!(1), &json!("n")));
}

#[test]
fn what_a_command_prints_reaches_the_terminal_as_text() {
    let hub = Hub::start();
    let job_id = hub.submit(json!({"kind": "k", "max_attempts": 1}));
    let worker = command(&[
        "worker",
        "--data-dir",
        hub.folder().to_str().unwrap(),
        "--once",
        "--exec",
        "printf '\\033]0;x\\007\\342\\200\\256' >&2; exit 1",
    ]);
    let output = { worker }.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains(&job_id) && said.contains(r"\u{1b}]0;x\u{7}\u{202e}"), "{said}");
    assert!(!said.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{said}");
}
