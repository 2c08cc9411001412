//! Client: the HTTP client of the hub's own commands, tests and benchmarks.
//!
//! A [`Client`] holds a pool of kept-alive connections and may be shared between threads. [`Client::exchange`] returns
//! a reply of any status; [`Client::call`] makes a refusal an error. The typed calls of the data plane and of nodes are
//! in [`calls`]; what operators ask for and do, answered with the hub's own documents, is in [`document`].
//!
//! Cost: one HTTP round trip a call, no thread of its own. A connection is reused for 15 s of idleness: less than the
//! 75 s after which the hub closes it, so that a request rarely meets a closing connection.

pub mod calls;
pub mod document;
mod error;
pub mod integrity;
pub mod webhook;

pub use error::{Applied, CallError, Refused};
use error::{Problem, unanswered};
use serde::Deserialize;
use sheratan_io::secret::Secret;
pub use sheratan_io::service::Plane;
use sheratan_io::token::Token;
use std::fmt;
use std::time::Duration;
use ureq::http::{self, Method};
use zeroize::Zeroizing;

/// How long connecting may take: enough for a packet that is lost twice on a slow network.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How long a reply may take beyond the wait that the request asks for: enough for a slow disk's commit.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// The longest `Retry-After` that is honoured, the longest that a hub sends: a proxy's page may ask for a day.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// Connections kept for reuse: as many as the threads of the largest worker.
const IDLE_CONNECTIONS_MAX: usize = 256;

/// The largest reply that is read: a page of a thousand jobs, each with the largest default payload, is smaller.
const ANSWER_BYTES_MAX: u64 = 1 << 30;

/// The address of a plane, and its source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// `http://host:port`, without a path.
    pub url: String,
    /// The flag, variable or file that it is from, for messages.
    pub origin: String,
    /// Whether requests are sent there.
    pub access: Access,
}

/// Whether requests are sent to an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Access {
    /// They are.
    Open,
    /// Not now: the hub that is meant does not run, as the text says.
    NoHub(String),
    /// Never: the token must not go there, as the text says.
    Withheld(String),
}

/// A hub's token, and its source. Never printed.
#[derive(Clone)]
pub struct Credential {
    token: Token,
    origin: String,
}

/// A connection pool to one hub.
#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    control: Endpoint,
    data: Endpoint,
    token: Result<Credential, NoToken>,
    answer_max: Duration,
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

/// What a request has beside its body and its token.
#[derive(Clone, Default)]
struct Head<'a> {
    /// GET without a body and POST with one, unless it is named.
    method: Option<Method>,
    accept: Option<&'a str>,
    if_match: Option<u64>,
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

impl Credential {
    /// A token; `origin` names its source, for messages.
    pub fn new(token: Token, origin: impl Into<String>) -> Self {
        Credential { token, origin: origin.into() }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential(from {})", self.origin)
    }
}

impl Client {
    /// A client of the hub at these endpoints. Nothing is connected yet.
    pub fn new(control: Endpoint, data: Endpoint, token: Result<Credential, NoToken>) -> Self {
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
        Client { agent: config.new_agent(), control, data, token, answer_max: ANSWER_MAX }
    }

    /// The address of a plane.
    pub fn endpoint(&self, plane: Plane) -> &Endpoint {
        match plane {
            Plane::Control => &self.control,
            Plane::Data => &self.data,
        }
    }

    /// The same client, with another limit for how long a reply may take beyond the wait that the request asks for.
    pub fn with_answer_max(&self, answer_max: Duration) -> Self {
        Client { answer_max, ..self.clone() }
    }

    /// Whether both send the same token to the same addresses.
    pub fn is_same_target(&self, other: &Client) -> bool {
        let token = |client: &Client| client.secret().map(|secret| Zeroizing::new(secret.expose().to_vec()));
        (&self.control, &self.data) == (&other.control, &other.data) && token(self) == token(other)
    }

    /// Whether there is a token to send.
    pub fn has_token(&self) -> bool {
        self.token.is_ok()
    }

    /// The token, for a redactor.
    pub fn secret(&self) -> Option<Secret> {
        self.token.as_ref().ok().map(|credential| credential.token.secret().clone())
    }

    /// Sends a request; a reply of any status is `Ok`.
    pub fn exchange(&self, request: &Request) -> Result<Answer, CallError> {
        self.exchange_as(request, &Head::default())
    }

    /// A GET with an `Accept` header, for paths with several forms. A reply of any status is `Ok`.
    pub fn fetch(&self, plane: Plane, path: &str, accept: &str) -> Result<Answer, CallError> {
        let head = Head { accept: Some(accept), ..Head::default() };
        self.exchange_as(&Request { plane, body: None, path, auth: Auth::Own, wait: Duration::ZERO }, &head)
    }

