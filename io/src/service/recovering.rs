//! Recovering: the replies while the hub recovers. Liveness and paths of the other plane are answered as usual; every
//! other request is asked to retry.

use super::Caller;
use super::access;
use super::health;
use super::notifications::Kind;
use super::plane::PlaneAddrs;
use super::problem::Problem;
use super::route::{self, Lookup, Route};
use super::stalls::Stalls;
use crate::audit::Event;
use crate::http::{Reply, Request};
use crate::redact::Redactor;
use sheratan_core::{Calendar, Millis, Timestamp};
use std::sync::Arc;

/// When to retry: most recoveries take less.
const RETRY_AFTER_MS: Millis = Millis::from_secs(1);

/// Events that are kept individually until the audit log opens; further ones are only counted. So few do not reach the
/// audit log's limit of lines per kind in ten seconds, so the log does not coalesce the count into another one.
const EVENTS_MAX: usize = 64;

/// The replies of a hub that recovers.
#[derive(Debug)]
pub struct Recovering {
    addrs: PlaneAddrs,
    redactor: Arc<Redactor>,
    /// The recovery's progress; `None` while the snapshot is read.
    progress: Option<Replayed>,
    events: Vec<Event>,
    counted: Option<Counted>,
}

/// The progress of a recovery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Replayed {
    /// Records replayed.
    pub records: u64,
    /// Segments that are not replayed completely.
    pub segments_left: u64,
}

/// Events that are only counted.
#[derive(Debug)]
struct Counted {
    count: u64,
    first_ts: Timestamp,
    last: Event,
}

impl Recovering {
    /// A recovery that has just begun.
    pub fn new(addrs: PlaneAddrs, redactor: Arc<Redactor>) -> Self {
        Recovering { addrs, redactor, progress: None, events: Vec::new(), counted: None }
    }

    /// Sets the progress that replies show.
    pub fn set_progress(&mut self, progress: Option<Replayed>) {
        self.progress = progress;
    }

    /// Answers a request.
    pub fn handle(&mut self, clock: (Timestamp, Calendar), caller: &Caller, request: &Request) -> Reply {
        self.route(clock, caller, request).unwrap_or_else(Problem::into_reply)
    }

    /// The events for the audit log (requests for paths of the other plane), each with its count.
    pub fn into_events(self) -> Vec<(Event, u64)> {
        let counted = self.counted.map(|Counted { count, first_ts, last }| {
            (Event::counted((last.ts, last.calendar), last.event, count, first_ts, &last.details), count)
        });
        self.events.into_iter().map(|event| (event, 1)).chain(counted).collect()
    }

    fn route(&mut self, clock: (Timestamp, Calendar), caller: &Caller, request: &Request) -> Result<Reply, Problem> {
        let lookup = route::find(caller.plane, request.path());
        match lookup {
            Lookup::OtherPlane => {
                let event = Event::new(clock, Kind::PortMismatch.event(), |out| {
                    access::write_port_mismatch(out, caller, request, &self.addrs, &self.redactor);
                });
                self.add_event(event);
                Err(Problem::port_mismatch(caller.plane, &self.addrs))
            }
            Lookup::Found(Route::Health(route @ (health::Route::Health | health::Route::Livez)))
                if route.is_public(caller) =>
            {
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

    fn detail(&self) -> String {
        let seconds = RETRY_AFTER_MS.as_secs_ceil();
        match self.progress {
            None => format!("the hub is recovering: it reads its last snapshot; retry in {seconds} s"),
            Some(Replayed { records, segments_left }) => format!(
                "the hub is recovering: {records} records of the journal replayed, {segments_left} segments left; retry in {seconds} s"
            ),
        }
    }

    fn add_event(&mut self, event: Event) {
        if self.events.len() < EVENTS_MAX {
            return self.events.push(event);
        }
        self.counted = Some(match self.counted.take() {
            None => Counted { count: 1, first_ts: event.ts, last: event },
            Some(counted) => Counted { count: counted.count + 1, last: event, ..counted },
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Connection, Limits};
    use crate::service::{Origin, Plane};
    use std::net::{IpAddr, Ipv4Addr};

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);
    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn recovering() -> Recovering {
        Recovering::new(
            PlaneAddrs { control: (LOCAL, 8787).into(), data: (LOCAL, 8788).into() },
            Arc::new(Redactor::new(&[])),
        )
    }

    fn ask(recovering: &mut Recovering, plane: Plane, ip: IpAddr, target: &str) -> (u16, String) {
        let mut wire = Connection::new(NOW, &Limits::default());
        wire.received(NOW, format!("{target} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        let request = wire.next_request(NOW).expect("a whole request came");
        let caller = Caller { plane, ip, origin: Origin { connection: 1, request: request.id() } };
        let reply = recovering.handle((NOW, Calendar::UNSET), &caller, &request);
        (reply.status(), String::from_utf8(reply.body().to_vec()).unwrap())
    }

    #[test]
    fn each_path_is_answered_as_far_as_it_can_be() {
        use Plane::{Control, Data};
        let table = [
            (Control, FAR, "GET /livez", 200),
            (Control, FAR, "GET /health", 200),
            (Data, FAR, "HEAD /livez", 200),
            (Data, LOCAL, "GET /health", 200),
            (Data, FAR, "GET /health", 503),
            (Data, LOCAL, "POST /livez", 405),
            (Control, LOCAL, "GET /readyz", 503),
            (Control, LOCAL, "GET /api/registry", 503),
            (Data, LOCAL, "POST /mesh/submit_request", 503),
            (Data, LOCAL, "GET /nowhere", 503),
            (Control, FAR, "POST /mesh/submit_request", 410),
            (Data, FAR, "GET /api/audit", 410),
        ];
        for (plane, ip, target, status) in table {
            assert_eq!(ask(&mut recovering(), plane, ip, target).0, status, "{target}");
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
        assert!(events.iter().all(|(event, _)| event.event == "PORT_MISMATCH" && event.ts == NOW));
        assert_eq!(details(&events[0].0)["path"], "/api/policies/0");
        let last = details(&events[EVENTS_MAX].0);
        assert_eq!((events[0].1, events[EVENTS_MAX].1), (1, 3));
        assert_eq!((&last["count"], &last["path"]), (&3.into(), &"/api/policies/66".into()));
    }
}
