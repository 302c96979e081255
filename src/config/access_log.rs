//! `access_log`: off, on, where to, or a mapping.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::compile::Compiler;
use super::defaults;
use super::health::{ranges, statuses};
use super::key::{Key, key, mapping};
use super::model::{AccessLog, Config, LogFormat, LogWhen};
use super::node::{Entry, Node, Value, describe_text};
use super::problem::Position;
use super::section::{read_mapping, read_value, report_wrong};
use super::suggest;
use super::tree::{self, Tree};
use super::values::{self, Read, one_of};
use crate::core::access_log::form::{self, Form, FormatError, SyslogFormat};
use crate::core::address::Address;

pub(super) static ACCESS_LOG: &[Key<AccessLog>] = &[
    Key::new(
        "path",
        |it, entry, c| c.set(entry, &mut it.path, log_path(&entry.value)),
        |it, _| {
            it.syslog
                .is_none()
                .then(|| tree::path_or("stdout")(&it.path))
        },
    ),
    Key::new(
        "syslog",
        |it, entry, c| {
            c.set(entry, &mut it.syslog, daemon(&entry.value).map(Some));
            it.syslog_format = usual_format(it.syslog.as_ref());
        },
        |it, _| it.syslog.as_ref().map(daemon_tree),
    ),
    Key::new(
        "syslog_format",
        |it, entry, c| {
            let read = one_of(SYSLOG_FORMATS)(&entry.value);
            c.set(entry, &mut it.syslog_format, read);
        },
        |it, _| {
            it.syslog
                .as_ref()
                .map(|_| tree::one_of(SYSLOG_FORMATS)(&it.syslog_format))
        },
    ),
    Key::new(
        "facility",
        |it, entry, c| c.set(entry, &mut it.facility, one_of(FACILITIES)(&entry.value)),
        |it, _| {
            it.syslog
                .as_ref()
                .map(|_| tree::one_of(FACILITIES)(&it.facility))
        },
    ),
    key! { "format", AccessLog.format, format, format_tree },
    Key::new(
        "when",
        |it, entry, c| it.when = when(&entry.value, c),
        |it, shown| mapping(WHEN, it.when.as_ref()?, shown),
    ),
];

pub(super) static WHEN: &[Key<LogWhen>] = &[
    Key::new(
        "statuses",
        |it, entry, c| c.set(entry, &mut it.statuses, statuses(&entry.value)),
        |it, _| (!it.statuses.is_empty()).then(|| ranges(&it.statuses)),
    ),
    key! {
        "slower_than", LogWhen.slower_than,
        |node| values::duration(defaults::LOG_SLOWER_THAN)(node).map(Some),
        |it: &Option<Duration>| it.as_ref().map(tree::duration),
    },
    Key::new(
        "sample_percent",
        |it, entry, c| c.set(entry, &mut it.sample_ppm, percent(&entry.value)),
        |it, _| (it.sample_ppm > 0).then(|| tree::word(f64::from(it.sample_ppm) / PPM_PER_PERCENT)),
    ),
];

/// Millionths in a hundredth.
const PPM_PER_PERCENT: f64 = 10_000.0;

const EXAMPLE: &str = r#"'{client} {status} {duration_ms} "{header:User-Agent}"'"#;

