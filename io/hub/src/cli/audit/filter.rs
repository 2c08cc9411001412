//! Filters: which lines of the audit log are shown.

use super::super::instant::Instant;
use super::line::{Line, fits};
use serde_json::Value;
use sheratan_core::Utc;
use sheratan_io::rfc3339;
use std::net::IpAddr;

/// The filters of the command line; a line must match all of them.
#[derive(clap::Args, Debug)]
pub struct FilterArgs {
    /// Only these events; 'NODE_*' matches by prefix
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    event: Vec<String>,
    /// Only events at or after this instant: RFC 3339, or how long ago (30s, 15m, 2h, 7d)
    #[arg(long, value_name = "TIME")]
    since: Option<Instant>,
    /// Only events before this instant: RFC 3339, or how long ago
    #[arg(long, value_name = "TIME")]
    until: Option<Instant>,
    /// Only events about this node
    #[arg(long, value_name = "ID")]
    node: Option<String>,
    /// Only events caused by this address
    #[arg(long, value_name = "ADDR")]
    ip: Option<IpAddr>,
}

/// The filters at an instant.
#[derive(Debug)]
pub struct Filter<'a> {
    events: &'a [String],
    since: Option<Utc>,
    until: Option<Utc>,
    node: Option<&'a str>,
    ip: Option<IpAddr>,
}

impl FilterArgs {
    /// The filters with their instants, if it is `now`.
    pub fn resolve(&self, now: Utc) -> Filter<'_> {
        let at = |instant: Option<Instant>| instant.map(|instant| instant.resolve(now));
        let FilterArgs { event, since, until, node, ip } = self;
        Filter { events: event, since: at(*since), until: at(*until), node: node.as_deref(), ip: *ip }
    }
}

impl Filter<'_> {
    /// Whether the line matches.
    pub fn fits(&self, line: &Line) -> bool {
        self.fits_event(line) && self.fits_time(line) && self.fits_node(line) && self.fits_ip(line)
    }

    fn fits_event(&self, line: &Line) -> bool {
        self.events.is_empty() || self.events.iter().any(|name| fits(name, &line.event))
    }

    fn fits_time(&self, line: &Line) -> bool {
        if self.since.is_none() && self.until.is_none() {
            return true;
        }
        let Ok(ts) = rfc3339::parse(&line.ts) else { return false };
        self.since.is_none_or(|since| since <= ts) && self.until.is_none_or(|until| ts < until)
    }

    fn fits_node(&self, line: &Line) -> bool {
        self.node.is_none_or(|node| line.details.get("node_id").and_then(Value::as_str) == Some(node))
    }

    fn fits_ip(&self, line: &Line) -> bool {
        // By value: an IPv6 address has many spellings.
        let ip = || line.details.get("ip").and_then(Value::as_str)?.parse::<IpAddr>().ok();
        // An IPv4 address is the same written as IPv6.
        self.ip.is_none_or(|asked| ip().is_some_and(|ip| ip.to_canonical() == asked.to_canonical()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        filter: FilterArgs,
    }

    const LINES: [&str; 4] = [
        r#"{"ts":"2026-01-15T10:00:00.000Z","event":"AUTH_FAILURE","details":{"ip":"127.0.0.1"}}"#,
        r#"{"ts":"2026-01-15T11:00:00.000Z","event":"NODE_STALE","details":{"node_id":"a"}}"#,
        r#"{"ts":"2026-01-15T12:00:00.000Z","event":"NODE_DEAD","details":{"node_id":"b","ip":"::1"}}"#,
        r#"{"ts":"soon","event":"NODE","details":{"node_id":7,"ip":"host"}}"#,
    ];

    #[test]
    fn a_line_is_shown_if_it_matches_all_filters() {
        let now = rfc3339::parse("2026-01-15T12:30:00Z").unwrap();
        let table: [(&[&str], &[usize]); 18] = [
            (&[], &[0, 1, 2, 3]),
            (&["--event", "AUTH_FAILURE"], &[0]),
            (&["--event", "AUTH_FAILURE,NODE"], &[0, 3]),
            (&["--event", "AUTH_FAILURE", "--event", "NODE_DEAD"], &[0, 2]),
            (&["--event", "NODE_*"], &[1, 2]),
            (&["--event", "*"], &[0, 1, 2, 3]),
            (&["--event", "UNKNOWN"], &[]),
            (&["--since", "2026-01-15T11:00:00Z"], &[1, 2]),
            (&["--since", "2026-01-15T11:00:00.001Z"], &[2]),
            (&["--until", "2026-01-15T11:00:00Z"], &[0]),
            (&["--since", "90m"], &[1, 2]),
            (&["--since", "90m", "--until", "30m"], &[1]),
            (&["--node", "a"], &[1]),
            (&["--node", "7"], &[]),
            (&["--ip", "127.0.0.1"], &[0]),
            (&["--ip", "::ffff:127.0.0.1"], &[0]),
            (&["--ip", "0:0:0:0:0:0:0:1"], &[2]),
            (&["--ip", "::1", "--node", "a"], &[]),
        ];
        for (words, expected) in table {
            let args = Words::try_parse_from([&["audit"], words].concat()).unwrap().filter;
            let filter = args.resolve(now);
            let fits = |at: &usize| filter.fits(&Line::parse(LINES[*at].as_bytes()).unwrap());
            assert_eq!((0..LINES.len()).filter(fits).collect::<Vec<_>>(), expected, "{words:?}");
        }
    }
}
