//! Notifications: what the hub reports unasked. Every event passes one function, which redacts secrets, gives it to the
//! alert rules, and adds it to the audit log, which coalesces repeated events. Event streams receive the audit log's
//! lines and the alerts.
//!
//! The resource: pages of the audit log and of the alerts' file, and event streams.

mod audit;
mod drops;
mod page;
mod strangers;
pub mod streams;

pub use audit::submit_status;
pub use page::Page;
use sheratan_core::{Audit, Calendar, IdentityStatus, Millis, Name, Timestamp};
pub use strangers::{Kind, Recorded};

use super::credentials::audited_path;
use super::problem::Problem;
use super::{Answer, Caller, Service, Settings, rules};
use crate::alerts::AlertLine;
use crate::audit::Event;
use crate::http::Request;
use crate::object::{Object, object};
use crate::redact::Redactor;
use drops::{Drops, Source};
use sheratan_core::DropReason;
use sheratan_core::alerts::{Alerts, Change};
use sheratan_core::telemetry::Observation;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use strangers::{Closing, Record, Strangers};
use streams::{Streams, Topic};

/// Events that have a line of their own in the alerts' file, since scripts in the field read them there.
const LINES_IN_ALERTS: [&str; 5] =
    ["POLICY_WARN", "POLICY_QUARANTINED", "IDENTITY_KEY_MISMATCH", "IDENTITY_INVALID_SIGNATURE", "IDENTITY_MISSING"];

/// Lines of such events in a minute.
const LINES_IN_ALERTS_MAX: u32 = 60;

/// The paths of this resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// The latest audit events.
    Audit,
    /// The alerts.
    Alerts,
    /// An event stream.
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

    /// Its label in the metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Route::Audit => "audit",
            Route::Alerts => "alerts",
            Route::Events => "events",
        }
    }

    /// Its methods, as `Allow` lists them.
    pub const fn methods(&self) -> &'static str {
        "GET, HEAD"
    }
}

/// Pending events and alerts, the alert rules and the event streams.
#[derive(Debug)]
pub struct Notifications {
    redactor: Arc<Redactor>,
    calendar: Calendar,
    events: Vec<Event>,
    drops: Drops,
    /// Who sent the orphans of the current round.
    orphan_sources: BTreeMap<u64, IpAddr>,
    /// Who first sent heartbeats of the current round after which a node's identity had that status.
    heartbeat_sources: BTreeMap<(Name, IdentityStatus), IpAddr>,
    strangers: Strangers,
    alerts: Alerts,
    alert_lines: Vec<AlertLine>,
    /// The minute in which events are written there, and how many were.
    lines_in_alerts: (Timestamp, u32),
    streams: Streams,
}

impl Notifications {
    /// No notifications yet; `redactor` removes the process's secrets from events.
    pub fn new(redactor: Arc<Redactor>, calendar: Calendar) -> Self {
        Notifications {
            redactor,
            calendar,
            events: Vec::new(),
            drops: Drops::default(),
            orphan_sources: BTreeMap::new(),
            heartbeat_sources: BTreeMap::new(),
            strangers: Strangers::default(),
            alerts: Alerts::default(),
            alert_lines: Vec::new(),
            lines_in_alerts: (Timestamp::ZERO, 0),
            streams: Streams::default(),
        }
    }

    /// The machine's clock was set: later notifications show this calendar.
    pub fn set_calendar(&mut self, calendar: Calendar) {
        self.calendar = calendar;
    }

    /// Adds an event; every event passes here. Secrets that a node's name or a path may hold are redacted, then the
    /// alert rules and the audit log get it.
    pub fn add(&mut self, mut event: Event) {
        self.redact(&mut event);
        match event.times {
            1 => self.count(&event),
            _ => self.count(&event.clone().written()),
        }
        if LINES_IN_ALERTS.contains(&event.event) {
            self.add_line_in_alerts(&event);
        }
        self.events.push(event);
    }

    /// Adds an event of a request that needs no token. `fill` writes its details, unless nobody reads them.
    fn add_of_stranger(&mut self, ts: Timestamp, address: IpAddr, kind: Kind, fill: impl FnOnce(&mut Object)) {
        self.end_strangers(ts, false);
        let (clock, name) = ((ts, self.calendar), kind.event());
        match self.strangers.record(ts, address, kind) {
            Record::Line => self.add(Event::new(clock, name, fill)),
            Record::LastLine(until) => {
                let until = self.calendar.utc(until);
                self.add(Event::new(clock, name, |out| {
                    fill(out);
                    out.time("counted_until_utc", until);
                }));
            }
            Record::Count if self.alerts.needs_details(name) => {
                let mut event = Event::new(clock, name, fill);
                self.redact(&mut event);
                self.count(&event);
            }
            Record::Count => {
                let mut changes = Vec::new();
                self.alerts.event_of(ts, name, address, &mut changes);
                self.add_alerts(changes);
            }
        }
    }

