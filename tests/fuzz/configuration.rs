//! What must hold of a configuration file whatever its bytes are.

use std::io;

use weir::config;

/// Of text as a configuration: every error has a place in it and is one readable line; and what
/// is good is written out, with every default, as what is understood the same.
pub(crate) fn configuration(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let compiled = match compile(&text) {
        Ok(compiled) => compiled,
        Err(told) => {
            assert!(!told.is_empty());
            for line in told {
                check(&line, &text);
            }
            return;
        }
    };
    for warning in &compiled.warnings {
        check(&warning.to_string(), &text);
    }
    let written = config::render(&compiled.config);
    let again = compile(&written).unwrap_or_else(|told| panic!("{told:?} in\n{written}"));
    assert_eq!(again.config, compiled.config);
}

/// Files that it refers to are an error page or missing.
fn compile(text: &str) -> Result<config::Compiled, Vec<String>> {
    let compiled = config::compile("weir.yaml", text, &mut |path| match path
        .extension()
        .is_some_and(|it| it == "html")
    {
        true => Ok(b"<p>Sorry".to_vec()),
        false => Err(io::ErrorKind::NotFound.into()),
    });
    compiled.map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

fn check(told: &str, text: &str) {
    // A tab that stands in a word is shown as it is.
    assert!(
        !told.chars().any(|c| c != '\t' && c.is_control()),
        "{told:?}"
    );
    let mut parts = told.splitn(4, ':').skip(1);
    let mut place = || parts.next().and_then(|it| it.parse::<usize>().ok());
    let (Some(line), Some(column)) = (place(), place()) else {
        panic!("{told:?} has no place");
    };
    // YAML also ends a line with a carriage return, and with three characters of Unicode.
    let is_end = |c: char| matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let lines = text.chars().filter(|c| is_end(*c)).count() + 1;
    assert!((1..=lines + 1).contains(&line), "{told:?}");
    assert!(column >= 1, "{told:?}");
}
