//! Proof: the demo's results, and checks that each job has exactly one result and that it is right.

use super::exec::{self, Digested};
use super::{Account, Work};
use crate::cli::terminal::{BAD, BOLD, DIM, GOOD, line, printable, styled};
use crate::client::calls::JobView;
use comfy_table::{CellAlignment, Table, TableComponent, presets};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Rows of the table; the other files are counted.
const ROWS_MAX: usize = 20;

/// Jobs that a failed check names.
const NAMED_MAX: usize = 5;

/// A claim, and the files for which it does not hold.
struct Check {
    claim: String,
    violations: Vec<String>,
}

/// Prints the results, each worker's share and the checks; returns whether all checks hold.
pub fn show(root: &Path, account: &Account) -> bool {
    line(table(root, &account.works));
    let hidden = account.works.len().saturating_sub(ROWS_MAX);
    if hidden > 0 {
        line(format_args!("… and {hidden} more"));
    }
    line("");
    show_shares(account);
    line("");
    let checks = checks(root, account);
    for check in &checks {
        let is_ok = check.violations.is_empty();
        let mark = if is_ok { styled(GOOD, "✓") } else { styled(BAD, "✗") };
        line(format_args!("{mark} {}", check.claim));
        for name in check.violations.iter().take(NAMED_MAX) {
            line(format_args!("    violated by {name}"));
        }
        let unnamed = check.violations.len().saturating_sub(NAMED_MAX);
        if unnamed > 0 {
            line(format_args!("    and {unnamed} more"));
        }
    }
    checks.iter().all(|check| check.violations.is_empty())
}

