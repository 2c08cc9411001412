//! Reader: reads jobs that were acknowledged, waits for their ends, and pages through all jobs, a client's results and the
//! audit log.

use super::http::{Reply, get};
use super::logs::LogPage;
use super::oracle::{Observation, Page, Row, Wait};
use super::process::TOKEN;
use super::scene::{Answer, Call, Passage, Scene, Timer};
use crate::agenda::{MINUTE, Micros, SECOND};
use serde::Deserialize;
use serde_json::value::RawValue;
use sheratan_core::limits::ATTEMPTS_KEPT_MAX;
use sheratan_io::audit::seq_of;
use sheratan_io::service::Plane;
use std::collections::{BTreeMap, VecDeque};

/// A reader's connections: reads, which are pipelined, waits, and pages of the audit log.
const READS: usize = 0;
const WAITS: usize = 1;
const LOGS: usize = 2;

/// How many connections a reader has.
pub const READER_LANES: usize = 3;

/// Jobs that a reader remembers.
const KNOWN_MAX: usize = 64;

/// Jobs of a page, at most.
const PAGE_JOBS: [u64; 3] = [3, 20, 1_000];

/// Lines of a page of the audit log, at most.
const PAGE_LINES: [u64; 3] = [1, 20, 1_000];

/// A reader.
#[derive(Debug)]
pub struct Reader {
    /// Jobs that it may read, the latest last.
    known: VecDeque<String>,
    /// Reads that are not answered yet, in the order in which they were sent.
    reads: VecDeque<Read>,
    waiting: Option<(String, Micros)>,
    /// Where the next page begins.
    cursor: Option<String>,
    /// The client whose results it reads.
    client: u64,
    /// Where the results begin that it has not read, and the states of the jobs whose results it has read.
    results_after: Option<String>,
    results_read: BTreeMap<String, (String, u64)>,
    /// The page of the audit log that it has requested, without its lines.
    log_page: Option<LogPage>,
    /// The last line of the audit log that it has read.
    line: u64,
}

#[derive(Debug)]
enum Read {
    Job(String),
    Page { cursor: Option<String>, status: Option<&'static str> },
    Results,
}

#[derive(Deserialize)]
struct Shown<'a> {
    #[serde(borrow)]
    job: ShownJob<'a>,
}

#[derive(Deserialize)]
struct ShownPage<'a> {
    #[serde(borrow)]
    jobs: Vec<ShownJob<'a>>,
    next_cursor: Option<&'a str>,
}

#[derive(Deserialize)]
struct ShownResults<'a> {
    #[serde(borrow)]
    results: Vec<ShownJob<'a>>,
    cursor: &'a str,
}

#[derive(Deserialize)]
struct ShownLog<'a> {
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct ShownJob<'a> {
    job_id: &'a str,
    status: &'a str,
    attempt: u64,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    attempts: Option<Vec<ShownAttempt>>,
}

#[derive(Deserialize)]
struct ShownAttempt {
    attempt: u64,
}

impl Reader {
    /// A reader without jobs.
    pub fn new(no: u64) -> Self {
        let (known, reads, results_read) = Default::default();
        let (client, results_after) = (no % 2, None);
        let (waiting, cursor, log_page, line) = (None, None, None, 0);
        Reader { known, reads, waiting, cursor, client, results_after, results_read, log_page, line }
    }

    /// Adds a job that was acknowledged.
    pub fn add_job(&mut self, job_id: &str) {
        if self.known.len() == KNOWN_MAX {
            self.known.pop_front();
        }
        self.known.push_back(job_id.to_owned());
    }

    /// Its timer fires: it makes some reads.
    pub fn wake(&mut self, scene: &mut Scene) {
        let mean = MINUTE / scene.plan.traffic.reads_per_min.max(1);
        scene.timers.push((scene.now + 1 + scene.draw.below(2 * mean), Timer::Read));
        if self.waiting.is_none() && scene.plan.traffic.read_wait_ms > 0 && scene.draw.chance(500) {
            self.wait(scene);
        }
        let audit_percent = scene.plan.traffic.audit_percent;
        if audit_percent > 0 && self.log_page.is_none() && scene.draw.chance(audit_percent * 10) {
            self.read_log(scene);
        }
        let room = (scene.plan.traffic.pipeline_max.max(1) as usize).saturating_sub(self.reads.len());
        for _ in 0..room.min(1 + scene.draw.below(4) as usize) {
            match scene.draw.below(10) {
                0 | 1 => self.read_page(scene),
                2 => self.read_results(scene),
                _ => self.read_job(scene),
            }
        }
    }