/// By their numbers (RFC 5424 section 6.2.1).
const FACILITIES: &[(&str, u8)] = &[
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", defaults::LOG_FACILITY),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

const SYSLOG_FORMATS: &[(&str, SyslogFormat)] = &[
    ("rfc5424", SyslogFormat::Rfc5424),
    ("local", SyslogFormat::Local),
];

/// Where the daemon of the machine listens, which takes what syslog(3) writes.
const LOCAL_SYSLOG: &str = "/dev/log";

const FORMATS: &[(&str, LogFormat)] = &[
    ("common", LogFormat::Common),
    ("combined", LogFormat::Combined),
    ("json", LogFormat::Json),
];

pub(super) fn access_log(config: &mut Config, entry: &Entry, c: &mut Compiler<'_>) {
    config.access_log = read(&entry.value, c);
    let has_place = |it: &AccessLog| it.path.is_some() || it.syslog.is_some();
    let is_named = config.access_log.as_ref().is_some_and(has_place);
    c.positions.access_log = is_named.then(|| place_at(&entry.value));
}

fn read(node: &Node, c: &mut Compiler<'_>) -> Option<AccessLog> {
    if values::switch(node) == Some(false) {
        return None;
    }
    let mut log = AccessLog {
        path: None,
        syslog: None,
        syslog_format: SyslogFormat::Rfc5424,
        facility: defaults::LOG_FACILITY,
        format: LogFormat::Combined,
        when: None,
    };
    if let Value::Map(_) = node.value {
        read_mapping(("`access_log`", ""), node, ACCESS_LOG, &mut log, c);
        check_places(node, &log, c);
    } else {
        log.path = read_value("access_log", node, &mut c.problems, |node| {
            log_path(node).map_err(|must| format!("off, {must}"))
        })?;
    }
    Some(log)
}

/// Lines go to one place, and facility and header are of syslog.
fn check_places(node: &Node, log: &AccessLog, c: &mut Compiler<'_>) {
    let Value::Map(entries) = &node.value else {
        return;
    };
    let find = |key: &str| entries.iter().find(|entry| entry.key == key);
    let syslog = find("syslog");
    if let (Some(_), Some(syslog)) = (find("path"), syslog) {
        let message = "`syslog` and `path` are two places for the same lines; one may stand";
        c.problems.error(syslog.key_at, message.to_owned());
    }
    let of_syslog = ["syslog_format", "facility"].into_iter().filter_map(find);
    for entry in of_syslog.filter(|_| syslog.is_none()) {
        let message = format!("`{}` is for `syslog`, which is not there", entry.key);
        c.problems.error(entry.key_at, message);
    }
    if let (Some(entry), Some(Address::Ip(_)), SyslogFormat::Local) =
        (find("syslog_format"), &log.syslog, log.syslog_format)
    {
        let message = "`syslog_format` is local, which is for Unix sockets: it says neither when \
                       nor from which host";
        c.problems.error(entry.value.at, message.to_owned());
    }
}

fn usual_format(daemon: Option<&Address>) -> SyslogFormat {
    match daemon {
        Some(Address::Unix(path)) if path == Path::new(LOCAL_SYSLOG) => SyslogFormat::Local,
        Some(_) | None => SyslogFormat::Rfc5424,
    }
}

/// Where a syslog daemon listens.
fn daemon(node: &Node) -> Read<Address> {
    const MUST: &str = "the path of a socket, such as /dev/log, or udp:// with an IP address and a \
                        port, such as \"udp://127.0.0.1:514\" or \"udp://[::1]:514\"";
    let given = values::text(node).map_err(|_| MUST.to_owned())?;
    let Some(address) = given.strip_prefix("udp://") else {
        let path = values::unix_path(given).map_err(|_| MUST.to_owned())?;
        return Ok(Address::Unix(path));
    };
    let address = address.parse::<SocketAddr>().ok();
    let address = address.filter(|it| it.port() != 0 && !it.ip().is_unspecified());
    address.map(Address::Ip).ok_or_else(|| MUST.to_owned())
}

fn daemon_tree(daemon: &Address) -> Tree {
    match daemon {
        Address::Ip(ip) => tree::text(format!("udp://{ip}")),
        Address::Unix(path) => tree::text(path.to_string_lossy()),
    }
}

fn when(node: &Node, c: &mut Compiler<'_>) -> Option<LogWhen> {
    let mut when = LogWhen::default();
    if !read_mapping(("`when`", ""), node, WHEN, &mut when, c) {
        return None;
    }
    if matches!(&node.value, Value::Map(entries) if entries.is_empty()) {
        let must = "a mapping of one or more of statuses, slower_than and sample_percent";
        report_wrong("when", node, must, &mut c.problems);
    }
    Some(when)
}

/// A share of all, in millionths.
fn percent(node: &Node) -> Read<u32> {
    let percent = match node.value {
        Value::Integer(whole) => u8::try_from(whole).ok().map(f64::from),
        Value::Float(percent) => Some(percent),
        Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
    };
    let percent = percent.filter(|it| (0.0001..=100.0).contains(it));
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is from 1 to a million"
    )]
    let ppm = percent.map(|it| (it * PPM_PER_PERCENT).round() as u32);
    ppm.ok_or_else(|| "a number from 0.0001 to 100, such as 1 or 0.5".to_owned())
}

