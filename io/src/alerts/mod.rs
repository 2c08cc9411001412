//! Alerts: what the core's engine finds in the audit log, on its way out: `<data-dir>/logs/alerts.jsonl`, and a webhook.
//!
//! The rules come from `alert_rules.json` ([`rules`]), each change is a line ([`line`]); the hub hands lines over and waits
//! for neither a file nor the network.

pub mod line;
pub mod rules;
mod webhook;
mod writer;

pub use webhook::{Webhook, WebhookUrl, WebhookUrlError};
pub use writer::{AlertLog, Settings};

use std::path::{Path, PathBuf};

/// Where a data folder's alerts are.
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("logs").join("alerts.jsonl")
}

/// Where a data folder's rules are, if they are anywhere.
pub fn rules_path(data_dir: &Path) -> PathBuf {
    data_dir.join("alert_rules.json")
}
