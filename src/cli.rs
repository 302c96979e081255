//! The command line: the table of options, the usage text and [`Args`].

use std::path::PathBuf;

use getopts::Options;

use crate::config::model::WORKERS_MAX;
use crate::config::reference;

/// Read when no `--config` is given.
pub(crate) const CONFIG_PATH_DEFAULT: &str = "/etc/weir/weir.yaml";

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Serve.
    Run(Args),
    /// Check the configuration and exit; print it resolved when `print` is set.
    Check {
        /// How it would be served; silent when it is good if `quiet` is set.
        args: Args,
        /// Whether to print the resolved configuration.
        print: bool,
    },
    /// Serve as one of several, for the supervisor that has started this process.
    Worker {
        /// The place among the workers, for the log.
        number: String,
    },
    /// Ask a weir that runs, with these words.
    Ctl(Vec<String>),
    /// Serve the admin door, for the supervisor that has started this process.
    Admin,
    /// Say whether this program could take the place of another weir that serves this file.
    Succeed {
        /// The configuration file.
        config: PathBuf,
    },
    /// Send an order to the weir of a pid file.
    Send {
        /// What to do.
        order: Order,
        /// Names the process.
        pid_file: PathBuf,
    },
    /// Print this text and exit.
    Print(String),
}

/// An order to a weir that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Re-read the configuration.
    Reload,
    /// Reopen the access log.
    Reopen,
    /// End gracefully.
    Quit,
    /// End at once.
    Stop,
    /// Make way for another binary.
    Upgrade,
}

impl Order {
    /// The order of that name.
    #[must_use]
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        let known = ORDERS.iter().find(|(known, _)| *known == word);
        known.map(|(_, order)| *order)
    }

    /// Its name.
    #[must_use]
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::Reopen => "reopen",
            Self::Quit => "quit",
            Self::Stop => "stop",
            Self::Upgrade => "upgrade",
        }
    }
}

const ORDERS: [(&str, Order); 5] = [
    ("reload", Order::Reload),
    ("reopen", Order::Reopen),
    ("quit", Order::Quit),
    ("stop", Order::Stop),
    ("upgrade", Order::Upgrade),
];

/// First arguments that are not for users: a worker is told the process id of its supervisor, for
/// whoever looks for its workers later (`process::orphans`), and its number, and who serves the
/// admin door only the former; a program that is to
/// take the place of another the configuration, and one that does so the descriptor where the
/// other has left its state.
pub(crate) const WORKER_WORD: &str = "--worker";
pub(crate) const ADMIN_WORD: &str = "--admin";
pub(crate) const SUCCEED_WORD: &str = "--succeed";
pub(crate) const RESUME_WORD: &str = "--resume";

/// How [`Command::Succeed`] says yes: with a status that hardly any other program ends with, so
/// that one that is no weir, or too old a one, is not taken for a successor. Another one for each
/// form of what is left to a successor.
pub const EXIT_SUCCEEDS: u8 = 75;

/// How to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Args {
    /// The configuration file.
    pub config: PathBuf,
    /// The CPU to run on; none leaves it to the kernel.
    pub(crate) cpu: Option<usize>,
    /// How many workers, if the command line says so; none in it is one per CPU.
    pub(crate) workers: Option<Option<usize>>,
    /// Where the program that ran in this process before has left its state.
    pub resume: Option<i32>,
    /// Where the process id is written.
    pub(crate) pid_file: Option<PathBuf>,
    /// Whether only warnings and errors are logged.
    pub quiet: bool,
}

impl Args {
    /// To serve this file, with no word about how.
    #[must_use]
    pub fn of(config: PathBuf) -> Self {
        Self {
            config,
            cpu: None,
            workers: None,
            resume: None,
            pid_file: None,
            quiet: false,
        }
    }
}

fn options() -> Options {
    let mut options = Options::new();
    options
        .optopt(
            "c",
            "config",
            &format!("configuration file (default {CONFIG_PATH_DEFAULT})"),
            "FILE",
        )
        .optflag(
            "t",
            "test",
            "check whether the file could be served with these options, and exit; binds and \
             resolves nothing",
        )
        .optflag(
            "T",
            "",
            "as -t, and print the configuration with every default",
        )
        .optopt("", "cpu", "run on this CPU only, counted from 0", "N")
        .optopt(
            "p",
            "pid-file",
            "write the process id here once weir listens",
            "FILE",
        )
        .optopt(
            "",
            "workers",
            "serve with N processes, each on a CPU of its own, or auto: one per CPU",
            "N",
        )
        .optopt(
            "s",
            "",
            "with -p: tell the weir that runs to reload, reopen, quit, stop or \
             upgrade, and wait for the outcome",
            "ORDER",
        )
        .optflag("q", "quiet", "log warnings and errors only")
        .optflag("v", "version", "print the version and exit")
        .optflag("V", "", "print the version and how it was built, and exit")
        .optflag(
            "h",
            "help",
            "print this and exit; with the name of a KEY of the file, what that is; with \
             `example`, a file to begin with",
        );
    options
}

