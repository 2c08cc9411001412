//! The table of settings: each with its name, its default and its type. Flags, environment variables, `hub.toml` and
//! the documentation are generated from it, so that they cannot disagree.

use sheratan_core::limits::FLIP_THRESHOLD_MAX;

/// The prefix of the hub's variables.
pub const PREFIX: &str = "SHERATAN_";

/// The type of a setting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ValueType {
    /// An address with a port.
    Addr,
    /// A path.
    Path,
    /// A path, or nothing.
    OptionalPath,
    /// A whole number in a range.
    Number(u64, u64),
    /// A size in bytes, with an optional KiB, MiB or GiB, in a range.
    Bytes(u64, u64),
    /// 0 or 1, also true or false, yes or no, on or off.
    Flag,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Names of hosts, separated by commas, or nothing.
    Names,
    /// Names with whole numbers from 1 to 100, as `a=3,b=2`, or nothing.
    Weights,
    /// A level, or a list of targets with levels.
    LogLevel,
    /// A secret: never a flag, since other users can see a process's flags.
    Secret,
    /// The path of a file that holds a secret.
    SecretFile,
    /// An instant of the calendar, or nothing.
    OptionalInstant,
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its key in `hub.toml`; the flag has dashes, the variable is `SHERATAN_` and capitals.
    pub name: &'static str,
    /// Its default.
    pub default: &'static str,
    /// Its type.
    pub value_type: ValueType,
    /// Its description.
    pub help: &'static str,
}

const fn setting(name: &'static str, default: &'static str, value_type: ValueType, help: &'static str) -> Setting {
    Setting { name, default, value_type, help }
}

const YEAR_SEC: u64 = 366 * 86_400;

/// Nodes: 5 GB of records.
const NODES_MANY: u64 = 10_000_000;

const MANY: u64 = 1 << 40;
const GIB: u64 = 1 << 30;

