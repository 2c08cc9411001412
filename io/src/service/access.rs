//! Access: which requests are allowed. The checks in order: leak guard, token, route, method, media type.

use super::credentials::{audited_path, presented_token, without_credentials};
use super::header;
use super::notifications::Kind;
use super::plane::PlaneAddrs;
use super::problem::{AuthReason, Problem};
use super::route::{self, Lookup, Route};
use super::{Answer, Caller, Service, Settings, origin};
use crate::http::{Reply, Request};
use crate::object::Object;
use crate::redact::Redactor;
use crate::shared_token::{SharedToken, Spelling, spelling};
use sheratan_core::telemetry::Observation;
use sheratan_core::{Origin, Timestamp, TokenDigest, TokenVerdict};

impl Service {
    pub(super) fn route<'a>(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request<'a>,
        lookup: Lookup<'a>,
    ) -> Result<Answer, Problem> {
        if lookup == Lookup::OtherPlane {
            return Err(self.refuse_plane(now, caller, request));
        }
        let checks = checks(&self.settings, caller, request, &lookup)?;
        if checks.token {
            self.authenticate(now, caller, request)?;
        }
        if checks.origin {
            self.check_origin(now, caller, request)?;
        }
        let route = match lookup {
            Lookup::Found(Route::Unserved) => return Err(Problem::unserved_path()),
            Lookup::Found(route) => route,
            Lookup::OtherPlane | Lookup::Unknown => return Err(Problem::unknown_path()),
        };
        check_method(route.methods(), request)?;
        check_media_type(request)?;
        self.dispatch(now, caller, request, route)
    }

    /// Whether the body of a request may be read, whose head has arrived; else the reply to it. A client without a token
    /// must not make the hub keep a body.
    pub fn admit_body(&mut self, now: Timestamp, caller: &Caller, head: &Request) -> Result<(), Reply> {
        let lookup = route::find(caller.plane, head.path());
        self.stalls.begin_request();
        self.token_used = None;
        let admitted = if lookup == Lookup::OtherPlane {
            Err(self.refuse_plane(now, caller, head))
        } else {
            // Paths that need no token take no body either.
            self.check_token(now, caller, head).map(|_| ())
        };
        admitted.map_err(|problem| {
            let reply = self.stalls.refusal().unwrap_or(problem).into_reply();
            self.traffic.answered(caller.plane, lookup.name(), reply.status());
            reply
        })
    }

    fn dispatch(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
        route: Route,
    ) -> Result<Answer, Problem> {
        if route.leaves_events(request.method()) && !self.stalls.admits_commands() {
            return Err(Problem::audit_full());
        }
        match route {
            Route::Health(route) => self.handle_health(now, caller, route),
            Route::Metrics => Ok(Answer::Now(self.metrics(now, caller, request))),
            Route::Nodes(route) => self.handle_nodes(now, caller, request, route),
            Route::Policies(route) => self.handle_policies(now, caller, request, route),
            Route::Notifications(route) => self.handle_notifications(now, caller, request, route),
            Route::Tokens(route) => self.handle_tokens(now, caller, request, route),
            Route::Jobs(route) => self.handle_jobs(now, caller, request, route),
            Route::Leases(route) => self.handle_leases(now, caller, request, route),
            Route::Results(route) => self.handle_results(now, caller, request, route),
            Route::Kinds(route) => self.handle_kinds(now, caller, request, route),
            Route::Letters(route) => self.handle_letters(now, caller, request, route),
            Route::Orphans(route) => self.handle_orphans(now, caller, request, route),
            Route::Weights(_) => self.handle_weights(now, caller, request),
            Route::Unserved => Err(Problem::unserved_path()),
        }
    }

    /// Refuses a path of the other plane, before the caller is authenticated.
    fn refuse_plane(&mut self, now: Timestamp, caller: &Caller, request: &Request) -> Problem {
        self.hub.observe(now, Observation::PortMismatch);
        // If it cannot be recorded, `Stalls::refusal` is the reply.
        self.record_stranger(now, caller, Kind::PortMismatch, |out, settings| {
            write_port_mismatch(out, caller, request, &settings.addrs, &settings.redactor);
        });
        Problem::port_mismatch(caller.plane, &self.settings.addrs)
    }

    /// A request that is answered without a token must not come from a web page of another site, nor by a name that
    /// another site made lead here.
    fn check_origin(&mut self, now: Timestamp, caller: &Caller, request: &Request) -> Result<(), Problem> {
        let Some(header) = origin::foreign(&self.settings, caller, request)? else { return Ok(()) };
        let is_recorded = self.record_stranger(now, caller, Kind::ForeignOrigin, |out, settings| {
            write_foreign_origin(out, caller, request, header, &settings.redactor);
        });
        Err(if is_recorded { Problem::foreign_origin(header) } else { Problem::audit_full() })
    }

    fn authenticate(&mut self, now: Timestamp, caller: &Caller, request: &Request) -> Result<(), Problem> {
        match self.check_token(now, caller, request)? {
            Some(TokenVerdict::Next) => self.hub.observe(now, Observation::AuthSuccessNext),
            Some(_) => self.hub.observe(now, Observation::AuthSuccess),
            None => {}
        }
        self.note_token_use(now, caller);
        Ok(())
    }

    /// Refuses what is for the hub's own machine only.
    pub(super) fn require_local(&self, caller: &Caller) -> Result<(), Problem> {
        match origin_of(caller, self.is_forwarded) {
            Origin::Loopback => Ok(()),
            _ => Err(Problem::admin_local_only()),
        }
    }

    /// What the token of a request is that may go on; `None` where no token is required.
    fn check_token(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
    ) -> Result<Option<TokenVerdict>, Problem> {
        let Some(token) = &self.settings.token else { return Ok(None) };
        if let Some(wait) = self.hub.auth_blocked_for(now, caller.ip) {
            self.hub.observe(now, Observation::AuthBlocked);
            return Err(Problem::auth_blocked(wait));
        }
        let presented = digest_of(token, request)?;
        let (at, calendar) = (now.max(self.hub.now()), self.hub.calendar());
        let verdict = presented.map(|digest| self.hub.tokens().judge(at, calendar, &digest));
        let reason = match verdict {
            Some(TokenVerdict::Active | TokenVerdict::Old | TokenVerdict::Next) => {
                self.token_used = verdict;
                return Ok(verdict);
            }
            Some(TokenVerdict::Retired) => AuthReason::Retired,
            Some(TokenVerdict::Unknown) => AuthReason::BadToken,
            None => AuthReason::MissingToken,
        };
        Err(self.refuse_token(now, caller, request, (reason, presented)))
    }

    /// Refuses a request for its token. One that was right until it was replaced is a client that was not told, and no guess:
    /// it is counted apart.
    fn refuse_token(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
        (reason, presented): (AuthReason, Option<TokenDigest>),
    ) -> Problem {
        let is_token_present = reason != AuthReason::MissingToken;
        let (observation, kind) = match reason {
            AuthReason::Retired => (Observation::AuthRetired, Kind::TokenRetired),
            _ => (Observation::AuthFailure { address: caller.ip, is_token_present }, Kind::AuthFailure),
        };
        self.hub.observe(now, observation);
        if reason == AuthReason::Retired {
            self.token_uses.note(now, (TokenVerdict::Retired, None, caller.ip));
        }
        let retired = presented.filter(|_| reason == AuthReason::Retired);
        let is_recorded = self.record_stranger(now, caller, kind, |out, settings| {
            write_auth_failure(out, caller, request, reason, &settings.redactor);
            if let Some(retired) = retired {
                out.plain("token", retired);
            }
        });
        let hint = presented_token(request).ok().flatten().map(spelling);
        let is_mistyped = reason == AuthReason::BadToken && hint == Some(Spelling::Mistyped);
        match (is_recorded, is_mistyped) {
            (false, _) => Problem::audit_full(),
            (true, true) => Problem::mistyped_token(),
            (true, false) => Problem::auth_failure(reason),
        }
    }
}

