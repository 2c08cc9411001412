//! Strangers: web pages, other machines' addresses, and environments and files that other programs made.
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::json;
use sheratan_tests::shim::Shim;
use sheratan_tests::{Client, Hub, Options, until};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A hub with these variables on a folder that `prepare` fills.
fn hub_with(env: &[(&str, &str)], args: &[&str], prepare: impl FnOnce(&Path)) -> Hub {
    let folder = TempDir::new().unwrap();
    prepare(folder.path());
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Hub::start_in(folder, Options { args: args.iter().map(|arg| (*arg).to_owned()).collect(), env })
}

/// Asks without a token and with these headers.
fn ask(addr: std::net::SocketAddr, request: &str, headers: &str) -> sheratan_tests::Response {
    let mut client = Client::new(addr, None);
    client.send(format!("{request} HTTP/1.1\r\n{headers}\r\n").as_bytes()).unwrap();
    client.receive().unwrap()
}

#[test]
fn a_web_page_of_another_site_gets_nothing_from_a_hub_that_needs_no_token() {
    let hub = hub_with(&[("SHERATAN_HUB_TOKEN_REQUIRED", "0")], &[], |_| {});
    let own = format!("Host: {}\r\n", hub.data);
    let body = r#"{"kind":"k"}"#;
    let length = body.len();
    let submit = |headers: &str| {
        let mut client = Client::new(hub.data, None);
        let head = format!("POST /mesh/submit_request HTTP/1.1\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
        client.send(head.as_bytes()).unwrap();
        client.receive().unwrap()
    };
    submit(&own).ok();
    for foreign in [
        "Host: evil.example\r\n".to_owned(),
        format!("{own}Origin: https://evil.example\r\n"),
        format!("{own}Origin: null\r\n"),
        format!("{own}Sec-Fetch-Site: cross-site\r\n"),
    ] {
        for refused in [
            submit(&foreign),
            ask(hub.data, "GET /mesh/pull_requests/x?max=1000", &foreign),
            ask(hub.data, "GET /mesh/jobs", &foreign),
            ask(hub.control, "GET /health", &foreign),
        ] {
            assert_eq!((refused.status, refused.error().as_str()), (403, "foreign_origin"), "{foreign}");
        }
        assert_eq!(ask(hub.data, "GET /livez", &foreign).status, 200, "a probe may use any name");
    }
    let jobs = ask(hub.data, "GET /mesh/jobs", &own).ok()["jobs"].clone();
    assert_eq!((jobs.as_array().unwrap().len(), &jobs[0]["status"]), (1, &json!("queued")));
    let page = format!("{own}Sec-Fetch-Site: same-origin\r\nOrigin: http://localhost:{}\r\n", hub.control.port());
    submit(&page).ok();
    until("the refusals are in the audit log", || hub.audit("FOREIGN_ORIGIN").len() == 16);
    let details = hub.audit("FOREIGN_ORIGIN")[0]["details"].clone();
    assert_eq!(details, json!({"path": "/mesh/submit_request", "ip": "127.0.0.1", "header": "Host"}));
}

#[test]
fn with_the_token_any_name_is_right_and_without_it_public_paths_need_ours() {
    let hub = Hub::start_with(&["--host-names", "hub.example"]);
    let foreign = "Host: evil.example\r\nOrigin: https://evil.example\r\nSec-Fetch-Site: cross-site\r\n";
    let token = format!("X-Sheratan-Token: {}\r\n", hub.token());
    for (addr, path) in
        [(hub.control, "/health"), (hub.data, "/health"), (hub.control, "/metrics"), (hub.data, "/metrics")]
    {
        let request = format!("GET {path}");
        assert_eq!(ask(addr, &request, foreign).status, 403, "{path}");
        assert_eq!(ask(addr, &request, &format!("{foreign}{token}")).status, 200, "{path}");
        assert_eq!(ask(addr, &request, "Host: hub.example\r\n").status, 200, "{path}");
    }
    assert_eq!(ask(hub.data, "GET /mesh/jobs", &format!("{foreign}{token}")).status, 200);
    assert_eq!(ask(hub.data, "GET /mesh/jobs", foreign).error(), "auth_failure");
}

#[test]
fn no_reply_is_guessed_at_or_kept() {
    let hub = Hub::start();
    for (addr, path) in
        [(hub.control, "/health"), (hub.data, "/metrics"), (hub.data, "/mesh/jobs"), (hub.data, "/registry")]
    {
        let reply = Client::new(addr, None).get(path);
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{path}");
    }
}

#[test]
fn a_node_whose_name_has_quotes_breaks_nobodys_json() {
    let hub = hub_with(&[], &[], |_| ());
    let name = "a \"quoted\" \\ node";
    hub.control().post("/mesh/heartbeat", &json!({"node_id": name, "zone": "\"z\""})).ok();
    let registry = hub.control().get("/api/registry").ok();
    assert_eq!(registry["nodes"][name]["zone"], "\"z\"", "{registry}");
    let job = json!({"kind": "\"k\"", "requires": ["\"c\""]});
    let job = hub.data().post("/mesh/submit_request", &job).ok();
    let path = format!("/mesh/jobs/{}/explain", job["job_id"].as_str().unwrap());
    let explained = hub.data().get(&path).ok();
    assert_eq!(explained["reasons"][0]["code"], "no_node", "{explained}");
    hub.data().get("/mesh/kinds").ok();
}

#[test]
fn on_a_dual_stack_address_this_machine_is_this_machine() {
    let env = [("SHERATAN_HUB_TOKEN", "a-token-of-the-test")];
    let hub = hub_with(&env, &["--control-addr", "[::]:0", "--data-addr", "[::]:0"], |_| {});
    for ip in ["127.0.0.1", "::1"] {
        let addr = (ip.parse::<std::net::IpAddr>().unwrap(), hub.data.port()).into();
        for path in ["/metrics", "/health"] {
            assert_eq!(Client::new(addr, None).get(path).status, 200, "{ip} {path}");
        }
        let wrong = || Client::new(addr, Some("wrong".into())).get("/mesh/jobs").status;
        assert_eq!(
            (0..70).map(|_| wrong()).filter(|status| *status != 403).count(),
            0,
            "{ip} is exempt from the limit"
        );
    }
    until("the failures are in the audit log", || {
        hub.audit("AUTH_FAILURE").iter().any(|line| line["details"]["ip"] == "127.0.0.1")
    });
    assert!(hub.audit("AUTH_FAILURE").iter().all(|line| !line["details"]["ip"].as_str().unwrap().contains("ffff")));
    assert!(hub.said().contains("plain HTTP") || hub.log().contains("plain HTTP"), "{}", hub.said());
}

#[test]
fn a_limit_of_failures_that_is_set_holds_for_this_machine_too() {
    let hub = Hub::start_with(&["--auth-fail-limit", "3"]);
    let wrong = || Client::new(hub.data, Some("wrong".into())).get("/mesh/jobs").status;
    assert_eq!([wrong(), wrong(), wrong(), wrong()], [403, 403, 403, 429]);
}

#[test]
fn a_hub_starts_beside_variables_of_other_programs_and_with_files_of_other_systems() {
    let env = [
        ("SHERATAN_HUB_PORT", "tcp://10.0.0.7:8787"),
        ("SHERATAN_HUB_SERVICE_HOST", "10.0.0.7"),
        ("SHERATAN_HUB_PORT_8787_TCP_ADDR", "10.0.0.7"),
        ("SHERATAN_CORE_URL", "x"),
        ("SHERATAN_MAX_QUEUE_DEPTH", "\"1\"\r"),
        ("SHERATAN_MAX_INFLIGHT", ""),
        ("SHERATAN_NODE_TTL", "5"),
        ("SHERATAN_BACKPRESSURE_MODE", "defer"),
    ];
    let hub = hub_with(&env, &[], |folder| {
        fs::write(folder.join("alert_rules.json"), "\u{feff}{\"rules\":[]}\r\n").unwrap();
        fs::create_dir(folder.join("secrets")).unwrap();
        fs::write(folder.join("secrets/hub_token"), "\u{feff}a-token-of-the-test\r\n").unwrap();
    });
    let data = || Client::new(hub.data, Some("a-token-of-the-test".into()));
    data().post("/mesh/submit_request", &json!({"kind": "k"})).ok();
    assert_eq!(data().post("/mesh/submit_request", &json!({"kind": "k"})).status, 503, "one job, and defer is 503");
    until("the near miss is logged", || hub.log().contains("did you mean SHERATAN_NODE_TTL_SEC?"));
    assert_eq!(hub.log().matches("is none of the hub's").count(), 1, "the others are not a word");
}

/// On mounts that do not let permissions be changed the hub's own token is there and right.
#[cfg(target_os = "linux")]
#[test]
fn a_token_whose_permissions_cannot_be_changed_is_used_with_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let Some(shim) = Shim::build() else { return };
    for errno in [1, 30, 95] {
        let env = shim.unchangeable(errno);
        let env: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let hub = hub_with(&env, &[], |folder| {
            fs::create_dir(folder.join("secrets")).unwrap();
            let path = folder.join("secrets/hub_token");
            fs::write(&path, "a-token-of-the-test").unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        });
        assert_eq!(hub.data().get("/mesh/jobs").status, 200, "errno {errno}");
        until("the warning is logged", || hub.log().contains("does not let the hub change that"));
    }
}

