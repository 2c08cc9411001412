//! Secrets: whatever a token or a key looks like, and wherever clients put it, nothing that the hub writes or shows of
//! itself has it. What is put where is in [`plant`], what is searched in [`PLACES`].
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
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use tempfile::TempDir;

/// Hubs that are started, each with secrets of its own.
const CASES: u32 = 8;

/// Smaller secrets are tried after a failure, but a hub takes seconds.
const SHRINK_ITERS_MAX: u32 = 4;

/// A hub with its secrets.
struct Scene {
    hub: Hub,
    secrets: Secrets,
    /// For the secrets' files and the bundles.
    place: TempDir,
    /// What a client of the event stream has read.
    streamed: Arc<Mutex<Vec<u8>>>,
    /// What the webhook's receiver has read, but for the path, which is the secret that leads to it.
    posted: Arc<Mutex<Vec<u8>>>,
}

#[derive(Clone, Debug)]
struct Secrets {
    /// The hub's, which it knows from a file.
    token: String,
    /// The results', which it knows from the environment.
    key: String,
    /// Another hub's, which a client presents here by mistake.
    foreign: String,
    /// The end of the webhook's URL.
    hook: String,
}

/// A place that is searched: its name, and its bytes.
type Place = (&'static str, fn(&Scene) -> Vec<u8>);

/// What is searched while the hub runs, and once more when it has stopped. An empty place is one that this hub has not.
const PLACES: [Place; 15] = [
    ("the log", |scene| rotated(scene.hub.folder(), "hub.jsonl")),
    ("the audit log", |scene| rotated(scene.hub.folder(), "hub_security_audit.jsonl")),
    ("the alerts", |scene| rotated(scene.hub.folder(), "alerts.jsonl")),
    ("the alerts over HTTP", |scene| ask(scene, scene.hub.control, "/api/alerts?limit=1000", "application/json")),
    ("the audit log over HTTP", |scene| ask(scene, scene.hub.control, "/api/audit?limit=1000", "application/json")),
    ("the event stream", |scene| scene.streamed.lock().unwrap().clone()),
    ("the webhook", |scene| scene.posted.lock().unwrap().clone()),
    ("what watch says", |scene| {
        let watched = scene.hub.run(&["watch", "--once", "--json"]);
        (watched.stdout + &watched.stderr).into_bytes()
    }),
    ("standard error", |scene| scene.hub.said().into_bytes()),
    ("the control plane's metrics as JSON", |scene| ask(scene, scene.hub.control, "/api/metrics", "application/json")),
    ("the data plane's metrics as JSON", |scene| ask(scene, scene.hub.data, "/api/metrics", "application/json")),
    ("the control plane's metrics as text", |scene| ask(scene, scene.hub.control, "/metrics", "text/plain")),
    ("the data plane's metrics as text", |scene| ask(scene, scene.hub.data, "/metrics", "text/plain")),
    ("the bundle's files", |scene| bundle(scene).files.into_values().flatten().collect()),
    ("the bundle's archive", |scene| bundle(scene).archive),
];

/// Places that every hub has.
const ALWAYS: [&str; 9] = [
    "the log",
    "the audit log",
    "the alerts",
    "the event stream",
    "the webhook",
    "what watch says",
    "standard error",
    "the bundle's files",
    "the bundle's archive",
];

fn rotated(folder: &Path, name: &str) -> Vec<u8> {
    let files = fs::read_dir(folder.join("logs")).into_iter().flatten().map(|entry| entry.unwrap().path());
    let is_ours = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(name);
    files.filter(is_ours).flat_map(|path| fs::read(path).unwrap()).collect()
}

fn ask(scene: &Scene, plane: SocketAddr, path: &str, accept: &str) -> Vec<u8> {
    let mut client = Client::new(plane, None);
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: h\r\nAccept: {accept}\r\nX-Sheratan-Token: {}\r\n\r\n",
        scene.secrets.token
    );
    // A hub that has stopped does not answer.
    let answer = client.send(request.as_bytes()).and_then(|()| client.receive()).ok();
    answer.filter(|answer| answer.status == 200).map(|answer| answer.body).unwrap_or_default()
}

fn bundle(scene: &Scene) -> Bundle {
    let path = scene.place.path().join("x.zip");
    let folder = scene.hub.folder().to_str().unwrap();
    let mut command = command(&["diagnose", "--data-dir", folder, "--force", "--output", path.to_str().unwrap()]);
    command.current_dir(scene.place.path()).envs(variables(&scene.secrets, &scene.place));
    // Its value is a secret that the hub does not know to be one: values are not in the bundle at all.
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

    fn all(&self) -> [&str; 4] {
        [&self.token, &self.key, &self.foreign, &self.hook]
    }
}

/// A receiver of webhooks, which keeps what it is posted.
fn receiver() -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (addr, posted) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let kept = posted.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            while let Some(body) = posted_body(&mut stream) {
                kept.lock().unwrap().extend(body);
                if stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_err() {
                    break;
                }
            }
        }
    });
    (addr, posted)
}

fn posted_body(stream: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut length = None;
    let mut line = String::new();
    while stream.read_line(&mut line).ok()? > 0 && line != "\r\n" {
        let value = line.to_lowercase().strip_prefix("content-length:").map(|value| value.trim().to_owned());
        length = value.map(|value| value.parse().unwrap()).or(length);
        line.clear();
    }
    let mut body = vec![0; length?];
    stream.read_exact(&mut body).ok()?;
    Some(body)
}