/// What is checked of a request before it is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Checks {
    /// The token.
    pub token: bool,
    /// That no web page of another site sent it.
    pub origin: bool,
}

/// What is checked of a request for a path of this plane. A token that is sent is checked where none is needed too, but
/// for probes.
pub fn checks(settings: &Settings, caller: &Caller, request: &Request, lookup: &Lookup) -> Result<Checks, Problem> {
    let is_probe = matches!(lookup, Lookup::Found(Route::Health(route)) if !route.checks_token());
    let is_local = origin_of(caller, is_forwarded(request)) == Origin::Loopback;
    let is_public = match lookup {
        Lookup::Found(Route::Health(route)) => route.is_public(caller.plane, is_local),
        Lookup::Found(Route::Metrics) => settings.is_metrics_public || is_local,
        _ => false,
    };
    let token = !is_probe && (!is_public || presented_token(request)?.is_some());
    Ok(Checks { token, origin: !is_probe && (settings.token.is_none() || !token) })
}

/// The digest of the token that a request presents.
pub fn digest_of(token: &SharedToken, request: &Request) -> Result<Option<TokenDigest>, Problem> {
    Ok(presented_token(request)?.map(|bytes| token.digest(bytes)))
}

/// Headers that a proxy adds. With one of them a request may come from anywhere, though the proxy runs on this machine; what
/// they say is not believed, since anybody can write it.
const FORWARDED: [&str; 6] =
    ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"];

