//! `diagnose`: writes one archive with everything that a support person needs and no secret, whether the hub is up,
//! down or was never started. Nothing leaves this machine: an operator reviews the archive and sends it.
//!
//! Secrets are excluded three times. The members of a file are on a list ([`allowed`]); free text in it passes the
//! [`Redactor`](sheratan_io::redact::Redactor); and the finished archive is searched for every secret that this process knows
//! before it is written ([`bundle`]).

mod allowed;
mod asked;
mod bundle;
mod folder;
mod machine;
mod output;
mod progress;
mod secrets;
mod subject;

use super::failure::Failure;
use super::target::TargetArgs;
use super::terminal::{BOLD, line, note, styled};
use bundle::{Bundle, Entry};
use output::Output;
use progress::Progress;
use serde_json::json;
use sheratan_io::redact::SECRET_BYTES_MIN;
use sheratan_io::shell;
use std::path::PathBuf;
use std::process::ExitCode;
use subject::Subject;

const EXAMPLES: &str = "\
Examples:
  sheratan-hub diagnose                                  the hub whose data folder is .sheratan, up or down
  sheratan-hub diagnose --data-dir /var/lib/sheratan --config /etc/hub.toml --output /tmp/hub.zip
  sheratan-hub diagnose --control hub.lan:8787 --data hub.lan:8788 --token-file token
                                                         a hub on another machine: only what it reports
  sheratan-hub diagnose --json | jq .missing             which files are missing, and why

Exit code 0 if the archive is written, even if files are missing in it; 1 if it cannot be written, or a secret was found in \
it: it is not written then; 2 for an invalid command line.";

/// The arguments of `diagnose`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// File to write [default: diag_bundle_<UTC time>.zip in the current folder]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Overwrite the file if it exists
    #[arg(long)]
    force: bool,
    /// Print one JSON object: the archive's path, its files, and the missing ones with reasons
    #[arg(long)]
    json: bool,
    /// File of settings [default: hub.toml in the current folder, if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    target: TargetArgs,
}

/// One file of the archive.
struct Piece {
    name: &'static str,
    /// Its description in the archive's README.
    about: &'static str,
    gather: fn(&Subject) -> Gathered,
}

/// The contents of a file, or why it is missing, which ends the sentence "it is missing: ".
type Gathered = Result<Content, String>;

/// The contents of a file.
struct Content {
    bytes: Vec<u8>,
    /// Their source.
    source: String,
}

/// All files, in the archive's order.
const PIECES: [Piece; 17] = [
    Piece {
        name: "health.json",
        about: "The health, liveness and readiness that both planes report.",
        gather: asked::health,
    },
    Piece {
        name: "registry.json",
        about: "The nodes: status, zone, capabilities, leases. If the hub is down, as of its journal's last record.",
        gather: asked::registry,
    },
    Piece {
        name: "metrics_control.json",
        about: "The control plane's metrics, as JSON.",
        gather: |subject| asked::metrics_json(subject, crate::client::Plane::Control),
    },
    Piece {
        name: "metrics_data.json",
        about: "The data plane's metrics, as JSON.",
        gather: |subject| asked::metrics_json(subject, crate::client::Plane::Data),
    },
    Piece {
        name: "metrics_control.txt",
        about: "The control plane's metrics, as Prometheus reads them.",
        gather: |subject| asked::metrics_text(subject, crate::client::Plane::Control),
    },
    Piece {
        name: "metrics_data.txt",
        about: "The data plane's metrics, as Prometheus reads them.",
        gather: |subject| asked::metrics_text(subject, crate::client::Plane::Data),
    },
    Piece {
        name: "audit_tail.jsonl",
        about: "The last 200 lines of the audit log, the oldest first.",
        gather: folder::audit_tail,
    },
    Piece { name: "alerts_tail.jsonl", about: "The last 200 alerts, the oldest first.", gather: folder::alerts_tail },
    Piece {
        name: "hub_log_tail.jsonl",
        about: "The last 200 lines of the hub's log, the oldest first.",
        gather: folder::log_tail,
    },
    Piece {
        name: "config.json",
        about: "The effective settings of a hub that is started here, and their sources. For a secret only whether it is set.",
        gather: machine::config,
    },
    Piece {
        name: "environment.txt",
        about: "The names of this process' environment variables, without their values.",
        gather: machine::environment,
    },
    Piece {
        name: "versions.json",
        about: "Version, target and toolchain of this program, the journal format that it writes, its file's SHA-256.",
        gather: machine::versions,
    },
    Piece { name: "os.json", about: "The system: kernel, architecture, processors, memory.", gather: machine::os },
    Piece {
        name: "disk.json",
        about: "Free space of the data folder's file system, and the size of the folder's parts.",
        gather: folder::disk,
    },
    Piece {
        name: "journal.json",
        about: "Whether the journal is intact. If the hub is down, also whether a replay decides as the hub did.",
        gather: folder::journal,
    },
    Piece {
        name: "audit_chain.json",
        about: "Whether a line of the audit log was changed or removed.",
        gather: folder::audit_chain,
    },
    Piece { name: "policy.json", about: "The active policy's version.", gather: asked::policy },
];

/// Gathers, searches, writes.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let created = shell::wall_time();
    let output = Output::choose(args.output.as_deref(), args.force, created)?;
    let progress = Progress::start();
    let subject = progress.with_message("finding the hub and its folder", || Subject::find(args));
    let entries = PIECES.iter().map(|piece| {
        let content = progress.step(piece.name, &subject.redactor, || (piece.gather)(&subject));
        Entry { name: piece.name, about: piece.about, content }
    });
    let bundle = Bundle { created, hub: subject.hub_state(), entries: entries.collect() };
    let archive = progress.with_message("packing", || bundle.pack(&subject.redactor))?;
    progress.with_message("searching for secrets", || bundle::search(&archive, &subject.redactor))?;
    output.write(&archive)?;
    progress.end();
    report(args, &output, &bundle, &subject);
    Ok(ExitCode::SUCCESS)
}

/// Reports the archive's files and the missing ones.
fn report(args: &Args, output: &Output, bundle: &Bundle, subject: &Subject) {
    let redactor = &subject.redactor;
    let (searched, forms, too_short) = (redactor.secrets(), redactor.forms(), redactor.too_short());
    if args.json {
        let missing =
            bundle.missing().map(|(name, reason)| json!({"name": name, "reason": redactor.redact_text(reason)}));
        line(json!({
            "path": output.path().display().to_string(),
            "files": bundle.names(),
            "missing": missing.collect::<Vec<_>>(),
            "secrets_searched": searched, "forms_searched": forms, "secrets_too_short": too_short,
        }));
    } else {
        line(styled(BOLD, output.path().display()));
    }
    note(format_args!("nothing secret: {searched} secrets in {forms} forms were searched for"));
    if too_short > 0 {
        note(format_args!(
            "{too_short} secrets have fewer than {SECRET_BYTES_MIN} bytes: they cannot be distinguished from ordinary text, so check the archive for them"
        ));
    }
}
