//! `demo`: a hub, three workers and a job for each file of a folder, started and stopped.
//!
//! Real processes on a temporary data folder: what is shown is what a user gets. With `--crash` the hub is killed in
//! the middle and restarted, and [`proof`] checks that each job has exactly one result.

pub mod cast;
pub mod exec;
mod folder;
mod proof;

use super::ended::{self, Awaited, Ended};
use super::failure::Failure;
use super::interrupt;
use super::link::Link;
use super::terminal::{BAD, BOLD, line, note, printable, styled};
use crate::client::calls::{JobView, Submit};
use crate::client::{Client, Plane};
use cast::{Hub, Member, WorkerPlan};
use crossbeam_channel::Receiver;
use exec::Params;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::value::to_raw_value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// The kind of the demo's jobs.
const KIND: &str = "file_digest";

/// The demo's workers.
const WORKERS: [&str; 3] = ["worker-1", "worker-2", "worker-3"];

/// Concurrent long polls for final jobs.
const WATCHES: usize = 8;

/// Jobs of one request.
const BATCH_JOBS: usize = 500;

/// The duration of a run with a crash, at least, so that the crash happens in the middle of it.
const CRASH_RUN_MS: u64 = 3_000;

/// Short, so that a job whose lease is lost in the crash is leased again within seconds.
const LEASE_SEC: u64 = 3;

const EXAMPLES: &str = "\
Examples:
  sheratan-hub demo                 on the files of this folder
  sheratan-hub demo ~/Documents     on those of another one
  sheratan-hub demo --crash         kill the hub with -9 in the middle and check every result

The hub and its workers are stopped and its data folder is removed at the end.

Exit code 0 if each job has exactly one right result, 1 if not or if it was interrupted, 2 for an invalid command line.";

/// The arguments of `demo`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Folder of files; each becomes a job
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Kill the hub with -9 in the middle and restart it; each job must still have exactly one result
    #[arg(long)]
    crash: bool,
    /// Maximum number of files
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=50_000))]
    limit: u64,
    /// Keep the data folder and the logs, and print their path
    #[arg(long)]
    keep: bool,
}

/// One file and its job.
struct Work {
    path: PathBuf,
    /// Its stamp when the job was made; `None` if it could not be read.
    stamp: Option<Stamp>,
    job_id: String,
    job: Option<JobView>,
}

/// A file's size and time of modification: if they differ, the file was changed.
type Stamp = (u64, SystemTime);

/// The demo while it runs.
struct Stage {
    home: PathBuf,
    hub: Hub,
    client: Client,
    link: Arc<Link>,
    workers: Vec<Member>,
    works: Vec<Work>,
    progress: ProgressBar,
    interrupts: Receiver<()>,
}

/// How the demo ended.
enum Ending {
    /// All jobs are final.
    Finished(Account),
    /// The operator pressed ctrl-C.
    Interrupted,
}

/// The demo's record when all jobs are final.
struct Account {
    works: Vec<Work>,
    /// All jobs that the hub lists.
    listed: Vec<JobView>,
    crash: Option<Crash>,
    elapsed: Duration,
}

/// The crash of the hub.
struct Crash {
    /// Results that had arrived.
    results_before: usize,
    /// From the kill until the hub listened again.
    down: Duration,
}

