//! What is written for users holds: man pages are what is made of the reference and the usage text,
//! every configuration in a document is good, every command line is one, and the tutorial and the
//! examples for those who move are run.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use weir::{cli, config};

#[path = "documents/man.rs"]
mod man;

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn weir(arguments: &[&str]) -> String {
    let run = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(arguments)
        .output();
    let run = run.expect("weir is there");
    assert!(run.status.success(), "{arguments:?}: {run:?}");
    String::from_utf8(run.stdout).expect("text")
}

/// README and all that it leads to.
fn documents() -> Vec<(String, String)> {
    let listed = fs::read_dir(root("docs")).expect("a folder");
    let paths = listed.map(|entry| entry.expect("an entry").path());
    let paths = paths.filter(|path| path.extension().is_some_and(|it| it == "md"));
    let paths = paths.chain([root("README.md")]);
    paths
        .map(|path| {
            let text = fs::read_to_string(&path).expect("text");
            (path.display().to_string(), text)
        })
        .collect()
}

/// The blocks of a document in one language, in their order.
fn blocks<'a>(text: &'a str, languages: &[&str]) -> Vec<(&'a str, &'a str)> {
    let mut blocks = Vec::new();
    for (index, part) in text.split("\n```").enumerate() {
        // What is between blocks has every other place.
        let (language, block) = part.split_once('\n').unwrap_or((part, ""));
        if index % 2 == 1 && languages.contains(&language) {
            blocks.push((language, block));
        }
    }
    blocks
}

#[test]
fn every_configuration_in_a_document_is_good() {
    let mut tried = 0;
    for (name, text) in documents() {
        for (_, block) in blocks(&text, &["yaml"]) {
            let is_whole = block.lines().any(|line| line.starts_with("listen"));
            let rest = match is_whole {
                true => "",
                false => "listen: \":80\"\nmode: http\nbackends: [\"a:1\"]\n",
            };
            let file = format!("{block}\n{rest}");
            let compiled = config::compile(&name, &file, &mut |_| Ok(Vec::new()));
            let problems = compiled.err().unwrap_or_default();
            assert!(problems.is_empty(), "{block}: {problems:?}");
            tried += 1;
        }
    }
    assert!(tried > 30, "only {tried}");
}

#[test]
fn every_command_line_of_weir_in_a_document_is_one() {
    let mut tried = 0;
    for (name, text) in documents() {
        let indented = text
            .lines()
            .filter_map(|line| line.strip_prefix("    weir "));
        let shells = blocks(&text, &["sh"]);
        let lines = shells.iter().flat_map(|(_, block)| block.lines());
        let commands = lines.flat_map(|line| line.split(" && "));
        let shown = commands.filter_map(|command| command.strip_prefix("weir "));
        for command in indented.chain(shown) {
            let command = command.split(" #").next().unwrap_or_default();
            let words = command.split_whitespace().take_while(|word| *word != "&");
            let words: Vec<String> = words.map(str::to_owned).collect();
            let parsed = cli::parse(&words, weir::ctl::is_verb);
            assert!(parsed.is_ok(), "{name}: weir {command}: {parsed:?}");
            tried += 1;
        }
    }
    assert!(tried > 20, "only {tried}");
}

/// The anchors that a page has for its headings, made as forges make them.
fn anchors(text: &str) -> Vec<String> {
    let outside_of_blocks = text.split("\n```").step_by(2);
    let lines = outside_of_blocks.flat_map(str::lines);
    let headings = lines.filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let words = line.trim_start_matches('#').trim().to_lowercase();
            let kept = words.replace(' ', "-");
            kept.replace(|c: char| !c.is_alphanumeric() && c != '-' && c != '_', "")
        })
        .collect()
}

/// Where the links of a page lead that stay among the files here, each with its anchor.
fn links(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let targets = text.split("](").skip(1);
    let targets = targets.filter_map(|link| Some(link.split_once(')')?.0));
    let here = targets.filter(|target| !target.contains("://"));
    here.map(|target| target.split_once('#').unwrap_or((target, "")))
}

