//! Reload at SIGHUP while the hub runs: the alert rules and the log's level. All other settings hold until the next
//! start. A setting that cannot be read keeps its value.

use crossbeam_channel::Sender;
use sheratan_core::alerts::Alerts;
use sheratan_io::alerts;
use sheratan_io::alerts::rules::{self, RulesError};
use sheratan_io::config::{Config, Flags};
use sheratan_io::logs::Level;
use std::path::{Path, PathBuf};

/// The state that a reload needs.
pub struct Reload {
    /// The flags of the start, which win over the environment and the file.
    pub flags: Flags,
    /// The data folder, which does not change.
    pub data_dir: PathBuf,
    /// The log's level.
    pub level: Level,
    /// Sends rules to the loop.
    pub rules: Sender<Alerts>,
}

/// The rules of the named file, else of the data folder's file if it exists, else the built-in ones.
pub fn read_rules(config: &Config, data_dir: &Path) -> Result<Alerts, RulesError> {
    match &config.alert_rules_file {
        Some(path) => rules::read(path),
        None => rules::read_if_there(&alerts::rules_path(data_dir)),
    }
}

impl Reload {
    /// Reloads.
    pub fn run(&self) {
        let config = match Config::load(&self.flags) {
            Ok(config) => config,
            Err(error) => return tracing::error!("SIGHUP: everything stays as it was: {error}"),
        };
        match self.level.set(&config.logs.level) {
            Ok(()) => tracing::info!(log_level = config.logs.level, "SIGHUP: the log's level was read again"),
            Err(error) => tracing::error!("SIGHUP: the log's level stays: {error}"),
        }
        match read_rules(&config, &self.data_dir) {
            Ok(alerts) => {
                tracing::info!(rules = alerts.rules().count(), "SIGHUP: the alert rules were read again");
                // A full channel means that rules that were read a moment ago are queued already.
                _ = self.rules.try_send(alerts);
            }
            Err(error) => tracing::error!("SIGHUP: the rules before stay: {error}"),
        }
    }
}
