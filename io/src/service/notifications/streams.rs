//! Event streams: which client subscribes to which topics, and the events that it is sent (server-sent events: WHATWG
//! HTML, section 9.2).
//!
//! How to drive it:
//! - [`Streams::audit`], [`Streams::lost`] and [`Streams::alert`] add events; the service adds counters and
//!   keep-alives.
//! - [`Streams::take`] then returns the bytes to push, and their connections. A client that reads too slowly is dropped
//!   ([`Streams::drop_slow`]), so no other waits for it.
//!
//! An event is written once for all its subscribers: it costs its bytes and one copy into each connection's output. A
//! topic without subscribers costs nothing.

use crate::audit;
use crate::http::{Method, Reply, Request};
use crate::service::problem::Problem;
use crate::service::query::Query;
use crate::service::{Answer, Caller, Service, rules};
use sheratan_core::{Millis, Timestamp};
use std::collections::BTreeMap;
use std::io::Write;

/// Streams at a time: dashboards and tails, which people read. Each may hold `http::Limits::stream_bytes_max`.
pub const EVENT_STREAMS_MAX: usize = 64;

/// How often counters are sent: as often as a person sees numbers change.
pub const COUNTERS_EVERY_MS: Millis = Millis::from_secs(2);

/// A comment is sent after this much silence, so that neither a proxy nor the client times the stream out. The standard
/// recommends 15 s.
pub const KEEP_ALIVE_MS: Millis = Millis::from_secs(15);

/// How long a client whose stream ended waits before it reconnects: about as long as a restart takes.
const RETRY_AFTER_MS: Millis = Millis::from_secs(3);

/// A topic to subscribe to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Topic {
    /// Lines of the audit log.
    Audit,
    /// Alerts.
    Alert,
    /// Counters, every two seconds.
    Counters,
}

/// The topics of one client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Topics {
    has: [bool; Topic::ALL.len()],
}

/// Bytes for several connections.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sendout {
    /// The connections.
    pub to: Vec<u64>,
    /// Whole events.
    pub bytes: Vec<u8>,
}

/// All streams.
#[derive(Default, Debug)]
pub struct Streams {
    /// By connection.
    streams: BTreeMap<u64, Stream>,
    sendouts: Vec<Sendout>,
    /// Connections whose streams ended while their clients were there.
    ended: Vec<u64>,
    /// When counters are sent next; `None` without a subscriber.
    counters_at: Option<Timestamp>,
    dropped_total: u64,
}

#[derive(Debug)]
struct Stream {
    topics: Topics,
    /// When bytes were last pushed.
    quiet_since: Timestamp,
}

impl Topic {
    const ALL: [Topic; 3] = [Topic::Audit, Topic::Alert, Topic::Counters];

    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Topic::Audit => "audit",
            Topic::Alert => "alert",
            Topic::Counters => "counters",
        }
    }
}

impl Topics {
    /// All topics.
    pub const ALL: Topics = Topics { has: [true; Topic::ALL.len()] };

    /// The topics of a list of words; all, if there are none.
    pub fn parse<'a>(words: impl Iterator<Item = &'a str>) -> Result<Topics, Problem> {
        let mut words = words.peekable();
        if words.peek().is_none() {
            return Ok(Topics::ALL);
        }
        let mut topics = Topics { has: [false; Topic::ALL.len()] };
        for word in words {
            let topic = Topic::ALL.into_iter().find(|topic| topic.as_str() == word.trim());
            let topic = topic
                .ok_or_else(|| Problem::bad_request("events must be of audit, alert, counters, separated by commas"))?;
            topics.has[topic as usize] = true;
        }
        Ok(topics)
    }

    /// Whether a topic is among them.
    pub const fn has(&self, topic: Topic) -> bool {
        self.has[topic as usize]
    }
}

impl Streams {
    /// Refuses a stream if [`EVENT_STREAMS_MAX`] are open.
    pub fn admit(&self) -> Result<(), Problem> {
        if self.streams.len() < EVENT_STREAMS_MAX {
            return Ok(());
        }
        let detail = format!("{EVENT_STREAMS_MAX} of {EVENT_STREAMS_MAX} event streams are open; retry in 3 s");
        Err(Problem::not_ready(detail, RETRY_AFTER_MS))
    }

