//! Man pages, from what there is already: weir(8) from the usage text and weir.yaml(5) from
//! conf/reference.yaml. `WEIR_BLESS=1` writes them anew.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use weir::config::reference::entries;

use crate::{root, weir};

/// Where the usage text says what an option does.
const ABOUT_COLUMN: usize = 24;
const DATE: &str = "November 28, 2026";

/// Text of a page: each sentence begins a line, as mandoc(1) asks for, and none is long.
fn prose(text: &str) -> String {
    const COLUMNS: usize = 76;
    let mut out = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        if column > 0 {
            let is_end = out.ends_with(['.', '?']) || column + word.len() > COLUMNS;
            out.push(if is_end { '\n' } else { ' ' });
            column = if is_end { 0 } else { column };
        }
        let word = escaped(word);
        // A word that begins a line must not be taken for a request.
        if column == 0 && word.starts_with(['.', '\'']) {
            out += "\\&";
        }
        out += &word;
        column += word.len() + 1;
    }
    out + "\n"
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

/// A block that is shown as it stands.
fn literal(text: &str) -> String {
    let lines = text.trim_matches('\n').lines();
    let lines = lines.map(|line| {
        let line = escaped(line);
        let guard = if line.starts_with(['.', '\'']) {
            "\\&"
        } else {
            ""
        };
        format!("{guard}{line}\n")
    });
    format!(".Bd -literal\n{}.Ed\n", lines.collect::<String>())
}

fn item(name: &str, value: &str, about: &str) -> String {
    let value = match value {
        "" => String::new(),
        value => format!(" No \"{}\"", escaped(value).replace('"', "\\(dq")),
    };
    format!(".It Sy {}{value}\n{}", escaped(name), prose(about))
}

/// The options of the usage text: name, argument and what they do.
fn options(usage: &str) -> Vec<(String, String)> {
    let mut options: Vec<(String, String)> = Vec::new();
    let lines = usage
        .lines()
        .skip_while(|line| !line.starts_with("Options:"));
    for line in lines
        .skip(1)
        .take_while(|line| !line.starts_with("Signals:"))
    {
        let words = line.trim();
        if words.is_empty() {
            continue;
        }
        if words.starts_with('-') {
            let (name, about) = line.split_at(ABOUT_COLUMN);
            options.push((name.trim().to_owned(), about.to_owned()));
        } else if let Some((_, about)) = options.last_mut() {
            *about = format!("{about} {words}");
        }
    }
    options
}

fn program_page() -> String {
    let usage = weir(&["--help"]);
    let (_, tail) = usage.split_once("\nSignals:").expect("signals");
    let mut page = format!(
        ".\\\" Made by tests/documents/man.rs of the usage text.\n.Dd {DATE}\n.Dt WEIR 8\n.Os\n\
         .Sh NAME\n.Nm weir\n.Nd TCP and HTTP load balancer\n.Sh SYNOPSIS\n.Nm\n\
         .Op Fl c Ar FILE\n.Op Ar options\n.Nm\n.Cm ctl\n.Ar VERB ...\n.Nm\n.Cm top\n\
         .Sh DESCRIPTION\n"
    );
    page += &prose(
        "weir spreads TCP connections and HTTP requests over healthy backends. It stays in the \
         foreground and serves what its configuration says, by default that in \
         /etc/weir/weir.yaml, which weir.yaml(5) describes. A mistake in the file never starts \
         anything.",
    );
    page += ".Pp\nThe options are:\n.Bl -tag -width Ds\n";
    for (name, about) in options(&usage) {
        page += &item(&name, "", &about);
    }
    page += ".El\n.Sh ASKING AND STEERING\n";
    page += &literal(&weir(&["ctl", "--help"]));
    page += ".Sh SIGNALS AND EXIT STATUS\n";
    page += &literal(&format!("Signals:{tail}"));
    page += ".Sh FILES\n.Bl -tag -width Ds\n";
    for (path, about) in [
        (
            "/etc/weir/weir.yaml",
            "The configuration that is read when no other is named.",
        ),
        (
            "/run/weir/admin.sock",
            "The admin socket, unless there is a pid file beside which it lies.",
        ),
        ("/var/lib/weir", "Where changes by hand are kept."),
    ] {
        let _ = write!(page, ".It Pa {path}\n{}", prose(about));
    }
    page += ".El\n.Sh EXAMPLES\nA file to begin with, its check, and a start:\n";
    page += &literal(
        "weir --help example > weir.yaml\nweir -t -c weir.yaml\nweir -c weir.yaml -p weir.pid",
    );
    page + ".Sh SEE ALSO\n.Xr weir.yaml 5\n"
}

fn file_page() -> String {
    let mut page = format!(
        ".\\\" Made by tests/documents/man.rs of conf/reference.yaml.\n.Dd {DATE}\n\
         .Dt WEIR.YAML 5\n.Os\n.Sh NAME\n.Nm weir.yaml\n.Nd configuration of weir\n\
         .Sh DESCRIPTION\n"
    );
    page += &prose(
        "The file is YAML, of at most 1 MiB. weir -t checks it, weir -T prints it with every \
         default, and weir --help KEY prints what is said of a key here. In the short form the \
         keys of one listener and of one upstream stand at the top level; in the full form there \
         are listeners and upstreams. Values below are the defaults, unless it says example. A \
         key is named with those that it stands under: listeners[] is each of a list, NAME what \
         the file calls it.",
    );
    page += ".Pp\n";
    page += &prose(
        "Durations are written as 500ms, 5s, 1m30s, 1h or 1d, sizes as 512B, 64KiB, 1MiB, 1MB or \
         a number of bytes. What is turned on or off takes on, off, yes, no, true and false. Keys \
         of the top level that begin with x- are ignored: they are for anchors, which << takes \
         the entries of.",
    );
    let parts = [
        ("The process", ""),
        ("Listeners", "listeners"),
        ("Upstreams", "upstreams"),
    ];
    page += ".Sh KEYS\n";
    for (title, top) in parts {
        let _ = write!(page, ".Ss {title}\n.Bl -tag -width Ds\n");
        for entry in entries() {
            let first = entry.path.split(['.', '[']).next().unwrap_or_default();
            let own = if parts.iter().any(|(_, top)| *top == first) {
                first
            } else {
                ""
            };
            if own == top {
                page += &item(&entry.path, entry.value, &entry.about);
            }
        }
        page += ".El\n";
    }
    page += ".Sh EXAMPLES\n";
    page += &literal(&weir(&["--help", "example"]));
    page + ".Sh SEE ALSO\n.Xr weir 8\n"
}

#[test]
fn man_pages_are_what_is_made_of_their_sources() {
    for (name, page) in [("weir.8", program_page()), ("weir.yaml.5", file_page())] {
        let path = root("docs/man").join(name);
        if std::env::var_os("WEIR_BLESS").is_some() {
            fs::create_dir_all(root("docs/man")).expect("a folder");
            fs::write(&path, &page).expect("it can be written");
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(committed, page, "{name}: WEIR_BLESS=1 writes it anew");
        let lint = Command::new("mandoc")
            .args(["-T", "lint"])
            .arg(&path)
            .output();
        let lint = lint.expect("mandoc is there");
        let said = String::from_utf8_lossy(&lint.stdout);
        // The other page need not be installed.
        let mut said = said
            .lines()
            .filter(|line| !line.contains("referenced manual not found"));
        assert_eq!(said.next(), None);
    }
}