#[test]
fn every_link_of_a_document_leads_somewhere() {
    let mut tried = 0;
    let more = ["CHANGELOG.md", "SECURITY.md", "bench/README.md"].map(|path| {
        let path = root(path);
        let text = fs::read_to_string(&path).expect("text");
        (path.display().to_string(), text)
    });
    for (name, text) in documents().into_iter().chain(more) {
        let folder = Path::new(&name).parent().expect("a folder");
        for (file, anchor) in links(&text) {
            let path = match file {
                "" => PathBuf::from(&name),
                file => folder.join(file),
            };
            assert!(path.exists(), "{name}: {file}");
            if !anchor.is_empty() {
                let there = anchors(&fs::read_to_string(&path).expect("text"));
                assert!(
                    there.iter().any(|it| it == anchor),
                    "{name}: {file}#{anchor}, of {there:?}"
                );
                tried += 1;
            }
        }
    }
    assert!(tried > 10, "only {tried}");
}

#[test]
fn the_readme_leads_to_every_document() {
    let text = fs::read_to_string(root("README.md")).expect("text");
    let linked: Vec<&str> = links(&text).map(|(file, _)| file).collect();
    for (name, _) in documents() {
        let name = Path::new(&name).strip_prefix(root("")).expect("it is here");
        let is_linked = linked.iter().any(|file| Path::new(file) == name);
        assert!(
            is_linked || name == Path::new("README.md"),
            "{}",
            name.display()
        );
    }
}

fn succeeded(run: &Output) {
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, errors) = (words(&run.stdout), words(&run.stderr));
    assert!(run.status.success(), "{}\n{out}\n{errors}", run.status);
}

#[cfg(feature = "tls")]
#[test]
fn what_weir_does_is_what_nginx_and_haproxy_do_in_each_example() {
    let run = Command::new("python3")
        .arg(root("tests/moving/run.py"))
        .arg(env!("CARGO_BIN_EXE_weir"))
        .arg(root("docs/moving.md"))
        .output();
    succeeded(&run.expect("python3 is there"));
}

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Ends what the tutorial has started, whatever becomes of it.
const BEGINNING: &str = "set -eu
trap 'for file in *.pid; do kill -9 $(cat $file) 2>/dev/null || true; done' EXIT
";

/// The steps of the tutorial as a script, with ports that are free.
fn tutorial() -> String {
    let mut text = fs::read_to_string(root("docs/tutorial.md")).expect("text");
    let held: Vec<TcpListener> = ["9001", "9002", "8080", "8443"]
        .into_iter()
        .map(|port| {
            let held = TcpListener::bind("127.0.0.1:0").expect("a port");
            let free = held.local_addr().expect("it is bound").port();
            text = text.replace(port, &free.to_string());
            held
        })
        .collect();
    drop(held);
    let mut script = BEGINNING.to_owned();
    for (language, block) in blocks(&text, &["yaml", "sh"]) {
        if language == "yaml" {
            let name = block
                .lines()
                .next()
                .and_then(|line| line.strip_prefix("# "));
            let name = name.expect("its first line names the file");
            script += &format!("cat > {name} <<'END'\n{block}\nEND\n");
            continue;
        }
        for line in block.lines() {
            script += &format!("{}\n", line.replace("curl ", "curl -sSf "));
            if line.ends_with('&') {
                let pid_file = line.split_whitespace().rev().nth(1).expect("a pid file");
                script += &format!("until weir ctl -p {pid_file} status >/dev/null 2>&1; do\n");
                script += "    kill -0 $!; sleep 0.05\ndone\n";
            }
        }
    }
    script
}

#[cfg(feature = "tls")]
#[test]
fn the_tutorial_can_be_followed_step_by_step() {
    let folder = std::env::temp_dir().join(format!("weir-tutorial-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let folder = Folder(folder);
    let bin = Path::new(env!("CARGO_BIN_EXE_weir"))
        .parent()
        .expect("a folder");
    let path = format!(
        "{}:{}",
        bin.display(),
        std::env::var("PATH").expect("a path")
    );
    let run = Command::new("sh")
        .args(["-c", &tutorial()])
        .current_dir(&folder.0)
        .env("PATH", path)
        .output();
    let run = run.expect("a shell");
    succeeded(&run);
    let told = String::from_utf8_lossy(&run.stdout);
    for (words, count) in [("I am one\n", 3), ("I am two\n", 1), ("drain", 1)] {
        assert!(told.matches(words).count() >= count, "{words}: {told}");
    }
}
