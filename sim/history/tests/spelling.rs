//! Every command and step reads back as it was printed, whatever names and payloads are in it.

use proptest::prelude::*;
use sheratan_core::integrity::stored::{Origin, ResultIntegrity};
use sheratan_core::limits::{Limits, NAME_BYTES_MAX};
use sheratan_core::{
    Accept, ActOn, ActivatePolicy, AdoptOrphan, Attestation, Audit, BeginAct, Calendar, Command, Complete, Drain,
    Effect, EndReason, Extend, FinalStatus, Health, Heartbeat, Idempotency, JobSeq, KindRules, LeaseRef, LetterFilter,
    Millis, Name, NameSet, NodeIndex, OnDuplicate, OnExhausted, OnFailed, OnLettersFull, Outcome, ParkResult, Pause,
    Payload, Priority, PublicKey, Pull, Quarantine, RekeyNode, Release, ResultMark, RulesVersion, Salt, SetKind,
    Setting, Signing, Submit, Submitted, Timestamp, TokenConfig, TokenDigest, TokenOrder, TokenRotation, Utc, Verdict,
    WaiterId, Weight, Zone,
};
use sheratan_history::{Histories, History, SnapshotOf, Source, Step, print_effects, print_outcome};

/// Names that a line could take for something else, and any others.
fn names() -> BoxedStrategy<Name> {
    let hostile = [
        "->",
        "#",
        "a # b",
        "a -> b",
        "at",
        "final",
        "gone",
        "key=1",
        "\"",
        "\\",
        "\\\"",
        "a b",
        " ",
        "a,b",
        ",",
        "=",
        "1@1",
        "1",
        "NEVER",
        "bytes:3",
        "text:",
        "hex:ff",
        "é",
        "\u{a0}",
        "\u{202e}x",
        "\u{2028}",
        "'",
        "{\"a\":1}",
        "== x",
        "default",
        "e\u{301}",
    ];
    let longest = "é".repeat(NAME_BYTES_MAX / 2);
    let texts = prop_oneof![
        3 => prop::sample::select(hostile.to_vec()).prop_map(str::to_owned),
        1 => Just(longest),
        3 => "[a-z][a-z0-9_.-]{0,8}",
        3 => "\\PC{1,12}",
        2 => "[\"\\\\, =#>\\-]{1,6}",
    ];
    texts.prop_map(|text| Name::new(&text).expect("no control characters")).boxed()
}

