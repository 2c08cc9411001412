//! `sheratan-hub policy check|diff`: policy documents on this machine, before a hub gets them. No hub is asked.

use crate::cli::failure::Failure;
use crate::cli::terminal::{self, printable};
use serde_json::{Value, json};
use sheratan_core::Origin;
use sheratan_core::policy::limits::DOCUMENT_BYTES_MAX;
use sheratan_core::policy::{CaseRequest, Diff, Policy, Role, Snapshot, Word};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Checks documents; all, also after one that is wrong.
pub fn check_all(files: &[PathBuf], is_json: bool) -> ExitCode {
    let are_right: Vec<bool> = files.iter().map(|file| check(file, is_json)).collect();
    if are_right.iter().all(|is_right| *is_right) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Decides the cases of a document, and shows each.
pub fn test(file: &Path, is_json: bool) -> Result<ExitCode, Failure> {
    let policy = read(file)?;
    let failures = policy.run_cases();
    let cases = &policy.snapshot().document().cases;
    for (index, case) in cases.iter().enumerate() {
        let failure = failures.iter().find(|failure| failure.index == index);
        let rule = policy.decide_case(&case.request).rule().map(|rule| policy.rule(rule).id.clone());
        if is_json {
            let line = json!({"case": case.name, "ok": failure.is_none(), "expect": case.expect.as_str(), "rule": rule,
                "error": failure.map(ToString::to_string)});
            terminal::json(line.to_string());
            continue;
        }
        let by = rule.map_or("by no rule".to_owned(), |rule| format!("by {rule}"));
        match failure {
            None => terminal::line(format_args!("✓ {}: {} {}", printable(&case.name), case.expect, printable(&by))),
            Some(failure) => terminal::line(format_args!("✗ {}", printable(&failure.to_string()))),
        }
    }
    if cases.is_empty() {
        terminal::note(format_args!("the document has no cases"));
    }
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Compares two documents.
pub fn diff(before: &Path, after: &Path, is_json: bool) -> Result<ExitCode, Failure> {
    let diff = Diff::between(&read(before)?, &read(after)?);
    show_diff(&diff, is_json);
    Ok(if diff.allowed_count + diff.denied_count == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The text of a document that is valid.
pub fn read_text(path: &Path) -> Result<String, Failure> {
    let bytes = read_bytes(path)?;
    parse(path, &bytes)?;
    String::from_utf8(bytes).map_err(|error| named(path, &error))
}

fn read(path: &Path) -> Result<Policy, Failure> {
    parse(path, &read_bytes(path)?)
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    // One byte more shows that it is too large.
    let limit = DOCUMENT_BYTES_MAX as u64 + 1;
    File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)).map_err(|error| named(path, &error))?;
    Ok(bytes)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Policy, Failure> {
    let snapshot = Snapshot::parse(bytes).map_err(|error| named(path, &error))?;
    Ok(Policy::compile(&snapshot))
}

fn named(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::Local(format!("{}: {error}", path.display()))
}

/// Checks a document and says what is wrong; returns whether nothing is.
fn check(path: &Path, is_json: bool) -> bool {
    let shown = path.display().to_string();
    let policy = match read(path) {
        Ok(policy) => policy,
        Err(failure) => {
            match is_json {
                true => terminal::json(json!({"file": shown, "ok": false, "error": failure.to_string()}).to_string()),
                false => terminal::failure(&failure),
            }
            return false;
        }
    };
    let (document, failures) = (policy.snapshot().document(), policy.run_cases());
    let can_recover = policy.can_recover(&[]);
    let is_right = failures.is_empty() && can_recover;
    let sha256 = hex::encode(policy.snapshot().sha256());
    if is_json {
        let failed: Vec<String> = failures.iter().map(ToString::to_string).collect();
        let line = json!({"file": shown, "ok": is_right, "version": policy.version(), "sha256": sha256,
            "rules": document.rules.len(), "cases": document.cases.len(), "cases_failed": failed,
            "can_recover": can_recover});
        terminal::json(line.to_string());
        return is_right;
    }
    let (rules, cases) = (document.rules.len(), document.cases.len());
    let (file, version) = (printable(&shown), policy.version());
    terminal::line(format_args!("{file}: version {version}, {rules} rules, {cases} cases, sha256 {}", &sha256[..16]));
    for failure in &failures {
        terminal::note(format_args!("{file}: {}", printable(&failure.to_string())));
    }
    if !can_recover {
        let warning = "under it the shared token could not activate another one from the hub's own machine";
        terminal::note(format_args!("{file}: {warning}"));
    }
    is_right
}

/// Shows what becomes allowed, and what denied.
pub fn show_diff(diff: &Diff, is_json: bool) {
    if is_json {
        let requests = |requests: &[CaseRequest]| requests.iter().map(request_json).collect::<Vec<Value>>();
        let document = json!({"ok": true, "compared": diff.compared, "total": diff.total.to_string(),
            "allowed_count": diff.allowed_count, "allowed": requests(&diff.allowed),
            "denied_count": diff.denied_count, "denied": requests(&diff.denied)});
        terminal::json(document.to_string());
        return;
    }
    for (what, count, requests) in
        [("becomes allowed", diff.allowed_count, &diff.allowed), ("becomes denied", diff.denied_count, &diff.denied)]
    {
        terminal::line(format_args!("{count} of {} compared requests: {what}", diff.compared));
        requests.iter().for_each(|request| terminal::line(format_args!("  {}", printable(&request_text(request)))));
        let more = count - requests.len() as u64;
        if more > 0 {
            terminal::line(format_args!("  and {more} more"));
        }
    }
    if diff.total > u128::from(diff.compared) {
        terminal::note(format_args!("{} combinations are too many: those compared are spread over them", diff.total));
    }
}

/// The members of a request that it has, each with its value.
fn members_of(request: &CaseRequest) -> Vec<(&'static str, String)> {
    let roles: Vec<&str> =
        Role::ALL.iter().filter(|role| request.roles.contains(**role)).map(|role| role.as_str()).collect();
    let origin = match request.origin {
        Origin::Loopback => "local",
        Origin::LocalNetwork => "lan",
        Origin::Anywhere => "any",
    };
    let capabilities: Vec<&str> = request.capabilities.iter().map(|name| &**name).collect();
    let all = [
        ("operation", Some(request.operation.as_str().to_owned())),
        ("roles", Some(roles.join(","))),
        ("origin", Some(origin.to_owned())),
        ("zone", request.zone.clone()),
        ("kind", request.kind.clone()),
        ("node", request.node.clone()),
        ("capabilities", Some(capabilities.join(","))),
        ("attestation", request.attestation.map(|attestation| attestation.as_str().to_owned())),
        ("signed", request.is_signed.then(|| "true".to_owned())),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value.filter(|value| !value.is_empty())?))).collect()
}

fn request_text(request: &CaseRequest) -> String {
    let members: Vec<String> = members_of(request).iter().map(|(name, value)| format!("{name}={value}")).collect();
    members.join(" ")
}

fn request_json(request: &CaseRequest) -> Value {
    Value::Object(members_of(request).into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect())
}
