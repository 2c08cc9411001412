//! Policies by who asks from where, what they cost in room, and what replays and snapshots keep of them.

use crate::scene::{KEY, Scene, at, heartbeat, job, pull, restore};
use sheratan_core::limits::{ACTIVATIONS_KEPT_MAX, POLICIES_MAX};
use sheratan_core::policy::Snapshot;
use sheratan_core::{
    ActivatePolicy, Caller, Command, Hub, Origin, Outcome, Payload, Principal, Pulled, Refusal, Withheld,
};

fn add_command(document: &str) -> Command {
    Command::AddPolicy(Payload::new(document.as_bytes()))
}

fn activate_command(document: &str) -> Command {
    let snapshot = Snapshot::parse(document.as_bytes()).expect("a valid document");
    let order = ActivatePolicy { version: snapshot.version(), sha256: *snapshot.sha256(), expect_active: None };
    Command::ActivatePolicy(Box::new(order))
}

fn new_hub() -> Hub {
    let mut hub = Hub::new(KEY);
    hub.serve();
    hub
}

/// A hub under a policy.
fn under(document: &str) -> Hub {
    let mut hub = new_hub();
    let added = hub.apply(at(0), add_command(document));
    assert!(matches!(added, Outcome::PolicyAdded { is_duplicate: false, .. }), "{added:?}");
    let activated = hub.apply(at(0), activate_command(document));
    assert!(matches!(activated, Outcome::PolicyActivated { .. }), "{activated:?}");
    hub
}

const fn from(by: Principal, origin: Origin) -> Caller {
    Caller { by, origin }
}

const EVERYONE: [Caller; 6] = [
    from(Principal::SharedToken, Origin::Loopback),
    from(Principal::SharedToken, Origin::LocalNetwork),
    from(Principal::SharedToken, Origin::Anywhere),
    from(Principal::Anonymous, Origin::Loopback),
    from(Principal::Anonymous, Origin::LocalNetwork),
    from(Principal::Anonymous, Origin::Anywhere),
];

fn submits(hub: &mut Hub, caller: Caller) -> bool {
    match hub.apply_for(caller, at(0), Command::Submit(Box::new(job("k")))) {
        Outcome::Submitted(_) => true,
        Outcome::Refused(Refusal::PolicyDenied(_)) => false,
        other => panic!("{other:?}"),
    }
}

fn pulls(hub: &mut Hub, caller: Caller) -> bool {
    match hub.apply_for(caller, at(0), Command::Pull(pull("n", 1))) {
        Outcome::Pulled(Pulled { withheld: None, .. }) => true,
        Outcome::Pulled(Pulled { withheld: Some(Withheld::PolicyDenied), leases, .. }) if leases.is_empty() => false,
        other => panic!("{other:?}"),
    }
}

#[test]
fn under_the_built_in_policy_everyone_works_and_only_the_hub_s_machine_administrates() {
    for caller in EVERYONE {
        let mut hub = new_hub();
        assert!(submits(&mut hub, caller) && pulls(&mut hub, caller), "{caller:?}");
        let added = hub.apply_for(caller, at(0), add_command(r#"{"version":2,"default":"allow"}"#));
        let is_added = matches!(added, Outcome::PolicyAdded { .. });
        assert_eq!(is_added, caller.origin == Origin::Loopback, "{caller:?}: {added:?}");
    }
}

#[test]
fn the_roles_of_a_token_at_the_origin_decide_who_submits_and_who_pulls() {
    let document = r#"{"version":2,"default":"allow","hub_token":{"roles":["node"]}}"#;
    let mut hub = under(document);
    for caller in EVERYONE {
        let is_local = caller.origin == Origin::Loopback;
        let is_shared = caller.by == Principal::SharedToken;
        assert_eq!(submits(&mut hub, caller), is_shared && is_local, "{caller:?}");
        assert_eq!(pulls(&mut hub, caller), is_shared, "{caller:?}");
        // What a node says of itself is taken, whoever it is.
        assert!(
            matches!(hub.apply_for(caller, at(0), Command::Heartbeat(heartbeat("n"))), Outcome::Heard { .. }),
            "{caller:?}"
        );
    }
}

#[test]
fn a_gate_on_the_class_is_met_or_denies() {
    let document = r#"{"version":2,"default":"allow","gates":{"submit":["local"],"pull":["attestation_ok"]}}"#;
    let mut hub = under(document);
    let far = from(Principal::SharedToken, Origin::LocalNetwork);
    assert!(!submits(&mut hub, far) && submits(&mut hub, from(Principal::SharedToken, Origin::Loopback)));
    // It never attested.
    assert!(!pulls(&mut hub, far));
}

#[test]
fn a_caller_without_a_token_cannot_activate_what_it_could_not_leave() {
    let caller = from(Principal::Anonymous, Origin::Loopback);
    let locks_out = r#"{"version":2,"default":"allow"}"#;
    let mut hub = new_hub();
    hub.apply(at(0), add_command(locks_out));
    let refused = hub.apply_for(caller, at(0), activate_command(locks_out));
    assert_eq!(refused, Outcome::Refused(Refusal::PolicyLocksOut));
    // With a token the same policy can be left.
    let shared = from(Principal::SharedToken, Origin::Loopback);
    assert!(matches!(
        hub.apply_for(shared, at(0), activate_command(locks_out)),
        Outcome::PolicyActivated { version: 2, previous: 1 }
    ));
}

#[test]
fn limits_stop_what_is_added_and_never_an_activation() {
    let mut scene = Scene::new();
    let document = |version: u64| format!(r#"{{"version":{version},"default":"allow"}}"#);
    for version in 2..=POLICIES_MAX {
        assert!(matches!(scene.apply(add_command(&document(version))), Outcome::PolicyAdded { .. }), "{version}");
    }
    let full = scene.apply(add_command(&document(POLICIES_MAX + 1)));
    assert!(matches!(full, Outcome::Refused(Refusal::PoliciesFull { policies: POLICIES_MAX, .. })), "{full:?}");
    assert!(matches!(scene.apply(add_command(&document(3))), Outcome::PolicyAdded { is_duplicate: true, .. }));
    for turn in 0..ACTIVATIONS_KEPT_MAX as u64 + 6 {
        let version = 2 + turn % 2;
        let activated = scene.at(turn).apply(activate_command(&document(version)));
        assert!(matches!(activated, Outcome::PolicyActivated { .. }), "{turn}: {activated:?}");
    }
    let history: Vec<_> = scene.hub.policies().history().map(|activation| activation.version).collect();
    assert_eq!((history.len(), history.last()), (ACTIVATIONS_KEPT_MAX, Some(&3)));
    let restored = restore(&scene.hub);
    assert_eq!((restored.digest(), restored.policies().active().version()), (scene.hub.digest(), 3));
    assert_eq!(restored.policies().activated_at(), scene.hub.policies().activated_at());
}
