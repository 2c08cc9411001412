//! Signed heartbeats: answered when what they change is durable, and an impostor's at once when they change nothing.

use crate::engine::Stage;
use crate::scene::{self, LOCAL};
use ed25519_dalek::{Signer, SigningKey};
use sheratan_core::Millis;
use sheratan_io::service::Plane;

/// Signed by a client in the field.
const KEY: &str = "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8";
const SIGNED: &str = r#"{"host_id":"n1","status":"online","timestamp":"2026-01-15T20:52:03.348248Z","public_key":"KEY","attestation":{"build_id":"b1","capability_hash":"h1"},"signature":"32f0bbbf388171a0cfe4eb650af845b1ae85e5b7192be966d4a768b4bcdf7133f149982f4cb06c8071233ceba99ce6a5da865a28634f9467b3e3c2ada3575c0b"}"#;

fn beat(stage: &mut Stage, body: &str) -> Vec<u16> {
    let node = stage.connect_from(Plane::Control, LOCAL);
    stage.send(&node, "POST", "/mesh/heartbeat", body);
    node.statuses()
}

#[test]
fn a_pin_is_answered_when_it_is_durable_and_a_repeat_at_once() {
    let mut stage = Stage::new(scene::settings());
    let signed = SIGNED.replace("KEY", KEY);
    let node = stage.connect_from(Plane::Control, LOCAL);
    stage.send(&node, "POST", "/mesh/heartbeat", &signed);
    assert_eq!(node.statuses(), [0; 0], "a crash may still take the pin back");
    stage.commit();
    assert_eq!(node.statuses(), [200]);
    stage.fail();
    assert_eq!(beat(&mut stage, &signed), [200], "it has no effect");
}

#[test]
fn an_impostor_that_repeats_itself_costs_no_record() {
    let mut stage = Stage::new(scene::settings());
    beat(&mut stage, &SIGNED.replace("KEY", KEY));
    stage.commit();
    let tampered = SIGNED.replace("KEY", KEY).replace("b1", "b2");
    assert_eq!(beat(&mut stage, &tampered), [0; 0], "the warning is durable before it is told");
    stage.commit();
    stage.fail();
    assert_eq!(beat(&mut stage, &tampered), [200]);
    assert_ne!(
        beat(&mut stage, r#"{"node_id":"n1"}"#),
        [200],
        "another fault is another record, and the journal fails"
    );
}

/// Signed without time and counter, so that a repeat is a new heartbeat that changes nothing.
fn signed(seed: u8) -> String {
    let key = SigningKey::from_bytes(&[seed; 32]);
    let public = hex::encode(key.verifying_key().to_bytes());
    let body = format!(r#"{{"node_id":"n","public_key":"{public}""#);
    let signature = hex::encode(key.sign(format!("{body}}}").as_bytes()).to_bytes());
    format!(r#"{body},"signature":"{signature}"}}"#)
}

fn last_seen(stage: &mut Stage) -> String {
    let client = stage.connect_from(Plane::Control, LOCAL);
    stage.send(&client, "GET", "/api/nodes/n", "");
    let shown = client.received();
    let (_, rest) = shown.split_once(r#""last_seen_utc":""#).expect("the registry shows it");
    rest.split('"').next().expect("it ends").to_owned()
}

#[test]
fn an_impostor_does_not_undo_that_the_node_was_seen_a_moment_ago() {
    let mut stage = Stage::new(scene::settings());
    beat(&mut stage, &signed(1));
    stage.commit();
    let first = last_seen(&mut stage);
    stage.pass(Millis::new(500));
    assert_eq!(beat(&mut stage, &signed(1)), [200], "a quiet heartbeat is collected");
    let later = last_seen(&mut stage);
    assert_ne!(later, first);
    beat(&mut stage, &signed(2));
    stage.commit();
    assert_eq!(last_seen(&mut stage), later);
}