fn table(root: &Path, works: &[Work]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    // Without a rule after each row.
    table.remove_style(TableComponent::HorizontalLines).remove_style(TableComponent::MiddleIntersections);
    table.set_header(["File", "Lines", "Bytes", "SHA-256", "Worker"]);
    for work in works.iter().take(ROWS_MAX) {
        let job = work.job.as_ref();
        let (lines, bytes, sha256) = match job.and_then(digested) {
            Some(result) => (result.lines.to_string(), result.bytes.to_string(), format!("{}…", &result.sha256[..12])),
            None => (String::new(), String::new(), job.map_or("no result", |job| &job.status).to_owned()),
        };
        let worker = job.and_then(|job| job.attempts.last()).map_or("", |attempt| &attempt.node_id);
        table.add_row([name(root, work).as_str(), &lines, &bytes, &sha256, worker]);
    }
    for column in [1, 2] {
        table.column_mut(column).expect("the table has five columns").set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn show_shares(account: &Account) {
    let mut shares = BTreeMap::new();
    for attempt in account.works.iter().filter_map(|work| work.job.as_ref()?.attempts.last()) {
        *shares.entry(attempt.node_id.as_str()).or_insert(0_usize) += 1;
    }
    let shares: Vec<_> = shares.iter().map(|(node, count)| format!("{} {count}", styled(BOLD, node))).collect();
    let secs = account.elapsed.as_secs_f64();
    let rate = account.works.len() as f64 / secs.max(0.001);
    line(format_args!("{}  {}", shares.join(" · "), styled(DIM, format_args!("{secs:.1} s, {rate:.0} jobs/s"))));
    let Some(crash) = &account.crash else { return };
    line(format_args!(
        "the hub was killed after {} of {} results and was down for {} ms",
        crash.results_before,
        account.works.len(),
        crash.down.as_millis()
    ));
    let again = account.works.iter().filter(|work| work.job.as_ref().is_some_and(|job| job.attempts.len() > 1)).count();
    if again > 0 {
        line(format_args!(
            "{again} job(s) were leased again, because the reply with their lease was lost in the crash"
        ));
    }
}

/// Checks of the hub's listing, of each job's attempts and of each digest.
fn checks(root: &Path, account: &Account) -> Vec<Check> {
    let works = &account.works;
    let files = works.len();
    let of = |claim: String, is_violated: &dyn Fn(&Work) -> bool| {
        let violations = works.iter().filter(|work| is_violated(work)).map(|work| name(root, work)).collect();
        Check { claim, violations }
    };
    let mut listed: BTreeMap<&str, usize> = BTreeMap::new();
    for job in &account.listed {
        *listed.entry(&job.job_id).or_default() += usize::from(job.is_completed());
    }
    let ours: BTreeSet<_> = works.iter().map(|work| work.job_id.as_str()).collect();
    let unknown = listed.keys().filter(|id| !ours.contains(*id)).map(ToString::to_string).collect();
    let unreadable = works.iter().filter(|work| is_unreadable(work)).count();
    let mut checks = vec![
        of(format!("{files} jobs were acknowledged, and the hub lists each once"), &|work| {
            !listed.contains_key(work.job_id.as_str())
        }),
        Check {
            claim: format!("the hub lists no job besides these ({} jobs)", account.listed.len()),
            violations: unknown,
        },
        of(format!("{} jobs are completed", files - unreadable), &|work| {
            !is_unreadable(work) && listed.get(work.job_id.as_str()) != Some(&1)
        }),
        of("each has exactly one attempt whose result was accepted".to_owned(), &|work| {
            let completed =
                |job: &JobView| job.attempts.iter().filter(|attempt| attempt.outcome == "completed").count();
            !is_unreadable(work) && work.job.as_ref().map(completed) != Some(1)
        }),
        of("each digest and size equals that of the file".to_owned(), &|work| {
            let is_right = || work.job.as_ref().and_then(digested) == exec::digest(&work.path).ok();
            !is_unreadable(work) && !work.is_changed() && !is_right()
        }),
    ];
    let changed = works.iter().filter(|work| work.is_changed()).count();
    if changed > 0 {
        checks[4].claim.push_str(&format!(" (except {changed} file(s) that were changed meanwhile)"));
    }
    if account.listed.len() != listed.len() {
        checks[0].violations.push(format!("{} entries for {} jobs", account.listed.len(), listed.len()));
    }
    if unreadable > 0 {
        let claim = format!("{unreadable} file(s) cannot be read, and their jobs failed with that error");
        checks.push(of(claim, &|work| is_unreadable(work) && !work.is_changed() && exec::digest(&work.path).is_ok()));
    }
    checks
}

/// Whether the job failed because its file could not be read.
fn is_unreadable(work: &Work) -> bool {
    work.job.as_ref().is_some_and(|job| {
        let error = job.error.as_ref().map_or("", |error| error.get());
        !job.is_completed() && error.contains(&format!("\"exit_code\":{}", exec::EXIT_NO_INPUT))
    })
}

fn digested(job: &JobView) -> Option<Digested> {
    serde_json::from_str(job.result.as_ref()?.get()).ok()
}

fn name(root: &Path, work: &Work) -> String {
    printable(&work.path.strip_prefix(root).unwrap_or(&work.path).to_string_lossy()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::Crash;
    use std::time::Duration;

    fn job(id: &str, result: &str, outcomes: &[&str]) -> JobView {
        let attempts: Vec<_> =
            outcomes.iter().map(|outcome| serde_json::json!({"node_id": "worker-1", "outcome": outcome})).collect();
        let text =
            serde_json::json!({"job_id": id, "kind": "k", "status": "completed", "attempts": attempts}).to_string();
        let mut job: JobView = serde_json::from_str(&text).unwrap();
        job.result = Some(serde_json::value::RawValue::from_string(result.to_owned()).unwrap());
        job
    }

    /// Two files with right results, and jobs as the hub lists them.
    fn account(dir: &Path) -> Account {
        let works: Vec<_> = ["a", "b"]
            .iter()
            .map(|name| {
                let path = dir.join(name);
                std::fs::write(&path, name).unwrap();
                let result = serde_json::to_string(&exec::digest(&path).unwrap()).unwrap();
                let job_id = format!("job_{name}");
                let job = Some(job(&job_id, &result, &["completed"]));
                Work { job_id, job, ..Work::of(path) }
            })
            .collect();
        let listed = works.iter().filter_map(|work| work.job.clone()).collect();
        let crash = Some(Crash { results_before: 1, down: Duration::ZERO });
        Account { works, listed, crash, elapsed: Duration::from_secs(1) }
    }

    fn broken(dir: &Path, account: &Account) -> Vec<usize> {
        let checks = checks(dir, account);
        (0..checks.len()).filter(|index| !checks[*index].violations.is_empty()).collect()
    }

    #[test]
    fn a_lost_duplicate_or_wrong_result_violates_a_check() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let whole = || account(dir);
        assert_eq!(broken(dir, &whole()), [0; 0]);

        let mut lost = whole();
        lost.listed.pop();
        assert_eq!(broken(dir, &lost), [0, 2], "an acknowledged job that is not listed");

        let mut duplicate = whole();
        duplicate.listed.push(duplicate.listed[0].clone());
        assert_eq!(broken(dir, &duplicate), [0, 2], "a job that is listed twice");

        let mut unknown = whole();
        unknown.listed.push(job("job_c", "1", &["completed"]));
        assert_eq!(broken(dir, &unknown), [1], "a job that the demo did not submit");

        let mut twice = whole();
        twice.works[0].job.as_mut().unwrap().attempts.extend(job("", "1", &["completed"]).attempts);
        assert_eq!(broken(dir, &twice), [3], "two accepted results");

        let mut again = whole();
        again.works[0].job = Some(job(
            "job_a",
            again.works[0].job.as_ref().unwrap().result.as_ref().unwrap().get(),
            &["lease_expired", "completed"],
        ));
        assert_eq!(broken(dir, &again), [0; 0], "a second attempt is not a second result");

        let mut wrong = whole();
        wrong.works[1].job = Some(job("job_b", r#"{"sha256":"00","lines":0,"bytes":1}"#, &["completed"]));
        assert_eq!(broken(dir, &wrong), [4], "a digest that is not the file's");

        let changed = whole();
        std::fs::write(&changed.works[1].path, "changed").unwrap();
        assert_eq!(broken(dir, &changed), [0; 0], "a file that was changed meanwhile is not compared");
    }

    #[test]
    fn a_file_that_cannot_be_read_violates_no_check() {
        let dir = tempfile::tempdir().unwrap();
        let mut account = account(dir.path());
        std::fs::remove_file(&account.works[0].path).unwrap();
        let mut failed = job("job_a", "null", &["failed"]);
        failed.status = "dead".to_owned();
        failed.error = serde_json::from_str(r#"{"exit_code":66,"stderr":"gone"}"#).unwrap();
        account.works[0].job = Some(failed.clone());
        account.listed[0] = failed;
        account.works[0].stamp = None;
        assert_eq!(broken(dir.path(), &account), [0; 0]);
        std::fs::write(&account.works[0].path, "back").unwrap();
        account.works[0].stamp = super::super::stamp(&account.works[0].path);
        assert_eq!(broken(dir.path(), &account), [5]);
    }
}
