//! The scenarios of level 2: `cargo xtask sim`, which depends on nothing, and the crate that runs them
//! name the same.

use std::collections::BTreeSet;

use crate::{Violation, workspace::Workspace};

/// Where a test is named for each.
const COMMAND: &str = "xtask/src/sim.rs";
/// Where each is declared.
const DECLARED: &str = "simulations/world/src/level2.rs";
/// Where the tests are.
const TESTS: &str = "simulations/world/tests/it/";

pub fn check(workspace: &Workspace) -> Vec<Violation> {
    let text = |path: &str| workspace.sources.get(path).map_or("", String::as_str);
    let named = named(text(COMMAND));
    let names: BTreeSet<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
    let declared = declared(text(DECLARED));
    let mut found = Vec::new();
    for name in declared.symmetric_difference(&names) {
        let rule = format!("the scenario {name:?} of level 2 is not both here and in {DECLARED}");
        found.push(Violation::new(COMMAND, rule));
    }
    let tests = workspace.sources.iter().filter(|(path, _)| path.starts_with(TESTS));
    let tests: Vec<&str> = tests.map(|(_, text)| text.as_str()).collect();
    for (name, test) in &named {
        let defined = format!("fn {}()", test.rsplit("::").next().unwrap_or(test));
        if !tests.iter().any(|text| text.contains(&defined)) {
            let rule = format!("the test of the scenario {name:?} is none: {test:?}");
            found.push(Violation::new(COMMAND, rule));
        }
    }
    found
}

/// Each scenario and its test, out of the list of the command.
fn named(text: &str) -> Vec<(String, String)> {
    let list = text.split_once("LEVEL_2: &[(&str, &str)] = &[").map_or("", |(_, after)| after);
    let list = list.split_once("];").map_or("", |(list, _)| list);
    // A text may go on in the next line.
    let strings = list.split('"').skip(1).step_by(2);
    let whole = |text: &str| text.split('\\').map(str::trim_start).collect::<String>();
    let strings: Vec<String> = strings.map(whole).collect();
    strings.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}

fn declared(text: &str) -> BTreeSet<&str> {
    let after = text.split("name: \"").skip(1);
    after.filter_map(|after| after.split_once('"')).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "const LEVEL_2: &[(&str, &str)] = &[\n    (\"one\", \"a::first\"),\n    (\n        \
                        \"two\",\n        \"b::\\\n         second\",\n    ),\n];\n";

    fn workspace(declared: &str, tests: &str) -> Workspace {
        let files =
            [(COMMAND, LIST), (DECLARED, declared), ("simulations/world/tests/it/a.rs", tests)];
        Workspace {
            sources: files.map(|(path, text)| (path.to_owned(), text.to_owned())).into(),
            ..Workspace::default()
        }
    }

    const BOTH: &str = "Scenario { name: \"one\", plants: &[] }; Scenario { name: \"two\" }";
    const TESTS_OF_BOTH: &str = "fn first() {}\nfn second() {}";

    #[test]
    fn lists_that_agree_pass() {
        assert_eq!(check(&workspace(BOTH, TESTS_OF_BOTH)), []);
    }

    #[test]
    fn a_scenario_that_only_one_list_has_and_a_test_that_is_none_are_found() {
        let more = format!("{BOTH} Scenario {{ name: \"three\" }}");
        assert_eq!(check(&workspace(&more, TESTS_OF_BOTH)).len(), 1);
        assert_eq!(check(&workspace("name: \"one\"", TESTS_OF_BOTH)).len(), 1);
        assert_eq!(check(&workspace(BOTH, "fn first() {}")).len(), 1);
    }
}
