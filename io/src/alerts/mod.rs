//! Alerts: writes the alerts that the core's engine raises to `<data-dir>/logs/alerts.jsonl`, and posts them to a
//! webhook.
//!
//! The rules are read from `alert_rules.json` ([`rules`]); each change is a line ([`line`]). The hub sends lines to a
//! thread and waits for neither a file nor the network.

pub mod line;
pub mod rules;
mod webhook;
mod writer;

pub use line::AlertLine;
pub use webhook::{Post, Posted, Webhook, WebhookUrl, WebhookUrlError};
pub use writer::{AlertLog, Settings};

use std::path::{Path, PathBuf};

/// The path of the alerts' file in a data folder.
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("logs").join("alerts.jsonl")
}

/// The default path of the rules in a data folder; the file is optional.
pub fn rules_path(data_dir: &Path) -> PathBuf {
    data_dir.join("alert_rules.json")
}