/// Runs the demo and prints its results and checks.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let interrupts = interrupt::listen()?;
    let root = args.folder.canonicalize().map_err(|error| Failure::local(args.folder.display(), error))?;
    let found = folder::files(&root, args.limit as usize).map_err(|error| Failure::local(root.display(), error))?;
    if found.paths.is_empty() {
        return Err(Failure::Local(format!("{} has no files: name another folder", root.display())));
    }
    let home = tempfile::Builder::new().prefix("sheratan-demo-").tempdir();
    let home = home.map_err(|error| Failure::local("a temporary folder cannot be made", error))?;
    let ending = Stage::start(&root, home.path(), found, interrupts, args.crash).and_then(|mut stage| {
        let ending = stage.run(args.crash);
        stage.close();
        ending
    });
    let is_kept = args.keep || ending.is_err();
    if is_kept {
        note(format_args!("data folder and logs are kept in {}", printable(&home.keep().to_string_lossy())));
    } else if let Err(error) = home.close() {
        note(format_args!("the temporary folder could not be removed: {error}"));
    }
    match ending? {
        Ending::Finished(account) => {
            let is_correct = proof::show(&root, &account);
            suggest_next(args.crash);
            Ok(if is_correct { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Ending::Interrupted => {
            note("interrupted: the hub and its workers were stopped");
            Ok(ExitCode::FAILURE)
        }
    }
}

impl Stage {
    /// Starts the hub and the workers.
    fn start(
        root: &Path,
        home: &Path,
        found: folder::Files,
        interrupts: Receiver<()>,
        is_crash: bool,
    ) -> Result<Self, Failure> {
        let hub = Hub::start(home)?;
        let client = hub.client()?;
        let files = found.paths.len();
        let pause_ms = if is_crash { CRASH_RUN_MS * WORKERS.len() as u64 / files as u64 } else { 0 };
        let binary = std::env::current_exe().map_err(|error| Failure::local("this program cannot be found", error))?;
        let program = [binary.into_os_string(), "demo-exec".into(), "--pause-ms".into(), pause_ms.to_string().into()];
        let workers = WORKERS.iter().map(|node| {
            let plan = WorkerPlan { node, kind: KIND, lease_sec: LEASE_SEC, program: &program };
            hub.worker(home, &plan)
        });
        let workers = workers.collect::<Result<_, _>>()?;
        note(format_args!("{} at {}", styled(BOLD, "a hub"), client.endpoint(Plane::Data).url));
        let more = if found.is_cut { " (the first; more with --limit)" } else { "" };
        note(format_args!(
            "{} workers, and a job for each of {files} files of {}{more}",
            WORKERS.len(),
            printable(&root.to_string_lossy())
        ));
        if found.unnamed > 0 {
            note(format_args!("{} files are skipped: their names are not Unicode", found.unnamed));
        }
        let works = found.paths.into_iter().map(Work::of).collect();
        let (home, link) = (home.to_owned(), Arc::new(Link::fixed(client.clone())));
        Ok(Stage { home, hub, client, link, workers, works, progress: progress_bar(files), interrupts })
    }

    /// Submits the jobs and waits until all are final.
    fn run(&mut self, is_crash: bool) -> Result<Ending, Failure> {
        let started = Instant::now();
        self.submit()?;
        let (awaited, ended) = ended::watch(&self.link, WATCHES);
        for (number, work) in (0..).zip(&self.works) {
            awaited
                .send(Awaited { number, job_id: work.job_id.clone() })
                .expect("the watches receive until the channel closes");
        }
        drop(awaited);
        let crash_at = if is_crash { Some(self.works.len().div_ceil(3)) } else { None };
        let mut crash = None;
        let mut by_worker = BTreeMap::new();
        for results in 1..=self.works.len() {
            let Ended { awaited, outcome } = crossbeam_channel::select! {
                recv(ended) -> ended => ended.expect("each awaited job is reported"),
                recv(self.interrupts) -> _ => return Ok(Ending::Interrupted),
            };
            let job = outcome?;
            if let Some(attempt) = job.attempts.last() {
                *by_worker.entry(attempt.node_id.clone()).or_insert(0) += 1;
            }
            self.works[awaited.number as usize].job = Some(job);
            self.progress.inc(1);
            self.progress.set_message(counts(&by_worker));
            if crash_at == Some(results) {
                crash = Some(self.crash(results)?);
            }
        }
        self.progress.finish_and_clear();
        let listed = self.list()?;
        let works = std::mem::take(&mut self.works);
        Ok(Ending::Finished(Account { works, listed, crash, elapsed: started.elapsed() }))
    }

    fn submit(&mut self) -> Result<(), Failure> {
        for works in self.works.chunks_mut(BATCH_JOBS) {
            let submits: Vec<_> = works
                .iter()
                .map(|work| {
                    let params = to_raw_value(&Params { path: work.path.clone() });
                    let params = Some(params.expect("files with other names are skipped"));
                    Submit { kind: KIND.to_owned(), params, ..Submit::default() }
                })
                .collect();
            for (work, answer) in works.iter_mut().zip(self.client.submit_many(&submits)?) {
                work.job_id = answer.job_id.ok_or_else(|| {
                    let reason = answer.detail.or(answer.error).unwrap_or_default();
                    Failure::local(format_args!("the hub refused the job for {}", work.path.display()), reason)
                })?;
            }
        }
        Ok(())
    }

    /// Kills the hub and starts it again.
    fn crash(&mut self, results: usize) -> Result<Crash, Failure> {
        let killed = Instant::now();
        self.hub.kill();
        self.progress.suspend(|| {
            note(format_args!("{} after {results} results", styled(BAD.bold(), "the hub was killed (-9)")));
        });
        self.hub.restart(&self.home)?;
        let down = killed.elapsed();
        self.progress.suspend(|| note(format_args!("the hub was restarted and listens after {} ms", down.as_millis())));
        Ok(Crash { results_before: results, down })
    }

    /// All jobs that the hub lists.
    fn list(&self) -> Result<Vec<JobView>, Failure> {
        let mut listed = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.client.jobs(&format!("kind={KIND}&limit=1000{cursor}"))?;
            listed.extend(page.jobs);
            match page.next_cursor {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(listed),
            }
        }
    }

    /// Stops the workers, then the hub.
    fn close(&mut self) {
        self.progress.finish_and_clear();
        for worker in &mut self.workers {
            worker.stop();
        }
        self.hub.stop();
    }
}

impl Work {
    fn of(path: PathBuf) -> Self {
        Work { stamp: stamp(&path), path, job_id: String::new(), job: None }
    }

    /// Whether the file was changed after its job was made.
    fn is_changed(&self) -> bool {
        stamp(&self.path) != self.stamp
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}

fn counts(by_worker: &BTreeMap<String, u64>) -> String {
    by_worker.iter().map(|(node, count)| format!("{node} {count}")).collect::<Vec<_>>().join(" · ")
}

fn progress_bar(files: usize) -> ProgressBar {
    let bar = ProgressBar::new(files as u64);
    let template = "{bar:30.green} {human_pos}/{human_len} results  {wide_msg}";
    bar.set_style(ProgressStyle::with_template(template).expect("the template is well formed"));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn suggest_next(is_crash: bool) {
    line("");
    line(styled(BOLD, "Try next"));
    if !is_crash {
        line("  sheratan-hub demo --crash                              the same, but the hub is killed in the middle");
    }
    line("  sheratan-hub serve                                     run a hub");
    line("  sheratan-hub worker --exec 'wc -c'                     run a worker, in another terminal");
    line("  sheratan-hub submit count '{\"msg\":\"hello\"}' --wait     submit a job, in a third");
}