/// The usage text.
#[must_use]
pub(crate) fn usage() -> String {
    let brief = "weir spreads TCP connections and HTTP requests over healthy backends.\n\n\
                 Usage: weir [-c FILE] [options]\n       weir ctl VERB ...  (`weir ctl --help`)";
    let tail = "
Signals: TERM, INT, QUIT end gracefully (again: at once), HUP re-reads the configuration,
         USR1 reopens the access log, USR2 makes way for another binary (with a supervisor).
Exit:    0 ended well; 1 bad configuration, or connections were cut; 2 bad usage;
         3 cannot listen or not permitted; 4 another weir owns the pid file.
         With -s: 0 done; 1 refused; 3 no weir runs.
Log:     to standard error; RUST_LOG overrides `log_level` of the configuration.
";
    options().usage(brief) + tail
}

fn version() -> String {
    format!("weir {}\n", env!("CARGO_PKG_VERSION"))
}

fn build() -> String {
    format!(
        "{}target: {}-{}, {} bit; build: {}; features: tcp, http, splice{}\n",
        version(),
        std::env::consts::ARCH,
        std::env::consts::OS,
        usize::BITS,
        if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        },
        if cfg!(feature = "tls") { ", tls" } else { "" },
    )
}

/// Understands the arguments after the program's name.
///
/// # Errors
/// One line that says what is wrong and how to find out what is right.
pub fn parse(arguments: &[String], is_verb: fn(&str) -> bool) -> Result<Command, String> {
    let hint = |message: String| {
        let mark = if message.ends_with('?') { "" } else { ";" };
        format!("weir: {message}{mark} try `weir --help`")
    };
    let mut arguments = arguments;
    let mut resume = None;
    match arguments.first().map(String::as_str) {
        Some("ctl") => return Ok(Command::Ctl(arguments[1..].to_vec())),
        // The options may stand before the verb or behind it.
        Some("top") => return Ok(Command::Ctl(arguments.to_vec())),
        _ => {}
    }
    if let [first, value, rest @ ..] = arguments {
        match (first.as_str(), value.parse()) {
            (WORKER_WORD, _) => {
                let number = rest.first().cloned().unwrap_or_default();
                return Ok(Command::Worker { number });
            }
            (ADMIN_WORD, _) if rest.is_empty() => return Ok(Command::Admin),
            (SUCCEED_WORD, _) if rest.is_empty() => {
                let config = value.into();
                return Ok(Command::Succeed { config });
            }
            (RESUME_WORD, Ok(state)) => {
                resume = Some(state);
                arguments = rest;
            }
            _ => {}
        }
    }
    let matches = options()
        .parse(arguments)
        .map_err(|fail| hint(fail.to_string()))?;
    if let Some(words) = empty_argument(arguments) {
        return Err(hint(words));
    }
    if matches.opt_present("h") {
        let text = matches
            .free
            .first()
            .map_or_else(|| Ok(usage()), |word| help(word));
        return text.map(Command::Print).map_err(hint);
    }
    if matches.opt_present("V") {
        return Ok(Command::Print(build()));
    }
    if matches.opt_present("v") {
        return Ok(Command::Print(version()));
    }
    if let Some(extra) = matches.free.first() {
        return Err(hint(format!(
            "unexpected argument `{extra}`{}",
            meant_by(extra, is_verb)
        )));
    }
    let config = matches
        .opt_str("c")
        .map_or_else(|| CONFIG_PATH_DEFAULT.into(), PathBuf::from);
    let pid_file = matches.opt_str("p").map(PathBuf::from);
    let print = matches.opt_present("T");
    let is_check = print || matches.opt_present("t");
    if let Some(word) = matches.opt_str("s") {
        if is_check {
            let why = "`-s` and `-t` exclude each other: test first, then give the order";
            return Err(hint(why.to_owned()));
        }
        let known = ORDERS.iter().find(|(name, _)| *name == word);
        let words = "reload, reopen, quit, stop, upgrade";
        let (_, order) = known.ok_or_else(|| hint(format!("`-s {word}` is not one of {words}")))?;
        let pid_file = pid_file.ok_or_else(|| hint("`-s` needs the pid file, `-p`".to_owned()))?;
        let order = *order;
        return Ok(Command::Send { order, pid_file });
    }
    let cpu = match matches.opt_str("cpu") {
        None => None,
        Some(text) => Some(
            text.parse()
                .map_err(|_| hint(format!("`--cpu {text}` is not a CPU number (0, 1, 2, ...)")))?,
        ),
    };
    let workers = match matches.opt_str("workers") {
        None => None,
        Some(text) => Some(workers(&text).ok_or_else(|| {
            let range = format!("a number from 1 to {WORKERS_MAX}, or `auto`");
            hint(format!("`--workers {text}` is not {range}"))
        })?),
    };
    if cpu.is_some() && workers.is_some_and(|count| count != Some(1)) {
        let why = "a process on one CPU has no workers";
        return Err(hint(format!(
            "`--cpu` and `--workers` exclude each other: {why}"
        )));
    }
    let args = Args {
        config,
        cpu,
        workers,
        resume,
        pid_file,
        quiet: matches.opt_present("q"),
    };
    Ok(if is_check {
        Command::Check { args, print }
    } else {
        Command::Run(args)
    })
}