#[test]
fn jobs_get_the_hubs_time_to_live_and_keys_are_left_alone_where_the_operator_says_so() {
    let env = [("SHERATAN_QUEUE_ITEM_TTL_SEC", "3600"), ("SHERATAN_IDEMPOTENCY_ENABLED", "0")];
    let hub = hub_with(&env, &[], |_| {});
    let mut data = hub.data();
    let mut submit = |ttl: Option<u64>| {
        let body = json!({"kind": "k", "idempotency_key": "order-1", "ttl_sec": ttl});
        let answer = data.post("/mesh/submit_request", &body).ok();
        assert_eq!((&answer["dedup"], &answer["status"]), (&json!(false), &json!("accepted")));
        answer["job_id"].as_str().unwrap().to_owned()
    };
    let jobs = [submit(None), submit(Some(7))];
    assert_ne!(jobs[0], jobs[1], "a key means nothing here");
    let lives = |id: &String| {
        let job = hub.data().get(&format!("/mesh/jobs/{id}")).ok()["job"].clone();
        let ms = |member: &str| {
            let text = job[member].as_str().unwrap_or_else(|| panic!("{member}: {job}")).to_owned();
            text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
        };
        ms("expires_utc") - ms("submitted_utc")
    };
    assert_eq!(jobs.each_ref().map(lives), [3_600_000, 7_000]);
}

