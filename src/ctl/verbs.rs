//! The words after `weir ctl`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use getopts::Options;

use crate::cli::empty_argument;
use crate::config::model::AdminSocket;
use crate::control::unix_ms;
use crate::ctl::client::{self, Answer, Failure, Method, escaped};
use crate::ctl::report::Report;
use crate::ctl::{json, tables, top, why};

/// Done.
const EXIT_OK: u8 = 0;
/// Refused, or nobody can tell.
const EXIT_REFUSED: u8 = 1;
/// The words are wrong.
const EXIT_USAGE: u8 = 2;
/// No weir runs there.
const EXIT_NOT_RUNNING: u8 = 3;

/// That of conf/weir.service, beside its pid file.
const SOCKET_OF_UNIT: &str = "/run/weir/weir.sock";
/// How often it is looked whether a backend is empty.
const WAIT_STEP: Duration = Duration::from_millis(200);

/// What is to be printed, and the exit status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// For standard output.
    pub text: String,
    /// For standard error.
    pub errors: String,
    /// The exit status.
    pub status: u8,
}

impl Outcome {
    fn done(text: String) -> Self {
        Self {
            text,
            status: EXIT_OK,
            ..Self::default()
        }
    }

    fn failed(status: u8, words: &str) -> Self {
        Self {
            errors: format!("weir: {}\n", words.trim_end()),
            status,
            ..Self::default()
        }
    }
}

/// A word, what follows it, and what it does.
struct Verb {
    name: &'static str,
    arguments: &'static str,
    about: &'static str,
}

const VERBS: &[Verb] = &[
    Verb {
        name: "status",
        arguments: "",
        about: "how weir is, in a few lines",
    },
    Verb {
        name: "backends",
        arguments: "[UPSTREAM]",
        about: "each backend: state, share, errors",
    },
    Verb {
        name: "listeners",
        arguments: "",
        about: "each listener: connections, requests, bytes",
    },
    Verb {
        name: "why",
        arguments: "ID|--last WHICH",
        about: "why a request went where it went",
    },
    Verb {
        name: "routes",
        arguments: "",
        about: "each route: where it leads, responses",
    },
    Verb {
        name: "sessions",
        arguments: "",
        about: "each session: client, backend, bytes",
    },
    Verb {
        name: "top",
        arguments: "",
        about: "how everything goes, as it goes",
    },
    Verb {
        name: "config",
        arguments: "",
        about: "what runs, with every default",
    },
    Verb {
        name: "drain",
        arguments: "TARGET",
        about: "no new sessions but those that stick to it",
    },
    Verb {
        name: "disable",
        arguments: "TARGET",
        about: "nothing new at all",
    },
    Verb {
        name: "enable",
        arguments: "TARGET",
        about: "undoes drain and disable",
    },
    Verb {
        name: "weight",
        arguments: "TARGET N|file",
        about: "its share of the traffic",
    },
    Verb {
        name: "kick",
        arguments: "TARGET|session ID",
        about: "ends what runs on it, or one session",
    },
    Verb {
        name: "add",
        arguments: "UPSTREAM ADDRESS",
        about: "one more backend",
    },
    Verb {
        name: "remove",
        arguments: "TARGET",
        about: "a backend less, which drains",
    },
    Verb {
        name: "reload",
        arguments: "[--reset]",
        about: "read the configuration file again",
    },
    Verb {
        name: "metrics",
        arguments: "",
        about: "as Prometheus has it",
    },
    Verb {
        name: "ready",
        arguments: "",
        about: "exit status 0 where weir is ready",
    },
    Verb {
        name: "log-level",
        arguments: "LEVEL",
        about: "error, warn, info, debug or trace",
    },
];

/// Whether something is done by that name.
pub fn is_verb(word: &str) -> bool {
    VERBS.iter().any(|verb| verb.name == word)
}

fn options() -> Options {
    let mut options = Options::new();
    options
        .optopt("", "socket", "the admin socket", "PATH")
        .optopt("p", "pid-file", "the socket beside this pid file", "FILE")
        .optopt("c", "config", "the socket that this file names", "FILE")
        .optflag("", "json", "for programs")
        .optflag("", "reset", "with reload: forget what was changed by hand")
        .optopt(
            "",
            "last",
            "with why: 5xx, 502, error, slow, retried or any",
            "WHICH",
        )
        .optopt("", "wait", "with drain: return when it is empty", "TIME")
        .optopt("", "id", "with add: its identity, else the address", "NAME")
        .optopt("", "weight", "with add: its share of the traffic", "N")
        .optopt("", "listener", "with sessions: of this listener", "NAME")
        .optopt("", "backend", "with sessions: of this target", "TARGET")
        .optopt("", "max", "with sessions and why --last: so many", "N")
        .optflag("h", "help", "print this");
    options
}

