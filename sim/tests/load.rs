//! Load scenarios: each, at a small scale, shows what its first line says.

// No clock is read here; the files are the test's own.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use sheratan_core::Limits;
use sheratan_sim::load::driver::Driver;
use sheratan_sim::load::library;
use sheratan_sim::load::report::Report;
use sheratan_sim::load::scenario::Scenario;
use sheratan_sim::mesh::library as plans;
use std::path::Path;
use std::process::{Command, Output};

const SEED: u64 = 3;

/// Runs a scenario of the program; its books balance.
fn run(name: &str, scale: f64) -> Report {
    run_changed(name, scale, &[])
}

/// Runs a scenario of which something is changed; its books balance.
fn run_changed(name: &str, scale: f64, changes: &[(&str, &str)]) -> Report {
    let mut text = library::find(name).expect("there is such a scenario").to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{name} has `{from}`");
        text = text.replace(from, to);
    }
    let scenario = Scenario::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let report = Driver::new(&scenario.scaled(scale), SEED).run(|_| ());
    report.check().unwrap_or_else(|reason| panic!("{name}: {reason}"));
    report
}

fn refused(report: &Report) -> u64 {
    report.tally.refused.values().sum()
}

/// All jobs that the hub took ended with a result, and nothing is left.
fn assert_all_done(report: &Report) {
    assert_eq!((report.pending, report.hub.waiting, report.hub.leased), (0, 0, 0), "{report}");
    assert_eq!(report.hub.completed, report.hub.submitted, "{report}");
}