    /// Adds the counts of the strangers that are due, or of all at the end. The alert rules have counted these
    /// requests.
    pub fn end_strangers(&mut self, now: Timestamp, is_last: bool) {
        let until = if is_last { Timestamp::NEVER } else { now };
        while let Some(closings) = self.strangers.pop_due(until) {
            let clock = (now, self.calendar);
            self.events.extend(closings.into_iter().map(|closing| closing_line(clock, closing)));
        }
    }

    fn redact(&self, event: &mut Event) {
        if let Cow::Owned(redacted) = self.redactor.redact_json(&event.details) {
            event.details = redacted;
        }
    }

    fn count(&mut self, event: &Event) {
        let mut changes = Vec::new();
        self.alerts.event(event.ts, event.event, &event.details, &mut changes);
        self.add_alerts(changes);
    }

    /// Replaces the alert rules; unchanged rules keep their counts.
    pub fn set_alerts(&mut self, now: Timestamp, alerts: Alerts) {
        let before = std::mem::replace(&mut self.alerts, alerts);
        let mut changes = Vec::new();
        self.alerts.take_over(now, before, &mut changes);
        self.add_alerts(changes);
    }

    /// Opens and resolves the alerts that are due.
    pub fn advance_alerts(&mut self, now: Timestamp) {
        let mut changes = Vec::new();
        self.alerts.advance(now, &mut changes);
        self.add_alerts(changes);
    }

    /// When the next timer of an alert or a stream is due.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        let next = self.alerts.next_deadline().into_iter().chain(self.streams.next_timeout());
        next.chain(self.strangers.next_due()).chain(self.drops.due_at()).min()
    }

    /// The alerts, read-only.
    pub fn alerts(&self) -> &Alerts {
        &self.alerts
    }

    /// The event streams, read-only.
    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    /// An event that scripts in the field read in the alerts' file. A node that changes its state again and again cannot
    /// fill that: a minute has room for so many.
    fn add_line_in_alerts(&mut self, event: &Event) {
        let (since, lines) = &mut self.lines_in_alerts;
        if event.ts >= *since + Millis::from_secs(60) {
            (*since, *lines) = (event.ts, 0);
        }
        if *lines < LINES_IN_ALERTS_MAX {
            *lines += 1;
            let line = AlertLine::of_event((event.ts, self.calendar), event.event, &event.details);
            self.streams.alert(&line.line);
            self.alert_lines.push(line);
        }
    }

    fn add_alerts(&mut self, changes: Vec<Change>) {
        for change in changes {
            let line = AlertLine::new(self.calendar, change);
            self.streams.alert(&line.line);
            self.alert_lines.push(line);
        }
    }
}

/// The line that says how many requests of a stranger were only counted.
fn closing_line(clock: (Timestamp, Calendar), Closing { kind, address, counted }: Closing) -> Event {
    let mut details = Vec::new();
    object(&mut details, |out| {
        match address {
            Some(address) => out.plain("ip", address),
            None => out.plain("addresses", "others"),
        };
    });
    Event::counted(clock, kind.event(), counted.count, counted.first_at, &details)
}

impl Service {
    /// Replaces the alert rules; unchanged rules keep their counts.
    pub fn set_alerts(&mut self, now: Timestamp, alerts: Alerts) {
        self.notifications.set_alerts(now, alerts);
    }

    /// Events for the audit log; the caller drains them.
    pub fn events(&mut self) -> &mut Vec<Event> {
        &mut self.notifications.events
    }

    /// Alerts that opened, were updated or were resolved; the caller drains them.
    pub fn alert_lines(&mut self) -> &mut Vec<AlertLine> {
        &mut self.notifications.alert_lines
    }

    /// The event streams; the caller passes on the audit log's lines and pushes the streams' bytes to clients.
    pub fn streams(&mut self) -> &mut Streams {
        &mut self.notifications.streams
    }

    /// Whether an event stream has the audit log's lines.
    pub fn is_audit_wanted(&self) -> bool {
        self.notifications.streams.is_wanted(Topic::Audit)
    }

    /// Adds an event for `count` requests that were refused while the hub recovered.
    pub fn record_before_start(&mut self, recorded: Recorded, count: u64) {
        let Recorded { kind, address, is_token_present, event } = recorded;
        let event = event.on(self.hub.calendar());
        for _ in 0..count {
            match kind {
                Kind::PortMismatch => self.hub.observe(event.ts, Observation::PortMismatch),
                Kind::AuthFailure => self.hub.observe(event.ts, Observation::AuthFailure { address, is_token_present }),
                // Not recorded before the journal is read.
                Kind::TokenRetired | Kind::ForeignOrigin => {}
            }
        }
        self.notifications.add(event);
    }

    /// The hub refused `count` commands because something is full, and will report it.
    pub(super) fn note_drops(&mut self, reason: DropReason, count: u64) {
        self.notifications.drops.add(reason, count);
    }

