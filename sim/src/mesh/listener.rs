//! Listener: an operator's open page, to which the hub streams events.

use super::http::get;
use super::oracle::Observation;
use super::process::TOKEN;
use super::scene::{Answer, Scene, Timer};
use crate::agenda::{Micros, SECOND};
use memchr::memmem;

/// How often a listener checks that its stream is alive.
const CHECK_US: Micros = 5 * SECOND;

/// Silence after which a listener takes its stream for dead. A hub sends something each 15 s, by its own clock.
const SILENCE_US: Micros = 60 * SECOND;

/// Queries of the topics that a listener subscribes to.
const TOPICS: [&str; 4] = ["", "?events=audit", "?events=audit,counters", "?events=alert,counters"];

/// A listener.
#[derive(Debug)]
pub struct Listener {
    index: u64,
    /// How many streams it has opened.
    stream: u64,
    state: State,
    /// Whether it is sent counters, every two seconds.
    has_counters: bool,
    /// Bytes of the head or of an event that is not complete.
    rest: Vec<u8>,
    received_at: Micros,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Away,
    Asking,
    Listening,
    /// It has stopped reading.
    Deaf,
}

/// One event as it was received.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Received {
    /// The listener.
    pub listener: u64,
    /// Index of its stream.
    pub stream: u64,
    /// The hub process that sent it.
    pub process_id: u64,
    /// The event's topic.
    pub event: String,
    /// The event's id.
    pub id: Option<u64>,
    /// The event's data.
    pub data: String,
}

impl Listener {
    /// A listener without a stream.
    pub fn new(index: u64) -> Self {
        Listener { index, stream: 0, state: State::Away, has_counters: false, rest: Vec::new(), received_at: 0 }
    }

    /// Its timer fires: it opens a stream, or checks that its stream is alive.
    pub fn wake(&mut self, scene: &mut Scene) {
        scene.timers.push((scene.now + CHECK_US, Timer::Listen));
        match self.state {
            State::Away => {
                (self.state, self.received_at) = (State::Asking, scene.now);
                self.stream += 1;
                self.rest.clear();
                let topics = *scene.draw.pick(&TOPICS);
                self.has_counters = topics.is_empty() || topics.contains("counters");
                let path = format!("/api/events{topics}");
                scene.call(0, get(&path, TOKEN), 10 * SECOND);
            }
            State::Listening if scene.now > self.received_at + SILENCE_US => {
                scene.marks.push("event stream given up");
                scene.hangs_up = true;
            }
            State::Asking | State::Listening | State::Deaf => {}
        }
    }

    /// Its connection was closed.
    pub fn answered(&mut self, _answer: Answer, _scene: &mut Scene) {
        self.state = State::Away;
    }

    /// Accepts bytes of its stream. True once the head is complete.
    pub fn receive(&mut self, bytes: &[u8], process_id: u64, scene: &mut Scene) -> bool {
        self.received_at = scene.now;
        self.rest.extend_from_slice(bytes);
        if self.state == State::Asking {
            let Some(end) = memmem::find(&self.rest, b"\r\n\r\n") else { return false };
            if !self.rest.starts_with(b"HTTP/1.1 200") {
                // Refused for now: it closes the connection and tries again later.
                scene.marks.push("event stream refused");
                scene.hangs_up = true;
                return true;
            }
            self.rest.drain(..end + 4);
            self.state = State::Listening;
            scene.marks.push("event stream begun");
            if scene.is_chaos && self.has_counters && scene.draw.chance(scene.plan.traffic.deaf_percent * 10) {
                self.state = State::Deaf;
                scene.is_deafened = true;
            }
        }
        while let Some(end) = memmem::find(&self.rest, b"\n\n") {
            let event: Vec<u8> = self.rest.drain(..end + 2).collect();
            self.report_event(&event, process_id, scene);
        }
        true
    }

    fn report_event(&self, event: &[u8], process_id: u64, scene: &mut Scene) {
        let text = std::str::from_utf8(event).expect("events are UTF-8");
        let mut received = Received { listener: self.index, stream: self.stream, process_id, ..Received::default() };
        for line in text.lines() {
            match line.split_once(": ") {
                Some(("event", event)) => event.clone_into(&mut received.event),
                Some(("id", id)) => received.id = Some(id.parse().expect("an event's id is a number")),
                Some(("data", data)) => data.clone_into(&mut received.data),
                // A comment, or the delay before a reconnect.
                _ => {}
            }
        }
        if !received.event.is_empty() {
            scene.marks.push(match &*received.event {
                "audit" => "event heard: audit",
                "alert" => "event heard: alert",
                "counters" => "event heard: counters",
                _ => "event heard: another",
            });
            scene.observations.push(Observation::EventReceived(received));
        }
    }

    /// Since when it has received nothing on an open stream.
    pub fn silent_since(&self) -> Option<Micros> {
        (self.state == State::Listening).then_some(self.received_at)
    }
}