#[test]
fn every_file_is_a_scenario_of_the_program_and_says_what_it_shows() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let files = std::fs::read_dir(folder).expect("the folder of scenarios is there");
    let mut names: Vec<_> = files
        .map(|file| file.expect("its entries can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| path.file_stem().expect("a file has a name").to_string_lossy().into_owned())
        .collect();
    names.sort();
    let all = library::ALL.iter().chain(plans::ALL);
    let mut built: Vec<_> = all.map(|(name, _)| (*name).to_owned()).collect();
    built.sort();
    assert_eq!(names, built);
    for (name, text) in library::ALL {
        let scenario = Scenario::parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(scenario.shows.len() > 40, "{name}: {}", scenario.shows);
    }
}

#[test]
fn under_steady_load_nothing_is_refused_and_waits_are_short() {
    let report = run("steady", 0.05);
    assert_all_done(&report);
    assert_eq!(refused(&report), 0);
    let p99 = report.tally.queue_wait.quantile(0.99).expect("jobs were done");
    assert!(p99 < 10_000, "p99 of the wait is {p99} us");
}

#[test]
fn on_a_ramp_goodput_stays_at_the_nodes_most_while_jobs_are_refused() {
    let report = run("ramp", 0.1);
    assert_all_done(&report);
    assert!(refused(&report) > 0, "{report}");
    // 40 slots do jobs of a second each; second 200 to 300 have more than that.
    let busy = report.tally.samples.iter().filter(|sample| (220_000_000..300_000_000).contains(&sample.at));
    let (count, completed) = busy.fold((0, 0), |(count, sum), sample| (count + 1, sum + sample.completed));
    assert!((37..=41).contains(&(completed / count)), "{} jobs/s", completed / count);
}

#[test]
fn a_spike_is_refused_beyond_the_queue_which_is_empty_again_after() {
    let report = run("spike", 0.1);
    assert_all_done(&report);
    assert!(refused(&report) > 0, "{report}");
    let deepest = report.tally.samples.iter().map(|sample| sample.depth).max().expect("there is a timeline");
    assert_eq!(deepest, 1_000, "the queue is full and never above its limit");
    let late = report.tally.samples.iter().filter(|sample| sample.at > 150_000_000);
    assert!(late.map(|sample| sample.depth + sample.refused).sum::<u64>() == 0, "{report}");
}

#[test]
fn each_noon_leaves_a_queue_and_each_night_ends_it() {
    let report = run("diurnal", 0.05);
    assert_all_done(&report);
    assert_eq!(refused(&report), 0);
    let depth_at = |hour: u64| {
        let sample = report.tally.samples.iter().find(|sample| sample.at >= hour * 3_600_000_000);
        sample.expect("the timeline is two days long").depth
    };
    // The rate is highest at hour 6 and lowest at hour 18 of a day.
    assert!([9, 33].map(depth_at).iter().all(|depth| *depth > 50), "{:?}", [9, 33].map(depth_at));
    assert_eq!([20, 44].map(depth_at), [0, 0]);
}

#[test]
fn after_an_outage_all_reconnect_at_once_and_no_job_is_lost_or_completed_twice() {
    let report = run("thundering-herd", 0.05);
    assert_all_done(&report);
    assert_eq!(report.hub.submitted, report.tally.offered, "a key makes one job of all its sends");
    assert!(report.tally.reconnects >= 300, "{report}");
}

#[test]
fn leases_end_under_slow_nodes_and_their_late_results_are_refused() {
    let report = run("slow-nodes", 0.1);
    assert_all_done(&report);
    assert!(report.tally.late_results > 0 && report.hub.reaped > 0 && report.hub.retries > 0, "{report}");
}

#[test]
fn poison_jobs_die_after_their_attempts_and_all_others_are_done() {
    let report = run("poison", 0.2);
    let hub = &report.hub;
    assert!(hub.dead > 20, "{report}");
    let losses_max = u64::from(Limits::default().losses_max);
    assert_eq!(report.tally.killed, losses_max * hub.dead, "each lost lease is of a worker that was killed");
    assert_eq!((hub.completed + hub.dead, hub.waiting, hub.leased, hub.expired), (hub.submitted, 0, 0, 0), "{report}");
}

#[test]
fn in_a_retry_storm_most_is_refused_and_each_job_is_done_once() {
    let report = run("retry-storm", 0.1);
    assert_all_done(&report);
    assert_eq!(report.hub.submitted, report.tally.offered, "{report}");
    assert!(refused(&report) > 2 * report.tally.offered, "{report}");
}

#[test]
fn in_a_storm_of_duplicates_each_job_is_done_once_and_every_copy_is_answered() {
    let report = run("duplicate-storm", 0.1);
    assert_all_done(&report);
    let tally = &report.tally;
    assert_eq!(report.hub.submitted, tally.offered, "{report}");
    assert_eq!((tally.accepted, tally.copied), (tally.offered, 9 * tally.offered), "{report}");
    assert_eq!(
        tally.repeated,
        9 * tally.offered,
        "all answers but one of each job name the job that is there: {report}"
    );
    assert!(tally.refused.contains_key("backpressure") && tally.offered > 1_000, "{report}");
}

/// Jobs that were completed from second 120 to second 360.
fn completed_under_load(report: &Report) -> u64 {
    let samples = report.tally.samples.iter().filter(|sample| (120_000_000..360_000_000).contains(&sample.at));
    samples.map(|sample| sample.completed).sum()
}

#[test]
fn ten_times_as_much_as_the_nodes_can_do_leaves_goodput_and_answers_as_they_were() {
    let offered = |per_sec| run_changed("overload", 0.1, &[("[60, 1000.0]", &format!("[60, {per_sec}]"))]);
    let [half, peak] = ["50.0", "110.0"].map(offered);
    let overload = run("overload", 0.1);
    for report in [&half, &peak, &overload] {
        assert_all_done(report);
    }
    assert_eq!(refused(&half), 0, "{half}");
    assert!(refused(&overload) > 5 * overload.tally.accepted, "{overload}");
    let [at_peak, under_overload] = [&peak, &overload].map(completed_under_load);
    assert!(10 * under_overload >= 9 * at_peak, "{under_overload} jobs instead of {at_peak}");
    let [before, after] =
        [&half, &overload].map(|report| report.tally.answer.quantile(0.99).expect("there are answers"));
    assert!(after <= 2 * before, "p99 of the answers is {after} us instead of {before} us");
    let promises = &overload.tally.promises;
    let median = promises.quantile(0.5).expect("jobs started of which an estimate was asked");
    assert!(promises.count() > 100 && (0.5..=2.0).contains(&median), "{overload}");
}

#[test]
fn a_quiet_client_does_not_wait_for_a_noisy_one_that_takes_turns_with_it() {
    let wait = |report: &Report| report.tally.quiet_wait.quantile(0.99).expect("the quiet client's jobs were done");
    let with_turns = run("noisy-neighbour", 0.1);
    let without = run_changed("noisy-neighbour", 0.1, &[("fair_by = \"client\"", "fair_by = \"none\"")]);
    for report in [&with_turns, &without] {
        assert_all_done(report);
        assert!(report.tally.quiet_wait.count() > 5, "{report}");
    }
    let noisy = with_turns.tally.queue_wait.quantile(0.9).expect("jobs were done");
    assert!(20 * wait(&with_turns) < noisy, "{with_turns}");
    assert!(20 * wait(&with_turns) < wait(&without), "{without}");
}

#[test]
fn aged_jobs_of_a_low_priority_are_done_beside_a_flood_of_higher_ones_also_with_turns() {
    let wait = |changes: &[(&str, &str)]| {
        let low = ("quiet_permille = 10", "quiet_permille = 10\nquiet_priority = \"low\"");
        let report = run_changed("noisy-neighbour", 0.1, &[&[low], changes].concat());
        assert_all_done(&report);
        report.tally.quiet_wait.quantile(0.5).expect("the quiet client's jobs were done")
    };
    let turns = "fair_by = \"client\"";
    let aged = "priority_age_sec = 4";
    // Turns are taken within a priority, and this one has no other client.
    let frozen = [turns, "fair_by = \"none\""].map(|limits| wait(&[(turns, limits)]));
    let with_turns = wait(&[(turns, &format!("{turns}\n{aged}"))]);
    assert!(frozen.iter().all(|frozen| 3 * with_turns < *frozen), "{frozen:?} us, {with_turns} us aged");
    let without = wait(&[(turns, aged)]);
    assert!(4 * without < 3 * frozen[1], "{frozen:?} us, {without} us aged without turns");
}

#[test]
fn nodes_are_drained_one_by_one_and_no_job_is_charged_for_it() {
    let report = run("drain-rolling", 0.3);
    assert_all_done(&report);
    assert_eq!((refused(&report), report.hub.dead), (0, 0), "{report}");
    assert_eq!(report.tally.restarted, 6, "{report}");
    assert!(report.hub.returned > 5, "{report}");
}

#[test]
fn a_hub_does_not_recover_while_impatient_clients_go_on() {
    let report = run("impatient-clients", 0.05);
    assert!(report.tally.unanswered > report.tally.offered, "{report}");
    assert!(report.pending > 0, "{report}");
    // Keys hold even then.
    assert!(report.hub.submitted <= report.tally.offered, "{report}");
}

#[test]
fn nodes_that_only_send_heartbeats_are_all_known() {
    let report = run("million-nodes", 0.001);
    assert_eq!(report.hub.nodes, 1_000);
    assert!(report.tally.heartbeat.count() >= 3_990 && report.tally.nodes_refused.is_empty(), "{report}");
    let slowest = report.tally.heartbeat.max().expect("heartbeats were answered");
    assert!(slowest < 200_000, "a heartbeat was answered after {slowest} us");
}

#[test]
fn a_deep_queue_is_filled_and_drained_in_part() {
    let report = run("ten-million-queued", 0.005);
    let deepest = report.tally.samples.iter().map(|sample| sample.depth).max().expect("there is a timeline");
    assert_eq!((deepest, refused(&report)), (50_000, 0));
    assert!(report.hub.completed > 1_000 && report.hub.waiting > 10_000, "{report}");
}

#[test]
fn a_journal_that_is_behind_keeps_requests_waiting_and_loses_none() {
    // 200 jobs of 100 kB are more than may wait for the journal, which takes a second for what it is given.
    let text = "# It.\nseconds = 20\n[hub]\ncommit_us = 1000000\n[arrivals]\nclients = 200\nuntil_sec = 2\n\
                rate = { shape = \"constant\", per_sec = 500 }\n[jobs]\nparams_bytes = 100000\n\
                [nodes]\ncount = 1\nslots = 1\n";
    let scenario = Scenario::parse(text).unwrap_or_else(|error| panic!("{error}"));
    let report = Driver::new(&scenario, SEED).run(|_| ());
    report.check().unwrap_or_else(|reason| panic!("{reason}: {report}"));
    assert_eq!((report.tally.accepted, report.pending), (report.tally.offered, 0), "{report}");
    let slowest = report.tally.answer.max().expect("submits were answered");
    assert!((2_000_000..4_000_000).contains(&slowest), "a submit waits for two commits: {slowest} us");
}

#[test]
fn the_same_seed_gives_the_same_report_and_another_seed_another() {
    let scenario = Scenario::parse(library::find("thundering-herd").expect("it is there")).expect("it is one");
    let report = |seed| Driver::new(&scenario.scaled(0.05), seed).run(|_| ()).to_json().to_string();
    let first = report(1);
    assert_eq!(first, report(1));
    assert_ne!(first, report(2));
}

fn sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sheratan-sim")).args(arguments).output().expect("the simulator runs")
}

