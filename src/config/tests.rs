//! Whole files: good ones by what they compile to, bad ones by every message.

use std::io;
use std::path::Path;

use super::{Compiled, compile, render};

fn no_files(_: &Path) -> io::Result<Vec<u8>> {
    Err(io::Error::from(io::ErrorKind::NotFound))
}

fn good(text: &str) -> Compiled {
    compile("f", text, &mut no_files).unwrap_or_else(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        panic!("{text}\n{}", lines.join("\n"));
    })
}

#[test]
fn every_example_file_loads_and_renders_to_itself() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    for (file, warnings) in [
        ("weir.yaml", 1),
        ("minimal.yaml", 0),
        ("demo.yaml", 0),
        ("reference.yaml", 1),
    ] {
        let compiled = super::load(&folder.join(file)).unwrap_or_else(|problems| {
            panic!(
                "{}",
                problems
                    .iter()
                    .map(|p| format!("{p}\n"))
                    .collect::<String>()
            )
        });
        assert_eq!(
            compiled.warnings.len(),
            warnings,
            "{file}: {:?}",
            compiled.warnings
        );
        let rendered = render(&compiled.config);
        assert_eq!(
            good(&rendered).config,
            compiled.config,
            "{file}\n{rendered}"
        );
    }
}
