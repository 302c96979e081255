//! Start-up order only: arguments, configuration, log, then a check or the serving process.

use std::io::Write as _;
use std::process::ExitCode;

use log::Level;

use weir::cli::{self, Args, Command, EXIT_SUCCEEDS};
use weir::config;
use weir::control::bill::Bill;
use weir::control::preflight::{self, Checked, Moment};
use weir::control::{EXIT_CONFIG, EXIT_USAGE};
use weir::core::access_log::push_rfc3339;
use weir::core::text::plural;
use weir::sys::memory;
use weir::sys::process::descriptor_limit;
use weir::sys::stderr::{self, LossyWriter};
use weir::{control, ctl, process, supervisor};

/// Ended well.
const EXIT_OK: u8 = 0;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    match cli::parse(&arguments, ctl::is_verb) {
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(EXIT_USAGE)
        }
        Ok(Command::Print(text)) => print(&text),
        Ok(Command::Check { args, print }) => check(&args, print),
        Ok(Command::Succeed { config }) => {
            let loaded = load(&Args::of(config), &Moment::Succession);
            ExitCode::from(loaded.map_or_else(|code| code, |_| EXIT_SUCCEEDS))
        }
        Ok(Command::Send { order, pid_file }) => {
            let (code, line) = control::order::send(order, &pid_file, ctl::order);
            eprintln!("weir: {line}");
            code
        }
        Ok(Command::Worker { number }) => {
            start_log(Some(number.clone()));
            process::worker::run(&number)
        }
        Ok(Command::Ctl(words)) => {
            let outcome = ctl::run(&words);
            let _ = std::io::stderr().write_all(outcome.errors.as_bytes());
            let printed = match outcome.text.is_empty() {
                true => ExitCode::from(EXIT_OK),
                false => print(&outcome.text),
            };
            match outcome.status {
                EXIT_OK => printed,
                status => ExitCode::from(status),
            }
        }
        Ok(Command::Admin) => {
            start_log(None);
            process::admin::run()
        }
        Ok(Command::Run(args)) => serve(&args),
    }
}

fn serve(args: &Args) -> ExitCode {
    let moment = match args.resume {
        Some(_) => Moment::Succession,
        None => Moment::Start,
    };
    let loaded = load(args, &moment);
    start_log(None);
    if let Ok(Checked { compiled, .. }) = &loaded {
        control::set_log_level(compiled.config.log_level, args.quiet);
        for warning in &compiled.warnings {
            log::warn!("{warning}");
        }
    }
    match (args.resume, loaded) {
        (Some(state), loaded) => supervisor::resume(args, state, loaded.ok()),
        (None, Err(code)) => ExitCode::from(code),
        (None, Ok(checked)) if control::is_supervised(args, &checked.compiled.config) => {
            supervisor::run(args, checked)
        }
        (None, Ok(checked)) => process::single::run(args, checked),
    }
}

/// Writes to standard output, which may be full or closed.
fn print(text: &str) -> ExitCode {
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::from(EXIT_OK),
        Err(error) => {
            eprintln!("weir: cannot write to standard output: {error}");
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

/// Reads the configuration, and says everything that is wrong with it or with serving it here. The
/// exit status if there is anything.
fn load(args: &Args, moment: &Moment) -> Result<Checked, u8> {
    preflight::load(args, moment).map_err(|rejection| {
        let count = rejection.problems.len();
        let mark = if stderr::is_journal() {
            priority(Level::Error)
        } else {
            ""
        };
        let lines = rejection.problems.iter().map(|it| format!("{mark}{it}\n"));
        let s = plural(count == 1);
        let text = lines.collect::<String>() + &format!("{mark}weir: {count} problem{s} found\n");
        // Standard error is not buffered: each part of each line would be a write of its own.
        let _ = std::io::stderr().write_all(text.as_bytes());
        rejection.code
    })
}

fn check(args: &Args, is_printed: bool) -> ExitCode {
    let compiled = match load(args, &Moment::Test) {
        Ok(checked) => checked.compiled,
        Err(code) => return ExitCode::from(code),
    };
    for warning in &compiled.warnings {
        eprintln!("{warning}");
    }
    if is_printed {
        return print(&config::render(&compiled.config));
    }
    let limits = memory::limits();
    let bill = Bill::of(args, &compiled.config, &limits, descriptor_limit());
    for unpaid in bill.unpaid(&limits) {
        eprintln!("weir: warning: {unpaid}");
    }
    if !args.quiet {
        let backends: usize = compiled
            .config
            .upstreams
            .iter()
            .map(|u| u.backends.len())
            .sum();
        let counts = [
            ("listener", compiled.config.listeners.len()),
            ("upstream", compiled.config.upstreams.len()),
            ("backend", backends),
        ];
        let counts = counts.map(|(what, count)| format!("{count} {what}{}", plural(count == 1)));
        eprintln!(
            "weir: {} is good: {}",
            args.config.display(),
            counts.join(", ")
        );
        eprintln!("weir: {bill}");
    }
    ExitCode::from(EXIT_OK)
}

/// The log goes to standard error and never blocks; to the journal without times, which it has
/// itself, and with priorities. `RUST_LOG` decides what is in it, or else
/// [`control::set_log_level`]. A worker says which one it is.
fn start_log(worker: Option<String>) {
    let mut builder = env_logger::Builder::new();
    if std::env::var_os("RUST_LOG").is_some() {
        builder.parse_default_env();
    } else {
        builder
            .filter_level(log::LevelFilter::Warn)
            .filter_module("weir", log::LevelFilter::Trace);
    }
    let worker = worker.map_or_else(String::new, |number| format!("worker {number}: "));
    let is_journal = stderr::is_journal();
    builder.format(move |line, record| {
        let (level, target, words) = (record.level(), record.target(), record.args());
        if is_journal {
            writeln!(line, "{}{worker}{words}", priority(level))
        } else {
            let time = now();
            writeln!(line, "[{time} {level:<5} {target}] {worker}{words}")
        }
    });
    let mark = if is_journal {
        priority(Level::Warn)
    } else {
        ""
    };
    builder
        .target(env_logger::Target::Pipe(Box::new(LossyWriter::stderr(
            mark,
        ))))
        .init();
}

/// What a line begins with elsewhere, alike in the access log.
fn now() -> String {
    let mut time = Vec::new();
    push_rfc3339(control::unix_ms(), &mut time);
    String::from_utf8_lossy(&time).into_owned()
}

/// What a line of the journal begins with (sd-daemon(3)).
fn priority(level: Level) -> &'static str {
    match level {
        Level::Error => "<3>",
        Level::Warn => "<4>",
        Level::Info => "<6>",
        Level::Debug | Level::Trace => "<7>",
    }
}
