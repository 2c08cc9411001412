//! Reload at SIGHUP while the hub runs: the alert rules, the log's level, the token and the keys of results. All other settings hold
//! until the next start. A setting that cannot be read keeps its value.

use super::shared_token;
use crossbeam_channel::Sender;
use sheratan_core::alerts::Alerts;
use sheratan_io::alerts;
use sheratan_io::alerts::rules::{self, RulesError};
use sheratan_io::config::{Config, Flags};
use sheratan_io::logs::Level;
use sheratan_io::redact::Redactor;
use sheratan_io::shared_token::TokenKey;
use sheratan_io::shell::Reloaded;
use sheratan_io::token::Token;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The state that a reload needs.
pub struct Reload {
    /// The flags of the start, which win over the environment and the file.
    pub flags: Flags,
    /// The data folder, which does not change.
    pub data_dir: PathBuf,
    /// The key of tokens' digests.
    pub token_key: TokenKey,
    /// The log's level.
    pub level: Level,
    /// Learns the keys that are read, before they are used.
    pub redactor: Arc<Redactor>,
    /// Sends what was read to the loop.
    pub reloads: Sender<Reloaded>,
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
                self.send(Reloaded::AlertRules(alerts));
            }
            Err(error) => tracing::error!("SIGHUP: the rules before stay: {error}"),
        }
        self.read_token(&config);
        self.redactor.learn(config.result_keys.all());
        tracing::info!(keys = config.result_keys.all().count(), "SIGHUP: the keys of results were read again");
        self.send(Reloaded::ResultKeys(config.result_keys));
    }

    /// The token in the settings, else the hub's own in its file. A file that cannot be read changes nothing.
    fn read_token(&self, config: &Config) {
        let own = || Token::read(&Token::path(&self.data_dir));
        let active = match config.token.clone().map_or_else(own, Ok) {
            Ok(active) => active,
            Err(error) => return tracing::error!("SIGHUP: the token stays: {error}"),
        };
        let next = config.token_rotation.as_ref().map(|(next, _)| next.secret());
        self.redactor.learn([active.secret()].into_iter().chain(next));
        tracing::info!(is_rotated = next.is_some(), "SIGHUP: the token was read again");
        self.send(Reloaded::SharedToken(Box::new(shared_token::of(config, &self.token_key, &active))));
    }

    /// Waits while the loop is busy: the latest reload must not be lost.
    fn send(&self, reloaded: Reloaded) {
        // The loop has ended, and needs no settings any more.
        _ = self.reloads.send(reloaded);
    }
}
