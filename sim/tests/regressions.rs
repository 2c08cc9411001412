//! Regressions: what was once found stays found.

use sheratan_sim::mesh;
use sheratan_sim::mesh::plan::Plan;
use sheratan_sim::model_check::run::run_steps;
use sheratan_sim::model_check::scenario::Scenario;
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
        assert!(text.starts_with("# "), "{name}: the first line says what it shows");
        let result = match path.extension().and_then(|extension| extension.to_str()) {
            Some("txt") => {
                let scenario = Scenario::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
                run_steps(scenario.key_seed, &scenario.steps).map(drop).map_err(|failure| failure.to_string())
            }
            Some("toml") => {
                let plan = Plan::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
                mesh::run::run(&plan, |_| {}).map(drop).map_err(|failure| failure.to_string())
            }
            _ => panic!("{name}: a regression is a list of steps (.txt) or a plan of the mesh (.toml)"),
        };
        wrong.extend(result.err().map(|failure| format!("{name}: {failure}")));
        count += 1;
    }
    assert!(count > 0, "there are regressions in {}", folder.display());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
