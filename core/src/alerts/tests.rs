use super::*;
use proptest::prelude::*;

const FAR: &str = "192.0.2.1";

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn rule(threshold: u64, window_ms: u64, cooldown_ms: u64) -> Rule {
    Rule {
        name: "r".into(),
        event: "E".into(),
        threshold,
        window: Millis::new(window_ms),
        group_by: None,
        ignore: Vec::new(),
        cooldown: Millis::new(cooldown_ms),
    }
}

/// An engine, and the changes that it reported.
struct Run {
    alerts: Alerts,
    changes: Vec<Change>,
}

impl Run {
    fn new(rules: &[Rule]) -> Self {
        Run { alerts: Alerts::new(rules.to_vec()).unwrap(), changes: Vec::new() }
    }

    fn event(&mut self, ms: u64, details: &str) -> &mut Self {
        self.alerts.event(at(ms), "E", details.as_bytes(), &mut self.changes);
        self
    }

    fn event_from(&mut self, ms: u64, ip: &str) -> &mut Self {
        self.event(ms, &format!(r#"{{"ip":"{ip}"}}"#))
    }

    fn advance(&mut self, ms: u64) -> &mut Self {
        self.alerts.advance(at(ms), &mut self.changes);
        self
    }

    /// The changes since the last call: when, how, and the counts.
    fn drain_changes(&mut self) -> Vec<(u64, &'static str, u64, u64)> {
        let summary =
            |change: Change| (change.at.as_millis(), change.state.as_str(), change.alert.count, change.alert.total);
        self.changes.drain(..).map(summary).collect()
    }
}

#[test]
fn a_burst_opens_one_alert_that_is_updated_and_resolves() {
    let mut run = Run::new(&[rule(2, 10_000, 30_000)]);
    run.event_from(1_000, FAR).event_from(2_000, FAR);
    assert_eq!(run.drain_changes(), [], "a count at the threshold is not above it");
    run.event_from(3_000, FAR);
    assert_eq!(run.drain_changes(), [(3_000, "opened", 3, 3)]);
    run.event_from(4_000, FAR).event_from(5_000, FAR).event_from(5_000, "192.0.2.2");
    assert_eq!(run.drain_changes(), [], "a burst opens once");
    assert_eq!(run.alerts.open().map(|alert| (alert.count, alert.total)).collect::<Vec<_>>(), [(6, 6)]);
    // The count of six falls to the threshold of two when the event of 4,000 leaves the window at 14,000.
    run.advance(33_000);
    assert_eq!(run.drain_changes(), [(33_000, "updated", 0, 6)]);
    run.advance(43_999);
    assert_eq!(run.drain_changes(), []);
    run.advance(44_000);
    assert_eq!(run.drain_changes(), [(44_000, "resolved", 0, 6)]);
    assert_eq!((run.alerts.open().count(), run.alerts.next_deadline()), (0, None));
    run.event_from(50_000, FAR).event_from(50_001, FAR).event_from(50_002, FAR);
    assert_eq!(run.drain_changes(), [(50_002, "opened", 3, 3)], "the next burst is another alert");
}

#[test]
fn an_event_leaves_the_window_at_its_end_and_not_before() {
    for (last, is_burst) in [(10_999, true), (11_000, false)] {
        let mut run = Run::new(&[rule(2, 10_000, 0)]);
        run.event_from(1_000, FAR).event_from(1_500, FAR).event_from(last, FAR);
        assert_eq!(!run.drain_changes().is_empty(), is_burst, "at {last}");
    }
}

#[test]
fn another_burst_within_the_cool_down_belongs_to_the_same_alert() {
    let mut run = Run::new(&[rule(1, 1_000, 20_000)]);
    run.event_from(0, FAR).event_from(1, FAR).event_from(15_000, FAR).event_from(15_001, FAR);
    // The first burst ended at 1,000 and would have been resolved at 21,000; the second one ends at 16,000.
    run.advance(100_000);
    assert_eq!(run.drain_changes(), [(1, "opened", 2, 2), (20_001, "updated", 0, 4), (36_000, "resolved", 0, 4)]);
}

#[test]
fn a_single_event_within_the_cool_down_does_not_keep_the_alert_open() {
    let mut run = Run::new(&[rule(1, 1_000, 20_000)]);
    run.event_from(0, FAR).event_from(1, FAR).event_from(15_000, FAR).advance(100_000);
    assert_eq!(run.drain_changes(), [(1, "opened", 2, 2), (20_001, "updated", 0, 3), (21_000, "resolved", 0, 3)]);
}

#[test]
fn without_a_cool_down_an_alert_resolves_when_the_count_falls() {
    let mut run = Run::new(&[rule(1, 1_000, 0)]);
    run.event_from(0, FAR).event_from(1, FAR).event_from(2_000, FAR).advance(10_000);
    assert_eq!(run.drain_changes(), [(1, "opened", 2, 2), (1_000, "resolved", 1, 2)]);
}

#[test]
fn ignored_addresses_are_not_counted_and_events_without_one_are() {
    let mut ignoring = rule(1, 1_000, 0);
    ignoring.ignore = Rule::ignored_by_default("AUTH_FAILURE");
    let mut run = Run::new(&[ignoring]);
    (0..100).for_each(|ms| _ = run.event_from(ms, "127.0.0.1"));
    assert_eq!(run.drain_changes(), []);
    run.event(100, "{}").event(101, "{}");
    assert_eq!(run.drain_changes(), [(101, "opened", 2, 2)]);
}

#[test]
fn each_value_of_the_group_member_is_counted_separately() {
    let mut grouped = rule(1, 1_000, 0);
    grouped.group_by = Some("ip".into());
    let mut run = Run::new(&[grouped]);
    run.event_from(0, "192.0.2.1").event_from(1, "192.0.2.2").event_from(2, "192.0.2.3");
    assert_eq!(run.drain_changes(), []);
    run.event_from(3, "192.0.2.2");
    let alert = run.changes[0].alert.clone();
    assert_eq!(alert.group, Some(("ip".into(), "192.0.2.2".into())));
    assert_eq!(alert.top, [("192.0.2.2".parse().unwrap(), 2)]);
}

#[test]
fn the_addresses_with_the_most_events_are_named() {
    let mut run = Run::new(&[rule(20, 60_000, 0)]);
    for n in 0..7 {
        (0..n).for_each(|_| _ = run.event_from(n, &format!("192.0.2.{n}")));
    }
    let top: Vec<_> = run.changes[0].alert.top.iter().map(|(ip, count)| (ip.to_string(), *count)).collect();
    let expected = [6, 5, 4, 3, 2].map(|n| (format!("192.0.2.{n}"), n));
    assert_eq!(top, expected);
}

#[test]
fn a_line_that_represents_many_events_counts_as_many() {
    let mut run = Run::new(&[rule(20, 60_000, 0)]);
    run.event(0, r#"{"count":20,"ip":"192.0.2.1"}"#).event(1, r#"{"count":"x"}"#);
    assert_eq!(run.drain_changes(), [(1, "opened", 21, 21)]);
}

#[test]
fn details_that_are_not_json_and_times_that_go_back_are_tolerated() {
    let mut run = Run::new(&[rule(1, 1_000, 0)]);
    run.event(5_000, "{").event(4_000, "");
    assert_eq!(run.drain_changes(), [(5_000, "opened", 2, 2)]);
}

#[test]
fn a_flood_of_groups_takes_bounded_memory_and_no_alert_is_left_open() {
    let mut grouped = rule(1, 60_000, 60_000);
    grouped.group_by = Some("node_id".into());
    let mut run = Run::new(&[grouped]);
    let node = |n: usize| format!(r#"{{"node_id":"n{n}"}}"#);
    run.event(0, &node(0)).event(0, &node(0));
    assert_eq!(run.drain_changes(), [(0, "opened", 2, 2)]);
    (1..=GROUPS_MAX + 10).for_each(|n| _ = run.event(n as u64, &node(n)));
    assert_eq!(run.drain_changes(), [(GROUPS_MAX as u64, "resolved", 2, 2)]);
    assert_eq!(run.alerts.watches[0].groups.len(), GROUPS_MAX);
}

#[test]
fn a_flood_of_events_takes_bounded_memory_and_the_decision_stays_exact() {
    let mut run = Run::new(&[rule(10_000, 86_400_000, 0)]);
    (0..30_000).for_each(|ms| _ = run.event_from(ms, FAR));
    assert_eq!(run.alerts.watches[0].entries, 10_001);
    run.advance(2 * 86_400_000);
    let changes = run.drain_changes();
    assert_eq!((changes[0], changes.last().unwrap().1), ((10_000, "opened", 10_001, 10_001), "resolved"));
    // 10,001 events are in the window until the 10,001st-latest leaves it.
    assert_eq!(changes.last().unwrap().0, 19_999 + 86_400_000);
}

#[test]
fn the_same_events_give_the_same_ids() {
    let ids = || {
        let mut run = Run::new(&[rule(1, 1_000, 0), Rule { name: "other".into(), ..rule(1, 1_000, 0) }]);
        run.event_from(0, FAR).event_from(1, FAR);
        run.changes.iter().map(|change| change.alert.id).collect::<Vec<_>>()
    };
    let first = ids();
    assert_eq!(first, ids());
    assert_ne!(first[0], first[1]);
}

#[test]
fn new_rules_take_over_the_counts_of_the_same_old_rules() {
    let (kept, dropped) = (rule(1, 10_000, 0), Rule { name: "dropped".into(), ..rule(1, 10_000, 0) });
    let mut run = Run::new(&[kept.clone(), dropped]);
    run.event_from(0, FAR).event_from(1, FAR);
    assert_eq!(run.drain_changes(), [(1, "opened", 2, 2), (1, "opened", 2, 2)]);
    let more = Rule { name: "more".into(), ..rule(1, 10_000, 0) };
    let before = std::mem::replace(&mut run.alerts, Alerts::new(vec![more, kept]).unwrap());
    run.alerts.take_over(at(2), before, &mut run.changes);
    assert_eq!(run.changes.iter().map(|change| &*change.alert.rule).collect::<Vec<_>>(), ["dropped"]);
    assert_eq!(run.drain_changes(), [(2, "resolved", 2, 2)]);
    run.event_from(3, FAR);
    assert_eq!(run.drain_changes(), [], "the kept rule's alert is open already, the new rule starts to count");
    run.advance(20_000);
    assert_eq!(run.drain_changes(), [(10_001, "resolved", 1, 3)]);
}

/// Checks every second and keeps all events: obviously right. `rule` and `events` are in seconds here.
fn naive(rule: &Rule, events: &[u64], end: u64) -> Vec<(u64, &'static str)> {
    let (window, cooldown) = (rule.window.get(), rule.cooldown.get());
    let update_interval = cooldown.max(10);
    let mut changes = Vec::new();
    let (mut is_open, mut reported_at, mut quiet_at, mut is_over, mut is_changed) = (false, 0, 0, false, false);
    for now in 0..=end {
        // Due changes come before the events of the instant.
        let earlier = events.iter().filter(|at| **at < now && **at + window > now).count() as u64;
        if is_over && earlier <= rule.threshold {
            (is_over, quiet_at) = (false, now);
        }
        if is_open && !is_over && now == quiet_at + cooldown {
            changes.push((now, "resolved"));
            (is_open, is_changed) = (false, false);
        }
        if is_open && is_changed && now >= reported_at + update_interval {
            changes.push((now, "updated"));
            (reported_at, is_changed) = (now, false);
        }
        for nth in 1..=events.iter().filter(|at| **at == now).count() as u64 {
            is_over |= earlier + nth > rule.threshold;
            is_changed |= is_open;
            if is_over && !is_open {
                changes.push((now, "opened"));
                (is_open, reported_at) = (true, now);
            } else if is_changed && now >= reported_at + update_interval {
                changes.push((now, "updated"));
                (reported_at, is_changed) = (now, false);
            }
        }
    }
    changes
}

proptest! {
    #[test]
    fn alerts_open_update_and_resolve_as_in_a_model_that_checks_every_second(
        threshold in 1u64..5,
        window in 1u64..40,
        cooldown in 0u64..40,
        steps in prop::collection::vec(prop_oneof![4 => 0u64..8, 1 => 20u64..120], 0..40),
        gaps in prop::collection::vec(0u64..60, 1..20),
    ) {
        let (mut now, mut gaps) = (0, gaps.into_iter().cycle());
        let mut run = Run::new(&[rule(threshold, window * 1_000, cooldown * 1_000)]);
        let mut events = Vec::new();
        for step in steps {
            now += step;
            events.push(now);
            // Calls of `advance` in between make no difference.
            run.advance((now * 1_000).saturating_sub(gaps.next().unwrap_or(0) * 100));
            run.event_from(now * 1_000, FAR);
        }
        let end = now + window + cooldown + 60;
        run.advance(end * 1_000);
        let changes: Vec<_> = run.drain_changes().into_iter().map(|(at, state, ..)| (at / 1_000, state)).collect();
        prop_assert_eq!(changes, naive(&rule(threshold, window, cooldown), &events, end));
    }
}

#[test]
fn an_event_of_which_only_the_address_is_known_is_counted_as_one_with_details() {
    let mut by_address = rule(1, 1_000, 0);
    by_address.group_by = Some("ip".into());
    let rules = [rule(2, 1_000, 0), by_address];
    let (mut run, mut short) = (Run::new(&rules), Run::new(&rules));
    for (ms, ip) in [(0, "192.0.2.1"), (1, "192.0.2.2"), (2, "192.0.2.1"), (3, "::1")] {
        run.event_from(ms, ip);
        let address = ip.parse().expect("an address");
        short.alerts.event_of(Timestamp::from_millis(ms), &rules[0].event, address, &mut short.changes);
    }
    assert!(!run.changes.is_empty());
    assert_eq!(run.changes, short.changes);
}

#[test]
fn only_a_rule_that_groups_by_another_member_than_the_address_needs_details() {
    for (member, needs) in [(None, false), (Some("ip"), false), (Some("path"), true)] {
        let grouped = Rule { group_by: member.map(str::to_owned), ..rule(1, 1_000, 0) };
        let run = Run::new(std::slice::from_ref(&grouped));
        assert_eq!((run.alerts.needs_details(&grouped.event), run.alerts.needs_details("OTHER")), (needs, false));
    }
}
