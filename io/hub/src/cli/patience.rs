//! Patience: whether a command that waits goes on after a call has failed, and how long until the next one.

use super::link::Link;
use crate::client::CallError;
use sheratan_io::backoff::Backoff;
use std::time::{Duration, Instant};

/// How long a hub may be unreachable before what is waited for is given up: longer than a restart with a million jobs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The failures since the last answer.
#[derive(Default)]
pub struct Patience {
    away_since: Option<Instant>,
    backoff: Backoff,
}

impl Patience {
    /// The hub answered.
    pub fn answered(&mut self) {
        self.away_since = None;
        self.backoff.reset();
    }

    /// How long to wait before the next call after one has failed; the failure, if another will fail like it.
    pub fn after(&mut self, link: &Link, error: CallError) -> Result<Duration, CallError> {
        // A hub that restarts may be about to write another token.
        let may_pass = error.is_transient() || error.code() == Some("auth_failure");
        if may_pass && link.look_again() {
            return Ok(Duration::ZERO);
        }
        let is_over = self.away_since.get_or_insert_with(Instant::now).elapsed() > PATIENCE;
        match error.is_transient() && !is_over {
            true => Ok(self.backoff.next_wait(error.retry_after())),
            false => Err(error),
        }
    }
}