/// What is wrong where a word is there and says nothing, as a variable of a script that is not set.
pub(crate) fn empty_argument(words: &[String]) -> Option<String> {
    let ends_options = words.iter().position(|it| it == "--");
    let is_open = |at: usize| {
        let word = &words[at];
        let is_option = word.starts_with("--") && ends_options.is_none_or(|end| at < end);
        is_option && word.find('=') == Some(word.len() - 1)
    };
    let at = (0..words.len()).find(|&at| words[at].is_empty() || is_open(at))?;
    let named = match words[at].is_empty() {
        true => words[..at].last(),
        false => Some(&words[at]),
    };
    Some(named.map_or_else(
        || "the first argument is empty".to_owned(),
        |word| format!("what follows `{word}` is empty"),
    ))
}

/// What is said of a key of the configuration, or one to begin with.
fn help(word: &str) -> Result<String, String> {
    match word {
        "example" => Ok(include_str!("../conf/minimal.yaml").to_owned()),
        key => reference::about(key),
    }
}

/// How to say what was most likely meant by a word.
#[cold]
fn meant_by(word: &str, is_verb: fn(&str) -> bool) -> String {
    let is_file = word.ends_with(".yaml") || word.ends_with(".yml") || word.contains('/');
    match word {
        _ if is_file => format!("; a file is named with `-c {word}`"),
        "help" => format!("; help is had with `weir --{word}`"),
        "version" => format!("; it is had with `weir --{word}`"),
        "start" | "run" | "serve" => "; weir serves without such a word".to_owned(),
        "check" | "test" => "; a file is checked with `weir -t`".to_owned(),
        _ if is_verb(word) => format!("; try `weir ctl {word}`"),
        _ if Order::from_word(word).is_some() => format!("; try `weir -s {word} -p PID_FILE`"),
        _ => String::new(),
    }
}

