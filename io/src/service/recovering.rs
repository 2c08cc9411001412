//! Recovering: the replies while the hub recovers. Liveness and paths of the other plane are answered as usual, and what
//! is refused afterwards is refused now: a request without the token, or from a web page. Every other request is asked to
//! retry.

use super::notifications::{Kind, Recorded};
use super::problem::{AuthReason, Problem};
use super::route::{self, Lookup, Route};
use super::stalls::Stalls;
use super::{Caller, Settings, access, health, origin};
use crate::audit::Event;
use crate::http::{Reply, Request};
use crate::object::Object;
use sheratan_core::{AuthGuard, Calendar, Millis, Timestamp};
use std::collections::BTreeMap;

/// When to retry: most recoveries take less.
const RETRY_AFTER_MS: Millis = Millis::from_secs(1);

/// Events that are kept individually until the audit log opens; further ones are only counted.
const EVENTS_MAX: usize = 64;

/// The replies of a hub that recovers.
pub struct Recovering {
    settings: Settings,
    guard: AuthGuard,
    /// The recovery's progress; `None` while the snapshot is read.
    progress: Option<Replayed>,
    events: Vec<Recorded>,
    counted: BTreeMap<Kind, Counted>,
}

/// The progress of a recovery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Replayed {
    /// Records replayed.
    pub records: u64,
    /// Segments that are not replayed completely.
    pub segments_left: u64,
}

/// Requests of a kind that are only counted.
#[derive(Debug)]
struct Counted {
    count: u64,
    first_at: Timestamp,
    /// The first of them.
    first: Recorded,
}

impl Recovering {
    /// A recovery that has just begun, of a hub with these settings.
    pub fn new(settings: Settings) -> Self {
        let guard = AuthGuard::new(settings.auth_failures_max, settings.is_loopback_exempt);
        Recovering { settings, guard, progress: None, events: Vec::new(), counted: BTreeMap::new() }
    }

    /// Sets the progress that replies show.
    pub fn set_progress(&mut self, progress: Option<Replayed>) {
        self.progress = progress;
    }

    /// Answers a request.
    pub fn handle(&mut self, clock: (Timestamp, Calendar), caller: &Caller, request: &Request) -> Reply {
        self.route(clock, caller, request).unwrap_or_else(Problem::into_reply)
    }

    /// Answers a request whose body is not read: it changes nothing about the answer, and needs the token for any path.
    pub fn refuse_body(&mut self, clock: (Timestamp, Calendar), caller: &Caller, head: &Request) -> Reply {
        let is_ours = route::find(caller.plane, head.path()) != Lookup::OtherPlane;
        match if is_ours { self.check_token(clock, caller, head) } else { Ok(()) } {
            Ok(()) => self.handle(clock, caller, head),
            Err(problem) => problem.into_reply(),
        }
    }

    /// The requests for the audit log, each with its count.
    pub fn into_events(self) -> Vec<(Recorded, u64)> {
        let counted = self.counted.into_values().map(|Counted { count, first_at, first }| {
            let Event { ts, calendar, event, details, .. } = first.event;
            (Recorded { event: Event::counted((ts, calendar), event, count, first_at, &details), ..first }, count)
        });
        self.events.into_iter().map(|event| (event, 1)).chain(counted).collect()
    }

    fn route(&mut self, clock: (Timestamp, Calendar), caller: &Caller, request: &Request) -> Result<Reply, Problem> {
        let lookup = route::find(caller.plane, request.path());
        if lookup == Lookup::OtherPlane {
            self.record(clock, caller, Kind::PortMismatch, false, |out, settings| {
                access::write_port_mismatch(out, caller, request, &settings.addrs, &settings.redactor);
            });
            return Err(Problem::port_mismatch(caller.plane, &self.settings.addrs));
        }
        // As afterwards: what is refused then is refused now.
        let checks = access::checks(&self.settings, caller, request, &lookup)?;
        if checks.token {
            self.check_token(clock, caller, request)?;
        }
        if checks.origin
            && let Some(header) = origin::foreign(&self.settings, caller, request)?
        {
            self.record(clock, caller, Kind::ForeignOrigin, false, |out, settings| {
                access::write_foreign_origin(out, caller, request, header, &settings.redactor);
            });
            return Err(Problem::foreign_origin(header));
        }
        match lookup {
            Lookup::Found(Route::Health(route @ (health::Route::Health | health::Route::Livez))) => {
                access::check_method(route.methods(), request)?;
                let (now, calendar) = clock;
                let none = Stalls::default();
                Ok(if route == health::Route::Health {
                    health::health(calendar.utc(now), caller.plane, &none)
                } else {
                    health::livez(&none)
                })
            }
            _ => Err(Problem::not_ready(self.detail(), RETRY_AFTER_MS)),
        }
    }