/// Reads the event stream until it ends.
fn listen(hub: &Hub, token: &str) -> Arc<Mutex<Vec<u8>>> {
    let streamed = Arc::new(Mutex::new(Vec::new()));
    let mut stream = TcpStream::connect(hub.control).unwrap();
    write!(stream, "GET /api/events HTTP/1.1\r\nHost: h\r\nX-Sheratan-Token: {token}\r\n\r\n").unwrap();
    let kept = streamed.clone();
    thread::spawn(move || {
        let mut chunk = [0; 16_384];
        while let Ok(count @ 1..) = stream.read(&mut chunk) {
            kept.lock().unwrap().extend(&chunk[..count]);
        }
    });
    until("the stream has begun", || streamed.lock().unwrap().windows(9).any(|bytes| bytes == b"counters\n"));
    streamed
}

/// Rules that put what clients say into alerts.
fn write_rules(folder: &Path) {
    let groups = [("AUTH_FAILURE", "path"), ("PORT_MISMATCH", "path"), ("NODE_REGISTERED", "node_id")];
    let rule = |(event, member): (&str, &str)| {
        json!({"name": format!("{event}.{member}"), "event": event, "threshold": 1, "window_sec": 3600,
               "group_by": member, "ignore": []})
    };
    let one_by_one = json!({"name": "nodes", "event": "NODE_REGISTERED", "threshold": 1, "window_sec": 3600});
    let rules: Vec<_> = groups.into_iter().map(rule).chain([one_by_one]).collect();
    fs::write(folder.join("alert_rules.json"), json!({ "rules": rules }).to_string()).unwrap();
}

fn variables(secrets: &Secrets, place: &TempDir) -> Vec<(String, String)> {
    let path = place.path().join("token");
    fs::write(&path, format!("{}\n", secrets.token)).unwrap();
    vec![
        ("SHERATAN_HUB_TOKEN_FILE".into(), path.to_str().unwrap().into()),
        ("SHERATAN_RESULT_HMAC_KEY".into(), secrets.key.clone()),
        ("SHERATAN_ALERT_WEBHOOK_URL".into(), secrets.hook.clone()),
    ]
}

/// A secret as a path can carry it: as it is but for what no path has; all of it encoded; every other character
/// encoded.
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
            // A client may send another hub's token in any of these.
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

/// A secret that the hub does not know may stand where a payload, a query or a header is, which are never shown; and in
/// the path that it was presented along with.
fn plant_foreign(scene: &Scene) {
    let Scene { hub, secrets, .. } = scene;
    let foreign = &secrets.foreign;
    let token = || Some(secrets.token.clone());
    let (mut control, mut data) = (Client::new(hub.control, token()), Client::new(hub.data, token()));
    let heartbeat = json!({"node_id": "n", "labels": {foreign: foreign}, "endpoint": format!("http://u:{foreign}@h/")});
    control.post("/mesh/heartbeat", &heartbeat).ok();
    for answer in [result as fn(&Value, &str, &Value) -> Value, failure] {
        let submit = json!({"kind": "k", "params": {foreign: [foreign]}, "max_attempts": 1});
        data.post("/mesh/submit_request", &submit).ok();
        let job = data.post("/mesh/pull_requests", &json!({"node_id": "n"})).ok()["jobs"][0].clone();
        data.post("/mesh/submit_result", &answer(&job, "n", &json!({foreign: foreign}))).ok();
    }
    let query = &in_paths(foreign)[0];
    for path in ["/api/registry", "/mesh/jobs"] {
        control.get(&format!("{path}?kind={query}"));
        data.get(&format!("{path}?kind={query}"));
    }
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

fn check(mut secrets: Secrets) {
    let (place, folder) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (addr, posted) = receiver();
    secrets.hook = format!("http://{addr}/{}", secrets.hook);
    write_rules(folder.path());
    let options = Options { args: Vec::new(), env: variables(&secrets, &place) };
    let hub = Hub::start_in(folder, options);
    let streamed = listen(&hub, &secrets.token);
    let mut scene = Scene { hub, secrets, place, streamed, posted };
    for secret in scene.secrets.known() {
        plant(&scene, secret);
    }
    plant_foreign(&scene);
    until("the audit log has it", || {
        let count = |event: &str| {
            let lines = scene.hub.audit(event);
            lines.iter().map(|line| line["details"]["count"].as_u64().unwrap_or(1)).sum::<u64>()
        };
        let is_told = |place: &Mutex<Vec<u8>>| place.lock().unwrap().windows(6).any(|bytes| bytes == b"BURST_");
        is_told(&scene.streamed)
            && is_told(&scene.posted)
            && count("NODE_REGISTERED") == 5
            && count("PORT_MISMATCH") >= 30
            && count("IDEMPOTENCY_KEY_COLLISION") == 4
    });
    search(&scene);
    assert!(scene.hub.stop().success());
    search(&scene);
    let shown = scene.hub.audit("NODE_REGISTERED");
    let is_digest = |line: &&Value| line["details"]["node_id"].as_str().unwrap().contains("sha256:");
    assert_eq!(shown.iter().filter(is_digest).count(), 4, "{shown:?}");
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
    fn no_secret_is_shown_wherever_it_was_put(
        token in secret(), key in secret(), foreign in secret(), hook in "[a-zA-Z0-9]{24}",
    ) {
        check(Secrets { token, key, foreign, hook });
    }
}
