//! A disk whose syncs neither return nor fail: changes wait for it in bounded memory, and reads of health and metrics
//! are answered.
//!
//! The hub runs with a preloaded library whose `fdatasync` does not return while a file exists.
#![cfg(target_os = "linux")]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::tools::tool;
use sheratan_tests::{Client, Hub, Options, until};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const SOURCE: &str = r#"
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
int fdatasync(int file) {
    const char *gate = getenv("STALL_WHILE");
    while (gate && access(gate, F_OK) == 0) usleep(1000);
    return syscall(SYS_fdatasync, file);
}
"#;

/// Bytes that wait for the journal before the loop accepts no more changes.
const BATCH_BYTES_MAX: u64 = 8 << 20;

/// Bytes of a job's params: nine jobs have more than that.
const PARAMS_BYTES: usize = 1_000_000;

fn build(compiler: &Path, folder: &Path) -> PathBuf {
    let (source, library) = (folder.join("stall.c"), folder.join("stall.so"));
    fs::write(&source, SOURCE).unwrap();
    let built = Command::new(compiler).args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status().unwrap();
    assert!(built.success());
    library
}

/// The sample of that name in the data plane's text.
fn sample(hub: &Hub, name: &str) -> u64 {
    let text = Client::new(hub.data, None).ask("GET", "/metrics", &[("Accept", "text/plain")]);
    let text = String::from_utf8(text.body).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap();
    line.parse().unwrap()
}

fn submit(client: &mut Client, params: &Value) {
    client.send_request("POST", "/mesh/submit_request", Some(&json!({"kind": "k", "params": params}))).unwrap();
}

#[test]
fn reads_are_answered_while_the_disk_is_stalled() {
    let Some(compiler) = tool("cc", "gcc") else { return };
    let folder = TempDir::new().unwrap();
    let library = build(&compiler, folder.path());
    let gate = folder.path().join("gate");
    let variable = |name: &str, path: &Path| (name.to_owned(), path.to_str().unwrap().to_owned());
    let env = vec![variable("LD_PRELOAD", &library), variable("STALL_WHILE", &gate)];
    let args = vec!["--max-body-bytes".into(), "2MiB".into()];
    let hub = Hub::start_in(TempDir::new().unwrap(), Options { args, env });
    hub.data().post("/mesh/submit_request", &json!({"kind": "k"})).ok();

    fs::write(&gate, "").unwrap();
    let mut waiting = vec![hub.data()];
    submit(&mut waiting[0], &json!(1));
    until("a record waits for the disk", || sample(&hub, "sheratan_hub_journal_pending_records") == 1);
    let params = json!("x".repeat(PARAMS_BYTES));
    for _ in 0..20 {
        let mut client = hub.data();
        submit(&mut client, &params);
        waiting.push(client);
    }
    until("the journal is behind", || sample(&hub, "sheratan_hub_queue_bytes") > BATCH_BYTES_MAX);
    // All requests have arrived; as many as fit were accepted, and the rest wait.
    for _ in 0..20 {
        assert!(sample(&hub, "sheratan_hub_queue_bytes") < BATCH_BYTES_MAX + 2 * PARAMS_BYTES as u64);
        for plane in [hub.control, hub.data] {
            for path in ["/metrics", "/health", "/livez", "/readyz"] {
                assert_eq!(Client::new(plane, None).get(path).status, 200, "{path}");
            }
        }
    }

    fs::remove_file(&gate).unwrap();
    for mut client in waiting {
        assert_eq!(client.receive().unwrap().status, 200);
    }
    assert_eq!(sample(&hub, "sheratan_hub_journal_pending_records"), 0);
    assert!(sample(&hub, "sheratan_hub_queue_bytes") > 20 * PARAMS_BYTES as u64);
}
