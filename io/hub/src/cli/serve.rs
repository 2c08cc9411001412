//! `sheratan-hub serve`: assembles and runs the hub, from the configuration to the last snapshot.

use super::failure::Failure;
use super::flags::Flags;
use super::reload::{Reload, read_rules};
use super::shared_token;
use super::terminal::{note, printable};
use crate::client::webhook;
use crate::hub_addr::AddrFile;
use crate::platform;
use anstyle::{AnsiColor, Style};
use crossbeam_channel::Receiver;
use sheratan_core::alerts::Alerts;
use sheratan_core::{Calendar, Command, Hub, Timestamp};
use sheratan_io::alerts::{AlertLog, WebhookUrl};
use sheratan_io::audit::{Audit, Feed};
use sheratan_io::config::Config;
use sheratan_io::journal::{self, Progress, Recovered, Recovery, Store};
use sheratan_io::logs;
use sheratan_io::platform::{Signal, create_private_dir, on_signals};
use sheratan_io::policy_files::PolicyFiles;
use sheratan_io::redact::{Redactor, SECRET_BYTES_MIN};
use sheratan_io::secret::Secret;
use sheratan_io::service::{PlaneAddrs, Recovering, Service, Settings};
use sheratan_io::shared_token::{SharedToken, TokenFiles, TokenKey};
use sheratan_io::shell::addresses::ConnectionLimits;
use sheratan_io::shell::clock::Clock;
use sheratan_io::shell::lobby::Lobby;
use sheratan_io::shell::reader::{LogPaths, LogReader};
use sheratan_io::shell::snapshots::Snapshots;
use sheratan_io::shell::timekeeper::{Notice, Start, Timekeeper};
use sheratan_io::shell::{self, Parts, Reloaded, StopFlag};
use sheratan_io::stall::Watches;
use sheratan_io::token::{Origin, Token};
use sheratan_io::trace::Trace;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

const EXAMPLES: &str = "\
Examples:
  sheratan-hub serve                                    serve this machine only, data in .sheratan
  sheratan-hub serve --data-dir /var/lib/sheratan       with another data folder
  sheratan-hub serve --data-addr 0.0.0.0:8788 --hub-token-file /etc/sheratan/token
                                                        serve other machines too, with a token
  SHERATAN_MAX_QUEUE_DEPTH=500 sheratan-hub serve       a setting as a variable; flags and hub.toml work too
  sheratan-hub config                                   show the effective settings and their sources

Exit code 0 after SIGTERM or ctrl-C, 1 if the hub cannot start, must stop, or was ended at once by a second signal, 2 for an \
invalid command line or setting.";

/// Descriptors for files, logs and the poll, besides one for each connection.
const OWN_FILES: u64 = 64;

/// Reloaded settings that the loop has not read yet.
const RELOADS_MAX: usize = 4;

/// How often a start that waits for the machine's clock reads it.
const CLOCK_CHECK_EVERY: Duration = Duration::from_millis(200);

/// A longer recovery logs its progress.
const SILENT_RECOVERY: Duration = Duration::from_secs(1);

/// The arguments.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    flags: Flags,
    /// Start although the machine's clock is more than a day behind the journal: the journal was written with a clock
    /// that was ahead. The calendar is set back; leases, delays and other durations are not affected
    #[arg(long)]
    accept_clock: bool,
}