/// All settings, in the order of the documentation.
pub const SETTINGS: &[Setting] = &[
    setting("control_addr", "127.0.0.1:8787", ValueType::Addr, "Address of the control plane, for nodes and operators"),
    setting("data_addr", "127.0.0.1:8788", ValueType::Addr, "Address of the data plane, for clients and workers"),
    setting(
        "data_dir",
        ".sheratan",
        ValueType::Path,
        "Folder of the journal, the logs and the token; created if missing",
    ),
    setting(
        "hub_token",
        "",
        ValueType::Secret,
        "The token that requests must carry; if none is set, the first start writes one to <data-dir>/secrets/hub_token",
    ),
    setting(
        "hub_token_file",
        "",
        ValueType::SecretFile,
        "File with the token; if neither it nor SHERATAN_HUB_TOKEN is set, the first start writes one to <data-dir>/secrets/hub_token",
    ),
    setting(
        "hub_token_next",
        "",
        ValueType::Secret,
        "The token that replaces hub_token: both are accepted until hub_token_rotation_until, then this one alone",
    ),
    setting(
        "hub_token_next_file",
        "",
        ValueType::SecretFile,
        "File with the token that replaces hub_token; an empty file is no token",
    ),
    setting(
        "hub_token_rotation_until",
        "",
        ValueType::OptionalInstant,
        "Until and including when both tokens are accepted, as RFC 3339",
    ),
    setting(
        "hub_token_rotation_until_file",
        "",
        ValueType::OptionalPath,
        "File with the instant until which both tokens are accepted; an empty file is none",
    ),
    setting(
        "hub_token_required",
        "1",
        ValueType::Flag,
        "Whether requests need the token; 0 is allowed only if both planes listen on loopback",
    ),
    setting(
        "hub_token_bytes_min",
        "16",
        ValueType::Number(8, 16),
        "Fewest bytes of the token of a hub that other machines reach; below 16 each start warns",
    ),
    setting(
        "node_ttl_sec",
        "120",
        ValueType::Number(1, YEAR_SEC),
        "Seconds after a node was last seen until its status is STALE",
    ),
    setting(
        "node_dead_sec",
        "600",
        ValueType::Number(1, YEAR_SEC),
        "Seconds after a node was last seen until its status is DEAD",
    ),
    setting(
        "max_queue_depth",
        "100000",
        ValueType::Number(1, MANY),
        "Maximum number of waiting jobs; further submits are refused with backpressure",
    ),
    setting(
        "queue_item_ttl_sec",
        "0",
        ValueType::Number(0, YEAR_SEC),
        "Seconds that a job without ttl_sec may wait until it expires; 0 for ever",
    ),
    setting(
        "max_queue_bytes",
        "1GiB",
        ValueType::Bytes(1_024, MANY),
        "Maximum bytes of unfinished jobs, waiting and leased; further submits are refused with backpressure",
    ),
    setting(
        "max_inflight",
        "10000",
        ValueType::Number(1, MANY),
        "Maximum number of leased jobs; at the limit pulls return no jobs",
    ),
    setting(
        "max_inflight_bytes",
        "0",
        ValueType::Bytes(0, MANY),
        "Maximum bytes of leased jobs; at the limit pulls return no jobs, and a job that alone is larger is refused; 0: no limit",
    ),
    setting(
        "max_nodes",
        "100000",
        ValueType::Number(1, NODES_MANY),
        "Maximum number of registered nodes; a new node replaces a dead one without leases, or is refused",
    ),
    setting(
        "max_node_bytes",
        "256MiB",
        ValueType::Bytes(1_000, MANY),
        "Maximum bytes of what nodes report about themselves; heartbeats that exceed it are refused",
    ),
    setting(
        "max_leases_per_node",
        "1000",
        ValueType::Number(1, MANY),
        "Maximum number of leased jobs of one node; at the limit its pulls return no jobs",
    ),
    setting(
        "max_leases_per_zone",
        "0",
        ValueType::Number(0, MANY),
        "Maximum number of jobs under lease in one zone; 0: no limit",
    ),
    setting(
        "backpressure_mode",
        "429",
        ValueType::Word(&["429", "503", "drop", "defer"]),
        "HTTP status of a request that is refused with backpressure; drop is 429, defer is 503",
    ),
    setting(
        "lease_timeout_sec",
        "300",
        ValueType::Number(1, 86_400),
        "Duration of a lease in seconds, if neither the job nor the pull sets one",
    ),
    setting(
        "retry_max_attempts",
        "5",
        ValueType::Number(1, 100),
        "Maximum number of attempts of a job that does not set max_attempts",
    ),
    setting(
        "retry_backoff_base_ms",
        "500",
        ValueType::Number(1, 86_400_000),
        "Delay of the first retry in milliseconds; it doubles with each further retry",
    ),
    setting(
        "retry_backoff_cap_ms",
        "15000",
        ValueType::Number(1, 86_400_000),
        "Maximum delay of a retry in milliseconds",
    ),
    setting(
        "retry_max_losses",
        "5",
        ValueType::Number(1, 100),
        "Maximum number of a job's leases that may be lost: they expire, or their nodes die; then the job is dead",
    ),
    setting(
        "retry_after_max_sec",
        "3600",
        ValueType::Number(0, YEAR_SEC),
        "Longest delay in seconds that a failed attempt may ask for with retry_after_ms",
    ),
    setting(
        "retry_budget_percent",
        "20",
        ValueType::Number(0, 100),
        "Retries that become ready, in percent of the fresh jobs of the same kind; others are postponed, never ended",
    ),
    setting(
        "retry_budget_min_per_sec",
        "10",
        ValueType::Number(1, 1_000_000),
        "Retries that become ready each second in any case, over all kinds",
    ),
    setting(
        "idempotency_enabled",
        "1",
        ValueType::Flag,
        "Whether idempotency keys are looked at; with 0 each submit is a new job",
    ),
    setting(
        "idempotency_ttl_sec",
        "86400",
        ValueType::Number(1, YEAR_SEC),
        "Seconds that an idempotency key is remembered after its job is final",
    ),
    setting(
        "idempotency_max_cached_bytes",
        "16384",
        ValueType::Bytes(0, GIB),
        "Maximum size of a result that is remembered with its idempotency key",
    ),
    setting(
        "idempotency_store_max_items",
        "1000000",
        ValueType::Number(1, MANY),
        "Maximum number of remembered idempotency keys; the oldest keys of final jobs are evicted first",
    ),
    setting(
        "idempotency_store_max_bytes",
        "512MiB",
        ValueType::Bytes(0, MANY),
        "Maximum bytes of idempotency keys and the results remembered with them; the oldest results are evicted first",
    ),
    setting(
        "idempotency_floor_sec",
        "600",
        ValueType::Number(0, YEAR_SEC),
        "Seconds after its job is final during which an idempotency key is not evicted for a new one",
    ),
    setting(
        "result_integrity_mode",
        "sha256",
        ValueType::Word(&["sha256", "hmac"]),
        "How results are verified: by their SHA-256, or by an HMAC with the result key",
    ),
    setting(
        "result_integrity_required",
        "1",
        ValueType::Flag,
        "Whether a result without a checksum or signature is refused",
    ),
    setting(
        "result_hmac_key",
        "",
        ValueType::Secret,
        "Key of the results' HMAC signatures; required if result_integrity_mode is hmac",
    ),
    setting(
        "result_hmac_key_file",
        "",
        ValueType::SecretFile,
        "File with the key of the results' HMAC signatures; a key is required if the mode is hmac",
    ),
    setting(
        "result_hmac_key_next",
        "",
        ValueType::Secret,
        "The key that replaces result_hmac_key: both are accepted until result_hmac_key_rotation_until, then this one alone",
    ),
    setting(
        "result_hmac_key_next_file",
        "",
        ValueType::SecretFile,
        "File with the key that replaces result_hmac_key; an empty file is no key",
    ),
    setting(
        "result_hmac_key_rotation_until",
        "",
        ValueType::OptionalInstant,
        "Until when both keys of results are accepted, as RFC 3339",
    ),
    setting(
        "result_hmac_key_rotation_until_file",
        "",
        ValueType::OptionalPath,
        "File with the instant until which both keys of results are accepted; an empty file is none",
    ),
    setting("job_retention_sec", "86400", ValueType::Number(1, YEAR_SEC), "Seconds that a final job stays readable"),
    setting(
        "retained_jobs_max",
        "1000000",
        ValueType::Number(0, MANY),
        "Maximum number of readable final jobs, dead ones not counted; the oldest are evicted first",
    ),
    setting(
        "retained_bytes_max",
        "1GiB",
        ValueType::Bytes(0, MANY),
        "Maximum bytes of readable final jobs, dead ones not counted; the oldest are evicted first",
    ),
    setting(
        "dlq_enabled",
        "1",
        ValueType::Flag,
        "Whether jobs that fail for good become dead letters; with 0 they end as failed",
    ),
    setting(
        "dlq_max_items",
        "100000",
        ValueType::Number(0, MANY),
        "Maximum number of dead letters; beyond it the oldest of the kind with the most is evicted",
    ),
    setting(
        "dlq_max_bytes",
        "256MiB",
        ValueType::Bytes(0, MANY),
        "Maximum bytes of dead letters; beyond it the oldest of the kind with the most is evicted",
    ),
    setting(
        "dlq_when_full",
        "evict",
        ValueType::Word(&["evict", "refuse"]),
        "What happens when there is no room for a dead letter; with refuse, submits are refused in good time instead",
    ),
    setting(
        "dlq_retention_sec",
        "1209600",
        ValueType::Number(1, YEAR_SEC),
        "Seconds that a dead letter is kept; then it is a failed job, and readable like other final jobs",
    ),
    setting(
        "fair_by",
        "none",
        ValueType::Word(&["none", "client", "kind", "zone"]),
        "Whose jobs of one priority take turns at the workers; none: first in, first out. Nodes work for one zone each, so zone is as none",
    ),
    setting(
        "fair_weights",
        "",
        ValueType::Weights,
        "Weights of clients or kinds that take turns, such as a=3,b=2; set at each start, unless empty. All others have 1",
    ),
    setting(
        "priority_age_sec",
        "0",
        ValueType::Number(0, YEAR_SEC),
        "A job that has been ready for so many seconds counts one priority higher, and again each time; 0: never",
    ),
    setting(
        "orphans_max",
        "10000",
        ValueType::Number(0, MANY),
        "Maximum number of results of unknown jobs that are kept; the oldest are evicted first",
    ),
    setting(
        "orphans_bytes_max",
        "64MiB",
        ValueType::Bytes(0, MANY),
        "Maximum bytes of results of unknown jobs that are kept; the oldest are evicted first",
    ),
    setting(
        "attestation_flip_window_sec",
        "120",
        ValueType::Number(1, 86_400),
        "Seconds within which a node's capability hash may change fewer times than attestation_flip_threshold",
    ),
    setting(
        "attestation_flip_threshold",
        "3",
        ValueType::Number(1, FLIP_THRESHOLD_MAX as u64),
        "So many changes of a node's capability hash within attestation_flip_window_sec put it in quarantine",
    ),
    setting("max_body_bytes", "1MiB", ValueType::Bytes(1_000, 32 << 20), "Maximum size of a request's body"),
    setting(
        "auth_fail_limit",
        "60",
        ValueType::Number(1, 1_000_000),
        "Failed authentications per minute after which an address is refused with 429; loopback is exempt",
    ),
    setting(
        "host_names",
        "",
        ValueType::Names,
        "Names of this hub, separated by commas, that a browser or proxy of this machine may ask for without the token",
    ),
    setting("metrics_public", "0", ValueType::Flag, "Whether other machines may read the metrics without the token"),
    setting(
        "max_connections",
        "65536",
        ValueType::Number(1, 1_000_000),
        "Maximum number of open connections of both planes",
    ),
    setting(
        "max_connections_per_address",
        "0",
        ValueType::Number(0, 1_000_000),
        "Maximum number of connections from one address, of IPv6 from one /64; loopback is exempt; 0: a quarter of all",
    ),
    setting(
        "max_buffered_bytes",
        "256MiB",
        ValueType::Bytes(1 << 20, MANY),
        "Maximum bytes of requests and replies that all connections hold; above it those that hold the most are refused",
    ),
    setting(
        "clock_wait_sec",
        "60",
        ValueType::Number(0, 86_400),
        "Seconds that a start waits for the machine's clock to be set if it is more than a day behind the journal",
    ),
    setting("idle_timeout_sec", "75", ValueType::Number(1, 86_400), "Seconds after which an idle connection is closed"),
    setting(
        "event_stream_bytes",
        "256KiB",
        ValueType::Bytes(4_096, 64 << 20),
        "Maximum bytes of unsent events of one client of /api/events; a client that reads too slowly is disconnected",
    ),
    setting(
        "journal_segment_bytes",
        "64MiB",
        ValueType::Bytes(1 << 20, GIB),
        "Size of a segment, one file of the journal",
    ),
    setting(
        "trace_max_bytes",
        "256MiB",
        ValueType::Bytes(0, MANY),
        "Maximum size of <data-dir>/trace, which records requests that were refused or found nothing; 0 disables it",
    ),
    setting(
        "log_level",
        "info",
        ValueType::LogLevel,
        "error, warn, info, debug, trace or off, or a list of targets with levels such as info,sheratan_io::journal=debug",
    ),
    setting(
        "log_file_bytes",
        "16MiB",
        ValueType::Bytes(4_096, GIB),
        "Size at which <data-dir>/logs/hub.jsonl is rotated",
    ),
    setting(
        "log_files_kept",
        "8",
        ValueType::Number(0, 1_000),
        "Number of rotated log files to keep: hub.jsonl.N, the highest N is the latest",
    ),
    setting(
        "audit_file_bytes",
        "16MiB",
        ValueType::Bytes(4_096, GIB),
        "Size at which <data-dir>/logs/hub_security_audit.jsonl is rotated",
    ),
    setting(
        "audit_files_kept",
        "64",
        ValueType::Number(0, 10_000),
        "Number of rotated audit log files to keep: hub_security_audit.jsonl.N, the highest N is the latest",
    ),
    setting(
        "alert_rules_file",
        "",
        ValueType::OptionalPath,
        "File of alert rules; without it <data-dir>/alert_rules.json if it exists, else the built-in rules",
    ),
    setting(
        "policy_dir",
        "",
        ValueType::OptionalPath,
        "Folder whose files policy_v<N>.json are added at a start, if they are new; without it <data-dir>/policies",
    ),
    setting(
        "alert_file_bytes",
        "4MiB",
        ValueType::Bytes(4_096, GIB),
        "Size at which <data-dir>/logs/alerts.jsonl is rotated",
    ),
    setting(
        "alert_files_kept",
        "16",
        ValueType::Number(0, 10_000),
        "Number of rotated alert files to keep: alerts.jsonl.N, the highest N is the latest",
    ),
    setting(
        "alert_webhook_url",
        "",
        ValueType::Secret,
        "URL that alerts are posted to, of an Alertmanager or of a receiver of its webhooks",
    ),
    setting(
        "alert_webhook_url_file",
        "",
        ValueType::SecretFile,
        "File with the URL that alerts are posted to, of an Alertmanager or of a receiver of its webhooks",
    ),
];