    fn exchange_as(&self, request: &Request, head: &Head) -> Result<Answer, CallError> {
        let endpoint = self.endpoint(request.plane);
        match &endpoint.access {
            Access::Open => {}
            Access::NoHub(reason) => {
                let (endpoint, reason) = (Box::new(endpoint.clone()), reason.clone());
                return Err(CallError::Unreachable { endpoint, reason, may_have_arrived: false });
            }
            Access::Withheld(reason) => return Err(CallError::Unsendable { reason: reason.clone() }),
        }
        self.send(endpoint, request, head).map_err(|error| unanswered(endpoint, &error))
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
        serde_json::from_slice(&answer.body).map_err(|error| {
            let path = request.path.split('?').next().unwrap_or_default();
            self.garbled(request.plane, format!("the answer to {path} is not what this release expects: {error}"))
        })
    }

    /// The error of a reply with status 200 whose body is not the hub's.
    fn garbled(&self, plane: Plane, reason: String) -> CallError {
        CallError::Garbled { endpoint: Box::new(self.endpoint(plane).clone()), status: 200, reason, retry_after: None }
    }

    fn send(&self, endpoint: &Endpoint, request: &Request, head: &Head) -> Result<Answer, ureq::Error> {
        let mut builder = http::Request::builder().uri(format!("{}{}", endpoint.url, request.path));
        if let Some(accept) = head.accept {
            builder = builder.header(http::header::ACCEPT, accept);
        }
        if let Some(version) = head.if_match {
            builder = builder.header(http::header::IF_MATCH, format!("\"{version}\""));
        }
        if let Some((name, value)) = self.token_header(request.auth) {
            let mut value = http::HeaderValue::try_from(value.as_slice()).map_err(http::Error::from)?;
            value.set_sensitive(true);
            builder = builder.header(name, value);
        }
        let time_max = Some(CONNECT_MAX.min(self.answer_max) + request.wait + self.answer_max);
        let mut response = match request.body {
            None => {
                let request = builder.method(head.method.clone().unwrap_or(Method::GET)).body(())?;
                self.agent.run(self.agent.configure_request(request).timeout_global(time_max).build())?
            }
            Some(body) => {
                builder = builder.header(http::header::CONTENT_TYPE, "application/json");
                let request = builder.method(head.method.clone().unwrap_or(Method::POST)).body(body)?;
                self.agent.run(self.agent.configure_request(request).timeout_global(time_max).build())?
            }
        };
        let retry_after = response.headers().get(http::header::RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let retry_after = retry_after.map(|secs| Duration::from_secs(secs).min(RETRY_AFTER_MAX));
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?;
        Ok(Answer { status, body, retry_after })
    }

    fn token_header(&self, auth: Auth) -> Option<(&'static str, Zeroizing<Vec<u8>>)> {
        let own = || self.token.as_ref().ok().map(|credential| credential.token.secret().expose());
        let (name, value) = match auth {
            Auth::None => return None,
            Auth::Own => ("x-sheratan-token", own()?.to_vec()),
            Auth::OwnAsBearer => ("authorization", [b"Bearer ", own()?].concat()),
            Auth::Other(text) => ("x-sheratan-token", text.as_bytes().to_vec()),
        };
        Some((name, Zeroizing::new(value)))
    }

    fn refusal(&self, endpoint: &Endpoint, answer: &Answer) -> CallError {
        let Some(Problem { code, detail, reason, applied }) = Problem::of(answer) else {
            let reason = format!("it answered {} without a code of the hub", answer.status);
            let (endpoint, retry_after) = (Box::new(endpoint.clone()), answer.retry_after);
            return CallError::Garbled { endpoint, status: answer.status, reason, retry_after };
        };
        let hint = match (code.as_str(), reason.as_deref(), &self.token) {
            ("auth_failure", _, Ok(credential)) => format!(" (it was read from {})", credential.origin),
            ("auth_failure", _, Err(none)) => format!(" (no token was found: {})", none.searched),
            ("result_integrity_fail", Some("missing_integrity"), _) => {
                " (the hub wants signed results: SHERATAN_RESULT_HMAC_KEY must be its key here, too)".to_owned()
            }
            ("result_integrity_fail", Some("sig_mismatch"), _) => {
                " (here the key is SHERATAN_RESULT_HMAC_KEY)".to_owned()
            }
            _ => String::new(),
        };
        let detail = detail + &hint;
        let (status, retry_after) = (answer.status, answer.retry_after);
        CallError::Refused(Box::new(Refused { status, code, detail, retry_after, applied }))
    }
}

#[cfg(test)]
mod tests;
