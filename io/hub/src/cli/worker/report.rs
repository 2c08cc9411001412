//! Reports: what a command says of its job while it runs, as lines of its standard error.
//!
//! `sheratan-progress: 40 half way` is how far it is, and a note; `sheratan-retry-after: 60` is when another attempt may
//! succeed, in seconds, if this one fails. These lines are not part of its messages. A line on standard error works in
//! every language and through every wrapper, and is harmless where no worker reads it.

use crossbeam_channel::{Receiver, Sender};
use std::sync::Mutex;
use std::time::Duration;

/// The longest line that can be a report.
pub const LINE_BYTES_MAX: usize = 512;

/// The longest note that the hub takes.
const NOTE_BYTES_MAX: usize = 256;

const PROGRESS: &str = "sheratan-progress:";
const RETRY_AFTER: &str = "sheratan-retry-after:";

/// How far a job is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Progress {
    /// 0 to 100.
    pub percent: u8,
    pub note: Option<String>,
}

/// What the command of one job has reported; written by the thread that reads its messages.
pub struct Reports {
    said: Mutex<Said>,
    changed: Sender<()>,
    news: Receiver<()>,
}

#[derive(Default)]
struct Said {
    /// What has not been passed on yet.
    progress: Option<Progress>,
    retry_after: Option<Duration>,
}

impl Default for Reports {
    fn default() -> Self {
        let (changed, news) = crossbeam_channel::bounded(1);
        Reports { said: Mutex::default(), changed, news }
    }
}

impl Reports {
    /// Takes a line of the command's messages; returns whether it is a report.
    pub fn take(&self, line: &[u8]) -> bool {
        let Ok(line) = std::str::from_utf8(line) else { return false };
        let mut said = self.said.lock().expect("no thread panics while it holds the reports");
        if let Some(progress) = line.strip_prefix(PROGRESS).and_then(progress_of) {
            said.progress = Some(progress);
            // A full channel means that the change is known.
            let _ = self.changed.try_send(());
            return true;
        }
        if let Some(retry_after) = line.strip_prefix(RETRY_AFTER).and_then(retry_after_of) {
            said.retry_after = Some(retry_after);
            return true;
        }
        false
    }

    /// Receives a message when there is progress to pass on.
    pub fn news(&self) -> &Receiver<()> {
        &self.news
    }

    /// The latest progress, once.
    pub fn progress(&self) -> Option<Progress> {
        self.said.lock().expect("no thread panics while it holds the reports").progress.take()
    }

    /// When another attempt may succeed.
    pub fn retry_after(&self) -> Option<Duration> {
        self.said.lock().expect("no thread panics while it holds the reports").retry_after
    }
}

/// `40`, `40%`, `40 a note`.
fn progress_of(text: &str) -> Option<Progress> {
    let text = text.trim();
    let (number, note) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let percent = number.trim_end_matches('%').parse().ok().filter(|percent| *percent <= 100)?;
    Some(Progress { percent, note: Some(note_of(note)).filter(|note| !note.is_empty()) })
}

/// A note as the hub takes one: without control characters, and not too long.
fn note_of(text: &str) -> String {
    let text: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    let text = text.trim();
    let end = (0..=text.len().min(NOTE_BYTES_MAX)).rev().find(|end| text.is_char_boundary(*end));
    text[..end.unwrap_or(0)].trim_end().to_owned()
}

/// `60`, `1.5`.
fn retry_after_of(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.trim().parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_progress_is_passed_on_once() {
        let reports = Reports::default();
        for line in ["sheratan-progress: 10", "sheratan-progress:40% half\tway \u{7}"] {
            assert!(reports.take(line.as_bytes()), "{line}");
        }
        assert_eq!(reports.news().try_iter().count(), 1);
        assert_eq!(reports.progress(), Some(Progress { percent: 40, note: Some("half way".to_owned()) }));
        assert_eq!(reports.progress(), None);
        assert!(reports.take(b"sheratan-retry-after: 1.5"));
        assert_eq!(reports.retry_after(), Some(Duration::from_millis(1_500)));
    }

    #[test]
    fn what_is_no_report_is_a_message() {
        let reports = Reports::default();
        for line in [
            "sheratan-progress: 101",
            "sheratan-progress: -1",
            "sheratan-progress: half",
            "sheratan-progress",
            " sheratan-progress: 1",
            "sheratan-retry-after: soon",
            "sheratan-retry-after: -1",
            "sheratan-retry-after: inf",
            "error: no disk",
            "",
        ] {
            assert!(!reports.take(line.as_bytes()), "{line}");
        }
        assert!(!reports.take(b"sheratan-progress: 1 \xff"));
        assert_eq!((reports.progress(), reports.retry_after()), (None, None));
    }

    #[test]
    fn a_note_is_cut_between_letters() {
        let reports = Reports::default();
        reports.take(format!("sheratan-progress: 1 {}", "ä".repeat(200)).as_bytes());
        assert_eq!(reports.progress().unwrap().note.unwrap(), "ä".repeat(128));
    }
}
