//! Secrets: whatever a token or a key looks like, and wherever clients put it, nothing that the hub writes or shows of itself
//! has it. What is put where is in [`plant`], what is searched in [`PLACES`].
#![cfg(unix)]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use serde_json::{Value, json};
use sheratan_tests::client::{failure, result};
use sheratan_tests::{Bundle, Client, Hub, Options, Run, command, leak, until};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Hubs that are started, each with secrets of its own.
const CASES: u32 = 8;

/// Smaller secrets are tried after a failure, but a hub takes seconds.
const SHRINK_ITERS_MAX: u32 = 16;

/// A hub with its secrets.
struct Scene {
    hub: Hub,
    secrets: Secrets,
    /// For the secrets' files and the bundles.
    place: TempDir,
}

#[derive(Clone, Debug)]
struct Secrets {
    /// The hub's, which it knows from a file.
    token: String,
    /// The results', which it knows from the environment.
    key: String,
    /// Another hub's, which a client presents here by mistake.
    foreign: String,
}

/// A place that is searched: what it is called, and what is in it.
type Place = (&'static str, fn(&Scene) -> Vec<u8>);

/// What is searched while the hub runs, and once more when it has stopped. An empty place is one that this hub has not.
const PLACES: [Place; 10] = [
    ("the log", |scene| rotated(scene.hub.folder(), "hub.jsonl")),
    ("the audit log", |scene| rotated(scene.hub.folder(), "hub_security_audit.jsonl")),
    ("the alerts", |scene| rotated(scene.hub.folder(), "alerts.jsonl")),
    ("standard error", |scene| scene.hub.said().into_bytes()),
    ("the control plane's metrics as JSON", |scene| {
        metrics(scene, scene.hub.control, "/api/metrics", "application/json")
    }),
    ("the data plane's metrics as JSON", |scene| metrics(scene, scene.hub.data, "/api/metrics", "application/json")),
    ("the control plane's metrics as text", |scene| metrics(scene, scene.hub.control, "/metrics", "text/plain")),
    ("the data plane's metrics as text", |scene| metrics(scene, scene.hub.data, "/metrics", "text/plain")),
    ("the bundle's files", |scene| bundle(scene).files.into_values().flatten().collect()),
    ("the bundle's archive", |scene| bundle(scene).archive),
];

/// Places that every hub has.
const ALWAYS: [&str; 5] = ["the log", "the audit log", "standard error", "the bundle's files", "the bundle's archive"];

fn rotated(folder: &Path, name: &str) -> Vec<u8> {
    let files = fs::read_dir(folder.join("logs")).into_iter().flatten().map(|entry| entry.unwrap().path());
    let is_ours = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(name);
    files.filter(is_ours).flat_map(|path| fs::read(path).unwrap()).collect()
}

fn metrics(scene: &Scene, plane: std::net::SocketAddr, path: &str, accept: &str) -> Vec<u8> {
    let mut client = Client::new(plane, None);
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: h\r\nAccept: {accept}\r\nX-Sheratan-Token: {}\r\n\r\n",
        scene.secrets.token
    );
    // A hub that has stopped says nothing.
    let answer = client.send(request.as_bytes()).and_then(|()| client.receive()).ok();
    answer.filter(|answer| answer.status == 200).map(|answer| answer.body).unwrap_or_default()
}

fn bundle(scene: &Scene) -> Bundle {
    let path = scene.place.path().join("x.zip");
    let folder = scene.hub.folder().to_str().unwrap();
    let mut command = command(&["diagnose", "--data-dir", folder, "--force", "--output", path.to_str().unwrap()]);
    command.current_dir(scene.place.path()).envs(variables(&scene.secrets, &scene.place));
    // Its value is a secret that nobody knows to be one: values are not in the bundle at all.
    command.env("SOMETHING_ELSE", &scene.secrets.foreign);
    let run = Run::from(command.output().unwrap());
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    leak::assert_none("the standard error of diagnose", run.stderr.as_bytes(), &scene.secrets.known());
    Bundle::open(&path)
}

impl Secrets {
    /// Those that the hub knows.
    fn known(&self) -> [&str; 2] {
        [&self.token, &self.key]
    }

    fn all(&self) -> [&str; 3] {
        [&self.token, &self.key, &self.foreign]
    }
}

fn variables(secrets: &Secrets, place: &TempDir) -> Vec<(String, String)> {
    let path = place.path().join("token");
    fs::write(&path, format!("{}\n", secrets.token)).unwrap();
    vec![
        ("SHERATAN_HUB_TOKEN_FILE".into(), path.to_str().unwrap().into()),
        ("SHERATAN_RESULT_HMAC_KEY".into(), secrets.key.clone()),
    ]
}

/// A secret as a path can carry it: as it is but for what no path has; all of it encoded; every other character encoded.
fn in_paths(secret: &str) -> [String; 3] {
    let encoded = |byte: u8| format!("%{byte:02X}");
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte);
    let each = |is_encoded: &dyn Fn(usize, u8) -> bool| -> String {
        let of_byte =
            |(at, byte): (usize, u8)| if is_encoded(at, byte) { encoded(byte) } else { (byte as char).into() };
        secret.bytes().enumerate().map(of_byte).collect()
    };
    [each(&|_, byte| !is_legal(byte)), each(&|_, _| true), each(&|at, byte| at % 2 == 0 || !is_legal(byte))]
}

