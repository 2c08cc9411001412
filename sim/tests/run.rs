//! `sheratan-sim run`: which scenarios it accepts, what it prints, and its exit codes.

// The real program is run.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::Value;
use sheratan_sim::load::library;
use sheratan_sim::mesh::fault::Fault;
use sheratan_sim::mesh::library as plans;
use sheratan_sim::mesh::plan::Plan;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn run(arguments: &[&str]) -> Output {
    command(arguments).output().expect("the simulator runs")
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sheratan-sim"));
    command.arg("run").args(arguments);
    command
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("its output is text")
}

fn complained(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("its complaints are text")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(output)))
}

/// A file with that text, under a name that no other test has.
fn file(name: &str, text: &str) -> String {
    let path = path(name);
    std::fs::write(&path, text).expect("the target's folder can be written");
    path.display().to_string()
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// A plan that fails: nodes drop jobs whose lease lasts a day, so that these do not end in the cool-down.
fn failing() -> Plan {
    let mut plan = Plan { minutes: 1, nodes: 2, clients: 2, submits_per_min: 30, ttl_percent: 0, ..Plan::of(1, 1) };
    // An operator who cancels them would end them.
    (plan.operator, plan.workers) = Default::default();
    plan.limits.lease_ms = 86_400_000;
    plan.faults = [(Fault::DropJob, 10_000), (Fault::LoseReply, 10)].into();
    plan
}

#[test]
fn a_load_scenario_runs_under_its_name_as_it_does_under_load() {
    let run = run(&["--scenario", "slow-nodes", "--seed", "3", "--scale", "0.05", "--twice", "--json"]);
    assert_eq!(run.status.code(), Some(0), "{}", complained(&run));
    let load = Command::new(env!("CARGO_BIN_EXE_sheratan-sim"))
        .args(["load", "slow-nodes", "--seed", "3", "--scale", "0.05", "--json"])
        .output()
        .expect("the simulator runs");
    let [run, load] = [&run, &load].map(|output| {
        let mut report = json(output);
        report["speed"] = Value::Null;
        report
    });
    assert_eq!(run, load);
}

#[test]
fn the_list_has_the_mesh_and_every_scenario_with_what_each_shows() {
    let list = said(&run(&["--list"]));
    assert_eq!(list.lines().count(), 1 + library::ALL.len() + plans::ALL.len(), "{list}");
    assert!(list.starts_with("default ") && list.lines().all(|line| line.len() > 60), "{list}");
    let list = json(&run(&["--list", "--json"]));
    assert_eq!((&list[0]["name"], &list[3]["name"]), (&"default".into(), &"spike".into()));
}

#[test]
fn a_name_that_is_none_is_refused_with_the_nearest_one_and_the_list() {
    let unknown = run(&["--scenario", "spkie"]);
    assert_eq!(unknown.status.code(), Some(2));
    let complaint = complained(&unknown);
    assert!(
        complaint.contains("there is no scenario `spkie` (did you mean spike?); there are default, "),
        "{complaint}"
    );
}

#[test]
fn a_file_is_what_its_content_says_and_a_wrong_one_is_refused_with_the_reason() {
    let load =
        "# It.\nseconds = 5\n[arrivals]\nrate = { shape = \"constant\", per_sec = 5 }\n[nodes]\ncount = 2\nslots = 1\n";
    let report = json(&run(&["--scenario", &file("a-load.toml", load), "--json"]));
    assert_eq!((&report["shows"], &report["virtual_sec"]), (&"It.".into(), &5.into()));
    let plan = Plan::of(4, 1).to_string();
    let report = json(&run(&["--scenario", &file("a-plan.toml", &plan), "--json"]));
    assert_eq!((&report["seed"], &report["ok"]), (&4.into(), &true.into()));
    let wrong = [
        ("wrong-plan.toml", plan.replace("clients = ", "customers = "), "line 4: unknown field `customers`"),
        ("nobody.toml", plan.replace("clients = ", "clients = 0 # "), "line 4: clients must be from 1 to 10000, not 0"),
        ("wrong-load.toml", load.replace("slots", "slot"), "line 7: unknown field `slot`"),
        ("neither.toml", "colour = 3\n".to_owned(), "line 1: it is neither a load scenario"),
        ("history.txt", "== It is well.\nkey 3\nsync\n".to_owned(), "sheratan-sim model replay "),
        ("no-toml.toml", "seconds = [\n".to_owned(), "line 1: "),
    ];
    for (name, text, reason) in wrong {
        let refused = run(&["--scenario", &file(name, &text)]);
        assert_eq!(refused.status.code(), Some(2), "{name}");
        let complaint = complained(&refused);
        assert!(complaint.contains(name) && complaint.contains(reason), "{complaint}");
    }
    let missing = run(&["--scenario", "/nowhere/at-all.toml"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(complained(&missing).contains("/nowhere/at-all.toml cannot be read: "), "{}", complained(&missing));
}

#[test]
fn options_that_do_not_apply_to_a_scenario_are_refused_by_name() {
    let table: [(&[&str], &str); 6] = [
        (&["--scenario", "spike", "--minutes", "3"], "spike: --minutes is for runs of the mesh"),
        (&["--scenario", "spike", "--seeds", "0..3"], "spike: --seeds is for runs of the mesh"),
        (&["--scenario", "spike", "--shrink"], "spike: --shrink is for runs of the mesh"),
        (&["--scale", "2"], "default: --scale is for load scenarios"),
        (&["--scenario", "spike", "ramp", "--html", "a.html"], "spike: --html is for one scenario"),
        (&["--seed", "3", "--jobs", "2"], "default: --jobs is for many seeds"),
    ];
    for (arguments, reason) in table {
        let refused = run(arguments);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
        assert!(complained(&refused).contains(reason), "{arguments:?}: {}", complained(&refused));
    }
}

#[test]
fn a_file_that_fails_prints_the_command_that_fails_again() {
    let file = file("starves.toml", &failing().to_string());
    let failed = run(&["--scenario", &file]);
    assert_eq!(failed.status.code(), Some(1));
    let said = said(&failed);
    assert!(said.contains("seed 1 failed at ") && said.contains(": no job starves: "), "{said}");
    let again = said.lines().find_map(|line| line.strip_prefix("reproduce it: ")).expect("it says how");
    assert_eq!(again, format!("sheratan-sim run --scenario {file} --seed 1"));
    let arguments: Vec<_> = again.split(' ').skip(2).collect();
    let other = run(&arguments);
    assert_eq!((other.status.code(), other.stdout), (Some(1), failed.stdout));
}

#[test]
fn of_several_scenarios_each_is_reported_in_a_line_and_a_failure_in_full() {
    let fails = file("starves-too.toml", &failing().to_string());
    let well = file("is-well.toml", &Plan::of(4, 1).to_string());
    let both = run(&["--scenario", &well, &fails]);
    assert_eq!(both.status.code(), Some(1));
    let said = said(&both);
    assert!(said.starts_with(&format!("{well}: well (")) && said.contains(&format!("\n{fails}: failed\n")), "{said}");
    assert!(said.contains(&format!("reproduce it: sheratan-sim run --scenario {fails} --seed 1")), "{said}");
    let both = json(&run(&["--scenario", &well, &fails, "--json"]));
    assert_eq!(both["ok"], false);
    let ok = [0, 1].map(|no| both["scenarios"][no]["ok"].as_bool().expect("each says so"));
    assert_eq!(ok, [true, false]);
    assert_eq!(both["scenarios"][1]["report"]["invariant"], "no job starves");
}

#[test]
fn a_failing_file_is_shrunk_to_a_scenario_file_that_fails_alike() {
    let shrunk = run(&["--scenario", &file("starves-as-well.toml", &failing().to_string()), "--shrink"]);
    assert_eq!(shrunk.status.code(), Some(0));
    let text = said(&shrunk);
    let plan = Plan::parse(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!((plan.nodes, plan.clients, plan.faults.keys().collect::<Vec<_>>()), (1, 1, vec![&Fault::DropJob]));
    let again = run(&["--scenario", &file("shrunk.toml", &text), "--json"]);
    assert_eq!((again.status.code(), &json(&again)["invariant"]), (Some(1), &"no job starves".into()));
    assert!(complained(&shrunk).contains("still fails: 1 faults"), "{}", complained(&shrunk));
}

#[test]
fn a_run_is_written_as_a_page_whether_it_goes_well_or_fails() {
    let page = path("mesh.html").display().to_string();
    let well = run(&["--seed", "3", "--minutes", "1", "--html", &page, "--json"]);
    assert_eq!((well.status.code(), &json(&well)["ok"]), (Some(0), &true.into()));
    let html = std::fs::read_to_string(&page).expect("the page was written");
    assert!(html.contains("No invariant was violated.") && html.contains("--seed 3 --minutes 1"), "{html}");
    assert!(html.ends_with("</html>\n") && !html.contains("<script") && !html.contains("NaN"));
    let fails = file("starves-on-a-page.toml", &failing().to_string());
    assert_eq!(run(&["--scenario", &fails, "--html", &page]).status.code(), Some(1));
    let html = std::fs::read_to_string(&page).expect("the page was written");
    assert!(html.contains("<h2>Violated: no job starves</h2>") && html.contains("<h2>The last events</h2>"), "{html}");
    let nowhere = run(&["--seed", "3", "--minutes", "1", "--html", "/nowhere/at/all.html"]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(complained(&nowhere).contains("/nowhere/at/all.html cannot be written"), "{}", complained(&nowhere));
}

#[test]
fn a_timeline_changes_nothing_in_a_run() {
    let page = path("looked-at.html").display().to_string();
    let trails = [&["--seed", "9", "--json"][..], &["--seed", "9", "--json", "--html", &page][..]]
        .map(|arguments| json(&run(arguments))["trail_hash"].clone());
    assert_eq!(trails[0], trails[1]);
}

#[test]
fn a_page_is_written_though_standard_output_is_closed() {
    let page = path("unread.html");
    _ = std::fs::remove_file(&page);
    let mut run = command(&["--seed", "9", "--html", page.to_str().expect("text")]);
    let mut child = run.stdout(Stdio::piped()).spawn().expect("the simulator runs");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    assert!(std::fs::read_to_string(page).expect("the page is there").contains("</html>"));
}

#[test]
fn seeds_of_a_file_are_runs_of_its_plan() {
    let file = file("for-seeds.toml", &Plan::of(4, 1).to_string());
    let totals = json(&run(&["--scenario", &file, "--seeds", "4..6", "--json"]));
    assert_eq!((&totals["seeds"], &totals["ok"]), (&2.into(), &true.into()));
    let trails = ["4", "5"].map(|seed| {
        let trail = json(&run(&["--scenario", &file, "--seed", seed, "--json"]))["trail_hash"].clone();
        u128::from_str_radix(trail.as_str().expect("a hash"), 16).expect("in hex")
    });
    assert_eq!(totals["trail_hash"], format!("{:032x}", trails[0].wrapping_add(trails[1])));
}

#[test]
fn with_keep_going_seeds_run_though_some_fail() {
    // Few jobs, of which few are dropped: in some runs none is.
    let mut plan = Plan { submits_per_min: 6, ..failing() };
    plan.faults = [(Fault::DropJob, 600)].into();
    let file = file("some-fail.toml", &plan.to_string());
    let alone: Vec<_> =
        (0..8).map(|seed| json(&run(&["--scenario", &file, "--seed", &seed.to_string(), "--json"]))).collect();
    let failed: Vec<_> = alone.iter().filter(|report| report["ok"] == false).collect();
    assert!(!failed.is_empty() && failed.len() < 8, "some fail and some do not");

    let all = run(&["--scenario", &file, "--seeds", "0..8", "--keep-going", "--json"]);
    assert_eq!(all.status.code(), Some(1));
    let totals = json(&all);
    assert_eq!((&totals["ok"], &totals["seeds"]), (&false.into(), &(8 - failed.len()).into()));
    assert_eq!(totals["failed"], failed.len());
    let first = &totals["failures"][0];
    for member in ["seed", "invariant", "detail", "reproduce"] {
        assert_eq!(first[member], failed[0][member], "{member}");
    }
    let report_text = complained(&all);
    for report in &failed {
        assert!(report_text.contains(&format!("seed {} failed at ", report["seed"])), "{report_text}");
    }
    let text = said(&run(&["--scenario", &file, "--seeds", "0..8", "--keep-going"]));
    let summary = format!("{} seeds failed\n{} violate: no job starves\n", failed.len(), failed.len());
    assert!(text.contains(&summary) && text.contains(&format!(" --seed {}", failed[0]["seed"])), "{text}");
    assert_eq!(run(&["--keep-going"]).status.code(), Some(2), "it is for many seeds");
}

#[cfg(target_os = "linux")]
mod interrupted {
    use super::{command, json, path};
    use serde_json::Value;
    use sheratan_tests::until;
    use std::process::{Child, Command, Output, Stdio};

    /// Interrupts the simulator as soon as it listens.
    fn interrupted(arguments: &[&str]) -> Output {
        let mut command = command(arguments);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the simulator runs");
        until("the simulator listens", || catches_interrupts(&child));
        let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("there is a kill");
        assert!(killed.success());
        child.wait_with_output().expect("it ends")
    }

    /// The second signal of the mask of those that are caught.
    fn catches_interrupts(child: &Child) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).expect("it runs");
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("Linux says so");
        u64::from_str_radix(mask.trim(), 16).expect("a mask in hex") & 0b10 != 0
    }

    #[test]
    fn seeds_end_with_what_was_reached_and_how_to_go_on() {
        let output = interrupted(&["--seeds", "0..100000000", "--minutes", "1", "--json"]);
        assert_eq!(output.status.code(), Some(130));
        let totals = json(&output);
        let next = totals["next_seed"].as_u64().expect("it says which seed is next");
        assert_eq!((&totals["ok"], &totals["interrupted"]), (&false.into(), &Value::Bool(true)));
        assert!(totals["seeds"].as_u64().is_some_and(|seeds| seeds >= next), "all seeds before the next have run");
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        let onward = format!("--scenario default --seeds {next}..100000000 --minutes 1");
        assert!(complaint.contains(&onward), "{complaint}");
    }

    #[test]
    fn a_long_run_ends_with_how_far_it_came() {
        let page = path("interrupted.html");
        let output = interrupted(&["--seed", "7", "--minutes", "500000", "--html", page.to_str().expect("text")]);
        assert_eq!(output.status.code(), Some(130));
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(complaint.starts_with("interrupted: seed 7 was well for "), "{complaint}");
        let html = std::fs::read_to_string(page).expect("the page is written");
        assert!(html.contains("It was interrupted after ") && html.contains("</html>"));
    }

    #[test]
    fn a_load_ends_too() {
        let output = interrupted(&["--scenario", "million-nodes"]);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(130), 0));
    }
}
