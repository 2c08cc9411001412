//! Listener: an operator's page that is open, to which the hub tells what happens as it happens.

use super::http::get;
use super::oracle::Told;
use super::process::TOKEN;
use super::scene::{Answer, Scene, Timer};
use crate::agenda::{Micros, SECOND};
use memchr::memmem;

/// How often a listener looks whether its stream goes on.
const LOOK_US: Micros = 5 * SECOND;

/// Silence after which a listener takes its stream for dead. A hub says something each 15 s, by its own clock.
const SILENCE_US: Micros = 60 * SECOND;

/// What can be listened to.
const TOPICS: [&str; 4] = ["", "?events=audit", "?events=audit,counters", "?events=alert,counters"];

/// Who listens.
#[derive(Debug)]
pub struct Listener {
    no: u64,
    /// Counts the streams it had.
    stream: u64,
    state: State,
    /// It hears something every two seconds.
    has_counters: bool,
    /// What came of the head or of an event that is not whole.
    rest: Vec<u8>,
    heard_at: Micros,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Away,
    Asking,
    Listening,
    /// It has stopped to read.
    Deaf,
}

/// One event as it was heard.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Heard {
    /// Who heard it.
    pub listener: u64,
    /// On which of its streams.
    pub stream: u64,
    /// The hub's process that told it.
    pub life: u64,
    /// What kind of event.
    pub event: String,
    /// Its number.
    pub id: Option<u64>,
    /// What happened.
    pub data: String,
}

impl Listener {
    /// One that does not listen yet.
    pub fn new(no: u64) -> Self {
        Listener { no, stream: 0, state: State::Away, has_counters: false, rest: Vec::new(), heard_at: 0 }
    }

    /// It comes, or looks whether its stream goes on.
    pub fn wake(&mut self, scene: &mut Scene) {
        scene.timers.push((scene.now + LOOK_US, Timer::Listen));
        match self.state {
            State::Away => {
                (self.state, self.heard_at) = (State::Asking, scene.now);
                self.stream += 1;
                self.rest.clear();
                let topics = *scene.draw.pick(&TOPICS);
                self.has_counters = topics.is_empty() || topics.contains("counters");
                let path = format!("/api/events{topics}");
                scene.call(0, get(&path, TOKEN), 10 * SECOND);
            }
            State::Listening if scene.now > self.heard_at + SILENCE_US => {
                scene.marks.push("event stream given up");
                scene.hangs_up = true;
            }
            State::Asking | State::Listening | State::Deaf => {}
        }
    }

    /// Its connection is over.
    pub fn answered(&mut self, _answer: Answer, _scene: &mut Scene) {
        self.state = State::Away;
    }

    /// Bytes came. True as soon as the head has.
    pub fn hear(&mut self, bytes: &[u8], life: u64, scene: &mut Scene) -> bool {
        self.heard_at = scene.now;
        self.rest.extend_from_slice(bytes);
        if self.state == State::Asking {
            let Some(end) = memmem::find(&self.rest, b"\r\n\r\n") else { return false };
            if !self.rest.starts_with(b"HTTP/1.1 200") {
                // It is told to come later: the connection ends or is given up.
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
            self.tell(&event, life, scene);
        }
        true
    }

    fn tell(&self, event: &[u8], life: u64, scene: &mut Scene) {
        let text = std::str::from_utf8(event).expect("events are UTF-8");
        let mut heard = Heard { listener: self.no, stream: self.stream, life, ..Heard::default() };
        for line in text.lines() {
            match line.split_once(": ") {
                Some(("event", event)) => event.clone_into(&mut heard.event),
                Some(("id", id)) => heard.id = Some(id.parse().expect("an event's number is one")),
                Some(("data", data)) => data.clone_into(&mut heard.data),
                // A comment, or when to come back.
                _ => {}
            }
        }
        if !heard.event.is_empty() {
            scene.marks.push(match &*heard.event {
                "audit" => "event heard: audit",
                "alert" => "event heard: alert",
                "counters" => "event heard: counters",
                _ => "event heard: another",
            });
            scene.told.push(Told::Heard(heard));
        }
    }

    /// Since when it has heard nothing although it listens.
    pub fn silent_since(&self) -> Option<Micros> {
        (self.state == State::Listening).then_some(self.heard_at)
    }
}
