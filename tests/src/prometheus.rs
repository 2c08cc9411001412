//! A Prometheus and an Alertmanager as processes: on free ports and temporary data folders, asked by their HTTP APIs,
//! ended by their ids.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use tempfile::TempDir;

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus(Served);

/// A running Alertmanager.
#[derive(Debug)]
pub struct Alertmanager(Served);

/// A program of the Prometheus project that serves HTTP.
#[derive(Debug)]
struct Served {
    child: Child,
    addr: SocketAddr,
    _data: TempDir,
}

impl Prometheus {
    /// Starts the program with this configuration; waits until it listens.
    pub fn start(program: &Path, config: &Path) -> Prometheus {
        Prometheus(Served::start(program, config, "--storage.tsdb.path", &[]))
    }

    /// The samples that an expression has now: labels and value; none while Prometheus is not ready.
    pub fn query(&self, expression: &str) -> Vec<(Value, f64)> {
        let Some(answer) = self.api(&format!("query?query={}", percent_encoded(expression))) else { return Vec::new() };
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        let samples = answer["data"]["result"].as_array().cloned().unwrap_or_default();
        let value = |sample: &Value| sample["value"][1].as_str().and_then(|text| text.parse().ok());
        samples.iter().map(|sample| (sample["metric"].clone(), value(sample).expect("a sample has a value"))).collect()
    }

    /// What the API answers to a GET; nothing while Prometheus is not ready.
    pub fn api(&self, path: &str) -> Option<Value> {
        self.0.get(&format!("/api/v1/{path}"))
    }
}

impl Alertmanager {
    /// Starts the program, alone and without receivers; waits until it listens.
    pub fn start(program: &Path) -> Alertmanager {
        let folder = TempDir::new().expect("a temporary folder");
        let config = folder.path().join("alertmanager.yml");
        std::fs::write(&config, "route:\n  receiver: nobody\nreceivers:\n  - name: nobody\n").expect("it is written");
        Alertmanager(Served::start(program, &config, "--storage.path", &["--cluster.listen-address="]))
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.0.addr
    }

    /// The alerts that are firing.
    pub fn firing(&self) -> Vec<Value> {
        let alerts = self.0.get("/api/v2/alerts?active=true");
        alerts.and_then(|alerts| alerts.as_array().cloned()).unwrap_or_default()
    }
}

impl Served {
    fn start(program: &Path, config: &Path, data_flag: &str, more: &[&str]) -> Served {
        let data = TempDir::new().expect("a temporary folder");
        let mut command = Command::new(program);
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("{data_flag}={}", data.path().display())).args(more);
        // The program reports its port.
        command.arg("--web.listen-address=127.0.0.1:0");
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stderr.take().expect("it is a pipe")).lines().map_while(Result::ok);
        let mut said = Vec::new();
        let addr = lines.by_ref().find_map(|line| {
            let addr = line.split_once("\"Listening on\" address=").and_then(|(_, addr)| addr.trim().parse().ok());
            said.push(line);
            addr
        });
        // Read to the end, so that it never blocks on a full pipe.
        thread::spawn(move || lines.for_each(drop));
        let addr = addr.unwrap_or_else(|| panic!("it does not listen:\n{}", said.join("\n")));
        Served { child, addr, _data: data }
    }

    /// What it answers to a GET; nothing while it is not ready.
    fn get(&self, target: &str) -> Option<Value> {
        // As HTTP/1.0, to which Go answers in one piece.
        let mut stream = TcpStream::connect(self.addr).expect("it listens");
        write!(stream, "GET {target} HTTP/1.0\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        let is_ready = head.split(' ').nth(1) != Some("503");
        is_ready.then(|| serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended before; what matters is that it is not left behind.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
