//! The subject: which hub is diagnosed, and which of its parts are available: the hub, its data folder, both, or
//! neither.

use super::Args;
use super::secrets;
use crate::client::{Client, Plane};
use sheratan_core::Hub;
use sheratan_io::config::{Config, ConfigError, Flags};
use sheratan_io::journal::{self, VerifyReport};
use sheratan_io::redact::Redactor;
use std::cell::OnceCell;
use std::path::{Path, PathBuf};

/// The subject's parts.
pub struct Subject {
    /// The hub, if it answers; else why it is not called.
    pub hub: Result<Client, String>,
    /// The settings of a hub that is started here.
    pub config: Result<Config, ConfigError>,
    /// The data folder's path, which need not exist.
    pub data_dir: PathBuf,
    /// Redacts all secrets of this process.
    pub redactor: Redactor,
    /// The journal, once it was read.
    journal: OnceCell<Result<Journal, String>>,
}

/// A journal that was read.
pub struct Journal {
    /// The findings.
    pub report: VerifyReport,
    /// The hub that a replay ended with.
    pub hub: Option<Hub>,
}

impl Subject {
    /// Finds the available parts. Calls only the hub, and waits for no lock.
    pub fn find(args: &Args) -> Self {
        let mut flags = Flags { config: args.config.clone(), settings: Vec::new() };
        let is_folder_named = args.target.is_folder_named();
        if is_folder_named {
            flags.settings.push(("data_dir", args.target.data_dir().display().to_string()));
        }
        let config = Config::load(&flags);
        let mut target = args.target.clone();
        if let (false, Ok(config)) = (is_folder_named, &config) {
            target.data_dir = Some(config.data_dir.clone()).filter(|folder| folder != target.data_dir());
        }
        let client = target.client().map_err(|error| error.to_string());
        let redactor = secrets::redactor(&flags, &target, client.as_ref().ok());
        let is_named = target.control.is_some() || target.data.is_some();
        let hub = client.and_then(|client| reach(client, is_named, target.data_dir()));
        let data_dir = target.data_dir().to_owned();
        Subject { hub, config, data_dir, redactor, journal: OnceCell::new() }
    }

    /// A description of the hub.
    pub fn hub_state(&self) -> String {
        match &self.hub {
            Ok(client) => format!("up, at {}", client.endpoint(Plane::Control).url),
            Err(reason) => format!("down: {reason}"),
        }
    }

    /// The data folder, if it exists.
    pub fn folder(&self) -> Result<&Path, String> {
        if self.data_dir.is_dir() {
            Ok(&self.data_dir)
        } else {
            Err(format!("there is no data folder {}", self.data_dir.display()))
        }
    }

    /// The journal. It is replayed only if no hub runs, since a replay needs as much memory and disk time as a hub.
    pub fn journal(&self) -> Result<&Journal, String> {
        let read = || {
            let folder = self.folder()?;
            let read = if journal::is_in_use(folder) {
                journal::verify(folder, false).map(|report| Journal { report, hub: None })
            } else {
                journal::inspect(folder).map(|(report, hub)| Journal { report, hub })
            };
            read.map_err(|error| error.to_string())
        };
        self.journal.get_or_init(read).as_ref().map_err(Clone::clone)
    }
}

/// The hub, if it answers. If no hub runs on the folder, its hub is down: a server at the default address is another
/// hub, whose replies must not be mixed with this one's files.
fn reach(client: Client, is_named: bool, data_dir: &Path) -> Result<Client, String> {
    if !is_named && data_dir.is_dir() && !journal::is_in_use(data_dir) {
        return Err(format!("no hub runs on {}", data_dir.display()));
    }
    let ask = |plane| client.fetch(plane, "/health", "application/json").map_err(|error| error.summary());
    match ask(Plane::Control).or_else(|reason| ask(Plane::Data).map_err(|_| reason)) {
        Ok(_) => Ok(client),
        Err(reason) => Err(reason),
    }
}
