//! A hub from the records of a snapshot.

use super::Hub;
use crate::acts::Act;
use crate::context::Context;
use crate::dedup::KeyRecord;
use crate::ids::JobSeq;
use crate::orphans::Orphan;
use crate::queue::ageing::OrderRecord;
use crate::queue::kind::KindRecord;
use crate::queue::retry_budget::Earned;
use crate::queue::{JobRecord, Queue};
use crate::registry::node::NodeRecord;
use crate::time::Timestamp;
use crate::timers::Timer;
use std::collections::BTreeSet;

impl Hub {
    pub(crate) fn restore_node(&mut self, record: NodeRecord) -> Result<(), &'static str> {
        let mut node = record.into_node();
        let profile = self.queue.profiles_mut().acquire(node.zone(), node.capabilities());
        node.set_profile(profile);
        self.registry.restore(&mut self.timers, &mut self.ledger, node)
    }

    pub(crate) fn restore_job(
        &mut self,
        taken_places: &mut BTreeSet<JobSeq>,
        record: JobRecord,
    ) -> Result<(), &'static str> {
        let Hub { ids, now, rules, limits, registry, queue, timers, ledger, events, .. } = self;
        queue.restore(
            &mut Context { now: *now, key: ids.key(), rules: *rules, limits, timers, ledger, events },
            registry,
            taken_places,
            record,
        )
    }

    pub(crate) fn restore_key(&mut self, record: KeyRecord) -> Result<(), &'static str> {
        let stores = (&mut self.timers, &mut self.ledger);
        let (place, job) = self.dedup.restore(&self.limits, stores, record)?;
        match place {
            Some(place) if !self.queue.restore_key(&mut self.ledger, job, place) => {
                Err("a key is bound to a job that does not exist or has another key")
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn restore_earned(&mut self, kind: &str, earned: Earned) -> Result<(), &'static str> {
        self.queue.restore_earned(kind, earned)
    }

    pub(crate) fn restore_orphan(&mut self, orphan: Orphan) -> Result<(), &'static str> {
        if orphan.id < self.orphans.next_id() {
            return Err("orphans are not in the order of their ids");
        }
        self.orphans.insert(&mut self.ledger, orphan);
        Ok(())
    }

    pub(crate) fn restore_act(&mut self, act: Act) -> Result<(), &'static str> {
        if act.id < self.acts.next_id() {
            return Err("acts are not in the order of their ids");
        }
        if act.is_running() == (act.step_at == Timestamp::NEVER) {
            return Err("an act that has ended goes on, or one that runs does not");
        }
        self.timers.set(act.step_at, Timer::ActSteps(act.id));
        self.acts.insert(act);
        Ok(())
    }

    pub(crate) fn restore_order(&mut self, record: OrderRecord) -> Result<(), &'static str> {
        self.with_queue(|queue, cx| queue.restore_order(cx, record))
    }

    pub(crate) fn restore_kind(&mut self, record: KindRecord) -> Result<(), &'static str> {
        self.queue.kinds_mut().restore(&mut self.ledger, record)
    }

    pub(crate) fn restored(&mut self) {
        self.with_queue(Queue::restored);
        self.registry.restored();
    }
}
