//! The hub under test: one that runs already, or a process of our own on a fresh data folder.

use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::platform;
use serde_json::Value;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Where the hub under test is, or how to start it.
#[derive(clap::Args, Debug)]
#[group(id = "hub_under_test")]
pub struct Settings {
    /// The program of the hub to start [default: sheratan-hub beside this program].
    #[arg(long, value_name = "PATH", conflicts_with = "addr")]
    hub: Option<PathBuf>,
    /// A hub that runs already: its control and its data address.
    #[arg(long, value_name = "CONTROL,DATA", value_parser = parse_planes, requires_all = ["token_file", "dir"])]
    addr: Option<Planes>,
    /// The file with that hub's token.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Where the data folder is made and the disk's pace is measured; on a disk. With --addr: that hub's data folder
    /// [default: the folder of this program].
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

impl Settings {
    /// The same with another program.
    pub fn with_program(&self, hub: &Path) -> Self {
        Settings { hub: Some(hub.to_path_buf()), addr: None, token_file: None, dir: self.dir.clone() }
    }

    /// A process of our own.
    pub fn of_our_own(hub: Option<PathBuf>, dir: Option<PathBuf>) -> Self {
        Settings { hub, addr: None, token_file: None, dir }
    }
}

/// The addresses of a hub.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Planes {
    data: SocketAddr,
}

/// A hub that listens.
pub struct Hub {
    /// Its data plane.
    pub data: SocketAddr,
    /// Its token.
    pub token: String,
    /// A folder on its disk.
    pub folder: PathBuf,
    own: Option<Own>,
}

/// A hub's process that we started.
struct Own {
    child: Child,
    output: PathBuf,
    /// Removed with the hub.
    _folder: TempDir,
}

/// How long a hub may take to come up on an empty folder, and to stop.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a process is polled for its start or end.
const ASK_EVERY: Duration = Duration::from_millis(10);
/// How much of the hub's output a failure shows.
const OUTPUT_BYTES_SHOWN: usize = 2_000;

impl Hub {
    /// The hub of the settings; a process of our own is ready when this returns.
    pub fn find_or_start(settings: &Settings, interrupt: &Interrupt) -> Result<Hub, Failure> {
        match (&settings.addr, &settings.token_file, &settings.dir) {
            (Some(planes), Some(token_file), Some(folder)) => {
                refuse_memory(folder)?;
                let token = read_token(token_file)?;
                Ok(Hub { data: planes.data, token, folder: folder.clone(), own: None })
            }
            _ => start(settings, &[], interrupt),
        }
    }

    /// Starts a process of our own with these settings of the hub.
    pub fn start_with(settings: &Settings, env: &[(&str, &str)], interrupt: &Interrupt) -> Result<Hub, Failure> {
        start(settings, env, interrupt)
    }

    /// The process id, if it is our own.
    pub fn pid(&self) -> Option<u32> {
        self.own.as_ref().map(|own| own.child.id())
    }

    /// Stops a process of our own, which has to exit with success.
    pub fn stop(mut self) -> Result<(), Failure> {
        let Some(own) = &mut self.own else { return Ok(()) };
        platform::ask_to_stop(&mut own.child).map_err(Failure::system("ask the hub to stop"))?;
        match own.wait(PATIENCE)? {
            Some(status) if status.success() || cfg!(not(unix)) => Ok(()),
            Some(status) => Err(own.failure(format!("did not end well when asked to stop: {status}"))),
            None => Err(own.failure(format!("did not stop within {} s", PATIENCE.as_secs()))),
        }
    }
}

fn start(settings: &Settings, env: &[(&str, &str)], interrupt: &Interrupt) -> Result<Hub, Failure> {
    let here = std::env::current_exe().map_err(Failure::system("find this program"))?;
    let here = here.parent().expect("a program lies in a folder");
    let program =
        settings.hub.clone().unwrap_or_else(|| here.join(format!("sheratan-hub{}", std::env::consts::EXE_SUFFIX)));
    if !program.is_file() {
        return Err(Failure::NoHub(program));
    }
    let parent = settings.dir.as_deref().unwrap_or(here);
    refuse_memory(parent)?;
    let folder = tempfile::Builder::new()
        .prefix("sheratan-bench-")
        .tempdir_in(parent)
        .map_err(Failure::system(format!("create a folder in {}", parent.display())))?;
    let data_dir = folder.path().join("data");
    let output = folder.path().join("output");
    let mut own = Own { child: spawn(&program, env, &data_dir, &output)?, output, _folder: folder };
    let data = own.wait_until_up(&data_dir, interrupt)?;
    let token = read_token(&data_dir.join("secrets").join("hub_token"))?;
    Ok(Hub { data, token, folder: data_dir, own: Some(own) })
}