#[test]
fn the_command_prints_a_report_and_writes_a_page() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("slow-nodes.html");
    let page = file.display().to_string();
    let json = sim(&["load", "slow-nodes", "--scale", "0.05", "--json", "--html", &page]);
    assert_eq!(json.status.code(), Some(0), "{}", String::from_utf8_lossy(&json.stderr));
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).expect("one JSON object");
    assert!(report["goodput_per_sec"].as_f64().is_some_and(|goodput| goodput > 1.0), "{report}");
    assert!(report["speed"]["wall_sec"].as_f64().is_some_and(|wall| wall > 0.0), "{report}");
    assert!(json.stderr.is_empty(), "a progress bar is for terminals");
    let html = std::fs::read_to_string(&file).expect("the page was written");
    assert_eq!(html.matches("<svg").count(), 3);
    assert!(html.ends_with("</html>\n") && !html.contains("<script") && !html.contains("NaN"));
    let list = sim(&["load", "--list"]);
    assert_eq!(String::from_utf8_lossy(&list.stdout).lines().count(), library::ALL.len());
}

#[test]
fn an_invalid_scenario_is_refused_by_name_and_line() {
    let mesh = sim(&["load", "default"]);
    assert_eq!(mesh.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&mesh.stderr).contains("not a load: sheratan-sim run --scenario default"));
    let unknown = sim(&["load", "calm"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&unknown.stderr).contains("there is no scenario `calm`; there are default, steady")
    );
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wrong.toml");
    std::fs::write(&file, "# It.\nseconds = 1\n\n[nodes]\ncount = 1\nslot = 2\n").expect("the folder can be written");
    let wrong = sim(&["load", &file.display().to_string()]);
    assert_eq!(wrong.status.code(), Some(2));
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(said.contains("line 6: unknown field `slot`"), "{said}");
}
