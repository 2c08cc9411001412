//! Clients on a bad day: proxies that answer for the hub, lines that are no JSON, outputs that cannot be written, tokens
//! that must stay at home.
#![cfg(unix)]
// The lists in `clippy.toml` are for the core.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};
use sheratan_tests::hub::{Options, Run, command, until};
use sheratan_tests::proxy::FAULTS;
use sheratan_tests::streams::{broken, with_input};
use sheratan_tests::{Hub, Proxy, Worker};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// A client command of this hub that calls another address of its data plane.
fn through(hub: &Hub, proxy: &Proxy, args: &[&str]) -> Command {
    let (control, data) = (hub.control.to_string(), proxy.addr.to_string());
    let mut command = command(&[args, &["--control", &control, "--data", &data]].concat());
    command.env("SHERATAN_HUB_TOKEN", hub.token());
    command
}

fn jobs(hub: &Hub, kind: &str) -> Vec<Value> {
    hub.data().get(&format!("/mesh/jobs?kind={kind}&limit=100")).ok()["jobs"]
        .as_array()
        .expect("a page of jobs")
        .clone()
}

/// An address where a stranger listens, and what it was sent.
fn stranger() -> (String, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("it listens").to_string();
    (addr, listen(listener))
}

fn listen(listener: TcpListener) -> Arc<Mutex<Vec<u8>>> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&heard);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut bytes) = (stream.expect("a connection"), [0; 4_096]);
            let count = stream.read(&mut bytes).unwrap_or(0);
            shared.lock().expect("no thread panics").extend_from_slice(&bytes[..count]);
            // It may have gone.
            _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\nConnection: close\r\n\r\n{\"ok\":true}");
        }
    });
    heard
}

