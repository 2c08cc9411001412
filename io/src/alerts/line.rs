//! Lines: a change of an alert as a line of `alerts.jsonl`, or an event of the audit log that is one by itself.
//!
//! `ts`, `event` and the details' `count`, `window_sec`, `threshold` and `top_ips` are frozen; the rest may grow.

use crate::object::{Object, object};
use sheratan_core::alerts::{Alert, Change};
use sheratan_core::{Calendar, Timestamp};

/// A line for the alerts' file, and what it says for the webhook.
#[derive(Clone, PartialEq, Debug)]
pub struct AlertLine {
    /// The change of an alert; absent for an event as scripts in the field read it.
    pub change: Option<Change>,
    /// What the calendar showed then.
    pub calendar: Calendar,
    /// It as a line, without its line feed.
    pub line: Vec<u8>,
}

impl AlertLine {
    /// The line of a change.
    pub fn new(calendar: Calendar, change: Change) -> AlertLine {
        let mut line = Vec::new();
        write(&mut line, calendar, &change);
        AlertLine { change: Some(change), calendar, line }
    }

    /// The line of an event: its name and its details.
    pub fn of_event((at, calendar): (Timestamp, Calendar), event: &str, details: &[u8]) -> AlertLine {
        let mut line = Vec::new();
        object(&mut line, |out| _ = out.time("ts", calendar.utc(at)).plain("event", event).raw("details", details));
        AlertLine { change: None, calendar, line }
    }
}

/// Writes the change's line, without its line end.
pub fn write(out: &mut Vec<u8>, calendar: Calendar, change: &Change) {
    let alert = &change.alert;
    object(out, |line| {
        line.time("ts", calendar.utc(change.at)).plain("event", format_args!("BURST_{}", alert.event));
        line.object("details", |out| {
            numbers(out, calendar, alert);
            out.plain("state", change.state.as_str());
            out.number("duration_ms", change.at.since(alert.opened_at).get());
        });
    });
}

/// Writes an open alert, as `GET /api/alerts` shows it.
pub fn write_open(out: &mut Vec<u8>, (now, calendar): (Timestamp, Calendar), alert: &Alert) {
    object(out, |out| {
        out.plain("event", format_args!("BURST_{}", alert.event));
        numbers(out, calendar, alert);
        out.number("duration_ms", now.since(alert.opened_at).get());
    });
}

fn numbers(out: &mut Object, calendar: Calendar, alert: &Alert) {
    out.number("count", alert.count).number("window_sec", alert.window.as_secs_ceil());
    out.number("threshold", alert.threshold);
    out.array("top_ips", &alert.top, |out, (ip, count)| {
        object(out, |out| _ = out.plain("ip", ip).number("count", *count));
    });
    out.plain("alert_id", format_args!("alert_{:016x}", alert.id)).plain("rule", &alert.rule);
    if let Some((member, value)) = &alert.group {
        out.object("group", |out| _ = out.text(member, value));
    }
    out.time("opened_ts", calendar.utc(alert.opened_at)).number("total", alert.total);
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheratan_core::Millis;
    use sheratan_core::alerts::State;

    #[test]
    fn a_line_has_the_frozen_members_and_those_that_identify_its_alert() {
        let alert = Alert {
            id: 0xab,
            rule: "auth_failure_burst".into(),
            event: "AUTH_FAILURE".into(),
            threshold: 20,
            window: Millis::from_secs(60),
            cooldown: Millis::from_secs(300),
            group: Some(("ip".into(), "a\"b".into())),
            opened_at: Timestamp::from_millis(500),
            count: 21,
            total: 22,
            top: vec![("192.0.2.1".parse().unwrap(), 21)],
        };
        let mut line = Vec::new();
        let calendar = Calendar::from_offset_ms(500);
        write(&mut line, calendar, &Change { at: Timestamp::from_millis(1_000), state: State::Updated, alert });
        let expected = serde_json::json!({
            "ts": "1970-01-01T00:00:01.500Z", "event": "BURST_AUTH_FAILURE",
            "details": {
                "count": 21, "window_sec": 60, "threshold": 20, "top_ips": [{"ip": "192.0.2.1", "count": 21}],
                "alert_id": "alert_00000000000000ab", "rule": "auth_failure_burst", "group": {"ip": "a\"b"},
                "opened_ts": "1970-01-01T00:00:01.000Z", "total": 22, "state": "updated", "duration_ms": 500
            }
        });
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&line).unwrap(), expected);
    }
}
