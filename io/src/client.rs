//! Client: the HTTP client of the hub's own commands, tests and benchmarks.
//!
//! A [`Client`] holds a pool of kept-alive connections and may be shared between threads. [`Client::exchange`] returns
//! a reply of any status; [`Client::call`] makes a refusal an error. The typed calls of the data plane and of nodes are
//! in [`calls`], the checksum of a result in [`integrity`].
//!
//! Cost: one HTTP round trip a call, no thread of its own. A connection is reused for 15 s of idleness: less than the
//! 75 s after which the hub closes it, so that a request rarely meets a closing connection.

pub mod calls;
pub mod integrity;

use crate::secret::Secret;
use serde::Deserialize;
use std::fmt;
use std::time::Duration;
use ureq::http::{self, Method};
use zeroize::Zeroizing;

/// How long connecting may take: enough for a packet that is lost twice on a slow network.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How long a reply may take beyond the wait that the request asks for: enough for a slow disk's commit.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Connections kept for reuse: as many as the threads of the largest worker.
const IDLE_CONNECTIONS_MAX: usize = 256;

/// The largest reply that is read: a page of a thousand jobs, each with the largest default payload, is smaller.
const ANSWER_BYTES_MAX: u64 = 1 << 30;

/// The two planes of a hub.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plane {
    /// Nodes and operators.
    Control,
    /// Clients and workers.
    Data,
}

/// The address of a plane, and its source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// `http://host:port`, without a path.
    pub url: String,
    /// The flag, variable or file that it is from, for messages.
    pub origin: String,
}

/// A hub's token, and its source. Wiped from memory when dropped; never printed.
#[derive(Clone)]
pub struct Token {
    text: Zeroizing<String>,
    origin: String,
}

/// A connection pool to one hub.
#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    control: Endpoint,
    data: Endpoint,
    token: Result<Token, NoToken>,
}

/// No token was found; lists the places that were searched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NoToken {
    /// Ends the sentence "no token was found: ".
    pub searched: String,
}

/// Which token a request carries, and in which header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Auth<'a> {
    /// The client's own, in `X-Sheratan-Token`.
    Own,
    /// The client's own, in `Authorization: Bearer`.
    OwnAsBearer,
    /// Another one.
    Other(&'a str),
    /// None.
    None,
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The plane it goes to.
    pub plane: Plane,
    /// `None` for a GET; `Some` for a POST of that JSON.
    pub body: Option<&'a [u8]>,
    /// The path with its query.
    pub path: &'a str,
    /// The token.
    pub auth: Auth<'a>,
    /// How long the request asks the hub to wait before it answers.
    pub wait: Duration,
}

/// A reply of any status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
    /// The value of `Retry-After`.
    pub retry_after: Option<Duration>,
}

/// Why a call failed.
#[derive(Clone, Debug)]
pub enum CallError {
    /// There was no reply.
    Unreachable {
        /// The plane that was called.
        endpoint: Endpoint,
        /// What happened.
        reason: String,
        /// Whether the hub may have received the request.
        may_have_arrived: bool,
    },
    /// The hub refused the request.
    Refused(Box<Refused>),
    /// The server is not a hub, or not one of this wire contract.
    Garbled {
        /// The plane that was called.
        endpoint: Endpoint,
        /// What is wrong with the reply.
        reason: String,
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
}

impl Token {
    /// A token; `origin` names its source, for messages.
    pub fn new(text: impl Into<String>, origin: impl Into<String>) -> Self {
        Token { text: Zeroizing::new(text.into()), origin: origin.into() }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(from {})", self.origin)
    }
}

impl Client {
    /// A client of the hub at these endpoints. Nothing is connected yet.
    pub fn new(control: Endpoint, data: Endpoint, token: Result<Token, NoToken>) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            // A token must not pass through a web proxy that the environment names.
            .proxy(None)
            .user_agent(concat!("sheratan-hub/", env!("CARGO_PKG_VERSION")))
            .accept("application/json, application/problem+json")
            .timeout_connect(Some(CONNECT_MAX))
            .max_idle_connections(IDLE_CONNECTIONS_MAX)
            .max_idle_connections_per_host(IDLE_CONNECTIONS_MAX)
            .max_idle_age(Duration::from_secs(15))
            .build();
        Client { agent: config.new_agent(), control, data, token }
    }