/// A folder as a hub leaves it, with this mode.
fn data_folder(at: &Path, addr: &str, token: &str, mode: u32) {
    fs::create_dir_all(at.join("secrets")).unwrap();
    fs::write(at.join("secrets/hub_token"), token).unwrap();
    let pid = std::process::id();
    fs::write(at.join("hub.addr"), json!({"pid": pid, "control": addr, "data": addr, "ready": true}).to_string())
        .unwrap();
    fs::write(at.join("lock"), format!("{pid}\n")).unwrap();
    fs::set_permissions(at.join("secrets"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(at, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn each_line_is_one_job_whatever_a_proxy_answers_for_the_hub() {
    let hub = Hub::start();
    for (number, fault) in FAULTS.into_iter().enumerate() {
        let kind = format!("k{number}");
        let proxy = Proxy::to(hub.data);
        proxy.fail("submit_request", 2, fault);
        let run = with_input(through(&hub, &proxy, &["submit", &kind, "-"]), b"1\n2\n3\n");
        assert_eq!((run.code, jobs(&hub, &kind).len()), (Some(0), 3), "{fault:?}: {}", run.stderr);
        assert!(run.stderr.contains("3 submitted"), "{fault:?}: {}", run.stderr);
        proxy.fail("submit_request", 1, fault);
        let run = with_input(through(&hub, &proxy, &["submit", &kind, "4"]), b"");
        assert_eq!((run.code, jobs(&hub, &kind).len()), (Some(0), 4), "{fault:?}: {}", run.stderr);
    }
}

#[test]
fn a_wait_goes_on_whatever_a_proxy_answers_for_the_hub() {
    let hub = Hub::start();
    let _worker = Worker::start(&hub, &["--exec", "cat"]);
    for fault in FAULTS {
        let proxy = Proxy::to(hub.data);
        proxy.fail("/mesh/jobs/", 2, fault);
        let run = with_input(through(&hub, &proxy, &["submit", "k", "7", "--wait"]), b"");
        assert_eq!(run.code, Some(0), "{fault:?}: {}{}", run.stdout, run.stderr);
        assert_eq!(serde_json::from_str::<Value>(&run.stdout).unwrap()["result"], 7, "{fault:?}");
    }
}

#[test]
fn a_refusal_of_the_hubs_own_is_not_repeated() {
    let hub = Hub::start();
    let proxy = Proxy::to(hub.data);
    let mut submit = through(&hub, &proxy, &["submit", "k", "1"]);
    submit.env("SHERATAN_HUB_TOKEN", "not-this-hubs-token");
    let run = with_input(submit, b"");
    assert_eq!((run.code, proxy.asked("submit_request")), (Some(1), 1), "{}", run.stderr);
    assert!(run.stderr.contains("403 auth_failure"), "{}", run.stderr);
}

#[test]
fn one_bad_line_fails_alone_and_is_named() {
    let hub = Hub::start();
    let deep = |levels: usize| "[".repeat(levels).into_bytes().into_iter().chain("]".repeat(levels).into_bytes());
    let bad: [(&str, Vec<u8>); 8] = [
        ("a duplicate key", br#"{"a":1,"a":2}"#.to_vec()),
        ("half of a surrogate pair", br#"{"a":"\ud83d"}"#.to_vec()),
        ("128 levels", deep(128).collect()),
        ("200 levels", deep(200).collect()),
        ("bytes that are no UTF-8", b"\"\xff\"".to_vec()),
        ("a NUL", b"\"a\0b\"".to_vec()),
        ("no JSON", b"{a:1}".to_vec()),
        ("more than a request takes", [b"\"".to_vec(), vec![b'x'; 2 << 20], b"\"".to_vec()].concat()),
    ];
    for (number, (what, line)) in bad.into_iter().enumerate() {
        let kind = format!("k{number}");
        let lines: Vec<_> = (1..=10).map(|n| format!("{n}").into_bytes()).collect();
        let input = [&lines[..5], &[line], &lines[5..]].concat().join(&b'\n');
        let submit = || command(&["submit", &kind, "-", "--data-dir", hub.folder().to_str().unwrap()]);
        let run = with_input(submit(), &input);
        assert_eq!((run.code, jobs(&hub, &kind).len()), (Some(1), 10), "{what}: {}", run.stderr);
        assert!(run.stderr.contains("line 6: "), "{what}: {}", run.stderr);
        assert!(run.stderr.contains("10 submitted, 1 refused"), "{what}: {}", run.stderr);
    }
}

#[test]
fn a_byte_order_mark_and_line_ends_of_another_system_are_no_part_of_a_line() {
    let hub = Hub::start();
    let submit = command(&["submit", "k", "-", "--data-dir", hub.folder().to_str().unwrap()]);
    let run = with_input(submit, b"\xef\xbb\xbf{\"n\":1}\r\n{\"n\":2}\r\n\r\n");
    assert_eq!((run.code, jobs(&hub, "k").len()), (Some(0), 2), "{}", run.stderr);
}

#[test]
fn a_command_whose_output_is_unwanted_ends_quietly_and_one_that_cannot_write_it_says_so() {
    let hub = Hub::start();
    hub.control().ask("GET", "/api/registry", &[("X-Other", "1")]);
    until("the log has a line", || hub.log().contains("listening"));
    sheratan_tests::Client::new(hub.control, None).get("/api/registry");
    until("the audit log has a line", || !hub.audit("AUTH_FAILURE").is_empty());
    let folder = hub.folder().to_str().unwrap();
    for args in [
        &["audit", "tail"][..],
        &["audit", "tail", "-f", "--json"],
        &["audit", "query"],
        &["config"],
        &["journal", "verify"],
        &["watch", "--once", "--json"],
    ] {
        for is_full in [false, true] {
            let named: &[&str] = if args[0] == "config" { &[] } else { &["--data-dir", folder] };
            let mut command = command(&[args, named].concat());
            let output = command.stdout(broken(is_full)).stderr(Stdio::piped()).output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            // A watch without alerts prints nothing.
            let code = if is_full && args[0] != "watch" { 1 } else { 0 };
            assert_eq!(output.status.code(), Some(code), "{args:?}, full: {is_full}: {stderr}");
            assert_eq!(stderr.contains("standard output cannot be written"), code == 1, "{args:?}: {stderr}");
        }
        let mut command = command(&[args, &["--nonsense"]].concat());
        assert_eq!(command.stderr(broken(true)).status().unwrap().code(), Some(2), "{args:?}");
    }
}

#[test]
fn submit_goes_on_when_its_output_is_unwanted() {
    let hub = Hub::start();
    let lines: String = (0..50).map(|n| format!("{n}\n")).collect();
    for (number, is_full) in [false, true].into_iter().enumerate() {
        let kind = format!("k{number}");
        let mut submit = command(&["submit", &kind, "-", "--json", "--data-dir", hub.folder().to_str().unwrap()]);
        let mut child = submit.stdin(Stdio::piped()).stdout(broken(is_full)).stderr(broken(is_full)).spawn().unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(i32::from(is_full)));
        assert_eq!(jobs(&hub, &kind).len(), 50, "full: {is_full}");
    }
}

#[test]
fn a_hub_starts_and_runs_whatever_becomes_of_its_standard_error() {
    for is_full in [false, true] {
        let folder = TempDir::new().unwrap();
        let path = folder.path().to_str().unwrap();
        let args = [
            "serve",
            "--control-addr",
            "127.0.0.1:0",
            "--data-addr",
            "127.0.0.1:0",
            "--data-dir",
            path,
            "--log-file-bytes",
            "4096",
        ];
        let mut hub = command(&args).stdout(Stdio::null()).stderr(broken(is_full)).spawn().unwrap();
        let ready =
            || fs::read_to_string(folder.path().join("hub.addr")).is_ok_and(|addr| addr.contains("\"ready\":true"));
        until("it is ready, or has ended", || ready() || hub.try_wait().unwrap().is_some());
        // Its log file cannot be rotated any more either.
        until("a file is in the place of its logs, which it makes again while it can", || {
            fs::remove_dir_all(folder.path().join("logs")).unwrap_or_default();
            File::create(folder.path().join("logs")).is_ok()
        });
        let pid = rustix::process::Pid::from_raw(hub.id() as i32).unwrap();
        for _ in 0..40 {
            // A reload is a line of the log.
            _ = rustix::process::kill_process(pid, rustix::process::Signal::HUP);
            std::thread::yield_now();
        }
        let run = Run::from(command(&["submit", "k", "1", "--data-dir", path]).output().unwrap());
        assert_eq!(run.code, Some(0), "full: {is_full}: {}", run.stderr);
        assert!(hub.try_wait().unwrap().is_none(), "full: {is_full}");
        hub.kill().unwrap();
        hub.wait().unwrap();
    }
}

#[test]
fn a_token_does_not_go_to_an_address_that_the_current_folder_names() {
    let (addr, heard) = stranger();
    let folder = TempDir::new().unwrap();
    data_folder(&folder.path().join(".sheratan"), &addr, "t0ken-of-the-folder", 0o700);
    for lock in [false, true] {
        // Even a program that holds the lock as a hub does gets only the folder's own token.
        let held = File::open(folder.path().join(".sheratan/lock")).unwrap();
        if lock {
            held.lock().unwrap();
        }
        for args in [&["submit", "k", "1"][..], &["smoke"], &["worker", "--once", "--exec", "cat"]] {
            let mut command = command(args);
            command.current_dir(folder.path()).env("SHERATAN_HUB_TOKEN", "t0ken-of-the-user");
            // The default addresses are another's: what is sent there is not looked at here.
            command.env("SHERATAN_CONTROL_ADDR", if lock { "" } else { "127.0.0.1:1" }).stderr(Stdio::piped());
            if !lock && args[0] == "worker" {
                continue;
            }
            let output = command.output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{args:?}");
        }
    }
    let heard = String::from_utf8_lossy(&heard.lock().unwrap()).into_owned();
    assert!(!heard.contains("t0ken"), "{heard}");
}

#[test]
fn the_address_of_a_killed_hub_gets_nothing() {
    let mut hub = Hub::start();
    let token = hub.token();
    hub.kill();
    let heard = [hub.control, hub.data].map(|addr| listen(TcpListener::bind(addr).expect("its port is free again")));
    for own in [None, Some(token.as_str())] {
        for args in [&["submit", "k", "1"][..], &["smoke"]] {
            let mut command = command(&[args, &["--data-dir", hub.folder().to_str().unwrap()]].concat());
            command.envs(own.map(|token| ("SHERATAN_HUB_TOKEN", token)));
            let run = Run::from(command.output().unwrap());
            assert_eq!(run.code, Some(1), "{args:?}: {}", run.stderr);
            assert!(run.stderr.contains("no hub runs on"), "{args:?}: {}", run.stderr);
        }
    }
    assert!(heard.iter().all(|heard| heard.lock().unwrap().is_empty()));
}

#[test]
fn what_others_can_write_is_used_only_where_it_was_named() {
    let hub = Hub::start();
    let home = TempDir::new().unwrap();
    let link = home.path().join(".sheratan");
    symlink(hub.folder(), &link).unwrap();
    let submit = |args: &[&str]| {
        let mut command = command(&[&["submit", "k", "1"], args].concat());
        Run::from(command.current_dir(home.path()).output().unwrap())
    };
    assert_eq!(submit(&[]).code, Some(0), "{}", submit(&[]).stderr);
    for mode in [0o770, 0o702] {
        fs::set_permissions(hub.folder(), fs::Permissions::from_mode(mode)).unwrap();
        let run = submit(&[]);
        assert_eq!(run.code, Some(1));
        assert!(run.stderr.contains("can be written by others") && run.stderr.contains("--data-dir"), "{}", run.stderr);
        let run = submit(&["--data-dir", ".sheratan"]);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        assert!(run.stderr.contains("warning") && run.stderr.contains("can be written by others"), "{}", run.stderr);
    }
}

#[test]
fn a_hub_reads_settings_and_data_of_the_current_folder_only_if_no_other_can_write_them() {
    let home = TempDir::new().unwrap();
    let settings = home.path().join("hub.toml");
    fs::write(&settings, "max_queue_depth = 5\n").unwrap();
    let config = |args: &[&str]| {
        let mut command = command(&[&["config"], args].concat());
        Run::from(command.current_dir(home.path()).output().unwrap())
    };
    assert!(config(&[]).stdout.contains("hub.toml"));
    for (path, mode) in [(&*settings, 0o666), (home.path(), 0o777)] {
        let before = path.metadata().unwrap().permissions();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let run = config(&[]);
        assert_eq!(run.code, Some(2), "{}", run.stdout);
        assert!(run.stderr.contains("can be written by others") && run.stderr.contains("--config"), "{}", run.stderr);
        assert_eq!(config(&["--config", "hub.toml"]).code, Some(0), "it was named");
        fs::set_permissions(path, before).unwrap();
    }
    let folder = home.path().join(".sheratan");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let run = Run::from(command(&["serve"]).current_dir(home.path()).output().unwrap());
    assert_eq!(run.code, Some(2));
    assert!(run.stderr.contains(".sheratan can be written by others"), "{}", run.stderr);
}

#[test]
fn a_hub_says_which_settings_it_read() {
    let home = TempDir::new().unwrap();
    let settings = home.path().join("mine.toml");
    fs::write(&settings, "max_queue_depth = 5\n").unwrap();
    let hub = Hub::start_with(&["--config", settings.to_str().unwrap()]);
    until("it says where it listens", || hub.said().contains("try next"));
    assert!(hub.said().contains(settings.to_str().unwrap()), "{}", hub.said());
}

#[test]
fn a_secret_is_never_written_through_a_link() {
    let folder = TempDir::new().unwrap();
    let target = folder.path().join("target");
    fs::write(&target, "precious").unwrap();
    fs::create_dir(folder.path().join("secrets")).unwrap();
    symlink(&target, folder.path().join("secrets/hub_token.new")).unwrap();
    symlink(&target, folder.path().join("hub.addr.new")).unwrap();
    let hub = Hub::start_in(folder, Options::default());
    assert_eq!(fs::read_to_string(hub.folder().join("target")).unwrap(), "precious");
    let token = hub.folder().join("secrets/hub_token").symlink_metadata().unwrap();
    assert!(token.is_file() && token.permissions().mode() & 0o777 == 0o600);
}

#[test]
fn a_token_is_taken_without_what_a_shell_or_an_editor_put_around_it_and_else_named_with_its_source() {
    let hub = Hub::start();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("token");
    let token = hub.token();
    let submit = |variable: &str, value: &[u8]| {
        let (control, data) = (hub.control.to_string(), hub.data.to_string());
        let mut command = command(&["submit", "k", "1", "--control", &control, "--data", &data]);
        use std::os::unix::ffi::OsStrExt;
        Run::from(command.env(variable, std::ffi::OsStr::from_bytes(value)).output().unwrap())
    };
    let by_file = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        submit("SHERATAN_HUB_TOKEN_FILE", file.as_os_str().as_encoded_bytes())
    };
    for (before, after) in [("", "\n"), ("", "\r\n"), ("\u{feff}", ""), (" ", "\t"), ("", "\r")] {
        let text = format!("{before}{token}{after}");
        for run in [submit("SHERATAN_HUB_TOKEN", text.as_bytes()), by_file(text.as_bytes())] {
            assert_eq!(run.code, Some(0), "{before:?} {after:?}: {}", run.stderr);
        }
    }
    for bytes in [format!("{token}\nsecond\n").into_bytes(), b"\xff\xfea\x00b\x00".to_vec(), "tök".as_bytes().to_vec()]
    {
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let by_variable = (!bytes.contains(&0)).then(|| (submit("SHERATAN_HUB_TOKEN", &bytes), "SHERATAN_HUB_TOKEN"));
        for (run, source) in by_variable.into_iter().chain([(by_file(&bytes), file.to_str().unwrap())]) {
            assert_eq!(run.code, Some(1), "{shown:?}");
            assert!(run.stderr.contains(source) && !run.stderr.contains("no hub answers"), "{shown:?}: {}", run.stderr);
            assert!(
                !run.stderr.contains(&token) && !run.stderr.contains("may or may not"),
                "{shown:?}: {}",
                run.stderr
            );
        }
    }
}

#[test]
fn a_variable_that_is_set_and_empty_names_nothing() {
    let hub = Hub::start();
    let mut submit = command(&["submit", "k", "1", "--data-dir", hub.folder().to_str().unwrap()]);
    for name in ["SHERATAN_HUB_TOKEN", "SHERATAN_HUB_TOKEN_FILE", "SHERATAN_CONTROL_ADDR", "SHERATAN_DATA_ADDR"] {
        submit.env(name, "");
    }
    let run = Run::from(submit.output().unwrap());
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let mut tail = command(&["audit", "tail"]);
    let run = Run::from(tail.current_dir(hub.folder()).env("SHERATAN_DATA_DIR", "").output().unwrap());
    assert!(run.stderr.contains(".sheratan/logs"), "the default folder: {}", run.stderr);
}