    /// The refusals since the last call were answers to this request.
    pub(super) fn name_drops(&mut self, caller: &Caller, request: &Request) {
        if self.notifications.drops.has_current() {
            let redactor = &self.settings.redactor;
            self.notifications.drops.name(caller.ip, request.path(), || audited_path(redactor, request));
        }
    }

    /// Records a request that needs no token; `fill` writes the details of its line, if it gets one. `false` if it has
    /// to get one and the audit log accepts none.
    pub(super) fn record_stranger(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        kind: Kind,
        fill: impl FnOnce(&mut Object, &Settings),
    ) -> bool {
        let has_line = self.notifications.strangers.has_line(now, caller.ip);
        if has_line && !self.stalls.admits_refusals_event() {
            return false;
        }
        let settings = &self.settings;
        self.notifications.add_of_stranger(now, caller.ip, kind, |out| fill(out, settings));
        true
    }

    /// Adds an event of the service.
    pub(super) fn audit(&mut self, ts: Timestamp, event: &'static str, fill: impl FnOnce(&mut Object)) {
        self.notifications.add(Event::new((ts, self.hub.calendar()), event, fill));
    }

    /// Adds an event that stands for several.
    pub(super) fn audit_times(
        &mut self,
        ts: Timestamp,
        name: &'static str,
        times: u64,
        fill: impl FnOnce(&mut Object),
    ) {
        self.notifications.add(Event { times, ..Event::new((ts, self.hub.calendar()), name, fill) });
    }

    /// Adds an event of the hub; refusals are collected for [`Service::add_drops`].
    pub(super) fn audit_hub(&mut self, ts: Timestamp, audit: &Audit) {
        let Some(audit) = rules::told_to_log(audit) else { return };
        match audit {
            Audit::BackpressureDrop { .. } => self.notifications.drops.report(ts, audit),
            Audit::ResultOrphaned { orphan, .. } => {
                let ip = self.notifications.orphan_sources.remove(orphan);
                self.audit_from(ts, audit, 1, |out| _ = ip.map(|ip| out.plain("ip", ip)));
            }
            Audit::IdentityPinned { node, .. } => self.audit_identity(ts, audit, node, IdentityStatus::Valid),
            Audit::IdentityFault { node, status, .. } => self.audit_identity(ts, audit, node, *status),
            _ => self.audit_from(ts, audit, 1, |_| ()),
        }
    }

    fn audit_identity(&mut self, ts: Timestamp, audit: &Audit, node: &Name, status: IdentityStatus) {
        let ip = self.notifications.heartbeat_sources.get(&(node.clone(), status)).copied();
        self.audit_from(ts, audit, 1, |out| _ = ip.map(|ip| out.plain("ip", ip)));
    }

    /// The address that sent a heartbeat with a key or signature; its event follows when the hub is settled.
    pub(super) fn note_heartbeat_source(&mut self, node: Name, status: IdentityStatus, ip: IpAddr) {
        self.notifications.heartbeat_sources.entry((node, status)).or_insert(ip);
    }

    /// All events of the round were added.
    pub(super) fn forget_heartbeat_sources(&mut self) {
        self.notifications.heartbeat_sources.clear();
    }

    /// Adds the events of refusals that are due, or of all at the end. The hub is settled: it has reported all refusals.
    pub(super) fn add_drops(&mut self, now: Timestamp, is_last: bool) {
        if !self.notifications.drops.due_at().is_some_and(|at| at <= now || is_last) {
            return;
        }
        for (ts, audit) in self.notifications.drops.take_reported(now) {
            let Audit::BackpressureDrop { reason, count, .. } = audit else { unreachable!("nothing else is reported") };
            for (source, count) in self.notifications.drops.take(reason, count) {
                self.audit_from(ts, &audit, count, |out| {
                    if let Some(Source { ip, path }) = source {
                        out.text("path", &path).plain("ip", ip);
                    }
                });
            }
        }
    }

    /// The address that sent the result of an unknown job; its event follows when the hub is settled.
    pub(super) fn note_orphan(&mut self, orphan: u64, ip: IpAddr) {
        self.notifications.orphan_sources.insert(orphan, ip);
    }

    /// Adds an event of the hub; `fill` adds what the hub does not know.
    fn audit_from(&mut self, ts: Timestamp, audit: &Audit, times: u64, fill: impl FnOnce(&mut Object)) {
        let mut details = Vec::new();
        let mut event = "";
        let redactor = &self.settings.redactor;
        let calendar = self.hub.calendar();
        object(&mut details, |out| {
            event = audit::write_details(out, (calendar.utc(ts), calendar), self.hub.ids(), redactor, audit);
            fill(out);
        });
        self.notifications.add(Event { ts, calendar, event, details, is_count: false, times });
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
            Route::Alerts => {
                page::alerts((now, self.hub.calendar()), request, &self.notifications.alerts).map(Answer::Page)
            }
            Route::Events => self.open_stream(now, caller, request),
        }
    }
}