    /// Opens a stream on a connection. It must have been admitted.
    pub fn open(&mut self, now: Timestamp, connection: u64, topics: Topics) {
        assert!(self.streams.len() < EVENT_STREAMS_MAX, "a stream is admitted before it is opened");
        self.streams.insert(connection, Stream { topics, quiet_since: now });
        if topics.has(Topic::Counters) && self.counters_at.is_none() {
            self.counters_at = Some(now + COUNTERS_EVERY_MS);
        }
    }

    /// Closes a connection's stream; returns whether it had one. O(log n) in the streams.
    pub fn close(&mut self, connection: u64) -> bool {
        let was_open = self.streams.remove(&connection).is_some();
        if was_open && !self.is_wanted(Topic::Counters) {
            self.counters_at = None;
        }
        was_open
    }

    /// Closes a stream whose client is still there, and has to be told ([`Streams::take_ended`]).
    pub fn end(&mut self, connection: u64) {
        if self.close(connection) {
            self.ended.push(connection);
        }
    }

    /// Removes and returns the connections whose streams end now.
    pub fn take_ended(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.ended)
    }

    /// Closes and counts the stream of a client that reads too slowly. `false` if the connection had none.
    pub fn drop_slow(&mut self, connection: u64) -> bool {
        let was_open = self.close(connection);
        self.dropped_total += u64::from(was_open);
        was_open
    }

    /// Closes all streams.
    pub fn close_all(&mut self) {
        (self.streams, self.sendouts, self.counters_at) = Default::default();
    }

    /// Whether a topic has a subscriber. O(streams).
    pub fn is_wanted(&self, topic: Topic) -> bool {
        self.streams.values().any(|stream| stream.topics.has(topic))
    }

    /// How many streams are open.
    pub fn open_count(&self) -> usize {
        self.streams.len()
    }

    /// How many streams were dropped since the start because their clients read too slowly.
    pub fn dropped_total(&self) -> u64 {
        self.dropped_total
    }

    /// Adds lines that were written to the audit log; each ends with a line feed.
    pub fn audit(&mut self, lines: &[u8]) {
        self.send(Topic::Audit, |out| {
            for line in lines.split(|byte| *byte == b'\n').filter(|line| rules::is_sent(line)) {
                write_event(out, Topic::Audit.as_str(), audit::seq_of(line), line);
            }
        });
    }

    /// Adds a notice that `count` lines of the audit log were not streamed: they are only in the log.
    pub fn lost(&mut self, count: u64) {
        let data = format!("{{\"count\":{count}}}");
        self.send(Topic::Audit, |out| write_event(out, "lost", None, data.as_bytes()));
    }

    /// Adds an alert, as one line of JSON.
    pub fn alert(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        self.send(Topic::Alert, |out| write_event(out, Topic::Alert.as_str(), None, line));
    }

    /// Adds counters, as one line of JSON. The next ones are due in two seconds.
    pub fn counters(&mut self, now: Timestamp, line: &[u8]) {
        self.counters_at = self.counters_at.map(|_| now + COUNTERS_EVERY_MS);
        self.send(Topic::Counters, |out| write_event(out, Topic::Counters.as_str(), None, line));
    }

    /// Whether counters are due.
    pub fn are_counters_due(&self, now: Timestamp) -> bool {
        self.counters_at.is_some_and(|at| at <= now)
    }

    /// Sends a keep-alive comment to streams that were silent for [`KEEP_ALIVE_MS`].
    pub fn handle_timeout(&mut self, now: Timestamp) {
        let quiet = self.streams.iter_mut().filter(|(_, stream)| stream.quiet_since + KEEP_ALIVE_MS <= now);
        let to: Vec<_> = quiet.map(|(connection, _)| *connection).collect();
        if !to.is_empty() {
            self.sendouts.push(Sendout { to, bytes: b": keep-alive\n\n".to_vec() });
        }
    }

    /// When counters or a keep-alive are due next. O(streams).
    pub fn next_timeout(&self) -> Option<Timestamp> {
        let quiet = self.streams.values().map(|stream| stream.quiet_since + KEEP_ALIVE_MS).min();
        quiet.into_iter().chain(self.counters_at).min()
    }

    /// Removes and returns the bytes to push now.
    pub fn take(&mut self, now: Timestamp) -> Vec<Sendout> {
        for connection in self.sendouts.iter().flat_map(|sendout| &sendout.to) {
            if let Some(stream) = self.streams.get_mut(connection) {
                stream.quiet_since = now;
            }
        }
        std::mem::take(&mut self.sendouts)
    }

    fn send(&mut self, topic: Topic, write: impl FnOnce(&mut Vec<u8>)) {
        let subscribers = self.streams.iter().filter(|(_, stream)| stream.topics.has(topic));
        let to: Vec<_> = subscribers.map(|(connection, _)| *connection).collect();
        if to.is_empty() {
            return;
        }
        let mut bytes = Vec::new();
        write(&mut bytes);
        self.sendouts.push(Sendout { to, bytes });
    }
}

