//! Errors of calls: which replies are the hub's own refusals, and what every other failure says about the request.
//!
//! Only the hub can refuse. A reply that is not its own (a proxy's page, JSON without the members of a problem, half a
//! body) says nothing about the request but that it may have arrived: the caller tries again later.

use super::{Answer, CONNECT_MAX, Endpoint};
use serde::Deserialize;
use std::fmt;
use std::io;
use std::time::Duration;

/// Why a call failed.
#[derive(Clone, Debug)]
pub enum CallError {
    /// The request cannot be made, and nothing was sent.
    Unsendable {
        /// Why not.
        reason: String,
    },
    /// There was no reply.
    Unreachable {
        /// The plane that was called.
        endpoint: Box<Endpoint>,
        /// What happened.
        reason: String,
        /// Whether the hub may have received the request.
        may_have_arrived: bool,
    },
    /// The hub refused the request.
    Refused(Box<Refused>),
    /// The reply is not the hub's, or not one of this wire contract.
    Garbled {
        /// The plane that was called.
        endpoint: Box<Endpoint>,
        /// The HTTP status.
        status: u16,
        /// What is wrong with the reply.
        reason: String,
        /// How long to wait before a retry, as a proxy says it.
        retry_after: Option<Duration>,
    },
}

/// A refusal, as the wire contract spells it.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The HTTP status.
    pub status: u16,
    /// The code, `error` on the wire.
    pub code: String,
    /// The hub's detail, with a hint about this client where there is one.
    pub detail: String,
    /// How long to wait before a retry.
    pub retry_after: Option<Duration>,
    /// Whether the request was applied all the same.
    pub applied: Applied,
}

/// Whether a request that was not acknowledged was applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Applied {
    /// Certainly not: repeating it is safe.
    No,
    /// It may have been.
    Unknown,
}

/// The hub's problem document.
pub(super) struct Problem {
    pub code: String,
    pub detail: String,
    pub reason: Option<String>,
    pub applied: Applied,
}

impl Problem {
    /// The problem in a reply; `None` if the reply is not the hub's. The hub says `ok:false` and a code in every
    /// refusal, repeats the status, and never answers 502 or 504.
    pub(super) fn of(answer: &Answer) -> Option<Problem> {
        #[derive(Deserialize)]
        struct Members {
            ok: bool,
            error: String,
            status: u16,
            #[serde(default)]
            detail: String,
            reason: Option<String>,
            applied: Option<String>,
        }
        let members: Members = serde_json::from_slice(&answer.body).ok()?;
        let is_ours = !members.ok && members.status == answer.status;
        if !is_ours || matches!(answer.status, 200..400 | 502 | 504) {
            return None;
        }
        let applied = Applied::of(&members.error, members.applied.as_deref());
        Some(Problem { code: members.error, detail: members.detail, reason: members.reason, applied })
    }
}

impl Applied {
    /// What a refusal says with its code and its member `applied`. A hub whose journal failed and that does not say
    /// more may hold the command.
    pub fn of(code: &str, member: Option<&str>) -> Self {
        match member {
            Some("no") => Applied::No,
            None if code != "journal_unavailable" => Applied::No,
            _ => Applied::Unknown,
        }
    }
}

impl CallError {
    /// Whether the same call may succeed later without anyone's intervention.
    pub fn is_transient(&self) -> bool {
        match self {
            CallError::Unsendable { .. } => false,
            CallError::Unreachable { .. } | CallError::Garbled { .. } => true,
            CallError::Refused(refused) => matches!(refused.status, 408 | 429 | 503),
        }
    }

    /// Whether the request may have been applied all the same.
    pub fn may_have_been_applied(&self) -> bool {
        match self {
            CallError::Unsendable { .. } => false,
            CallError::Unreachable { may_have_arrived, .. } => *may_have_arrived,
            CallError::Refused(refused) => refused.applied == Applied::Unknown,
            CallError::Garbled { .. } => true,
        }
    }

