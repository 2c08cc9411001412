//! Cast: the demo's hub and workers, as child processes that cannot outlive it.
//!
//! Each child runs this binary with a [lifeline](crate::cli::lifeline) on its standard input; its output is written to
//! a file. Dropping a [`Member`] kills it.

use crate::cli::failure::Failure;
use crate::client::{Access, Client, Credential, Endpoint};
use crate::hub_addr::HubAddr;
use crate::platform::process as platform;
use sheratan_io::token::Token;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a hub may take until it listens: longer than the recovery of a demo's journal.
const START_MAX: Duration = Duration::from_secs(30);

/// How long a child may take to stop after it was asked to; then it is killed.
const STOP_MAX: Duration = Duration::from_secs(10);

/// How often a child's state is polled: too short a delay for an operator to notice.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A child process.
pub struct Member {
    child: Child,
    log: PathBuf,
}

/// A hub that listens.
pub struct Hub {
    member: Member,
    addrs: HubAddr,
    data_dir: PathBuf,
}

/// The options of one of the demo's workers.
pub struct WorkerPlan<'a> {
    pub node: &'a str,
    /// The kind of jobs that it runs.
    pub kind: &'a str,
    pub lease_sec: u64,
    /// The program of its jobs and its arguments, run without a shell.
    pub program: &'a [OsString],
}

impl Member {
    fn start(arguments: &[&OsStr], log: PathBuf) -> Result<Self, Failure> {
        let cannot = |error| Failure::local(format_args!("{} cannot be started", arguments[0].display()), error);
        let binary = std::env::current_exe().map_err(cannot)?;
        let output = File::create(&log).map_err(cannot)?;
        let mut command = Command::new(binary);
        command.arg("--lifeline").args(arguments);
        // The operator's settings are for another hub.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SHERATAN_") {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::piped()).stdout(output.try_clone().map_err(cannot)?).stderr(output);
        // An interrupt of the terminal must reach the demo only, which stops its children itself.
        platform::in_own_group(&mut command);
        Ok(Member { child: command.spawn().map_err(cannot)?, log })
    }

    /// Kills the process, which cannot clean up.
    pub fn kill(&mut self) {
        // An error means that the process has exited already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks the process to stop; kills it after [`STOP_MAX`].
    pub fn stop(&mut self) {
        if platform::ask_to_stop(&self.child) {
            let asked = Instant::now();
            while asked.elapsed() < STOP_MAX {
                if !matches!(self.child.try_wait(), Ok(None)) {
                    return;
                }
                std::thread::sleep(POLL_INTERVAL);
            }
        }
        self.kill();
    }

    /// The exit status and the last lines of output, if the process has exited.
    fn exit_report(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        let output = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = output.lines().rev().take(5).collect();
        let lines: Vec<_> = lines.into_iter().rev().collect();
        Some(format!("it exited with {status}: {}", lines.join("\n")))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Hub {
    /// Starts a hub on free ports and waits until it listens.
    pub fn start(folder: &Path) -> Result<Self, Failure> {
        Self::start_with(folder, &[])
    }

    /// The same with these flags of `serve`.
    pub fn start_with(folder: &Path, flags: &[&str]) -> Result<Self, Failure> {
        Self::start_at(folder, "127.0.0.1:0", "127.0.0.1:0", flags)
    }

    /// Kills the hub, which cannot clean up.
    pub fn kill(&mut self) {
        self.member.kill();
    }

    /// Restarts a killed hub on the same data folder and addresses.
    pub fn restart(&mut self, folder: &Path) -> Result<(), Failure> {
        *self = Self::start_at(folder, &self.addrs.control.clone(), &self.addrs.data.clone(), &[])?;
        Ok(())
    }

    /// Asks the hub to stop; kills it after [`STOP_MAX`].
    pub fn stop(&mut self) {
        self.member.stop();
    }

    /// A client of this hub.
    pub fn client(&self) -> Result<Client, Failure> {
        let endpoint = |addr: &str| {
            let (url, origin) = (format!("http://{addr}"), "the demo".to_owned());
            Endpoint { url, origin, access: Access::Open }
        };
        let path = Token::path(&self.data_dir);
        let token = Token::read(&path).map_err(|error| Failure::Local(error.to_string()))?;
        let credential = Credential::new(token, path.display().to_string());
        Ok(Client::new(endpoint(&self.addrs.control), endpoint(&self.addrs.data), Ok(credential)))
    }

    /// Starts a worker of this hub.
    pub fn worker(&self, folder: &Path, plan: &WorkerPlan) -> Result<Member, Failure> {
        let lease_sec = plan.lease_sec.to_string();
        let exit = super::exec::EXIT_NO_INPUT.to_string();
        let words = [
            ("--node", plan.node),
            ("--kinds", plan.kind),
            ("--control", &self.addrs.control),
            ("--data", &self.addrs.data),
            ("--lease-sec", &lease_sec),
            ("--fatal-exit", &exit),
        ];
        let mut arguments = vec![OsStr::new("worker"), OsStr::new("--json")];
        arguments.extend(words.iter().flat_map(|(flag, value)| [OsStr::new(flag), OsStr::new(value)]));
        arguments.extend([OsStr::new("--data-dir"), self.data_dir.as_os_str(), OsStr::new("--")]);
        arguments.extend(plan.program.iter().map(OsString::as_os_str));
        Member::start(&arguments, folder.join(format!("{}.log", plan.node)))
    }

    fn start_at(folder: &Path, control: &str, data: &str, flags: &[&str]) -> Result<Self, Failure> {
        let data_dir = folder.join("data");
        let arguments = ["serve", "--control-addr", control, "--data-addr", data, "--data-dir"].map(OsStr::new);
        let flags: Vec<_> = flags.iter().map(OsStr::new).collect();
        let arguments = [&arguments[..], &[data_dir.as_os_str()], &flags].concat();
        let mut member = Member::start(&arguments, folder.join("hub.log"))?;
        let pid = member.child.id();
        let started = Instant::now();
        while started.elapsed() < START_MAX {
            // A killed hub leaves its file behind: wait for the new hub's, and until it has recovered.
            let addrs = HubAddr::read(&data_dir);
            if let Some(addrs) = addrs.filter(|addrs| addrs.pid == Some(pid) && addrs.ready) {
                return Ok(Hub { member, addrs, data_dir });
            }
            if let Some(report) = member.exit_report() {
                return Err(Failure::local("the demo's hub does not start", report));
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        Err(Failure::Local(format!("the demo's hub did not listen within {} s", START_MAX.as_secs())))
    }
}
