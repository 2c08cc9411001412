//! What is read again while the hub runs, at SIGHUP: the alert rules and the log's level. All other settings hold until the
//! next start. What cannot be read leaves what was there before.

use crate::alerts;
use crate::alerts::rules::{self, RulesError};
use crate::config::{Config, Flags};
use crate::logs::Level;
use crossbeam_channel::Sender;
use sheratan_core::alerts::Alerts;
use std::path::{Path, PathBuf};

/// What it takes to read again.
pub struct Reload {
    /// The flags of the start, which go before what the file and the environment say.
    pub flags: Flags,
    /// The data folder, which stays.
    pub data_dir: PathBuf,
    /// The log's level.
    pub level: Level,
    /// Where the loop takes rules from.
    pub rules: Sender<Alerts>,
}

/// The rules in the file that is named, else in the data folder's if it is there, else the built-in ones.
pub fn read_rules(config: &Config, data_dir: &Path) -> Result<Alerts, RulesError> {
    match &config.alert_rules_file {
        Some(path) => rules::read(path),
        None => rules::read_if_there(&alerts::rules_path(data_dir)),
    }
}

impl Reload {
    /// Reads again.
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
                // A full channel: rules that were read a moment ago wait already.
                _ = self.rules.try_send(alerts);
            }
            Err(error) => tracing::error!("SIGHUP: the rules before stay: {error}"),
        }
    }
}