fn usage() -> String {
    let mut text =
        "weir ctl asks a weir that runs.\n\nUsage: weir ctl [options] VERB\n\n".to_owned();
    for Verb {
        name,
        arguments,
        about,
    } in VERBS
    {
        let words = format!("{name} {arguments}");
        text += &format!("  {words:<24}{about}\n");
    }
    text += "\nTARGET is an upstream, or UPSTREAM/BACKEND.\n";
    options().usage(&text) + "\nExit: 0 done; 1 refused; 2 bad usage; 3 no weir runs.\n"
}

/// Does what the words say.
#[must_use]
pub fn run(words: &[String]) -> Outcome {
    let hint =
        |words: String| Outcome::failed(EXIT_USAGE, &format!("{words}; try `weir ctl --help`"));
    let matches = match options().parse(words) {
        Ok(matches) => matches,
        Err(fail) => return hint(fail.to_string()),
    };
    if matches.opt_present("h") {
        return Outcome::done(usage());
    }
    if let Some(words) = empty_argument(words) {
        return hint(words);
    }
    let Some((verb, arguments)) = matches.free.split_first() else {
        return hint("VERB is missing".to_owned());
    };
    let socket = match socket(&matches) {
        Ok(socket) => socket,
        Err(words) => return Outcome::failed(EXIT_USAGE, &words),
    };
    let asked = Asked {
        socket,
        arguments: arguments.to_vec(),
        is_json: matches.opt_present("json"),
        resets: matches.opt_present("reset"),
        last: matches.opt_str("last"),
        wait: matches.opt_str("wait"),
        id: matches.opt_str("id"),
        weight: matches.opt_str("weight"),
        filters: ["listener", "backend", "max"]
            .into_iter()
            .filter_map(|name| Some((name, matches.opt_str(name)?)))
            .collect(),
    };
    let carried_out = match surplus(verb, arguments) {
        Some(word) => Err(format!("`{verb}` takes no `{word}`")),
        None => asked.carry_out(verb),
    };
    let outcome = carried_out.unwrap_or_else(hint);
    // What is in words by then has been refused.
    match outcome.text.is_empty() {
        true => asked.told(outcome),
        false => outcome,
    }
}

/// The first of the words that a verb has no use for.
fn surplus<'a>(verb: &str, arguments: &'a [String]) -> Option<&'a str> {
    let known = VERBS.iter().find(|it| it.name == verb)?;
    let is_session = verb == "kick" && arguments.first().is_some_and(|it| it == "session");
    let count = match known.arguments {
        "" | "[--reset]" => 0,
        "UPSTREAM ADDRESS" | "TARGET N|file" => 2,
        _ if is_session => 2,
        _ => 1,
    };
    arguments.get(count).map(String::as_str)
}

/// Where the socket is: named, beside the pid file, or as the configuration says.
fn socket(matches: &getopts::Matches) -> Result<PathBuf, String> {
    if let Some(path) = matches.opt_str("socket") {
        return Ok(path.into());
    }
    if let Some(path) = matches.opt_str("p") {
        return Ok(crate::control::doors::beside(Path::new(&path)));
    }
    if let Some(path) = matches.opt_str("c") {
        let read = crate::config::read(Path::new(&path));
        let (_, compiled) = read.map_err(|_| format!("{path}: is no good configuration"))?;
        return match compiled.config.admin.socket {
            AdminSocket::At(path) => Ok(path),
            AdminSocket::Auto => Ok(usual_socket()),
            AdminSocket::Off => Err(format!("{path}: `admin` is off")),
        };
    }
    Ok(usual_socket())
}

/// Where it is by default, or where the unit of a service manager has it. A weir that became an
/// ordinary user leaves its socket behind.
fn usual_socket() -> PathBuf {
    let default = PathBuf::from(crate::control::doors::SOCKET_DEFAULT);
    let of_unit = PathBuf::from(SOCKET_OF_UNIT);
    let serves = |path| !matches!(client::connect(path), Err(client::Failure::NotRunning(_)));
    if !serves(&default) && of_unit.exists() {
        return of_unit;
    }
    default
}

