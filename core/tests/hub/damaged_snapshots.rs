//! Damaged snapshots: records that contradict each other are refused, or make a hub that works. They never stop the hub.

use crate::replay::{drive, histories, start};
use crate::scene::{KEY, at, heartbeat};
use proptest::prelude::*;
use proptest::sample::Index;
use sheratan_core::{Command, Hub, Millis, Restore, RestoreError};

/// One thing that happens to the records of a snapshot.
#[derive(Clone, Debug)]
enum Damage {
    /// A byte of a record has another value.
    Byte { record: Index, place: Index, value: u8 },
    /// A record is missing.
    Lost { record: Index },
    /// A record is there twice.
    Twice { record: Index },
    /// Two records changed places.
    Swapped { one: Index, other: Index },
}

fn damages() -> impl Strategy<Value = Damage> {
    let index = any::<Index>;
    // Members are short, so a small value is most likely to be another one that can be read.
    let value = prop_oneof![3 => 0..8_u8, 1 => any::<u8>()];
    prop_oneof![
        6 => (index(), index(), value).prop_map(|(record, place, value)| Damage::Byte { record, place, value }),
        1 => index().prop_map(|record| Damage::Lost { record }),
        1 => index().prop_map(|record| Damage::Twice { record }),
        1 => (index(), index()).prop_map(|(one, other)| Damage::Swapped { one, other }),
    ]
}

impl Damage {
    fn damage(&self, records: &mut Vec<Vec<u8>>) {
        match self {
            Damage::Byte { record, place, value } => {
                let index = record.index(records.len());
                let record = &mut records[index];
                let place = place.index(record.len());
                record[place] = *value;
            }
            Damage::Lost { record } => _ = records.remove(record.index(records.len())),
            Damage::Twice { record } => {
                let index = record.index(records.len());
                records.insert(index, records[index].clone());
            }
            Damage::Swapped { one, other } => {
                let (one, other) = (one.index(records.len()), other.index(records.len()));
                records.swap(one, other);
            }
        }
    }
}

fn read(records: &[Vec<u8>]) -> Result<Hub, RestoreError> {
    let mut restore = Restore::new(KEY);
    records.iter().try_for_each(|record| restore.record(record))?;
    restore.finish()
}

fn records(hub: &Hub) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    hub.snapshot(|record| records.push(record.to_vec()));
    records
}

#[test]
fn a_name_or_a_number_of_a_node_that_is_there_twice_is_refused() {
    let [one, other] = [["a", "b"], ["b", "a"]].map(|nodes| {
        let mut hub = Hub::new(KEY);
        nodes.iter().for_each(|node| _ = hub.apply(at(1), Command::Heartbeat(heartbeat(node))));
        let records = records(&hub);
        assert_eq!(records.len(), 4, "head, two nodes, end");
        records
    });
    let with = |nodes: [&Vec<u8>; 2]| {
        let [head, .., end] = &one[..] else { unreachable!("it was just counted") };
        read(&[head, nodes[0], nodes[1], end].map(Vec::clone)).map(|hub| hub.registry().len())
    };
    assert_eq!(with([&one[1], &one[2]]), Ok(2));
    for nodes in [[&one[1], &other[2]], [&one[1], &other[1]], [&one[1], &one[1]]] {
        assert!(matches!(with(nodes), Err(RestoreError::Contradiction(_))), "{nodes:?}");
    }
}

#[test]
fn a_head_that_gives_the_next_job_the_number_0_is_refused() {
    let mut records = records(&Hub::new(KEY));
    let next_job = records[0].windows(2).rposition(|member| member == [6, 1]).expect("the head's member");
    records[0][next_job + 1] = 0;
    assert!(matches!(read(&records), Err(RestoreError::Contradiction(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_damaged_snapshot_is_refused_or_makes_a_hub_that_works(
        before in histories(),
        damages in prop::collection::vec(damages(), 1..4),
        after in histories(),
    ) {
        let mut hub = start();
        drive(&mut hub, 0, &before);
        let mut records = records(&hub);
        for damage in &damages {
            if !records.is_empty() {
                damage.damage(&mut records);
            }
        }
        if let Ok(mut restored) = read(&records) {
            prop_assert_eq!(restored.recount(), restored.ledger().clone());
            let from_ms = restored.now().as_millis();
            drive(&mut restored, from_ms, &after);
            restored.advance(restored.now() + Millis::from_secs(86_400));
            prop_assert_eq!(restored.recount(), restored.ledger().clone());
        }
    }
}