/// Aliases of settings, which the wire contract defines.
pub const ALIASES: &[(&str, &str)] = &[
    ("hub_token_active", "hub_token"),
    ("hub_token_active_file", "hub_token_file"),
    ("retry_base_delay_ms", "retry_backoff_base_ms"),
    ("lease_timeout", "lease_timeout_sec"),
    ("result_integrity", "result_integrity_mode"),
    ("attestation_spoof_threshold", "attestation_flip_threshold"),
];

/// Variables with the hub's prefix that are not settings: those that a worker sets for the command of a job, which may
/// start a hub, and the one by which the scripts find the binary.
pub const NOT_SETTINGS: &[&str] = &["SHERATAN_JOB_ID", "SHERATAN_JOB_KIND", "SHERATAN_ATTEMPT", "SHERATAN_HUB"];

/// A key's name in the environment.
pub fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase())
}

impl Setting {
    /// The flag, without its dashes in front.
    pub fn flag(&self) -> Option<String> {
        (self.value_type != ValueType::Secret).then(|| self.name.replace('_', "-"))
    }

    /// The environment variable.
    pub fn variable(&self) -> String {
        variable(self.name)
    }

    /// Whether its value is never shown.
    pub fn is_secret(&self) -> bool {
        self.value_type == ValueType::Secret
    }
}

