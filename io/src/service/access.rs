//! Access: which requests go through. First the leak guard, then the token, then the route, its methods, its media type.

use super::control;
use super::problem::{AuthReason, Problem};
use super::route::{Plane, PlaneAddrs, Route, Way};
use super::{Answer, Caller, Event, Service};
use crate::http::Request;
use crate::redact::{Redactor, redact_one};
use crate::secret::Secret;
use sheratan_core::telemetry::Observation;
use sheratan_core::time::Timestamp;
use std::borrow::Cow;

/// Bytes of a path that the audit log is told: longer ones are cut, so that a line has a bound.
const AUDITED_PATH_BYTES_MAX: usize = 256;

impl Service {
    pub(super) fn route<'a>(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request<'a>,
        way: Way<'a>,
    ) -> Result<Answer, Problem> {
        if way == Way::OtherPlane {
            return Err(self.refuse_plane(now, caller, request));
        }
        if !self.is_public(caller, &way) {
            self.authenticate(now, caller, request)?;
        }
        let route = match way {
            Way::Here(Route::Unserved) => return Err(Problem::unserved_path()),
            Way::Here(route) => route,
            Way::OtherPlane | Way::Unknown => return Err(Problem::unknown_path()),
        };
        check_method(&route, request)?;
        check_media_type(request)?;
        self.dispatch(now, caller, request, route)
    }

    fn dispatch(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
        route: Route,
    ) -> Result<Answer, Problem> {
        match route {
            Route::Health => Ok(Answer::Now(control::health(caller.plane))),
            Route::Livez => Ok(Answer::Now(control::livez())),
            Route::Readyz => self.readyz().map(Answer::Now),
            Route::Metrics => Ok(Answer::Now(self.metrics(now, caller, request))),
            Route::Heartbeat => self.heartbeat(now, request).map(Answer::Now),
            Route::Registry => Ok(Answer::Reply(self.registry())),
            Route::Audit => self.audit_page(request),
            Route::Alerts => self.alert_page(now, request),
            Route::Events => self.event_stream(now, caller, request),
            Route::SubmitOne => self.submit_one(now, request).map(Answer::Reply),
            Route::SubmitMany => self.submit_many(now, request).map(Answer::Reply),
            Route::Pull(node) => self.pull(now, caller, request, node),
            Route::ExtendLease => self.extend_lease(now, request).map(Answer::Reply),
            Route::ResultOne => self.result_one(now, caller, request),
            Route::ResultMany => self.result_many(now, caller, request),
            Route::Jobs => self.jobs(request).map(Answer::Reply),
            Route::Job(id) => self.one_job(now, caller, request, id),
            Route::Unserved => Err(Problem::unserved_path()),
        }
    }

    /// The path belongs to the other plane: said before anything is asked of the caller.
    fn refuse_plane(&mut self, now: Timestamp, caller: &Caller, request: &Request) -> Problem {
        self.hub.observe(now, Observation::PortMismatch);
        let event = port_mismatch(now, caller, request, &self.settings.addrs, &self.settings.redactor);
        self.tell(event);
        Problem::port_mismatch(caller.plane, &self.settings.addrs)
    }

    /// What needs no token. The metrics are for this machine, unless the operator lets everybody read them.
    fn is_public(&self, caller: &Caller, way: &Way) -> bool {
        match way {
            Way::Here(Route::Metrics) => caller.ip.is_loopback() || self.settings.is_metrics_public,
            _ => is_public(caller, way),
        }
    }

    fn authenticate(&mut self, now: Timestamp, caller: &Caller, request: &Request) -> Result<(), Problem> {
        let Some(token) = &self.settings.token else { return Ok(()) };
        if let Some(wait) = self.hub.auth_blocked_for(now, caller.ip) {
            self.hub.observe(now, Observation::AuthBlocked);
            return Err(Problem::auth_blocked(wait));
        }
        let presented = presented_token(request);
        let reason = match presented {
            Some(bytes) if token.is(bytes) => {
                self.hub.observe(now, Observation::AuthSuccess);
                return Ok(());
            }
            Some(_) => AuthReason::BadToken,
            None => AuthReason::MissingToken,
        };
        let is_token_present = presented.is_some();
        self.hub.observe(now, Observation::AuthFailure { address: caller.ip, is_token_present });
        let path = audited_path(&self.settings.redactor, request);
        let method = without_credentials(request, request.method().as_str());
        self.audit(now, "AUTH_FAILURE", |out| {
            out.text("path", &path).plain("ip", caller.ip).plain("reason", reason.as_str());
            out.text("method", &method).flag("token_present", is_token_present);
        });
        Err(Problem::auth_failure(reason))
    }
}

