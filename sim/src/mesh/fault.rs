//! Faults: what can go wrong in a run, and how often.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal per $per:ident,)+) => {
        /// Something that can go wrong.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Fault {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Fault {
            /// All of them.
            pub const ALL: &[Fault] = &[$(Fault::$name,)+];

            /// Its name in reports and scenario files.
            pub const fn name(self) -> &'static str {
                match self { $(Fault::$name => $text,)+ }
            }

            /// What its rate counts.
            pub const fn per(self) -> Per {
                match self { $(Fault::$name => Per::$per,)+ }
            }
        }
    };
}

/// What a rate counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Per {
    /// Out of ten thousand messages, jobs, heartbeats or submits.
    TenThousand,
    /// Times an hour.
    Hour,
}

/// Where something goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Place {
    /// Between actors and hub.
    Network,
    /// The nodes.
    Nodes,
    /// The clients.
    Clients,
    /// The hub's process, and its machine's power.
    Hub,
    /// The hub's disk.
    Disk,
    /// The hub's clock.
    Clock,
}

impl Place {
    /// All of them.
    pub const ALL: [Place; 6] = [Place::Network, Place::Nodes, Place::Clients, Place::Hub, Place::Disk, Place::Clock];

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Place::Network => "network",
            Place::Nodes => "nodes",
            Place::Clients => "clients",
            Place::Hub => "hub",
            Place::Disk => "disk",
            Place::Clock => "clock",
        }
    }

    /// The place of a fault by the name that it is counted under: its own, or one that the hub or the disk counts.
    pub fn of(injected: &str) -> Self {
        let fault = Fault::ALL.iter().find(|fault| fault.is_called(injected));
        let is_of_disk = ["no space", "failed open", "failed rename", "failed unlink"].contains(&injected);
        fault.map_or(if is_of_disk { Place::Disk } else { Place::Hub }, |fault| fault.place())
    }
}

impl Fault {
    /// Whether that is its name; the disk's counters have spaces where plans have underscores.
    pub fn is_called(self, name: &str) -> bool {
        self.name().split('_').eq(name.split(['_', ' ']))
    }

    /// Where it happens.
    pub const fn place(self) -> Place {
        match self {
            Fault::LoseRequest
            | Fault::LoseReply
            | Fault::DelayRequest
            | Fault::DelayReply
            | Fault::DuplicateRequest
            | Fault::CutRequest
            | Fault::CutReply
            | Fault::Reset
            | Fault::Dribble
            | Fault::SlowReader
            | Fault::Tamper
            | Fault::PartitionToHub
            | Fault::PartitionFromHub => Place::Network,
            Fault::NodeCrash
            | Fault::NodeHang
            | Fault::OverrunLease
            | Fault::AnswerTwice
            | Fault::WrongChecksum
            | Fault::ForeignLease
            | Fault::DropJob
            | Fault::FailAttempt
            | Fault::FlipAttestation => Place::Nodes,
            Fault::Resubmit | Fault::ChangedPayload | Fault::Intruder | Fault::Burst => Place::Clients,
            Fault::HubKill | Fault::PowerCut | Fault::CrashInCommit | Fault::HubRestart | Fault::SecondHub => {
                Place::Hub
            }
            Fault::WriteError
            | Fault::SyncError
            | Fault::DiskFull
            | Fault::SlowDisk
            | Fault::DiskHang
            | Fault::BitFlip
            | Fault::BadSector
            | Fault::NameError => Place::Disk,
            Fault::ClockJump | Fault::Sleep | Fault::Stall => Place::Clock,
        }
    }
}