    fn check_token(&mut self, clock: (Timestamp, Calendar), caller: &Caller, request: &Request) -> Result<(), Problem> {
        let Some(token) = &self.settings.token else { return Ok(()) };
        if let Some(wait) = self.guard.blocked_for(clock.0, caller.ip) {
            return Err(Problem::auth_blocked(wait));
        }
        // What the journal says of tokens is not known yet.
        let reason = match access::digest_of(token, request)? {
            Some(digest) if token.is_known(&digest) => return Ok(()),
            Some(_) => AuthReason::BadToken,
            None => AuthReason::MissingToken,
        };
        self.guard.record_failure(clock.0, caller.ip);
        let is_token_present = reason == AuthReason::BadToken;
        self.record(clock, caller, Kind::AuthFailure, is_token_present, |out, settings| {
            access::write_auth_failure(out, caller, request, reason, &settings.redactor);
        });
        Err(Problem::auth_failure(reason))
    }

    fn detail(&self) -> String {
        let seconds = RETRY_AFTER_MS.as_secs_ceil();
        match self.progress {
            None => format!("the hub is recovering: it reads its last snapshot; retry in {seconds} s"),
            Some(Replayed { records, segments_left }) => format!(
                "the hub is recovering: {records} records of the journal replayed, {segments_left} segments left; retry in {seconds} s"
            ),
        }
    }

