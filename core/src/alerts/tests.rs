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

/// An engine, and what came of each event.
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

    fn from(&mut self, ms: u64, ip: &str) -> &mut Self {
        self.event(ms, &format!(r#"{{"ip":"{ip}"}}"#))
    }

    fn pass(&mut self, ms: u64) -> &mut Self {
        self.alerts.advance(at(ms), &mut self.changes);
        self
    }

    /// What changed since this was last asked: when, how, and the counts.
    fn told(&mut self) -> Vec<(u64, &'static str, u64, u64)> {
        let tell =
            |change: Change| (change.at.as_millis(), change.state.as_str(), change.alert.count, change.alert.total);
        self.changes.drain(..).map(tell).collect()
    }
}

#[test]
fn a_burst_opens_one_alert_that_is_updated_and_resolves() {
    let mut run = Run::new(&[rule(2, 10_000, 30_000)]);
    run.from(1_000, FAR).from(2_000, FAR);
    assert_eq!(run.told(), [], "as many as the threshold are none too many");
    run.from(3_000, FAR);
    assert_eq!(run.told(), [(3_000, "opened", 3, 3)]);
    run.from(4_000, FAR).from(5_000, FAR).from(5_000, "192.0.2.2");
    assert_eq!(run.told(), [], "a burst opens once");
    assert_eq!(run.alerts.open().map(|alert| (alert.count, alert.total)).collect::<Vec<_>>(), [(6, 6)]);
    // Six events: the fourth-latest, of 4,000, leaves at 14,000, and then two are left.
    run.pass(33_000);
    assert_eq!(run.told(), [(33_000, "updated", 0, 6)]);
    run.pass(43_999);
    assert_eq!(run.told(), []);
    run.pass(44_000);
    assert_eq!(run.told(), [(44_000, "resolved", 0, 6)]);
    assert_eq!((run.alerts.open().count(), run.alerts.next_deadline()), (0, None));
    run.from(50_000, FAR).from(50_001, FAR).from(50_002, FAR);
    assert_eq!(run.told(), [(50_002, "opened", 3, 3)], "the next burst is another alert");
}

#[test]
fn an_event_leaves_the_window_at_its_end_and_not_before() {
    for (last, is_burst) in [(10_999, true), (11_000, false)] {
        let mut run = Run::new(&[rule(2, 10_000, 0)]);
        run.from(1_000, FAR).from(1_500, FAR).from(last, FAR);
        assert_eq!(!run.told().is_empty(), is_burst, "at {last}");
    }
}

#[test]
fn another_burst_within_the_cool_down_belongs_to_the_same_alert() {
    let mut run = Run::new(&[rule(1, 1_000, 20_000)]);
    run.from(0, FAR).from(1, FAR).from(15_000, FAR).from(15_001, FAR);
    // The first burst fell at 1,000 and would have been over at 21,000; the second one falls at 16,000.
    run.pass(100_000);
    assert_eq!(run.told(), [(1, "opened", 2, 2), (20_001, "updated", 0, 4), (36_000, "resolved", 0, 4)]);
}

#[test]
fn a_single_event_within_the_cool_down_does_not_keep_the_alert_open() {
    let mut run = Run::new(&[rule(1, 1_000, 20_000)]);
    run.from(0, FAR).from(1, FAR).from(15_000, FAR).pass(100_000);
    assert_eq!(run.told(), [(1, "opened", 2, 2), (20_001, "updated", 0, 3), (21_000, "resolved", 0, 3)]);
}

#[test]
fn without_a_cool_down_an_alert_resolves_when_the_count_falls() {
    let mut run = Run::new(&[rule(1, 1_000, 0)]);
    run.from(0, FAR).from(1, FAR).from(2_000, FAR).pass(10_000);
    assert_eq!(run.told(), [(1, "opened", 2, 2), (1_000, "resolved", 1, 2)]);
}

#[test]
fn ignored_addresses_are_not_counted_and_events_without_one_are() {
    let mut ignoring = rule(1, 1_000, 0);
    ignoring.ignore = Rule::ignored_by_default("AUTH_FAILURE");
    let mut run = Run::new(&[ignoring]);
    (0..100).for_each(|ms| _ = run.from(ms, "127.0.0.1"));
    assert_eq!(run.told(), []);
    run.event(100, "{}").event(101, "{}");
    assert_eq!(run.told(), [(101, "opened", 2, 2)]);
}

#[test]
fn each_value_of_the_group_member_is_counted_for_itself() {
    let mut grouped = rule(1, 1_000, 0);
    grouped.group_by = Some("ip".into());
    let mut run = Run::new(&[grouped]);
    run.from(0, "192.0.2.1").from(1, "192.0.2.2").from(2, "192.0.2.3");
    assert_eq!(run.told(), []);
    run.from(3, "192.0.2.2");
    let alert = run.changes[0].alert.clone();
    assert_eq!(alert.group, Some(("ip".into(), "192.0.2.2".into())));
    assert_eq!(alert.top, [("192.0.2.2".parse().unwrap(), 2)]);
}

#[test]
fn the_addresses_with_the_most_events_are_named() {
    let mut run = Run::new(&[rule(20, 60_000, 0)]);
    for n in 0..7 {
        (0..n).for_each(|_| _ = run.from(n, &format!("192.0.2.{n}")));
    }
    let top: Vec<_> = run.changes[0].alert.top.iter().map(|(ip, count)| (ip.to_string(), *count)).collect();
    let expected = [6, 5, 4, 3, 2].map(|n| (format!("192.0.2.{n}"), n));
    assert_eq!(top, expected);
}

#[test]
fn a_line_that_stands_for_many_counts_as_many() {
    let mut run = Run::new(&[rule(20, 60_000, 0)]);
    run.event(0, r#"{"count":20,"ip":"192.0.2.1"}"#).event(1, r#"{"count":"x"}"#);
    assert_eq!(run.told(), [(1, "opened", 21, 21)]);
}

#[test]
fn details_that_are_no_json_and_times_that_go_back_do_no_harm() {
    let mut run = Run::new(&[rule(1, 1_000, 0)]);
    run.event(5_000, "{").event(4_000, "");
    assert_eq!(run.told(), [(5_000, "opened", 2, 2)]);
}

#[test]
fn a_flood_of_groups_takes_bounded_room_and_no_alert_is_left_open() {
    let mut grouped = rule(1, 60_000, 60_000);
    grouped.group_by = Some("node_id".into());
    let mut run = Run::new(&[grouped]);
    let node = |n: usize| format!(r#"{{"node_id":"n{n}"}}"#);
    run.event(0, &node(0)).event(0, &node(0));
    assert_eq!(run.told(), [(0, "opened", 2, 2)]);
    (1..=GROUPS_MAX + 10).for_each(|n| _ = run.event(n as u64, &node(n)));
    assert_eq!(run.told(), [(GROUPS_MAX as u64, "resolved", 2, 2)]);
    assert_eq!(run.alerts.watches[0].groups.len(), GROUPS_MAX);
}

#[test]
fn a_flood_of_events_takes_bounded_room_and_the_decision_stays_exact() {
    let mut run = Run::new(&[rule(10_000, 86_400_000, 0)]);
    (0..30_000).for_each(|ms| _ = run.from(ms, FAR));
    assert_eq!(run.alerts.watches[0].entries, 10_001);
    run.pass(2 * 86_400_000);
    let told = run.told();
    assert_eq!((told[0], told.last().unwrap().1), ((10_000, "opened", 10_001, 10_001), "resolved"));
    // 10,001 events are in the window until the 10,001st-latest leaves it.
    assert_eq!(told.last().unwrap().0, 19_999 + 86_400_000);
}

#[test]
fn the_same_events_give_the_same_ids() {
    let ids = || {
        let mut run = Run::new(&[rule(1, 1_000, 0), Rule { name: "other".into(), ..rule(1, 1_000, 0) }]);
        run.from(0, FAR).from(1, FAR);
        run.changes.iter().map(|change| change.alert.id).collect::<Vec<_>>()
    };
    let first = ids();
    assert_eq!(first, ids());
    assert_ne!(first[0], first[1]);
}

#[test]
fn other_rules_go_on_with_what_the_same_rules_have_counted() {
    let (kept, dropped) = (rule(1, 10_000, 0), Rule { name: "dropped".into(), ..rule(1, 10_000, 0) });
    let mut run = Run::new(&[kept.clone(), dropped]);
    run.from(0, FAR).from(1, FAR);
    assert_eq!(run.told(), [(1, "opened", 2, 2), (1, "opened", 2, 2)]);
    let more = Rule { name: "more".into(), ..rule(1, 10_000, 0) };
    let before = std::mem::replace(&mut run.alerts, Alerts::new(vec![more, kept]).unwrap());
    run.alerts.take_over(at(2), before, &mut run.changes);
    assert_eq!(run.changes.iter().map(|change| &*change.alert.rule).collect::<Vec<_>>(), ["dropped"]);
    assert_eq!(run.told(), [(2, "resolved", 2, 2)]);
    run.from(3, FAR);
    assert_eq!(run.told(), [], "the rule that stayed has its alert open, the new one starts to count");
    run.pass(20_000);
    assert_eq!(run.told(), [(10_001, "resolved", 1, 3)]);
}

/// Every second looked at, all events kept: obviously right. `rule` and `events` are in seconds here.
fn naive(rule: &Rule, events: &[u64], end: u64) -> Vec<(u64, &'static str)> {
    let (window, cooldown) = (rule.window.get(), rule.cooldown.get());
    let update_every = cooldown.max(10);
    let mut told = Vec::new();
    let (mut is_open, mut told_at, mut fell_at, mut is_over, mut has_news) = (false, 0, 0, false, false);
    for now in 0..=end {
        // What is due happens before the events of the instant.
        let earlier = events.iter().filter(|at| **at < now && **at + window > now).count() as u64;
        if is_over && earlier <= rule.threshold {
            (is_over, fell_at) = (false, now);
        }
        if is_open && !is_over && now == fell_at + cooldown {
            told.push((now, "resolved"));
            (is_open, has_news) = (false, false);
        }
        if is_open && has_news && now >= told_at + update_every {
            told.push((now, "updated"));
            (told_at, has_news) = (now, false);
        }
        for nth in 1..=events.iter().filter(|at| **at == now).count() as u64 {
            is_over |= earlier + nth > rule.threshold;
            has_news |= is_open;
            if is_over && !is_open {
                told.push((now, "opened"));
                (is_open, told_at) = (true, now);
            } else if has_news && now >= told_at + update_every {
                told.push((now, "updated"));
                (told_at, has_news) = (now, false);
            }
        }
    }
    told
}

proptest! {
    #[test]
    fn alerts_open_update_and_resolve_when_a_look_at_each_second_says_so(
        threshold in 1u64..5,
        window in 1u64..40,
        cooldown in 0u64..40,
        steps in prop::collection::vec(prop_oneof![4 => 0u64..8, 1 => 20u64..120], 0..40),
        looks in prop::collection::vec(0u64..60, 1..20),
    ) {
        let (mut now, mut looks) = (0, looks.into_iter().cycle());
        let mut run = Run::new(&[rule(threshold, window * 1_000, cooldown * 1_000)]);
        let mut events = Vec::new();
        for step in steps {
            now += step;
            events.push(now);
            // Whether anybody looked in between makes no difference.
            run.pass((now * 1_000).saturating_sub(looks.next().unwrap_or(0) * 100));
            run.from(now * 1_000, FAR);
        }
        let end = now + window + cooldown + 60;
        run.pass(end * 1_000);
        let told: Vec<_> = run.told().into_iter().map(|(at, state, ..)| (at / 1_000, state)).collect();
        prop_assert_eq!(told, naive(&rule(threshold, window, cooldown), &events, end));
    }
}