/// Serves until it is asked to stop.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let config = Config::load(&args.flags.0).map_err(|error| Failure::Usage(error.to_string()))?;
    check_open_files(&config)?;
    // Invalid rules stop the start before anything that takes long.
    let alert_rules = read_rules(&config, &config.data_dir).map_err(|error| Failure::Usage(error.to_string()))?;
    create_private_dir(&config.data_dir).map_err(|error| {
        let folder = config.data_dir.display();
        Failure::Local(format!("the data folder {folder}: {error}; choose another one with --data-dir"))
    })?;
    // First the ports, then the folder: a second hub fails before anything that takes long.
    let (listeners, addrs) = shell::bind(&config.addrs).map_err(|error| Failure::Local(error.to_string()))?;
    let recovered = open_journal(&config)?;
    let addr_file = AddrFile::write(&config.data_dir, addrs);
    // The secrets first, so that no log line shows one.
    let key = TokenKey::load_or_create(&config.data_dir).map_err(|error| Failure::Local(error.to_string()))?;
    let access = Access::find(&config, &key)?;
    let redactor = Arc::new(redactor(&config, &access));
    let secrets = Secrets { access, redactor: redactor.clone() };
    // When the hub's process started is of no account before it has recovered.
    let token = secrets.access.token.clone();
    let recovering = Recovering::new(settings(&config, addrs, token, redactor.clone(), Timestamp::ZERO));
    let lobby = Lobby::open(listeners, recovering, config.http, connections_max(&config))
        .map_err(|error| Failure::local("the planes' sockets", error))?;
    let recovery = recover(recovered, &lobby)?;
    let clock = StartedClock::start(&recovery.hub, config.clock_wait, args.accept_clock)?;
    platform::survive_file_size_limit().map_err(|error| Failure::local("signals cannot be received", error))?;
    let logs = logs::start(&config.logs, &redactor).map_err(|error| Failure::local("the logs", error))?;
    let (reloads, reloaded) = crossbeam_channel::bounded(RELOADS_MAX);
    let (flags, data_dir) = (args.flags.0.clone(), config.data_dir.clone());
    let reload = Reload { flags, data_dir, token_key: key, level: logs.level(), redactor, reloads };
    let rules = Rules { first: alert_rules, reloaded };
    let ended = serve(&config, lobby, addr_file, (recovery, clock), secrets, rules, (reload, logs.watches()));
    drop(logs);
    ended
}

fn serve(
    config: &Config,
    lobby: Lobby,
    mut addr_file: AddrFile,
    (recovery, mut clock): (Recovery, StartedClock),
    secrets: Secrets,
    rules: Rules,
    (reload, watches): (Reload, Watches),
) -> Result<ExitCode, Failure> {
    let local = |what: &'static str| move |error: io::Error| Failure::local(what, error);
    config.notices.iter().for_each(|notice| tracing::warn!("{notice}"));
    let Recovery { hub, appender, store, report } = recovery;
    report.notices.iter().for_each(|notice| tracing::warn!("{notice}"));
    tracing::info!(
        records = report.records,
        jobs = hub.queue().len(),
        nodes = hub.registry().iter().count(),
        took_ms = report.took_ms,
        "recovered"
    );
    clock.log();
    let Secrets { access, redactor } = secrets;
    access.log();
    tell_short_secrets(&redactor);
    let (poll, waker) = shell::poll().map_err(local("the event loop"))?;
    let stop = Arc::new(StopFlag::default());
    handle_signals(stop.clone(), waker.clone(), reload)?;
    let feed_waker = waker.clone();
    // The poll lives as long as the loop, which is as long as the feed is read.
    let (audit_tap, audit_feed) = Feed::new(move || _ = feed_waker.wake());
    let audit = Audit::start(&config.audit, Some(audit_tap), watches.audit.clone()).map_err(local("the audit log"))?;
    let source = format!("http://{}/api/alerts", addr_file.addrs().control);
    let alerts = AlertLog::start(&config.alerts, &source, watches.alerts.clone(), webhook::post())
        .map_err(local("the alerts' file"))?;
    let paths = LogPaths { audit: config.audit.path.clone(), alerts: config.alerts.path.clone() };
    let log_reader = LogReader::start(paths, waker.clone()).map_err(local("a thread"))?;
    let snapshots = Snapshots::start(store.clone(), config.segment_bytes).map_err(local("a thread"))?;
    let connections_max = connections_max(config);
    if connections_max < config.connections_max {
        tracing::info!(connections_max, "the limit of open files allows fewer connections than max_connections");
    }
    let addrs = addr_file.addrs();
    let token_path = access.origin.map(|_| Token::path(&config.data_dir));
    let mut service = Service::new(hub, report.next_seq, settings(config, addrs, access.token, redactor, clock.now()));
    let (hub_id, traced_from) = (store.identity().hub_id, service.last_seq());
    let start_trace = |settings| Trace::start(settings, hub_id, traced_from, clock.now());
    let trace = config.trace.clone().map(start_trace).transpose().map_err(local("a thread"))?;
    if trace.is_some() {
        service.begin_trace();
    }
    let now = clock.now();
    if service.hub().calendar() != clock.calendar {
        service.set_calendar(now, clock.calendar).expect("the journal has not failed yet");
    }
    let salt = journal::random_salt().map_err(local("a salt for ids"))?;
    service.begin_ids(now, salt);
    if *service.hub().limits() != config.limits {
        // A new hub accepts it as well; the command's record holds the hub's time.
        let set = Command::Set(config.limits.differences(service.hub().limits()));
        service.command(now, set).expect("the journal has not failed yet");
    }
    service.adopt_rules(now);
    service.set_weights(now, &config.weights);
    service.configure_kinds(now, &config.kinds).iter().for_each(|warning| tracing::warn!("{warning}"));
    let policies = PolicyFiles::read(&config.policy_dir);
    policies.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    service.add_policies(now, policies.documents).iter().for_each(|warning| tracing::warn!("{warning}"));
    service.set_alerts(now, rules.first);
    service.begin_tokens(now);
    service.audit_short_token(now);
    service.begin_result_keys(now);
    let arrivals = lobby.close().map_err(local("the planes' sockets"))?;
    addr_file.set_ready();
    announce(config, addrs, token_path.as_deref());
    let ended = shell::run(Parts {
        poll,
        waker,
        arrivals,
        clock: clock.clock,
        timekeeper: clock.timekeeper,
        service,
        appender,
        audit,
        audit_feed,
        alerts,
        trace,
        log_reader,
        watches,
        http_limits: config.http,
        connection_limits: ConnectionLimits::new(connections_max, config.connections_per_address_max),
        buffered_bytes_max: config.buffered_bytes_max,
        stop,
        reloaded: rules.reloaded,
        sealed: snapshots.sealed(),
    });
    drop(addr_file);
    let ended = ended.map_err(local("the event loop"))?;
    snapshots.finish();
    last_snapshot(ended, &store)
}