faults! {
    /// A request is lost on its way; its client waits in vain.
    LoseRequest = "lose_request" per TenThousand,
    /// A reply is lost on its way.
    LoseReply = "lose_reply" per TenThousand,
    /// A request arrives long after it was sent, and after later ones on other connections.
    DelayRequest = "delay_request" per TenThousand,
    /// A reply arrives long after it was sent.
    DelayReply = "delay_reply" per TenThousand,
    /// A request arrives twice, as a proxy repeats it.
    DuplicateRequest = "duplicate_request" per TenThousand,
    /// The connection ends within a request.
    CutRequest = "cut_request" per TenThousand,
    /// The connection ends within a reply.
    CutReply = "cut_reply" per TenThousand,
    /// The connection is reset after a request was sent.
    Reset = "reset" per TenThousand,
    /// A request arrives in small pieces.
    Dribble = "dribble" per TenThousand,
    /// A client reads its replies slowly.
    SlowReader = "slow_reader" per TenThousand,
    /// An actor's requests are lost for a while; replies to it arrive.
    PartitionToHub = "partition_to_hub" per Hour,
    /// Replies to an actor are lost for a while; its requests arrive.
    PartitionFromHub = "partition_from_hub" per Hour,
    /// A node dies with its work and comes back under the same id.
    NodeCrash = "node_crash" per Hour,
    /// A node does nothing for a while and then continues.
    NodeHang = "node_hang" per Hour,
    /// A node works beyond its lease's end without extending it.
    OverrunLease = "overrun_lease" per TenThousand,
    /// A node submits a result twice.
    AnswerTwice = "answer_twice" per TenThousand,
    /// A node's result does not match its checksum.
    WrongChecksum = "wrong_checksum" per TenThousand,
    /// A node submits a job's result under another job's lease.
    ForeignLease = "foreign_lease" per TenThousand,
    /// A node is leased a job and never submits a result.
    DropJob = "drop_job" per TenThousand,
    /// An attempt fails.
    FailAttempt = "fail_attempt" per TenThousand,
    /// A node says it is another build than before.
    FlipAttestation = "flip_attestation" per TenThousand,
    /// A client submits an acknowledged job again.
    Resubmit = "resubmit" per TenThousand,
    /// A client submits another payload under a key that is bound.
    ChangedPayload = "changed_payload" per TenThousand,
    /// A client sends a wrong token or to the wrong plane.
    Intruder = "intruder" per TenThousand,
    /// The hub's process is killed; what it wrote is there.
    HubKill = "hub_kill" per Hour,
    /// The hub's machine loses power; what was not synced may be lost, in part or whole.
    PowerCut = "power_cut" per Hour,
    /// The hub dies at one of its disk operations.
    CrashInCommit = "crash_in_commit" per Hour,
    /// The hub is stopped in an orderly way and started again.
    HubRestart = "hub_restart" per Hour,
    /// A write fails, or is short.
    WriteError = "write_error" per TenThousand,
    /// A sync fails.
    SyncError = "sync_error" per TenThousand,
    /// The disk is full for a while.
    DiskFull = "disk_full" per Hour,
    /// The disk is slow for a while.
    SlowDisk = "slow_disk" per Hour,
    /// A bit flips at rest.
    BitFlip = "bit_flip" per Hour,
    /// Wall time jumps, back or ahead.
    ClockJump = "clock_jump" per Hour,
    /// The hub's machine sleeps, for up to three days.
    Sleep = "sleep" per Hour,
    /// The hub's machine pauses for a while, and then its time leaps.
    Stall = "stall" per Hour,
    /// Ten times the usual submits for a while.
    Burst = "burst" per Hour,
    /// A sync of the journal does not return for a while.
    DiskHang = "disk_hang" per Hour,
    /// A sector of a segment or snapshot cannot be read any more, while no hub runs.
    BadSector = "bad_sector" per Hour,
    /// An open, a rename or an unlink fails.
    NameError = "name_error" per TenThousand,
    /// The hub's lock file is removed, and a second hub is started on the data folder.
    SecondHub = "second_hub" per Hour,
    /// A result is changed on its way; the node sends it again when it is refused.
    Tamper = "tamper" per TenThousand,
}

/// The rate of each fault; a fault that is absent is not injected.
pub type Rates = BTreeMap<Fault, u32>;

/// Faults that were injected, by name.
pub type Injected = BTreeMap<&'static str, u64>;