/// A word for a form that is built in, or a format of one's own.
fn format(node: &Node) -> Read<LogFormat> {
    match values::text(node) {
        Ok(text) if text.contains(['{', '}', ' ', '%', '$', '\n']) => match Form::parse(text) {
            Ok(_) => Ok(LogFormat::Own(text.to_owned())),
            Err(error) => Err(format_must(&error)),
        },
        Ok(_) | Err(_) => one_of(FORMATS)(node)
            .map_err(|must| format!("{must}, or text with fields in braces, such as {EXAMPLE}")),
    }
}

#[cold]
fn format_must(error: &FormatError) -> String {
    let hint = match error {
        FormatError::UnknownField(name) => suggest::hint(name, form::field_names()),
        FormatError::BadHeader(_)
        | FormatError::Unclosed(_)
        | FormatError::Control
        | FormatError::NoField
        | FormatError::TooLong
        | FormatError::TooManyFields => String::new(),
    };
    let names: Vec<&str> = form::field_names().collect();
    format!(
        "text with fields in braces, such as {EXAMPLE}, but this {error}{hint}; allowed are {}, \
         header:NAME and response_header:NAME, and {{{{ for a brace",
        names.join(", ")
    )
}

fn format_tree(format: &LogFormat) -> Tree {
    match format {
        LogFormat::Own(text) => tree::text(text),
        LogFormat::Common | LogFormat::Combined | LogFormat::Json => tree::one_of(FORMATS)(format),
    }
}

/// Where a good `access_log` names its file or daemon.
fn place_at(node: &Node) -> Position {
    let Value::Map(entries) = &node.value else {
        return node.at;
    };
    let path = entries
        .iter()
        .find(|entry| matches!(entry.key.as_str(), "path" | "syslog"));
    path.map_or(node.at, |path| path.value.at)
}

/// Whose file is none to open: a service manager may have put a socket there.
const STDOUT_PATHS: [&str; 3] = ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];

/// `stdout` or a file. A bare word is most likely a setting of another program, and would be the
/// name of a file wherever weir happens to be started.
fn log_path(node: &Node) -> Read<Option<PathBuf>> {
    const MUST: &str = "stdout or the path of a file, such as /var/log/weir/access.log";
    if values::switch(node) == Some(true) {
        return Ok(None);
    }
    let path = values::text(node).map_err(|_| MUST.to_owned())?;
    let kind = path.split(':').next().unwrap_or_default();
    match kind.to_ascii_lowercase().as_str() {
        "stdout" if kind == path => return Ok(None),
        "common" | "combined" | "json" => {
            let mapping = format!("{{path: stdout, format: {kind}}}");
            return Err(format!("{MUST}; a format stands beside it, as {mapping}"));
        }
        "syslog" | "udp" => {
            let unix = "{syslog: /dev/log}";
            let udp = "{syslog: \"udp://127.0.0.1:514\"}";
            return Err(format!(
                "{MUST}; a syslog daemon is named as {unix} or {udp}"
            ));
        }
        "stderr" => {
            let mapping = "{path: stdout, format: combined}";
            return Err(format!(
                "{MUST}, also as {mapping}: weir writes accesses to no {kind}, but what runs it \
                 can take them from stdout"
            ));
        }
        _ => {}
    }
    if path.is_empty() || path.ends_with('/') || path.contains('\0') {
        Err(MUST.to_owned())
    } else if STDOUT_PATHS.contains(&path) {
        Ok(None)
    } else if !path.contains(['/', '.']) {
        let example = describe_text(&format!("./{path}"));
        Err(format!("{MUST}; a file in the working folder is {example}"))
    } else {
        Ok(Some(PathBuf::from(path)))
    }
}