/// What the audit log is told of a path. Secrets are taken out of the whole path before it is cut: what a cut leaves of
/// one could not be told from other text.
fn audited_path(redactor: &Redactor, request: &Request) -> String {
    let path = without_credentials(request, request.path());
    let mut path = redactor.redact_text(&path).into_owned();
    // It is visible ASCII, so each byte is a character.
    path.truncate(AUDITED_PATH_BYTES_MAX);
    path
}

/// What the audit log is told of a path of the other plane.
pub fn port_mismatch(
    now: Timestamp,
    caller: &Caller,
    request: &Request,
    addrs: &PlaneAddrs,
    redactor: &Redactor,
) -> Event {
    let (port, expected) = (addrs.of(caller.plane).port(), addrs.of(caller.plane.other()).port());
    Event::new(now, "PORT_MISMATCH", |out| {
        out.plain("ip", caller.ip).text("path", &audited_path(redactor, request));
        out.number("port", u64::from(port)).number("expected", u64::from(expected));
    })
}

/// What anybody may ask: whether the hub is there. On the data plane `/health` is for this machine, or with the token.
pub fn is_public(caller: &Caller, way: &Way) -> bool {
    match way {
        Way::Here(Route::Livez | Route::Readyz) => true,
        Way::Here(Route::Health) => caller.plane == Plane::Control || caller.ip.is_loopback(),
        _ => false,
    }
}

/// `X-Sheratan-Token: T`, else `Authorization: Bearer T`.
fn presented_token<'a>(request: &Request<'a>) -> Option<&'a [u8]> {
    if let Some(token) = request.header("x-sheratan-token") {
        return Some(token);
    }
    let value = request.header("authorization")?;
    let (scheme, token) = value.split_at_checked(b"bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii_start())
}

pub fn check_method(route: &Route, request: &Request) -> Result<(), Problem> {
    let allow = match route {
        Route::Health
        | Route::Livez
        | Route::Readyz
        | Route::Metrics
        | Route::Registry
        | Route::Audit
        | Route::Alerts
        | Route::Events
        | Route::Jobs
        | Route::Job(_) => "GET, HEAD",
        // HEAD would lease jobs and drop them.
        Route::Pull(Some(_)) => "GET, POST",
        _ => "POST",
    };
    let method = request.method().as_str();
    if allow.split(", ").any(|allowed| allowed == method) { Ok(()) } else { Err(Problem::method_not_allowed(allow)) }
}

/// A body without a type is taken for JSON, as scripts of v1.5 send it.
fn check_media_type(request: &Request) -> Result<(), Problem> {
    let Some(value) = request.header("content-type") else { return Ok(()) };
    let essence = value.split(|byte| *byte == b';').next().unwrap_or(value).trim_ascii();
    let is_json = essence.eq_ignore_ascii_case(b"application/json")
        || essence.len() > 5 && essence[essence.len() - 5..].eq_ignore_ascii_case(b"+json");
    if is_json || request.body().is_empty() { Ok(()) } else { Err(Problem::unsupported_media_type()) }
}

/// A text of the request without the credentials that came with it: a token that is not the hub's is somebody else's.
fn without_credentials<'a>(request: &Request, text: &'a str) -> Cow<'a, str> {
    let mut text = Cow::Borrowed(text);
    for credentials in credentials(request) {
        if let Cow::Owned(redacted) = redact_one(&Secret::new(credentials), &text) {
            text = Cow::Owned(redacted);
        }
    }
    text
}

/// The token's header, and what follows the scheme in `Authorization`.
fn credentials<'a>(request: &Request<'a>) -> impl Iterator<Item = &'a [u8]> {
    let behind_scheme = |value: &'a [u8]| {
        let scheme_end = value.iter().position(|byte| *byte == b' ').unwrap_or(0);
        value[scheme_end..].trim_ascii()
    };
    let authorization = request.header("authorization").map(behind_scheme);
    request.header("x-sheratan-token").into_iter().chain(authorization)
}