/// Seals the journal and writes a snapshot, so that the next start replays nothing.
fn last_snapshot(ended: shell::Ended, store: &journal::Store) -> Result<ExitCode, Failure> {
    let shell::Ended { service, appender } = ended;
    let Some(mut appender) = appender else {
        let message = "the journal could not be written at the end: what was not acknowledged since is lost";
        tracing::error!("{message}");
        return Err(Failure::Local(message.into()));
    };
    appender.seal(service.hub().outcome_hash());
    match store.write_snapshot(service.last_seq(), service.hub()) {
        Ok(report) => {
            if let Err(error) = store.truncate(&report) {
                tracing::warn!(%error, "the journal cannot be truncated");
            }
            tracing::info!(covered_seq = report.covered_seq, bytes = report.bytes, "stopped");
        }
        // The journal is complete: the next start takes longer, and loses nothing.
        Err(error) => tracing::warn!("stopped without a snapshot: {error}"),
    }
    Ok(ExitCode::SUCCESS)
}

/// The most connections that the settings and the system allow.
fn connections_max(config: &Config) -> usize {
    let files_max = platform::raise_open_files_max();
    config.connections_max.min(files_max.saturating_sub(OWN_FILES) as usize)
}

/// A hub that could accept no connection would run and answer nobody.
fn check_open_files(config: &Config) -> Result<(), Failure> {
    if connections_max(config) > 0 {
        return Ok(());
    }
    let files_max = platform::raise_open_files_max();
    Err(Failure::Local(format!(
        "the process may open {files_max} files, and the hub needs {OWN_FILES} for itself and one for each connection: raise the limit (ulimit -n 1024, or LimitNOFILE= of the service)"
    )))
}

/// Locks the data folder, which is this hub's from then on, and opens the journal.
fn open_journal(config: &Config) -> Result<Recovered, Failure> {
    let options = journal::Options { segment_bytes: config.segment_bytes, ..journal::Options::default() };
    let opened = Store::open(&config.data_dir, options);
    opened.map(|(_, recovered)| recovered).map_err(|error| Failure::Local(error.to_string()))
}

