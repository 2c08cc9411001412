//! The data folder's contents, read beside a running hub or without one.

use super::allowed::{ALERT_LINE, AUDIT_LINE, AUDIT_PAGE, LOG_LINE, Shape};
use super::asked::{ask, pretty};
use super::subject::Subject;
use super::{Content, Gathered};
use crate::client::Plane;
use crate::platform;
use serde_json::{Map, Value, json};
use sheratan_io::audit::{self, ChainError};
use sheratan_io::disk::RealDisk;
use sheratan_io::rotated;
use std::path::Path;
use walkdir::WalkDir;

/// Lines of each log.
const LINES: usize = 200;

/// The data folder's parts that are listed by name; the rest is summed up, since a name is free text.
const PARTS: [&str; 6] = ["journal", "snapshots", "logs", "secrets", "quarantine", "trace"];

/// How often the audit log's chain is checked again while a hub writes and rotates it.
const CHAIN_ATTEMPTS: usize = 3;

const GIB: u64 = 1 << 30;

/// The end of the audit log: from the folder, else from the hub.
pub fn audit_tail(subject: &Subject) -> Gathered {
    let missing = match subject.folder() {
        Ok(folder) => return tail(subject, &audit::path(folder), &AUDIT_LINE),
        Err(missing) => missing,
    };
    let client = subject.hub.as_ref().map_err(|_| missing)?;
    let (page, source) = ask(client, Plane::Control, &format!("/api/audit?limit={LINES}"), &AUDIT_PAGE)?;
    let lines = page["events"].as_array().into_iter().flatten();
    let bytes = lines.flat_map(|line| json_line(subject, line.clone())).collect();
    Ok(Content { bytes, source })
}

/// The end of the alerts' log.
pub fn alerts_tail(subject: &Subject) -> Gathered {
    tail(subject, &subject.folder()?.join("logs").join("alerts.jsonl"), &ALERT_LINE)
}

/// The end of the hub's log.
pub fn log_tail(subject: &Subject) -> Gathered {
    tail(subject, &subject.folder()?.join("logs").join("hub.jsonl"), &LOG_LINE)
}

/// The journal's state.
pub fn journal(subject: &Subject) -> Gathered {
    let report = &subject.journal()?.report;
    let mut said = serde_json::to_value(report).expect("a report is JSON");
    said["is_ok"] = report.is_ok().into();
    said["last_seq"] = report.last_seq().into();
    Ok(pretty(subject, said, source(&subject.data_dir)))
}

/// The audit log's chain.
pub fn audit_chain(subject: &Subject) -> Gathered {
    let path = audit::path(subject.folder()?);
    if !path.try_exists().unwrap_or(false) {
        return Err(format!("there is no {}", path.display()));
    }
    // A log that is rotated meanwhile may seem broken; a broken one fails each time.
    let mut checks = (0..CHAIN_ATTEMPTS).map(|_| audit::verify(&RealDisk, &path));
    let said = match checks.find(Result::is_ok).unwrap_or_else(|| audit::verify(&RealDisk, &path)) {
        Ok(report) => json!({
            "is_ok": true, "lines": report.lines, "first_seq": report.first_seq, "last_seq": report.last_seq,
            "torn": report.torn, "is_tail_torn": report.is_tail_torn,
        }),
        Err(error @ ChainError::Io(..)) => return Err(error.to_string()),
        Err(error) => json!({"is_ok": false, "problem": error.to_string()}),
    };
    Ok(pretty(subject, said, source(&path)))
}

/// The disk's space, and the size of the folder's parts.
pub fn disk(subject: &Subject) -> Gathered {
    let folder = subject.folder()?;
    // Whole GiB, so that two bundles of a quiet machine are equal.
    let file_system = match platform::disk_space(folder) {
        Ok(space) => json!({"bytes": space.bytes, "gib_available": space.bytes_available / GIB}),
        Err(error) => json!({"unknown": error.to_string()}),
    };
    let mut parts = Map::new();
    for entry in std::fs::read_dir(folder).map_err(|error| format!("{} cannot be read: {error}", folder.display()))? {
        let Ok(entry) = entry else { continue };
        let name = entry.file_name();
        let part = PARTS.into_iter().find(|part| name == *part).unwrap_or("other");
        let bytes = parts.entry(part).or_insert(0.into());
        *bytes = (bytes.as_u64().unwrap_or(0) + bytes_of(&entry.path())).into();
    }
    Ok(pretty(subject, json!({"file_system": file_system, "bytes_of_parts": parts}), source(folder)))
}

/// The allowed parts of a log's last lines.
fn tail(subject: &Subject, path: &Path, shape: &Shape) -> Gathered {
    let unreadable = |error| format!("{} cannot be read: {error}", path.display());
    if !path.try_exists().map_err(unreadable)? {
        return Err(format!("there is no {}", path.display()));
    }
    let lines = rotated::last_lines(path, LINES).map_err(unreadable)?;
    let kept = |line: &Vec<u8>| {
        let value = serde_json::from_slice::<Value>(line).ok().and_then(|value| shape.keep(value));
        // A torn line: its presence is worth knowing.
        value.unwrap_or_else(|| json!({"unreadable_bytes": line.len()}))
    };
    let bytes = lines.iter().flat_map(|line| json_line(subject, kept(line))).collect();
    Ok(Content { bytes, source: source(path) })
}

fn json_line(subject: &Subject, value: Value) -> Vec<u8> {
    let mut line = subject.redactor.redact_value(value).to_string().into_bytes();
    line.push(b'\n');
    line
}

fn source(path: &Path) -> String {
    path.display().to_string()
}

/// Bytes of all files below a path, except those that cannot be read or are removed meanwhile.
fn bytes_of(path: &Path) -> u64 {
    let files = WalkDir::new(path).into_iter().flatten().filter_map(|entry| entry.metadata().ok());
    files.filter(|metadata| metadata.is_file()).map(|metadata| metadata.len()).sum()
}