    /// Handles the answer to its oldest call on a lane.
    pub fn answered(&mut self, lane: usize, answer: Answer, scene: &mut Scene) {
        match lane {
            WAITS => return self.on_waited(answer, scene),
            LOGS => return self.on_log_page(answer, scene),
            _ => {}
        }
        let Some(read) = self.reads.pop_front() else { return };
        let Answer::Reply(Reply { status, body, .. }, Passage { asked_at, .. }) = answer else { return };
        match read {
            Read::Job(job_id) => _ = report_job(job_id, status, &body, asked_at, scene),
            Read::Page { cursor, status: filter } if status == 200 => {
                let page: ShownPage = serde_json::from_slice(&body).expect("a page is what the contract says");
                let next_cursor = page.next_cursor.map(str::to_owned);
                self.cursor.clone_from(&next_cursor);
                let rows = page.jobs.iter().map(row_of).collect();
                scene.marks.push("page read");
                scene.observations.push(Observation::PageShown {
                    asked_at,
                    page: Page { rows, cursor, status: filter, next_cursor },
                });
            }
            Read::Results if status == 200 => self.on_results(&body, asked_at, scene),
            // The hub has lost the records that the cursor is from.
            Read::Results if status == 400 => {
                self.results_after = None;
                self.results_read.clear();
                scene.marks.push("results read: begun again");
            }
            Read::Page { .. } | Read::Results => {}
        }
    }

    /// Requests the results that it has not read, unless it waits for such an answer.
    fn read_results(&mut self, scene: &mut Scene) {
        if self.reads.iter().any(|read| matches!(read, Read::Results)) {
            return;
        }
        let after = self.results_after.as_ref().map_or(String::new(), |after| format!("&after={after}"));
        let path = format!("/mesh/results/client{}?limit=5{after}", self.client);
        scene.call(READS, get(&path, TOKEN), 10 * SECOND);
        self.reads.push_back(Read::Results);
    }

    /// Each result is one that it has not read, or that of a dead letter, which has ended otherwise since.
    fn on_results(&mut self, body: &[u8], asked_at: Micros, scene: &mut Scene) {
        let ShownResults { results, cursor } =
            serde_json::from_slice(body).expect("results are what the contract says");
        scene.marks.push(if results.is_empty() { "results read: nothing new" } else { "results read" });
        for row in results.iter().map(row_of) {
            let before = self.results_read.insert(row.job_id.clone(), (row.status.to_string(), row.attempt));
            // One that was requeued had another attempt.
            let is_other = |(status, attempt): &(String, u64)| {
                status == "dead" && (row.status != "dead" || *attempt < row.attempt)
            };
            if before.is_some_and(|before| !is_other(&before)) {
                let asked = format!("the results after {:?}", self.results_after);
                scene.observations.push(Observation::Mismatched { asked, answered: format!("{} again", row.job_id) });
            }
            scene.observations.push(Observation::JobShown { asked_at, row });
        }
        self.results_after = Some(cursor.to_owned());
    }

    fn read_job(&mut self, scene: &mut Scene) {
        let Some(job_id) = self.pick(scene) else { return };
        scene.call(READS, get(&format!("/mesh/jobs/{job_id}"), TOKEN), 10 * SECOND);
        self.reads.push_back(Read::Job(job_id));
    }

    fn read_page(&mut self, scene: &mut Scene) {
        let cursor = self.cursor.take();
        let limit = *scene.draw.pick(&PAGE_JOBS);
        let mut path = format!("/mesh/jobs?limit={limit}");
        if let Some(cursor) = &cursor {
            path += &format!("&cursor={cursor}");
        }
        let status = scene.draw.chance(300).then(|| *scene.draw.pick(&["queued", "leased", "completed", "dead"]));
        if let Some(status) = status {
            path += &format!("&status={status}");
        }
        scene.call(READS, get(&path, TOKEN), 10 * SECOND);
        self.reads.push_back(Read::Page { cursor, status });
    }

    /// Requests the next page of the audit log, its end, or a page from an older line.
    fn read_log(&mut self, scene: &mut Scene) {
        let (limit, line) = (*scene.draw.pick(&PAGE_LINES), self.line);
        let older = scene.draw.below(line + 1);
        let after = *scene.draw.pick(&[Some(line), Some(line), Some(older), None]);
        let path =
            format!("/api/audit?limit={limit}") + &after.map_or(String::new(), |after| format!("&after={after}"));
        scene.call(LOGS, get(&path, TOKEN), 10 * SECOND);
        self.log_page = Some(LogPage { after, limit, known: scene.logged, lines: Vec::new() });
    }

