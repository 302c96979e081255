//! The command line: the table of options, the usage text and [`Args`].

use std::path::PathBuf;

use getopts::Options;

/// Read when no `--config` is given.
pub const CONFIG_PATH_DEFAULT: &str = "/etc/weir/weir.yaml";

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Serve.
    Run(Args),
    /// Check the configuration and exit; print it resolved when `print` is set.
    Check {
        /// The file to check.
        config: PathBuf,
        /// Whether to print the resolved configuration.
        print: bool,
        /// Whether to stay silent when it is good.
        quiet: bool,
    },
    /// Print this text and exit.
    Print(String),
}

/// How to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Args {
    /// The configuration file.
    pub config: PathBuf,
    /// The CPU to run on; none leaves it to the kernel.
    pub cpu: Option<usize>,
    /// Where the process id is written.
    pub pid_file: Option<PathBuf>,
    /// Whether only warnings and errors are logged.
    pub quiet: bool,
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
            "check the configuration and exit; binds and resolves nothing",
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
        .optflag("q", "quiet", "log warnings and errors only")
        .optflag("v", "version", "print the version and exit")
        .optflag("V", "", "print the version and how it was built, and exit")
        .optflag("h", "help", "print this and exit");
    options
}

/// The usage text.
#[must_use]
pub fn usage() -> String {
    let brief = "weir spreads TCP connections and HTTP requests over healthy backends.\n\n\
                 Usage: weir [-c FILE] [options]";
    let tail = "
Signals: TERM, INT, QUIT end gracefully (again: at once), HUP re-reads the configuration,
         USR1 reopens the access log.
Exit:    0 ended well; 1 bad configuration, or connections were cut; 2 bad usage;
         3 cannot listen or not permitted; 4 another weir owns the pid file.
Log:     to standard error; RUST_LOG overrides `log_level` of the configuration.
";
    options().usage(brief) + tail
}

fn version() -> String {
    format!("weir {}\n", env!("CARGO_PKG_VERSION"))
}

fn build() -> String {
    format!(
        "{}target: {}-{}, {} bit; build: {}; features: tcp, http, splice\n",
        version(),
        std::env::consts::ARCH,
        std::env::consts::OS,
        usize::BITS,
        if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        },
    )
}

/// Understands the arguments after the program's name.
///
/// # Errors
/// One line that says what is wrong and how to find out what is right.
pub fn parse(arguments: &[String]) -> Result<Command, String> {
    let hint = |message: String| format!("weir: {message}; try `weir --help`");
    let matches = options()
        .parse(arguments)
        .map_err(|fail| hint(fail.to_string()))?;
    if matches.opt_present("h") {
        return Ok(Command::Print(usage()));
    }
    if matches.opt_present("V") {
        return Ok(Command::Print(build()));
    }
    if matches.opt_present("v") {
        return Ok(Command::Print(version()));
    }
    if let Some(extra) = matches.free.first() {
        return Err(hint(format!("unexpected argument `{extra}`")));
    }
    let config = matches
        .opt_str("c")
        .map_or_else(|| CONFIG_PATH_DEFAULT.into(), PathBuf::from);
    let quiet = matches.opt_present("q");
    let print = matches.opt_present("T");
    if print || matches.opt_present("t") {
        return Ok(Command::Check {
            config,
            print,
            quiet,
        });
    }
    let cpu = match matches.opt_str("cpu") {
        None => None,
        Some(text) => Some(
            text.parse()
                .map_err(|_| hint(format!("`--cpu {text}` is not a CPU number (0, 1, 2, ...)")))?,
        ),
    };
    let pid_file = matches.opt_str("p").map(PathBuf::from);
    Ok(Command::Run(Args {
        config,
        cpu,
        pid_file,
        quiet,
    }))
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
    fn mistakes_name_the_word_and_the_way_out() {
        for (words, named) in [
            ("--cpu two", "--cpu two"),
            ("conf.yaml", "conf.yaml"),
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
    fn help_names_every_option() {
        let text = usage();
        for option in [
            "--config",
            "--test",
            "-T",
            "--cpu",
            "--pid-file",
            "--quiet",
            "-V",
        ] {
            assert!(text.contains(option), "{option} is not in the usage text");
        }
    }
}
