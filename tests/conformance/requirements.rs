//! The requirements of RFC 9110 and RFC 9112, and that each of them is answered.
//!
//! ```text
//! 9112 6.3   what must or must not be done, in our own words
//!   = the name of a case
//!   @ tests/http/file.rs a_test_in_that_file
//!   - the reason why there is no case
//! ```

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use super::{FILES, script};

const TABLE: &str = include_str!("requirements.txt");

/// One requirement.
#[derive(Debug)]
struct Row<'a> {
    line: usize,
    text: &'a str,
    cases: Vec<&'a str>,
    tests: Vec<(&'a str, &'a str)>,
    reasons: Vec<&'a str>,
}

fn rows() -> Vec<Row<'static>> {
    let mut rows: Vec<Row<'static>> = Vec::new();
    for (n, line) in TABLE.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some(answer) = line.strip_prefix("  ") else {
            rows.push(Row {
                line: n + 1,
                text: line,
                cases: Vec::new(),
                tests: Vec::new(),
                reasons: Vec::new(),
            });
            continue;
        };
        let row = rows.last_mut().expect("an answer follows its requirement");
        match answer.split_once(' ') {
            Some(("=", name)) => row.cases.push(name),
            Some(("-", reason)) => row.reasons.push(reason),
            Some(("@", place)) => {
                let place = place.split_once(' ').expect("a file and a test");
                row.tests.push(place);
            }
            _ => panic!("requirements.txt:{}: what is that?", n + 1),
        }
    }
    rows
}

#[test]
fn every_requirement_has_a_case_or_a_reason() {
    let cases = FILES
        .iter()
        .flat_map(|(file, text)| script::parse(file, text));
    let cases: HashSet<String> = cases.map(|case| case.name).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut failures = Vec::new();
    for row in rows() {
        let mut fail = |what: &str| {
            failures.push(format!(
                "requirements.txt:{}: {what}: {}",
                row.line, row.text
            ));
        };
        if row.cases.is_empty() && row.tests.is_empty() && row.reasons.is_empty() {
            fail("neither a case nor a reason");
        }
        if !row.text.starts_with("9110 ") && !row.text.starts_with("9112 ") {
            fail("no section");
        }
        for name in row.cases.iter().filter(|name| !cases.contains(**name)) {
            fail(&format!("no such case: {name}"));
        }
        for (file, test) in row.tests {
            let text = fs::read_to_string(root.join(file)).unwrap_or_default();
            if !text.contains(&format!("fn {test}(")) {
                fail(&format!("no such test: {file} {test}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