fn spawn(program: &Path, env: &[(&str, &str)], data_dir: &Path, output: &Path) -> Result<Child, Failure> {
    let file = File::create(output).map_err(Failure::system(format!("create {}", output.display())))?;
    let again = file.try_clone().map_err(Failure::system("share the output's file"))?;
    let mut command = Command::new(program);
    command.arg("serve").args(["--control-addr", "127.0.0.1:0", "--data-addr", "127.0.0.1:0", "--data-dir"]);
    command.arg(data_dir).stdin(Stdio::null()).stdout(file).stderr(again);
    // The figure is that of the defaults: the hub gets no settings or tokens from the environment of the run.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SHERATAN_") {
            command.env_remove(name);
        }
    }
    command.envs(env.iter().copied());
    command.spawn().map_err(Failure::system(format!("start {}", program.display())))
}

impl Own {
    /// Waits for the file that the hub writes when it is ready; returns the data plane's address.
    fn wait_until_up(&mut self, data_dir: &Path, interrupt: &Interrupt) -> Result<SocketAddr, Failure> {
        let path = data_dir.join("hub.addr");
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            interrupt.check()?;
            if let Some(status) = self.wait(Duration::ZERO)? {
                return Err(self.failure(format!("ended before it listened: {status}")));
            }
            // A file that is missing or incomplete is read again.
            let whole = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
            if let Some(value) = whole.filter(|value| value["ready"] == true) {
                return read_address(&value, self.child.id()).map_err(Failure::HubAddress);
            }
            sleep(ASK_EVERY);
        }
        Err(self.failure(format!("did not listen within {} s", PATIENCE.as_secs())))
    }

    /// Waits for the end of the process.
    fn wait(&mut self, patience: Duration) -> Result<Option<ExitStatus>, Failure> {
        let start = Instant::now();
        loop {
            let status = self.child.try_wait().map_err(Failure::system("ask for the hub's state"))?;
            if status.is_some() || start.elapsed() >= patience {
                return Ok(status);
            }
            sleep(ASK_EVERY);
        }
    }

    fn failure(&self, what: String) -> Failure {
        let output = fs::read(&self.output).unwrap_or_default();
        let end = &output[output.len().saturating_sub(OUTPUT_BYTES_SHOWN)..];
        Failure::Hub { what, output: String::from_utf8_lossy(end).into_owned() }
    }
}

/// A run that failed leaves no hub behind.
impl Drop for Own {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // Both fail only if the process has ended, which is the goal.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Parses `control,data`. The load uses the data plane; the control plane's address is only checked.
fn parse_planes(text: &str) -> Result<Planes, String> {
    let (control, data) = text.split_once(',').ok_or("give both addresses: CONTROL,DATA")?;
    let parse =
        |text: &str| text.parse::<SocketAddr>().map_err(|_| format!("{text} is no address such as 127.0.0.1:8788"));
    parse(control)?;
    Ok(Planes { data: parse(data)? })
}

/// Reads `{"pid":…,"control":"…","data":"…"}`; the data plane's address.
fn read_address(value: &Value, pid: u32) -> Result<SocketAddr, String> {
    if value["pid"].as_u64() != Some(u64::from(pid)) {
        return Err(format!("its pid is {}, not {pid}", value["pid"]));
    }
    let text = value["data"].as_str().ok_or("it has no member \"data\"")?;
    text.parse().map_err(|error| format!("{text} is no address: {error}"))
}

pub fn read_token(path: &Path) -> Result<String, Failure> {
    let text = fs::read_to_string(path).map_err(Failure::system(format!("read the token in {}", path.display())))?;
    Ok(text.trim().to_owned())
}

fn refuse_memory(folder: &Path) -> Result<(), Failure> {
    let is_in_memory = platform::is_in_memory(folder);
    match is_in_memory.map_err(Failure::system(format!("look at the file system of {}", folder.display())))? {
        true => Err(Failure::FolderInMemory(folder.to_owned())),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_address_is_read_only_from_the_file_of_our_own_process() {
        let value = json!({"pid": 7, "control": "127.0.0.1:1", "data": "127.0.0.1:2"});
        assert_eq!(read_address(&value, 7), Ok(SocketAddr::from(([127, 0, 0, 1], 2))));
        assert_eq!(read_address(&value, 8), Err("its pid is 7, not 8".into()));
        assert!(read_address(&json!({"pid": 7}), 7).is_err());
        assert!(read_address(&json!({"pid": 7, "data": "nowhere"}), 7).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_hub_that_ends_at_once_is_a_failure_with_its_output() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a folder on a disk");
        let settings =
            Settings { hub: Some("/bin/ls".into()), addr: None, token_file: None, dir: Some(folder.path().to_owned()) };
        let Err(failure) = Hub::find_or_start(&settings, &Interrupt::default()) else { panic!("ls is no hub") };
        let text = failure.to_string();
        assert!(text.contains("ended before it listened") && text.contains("ls:"), "{text}");
        assert_eq!(fs::read_dir(folder.path()).expect("it is there").count(), 0, "nothing is left behind");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let settings = Settings { hub: Some("/nowhere/sheratan-hub".into()), addr: None, token_file: None, dir: None };
        let Err(failure) = Hub::find_or_start(&settings, &Interrupt::default()) else { panic!("there is none") };
        assert!(failure.to_string().contains("/nowhere/sheratan-hub"), "{failure}");
    }
}