impl Service {
    /// Sends counters and keep-alives that are due.
    pub(in crate::service) fn send_to_streams(&mut self, now: Timestamp) {
        if self.notifications.streams.are_counters_due(now) {
            let counters = self.counters(now);
            self.notifications.streams.counters(now, &counters);
        }
        self.notifications.streams.handle_timeout(now);
    }

    pub(super) fn open_stream(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
    ) -> Result<Answer, Problem> {
        let query = Query::parse(request.query(), &["events"])?;
        let topics = Topics::parse(query.list("events"))?;
        if self.is_draining {
            return Err(Problem::stopping());
        }
        self.notifications.streams.admit()?;
        if *request.method() != Method::Head {
            self.notifications.streams.open(now, caller.origin.connection, topics);
        }
        let counters = topics.has(Topic::Counters).then(|| self.counters(now));
        let beginning = Reply::text(200, "text/event-stream", beginning(counters.as_deref()));
        // A proxy that buffers events would delay them; nginx turns its buffering off for this header.
        Ok(Answer::Stream(beginning.with_header("X-Accel-Buffering", "no".into())))
    }
}

/// The first bytes of a stream: when to reconnect, and the counters if subscribed, so that a dashboard is not empty.
fn beginning(counters: Option<&[u8]>) -> Vec<u8> {
    let mut out = format!("retry: {}\n\n", RETRY_AFTER_MS.get()).into_bytes();
    if let Some(counters) = counters {
        write_event(&mut out, Topic::Counters.as_str(), None, counters);
    }
    out
}

/// Writes one event. The data is JSON, so it is one line.
fn write_event(out: &mut Vec<u8>, event: &str, id: Option<u64>, data: &[u8]) {
    assert!(!data.contains(&b'\n') && !data.contains(&b'\r'), "an event's data is one line");
    writeln!(out, "event: {event}").expect(TAKES_ALL);
    if let Some(id) = id {
        writeln!(out, "id: {id}").expect(TAKES_ALL);
    }
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\n\n");
}