    /// The address of a plane.
    pub fn endpoint(&self, plane: Plane) -> &Endpoint {
        match plane {
            Plane::Control => &self.control,
            Plane::Data => &self.data,
        }
    }

    /// Whether there is a token to send.
    pub fn has_token(&self) -> bool {
        self.token.is_ok()
    }

    /// The token, for a redactor.
    pub fn secret(&self) -> Option<Secret> {
        self.token.as_ref().ok().map(|token| Secret::new(token.text.as_bytes()))
    }

    /// Sends a request; a reply of any status is `Ok`.
    pub fn exchange(&self, request: &Request) -> Result<Answer, CallError> {
        let endpoint = self.endpoint(request.plane);
        let answer = self.send(endpoint, request, None);
        answer.map_err(|error| unreachable_hub(endpoint, &error))
    }

    /// A GET with an `Accept` header, for paths with several forms. A reply of any status is `Ok`.
    pub fn fetch(&self, plane: Plane, path: &str, accept: &str) -> Result<Answer, CallError> {
        let endpoint = self.endpoint(plane);
        let request = Request { plane, body: None, path, auth: Auth::Own, wait: Duration::ZERO };
        self.send(endpoint, &request, Some(accept)).map_err(|error| unreachable_hub(endpoint, &error))
    }

    /// A GET whose reply is a `T`.
    pub fn get<T: for<'de> Deserialize<'de>>(&self, plane: Plane, path: &str, wait: Duration) -> Result<T, CallError> {
        self.call(&Request { plane, body: None, path, auth: Auth::Own, wait })
    }

    /// A POST of JSON whose reply is a `T`.
    pub fn post<T: for<'de> Deserialize<'de>>(
        &self,
        plane: Plane,
        path: &str,
        body: &[u8],
        wait: Duration,
    ) -> Result<T, CallError> {
        self.call(&Request { plane, body: Some(body), path, auth: Auth::Own, wait })
    }

    /// Sends a request and reads its reply; a status other than 200 is an error.
    pub fn call<T: for<'de> Deserialize<'de>>(&self, request: &Request) -> Result<T, CallError> {
        let answer = self.exchange(request)?;
        let endpoint = self.endpoint(request.plane);
        if answer.status != 200 {
            return Err(self.refusal(endpoint, &answer));
        }
        serde_json::from_slice(&answer.body).map_err(|error| CallError::Garbled {
            endpoint: endpoint.clone(),
            reason: format!("the answer to {} is not what this release expects: {error}", request.path),
        })
    }

    fn send(&self, endpoint: &Endpoint, request: &Request, accept: Option<&str>) -> Result<Answer, ureq::Error> {
        let mut builder = http::Request::builder().uri(format!("{}{}", endpoint.url, request.path));
        if let Some(accept) = accept {
            builder = builder.header(http::header::ACCEPT, accept);
        }
        if let Some((name, value)) = self.token_header(request.auth) {
            let mut value = http::HeaderValue::try_from(value.as_str()).map_err(http::Error::from)?;
            value.set_sensitive(true);
            builder = builder.header(name, value);
        }
        let time_max = Some(CONNECT_MAX + request.wait + ANSWER_MAX);
        let mut response = match request.body {
            None => {
                let request = builder.method(Method::GET).body(())?;
                self.agent.run(self.agent.configure_request(request).timeout_global(time_max).build())?
            }
            Some(body) => {
                builder = builder.header(http::header::CONTENT_TYPE, "application/json");
                let request = builder.method(Method::POST).body(body)?;
                self.agent.run(self.agent.configure_request(request).timeout_global(time_max).build())?
            }
        };
        let retry_after = response.headers().get(http::header::RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs);
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?;
        Ok(Answer { status, body, retry_after })
    }