#[test]
fn a_short_token_starts_where_the_operator_allows_it_and_is_said_everywhere() {
    let env = [("SHERATAN_HUB_TOKEN", "12345678"), ("SHERATAN_HUB_TOKEN_BYTES_MIN", "8")];
    let hub = hub_with(&env, &["--data-addr", "0.0.0.0:0"], |_| {});
    until("the audit log has it", || !hub.audit("TOKEN_SHORT").is_empty());
    assert_eq!(hub.audit("TOKEN_SHORT")[0]["details"], json!({"bytes": 8, "bytes_min": 16}));
    until("the log warns", || {
        hub.log().contains("the token has 8 bytes") || hub.said().contains("the token has 8 bytes")
    });
    let metrics = Client::new(hub.control, Some("12345678".into())).ask("GET", "/metrics", &[("Accept", "text/plain")]);
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    assert!(text.contains("sheratan_hub_token_is_short 1\n"), "{text}");
}

#[test]
fn a_data_folder_that_is_none_is_named_with_what_is_in_the_way() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::os::unix::fs::symlink("/nowhere", path("link")).unwrap();
    fs::write(path("file"), "").unwrap();
    for (data, said) in [
        (path("link"), "link is a link to /nowhere, which does not exist"),
        (path("file"), "file is a file, not a folder"),
        (path("file/data"), "file is a file, not a folder"),
    ] {
        let run = sheratan_tests::run(&["serve", "--data-dir", data.to_str().unwrap()]);
        assert_eq!(run.code, Some(1));
        assert!(run.stderr.contains(said) && run.stderr.contains("--data-dir"), "{}", run.stderr);
    }
}
