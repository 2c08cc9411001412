//! Events: what happens and somebody may ask about later. Each goes through one place, without secrets: to the alert rules
//! one by one, then to the audit log.

use super::{Service, render};
use crate::alerts;
use crate::object::{Object, object};
use sheratan_core::alerts::{Alerts, Change};
use sheratan_core::effect::Audit;
use sheratan_core::telemetry::Observation;
use sheratan_core::time::Timestamp;
use std::borrow::Cow;

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

impl Service {
    /// Follows these alert rules from now on; rules that stay go on with what they have counted.
    pub fn set_alerts(&mut self, now: Timestamp, alerts: Alerts) {
        let before = std::mem::replace(&mut self.alerts, alerts);
        let mut changes = Vec::new();
        self.alerts.take_over(now, before, &mut changes);
        self.tell_alerts(changes);
    }

    /// Alerts that opened, go on or are over; the caller drains them.
    pub fn alert_lines(&mut self) -> &mut Vec<AlertLine> {
        &mut self.alert_lines
    }

    /// Tells the audit log of something that the hub does not see.
    pub(super) fn audit(&mut self, ts: Timestamp, event: &'static str, fill: impl FnOnce(&mut Object)) {
        self.tell(Event::new(ts, event, fill));
    }

    /// Notes what the hub says for the audit log.
    pub(super) fn note(&mut self, ts: Timestamp, audit: &Audit) {
        let mut details = Vec::new();
        let mut event = "";
        let redactor = &self.settings.redactor;
        object(&mut details, |out| event = render::audit(out, self.hub.key(), redactor, audit));
        self.tell(Event { ts, event, details });
    }

    /// Paths of the other plane were asked for before there was a hub; the event stands for `count` of them.
    pub fn record_earlier(&mut self, event: Event, count: u64) {
        (0..count).for_each(|_| self.hub.observe(event.ts, Observation::PortMismatch));
        self.tell(event);
    }

    /// Every event goes through here: without the secrets that a node's name or a path may hold it goes to the alert rules,
    /// one by one, and to the audit log, which puts together what repeats.
    pub(super) fn tell(&mut self, mut event: Event) {
        if let Cow::Owned(redacted) = self.settings.redactor.redact_json(&event.details) {
            event.details = redacted;
        }
        let mut changes = Vec::new();
        self.alerts.event(event.ts, event.event, &event.details, &mut changes);
        self.tell_alerts(changes);
        self.events.push(event);
    }

    pub(super) fn tell_alerts(&mut self, changes: Vec<Change>) {
        for change in changes {
            let mut line = Vec::new();
            alerts::line::write(&mut line, &change);
            self.streams.alert(&line);
            self.alert_lines.push(AlertLine { change, line });
        }
    }
}
