//! The subject: which hub is diagnosed, and what of it can be looked at: the hub itself, its data folder, both, or neither.

use super::Args;
use super::secrets;
use crate::client::{Client, Plane};
use crate::config::{Config, ConfigError, Flags};
use crate::journal::{self, VerifyReport};
use crate::redact::Redactor;
use sheratan_core::Hub;
use std::cell::OnceCell;
use std::path::{Path, PathBuf};

/// What the data folder is called where nobody says.
const DATA_DIR_DEFAULT: &str = ".sheratan";

/// What is looked at.
pub struct Subject {
    /// The hub, if it answers; else why it is not asked.
    pub hub: Result<Client, String>,
    /// The settings of a hub that is started here.
    pub config: Result<Config, ConfigError>,
    /// The data folder, whether it is there or not.
    pub data_dir: PathBuf,
    /// Knows all secrets of this process.
    pub redactor: Redactor,
    /// The journal, once it was read.
    journal: OnceCell<Result<Journal, String>>,
}

/// A journal that was read.
pub struct Journal {
    /// What was found.
    pub report: VerifyReport,
    /// The hub that a replay ended with.
    pub hub: Option<Hub>,
}

impl Subject {
    /// Finds out what there is. Asks nobody but the hub, and waits for no lock.
    pub fn find(args: &Args) -> Self {
        let mut flags = Flags { config: args.config.clone(), settings: Vec::new() };
        let is_folder_named = args.target.data_dir != Path::new(DATA_DIR_DEFAULT);
        if is_folder_named {
            flags.settings.push(("data_dir", args.target.data_dir.display().to_string()));
        }
        let config = Config::load(&flags);
        let mut target = args.target.clone();
        if let (false, Ok(config)) = (is_folder_named, &config) {
            target.data_dir.clone_from(&config.data_dir);
        }
        let client = target.client().map_err(|error| error.to_string());
        let redactor = secrets::redactor(&flags, &target, client.as_ref().ok());
        let is_named = target.control.is_some() || target.data.is_some();
        let hub = client.and_then(|client| reach(client, is_named, &target.data_dir));
        Subject { hub, config, data_dir: target.data_dir, redactor, journal: OnceCell::new() }
    }

    /// The hub, in words.
    pub fn hub_state(&self) -> String {
        match &self.hub {
            Ok(client) => format!("up, at {}", client.endpoint(Plane::Control).url),
            Err(reason) => format!("down: {reason}"),
        }
    }

    /// The data folder, if it is there.
    pub fn folder(&self) -> Result<&Path, String> {
        if self.data_dir.is_dir() {
            Ok(&self.data_dir)
        } else {
            Err(format!("there is no data folder {}", self.data_dir.display()))
        }
    }

    /// The journal. Replayed only where no hub runs: it would take the memory and the disk of one that does.
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

/// The hub, if it answers. A folder that no hub runs on is one whose hub is down: what listens at the default address then
/// is another hub, and its answers must not be mixed with this one's files.
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