/// What is asked, and of whom.
struct Asked {
    socket: PathBuf,
    arguments: Vec<String>,
    is_json: bool,
    resets: bool,
    last: Option<String>,
    wait: Option<String>,
    id: Option<String>,
    weight: Option<String>,
    /// Which sessions are meant.
    filters: Vec<(&'static str, String)>,
}

impl Asked {
    /// # Errors
    /// What is wrong with the words.
    fn carry_out(&self, verb: &str) -> Result<Outcome, String> {
        match verb {
            "status" => Ok(self.report(|report| Ok(tables::status(report)))),
            "listeners" => Ok(self.report(|report| Ok(tables::listeners(report)))),
            "backends" => {
                let only = self.arguments.first().map(String::as_str);
                let told = self.report(|report| {
                    let names = report.upstreams.iter().map(|it| it.name.as_str());
                    let names = names.collect::<Vec<_>>().join(", ");
                    let unknown = || format!("no upstream {}: {names}", only.unwrap_or_default());
                    tables::backends(report, only).ok_or_else(unknown)
                });
                let of_one = only.filter(|_| self.is_json && told.status == EXIT_OK);
                let of_one = of_one.and_then(|only| json::with_upstream(&told.text, only));
                Ok(of_one.map_or(told, Outcome::done))
            }
            "routes" => Ok(self.table("/routes", tables::routes)),
            "sessions" => Ok(self.sessions()),
            "top" => Ok(match top::run(&self.socket) {
                Ok(()) => Outcome::default(),
                Err(words) => Outcome::failed(EXIT_REFUSED, &words),
            }),
            "why" => self.why(),
            "config" => Ok(self.config()),
            "ready" => Ok(self.told(self.get("/ready"))),
            "metrics" => Ok(self.get("/metrics")),
            "reload" => {
                let reset = if self.resets { "?reset=1" } else { "" };
                Ok(self.told(self.post(&format!("/reload{reset}"))))
            }
            "drain" => self.drain(),
            "add" => self.add(),
            "kick" if self.arguments.len() == 2 && self.arguments[0] == "session" => {
                let id = escaped(&self.arguments[1]);
                Ok(self.told(self.post(&format!("/kick?session={id}"))))
            }
            "disable" | "enable" | "kick" | "remove" => {
                let target = self.argument(0, "TARGET")?;
                let mut told = self.post(&format!("/{verb}?target={}", escaped(target)));
                // An upstream may be called that.
                if verb == "kick" && target == "session" && told.status == EXIT_REFUSED {
                    let words = told.errors.trim_end();
                    told.errors = format!("{words}; of one session, say `kick session ID`\n");
                }
                Ok(self.told(told))
            }
            "weight" => {
                let target = escaped(self.argument(0, "TARGET")?);
                let weight = escaped(self.argument(1, "N")?);
                Ok(self.told(self.post(&format!("/weight?target={target}&weight={weight}"))))
            }
            "log-level" => {
                let level = escaped(self.argument(0, "LEVEL")?);
                Ok(self.told(self.post(&format!("/log-level?level={level}"))))
            }
            other => Err(format!("`{other}` is no verb")),
        }
    }

    /// In YAML, as the file has it, or as JSON.
    fn config(&self) -> Outcome {
        let told = self.get("/config");
        if !self.is_json || told.status != EXIT_OK {
            return told;
        }
        match json::document(&told.text) {
            Some(text) => Outcome::done(text),
            None => Outcome::failed(EXIT_REFUSED, "weir says what is no configuration"),
        }
    }

    /// A sentence of weir's, as it is or as JSON.
    fn told(&self, told: Outcome) -> Outcome {
        match (self.is_json, told.status) {
            (true, EXIT_OK) if !told.text.is_empty() => {
                Outcome::done(json::message(true, &told.text))
            }
            (true, EXIT_REFUSED) if !told.errors.is_empty() => {
                let words = told.errors.strip_prefix("weir: ").unwrap_or(&told.errors);
                Outcome {
                    text: json::message(false, words),
                    errors: String::new(),
                    ..told
                }
            }
            _ => told,
        }
    }

    fn why(&self) -> Result<Outcome, String> {
        let target = match &self.last {
            Some(which) => {
                let mut target = format!("/why?last={}", escaped(which));
                if let Some((_, count)) = self.filters.iter().find(|(name, _)| *name == "max") {
                    target += &format!("&max={}", escaped(count));
                }
                target
            }
            None => {
                let missing = |_| "whose? ID or --last WHICH is missing".to_owned();
                let id = self.argument(0, "ID").map_err(missing)?;
                format!("/why?id={}", escaped(id))
            }
        };
        let told = self.get(&target);
        if self.is_json || told.status != EXIT_OK {
            return Ok(told);
        }
        Ok(match why::text(&told.text) {
            Some(text) => Outcome::done(text),
            None => Outcome::failed(EXIT_REFUSED, "weir says what is no answer to that"),
        })
    }

