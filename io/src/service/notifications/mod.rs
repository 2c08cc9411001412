//! Notifications: what the hub says of its own accord. Each event goes through one place, without secrets: to the alert rules
//! one by one, then to the audit log, which puts together what repeats. Who listens is sent the log's lines and the alerts.
//!
//! The resource beside it: pages of the audit log and of the alerts' file, and event streams.

mod audit;
mod page;
pub mod streams;

pub use page::Page;

use super::problem::Problem;
use super::{Answer, Caller, Service};
use crate::alerts;
use crate::http::Request;
use crate::object::{Object, object};
use crate::redact::Redactor;
use sheratan_core::effect::Audit;
use sheratan_core::telemetry::Observation;
use sheratan_core::alerts::{Alerts, Change};
use sheratan_core::time::Timestamp;
use std::borrow::Cow;
use std::sync::Arc;
use streams::{Streams, Topic};

/// What a path of this resource names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// The latest audit events.
    Audit,
    /// The alerts.
    Alerts,
    /// What happens, as it happens.
    Events,
}

impl Route {
    pub fn find(path: &str) -> Option<Self> {
        match path {
            "/api/audit" => Some(Route::Audit),
            "/api/alerts" => Some(Route::Alerts),
            "/api/events" => Some(Route::Events),
            _ => None,
        }
    }

    /// The word for it in the metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Route::Audit => "audit",
            Route::Alerts => "alerts",
            Route::Events => "events",
        }
    }

    /// The methods that it takes, as `Allow` lists them.
    pub const fn methods(&self) -> &'static str {
        "GET, HEAD"
    }
}

/// One event for the audit log.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    /// When it happened.
    pub ts: Timestamp,
    /// Its name.
    pub event: &'static str,
    /// Its details, a JSON object.
    pub details: Vec<u8>,
}

impl Event {
    pub(super) fn new(ts: Timestamp, event: &'static str, fill: impl FnOnce(&mut Object)) -> Event {
        let mut details = Vec::new();
        object(&mut details, fill);
        Event { ts, event, details }
    }

    /// One event for several alike, of which this was the last: its details, with how many there were and since when.
    pub fn counted(ts: Timestamp, event: &'static str, count: u64, first_ts: Timestamp, last_details: &[u8]) -> Event {
        let mut counted = Event::new(ts, event, |out| _ = out.number("count", count).time("first_ts", first_ts));
        if let Some(members) = last_details.strip_prefix(b"{").filter(|members| members.len() > 1) {
            counted.details.pop();
            counted.details.push(b',');
            counted.details.extend_from_slice(members);
        }
        counted
    }
}

/// A change of an alert, for the alerts' file and the webhook.
#[derive(Clone, PartialEq, Debug)]
pub struct AlertLine {
    /// What changed.
    pub change: Change,
    /// Its line, without the end.
    pub line: Vec<u8>,
}

/// What is to be said, and to whom.
#[derive(Debug)]
pub struct Notifications {
    redactor: Arc<Redactor>,
    events: Vec<Event>,
    alerts: Alerts,
    alert_lines: Vec<AlertLine>,
    streams: Streams,
}

impl Notifications {
    /// None yet; the redactor takes the process' secrets out of events.
    pub fn new(redactor: Arc<Redactor>) -> Self {
        Notifications {
            redactor,
            events: Vec::new(),
            alerts: Alerts::default(),
            alert_lines: Vec::new(),
            streams: Streams::default(),
        }
    }

    /// Every event goes through here: without the secrets that a node's name or a path may hold it goes to the alert rules,
    /// one by one, and to the audit log.
    pub fn add(&mut self, mut event: Event) {
        if let Cow::Owned(redacted) = self.redactor.redact_json(&event.details) {
            event.details = redacted;
        }
        let mut changes = Vec::new();
        self.alerts.event(event.ts, event.event, &event.details, &mut changes);
        self.add_alerts(changes);
        self.events.push(event);
    }

    /// Follows these alert rules from now on; rules that stay go on with what they have counted.
    pub fn set_alerts(&mut self, now: Timestamp, alerts: Alerts) {
        let before = std::mem::replace(&mut self.alerts, alerts);
        let mut changes = Vec::new();
        self.alerts.take_over(now, before, &mut changes);
        self.add_alerts(changes);
    }

    /// Opens and resolves alerts as time says.
    pub fn advance_alerts(&mut self, now: Timestamp) {
        let mut changes = Vec::new();
        self.alerts.advance(now, &mut changes);
        self.add_alerts(changes);
    }

    /// When an alert or a stream falls due next.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        self.alerts.next_deadline().into_iter().chain(self.streams.next_timeout()).min()
    }

    /// The alerts, to read.
    pub fn alerts(&self) -> &Alerts {
        &self.alerts
    }

    /// Who listens, to read.
    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    fn add_alerts(&mut self, changes: Vec<Change>) {
        for change in changes {
            let mut line = Vec::new();
            alerts::line::write(&mut line, &change);
            self.streams.alert(&line);
            self.alert_lines.push(AlertLine { change, line });
        }
    }
}

impl Service {
    /// Follows these alert rules from now on; rules that stay go on with what they have counted.
    pub fn set_alerts(&mut self, now: Timestamp, alerts: Alerts) {
        self.notifications.set_alerts(now, alerts);
    }

    /// What the audit log is to hold; the caller drains it.
    pub fn events(&mut self) -> &mut Vec<Event> {
        &mut self.notifications.events
    }

    /// Alerts that opened, go on or are resolved; the caller drains them.
    pub fn alert_lines(&mut self) -> &mut Vec<AlertLine> {
        &mut self.notifications.alert_lines
    }

    /// Who listens to what happens; the caller passes on what the audit log has, and pushes what they are sent.
    pub fn streams(&mut self) -> &mut Streams {
        &mut self.notifications.streams
    }

    /// Whether somebody listens to the audit log.
    pub fn is_audit_wanted(&self) -> bool {
        self.notifications.streams.is_wanted(Topic::Audit)
    }

    /// Paths of the other plane were asked for before there was a hub; the event stands for `count` of them.
    pub fn record_earlier(&mut self, event: Event, count: u64) {
        (0..count).for_each(|_| self.hub.observe(event.ts, Observation::PortMismatch));
        self.notifications.add(event);
    }

    /// Adds an event that the hub does not see.
    pub(super) fn audit(&mut self, ts: Timestamp, event: &'static str, fill: impl FnOnce(&mut Object)) {
        self.notifications.add(Event::new(ts, event, fill));
    }

    /// Adds an event of the hub.
    pub(super) fn audit_hub(&mut self, ts: Timestamp, audit: &Audit) {
        let mut details = Vec::new();
        let mut event = "";
        let redactor = &self.settings.redactor;
        object(&mut details, |out| event = audit::write_details(out, self.hub.key(), redactor, audit));
        self.notifications.add(Event { ts, event, details });
    }

    pub(super) fn handle_notifications(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
        route: Route,
    ) -> Result<Answer, Problem> {
        match route {
            Route::Audit => page::audit(request).map(Answer::Page),
            Route::Alerts => page::alerts(now, request, &self.notifications.alerts).map(Answer::Page),
            Route::Events => self.open_stream(now, caller, request),
        }
    }
}