const TAKES_ALL: &str = "a buffer takes all";

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn at(ms: u64) -> Timestamp {
        NOW + Millis::new(ms)
    }

    fn streams(topics: &[&str]) -> Streams {
        let mut streams = Streams::default();
        for (connection, topics) in topics.iter().enumerate() {
            streams.open(NOW, connection as u64, Topics::parse(topics.split(',')).unwrap());
        }
        streams
    }

    fn taken(streams: &mut Streams, ms: u64) -> Vec<(Vec<u64>, String)> {
        let text = |sendout: Sendout| (sendout.to, String::from_utf8(sendout.bytes).unwrap());
        streams.take(at(ms)).into_iter().map(text).collect()
    }

    #[test]
    fn topics_are_chosen_by_their_words_and_others_are_refused_with_what_there_is() {
        let topics = Topics::parse(["counters", "audit"].into_iter()).unwrap();
        assert!(topics.has(Topic::Audit) && topics.has(Topic::Counters) && !topics.has(Topic::Alert));
        assert_eq!(Topics::parse(["audit", "alert ", "counters"].into_iter()).unwrap(), Topics::ALL);
        assert_eq!(Topics::parse([].into_iter()).unwrap(), Topics::ALL);
        for words in ["", "audit,", "Audit", "audit alert", "lost"] {
            let problem = Topics::parse(words.split(',')).unwrap_err();
            assert_eq!((problem.status, problem.code), (400, "bad_request"), "{words}");
            assert!(problem.detail.contains("audit, alert, counters"));
        }
    }

    #[test]
    fn an_event_is_written_once_for_all_who_listen_to_its_topic() {
        let mut streams = streams(&["audit", "alert", "audit,alert", "counters"]);
        let line =
            format!("{{\"ts\":\"t\",\"event\":\"E\",\"details\":{{}},\"seq\":7,\"prev\":\"{}\"}}", "0".repeat(64));
        streams.audit(format!("{line}\n{}\n", line.replace(":7,", ":8,")).as_bytes());
        streams.alert(b"{\"event\":\"A\"}\n");
        streams.counters(at(0), b"{\"n\":1}");
        streams.lost(3);
        let audit = format!("event: audit\nid: 7\ndata: {line}\n\n");
        let expected = [
            (vec![0, 2], audit.clone() + &audit.replace("id: 7", "id: 8").replace(":7,", ":8,")),
            (vec![1, 2], "event: alert\ndata: {\"event\":\"A\"}\n\n".into()),
            (vec![3], "event: counters\ndata: {\"n\":1}\n\n".into()),
            (vec![0, 2], "event: lost\ndata: {\"count\":3}\n\n".into()),
        ];
        assert_eq!(taken(&mut streams, 0), expected);
        assert_eq!(taken(&mut streams, 0), []);
    }

    #[test]
    fn nothing_is_written_and_nothing_falls_due_while_nobody_listens() {
        let mut streams = streams(&["audit,counters"]);
        assert!(streams.close(0) && !streams.close(0));
        streams.audit(b"{}\n");
        streams.alert(b"{}");
        streams.counters(NOW, b"{}");
        assert_eq!((taken(&mut streams, 0), streams.next_timeout()), (vec![], None));
        assert!(!streams.is_wanted(Topic::Audit));
    }

    #[test]
    fn counters_fall_due_every_two_seconds_while_somebody_listens_to_them() {
        let mut streams = streams(&["audit", "counters"]);
        assert_eq!(streams.next_timeout(), Some(at(2_000)));
        assert!(!streams.are_counters_due(at(1_999)) && streams.are_counters_due(at(2_000)));
        streams.counters(at(2_005), b"{}");
        assert_eq!(streams.next_timeout(), Some(at(4_005)));
        streams.close(1);
        assert_eq!(streams.next_timeout(), Some(at(15_000)), "the other one's silence");
    }

    #[test]
    fn a_comment_ends_each_silence_of_fifteen_seconds() {
        let mut streams = streams(&["audit", "alert"]);
        streams.alert(b"{}");
        taken(&mut streams, 5_000);
        assert_eq!(streams.next_timeout(), Some(at(15_000)));
        streams.handle_timeout(at(14_999));
        assert_eq!(taken(&mut streams, 14_999), []);
        streams.handle_timeout(at(15_000));
        assert_eq!(taken(&mut streams, 15_000), [(vec![0], ": keep-alive\n\n".into())]);
        assert_eq!(streams.next_timeout(), Some(at(20_000)), "the other one heard an alert");
    }

    #[test]
    fn one_more_than_the_limit_is_refused_until_one_is_closed_or_dropped() {
        let mut streams = streams(&["audit"; EVENT_STREAMS_MAX]);
        let problem = streams.admit().unwrap_err();
        assert_eq!((problem.status, problem.code), (503, "not_ready"));
        assert!(problem.retry_after_ms.is_some() && problem.detail.contains("64 event streams"));
        assert!(streams.drop_slow(3) && !streams.drop_slow(3));
        assert_eq!((streams.open_count(), streams.dropped_total()), (63, 1));
        assert!(streams.admit().is_ok());
    }
}