    fn drain(&self) -> Result<Outcome, String> {
        let target = self.argument(0, "TARGET")?;
        let limit = self.wait.as_deref().map(duration).transpose()?;
        let told = self.post(&format!("/drain?target={}", escaped(target)));
        Ok(match limit {
            Some(limit) if told.status == EXIT_OK => {
                self.told(self.await_empty(target, limit, told))
            }
            Some(_) | None => self.told(told),
        })
    }

    /// Looks until nothing runs there any more.
    fn await_empty(&self, target: &str, limit: Duration, told: Outcome) -> Outcome {
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let until_ms = unix_ms().saturating_add(limit_ms);
        loop {
            let status = self.get("/status.json");
            if status.status != EXIT_OK {
                return status;
            }
            let report = Report::read(&status.text);
            match report.and_then(|report| report.active_of(target)) {
                Some(0) => return Outcome::done(format!("{}{target} is empty\n", told.text)),
                Some(active) if unix_ms() >= until_ms => {
                    let plural = if active == 1 { " runs" } else { "s run" };
                    let words = format!("{target} drains still, {active} session{plural}");
                    return Outcome::failed(EXIT_REFUSED, &words);
                }
                None => {
                    let words = format!("{target} is not there any more");
                    return Outcome::failed(EXIT_REFUSED, &words);
                }
                Some(_) => std::thread::sleep(WAIT_STEP),
            }
        }
    }

    fn add(&self) -> Result<Outcome, String> {
        let upstream = escaped(self.argument(0, "UPSTREAM")?);
        let address = escaped(self.argument(1, "ADDRESS")?);
        let mut target = format!("/add?upstream={upstream}&address={address}");
        for (name, value) in [("id", &self.id), ("weight", &self.weight)] {
            if let Some(value) = value {
                target += &format!("&{name}={}", escaped(value));
            }
        }
        Ok(self.told(self.post(&target)))
    }

    fn sessions(&self) -> Outcome {
        let parameters = self.filters.iter();
        let parameters = parameters.map(|(name, value)| format!("{name}={}", escaped(value)));
        let parameters: Vec<String> = parameters.collect();
        let target = format!("/sessions?{}", parameters.join("&"));
        self.table(&target, tables::sessions)
    }

    /// What is there, as a table and what there is to say besides, or as it is.
    fn table(&self, target: &str, table: fn(&str) -> Option<(String, String)>) -> Outcome {
        let told = self.get(target);
        if self.is_json || told.status != EXIT_OK {
            return told;
        }
        match table(&told.text) {
            Some((text, errors)) => Outcome {
                errors,
                ..Outcome::done(text)
            },
            None => Outcome::failed(EXIT_REFUSED, "weir says what cannot be understood"),
        }
    }

    fn argument(&self, at: usize, what: &str) -> Result<&str, String> {
        let argument = self.arguments.get(at).map(String::as_str);
        argument.ok_or_else(|| format!("{what} is missing"))
    }

    /// A table of what weir says of itself, or that as it is.
    fn report(&self, table: impl FnOnce(&Report) -> Result<String, String>) -> Outcome {
        let told = self.get("/status.json");
        if told.status != EXIT_OK {
            return told;
        }
        let report = Report::read(&told.text);
        let table = report
            .ok_or_else(|| "weir says what is no status".to_owned())
            .and_then(|report| table(&report));
        match table {
            Ok(_) if self.is_json => told,
            Ok(text) => Outcome::done(text),
            Err(words) => Outcome::failed(EXIT_REFUSED, &words),
        }
    }

    fn get(&self, target: &str) -> Outcome {
        self.ask(Method::Get, target)
    }

    fn post(&self, target: &str) -> Outcome {
        self.ask(Method::Post, target)
    }

    fn ask(&self, method: Method, target: &str) -> Outcome {
        match client::ask(&self.socket, method, target) {
            Ok(Answer { status: 200, body }) => Outcome::done(body),
            Ok(Answer { body, .. }) => Outcome::failed(EXIT_REFUSED, &body),
            Err(Failure::NotRunning(words)) => Outcome::failed(EXIT_NOT_RUNNING, &words),
            Err(Failure::Late) => Outcome::failed(EXIT_REFUSED, client::LATE),
            Err(Failure::Broken(words)) => Outcome::failed(EXIT_REFUSED, &words),
        }
    }
}

/// `30`, `30s`, `5m`, `1h` or `500ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_lowercase());
    let unit_ms = match &text[digits.len()..] {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    let number: Option<u64> = digits.parse().ok();
    let ms = number.and_then(|it| it.checked_mul(unit_ms));
    match ms {
        Some(ms) if unit_ms > 0 => Ok(Duration::from_millis(ms)),
        Some(_) | None => Err(format!(
            "`--wait` is `{text}`, must be a time such as 30s or 5m"
        )),
    }
}