fn payloads() -> BoxedStrategy<Payload> {
    let texts = prop_oneof![
        Just(Vec::new()),
        (0..40_usize).prop_map(|count| vec![b'1'; count]),
        prop::collection::vec(any::<u8>(), 0..20),
        ".{0,20}".prop_map(String::into_bytes),
        "[\"\\\\ {}:,#a\n]{0,12}".prop_map(String::into_bytes),
        prop::sample::select(vec![
            "\"done\"",
            "{ \"a\" : 1.50 }",
            "{\"a b\":[1,2]}",
            "null",
            "text:\"x\"",
            "hex:00",
            "\t1"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    texts.prop_map(|bytes| Payload::new(&bytes)).boxed()
}

fn numbers() -> BoxedStrategy<u64> {
    prop_oneof![Just(0), Just(1), Just(u64::MAX), Just(u64::MAX - 1), any::<u64>(), 0..100_000_u64].boxed()
}

fn durations() -> BoxedStrategy<Millis> {
    numbers().prop_map(Millis::new).boxed()
}

fn sets() -> BoxedStrategy<NameSet> {
    prop::collection::vec(names(), 0..4).prop_map(NameSet::from).boxed()
}

fn zones() -> BoxedStrategy<Zone> {
    prop::option::of(names()).prop_map(Zone::from).boxed()
}

fn leases() -> BoxedStrategy<LeaseRef> {
    (numbers(), any::<u32>()).prop_map(|(job, generation)| LeaseRef { job: JobSeq::new(job), generation }).boxed()
}

fn settings() -> BoxedStrategy<Command> {
    let all = Setting::all(&Limits::default());
    let setting = (prop::sample::select(all), numbers()).prop_map(|(setting, value)| {
        let setting_of = |value| Setting::from_name(setting.name(), value);
        // Some have 32 bits.
        setting_of(value).or_else(|| setting_of(value % (1 << 32))).expect("it is one of the settings")
    });
    prop::collection::vec(setting, 0..5).prop_map(Command::Set).boxed()
}

fn heartbeats() -> BoxedStrategy<Command> {
    let health = prop::sample::select(vec![Health::Green, Health::Yellow, Health::Red]);
    let attestation = prop::option::of(attestations().prop_map(Box::new));
    let signing = prop::option::of(signings().prop_map(Box::new));
    (names(), zones(), sets(), health, prop::option::of(names()), prop::option::of(payloads()), attestation, signing)
        .prop_map(|(node, zone, capabilities, health, endpoint, labels, attestation, signing)| {
            Command::Heartbeat(Heartbeat { node, zone, capabilities, health, endpoint, labels, attestation, signing })
        })
        .boxed()
}

fn keys() -> impl Strategy<Value = PublicKey> {
    any::<[u8; 32]>().prop_map(PublicKey::new)
}

fn signings() -> BoxedStrategy<Signing> {
    let verdict = prop::sample::select(vec![Verdict::Unsigned, Verdict::Invalid, Verdict::Valid]);
    let signed_at = prop::option::of(numbers().prop_map(Utc::from_millis));
    (keys(), verdict, signed_at, prop::option::of(numbers()), numbers(), prop::option::of(keys()))
        .prop_map(|(key, verdict, signed_at, counter, mark, next)| Signing {
            key: Some(key),
            verdict,
            signed_at,
            counter,
            mark,
            next,
        })
        .boxed()
}

fn attestations() -> BoxedStrategy<Attestation> {
    let maybe = || prop::option::of(names());
    (names(), maybe(), prop::option::of(payloads()))
        .prop_map(|(build_id, capability_hash, runtime)| Attestation {
            build_id: Some(build_id),
            capability_hash,
            runtime,
        })
        .boxed()
}

fn idempotencies() -> BoxedStrategy<Idempotency> {
    let hashes = prop_oneof![any::<u8>().prop_map(|byte| [byte; 32]), any::<[u8; 32]>()];
    (names(), hashes, any::<bool>(), any::<bool>(), prop::option::of(durations()))
        .prop_map(|(key, payload_hash, is_latest, is_new, ttl_ms)| Idempotency {
            key,
            payload_hash,
            on_duplicate: if is_latest { OnDuplicate::LatestWins } else { OnDuplicate::SameResult },
            on_failed: if is_new { OnFailed::NewJob } else { OnFailed::SameResult },
            ttl_ms,
        })
        .boxed()
}

fn submits() -> BoxedStrategy<Command> {
    let priorities = vec![Priority::Critical, Priority::High, Priority::Normal, Priority::Low];
    let what =
        (names(), prop::option::of(payloads()), prop::option::of(prop::sample::select(priorities)), zones(), sets());
    let when = (durations(), numbers().prop_map(Utc::from_millis), prop::option::of(durations()));
    let how = (prop::option::of(any::<u32>()), prop::option::of(durations()), prop::option::of(durations()));
    let more = (prop::option::of(names()), prop::option::of(durations()));
    (what, when, how, prop::option::of(idempotencies()), more)
        .prop_map(|(what, when, how, idempotency, (client, max_run_ms))| {
            Command::Submit(Box::new(Submit {
                kind: what.0,
                params: what.1,
                priority: what.2,
                zone: what.3,
                requires: what.4,
                delay_ms: when.0,
                run_at: when.1,
                ttl_ms: when.2,
                attempts_max: how.0,
                retry_budget_ms: how.1,
                lease_duration_ms: how.2,
                idempotency,
                client,
                max_run_ms,
            }))
        })
        .boxed()
}

fn pulls() -> BoxedStrategy<Pull> {
    (names(), any::<u32>(), sets(), prop::option::of(durations()))
        .prop_map(|(node, jobs_max, kinds, lease_duration_ms)| Pull { node, jobs_max, kinds, lease_duration_ms })
        .boxed()
}

fn integrities() -> impl Strategy<Value = ResultIntegrity> {
    let origins = prop::sample::select(vec![Origin::Worker, Origin::Signed, Origin::Hub]);
    let hashes = prop_oneof![any::<[u8; 32]>(), any::<u8>().prop_map(|byte| [byte; 32])];
    (origins, hashes).prop_map(|(origin, sha256)| ResultIntegrity { origin, sha256 })
}

fn completes() -> BoxedStrategy<Command> {
    let both = (any::<u32>(), numbers()).prop_map(|(id, content)| ResultMark::IdAndContent { id, content });
    let marks = prop_oneof![numbers().prop_map(ResultMark::Content), numbers().prop_map(ResultMark::Id), both];
    let marks = (marks, prop::option::of(integrities()));
    let lease = (prop::option::of(leases()), any::<bool>(), numbers());
    let flags = (any::<bool>(), any::<bool>(), prop::option::of(durations()));
    (lease, prop::option::of(names()), flags, prop::option::of(payloads()), prop::option::of(payloads()), marks)
        .prop_map(
            |((lease, is_own, job), node, (ok, is_retryable, retry_after_ms), result, error, (mark, integrity))| {
                let job = lease.filter(|_| is_own).map_or(JobSeq::new(job), |lease| lease.job);
                let integrity = integrity.map(Box::new);
                Command::Complete(Complete {
                    job,
                    lease,
                    node,
                    ok,
                    result,
                    error,
                    is_retryable,
                    mark,
                    integrity,
                    retry_after_ms,
                })
            },
        )
        .boxed()
}

fn extends() -> BoxedStrategy<Command> {
    let leases = prop::collection::vec(leases(), 0..4);
    (names(), leases, prop::option::of(durations()), prop::option::of(any::<u8>()), prop::option::of(names()))
        .prop_map(|(node, leases, lease_duration_ms, progress, note)| {
            Command::Extend(Extend { node, leases, lease_duration_ms, progress, note })
        })
        .boxed()
}

fn rules() -> BoxedStrategy<KindRules> {
    let instants = || prop::option::of(numbers().prop_map(Timestamp::from_millis));
    let pause = (prop::option::of(names()), instants()).prop_map(|(reason, until)| Pause { reason, until });
    let number = || prop::option::of(numbers());
    let duration = || prop::option::of(durations());
    let small = || prop::option::of(any::<u32>());
    let priorities = vec![Priority::Critical, Priority::High, Priority::Normal, Priority::Low];
    let ends = (
        prop::option::of(prop::sample::select(vec![OnExhausted::Park, OnExhausted::Drop])),
        prop::option::of(prop::sample::select(vec![OnLettersFull::Evict, OnLettersFull::Refuse])),
    );
    (
        (number(), number(), small(), number()),
        (small(), small(), prop::option::of(prop::sample::select(priorities))),
        (duration(), duration(), duration(), duration(), duration()),
        ends,
        prop::option::of(pause),
    )
        .prop_map(|(counts, attempts, durations, ends, pause)| KindRules {
            inflight_max: counts.0,
            leases_per_1000_sec: counts.1,
            burst: counts.2,
            priority: attempts.2,
            lease_duration_ms: durations.0,
            ttl_ms: durations.1,
            attempts_max: attempts.0,
            losses_max: attempts.1,
            max_run_ms: durations.2,
            retry_delay_ms_base: durations.3,
            retry_delay_ms_cap: durations.4,
            on_exhausted: ends.0,
            letters_max: counts.3,
            on_letters_full: ends.1,
            pause,
        })
        .boxed()
}

fn filters() -> BoxedStrategy<LetterFilter> {
    let reasons = vec![EndReason::Attempts, EndReason::NotRetryable, EndReason::Lost, EndReason::Expired];
    let instants = || prop::option::of(numbers().prop_map(Timestamp::from_millis));
    let reason = prop::option::of(prop::sample::select(reasons));
    (prop::option::of(names()), prop::option::of(names()), reason, instants(), instants())
        .prop_map(|(kind, error, reason, before, after)| LetterFilter { kind, error, reason, before, after })
        .boxed()
}

/// What operators do, and what else is not about one lease or submit.
fn operators() -> BoxedStrategy<Command> {
    let job = || numbers().prop_map(JobSeq::new);
    let what = prop::sample::select(vec![ActOn::Requeue, ActOn::Discard]);
    let act = (what, filters(), prop::option::of(any::<u32>()), prop::option::of(numbers()));
    let marks = prop_oneof![numbers().prop_map(ResultMark::Content), numbers().prop_map(ResultMark::Id)];
    let payload = || prop::option::of(payloads());
    prop_oneof![
        job().prop_map(Command::Cancel),
        job().prop_map(Command::Requeue),
        job().prop_map(Command::Discard),
        (names(), prop::collection::vec(leases(), 0..4))
            .prop_map(|(node, leases)| Command::Release(Release { node, leases })),
        (names(), rules(), prop::option::of(numbers()), prop::option::of(rules())).prop_map(
            |(kind, rules, expected, configured)| {
                Command::SetKind(Box::new(SetKind { kind, rules, expected, configured }))
            }
        ),
        (names(), prop::option::of(durations()), prop::option::of(names()))
            .prop_map(|(node, deadline_ms, reason)| Command::Drain(Drain { node, deadline_ms, reason })),
        names().prop_map(Command::Resume),
        names().prop_map(Command::RemoveNode),
        act.prop_map(|(what, filter, rate_per_sec, count_max)| {
            Command::BeginAct(Box::new(BeginAct { what, filter, rate_per_sec, count_max }))
        }),
        any::<u32>().prop_map(Command::CancelAct),
        (names(), prop::option::of(names()), any::<bool>(), payload(), payload(), marks).prop_map(
            |(job_id, node, ok, result, error, mark)| {
                Command::ParkResult(Box::new(ParkResult { job_id, node, ok, result, error, mark, integrity: None }))
            }
        ),
        (numbers(), job()).prop_map(|(orphan, job)| Command::AdoptOrphan(AdoptOrphan { orphan, job })),
        numbers().prop_map(Command::DiscardOrphan),
        prop::collection::vec((names(), any::<u32>()), 0..4).prop_map(|weights| {
            let weights = weights.into_iter().map(|(group, weight)| Weight { group, weight });
            Command::SetWeights(weights.collect())
        }),
        (names(), prop::option::of(attestations()), any::<bool>()).prop_map(|(node, expected, is_forced)| {
            Command::Accept(Box::new(Accept { node, expected, is_forced }))
        }),
        (names(), durations(), prop::option::of(names()))
            .prop_map(|(node, duration_ms, reason)| { Command::Quarantine(Quarantine { node, duration_ms, reason }) }),
        names().prop_map(Command::ClearNode),
        (names(), prop::option::of(keys())).prop_map(|(node, key)| Command::RekeyNode(RekeyNode { node, key })),
        token_orders().prop_map(|order| Command::Tokens(Box::new(order))),
        payloads().prop_map(Command::AddPolicy),
        (numbers(), any::<[u8; 32]>(), prop::option::of(numbers())).prop_map(|(version, sha256, expect_active)| {
            Command::ActivatePolicy(Box::new(ActivatePolicy { version, sha256, expect_active }))
        }),
    ]
    .boxed()
}

fn token_orders() -> BoxedStrategy<TokenOrder> {
    let digests = || any::<[u8; 32]>().prop_map(TokenDigest::new);
    let rotations =
        || (digests(), numbers().prop_map(Utc::from_millis)).prop_map(|(next, until)| TokenRotation { next, until });
    prop_oneof![
        (prop::option::of(digests()), prop::option::of(rotations()))
            .prop_map(|(active, rotation)| TokenOrder::Configure(TokenConfig { active, rotation })),
        rotations().prop_map(TokenOrder::Begin),
        numbers().prop_map(Utc::from_millis).prop_map(TokenOrder::Move),
        Just(TokenOrder::Finish),
        Just(TokenOrder::Abort),
    ]
    .boxed()
}

fn commands() -> BoxedStrategy<Command> {
    prop_oneof![
        settings(),
        heartbeats(),
        prop::collection::vec(any::<u32>().prop_map(NodeIndex::new), 0..4).prop_map(Command::NodesSeen),
        Just(Command::Tick),
        submits(),
        pulls().prop_map(Command::Pull),
        extends(),
        operators(),
        completes(),
        any::<u16>().prop_map(|version| Command::AdoptRules(RulesVersion::new(version))),
        any::<[u8; 8]>().prop_map(|salt| Command::BeginSalt(Salt::new(salt))),
        prop::collection::vec(leases(), 0..4).prop_map(Command::Reclaim),
        any::<i64>().prop_map(|offset| Command::SetCalendar(Calendar::from_offset_ms(offset))),
        durations().prop_map(Command::Slept),
    ]
    .boxed()
}

fn steps() -> BoxedStrategy<Step> {
    let ids = || numbers().prop_map(WaiterId);
    prop_oneof![
        6 => (numbers(), commands()).prop_map(|(at, command)| Step::Apply(Timestamp::from_millis(at), command)),
        1 => numbers().prop_map(|at| Step::Advance(Timestamp::from_millis(at))),
        2 => (ids(), pulls(), any::<bool>()).prop_map(|(id, pull, is_patient)| Step::Park { id, pull, is_patient }),
        1 => ids().prop_map(Step::Unpark),
        1 => prop::sample::select(vec![
            Step::Settle,
            Step::Sync,
            Step::Snapshot(SnapshotOf::Live),
            Step::Snapshot(SnapshotOf::Replay),
        ]),
        1 => (numbers(), any::<bool>()).prop_map(|(kept, is_log)| Step::Crash {
            kept,
            from: if is_log { Source::Log } else { Source::Snapshot },
        }),
    ]
    .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_step_reads_back_as_it_was_printed(steps in prop::collection::vec(steps(), 1..4), key_seed in numbers()) {
        let text = History::of_steps("what it shows", key_seed, &steps).to_string();
        let read = Histories::parse(&text).map_err(|error| TestCaseError::fail(format!("{error} in\n{text}")))?;
        prop_assert_eq!(read.sections[0].steps(), steps, "{}", text);
        prop_assert_eq!(read.sections[0].key_seed, key_seed);
        prop_assert_eq!(read.to_string(), text);
    }

    #[test]
    fn every_answer_is_one_line_that_stays_as_it_is(
        result in prop::option::of(payloads()),
        error in prop::option::of(payloads()),
        integrity in prop::option::of(integrities()),
        node in names(),
    ) {
        let job = JobSeq::FIRST;
        let outcome = Outcome::Submitted(Submitted::Final {
            job,
            status: FinalStatus::Dead,
            result,
            error,
            integrity,
            left_out: None,
        });
        let effect = Effect::Audit(Timestamp::ZERO, Audit::LeaseReap { job, node, attempt: 1 });
        for answer in [print_outcome(&outcome), print_effects(&[effect])] {
            let text = format!("== t\nstatus 1 -> {answer}  # why\n");
            let read = Histories::parse(&text).map_err(|error| TestCaseError::fail(format!("{error} in\n{text}")))?;
            let entry = read.sections[0].entries().next().expect("there is one line");
            prop_assert_eq!(entry.expected(), answer);
            prop_assert_eq!(read.to_string(), text);
        }
    }
}

fn error_of(text: &str) -> String {
    Histories::parse(text).expect_err(text).to_string()
}

#[test]
fn an_error_names_the_line_and_the_word_and_what_was_expected() {
    let table = [
        ("== t\n\njump 3", "line 3: word 1 is `jump`, expected one of set, heartbeat, "),
        ("submit k", "line 1: word 1 is `submit`, expected `== `"),
        ("== t\nat soon", "line 2: word 2 is `soon`, expected an instant in milliseconds, or NEVER"),
        ("== t\nat 5 pull", "line 2: the line ends before word 4, expected a name"),
        ("== t\npull a=b", "line 2: word 2 is `a=b`, expected a name"),
        ("== t\npull a max=many", "line 2: word 3 is `max=many`, expected max= a number of 32 bits"),
        ("== t\npull a max=+1", "expected max= a number of 32 bits"),
        ("== t\npull a max=1 max=2", "line 2: word 4 is `max=2`, expected each option once"),
        ("== t\npull a kind=x", "line 2: word 3 is `kind=x`, expected one of max=…, kinds=…, for=…"),
        ("== t\npull a kinds=x,", "expected kinds= names with commas between them"),
        ("== t\nsubmit \"k", "line 2: word 2 is `\"k`, expected a quote that ends"),
        ("== t\nsubmit k params={ }", "line 2: word 4 is `}`, expected one of params=…"),
        ("== t\nsubmit k key=one", "line 2: the line ends before word 4, expected key=… and hash=…"),
        (
            "== t\nsubmit k key=one hash=256",
            "word 4 is `hash=256`, expected hash= 64 hex digits, or a number up to 255",
        ),
        ("== t\nset queue_depth=1", "line 2: word 2 is `queue_depth=1`, expected a setting as NAME=VALUE"),
        ("== t\nset attempts_max=4294967296", "expected a setting as NAME=VALUE"),
        ("== t\ncomplete 1@", "line 2: word 2 is `1@`, expected a lease as JOB@GENERATION, or a job's number"),
        (
            "== t\ncomplete 1@1 lease=1@1",
            "word 3 is `lease=1@1`, expected one of result=…, error=…, node=…, mark=…, integrity=…, after=…, final",
        ),
        ("== t\ntick tock", "line 2: word 2 is `tock`, expected the end of the line"),
        ("== t\ncrash kept=1", "line 2: the line ends before word 3, expected from=log or from=snapshot"),
        ("== t\nkey x", "line 2: word 2 is `x`, expected a number"),
        ("== t\nledger all", "word 2 is `all`, expected accounts of the ledger"),
    ];
    for (text, said) in table {
        let error = error_of(text);
        assert!(error.contains(said), "{text}: {error}");
    }
}

#[test]
fn a_result_that_names_no_mark_has_that_of_its_content() {
    let mark = |line: &str| {
        let steps = Histories::parse(&format!("== t\n{line}")).expect(line).sections[0].steps();
        let [Step::Apply(_, Command::Complete(complete))] = &steps[..] else { panic!("{line} is a result") };
        complete.mark
    };
    assert_eq!(mark("complete 1@1 result=1"), mark("complete 2@7 result=1 node=a"));
    let all =
        ["complete 1@1 result=1", "complete 1@1 error=1", "fail 1@1 error=1", "fail 1@1", "complete 1@1 result=11"];
    for (index, line) in all.iter().enumerate() {
        assert!(all[..index].iter().all(|other| mark(other) != mark(line)), "{line}");
    }
}

#[test]
fn remarks_answers_and_empty_lines_stay_as_they_are() {
    let text = "# about\n\n== one\n# why\nsubmit k -> 1  # it is new\n\nat 5\n== two\nkey 7\nstatus 1 -> gone\n";
    let mut histories = Histories::parse(text).expect("it is right");
    assert_eq!(histories.to_string(), text);
    histories.sections[0].expect(vec!["2".to_owned(), "done".to_owned()]);
    assert_eq!(histories.to_string(), text.replace("-> 1", "-> 2"));
}