    /// What happened, without the next step: for callers that retry anyway.
    pub fn summary(&self) -> String {
        match self {
            CallError::Unreachable { endpoint, reason, .. } => format!("no hub answers at {} ({reason})", endpoint.url),
            CallError::Garbled { endpoint, reason, .. } => {
                format!("what answers at {} is not the hub ({reason})", endpoint.url)
            }
            CallError::Unsendable { .. } | CallError::Refused(_) => self.to_string(),
        }
    }

    /// The refusal's code; `None` without a refusal.
    pub fn code(&self) -> Option<&str> {
        match self {
            CallError::Refused(refused) => Some(&refused.code),
            CallError::Unsendable { .. } | CallError::Unreachable { .. } | CallError::Garbled { .. } => None,
        }
    }

    /// How long the hub, or a proxy before it, asks to wait before a retry.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            CallError::Refused(refused) => refused.retry_after,
            CallError::Garbled { retry_after, .. } => *retry_after,
            CallError::Unsendable { .. } | CallError::Unreachable { .. } => None,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Unsendable { reason } => write!(f, "the request cannot be made: {reason}"),
            CallError::Unreachable { endpoint, .. } => {
                let summary = self.summary();
                write!(
                    f,
                    "{summary}: start one with `sheratan-hub serve`, or name another with --control and --data "
                )?;
                write!(f, "(this address is from {})", endpoint.origin)
            }
            CallError::Refused(refused) => {
                let Refused { status, code, detail, .. } = &**refused;
                write!(f, "the hub refused with {status} {code}")?;
                if detail.is_empty() { Ok(()) } else { write!(f, ": {detail}") }
            }
            CallError::Garbled { endpoint, reason, .. } => {
                write!(f, "what answers at {} (address from {}) is no hub: {reason}", endpoint.url, endpoint.origin)
            }
        }
    }
}

impl std::error::Error for CallError {}

/// The error of a call without a whole reply. Only if no connection was made is it certain that the hub did not receive
/// the request.
pub(super) fn unanswered(endpoint: &Endpoint, error: &ureq::Error) -> CallError {
    let (may_have_arrived, reason) = match error {
        ureq::Error::Http(_) | ureq::Error::BadUri(_) | ureq::Error::InvalidProxyUrl => {
            return CallError::Unsendable { reason: error.to_string() };
        }
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            (false, "connection refused".to_owned())
        }
        ureq::Error::Io(error) => (!is_before_connection(error), error.to_string()),
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
            (false, format!("no connection within {} s", CONNECT_MAX.as_secs()))
        }
        ureq::Error::Timeout(_) => (true, "no answer in time".to_owned()),
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => (false, error.to_string()),
        other => (true, other.to_string()),
    };
    CallError::Unreachable { endpoint: Box::new(endpoint.clone()), reason, may_have_arrived }
}

/// Whether an error is one of finding or reaching the machine: nothing was sent.
fn is_before_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, HostUnreachable, NetworkDown, NetworkUnreachable};
    // The standard library has no kind for a name that cannot be resolved.
    let is_lookup = error.to_string().starts_with("failed to lookup address information");
    is_lookup || matches!(error.kind(), AddrNotAvailable | HostUnreachable | NetworkDown | NetworkUnreachable)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::client::Access;
    use std::net::ToSocketAddrs;

    #[test]
    fn a_request_to_a_name_that_cannot_be_resolved_has_not_arrived() {
        let endpoint = Endpoint { url: String::new(), origin: String::new(), access: Access::Open };
        let error = ("no-such-host.invalid", 80).to_socket_addrs().expect_err("RFC 6761: no host has this name");
        assert!(!unanswered(&endpoint, &ureq::Error::Io(error)).may_have_been_applied());
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert!(unanswered(&endpoint, &ureq::Error::Io(reset)).may_have_been_applied());
    }
}