fn recover(recovered: Recovered, lobby: &Lobby) -> Result<Recovery, Failure> {
    let (started, is_terminal) = (Instant::now(), io::stderr().is_terminal());
    let mut reported = started;
    let mut progress = |progress: Progress| {
        lobby.set_progress(progress);
        if started.elapsed() > SILENT_RECOVERY && reported.elapsed() > SILENT_RECOVERY && is_terminal {
            reported = Instant::now();
            let Progress { records, segments_left, .. } = progress;
            note(format_args!("recovering: {records} records replayed, {segments_left} segments left"));
        }
    };
    recovered.replay(&mut progress).map_err(|error| Failure::Local(error.to_string()))
}

/// The machine's clocks, and the hub's time and calendar at the start.
struct StartedClock {
    clock: Clock,
    timekeeper: Timekeeper,
    calendar: Calendar,
    notice: Option<Notice>,
}

impl StartedClock {
    /// Waits for a clock that is far behind the journal to be set: a machine without a battery for its clock gets the
    /// time from the network soon after it starts.
    fn start(hub: &Hub, wait: Duration, is_accepted: bool) -> Result<StartedClock, Failure> {
        let (mut clock, started, mut is_told) = (Clock::new(), Instant::now(), false);
        loop {
            let reading = clock.read_with_wall();
            let far_behind = match Timekeeper::start(&reading, hub.now(), hub.calendar(), is_accepted) {
                Ok(Start { timekeeper, calendar, notice }) => {
                    return Ok(StartedClock { clock, timekeeper, calendar, notice });
                }
                Err(far_behind) => far_behind,
            };
            if started.elapsed() >= wait {
                return Err(Failure::Local(far_behind.to_string()));
            }
            if !std::mem::replace(&mut is_told, true) {
                note(format_args!("waiting {} s for the machine's clock to be set: {far_behind}", wait.as_secs()));
            }
            std::thread::sleep(CLOCK_CHECK_EVERY);
        }
    }

    fn now(&mut self) -> Timestamp {
        self.timekeeper.now(&self.clock.read())
    }

    fn log(&self) {
        if let Some(notice) = self.notice {
            tracing::warn!("{notice}");
        }
    }
}

/// The alert rules of the start, and the channel of what is reloaded.
struct Rules {
    first: Alerts,
    reloaded: Receiver<Reloaded>,
}

/// Which callers are admitted, and the redactor of the process's secrets.
struct Secrets {
    access: Access,
    redactor: Arc<Redactor>,
}

/// Which callers are admitted.
struct Access {
    /// The token that admits a caller; `None` admits every caller.
    token: Option<SharedToken>,
    /// The token itself, to be redacted.
    secret: Option<Secret>,
    /// The token's origin, if it is the hub's own.
    origin: Option<Origin>,
}

impl Access {
    fn find(config: &Config, key: &TokenKey) -> Result<Self, Failure> {
        if !config.is_token_required {
            return Ok(Access { token: None, secret: None, origin: None });
        }
        let (active, origin) = match &config.token {
            Some(token) => (token.clone(), None),
            None => {
                let found = Token::load_or_create(&config.data_dir);
                let (token, origin) = found.map_err(|error| Failure::Local(error.to_string()))?;
                (token, Some(origin))
            }
        };
        let token = shared_token::of(config, key, &active);
        Ok(Access { token: Some(token), secret: Some(active.secret().clone()), origin })
    }

    fn log(&self) {
        match (&self.token, self.origin) {
            (None, _) => tracing::warn!("any process on this machine may use the hub: hub_token_required is 0"),
            (Some(_), Some(Origin::Made)) => tracing::info!("a token was made"),
            (_, Some(Origin::FoundOpen)) => {
                tracing::warn!("others could read the token's file; now they cannot, but change the token");
            }
            (_, Some(Origin::StaysOpen)) => {
                tracing::warn!(
                    "others can read the token's file, and this file system does not let the hub change that"
                );
            }
            (_, Some(Origin::Found) | None) => {}
        }
    }
}

