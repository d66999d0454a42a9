//! Sizes: a file is one idea that fits in a head.

use crate::{Violation, workspace::Workspace};

/// The longest file, without its tests.
const MAX_FILE_LINES: usize = 600;
/// The greatest median, over all files without their tests.
const MAX_MEDIAN_LINES: usize = 200;

pub fn check(workspace: &Workspace) -> Vec<Violation> {
    let lengths: Vec<(&str, usize)> = workspace
        .sources
        .iter()
        .filter(|(path, _)| !is_test(path))
        .map(|(path, text)| (path.as_str(), lines_without_tests(text)))
        .collect();
    let mut found: Vec<_> = lengths
        .iter()
        .filter(|(_, lines)| *lines > MAX_FILE_LINES)
        .map(|(path, lines)| {
            Violation::new(*path, format!("{lines} lines exceed {MAX_FILE_LINES}"))
        })
        .collect();
    let mut sorted: Vec<_> = lengths.iter().map(|(_, lines)| *lines).collect();
    sorted.sort_unstable();
    if let Some(median) = sorted.get(sorted.len() / 2).filter(|lines| **lines > MAX_MEDIAN_LINES) {
        let rule = format!("the median file has {median} lines, more than {MAX_MEDIAN_LINES}");
        found.push(Violation::new("the workspace", rule));
    }
    found
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs") || path.ends_with("_tests.rs")
}

/// Lines before the file's own test module, which stands last.
fn lines_without_tests(text: &str) -> usize {
    let lines: Vec<_> = text.lines().collect();
    lines.iter().position(|line| *line == "mod tests {").unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(files: &[(&str, usize)]) -> Workspace {
        let mut workspace = Workspace::default();
        for (path, lines) in files {
            workspace.sources.insert((*path).to_owned(), "\n".repeat(*lines));
        }
        workspace
    }

    #[test]
    fn a_long_file_is_found_and_a_long_test_is_not() {
        let tree = [
            ("a/src/long.rs", 601),
            ("a/tests/it/main.rs", 900),
            ("a/src/b.rs", 1),
            ("a/src/c.rs", 1),
        ];
        let found = check(&workspace(&tree));
        assert_eq!(found, [Violation::new("a/src/long.rs", "601 lines exceed 600")]);
    }

    #[test]
    fn a_high_median_is_found() {
        let found = check(&workspace(&[("a/src/b.rs", 201)]));
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn a_test_module_at_the_end_does_not_count() {
        assert_eq!(lines_without_tests("fn a() {}\n#[cfg(test)]\nmod tests {\n}\n"), 2);
    }
}
