//! Filters of dead letters, as the hub's queries and bodies name them.

use crate::cli::instant::Instant;
use crate::cli::names;
use sheratan_io::rfc3339::Rfc3339;
use sheratan_io::shell;

/// Which letters are meant.
#[derive(clap::Args, Clone, Debug)]
pub struct FilterArgs {
    /// Only letters of this kind
    #[arg(long, value_parser = names::name)]
    kind: Option<String>,
    /// Only letters whose last error contains this text
    #[arg(long, value_name = "TEXT", value_parser = names::name)]
    error: Option<String>,
    /// Only jobs that died of this
    #[arg(long, value_parser = ["attempts", "not_retryable", "retry_budget", "lost", "expired"])]
    reason: Option<String>,
    /// Only jobs that died at this instant or later: RFC 3339, or how long ago (30s, 15m, 2h, 7d)
    #[arg(long, value_name = "TIME")]
    since: Option<Instant>,
    /// Only jobs that died before this instant
    #[arg(long, value_name = "TIME")]
    until: Option<Instant>,
}

impl FilterArgs {
    /// The members that are set, by their names on the wire.
    pub fn members(&self) -> Vec<(&'static str, String)> {
        let now = shell::wall_time();
        let instant = |instant: Option<Instant>| instant.map(|instant| Rfc3339::new(instant.resolve(now)).to_string());
        let members = [
            ("kind", self.kind.clone()),
            ("error", self.error.clone()),
            ("reason", self.reason.clone()),
            ("after_utc", instant(self.since)),
            ("before_utc", instant(self.until)),
        ];
        members.into_iter().filter_map(|(name, text)| Some((name, text?))).collect()
    }
}