/// A number of workers, or none for one per CPU.
fn workers(text: &str) -> Option<Option<usize>> {
    if text == "auto" {
        return Some(None);
    }
    let count = text.parse().ok()?;
    (1..=WORKERS_MAX).contains(&count).then_some(Some(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &str) -> Result<Command, String> {
        parse(
            &words
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>(),
            |word| matches!(word, "reload" | "status"),
        )
    }

    #[test]
    fn without_options_it_serves_the_default_file() {
        let Ok(Command::Run(args)) = parse_words("") else {
            panic!("not a run")
        };
        assert_eq!(args.config, PathBuf::from("/etc/weir/weir.yaml"));
        assert_eq!((args.cpu, args.pid_file, args.quiet), (None, None, false));
    }

    #[test]
    fn a_check_never_becomes_a_run() {
        for words in ["-t -c x.yaml", "-T -c x.yaml", "--test --cpu 1 -c x.yaml"] {
            assert!(
                matches!(parse_words(words), Ok(Command::Check { .. })),
                "{words}"
            );
        }
    }

    #[test]
    fn a_check_is_told_all_that_a_run_would_be() {
        for words in ["--workers 2 -p x", "--cpu 1 -q", "--workers auto"] {
            let Ok(Command::Run(run)) = parse_words(words) else {
                panic!("{words}: not a run")
            };
            let print = false;
            let check = Command::Check { args: run, print };
            assert_eq!(parse_words(&format!("-t {words}")), Ok(check));
        }
        for words in ["--cpu two", "--workers 0", "--workers 2 --cpu 1"] {
            let run = parse_words(words).expect_err(words);
            assert_eq!(parse_words(&format!("{words} -t")), Err(run));
        }
    }

    #[test]
    fn workers_are_counted_or_left_to_the_machine() {
        let workers = |words| match parse_words(words) {
            Ok(Command::Run(args)) => args.workers,
            other => panic!("{other:?}"),
        };
        assert_eq!(workers(""), None);
        assert_eq!(workers("--workers 4"), Some(Some(4)));
        assert_eq!(workers("--workers auto"), Some(None));
        assert_eq!(workers("--cpu 1 --workers 1"), Some(Some(1)));
    }

    #[test]
    fn an_order_goes_to_the_weir_of_a_pid_file() {
        let order = Command::Send {
            order: Order::Upgrade,
            pid_file: "x".into(),
        };
        assert_eq!(parse_words("-s upgrade -p x"), Ok(order));
    }

    #[test]
    fn words_that_are_not_for_users_come_first() {
        let number = "3".to_owned();
        assert_eq!(parse_words("--worker 77 3"), Ok(Command::Worker { number }));
        let config = "x.yaml".into();
        assert_eq!(
            parse_words("--succeed x.yaml"),
            Ok(Command::Succeed { config })
        );
        assert!(parse_words("--succeed").is_err());
        let Ok(Command::Run(args)) = parse_words("--resume 7 -q --workers 2") else {
            panic!("not a run")
        };
        assert_eq!((args.resume, args.quiet), (Some(7), true));
        assert!(parse_words("-q --resume 7").is_err());
    }

    #[test]
    fn mistakes_name_the_word_and_the_way_out() {
        for (words, named) in [
            ("--cpu two", "--cpu two"),
            ("--workers 0", "--workers 0"),
            ("--workers 61", "1 to 60"),
            ("--workers 2 --cpu 1", "exclude each other"),
            ("-s reload", "-p"),
            ("-s restart -p x", "-s restart"),
            ("-s reload -p x -t", "exclude each other"),
            ("conf.yaml", "`-c conf.yaml`"),
            ("reload", "`weir ctl reload`"),
            ("quit -p x", "`weir -s quit -p PID_FILE`"),
            ("status", "`weir ctl status`"),
            ("help", "`weir --help`"),
            ("start", "without such a word"),
            ("check", "`weir -t`"),
            ("--help wieght", "did you mean `weight`?"),
            ("--confg x", "confg"),
            ("-c", "c"),
        ] {
            let message = parse_words(words).unwrap_err();
            assert!(
                message.contains(named) && message.contains("--help"),
                "{message}"
            );
        }
    }

    #[test]
    fn an_argument_that_is_empty_is_told_of() {
        for (words, named) in [
            (&["-p", ""][..], "what follows `-p` is empty"),
            (&["-t", "-c", ""], "what follows `-c` is empty"),
            (&["-s", "", "-p", "x"], "what follows `-s` is empty"),
            (
                &["-s", "reload", "--pid-file="],
                "what follows `--pid-file=` is empty",
            ),
            (&["--cpu", ""], "what follows `--cpu` is empty"),
            (&["--workers="], "what follows `--workers=` is empty"),
            (&["--help", ""], "what follows `--help` is empty"),
            (&["", "-t"], "the first argument is empty"),
            (&["--quiet="], "does not take an argument"),
            (&["--", "--workers="], "unexpected argument `--workers=`"),
        ] {
            let words: Vec<String> = words.iter().map(|it| (*it).to_owned()).collect();
            let message = parse(&words, |_| false).expect_err("it is refused");
            assert!(message.contains(named), "{words:?}: {message}");
        }
    }

    #[test]
    fn help_tells_of_a_key_and_has_a_file_to_begin_with() {
        let printed = |words| match parse_words(words) {
            Ok(Command::Print(text)) => text,
            other => panic!("{other:?}"),
        };
        assert!(printed("--help connect").starts_with("timeouts.connect: 5s\n"));
        assert_eq!(printed("-h"), usage());
        let example = printed("--help example");
        let compiled = crate::config::compile("f", &example, &mut |_| Ok(Vec::new()));
        assert_eq!(compiled.expect("it is good").warnings, []);
    }

    #[test]
    fn help_names_every_option() {
        let text = usage();
        for option in [
            "--config",
            "--test",
            "-T",
            "--cpu",
            "--workers",
            "-s",
            "--pid-file",
            "--quiet",
            "-V",
        ] {
            assert!(text.contains(option), "{option} is not in the usage text");
        }
    }
}