    /// Records a request that is refused; `fill` writes its details, unless it is one of many.
    fn record(
        &mut self,
        clock: (Timestamp, Calendar),
        caller: &Caller,
        kind: Kind,
        is_token_present: bool,
        fill: impl FnOnce(&mut Object, &Settings),
    ) {
        if let Some(counted) = self.counted.get_mut(&kind) {
            counted.count += 1;
            return;
        }
        let event = Event::new(clock, kind.event(), |out| fill(out, &self.settings));
        let recorded = Recorded { kind, address: caller.ip, is_token_present, event };
        if self.events.len() < EVENTS_MAX {
            return self.events.push(recorded);
        }
        self.counted.insert(kind, Counted { count: 1, first_at: clock.0, first: recorded });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Connection, Limits};
    use crate::secret::Secret;
    use crate::service::{Origin, Plane};
    use crate::shared_token::SharedToken;
    use crate::token::Token;
    use std::net::{IpAddr, Ipv4Addr};

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);
    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const TOKEN: &str = "0123456789abcdef";
    const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn recovering() -> Recovering {
        let token = Token::new(Secret::new(TOKEN.as_bytes())).expect("it is visible");
        Recovering::new(Settings { token: Some(SharedToken::single(&token)), ..Settings::local(NOW) })
    }

    fn ask(recovering: &mut Recovering, plane: Plane, ip: IpAddr, target: &str) -> (u16, String) {
        ask_with(recovering, plane, ip, target, "")
    }

    fn ask_with(recovering: &mut Recovering, plane: Plane, ip: IpAddr, target: &str, token: &str) -> (u16, String) {
        let mut wire = Connection::new(NOW, &Limits::default());
        let header = if token.is_empty() { String::new() } else { format!("X-Sheratan-Token: {token}\r\n") };
        wire.received(NOW, format!("{target} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n").as_bytes());
        let request = wire.next_request(NOW).expect("a whole request came");
        let caller = Caller { plane, ip, origin: Origin { connection: 1, request: request.id() } };
        let reply = recovering.handle((NOW, Calendar::UNSET), &caller, &request);
        (reply.status(), String::from_utf8(reply.body().to_vec()).unwrap())
    }

    #[test]
    fn each_path_is_answered_as_far_as_it_can_be() {
        use Plane::{Control, Data};
        // The status without a token, with a wrong one, and with the right one.
        let table = [
            (Control, FAR, "GET /livez", [200, 200, 200]),
            (Control, FAR, "GET /readyz", [503, 503, 503]),
            (Control, FAR, "GET /health", [200, 403, 200]),
            (Data, FAR, "HEAD /livez", [200, 200, 200]),
            (Data, LOCAL, "GET /health", [200, 403, 200]),
            (Data, FAR, "GET /health", [403, 403, 200]),
            (Data, LOCAL, "GET /metrics", [503, 403, 503]),
            (Control, FAR, "GET /metrics", [403, 403, 503]),
            (Data, LOCAL, "POST /livez", [405, 405, 405]),
            (Control, LOCAL, "GET /api/registry", [403, 403, 503]),
            (Data, LOCAL, "POST /mesh/submit_request", [403, 403, 503]),
            (Data, LOCAL, "GET /nowhere", [403, 403, 503]),
            (Control, FAR, "POST /mesh/submit_request", [410, 410, 410]),
            (Data, FAR, "GET /api/audit", [410, 410, 410]),
        ];
        for (plane, ip, target, expected) in table {
            let found = ["", "wrong", TOKEN].map(|token| ask_with(&mut recovering(), plane, ip, target, token).0);
            assert_eq!(found, expected, "{target}");
        }
    }

    #[test]
    fn a_token_is_guessed_no_more_often_than_afterwards() {
        let mut recovering = recovering();
        let mut guess = |token: &str| ask_with(&mut recovering, Plane::Data, FAR, "GET /mesh/jobs", token).0;
        assert!((0..60).all(|_| guess("wrong") == 403));
        assert_eq!([guess("wrong"), guess(TOKEN)], [429, 429]);
        let events = recovering.into_events();
        assert!(events.iter().all(|(recorded, count)| *count == 1 && recorded.kind == Kind::AuthFailure));
        assert_eq!(events.len(), 60);
    }

    #[test]
    fn a_body_is_not_read_for_anybody_without_the_token() {
        for (token, status) in [("", 403), ("wrong", 403), (TOKEN, 405)] {
            let mut wire = Connection::new(NOW, &Limits::default());
            wire.check_heads();
            let head = format!(
                "POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\nX-Sheratan-Token: {token}\r\n\r\n"
            );
            wire.received(NOW, head.replace("X-Sheratan-Token: \r\n", "").as_bytes());
            let request = wire.unadmitted_request().expect("its head came");
            let caller =
                Caller { plane: Plane::Data, ip: LOCAL, origin: Origin { connection: 1, request: request.id() } };
            let reply = recovering().refuse_body((NOW, Calendar::UNSET), &caller, &request);
            assert_eq!(reply.status(), status, "{token}");
        }
    }

    #[test]
    fn a_reply_shows_the_progress() {
        let mut recovering = recovering();
        let (_, body) = ask(&mut recovering, Plane::Data, LOCAL, "GET /readyz");
        assert!(body.contains("not_ready") && body.contains("reads its last snapshot"), "{body}");
        recovering.set_progress(Some(Replayed { records: 8_192, segments_left: 3 }));
        let (_, body) = ask(&mut recovering, Plane::Data, LOCAL, "GET /readyz");
        assert!(body.contains("8192 records of the journal replayed, 3 segments left; retry in 1 s"), "{body}");
    }

    #[test]
    fn the_first_requests_for_paths_of_the_other_plane_are_separate_events_and_the_rest_are_one_count() {
        let mut recovering = recovering();
        for n in 0..EVENTS_MAX + 3 {
            ask(&mut recovering, Plane::Data, LOCAL, &format!("GET /api/policies/{n}"));
        }
        let events = recovering.into_events();
        let details = |event: &Event| serde_json::from_slice::<serde_json::Value>(&event.details).unwrap();
        assert_eq!(events.len(), EVENTS_MAX + 1);
        assert!(events.iter().all(|(recorded, _)| recorded.event.event == "PORT_MISMATCH" && recorded.event.ts == NOW));
        assert_eq!(details(&events[0].0.event)["path"], "/api/policies/0");
        let counted = details(&events[EVENTS_MAX].0.event);
        assert_eq!((events[0].1, events[EVENTS_MAX].1), (1, 3));
        assert_eq!((&counted["count"], &counted["path"]), (&3.into(), &"/api/policies/64".into()));
    }
}
