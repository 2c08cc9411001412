//! Histories: the inputs of a hub as text, one line each, with the expected answers.
//!
//! One language for the tests of the core (`core/tests/histories`), the regressions of the simulator
//! (`sim/regressions`) and bug reports (`docs/histories.md`). [`Histories`] reads and prints it, [`History::play`]
//! applies it to a hub, [`History::steps`] gives its steps to a world that makes checks of its own. Printed text reads
//! back as it was.
//!
//! ```text
//! == a lease that ends makes its job ready again
//! set lease_duration_ms=1000
//! at 1000 submit k ttl=60000 params={"size":3} -> 1
//! pull a max=2 kinds=k,x -> 1@1 until=2000
//! extend a 1@1 for=1500 -> until=2500
//! at 2500 status 1 -> scheduled
//! complete 1@1 result="done" -> refused lease_lost
//! settle -> audit NODE_REGISTERED at=1000 node=a, audit LEASE_REAP at=2500 job=1 node=a attempt=1, audit RETRY_SCHEDULED at=2500 job=1 attempt=1 delay=396
//! at 3000 pull b -> 1@2 until=4000
//! fail 1@2 error="no such size" final -> dead  # the node knows that no retry will help
//! ```
//!
//! # Lines
//! ```text
//! text    = { remark or empty line } { section }
//! section = "== " title { [ "at" INSTANT ] input [ "->" answer ] [ "#" remark ] | "key" NUMBER }
//! ```
//! Words have spaces between them; a word that begins with `#` begins a remark. The title is the sentence that the
//! history proves. `at` sets the instant of its line and of those after it (0 before the first); on a line of its own
//! time passes without a command. It may go back, as clocks do. A line without an answer expects `done`. `key` says
//! from which number the hub's key is made, by which retries are spread.
//!
//! # Values
//! - Instants and durations are whole milliseconds, or `NEVER`.
//! - Names are not quoted if they have letters, digits and `_-.:/+%` only; others are quoted, with `\"`, `\\`, `\n`,
//!   `\u{…}` as in Rust. Lists have commas without spaces.
//! - A job is its number, a lease is `JOB@GENERATION`.
//! - A payload is JSON without spaces outside its strings: `{"a":"b c"}`. `text:"…"` is any other text, quoted;
//!   `bytes:N` is N digits 1; `hex:…` is anything.
//! - The hash of a payload, which a key is bound with, is 64 hex digits, or one number for all its bytes: `hash=1`.
//!
//! # Commands
//! A member that is at its default is left out.
//! ```text
//! set queue_depth_max=3 nodes_max=2                     settings, by the names of `Limits` -> done
//! heartbeat a zone=west can=gpu,ssd health=red endpoint=10.0.0.1:80 labels={"rack":1} -> node 0
//! heartbeat a build=b1 cap=h1 runtime={"os":"x"}        with an attestation -> node 0
//! heartbeat a key=7 signature=valid signed=9 counter=1 mark=3 next=8     signed, and verified as valid or invalid
//! seen 0,1                                              nodes' numbers -> done
//! tick                                                  -> done
//! submit k params=[1] priority=high zone=west requires=gpu delay=500 run_at=1700 ttl=5000 attempts_max=2
//!     retry_budget=9000 for=60000 max_run=90000         (on one line; `for` is how long its leases last)
//!     key=one hash=1 on_duplicate=latest_wins on_failed=new_job key_ttl=1000
//!         -> 1 | 2 supersedes=1 | 2 replaces=1 | in_progress 1 | final 1 completed result="done" | refused WHY
//! pull a max=2 kinds=x,y for=5000                       -> 1@1 until=5000, 2@1 until=5000 | nothing | nothing defer=500
//! extend a 1@1,2@1 for=5000 progress=50 note=half       -> until=5000, until=5000 last, lost, cancelled, revoked
//! complete 1@1 result="done" node=a mark=id:7:1         -> completed | completed again | refused WHY
//!     integrity=sha256:1                                (on one line; what the result is stored with)
//! fail 1@1 error="broken" final                         -> dead | retry at=1500 | retry at=1500 again
//! fail 1@1 after=60000                                  its node wants the next attempt so much later
//! complete 1 node=a                                     without a lease, as clients of v1.5
//! complete 2 lease=1@1                                  with the lease of another job
//! adopt_rules 2                                         -> done | refused rules_not_taken
//! begin_salt 0102030405060708                           -> done
//! set_calendar -3600000                                 the machine's clock was set: the calendar minus the hub's time -> done
//! slept 60000                                           the machine slept for so long -> done
//! cancel 1                                              -> done | refused WHY
//! release a 1@1,2@1                                     a node gives leases back -> given, acknowledged, lost
//! set_kind k inflight=2 rate=2000 burst=3 priority=high for=60000 ttl=5000 attempts_max=2 losses_max=1 max_run=9000
//!     retry_base=100 retry_cap=1000 exhausted=drop letters_max=9 letters_full=refuse paused expect=1
//!     (on one line; `rate` is leases in 1,000 seconds; a pause may have `paused_until=INSTANT pause_reason=NAME`)
//!     (with `file inflight=2 …` at the end if `hub.toml` says so from now on)
//!                                                       -> version 1 | refused WHY
//! begin requeue kind=k error=broken reason=lost before=9 after=1 rate=2 count_max=9
//!                                                       on many dead letters -> act 0 matched=3 | refused WHY
//! cancel_act 0                                          -> done | refused WHY
//! orphan x-7 node=a result=1 failed                     a result of an unknown job -> orphan 0 | orphan 0 again
//! adopt 0 1, discard_orphan 0                           -> as of a result | done | refused WHY
//! requeue 1, discard 1                                  a dead letter -> done | refused WHY
//! weights a,b 3,1                                       of clients or kinds that take turns -> done
//! drain a deadline=5000 reason=update, resume a, remove_node a           -> done | refused WHY
//! accept a build=b2 cap=h2 forced                       what a node attests becomes its baseline -> done | refused WHY
//! quarantine a for=60000 reason=odd, clear_node a       -> done | refused WHY
//! configure_tokens active=1 next=2 until=9000           what a configuration says -> done
//! rotate_token 2 until=9000, move_rotation 9500, finish_rotation, abort_rotation
//!                                                       the shared token, by digests -> done | refused WHY
//! add_policy {"version":2,"default":"allow"}            -> policy 2 | policy 2 again | refused WHY
//! activate 2 HASH expect=1                              HASH is that of its canonical form
//!                                                       -> active 2 previous=1 | refused WHY
//! rekey a key=7                                         a key is pinned, or without one forgotten -> done | refused WHY
//! ```
//! `final` means not retryable. A result without `mark` has that of its content, so a repeated line is a result that is sent
//! twice; `id:7` is a mark of a result's id alone, as earlier builds wrote it.
//!
//! # Other inputs
//! ```text
//! park 7 a max=1 kinds=x for=5000 gone                  a long poll; its client will disconnect -> parked | refused
//! unpark 7                                              -> done
//! settle                                                the effects to deliver ->  wake 7, ended 1, ended 2 gone, audit LEASE_REAP at=5 …
//! sync                                                  the disk has all that was written -> done
//! snapshot live | snapshot replay                       of the hub, or of what is synced -> done
//! crash kept=2 from=log | crash from=snapshot           so many unsynced records survive -> lost=1
//! ```
//!
//! `settle` only lists effects; in the simulator's world woken polls then repeat their pulls, as in the shell.
//!
//! # Looks
//! They change nothing.
//! ```text
//! status 1     -> scheduled | queued | leased | completed | failed | dead | cancelled | expired | superseded | gone
//! job 1        -> queued since=0 kind=k submitted=0 attempts=0/5
//! attempts 1   -> a from=0 expired at=300000, b from=300396 running
//! explain 1    -> kind_paused until=5000, turn nodes=2 ahead=0 starts=60
//! acts         -> 0 requeue done=2/3 ended=5000
//! orphans      -> 0 x-7
//! kind k       -> open leases=1 version=2 | full | paused until=5000 | rate_limited until=1500
//! counts       -> scheduled=0 queued=1 leased=0 retained=0 dead=0
//! ledger       -> waiting=184 shared=1113         accounts that are not empty, or those named: `ledger waiting,leased`
//! nodes        -> a ONLINE number=0 registered=0 seen=5, b …
//! node a       -> ONLINE number=0 registered=0 seen=5 leases=1 | unknown
//! repeats a    -> node 0 | nothing                whether a heartbeat (with its options) would change nothing
//! keys         -> keys=2 spent=1
//! waiters      -> 1                               long polls that are parked
//! deadline     -> 1500 | nothing                  of the next timer, once the hub is settled
//! token 1      -> active | old until=9000 | next until=9000 | retired | unknown
//! now          -> 1000
//! digest       -> new | same                      as the last look at it found
//! ```
#![forbid(unsafe_code)]

mod answer;
mod command;
mod history;
mod look;
mod operate;
mod scene;
mod step;
mod tokens;
mod values;
mod words;

pub use answer::{print_effects, print_outcome};
pub use history::{Entry, Histories, History, ParseError, hub_key};
pub use look::Look;
pub use scene::{Scene, records_of};
pub use step::{Input, Line, SnapshotOf, Source, Step};
pub use words::WordError;
