//! Regressions: what was once found stays found.

use sheratan_history::Histories;
use sheratan_sim::mesh;
use sheratan_sim::mesh::plan::Plan;
use sheratan_sim::model_check::run::run_steps;
use std::path::Path;

#[test]
fn every_regression_in_the_folder_runs_without_a_violation() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let mut wrong = Vec::new();
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).expect("the folder of regressions is there") {
        let path = entry.expect("its entries can be read").path();
        let text = std::fs::read_to_string(&path).expect("a regression can be read");
        let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
        let is_text = path.extension().is_some_and(|extension| extension == "txt");
        let first = if is_text { "== " } else { "# " };
        assert!(text.starts_with(first), "{name}: the first line says what it shows");
        let result = match path.extension().and_then(|extension| extension.to_str()) {
            Some("txt") => {
                let histories = Histories::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
                let [history] = &histories.sections[..] else { panic!("{name}: it holds one history") };
                run_steps(history.key_seed, &history.steps()).map(drop).map_err(|failure| failure.to_string())
            }
            Some("toml") => {
                let plan = Plan::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
                mesh::run::run(&plan, |_| {}).map(drop).map_err(|failure| failure.to_string())
            }
            _ => panic!("{name}: a regression is a history (.txt) or a plan of the mesh (.toml)"),
        };
        wrong.extend(result.err().map(|failure| format!("{name}: {failure}")));
        count += 1;
    }
    assert!(count > 0, "there are regressions in {}", folder.display());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
