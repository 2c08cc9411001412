//! Client: how the hub's own commands, tests and benchmarks talk to a hub.
//!
//! A [`Client`] holds a pool of kept-alive connections and may be shared between threads. [`Client::exchange`] gives any
//! answer as it came; [`Client::call`] makes a refusal an error. The typed calls of the data plane and of nodes are in
//! [`calls`], the checksum over a result in [`integrity`].
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

/// How long a connection may take to be made: a packet lost twice on a slow network is still within it.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How long an answer may take beyond what the request itself asks to wait: a slow disk's commit, not more.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Connections kept for reuse: as many as the threads of the largest worker.
const IDLE_CONNECTIONS_MAX: usize = 256;

/// The largest answer read: a page of a thousand jobs, each with the largest default payload, would still not fill it.
const ANSWER_BYTES_MAX: u64 = 1 << 30;

/// The two planes of a hub.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plane {
    /// Nodes and operators.
    Control,
    /// Clients and workers.
    Data,
}

/// Where one plane is, and where that was learned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// `http://host:port`, without a path.
    pub url: String,
    /// Which flag, variable or file said so; for messages.
    pub origin: String,
}

/// A hub's token, and where it was found. Wiped from memory when dropped; never printed.
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

/// There is no token, and where one was looked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NoToken {
    /// Ends the sentence "no token was found: ".
    pub looked_at: String,
}

/// Which token a request carries, and how.
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

/// An answer of any status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
    /// What `Retry-After` says.
    pub retry_after: Option<Duration>,
}

/// Why a call gave nothing.
#[derive(Clone, Debug)]
pub enum CallError {
    /// There was no answer.
    Unreachable {
        /// Where it was asked for.
        endpoint: Endpoint,
        /// What happened.
        reason: String,
        /// Whether the hub may have seen the request.
        may_have_arrived: bool,
    },
    /// The hub said no.
    Refused(Box<Refused>),
    /// What answered is not a hub, or not one of this contract.
    Garbled {
        /// Who answered.
        endpoint: Endpoint,
        /// What is wrong with it.
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
    /// What the hub says about it, with what to do here where that is known.
    pub detail: String,
    /// When to ask again.
    pub retry_after: Option<Duration>,
}

impl Token {
    /// A token; `origin` says where it was found, for messages.
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
            // A token must not travel over a proxy that the environment names for the web.
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

    /// Where a plane is.
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

    /// The token, for what must keep it out of a text.
    pub fn secret(&self) -> Option<Secret> {
        self.token.as_ref().ok().map(|token| Secret::new(token.text.as_bytes()))
    }

    /// Sends a request; an answer of any status is `Ok`.
    pub fn exchange(&self, request: &Request) -> Result<Answer, CallError> {
        let endpoint = self.endpoint(request.plane);
        let answer = self.send(endpoint, request, None);
        answer.map_err(|error| unreachable_hub(endpoint, &error))
    }

    /// A GET of what may be had in several forms: `accept` says in which. An answer of any status is `Ok`.
    pub fn fetch(&self, plane: Plane, path: &str, accept: &str) -> Result<Answer, CallError> {
        let endpoint = self.endpoint(plane);
        let request = Request { plane, body: None, path, auth: Auth::Own, wait: Duration::ZERO };
        self.send(endpoint, &request, Some(accept)).map_err(|error| unreachable_hub(endpoint, &error))
    }

    /// A GET that answers with a `T`.
    pub fn get<T: for<'de> Deserialize<'de>>(&self, plane: Plane, path: &str, wait: Duration) -> Result<T, CallError> {
        self.call(&Request { plane, body: None, path, auth: Auth::Own, wait })
    }

    /// A POST of JSON that answers with a `T`.
    pub fn post<T: for<'de> Deserialize<'de>>(
        &self,
        plane: Plane,
        path: &str,
        body: &[u8],
        wait: Duration,
    ) -> Result<T, CallError> {
        self.call(&Request { plane, body: Some(body), path, auth: Auth::Own, wait })
    }

    /// Sends a request and reads its answer; a status other than 200 is an error.
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
            ("auth_failure", _, Err(none)) => format!(" (no token was found: {})", none.looked_at),
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
    /// Whether the same call may succeed later, with nothing changed by anybody.
    pub fn is_transient(&self) -> bool {
        match self {
            CallError::Unreachable { .. } => true,
            CallError::Refused(refused) => matches!(refused.status, 408 | 429 | 502..=504),
            CallError::Garbled { .. } => false,
        }
    }

    /// What happened, without what to do about it: for those who try again anyway.
    pub fn summary(&self) -> String {
        match self {
            CallError::Unreachable { endpoint, reason, .. } => format!("no hub answers at {} ({reason})", endpoint.url),
            CallError::Refused(_) | CallError::Garbled { .. } => self.to_string(),
        }
    }

    /// The refusal's code; `None` if the hub did not answer.
    pub fn code(&self) -> Option<&str> {
        match self {
            CallError::Refused(refused) => Some(&refused.code),
            CallError::Unreachable { .. } | CallError::Garbled { .. } => None,
        }
    }

    /// When the hub wants to be asked again.
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

/// Which failures happened before a byte of the request left: only then is it sure that the hub did not see it.
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
