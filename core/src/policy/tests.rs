//! Policies as a whole: the documents of this repository.

use super::*;

mod diff;
mod errors;
mod naive;
mod properties;

mod documents {
    use super::*;

    /// The canonical form of version 1 has this hash for good.
    const BUILT_IN_SHA256: &str = "0ad769f6d19d8b1903248c948ff44300fec436c473fb0b0f061618d00f9ebb20";

    fn parse(text: &str) -> Policy {
        Policy::compile(&Snapshot::parse(text.as_bytes()).expect("a document of this repository is valid"))
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_built_in_policy_is_what_it_always_was() {
        let policy = parse(BUILT_IN);
        assert_eq!(policy.version(), 1);
        assert_eq!(hex(policy.snapshot().sha256()), BUILT_IN_SHA256);
        assert_eq!(policy.run_cases(), []);
        assert!(policy.can_recover(&[]));
        assert_eq!(policy.snapshot().document().node_states, NodeStates::default());
    }

    #[test]
    fn the_example_decides_its_cases() {
        let policy = parse(include_str!("../../../policies/policy_v2.json"));
        assert_eq!(policy.version(), 2);
        assert_eq!(policy.run_cases(), []);
        assert!(policy.can_recover(&[]));
    }
}
