//! Start-up order only: arguments, configuration, log, then a check or the serving process.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use weir::cli::{self, Args, Command, EXIT_SUCCEEDS};
use weir::config::{self, Compiled, Source};
use weir::sys::stderr::LossyWriter;
use weir::{process, supervisor};

/// Ended well.
const EXIT_OK: u8 = 0;
/// The configuration is bad, or the answer could not be written.
const EXIT_CONFIG: u8 = 1;
/// The command line is bad.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    match cli::parse(&arguments) {
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(EXIT_USAGE)
        }
        Ok(Command::Print(text)) => print(&text),
        Ok(Command::Check {
            config,
            print,
            quiet,
        }) => check(&config, print, quiet),
        Ok(Command::Succeed { config }) => ExitCode::from(match load(&config) {
            Some(_) => EXIT_SUCCEEDS,
            None => EXIT_CONFIG,
        }),
        Ok(Command::Send { order, pid_file }) => {
            let (code, line) = process::order::send(order, &pid_file);
            eprintln!("weir: {line}");
            code
        }
        Ok(Command::Worker { seat }) => {
            start_log(Some(seat));
            process::worker::run()
        }
        Ok(Command::Run(args)) => serve(&args),
    }
}

fn serve(args: &Args) -> ExitCode {
    let loaded = load(&args.config);
    start_log(None);
    if let Some((_, compiled)) = &loaded {
        process::set_log_level(compiled.config.log_level, args.quiet);
        for warning in &compiled.warnings {
            log::warn!("{warning}");
        }
    }
    let loaded = loaded.map(|(source, compiled)| (source, compiled.config));
    match (args.resume, loaded) {
        (Some(state), loaded) => supervisor::resume(args, state, loaded),
        (None, None) => ExitCode::from(EXIT_CONFIG),
        (None, Some((source, config))) => match supervisor::workers_wanted(args, &config) {
            1 => process::single::run(args, config),
            _ => supervisor::run(args, source, config),
        },
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

/// Reads the configuration, and says everything that is wrong with it.
fn load(path: &Path) -> Option<(Source, Compiled)> {
    match config::read(path) {
        Ok(loaded) => Some(loaded),
        Err(problems) => {
            for problem in &problems {
                eprintln!("{problem}");
            }
            let count = problems.len();
            eprintln!(
                "weir: {count} problem{} found",
                if count == 1 { "" } else { "s" }
            );
            None
        }
    }
}

fn check(path: &Path, is_printed: bool, quiet: bool) -> ExitCode {
    let Some((_, compiled)) = load(path) else {
        return ExitCode::from(EXIT_CONFIG);
    };
    for warning in &compiled.warnings {
        eprintln!("{warning}");
    }
    let problem = process::check_access_log(&compiled, path).map(|it| it.to_string());
    let too_many = || supervisor::check(&compiled.config).err();
    let too_many = || too_many().map(|reason| format!("{}: {reason}", path.display()));
    if let Some(problem) = problem.or_else(too_many) {
        eprintln!("{problem}");
        eprintln!("weir: 1 problem found");
        return ExitCode::from(EXIT_CONFIG);
    }
    if is_printed {
        return print(&config::render(&compiled.config));
    }
    if !quiet {
        let backends: usize = compiled
            .config
            .upstreams
            .iter()
            .map(|u| u.backends.len())
            .sum();
        eprintln!(
            "weir: {} is good: {} listeners, {} upstreams, {backends} backends",
            path.display(),
            compiled.config.listeners.len(),
            compiled.config.upstreams.len(),
        );
    }
    ExitCode::from(EXIT_OK)
}

/// The log goes to standard error and never blocks. `RUST_LOG` decides what is in it, or else
/// [`process::set_log_level`]. A worker says which one it is.
fn start_log(worker: Option<String>) {
    let mut builder = env_logger::Builder::new();
    if std::env::var_os("RUST_LOG").is_some() {
        builder.parse_default_env();
    } else {
        builder
            .filter_level(log::LevelFilter::Warn)
            .filter_module("weir", log::LevelFilter::Trace);
    }
    if let Some(seat) = worker {
        builder.format(move |line, record| {
            let (time, level) = (line.timestamp(), record.level());
            let (target, words) = (record.target(), record.args());
            writeln!(line, "[{time} {level:<5} {target}] worker {seat}: {words}")
        });
    }
    builder
        .target(env_logger::Target::Pipe(Box::new(LossyWriter::stderr())))
        .init();
}