/// Puts a secret everywhere that a client can put a text.
fn plant(scene: &Scene, secret: &str) {
    let Scene { hub, secrets, .. } = scene;
    let token = || Some(secrets.token.clone());
    let (mut control, mut data) = (Client::new(hub.control, token()), Client::new(hub.data, token()));
    for node in [secret.to_owned(), format!("node {secret}")] {
        let heartbeat = json!({
            "node_id": node, "zone": secret, "capabilities": [secret], "labels": {secret: secret},
            "endpoint": format!("http://u:{secret}@h/"),
        });
        control.post("/mesh/heartbeat", &heartbeat).ok();
        for (params, status) in [(json!({secret: [secret]}), 200), (json!(secret), 409)] {
            let key = format!("{secret} {node}");
            let submit =
                json!({"kind": node, "zone": secret, "requires": [secret], "params": params, "idempotency_key": key});
            assert_eq!(data.post("/mesh/submit_request", &submit).status, status);
        }
        let pulled = data.post("/mesh/pull_requests", &json!({"node_id": node})).ok();
        let job = &pulled["jobs"][0];
        assert!(job["job_id"].is_string(), "the node gets the job: {pulled}");
        let error = failure(job, &node, &json!({"error": secret}));
        data.post("/mesh/submit_result", &error).ok();
        let wrong =
            json!({"job_id": secret, "ok": true, "result": secret, "integrity": {"mode": secret, "sha256": secret}});
        assert_ne!(data.post("/mesh/submit_result", &wrong).status, 200);
        let wrong = result(&json!({"job_id": secret, "lease_id": secret}), &node, &json!(secret));
        assert_ne!(data.post("/mesh/submit_result", &wrong).status, 200);
    }
    for path in in_paths(secret) {
        let target = format!("/mesh/jobs/{path}?token={path}");
        for plane in [hub.control, hub.data] {
            assert_ne!(Client::new(plane, None).get(&target).status, 200);
            assert_ne!(Client::new(plane, token()).get(&target).status, 200);
            // Whoever has another hub's token may send it in any of these.
            let basic = STANDARD.encode(format!("user:{secret}"));
            for header in ["X-Sheratan-Token: ", "Authorization: Bearer ", "Authorization: Token "] {
                let request =
                    format!("GET {target} HTTP/1.1\r\nHost: h\r\n{header}{secret}\r\nCookie: {secret}\r\n\r\n");
                let mut client = Client::new(plane, None);
                client.send(request.as_bytes()).unwrap();
                client.receive().unwrap();
            }
            let request = format!("GET /mesh/jobs/{basic} HTTP/1.1\r\nHost: h\r\nAuthorization: Basic {basic}\r\n\r\n");
            let mut client = Client::new(plane, None);
            client.send(request.as_bytes()).unwrap();
            client.receive().unwrap();
        }
    }
}

/// Only what is presented along with it is known of another hub's token: it may stand in the path that it came with.
fn plant_foreign(scene: &Scene) {
    let Scene { hub, secrets, .. } = scene;
    for path in in_paths(&secrets.foreign) {
        for plane in [hub.control, hub.data] {
            let status = Client::new(plane, Some(secrets.foreign.clone())).get(&format!("/mesh/jobs/{path}")).status;
            assert!([403, 410].contains(&status), "{status}");
        }
    }
}

/// Searches every place; which of them had something in them.
fn search(scene: &Scene) -> Vec<&'static str> {
    let mut places = Vec::new();
    for (name, read) in PLACES {
        let text = read(scene);
        leak::assert_none(name, &text, &scene.secrets.all());
        if !text.is_empty() {
            places.push(name);
        }
    }
    assert!(ALWAYS.iter().all(|place| places.contains(place)), "{places:?}");
    places
}

fn check(secrets: Secrets) {
    let place = TempDir::new().unwrap();
    let options = Options { args: Vec::new(), env: variables(&secrets, &place) };
    let hub = Hub::start_in(TempDir::new().unwrap(), options);
    let mut scene = Scene { hub, secrets, place };
    for secret in scene.secrets.known() {
        plant(&scene, secret);
    }
    plant_foreign(&scene);
    until("the audit log has it", || {
        let count = |event: &str| {
            let lines = scene.hub.audit(event);
            lines.iter().map(|line| line["details"]["count"].as_u64().unwrap_or(1)).sum::<u64>()
        };
        count("NODE_REGISTERED") == 4 && count("PORT_MISMATCH") >= 30 && count("IDEMPOTENCY_KEY_COLLISION") == 4
    });
    search(&scene);
    assert!(scene.hub.stop().success());
    search(&scene);
    let shown = scene.hub.audit("NODE_REGISTERED");
    let is_digest = |line: &Value| line["details"]["node_id"].as_str().unwrap().contains("sha256:");
    assert!(shown.iter().all(is_digest), "{shown:?}");
}

/// Visible ASCII, as tokens are; quotes and backslashes, which JSON escapes, more often than by chance.
fn secret() -> impl Strategy<Value = String> {
    let character = prop_oneof![4 => 0x21..0x7f_u8, 1 => Just(b'"'), 1 => Just(b'\\'), 1 => Just(b'%')];
    let secret = proptest::collection::vec(character, 16..=40);
    secret.prop_map(|bytes| String::from_utf8(bytes).expect("visible ASCII is text"))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: CASES,
        max_shrink_iters: SHRINK_ITERS_MAX,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_secret_is_shown_wherever_it_was_put(token in secret(), key in secret(), foreign in secret()) {
        check(Secrets { token, key, foreign });
    }
}