    fn token_header(&self, auth: Auth) -> Option<(&'static str, Zeroizing<String>)> {
        let own = || self.token.as_ref().ok().map(|token| &token.text);
        match auth {
            Auth::None => None,
            Auth::Own => Some(("x-sheratan-token", own()?.clone())),
            Auth::OwnAsBearer => Some(("authorization", Zeroizing::new(format!("Bearer {}", own()?.as_str())))),
            Auth::Other(text) => Some(("x-sheratan-token", Zeroizing::new(text.to_owned()))),
        }
    }

    fn refusal(&self, endpoint: &Endpoint, answer: &Answer) -> CallError {
        #[derive(Deserialize)]
        struct Problem {
            error: String,
            #[serde(default)]
            detail: String,
            reason: Option<String>,
        }
        let Ok(problem) = serde_json::from_slice::<Problem>(&answer.body) else {
            let reason = format!("it answered {} without a code", answer.status);
            return CallError::Garbled { endpoint: endpoint.clone(), reason };
        };
        let hint = match (problem.error.as_str(), problem.reason.as_deref(), &self.token) {
            ("auth_failure", _, Ok(token)) => format!(" (it was read from {})", token.origin),
            ("auth_failure", _, Err(none)) => format!(" (no token was found: {})", none.searched),
            ("result_integrity_fail", Some("missing_integrity" | "sig_mismatch"), _) => {
                " (the hub wants signed results: SHERATAN_RESULT_HMAC_KEY must be its key here, too)".to_owned()
            }
            _ => String::new(),
        };
        let detail = problem.detail + &hint;
        let (status, retry_after) = (answer.status, answer.retry_after);
        CallError::Refused(Box::new(Refused { status, code: problem.error, detail, retry_after }))
    }
}

impl CallError {
    /// Whether the same call may succeed later without anyone's intervention.
    pub fn is_transient(&self) -> bool {
        match self {
            CallError::Unreachable { .. } => true,
            CallError::Refused(refused) => matches!(refused.status, 408 | 429 | 502..=504),
            CallError::Garbled { .. } => false,
        }
    }

    /// What happened, without the next step: for callers that retry anyway.
    pub fn summary(&self) -> String {
        match self {
            CallError::Unreachable { endpoint, reason, .. } => format!("no hub answers at {} ({reason})", endpoint.url),
            CallError::Refused(_) | CallError::Garbled { .. } => self.to_string(),
        }
    }

    /// The refusal's code; `None` without a refusal.
    pub fn code(&self) -> Option<&str> {
        match self {
            CallError::Refused(refused) => Some(&refused.code),
            CallError::Unreachable { .. } | CallError::Garbled { .. } => None,
        }
    }

    /// How long the hub asks to wait before a retry.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            CallError::Refused(refused) => refused.retry_after,
            CallError::Unreachable { .. } | CallError::Garbled { .. } => None,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
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
            CallError::Garbled { endpoint, reason } => {
                write!(f, "what answers at {} (address from {}) is no hub: {reason}", endpoint.url, endpoint.origin)
            }
        }
    }
}

impl std::error::Error for CallError {}

/// The error of a call without a reply. Only if connecting failed is it certain that the hub did not receive the
/// request.
fn unreachable_hub(endpoint: &Endpoint, error: &ureq::Error) -> CallError {
    let (may_have_arrived, reason) = match error {
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            (false, "connection refused".to_owned())
        }
        ureq::Error::Io(error) => (true, error.to_string()),
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
            (false, format!("no connection within {} s", CONNECT_MAX.as_secs()))
        }
        ureq::Error::Timeout(_) => (true, "no answer in time".to_owned()),
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed | ureq::Error::BadUri(_) => {
            (false, error.to_string())
        }
        other => (true, other.to_string()),
    };
    CallError::Unreachable { endpoint: endpoint.clone(), reason, may_have_arrived }
}

#[cfg(test)]
mod tests;