/// Redacts all secrets of the process.
fn redactor(config: &Config, access: &Access) -> Redactor {
    let next = config.token_rotation.as_ref().map(|(next, _)| next);
    let kept = TokenFiles::new(&config.data_dir).next();
    let tokens = config.token.iter().chain(next).chain(&kept).map(Token::secret).chain(&access.secret);
    let webhook = config.alerts.webhook.as_ref().map(WebhookUrl::secret);
    Redactor::new(&tokens.chain(config.result_keys.all()).chain(webhook).collect::<Vec<_>>())
}

fn tell_short_secrets(redactor: &Redactor) {
    if redactor.too_short() > 0 {
        tracing::warn!(
            count = redactor.too_short(),
            "a secret with fewer than {SECRET_BYTES_MIN} bytes cannot be told from ordinary text: a log line that a client puts it into shows it"
        );
    }
}

fn settings(
    config: &Config,
    addrs: PlaneAddrs,
    token: Option<SharedToken>,
    redactor: Arc<Redactor>,
    started_at: Timestamp,
) -> Settings {
    Settings {
        addrs,
        token,
        auth_failures_max: config.auth_failures_max,
        is_loopback_exempt: config.is_loopback_exempt,
        host_names: config.host_names.clone(),
        integrity_mode: config.integrity_mode,
        is_integrity_required: config.is_integrity_required,
        result_keys: config.result_keys.clone(),
        backpressure_status: config.backpressure_status,
        job_ttl: config.job_ttl,
        is_idempotency_enabled: config.is_idempotency_enabled,
        has_short_token: config.has_short_token(),
        is_metrics_public: config.is_metrics_public,
        started_at,
        redactor,
    }
}

fn handle_signals(stop: Arc<StopFlag>, waker: Arc<mio::Waker>, reload: Reload) -> Result<(), Failure> {
    // A thread of its own: a reload reads files, and the disk may hang when the next signal comes.
    let (ask, asked) = crossbeam_channel::bounded(1);
    let reloading = std::thread::Builder::new().name("reload".into());
    let reload_waker = waker.clone();
    let run = move || {
        for () in asked {
            reload.run();
            // The poll may have ended, and then no rules are needed.
            _ = reload_waker.wake();
        }
    };
    reloading.spawn(run).map_err(|error| Failure::local("a thread", error))?;
    on_signals(move |signal| {
        match signal {
            Signal::Stop if stop.is_stopping() => end_at_once(),
            Signal::Stop => stop.stop(),
            // A full channel means that a reload is due already.
            Signal::Reload => _ = ask.try_send(()),
        }
        if let Err(error) = waker.wake() {
            tracing::error!(%error, "the event loop cannot be woken");
        }
    })
    .map_err(|error| Failure::local("signals cannot be received", error))
}

/// Ends the process without waiting for any thread: the disk of one may hang. The next start replays the journal, as
/// after a kill.
fn end_at_once() -> ! {
    tracing::warn!("asked to stop a second time: the hub ends at once");
    std::process::exit(1)
}

/// Prints the addresses for the operator.
fn announce(config: &Config, addrs: PlaneAddrs, token_path: Option<&Path>) {
    let (bold, dim) = (Style::new().bold(), AnsiColor::BrightBlack.on_default());
    let (data_dir, version) = (config.data_dir.display(), env!("CARGO_PKG_VERSION"));
    let token = match (token_path, config.is_token_required) {
        (Some(path), _) => path.display().to_string(),
        (None, true) => "as configured".into(),
        (None, false) => "not needed".into(),
    };
    let shown = |path: &Path| printable(&path.to_string_lossy()).into_owned();
    note(format_args!("{bold}sheratan-hub {version}{bold:#}"));
    note(format_args!("  control plane  http://{}", addrs.control));
    note(format_args!("  data plane     http://{}", addrs.data));
    note(format_args!("  data folder    {}", shown(&config.data_dir)));
    if let Some(file) = &config.file {
        note(format_args!("  settings       {}", shown(file)));
    }
    note(format_args!("  token          {}", printable(&token)));
    let default = config.data_dir == Path::new(".sheratan");
    let folder = if default { String::new() } else { format!(" --data-dir {}", shown(&config.data_dir)) };
    note(format_args!("  {dim}try next{dim:#}       sheratan-hub smoke{folder}"));
    tracing::info!(control = %addrs.control, data = %addrs.data, %data_dir, version, "listening");
}
