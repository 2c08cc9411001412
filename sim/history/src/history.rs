//! A text of histories: sections with a title, and lines of input with the answers that are expected.

use crate::step::{Line, Step};
use crate::values::NUMBER;
use crate::words::{Cut, WordError, Words};
use sheratan_core::{HubKey, Timestamp};
use std::fmt;

/// A text of sections. Printed, it is the text that was read, with its lines' answers behind one arrow each.
#[derive(Clone, PartialEq, Debug)]
pub struct Histories {
    /// Lines before the first section: remarks.
    head: Vec<String>,
    pub sections: Vec<History>,
}

/// One history.
#[derive(Clone, PartialEq, Debug)]
pub struct History {
    /// The sentence that it proves.
    pub title: String,
    /// The line of its title, from 1.
    pub number: usize,
    /// The number that the hub's key is made from; the key decides how retries are spread.
    pub key_seed: u64,
    rows: Vec<Row>,
}

/// A line of input.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// The line's number in the text, from 1.
    pub number: usize,
    pub line: Line,
    /// The input as it was written.
    pub text: String,
    /// The expected answer; a line without one expects `done`.
    pub answer: Option<String>,
    remark: Option<String>,
}

/// A line of a section.
#[derive(Clone, PartialEq, Debug)]
enum Row {
    Input(Entry),
    /// An empty line, a remark, a key.
    Other(String),
}

/// Why a text is not a history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    pub error: WordError,
}

/// The prefix of a title.
const TITLE: &str = "== ";

/// The answer of a line that has no arrow.
const DONE: &str = "done";

impl Histories {
    /// The histories of a text.
    pub fn parse(text: &str) -> Result<Histories, ParseError> {
        let mut histories = Histories { head: Vec::new(), sections: Vec::new() };
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            let failed = |error| ParseError { line: number, error };
            if let Some(title) = line.strip_prefix(TITLE) {
                histories.sections.push(History::new(title.trim(), number));
                continue;
            }
            let cut = Cut::new(line).map_err(failed)?;
            match histories.sections.last_mut() {
                Some(section) => section.push(line, number, &cut).map_err(failed)?,
                None if cut.words.is_empty() => histories.head.push(line.to_owned()),
                None => return Err(failed(Words::new(&cut.words).wrong_here("`== ` and the history's title"))),
            }
        }
        Ok(histories)
    }
}

impl History {
    /// A history without lines, whose title is on line `number`.
    fn new(title: &str, number: usize) -> History {
        History { title: title.to_owned(), number, key_seed: 0, rows: Vec::new() }
    }

    /// The history of these steps, without answers.
    pub fn of_steps<'a>(title: &str, key_seed: u64, steps: impl IntoIterator<Item = &'a Step>) -> History {
        let mut history = History::new(title, 1);
        let lines = (key_seed != 0).then(|| format!("key {key_seed}")).into_iter();
        for (index, line) in lines.chain(steps.into_iter().map(Step::to_string)).enumerate() {
            let cut = Cut::new(&line).expect("a step is printed as it is read");
            history.push(&line, index + 2, &cut).expect("a step is printed as it is read");
        }
        history
    }

    fn push(&mut self, line: &str, number: usize, cut: &Cut<'_>) -> Result<(), WordError> {
        if cut.words.is_empty() && cut.answer.is_none() {
            self.rows.push(Row::Other(line.to_owned()));
            return Ok(());
        }
        if let [verb @ "key", rest @ ..] = &cut.words[..] {
            let mut words = Words::new(rest);
            let seed = words.take(&NUMBER).and_then(|seed| words.end().map(|()| seed));
            self.key_seed = seed.map_err(|error| WordError { place: error.place + 1, ..error })?;
            self.rows.push(Row::Other(format!("{verb} {}", self.key_seed)));
            return Ok(());
        }
        self.rows.push(Row::Input(Entry {
            number,
            line: Line::parse(&cut.words)?,
            text: cut.input.to_owned(),
            answer: cut.answer.map(str::to_owned),
            remark: cut.remark.map(str::to_owned),
        }));
        Ok(())
    }

    /// The lines of input.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.rows.iter().filter_map(|row| if let Row::Input(entry) = row { Some(entry) } else { None })
    }

    /// The steps, for a world that makes checks of its own.
    pub fn steps(&self) -> Vec<Step> {
        let mut now = Timestamp::ZERO;
        let steps_of = |entry: &Entry| {
            let steps = entry.line.steps(now);
            now = entry.line.at.unwrap_or(now);
            steps
        };
        self.entries().flat_map(steps_of).collect()
    }

    /// The hub's key.
    pub fn hub_key(&self) -> HubKey {
        hub_key(self.key_seed)
    }

    /// Sets the expected answers, one for each line of input.
    pub fn expect(&mut self, answers: Vec<String>) {
        let mut answers = answers.into_iter();
        for row in &mut self.rows {
            if let Row::Input(entry) = row {
                let answer = answers.next().expect("there is an answer for each line");
                entry.answer = Some(answer).filter(|answer| answer != DONE);
            }
        }
    }
}

/// The key of the hub whose runs have this seed.
pub fn hub_key(seed: u64) -> HubKey {
    let mut bytes = *b"sheratan-sim-key";
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    HubKey::new(bytes)
}

impl Entry {
    /// The expected answer.
    pub fn expected(&self) -> &str {
        self.answer.as_deref().unwrap_or(DONE)
    }
}

impl fmt::Display for Histories {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        self.sections.iter().try_for_each(|section| section.fmt(f))
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{TITLE}{}", self.title)?;
        for row in &self.rows {
            match row {
                Row::Other(line) => writeln!(f, "{}", line.trim_end())?,
                Row::Input(entry) => {
                    f.write_str(&entry.text)?;
                    if let Some(answer) = &entry.answer {
                        write!(f, " -> {answer}")?;
                    }
                    if let Some(remark) = &entry.remark {
                        write!(f, "  {remark}")?;
                    }
                    writeln!(f)?;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.error)
    }
}

impl std::error::Error for ParseError {}