/// Whether a proxy says that it forwards a request.
pub fn is_forwarded(request: &Request) -> bool {
    FORWARDED.iter().any(|name| request.headers(name).next().is_some())
}

/// From where a request comes: from this machine only if no proxy forwards it.
pub fn origin_of(caller: &Caller, is_forwarded: bool) -> Origin {
    match Origin::of(caller.ip) {
        Origin::Loopback if is_forwarded => Origin::LocalNetwork,
        origin => origin,
    }
}

/// Writes the details of the event for a request without the token.
pub fn write_auth_failure(
    out: &mut Object,
    caller: &Caller,
    request: &Request,
    reason: AuthReason,
    redactor: &Redactor,
) {
    let method = without_credentials(request, request.method().as_str());
    out.text("path", &audited_path(redactor, request)).plain("ip", caller.ip).plain("reason", reason.as_str());
    out.text("method", &method).flag("token_present", reason != AuthReason::MissingToken);
}

/// Writes the details of the event for a request of a web page of another site.
pub fn write_foreign_origin(
    out: &mut Object,
    caller: &Caller,
    request: &Request,
    header: &'static str,
    redactor: &Redactor,
) {
    out.text("path", &audited_path(redactor, request)).plain("ip", caller.ip).plain("header", header);
}

/// Writes the details of the event for a path of the other plane.
pub fn write_port_mismatch(
    out: &mut Object,
    caller: &Caller,
    request: &Request,
    addrs: &PlaneAddrs,
    redactor: &Redactor,
) {
    let (port, expected) = (addrs.of(caller.plane).port(), addrs.of(caller.plane.other()).port());
    out.plain("ip", caller.ip).text("path", &audited_path(redactor, request));
    out.number("port", u64::from(port)).number("expected", u64::from(expected));
}

/// Checks the request's method against `allow`, the methods of the path.
pub fn check_method(allow: &'static str, request: &Request) -> Result<(), Problem> {
    let method = request.method().as_str();
    if allow.split(", ").any(|allowed| allowed == method) { Ok(()) } else { Err(Problem::method_not_allowed(allow)) }
}

/// A body without a media type counts as JSON: scripts for v1.5 send none. No route takes a compressed one.
fn check_media_type(request: &Request) -> Result<(), Problem> {
    let coding = header::single(request, "Content-Encoding")?;
    if coding.is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity")) && !request.body().is_empty() {
        return Err(Problem::unsupported_encoding());
    }
    let Some(value) = header::single(request, "Content-Type")? else { return Ok(()) };
    let essence = value.split(|byte| *byte == b';').next().unwrap_or(value).trim_ascii();
    let is_json = essence.eq_ignore_ascii_case(b"application/json")
        || essence.len() > 5 && essence[essence.len() - 5..].eq_ignore_ascii_case(b"+json");
    if is_json || request.body().is_empty() { Ok(()) } else { Err(Problem::unsupported_media_type()) }
}
