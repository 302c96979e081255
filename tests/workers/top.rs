//! `weir top` in a terminal of 80 columns and 24 rows, which tmux keeps.

use std::path::Path;
use std::process::{Command, Output};

use crate::harness::process::binary;
use crate::harness::{Launch, Named, Scratch, eventually};
use crate::machine::{Machine, config};
use crate::software::is_installed;

const COLUMNS: usize = 80;
const ROWS: usize = 24;

/// A terminal with a shell in it, by a server of its own.
struct Terminal {
    scratch: Scratch,
}

impl Terminal {
    fn open() -> Self {
        let terminal = Self {
            scratch: Scratch::new(),
        };
        let (columns, rows) = (COLUMNS.to_string(), ROWS.to_string());
        let size = ["-x", columns.as_str(), "-y", rows.as_str()];
        let shell = [
            "env",
            "-i",
            "PS1=ready> ",
            "TERM=screen",
            "PATH=/usr/bin:/bin",
            "sh",
        ];
        let words = [&["new-session", "-d"][..], &size, &shell].concat();
        terminal.tmux(&words);
        eventually("the shell is there", || {
            terminal.shows(&["ready>"]).then_some(())
        });
        terminal
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new("tmux");
        command.env_remove("TMUX");
        command.arg("-S").arg(self.scratch.file("tmux.sock"));
        command.args(["-f", "/dev/null"]).args(words);
        command.output().expect("tmux is there")
    }

    fn tmux(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    fn shows(&self, parts: &[&str]) -> bool {
        let screen = self.screen();
        parts.iter().all(|part| screen.contains(part))
    }

    fn wait(&self, parts: &[&str]) -> String {
        eventually(&format!("the screen shows {parts:?}"), || {
            let screen = self.screen();
            let shows_all = parts.iter().all(|part| screen.contains(part));
            shows_all.then_some(screen)
        })
    }

    fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    fn say(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.press(&["Enter"]);
    }

    /// How the terminal is set.
    fn settings(&self) -> String {
        let file = self.scratch.file("settings");
        let _ = std::fs::remove_file(&file);
        self.say(&format!(
            "stty -g > {}.new && mv {0}.new {0}",
            file.display()
        ));
        eventually("the settings are told", || {
            std::fs::read_to_string(&file).ok()
        })
    }

    /// That it has been left as it was.
    fn expect_left(&self, settings: &str) {
        self.wait(&["marker before", "ready>"]);
        let flags = self.tmux(&["display", "-p", "#{alternate_on} #{cursor_flag}"]);
        assert_eq!(flags.trim(), "0 1", "no other screen, and a cursor");
        assert_eq!(self.settings(), settings);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.run(&["kill-server"]);
    }
}

fn top(socket: &Path) -> String {
    let program = Path::new(&binary()).display().to_string();
    format!("{program} ctl top --socket {}", socket.display())
}

#[test]
fn it_shows_backends_hears_keys_and_leaves_the_terminal_as_it_was() {
    if !is_installed("tmux") {
        return;
    }
    let [a, b] = ["A", "B"].map(Named::new);
    let scratch = Scratch::new();
    let file = config().backend_with(a.address(), "id: alpha");
    let file = file.backend_with(b.address(), "id: beta");
    let launch = Launch::new(file).open_to_all().argument("--workers");
    let launch = launch.argument("2").argument("-p");
    let _machine = Machine::launch(launch.argument(scratch.file("weir.pid")));
    let socket = scratch.file("weir.sock");
    let terminal = Terminal::open();
    let settings = terminal.settings();
    terminal.say("echo marker before");
    terminal.say(&top(&socket));

    let screen = terminal.wait(&["workers 2", "alpha", "beta", "by file"]);
    assert!(!screen.contains("marker before"), "{screen}");
    let lines: Vec<&str> = screen.lines().collect();
    assert_eq!(lines.len(), ROWS, "{screen}");
    assert!(lines.iter().all(|line| line.chars().count() <= COLUMNS));
    assert!(lines[0].starts_with("weir "), "{screen}");
    assert!(lines[ROWS - 1].contains("q quit"), "{screen}");
    terminal.press(&["s"]);
    terminal.wait(&["by rate"]);
    terminal.press(&["/", "b", "e", "t", "Enter"]);
    let screen = terminal.wait(&["1-1 of 1", "beta"]);
    assert!(!screen.contains("alpha"), "{screen}");
    terminal.press(&["p"]);
    terminal.wait(&["paused"]);
    terminal.press(&["q"]);
    terminal.expect_left(&settings);

    // A signal leaves it so, too.
    let file = scratch.file("top.pid");
    let line = format!(
        "sh -c 'echo $$ > {}; exec {}'",
        file.display(),
        top(&socket)
    );
    terminal.say(&line);
    terminal.wait(&["alpha", "by file"]);
    let pid = std::fs::read_to_string(&file).expect("it was told");
    let pid = pid.trim().parse().expect("a process id");
    crate::machine::signal(pid, crate::harness::Signal::TERM);
    terminal.expect_left(&settings);

    // Where no shell could let it go on, a key does not stop it.
    terminal.say("set +m; clear; echo marker before");
    terminal.say(&line);
    terminal.wait(&["alpha", "by file"]);
    terminal.press(&["/"]);
    terminal.wait(&["filter: _"]);
    terminal.press(&["C-z"]);
    // Keys that come at the same time may be lost.
    eventually("it still hears keys", || {
        terminal.press(&["b"]);
        terminal.shows(&["filter: b"]).then_some(())
    });
    eventually("it ends", || {
        terminal.press(&["C-c"]);
        terminal.shows(&["marker before"]).then_some(())
    });
    terminal.expect_left(&settings);

    // Elsewhere a stop leaves it so, too, by a key or a signal, and it goes on where it was.
    terminal.say("set -m");
    for stops in [0, 1] {
        terminal.say("clear; echo marker before");
        terminal.say(&line);
        terminal.wait(&["alpha", "by file"]);
        match stops {
            0 => terminal.press(&["C-z"]),
            _ => {
                let pid = std::fs::read_to_string(&file).expect("it was told");
                let pid = pid.trim().parse().expect("a process id");
                crate::machine::signal(pid, crate::harness::Signal::TSTP);
            }
        }
        terminal.expect_left(&settings);
        terminal.say("fg");
        terminal.wait(&["alpha", "by file"]);
        terminal.press(&["s"]);
        terminal.wait(&["by rate"]);
        terminal.press(&["q"]);
        terminal.expect_left(&settings);
    }
}
