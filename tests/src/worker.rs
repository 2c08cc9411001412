//! A worker as a process; its output is written to files in a folder of its own.

use crate::hub::{Hub, command, until};
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command};
use tempfile::TempDir;

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    folder: TempDir,
}

impl Worker {
    /// A worker of this hub, once it is registered.
    pub fn start(hub: &Hub, args: &[&str]) -> Worker {
        let folder = hub.folder().to_str().expect("a temporary folder's path is text");
        let worker = Worker::begin(&[&["--data-dir", folder], args].concat(), &[]);
        worker.until_registered();
        worker
    }

    /// A worker of this hub that calls other addresses than the hub's, with the hub's token.
    pub fn through(hub: &Hub, control: SocketAddr, data: SocketAddr, args: &[&str]) -> Worker {
        let (control, data) = (control.to_string(), data.to_string());
        let args = [&["--control", &control, "--data", &data], args].concat();
        Worker::begin(&args, &[("SHERATAN_HUB_TOKEN", &hub.token())])
    }

    /// A worker with these arguments and variables, which may not be registered yet.
    pub fn begin(args: &[&str], variables: &[(&str, &str)]) -> Worker {
        let folder = TempDir::new().expect("a temporary folder");
        let mut command = command(&[&["worker", "--json"], args].concat());
        command.envs(variables.iter().copied()).current_dir(folder.path());
        Worker::spawn(command, folder)
    }

    /// A worker of a prepared command, whose files go to this folder.
    pub fn spawn(mut command: Command, folder: TempDir) -> Worker {
        let file = |name: &str| fs::File::create(folder.path().join(name)).expect("its folder takes a file");
        let child = command.stdout(file("stdout")).stderr(file("stderr")).spawn().expect("the binary starts");
        Worker { child, folder }
    }

    /// Waits until it has registered itself.
    #[track_caller]
    pub fn until_registered(&self) {
        until("the worker is registered", || !self.events("registered").is_empty());
    }

    /// The events of that name that it has printed.
    pub fn events(&self, event: &str) -> Vec<Value> {
        let text = self.said("stdout");
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["event"] == event).collect()
    }

    /// What it has written on `stdout` or `stderr`.
    pub fn said(&self, stream: &str) -> String {
        fs::read_to_string(self.folder.path().join(stream)).unwrap_or_default()
    }

    /// The files in its current folder, without its output.
    pub fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path()).expect("the folder exists");
        let paths = entries.map(|entry| entry.expect("it can be read").path());
        paths.filter(|path| !path.ends_with("stdout") && !path.ends_with("stderr")).collect()
    }

    /// Asks it to stop.
    pub fn interrupt(&self) {
        let pid = rustix::process::Pid::from_raw(self.pid() as i32).expect("a process has a number");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it was started here");
    }

    /// Its process' number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it was started here").is_some()
    }

    /// Waits until it ends; returns its exit code.
    #[track_caller]
    pub fn wait(&mut self) -> Option<i32> {
        until("the worker ends", || self.has_ended());
        self.child.wait().expect("it was started here").code()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended before; what matters is that it is not left behind.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