impl ValueType {
    /// The allowed values, in words.
    pub fn words(self) -> String {
        match self {
            ValueType::Addr => "an address with a port, such as 127.0.0.1:8787".into(),
            ValueType::Path | ValueType::SecretFile | ValueType::OptionalPath => "a path, not empty".into(),
            ValueType::Number(min, max) => format!("a whole number from {min} to {max}"),
            ValueType::Bytes(min, max) => {
                format!("a size from {min} to {max} bytes, such as 65536, 64KiB, 16MiB or 1GiB")
            }
            ValueType::Flag => "0 or 1".into(),
            ValueType::Word(words) => words.join(" or "),
            ValueType::Names => "names of hosts, separated by commas".into(),
            ValueType::Weights => "names with weights from 1 to 100, such as a=3,b=2".into(),
            ValueType::LogLevel => {
                "error, warn, info, debug or trace, or a list such as info,sheratan_io::journal=debug".into()
            }
            ValueType::Secret => "of visible ASCII characters, at least one".into(),
            ValueType::OptionalInstant => "an instant with its offset, such as 2026-01-15T20:52:03Z".into(),
        }
    }

    /// The name of a flag's value in `--help`.
    pub fn placeholder(self) -> &'static str {
        match self {
            ValueType::Addr => "ADDR",
            ValueType::Path => "FOLDER",
            ValueType::OptionalPath => "FILE",
            ValueType::Number(..) => "N",
            ValueType::Bytes(..) => "BYTES",
            ValueType::Flag => "0|1",
            ValueType::Word(["429", ..]) => "429|503",
            ValueType::Word(_) => "WORD",
            ValueType::Names => "NAMES",
            ValueType::Weights => "NAME=N,…",
            ValueType::LogLevel => "LEVEL",
            ValueType::Secret => "SECRET",
            ValueType::SecretFile => "FILE",
            ValueType::OptionalInstant => "INSTANT",
        }
    }
}
