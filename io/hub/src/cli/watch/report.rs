//! The report: alerts as text, one by one and as a summary at the end.

use super::super::terminal::{self, BAD, DIM, GOOD, WARN, printable, styled};
use sheratan_core::alerts::{Alerts, Change, State};
use sheratan_io::rfc3339::Rfc3339;
use std::collections::BTreeMap;

/// The counts of a watch.
#[derive(Default)]
pub struct Report {
    /// Lines of the audit log.
    pub lines: u64,
    /// Lines that are not of an audit log.
    pub unread: u64,
    /// Alerts and their events by rule.
    rules: BTreeMap<String, (u64, u64)>,
}

impl Report {
    /// An alert changed.
    pub fn change(&mut self, change: &Change) {
        let (alerts, largest) = self.rules.entry(change.alert.rule.clone()).or_default();
        *alerts += u64::from(change.state == State::Opened);
        *largest = (*largest).max(change.alert.total);
    }

    /// Prints the summary.
    pub fn end(&self, alerts: &Alerts) {
        let opened: u64 = self.rules.values().map(|(alerts, _)| alerts).sum();
        let open = alerts.open().count();
        terminal::note(format_args!("{} lines, {opened} alerts, {open} of them still open", self.lines));
        for (rule, (alerts, largest)) in &self.rules {
            terminal::note(format_args!("  {rule}: {alerts} alerts, the largest with {largest} events"));
        }
        if self.unread > 0 {
            let text = format_args!("{} lines are none of an audit log", self.unread);
            terminal::note(format_args!("{}: {text}", styled(WARN, "warning")));
        }
    }
}

/// A change as text.
pub fn shown(change: &Change) -> String {
    let alert = &change.alert;
    let style = match change.state {
        State::Opened => BAD,
        State::Updated => WARN,
        State::Resolved => GOOD,
    };
    let group = alert.group.as_ref().map(|(member, value)| format!(" {member}={}", printable(value)));
    let numbers = match change.state {
        State::Opened => {
            format!("{} in {} s, more than {}", alert.count, alert.window.as_secs_ceil(), alert.threshold)
        }
        State::Updated => format!("{} in {} s, {} so far", alert.count, alert.window.as_secs_ceil(), alert.total),
        State::Resolved => {
            format!("{} events in {} s", alert.total, change.at.since(alert.opened_at).as_secs_ceil())
        }
    };
    let top = alert.top.first().map(|(ip, count)| format!(", most from {ip} ({count})")).unwrap_or_default();
    format!(
        "{} {} BURST_{}{} {}",
        styled(DIM, Rfc3339::new(super::LOG_TIME.utc(change.at))),
        styled(style, format_args!("{:8}", change.state.as_str())),
        printable(&alert.event),
        group.unwrap_or_default(),
        format_args!("{numbers}{top} [{}]", printable(&alert.rule)),
    )
}