    fn on_log_page(&mut self, answer: Answer, scene: &mut Scene) {
        let Some(page) = self.log_page.take() else { return };
        let Answer::Reply(Reply { status: 200, body, .. }, _) = answer else { return };
        let ShownLog { events } = serde_json::from_slice(&body).expect("a page is what the contract says");
        let lines: Vec<_> = events.iter().map(|line| line.get().to_owned()).collect();
        // After a power cut the log may have lost lines.
        self.line = lines.last().and_then(|line| seq_of(line.as_bytes())).or(page.after).unwrap_or(0).min(scene.logged);
        scene.marks.push(if lines.is_empty() { "audit page read: nothing new" } else { "audit page read" });
        scene.log_pages.push(LogPage { lines, ..page });
    }

    fn wait(&mut self, scene: &mut Scene) {
        let Some(job_id) = self.pick(scene) else { return };
        let wait_ms = scene.draw.between(1, scene.plan.traffic.read_wait_ms);
        let hub_wait = wait_ms * 1_000;
        let bytes = get(&format!("/mesh/jobs/{job_id}?wait_ms={wait_ms}"), TOKEN);
        scene.calls.push(Call { lane: WAITS, bytes, timeout: 2 * hub_wait + 10 * SECOND, hub_wait });
        self.waiting = Some((job_id, hub_wait));
    }

    fn on_waited(&mut self, answer: Answer, scene: &mut Scene) {
        let Some((job_id, wait_us)) = self.waiting.take() else { return };
        let Answer::Reply(Reply { status, body, .. }, Passage { asked_at, left_at, is_smooth }) = answer else {
            return;
        };
        let Some(is_final) = report_job(job_id.clone(), status, &body, asked_at, scene) else { return };
        scene.marks.push(if is_final { "wait for an end: it came" } else { "wait for an end: its time was over" });
        if is_smooth {
            scene.observations.push(Observation::WaitEnded(Wait { job_id, asked_at, wait_us, left_at, is_final }));
        }
    }

    /// One of its jobs, more often a late one, whose state still changes.
    fn pick(&self, scene: &mut Scene) -> Option<String> {
        let latest = if scene.draw.chance(500) { 4 } else { KNOWN_MAX as u64 };
        let back = scene.draw.below(latest.min(self.known.len() as u64)) as usize;
        self.known.iter().nth_back(back).cloned()
    }
}

/// The plane that a reader's connection is opened to.
pub fn plane(lane: usize) -> Plane {
    if lane == LOGS { Plane::Control } else { Plane::Data }
}

/// Whether these are a job's latest attempts: all of them, or as many as are kept (one fewer while the job waits).
fn has_latest(attempts: &[ShownAttempt], last: u64) -> bool {
    let count = attempts.len() as u64;
    let first = last + 1 - count.min(last);
    let is_whole = count == last || (ATTEMPTS_KEPT_MAX as u64 - 1..=ATTEMPTS_KEPT_MAX as u64).contains(&count);
    is_whole && attempts.iter().map(|attempt| attempt.attempt).eq(first..=last)
}

/// Reports what a reply shows of a job; returns whether the job is final, if the reply shows it.
fn report_job(job_id: String, status: u16, body: &[u8], asked_at: Micros, scene: &mut Scene) -> Option<bool> {
    match status {
        200 => {
            let Shown { job } = serde_json::from_slice(body).expect("a job is what the contract says");
            let (row, attempts) = (row_of(&job), job.attempts.unwrap_or_default());
            let is_own = row.job_id == job_id && has_latest(&attempts, row.attempt);
            if !is_own {
                let numbers: Vec<_> = attempts.iter().map(|attempt| attempt.attempt).collect();
                let answered = format!("{} with {numbers:?} of {} attempts", row.job_id, row.attempt);
                scene.observations.push(Observation::Mismatched { asked: format!("a read of {job_id}"), answered });
                return None;
            }
            let is_final = !matches!(&*row.status, "scheduled" | "queued" | "leased");
            scene.observations.push(Observation::JobShown { asked_at, row });
            scene.marks.push(if is_final { "read: a job that has ended" } else { "read: a job that has not ended" });
            Some(is_final)
        }
        404 => {
            scene.marks.push("read: no such job");
            scene.observations.push(Observation::JobMissing { job_id });
            None
        }
        503 => {
            scene.marks.push("read: refused while the journal fails");
            None
        }
        _ => None,
    }
}

fn row_of(job: &ShownJob) -> Row {
    let payloads = job.result.zip(job.error).map(|(result, error)| format!("{} {}", result.get(), error.get()));
    Row { job_id: job.job_id.to_owned(), status: job.status.to_owned(), attempt: job.attempt, payloads }
}
