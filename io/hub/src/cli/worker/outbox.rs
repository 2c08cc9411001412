//! Outbox: the results of finished jobs that the hub has not accepted yet.
//!
//! A result is in the outbox from the end of its job until the hub accepts or refuses it. What is still there when the
//! worker ends goes to a file, from which `worker --resend` delivers it.
//!
//! The file: one JSON object a line, the body of a `POST /mesh/submit_result`.

use crate::client::calls::JobResult;
use sheratan_io::platform;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

/// Names that are tried in one folder: two workers of one node may write in the same millisecond.
const NAMES_MAX: u64 = 100;

/// The outbox.
pub struct Outbox {
    node_id: String,
    folders: Vec<PathBuf>,
    kept: Mutex<BTreeMap<usize, JobResult>>,
}

/// Results that were written to a file.
#[derive(Debug)]
pub struct Saved {
    /// The file.
    pub path: PathBuf,
    /// How many.
    pub results: usize,
}

impl Outbox {
    /// An outbox whose files go to the first of these folders that can be written.
    pub fn new(node_id: String, folders: Vec<PathBuf>) -> Self {
        Outbox { node_id, folders, kept: Mutex::default() }
    }

    /// Keeps the result of a slot's job.
    pub fn keep(&self, slot: usize, result: JobResult) {
        self.lock().insert(slot, result);
    }

    /// Drops the result of a slot's job: the hub decided on it.
    pub fn drop_of(&self, slot: usize) {
        self.lock().remove(&slot);
    }

    /// Writes the result of one slot's job to a file.
    pub fn save_of(&self, slot: usize) -> io::Result<Option<Saved>> {
        let results: Vec<_> = self.lock().remove(&slot).into_iter().collect();
        self.save(&results)
    }

    /// Writes all results to a file; `None` without results.
    pub fn save_all(&self) -> io::Result<Option<Saved>> {
        let results: Vec<_> = std::mem::take(&mut *self.lock()).into_values().collect();
        self.save(&results)
    }

    fn save(&self, results: &[JobResult]) -> io::Result<Option<Saved>> {
        if results.is_empty() {
            return Ok(None);
        }
        let mut failed = None;
        for folder in &self.folders {
            match save_in(folder, &self.node_id, results) {
                Ok(path) => return Ok(Some(Saved { path, results: results.len() })),
                Err(error) => failed = Some(io::Error::new(error.kind(), format!("{}: {error}", folder.display()))),
            }
        }
        Err(failed.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<usize, JobResult>> {
        self.kept.lock().expect("no thread panics while it holds the outbox")
    }
}

/// Writes results to a new file in a folder.
fn save_in(folder: &Path, node_id: &str, results: &[JobResult]) -> io::Result<PathBuf> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    let node: String = node_id.chars().map(|letter| if is_plain(letter) { letter } else { '_' }).take(64).collect();
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    for name in millis..millis + NAMES_MAX {
        let path = folder.join(format!("sheratan-results-{node}-{name}.jsonl"));
        if !fs::exists(&path)? {
            write(&path, results)?;
            return Ok(path);
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Writes results to a file, which is replaced as a whole, and only its owner can read it.
pub fn write(path: &Path, results: &[JobResult]) -> io::Result<()> {
    let mut bytes = Vec::new();
    for result in results {
        serde_json::to_writer(&mut bytes, result)?;
        bytes.push(b'\n');
    }
    let temporary = path.with_extension("jsonl.new");
    let mut file = platform::create_new_private(&temporary)?;
    let written =
        file.write_all(&bytes).and_then(|()| file.sync_all()).and_then(|()| platform::rename(&temporary, path));
    if written.is_err() {
        // What is incomplete must not be taken for the results; the error is the one of the write.
        _ = fs::remove_file(&temporary);
    }
    written?;
    platform::sync_dir(path.parent().unwrap_or(Path::new("")))
}

/// The results in a file, or the line that is none and why.
pub fn read(path: &Path) -> io::Result<Vec<JobResult>> {
    let text = fs::read_to_string(path)?;
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let parse = |(number, line): (usize, &str)| {
        let invalid =
            |error| io::Error::new(io::ErrorKind::InvalidData, format!("line {number} is no result: {error}"));
        serde_json::from_str(line).map_err(invalid)
    };
    lines.map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheratan_io::integrity::as_json;

    fn result(job_id: &str, result: Option<&str>) -> JobResult {
        JobResult {
            job_id: job_id.to_owned(),
            node_id: "n".to_owned(),
            lease_id: Some("lease_1".to_owned()),
            ok: result.is_some(),
            result: result.map(|text| as_json(text.as_bytes()).unwrap()),
            error: None,
            retryable: true,
            retry_after_ms: None,
            integrity: Default::default(),
            pull: None,
        }
    }

    #[test]
    fn what_the_hub_did_not_accept_is_written_to_a_file_that_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        let outbox = Outbox::new("gpu/1 ä".to_owned(), vec![missing, folder.path().to_owned()]);
        assert!(outbox.save_all().unwrap().is_none());
        outbox.keep(0, result("job_0", Some("1")));
        outbox.keep(1, result("job_1", Some(r#"{"b": 1.0}"#)));
        outbox.keep(2, result("job_2", None));
        outbox.drop_of(0);
        let saved = outbox.save_all().unwrap().unwrap();
        assert_eq!(saved.results, 2);
        assert!(saved.path.file_name().unwrap().to_str().unwrap().starts_with("sheratan-results-gpu_1__-"));
        let read = read(&saved.path).unwrap();
        assert_eq!(read.iter().map(|result| result.job_id.as_str()).collect::<Vec<_>>(), ["job_1", "job_2"]);
        assert_eq!(read[0].result.as_ref().unwrap().get(), r#"{"b": 1.0}"#);
        assert!(read[0].ok && !read[1].ok && read[1].result.is_none());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
        assert!(outbox.save_all().unwrap().is_none(), "nothing is written twice");
    }

    #[test]
    fn a_line_that_is_no_result_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, "\n{\"job_id\":1}\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().starts_with("line 2 is no result: "));
    }
}
