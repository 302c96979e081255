//! What can be asked for, by path.

use crate::admin::answer::{Answer, HTML, JSON};
use crate::admin::errand::{Action, Change, NewBackend, Reply, Target};
use crate::admin::json::JsonWriter;
use crate::admin::metrics::{self, Exposition};
use crate::admin::outline::{Outline, UpstreamOutline};
use crate::admin::page;
use crate::admin::request::{Request, Verb};
use crate::admin::routes::Routes;
use crate::admin::status::Status;
use crate::admin::view::View;
use crate::admin::why::{self, Question, Which};
use crate::config::model::WEIGHT_MAX;
use crate::core::request_id::WantedId;
use crate::core::sessions::{GlobalName, SessionFilter};

/// Sessions that are told unless fewer are asked for, and at most.
const SESSIONS_DEFAULT: u32 = 1_000;
const SESSIONS_MAX: u32 = 10_000;
const LOG_LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// What a request comes to.
#[derive(Debug)]
pub(crate) enum Meaning {
    /// Something to look at, which is there.
    Look(Look),
    /// Something that the control loop is asked for.
    Ask(Action),
}

/// What can be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Page,
    Live,
    Ready,
    Metrics(Exposition),
    Status,
    Why(Question),
    Routes,
}

/// A sentence about what is wrong with a request, with its status.
pub(crate) type Mistake = (u16, String);

impl Meaning {
    /// Whether it changes anything, which not everybody may.
    pub(crate) fn acts(&self) -> bool {
        match self {
            Self::Look(_) | Self::Ask(Action::ShowConfig | Action::ShowSessions { .. }) => false,
            Self::Ask(_) => true,
        }
    }
}

/// Understands a request.
///
/// # Errors
/// What is wrong with it, and what is allowed.
pub(crate) fn meaning(request: &Request, outline: &Outline) -> Result<Meaning, Mistake> {
    let path = request.path.as_str();
    check_parameters(request)?;
    let look = match path {
        "/" => Some(Meaning::Look(Look::Page)),
        "/live" => Some(Meaning::Look(Look::Live)),
        "/ready" => Some(Meaning::Look(Look::Ready)),
        "/metrics" => {
            let form = metrics::exposition(&request.accept);
            Some(Meaning::Look(Look::Metrics(form)))
        }
        "/status.json" => Some(Meaning::Look(Look::Status)),
        "/why" => Some(Meaning::Look(Look::Why(question(request)?))),
        "/routes" => Some(Meaning::Look(Look::Routes)),
        "/config" => Some(Meaning::Ask(Action::ShowConfig)),
        "/sessions" => {
            let count_max = number(request, "max", 1, SESSIONS_MAX)?;
            let count_max = count_max.unwrap_or(SESSIONS_DEFAULT);
            let filter = filter(request, outline)?;
            Some(Meaning::Ask(Action::ShowSessions { filter, count_max }))
        }
        _ => None,
    };
    match (look, request.verb) {
        (Some(look), Verb::Get | Verb::Head) => Ok(look),
        (Some(_), _) => Err((405, format!("{path} is only looked at, with GET"))),
        (None, Verb::Post) => action(request, outline).map(Meaning::Ask),
        (None, _) if is_action(path) => Err((405, format!("{path} is done with POST"))),
        (None, _) => Err(unknown(path)),
    }
}

/// A path, and what can be said there.
type Known = (&'static str, &'static [&'static str]);

const ACTIONS: [Known; 13] = [
    ("/reload", &["reset"]),
    ("/reopen", &[]),
    ("/upgrade", &["verdict"]),
    ("/quit", &[]),
    ("/stop", &[]),
    ("/drain", &["target"]),
    ("/disable", &["target"]),
    ("/enable", &["target"]),
    ("/weight", &["target", "weight"]),
    ("/add", &["upstream", "address", "id", "weight"]),
    ("/remove", &["target"]),
    ("/kick", &["target", "session"]),
    ("/log-level", &["level"]),
];

/// Elsewhere one looks at the same, whatever is said.
const QUESTIONS: [Known; 2] = [
    ("/why", &["id", "last", "max"]),
    ("/sessions", &["listener", "backend", "max"]),
];

/// What is misspelt would be as if it had not been said: a reset, a weight, a filter.
fn check_parameters(request: &Request) -> Result<(), Mistake> {
    let mut known = ACTIONS.iter().chain(&QUESTIONS);
    let Some((path, names)) = known.find(|(path, _)| *path == request.path) else {
        return Ok(());
    };
    for (place, (name, _)) in request.parameters.iter().enumerate() {
        if !names.contains(&name.as_str()) {
            let there = some_of(names.iter().copied());
            return Err((400, format!("no parameter `{name}` of {path}: {there}")));
        }
        if request.parameters[..place].iter().any(|it| it.0 == *name) {
            return Err((400, format!("`{name}` is said twice")));
        }
    }
    Ok(())
}

fn is_action(path: &str) -> bool {
    ACTIONS.iter().any(|(action, _)| *action == path)
}

fn unknown(path: &str) -> Mistake {
    let actions = ACTIONS.map(|(path, _)| path);
    let there = "/, /live, /ready, /metrics, /status.json, /routes, /why, /config, /sessions \
                 and, with POST, ";
    (
        404,
        format!("no {path} here, but {there}{}", actions.join(", ")),
    )
}

/// Of which requests it is asked why they ended as they did.
fn question(request: &Request) -> Result<Question, Mistake> {
    if let Some(id) = request.parameter("id") {
        return Ok(Question::Of(WantedId::of(id)));
    }
    let words = request.parameter("last").unwrap_or_default();
    let which = Which::read(words).ok_or_else(|| {
        let words = format!(
            "`last` is `{words}`, must be {}; or name one by `id`",
            Which::WORDS
        );
        (400, words)
    })?;
    let count_max = number(request, "max", 1, why::LAST_MAX)?;
    Ok(Question::Last {
        which,
        count_max: count_max.unwrap_or(why::LAST_DEFAULT),
    })
}

fn action(request: &Request, outline: &Outline) -> Result<Action, Mistake> {
    let steer = |change| {
        let target = target(request, outline)?;
        Ok(Action::Steer { target, change })
    };
    match request.path.as_str() {
        "/reload" => {
            let resets = request.parameter("reset").is_some();
            Ok(Action::Reload { resets })
        }
        "/reopen" => Ok(Action::Reopen),
        "/upgrade" => {
            let verdict_to = request.parameter("verdict").map(str::to_owned);
            Ok(Action::Upgrade { verdict_to })
        }
        "/quit" => Ok(Action::Quit),
        "/stop" => Ok(Action::Stop),
        "/drain" => steer(Change::Drain),
        "/disable" => steer(Change::Disable),
        "/enable" => steer(Change::Enable),
        "/weight" => steer(Change::Weight {
            weight: weight(request)?,
        }),
        "/add" => add(request, outline),
        "/remove" => {
            let target = target(request, outline)?;
            match target.backend {
                Some(_) => Ok(Action::Remove { target }),
                None => Err((400, format!("`target` must be one backend: {target}/NAME"))),
            }
        }
        "/kick" => match request.parameter("session") {
            Some(text) => match GlobalName::parse(text) {
                Some(id) => Ok(Action::KickSession { id }),
                None => Err((
                    400,
                    format!(
                        "`session` is `{text}`, must be an id, as `weir ctl sessions` tells them"
                    ),
                )),
            },
            None => {
                let target = target(request, outline)?;
                Ok(Action::Kick { target })
            }
        },
        "/log-level" => {
            let level = request.parameter("level").unwrap_or_default();
            match LOG_LEVELS.contains(&level) {
                true => Ok(Action::LogLevel {
                    level: level.to_owned(),
                }),
                false => {
                    let words = LOG_LEVELS.join(", ");
                    Err((400, format!("`level` is `{level}`, must be one of {words}")))
                }
            }
        }
        path => Err(unknown(path)),
    }
}

/// Which sessions are asked for: listener and backend must be there.
fn filter(request: &Request, outline: &Outline) -> Result<SessionFilter, Mistake> {
    let listener = request.parameter("listener");
    let names = || outline.listeners.iter().map(|it| it.name.as_str());
    if let Some(name) = listener
        && !names().any(|it| it == name)
    {
        return Err((404, format!("no listener {name}: {}", some_of(names()))));
    }
    let backend = request.parameter("backend");
    let backend = backend
        .map(|text| target_named(text, outline))
        .transpose()?;
    let (upstream, backend) = backend.map_or((None, None), |it| (Some(it.upstream), it.backend));
    Ok(SessionFilter {
        listener: listener.map(str::to_owned),
        upstream,
        backend,
    })
}

/// The backend or upstream that is named, which must be there.
fn target(request: &Request, outline: &Outline) -> Result<Target, Mistake> {
    match request.parameter("target") {
        Some(text) if !text.is_empty() => target_named(text, outline),
        _ => {
            let words = "`target` is missing: UPSTREAM or UPSTREAM/BACKEND";
            Err((400, words.to_owned()))
        }
    }
}

fn target_named(text: &str, outline: &Outline) -> Result<Target, Mistake> {
    let mut meant = readings(text, outline).filter(|(upstream, backend)| {
        let is_it = |name: &str| upstream.backends.iter().any(|it| it.name == name);
        backend.is_none_or(is_it)
    });
    match (meant.next(), meant.next()) {
        (Some((upstream, backend)), None) => Ok(Target {
            upstream: upstream.name.clone(),
            backend: backend.map(str::to_owned),
        }),
        (Some((one, _)), Some((other, _))) => {
            let [one, other] = [&one.name, &other.name];
            let words = format!("{text} can be of {other} and of {one}: names that have a `/`");
            Err((409, words))
        }
        (None, _) => Err(unknown_target(text, outline)),
    }
}

/// As what a target can be understood: a whole upstream, or one with a backend. Both may have
/// slashes in their names, as the upstreams of routes without names do.
fn readings<'a>(
    text: &'a str,
    outline: &'a Outline,
) -> impl Iterator<Item = (&'a UpstreamOutline, Option<&'a str>)> {
    let ends = text.rmatch_indices('/').map(|(at, _)| at);
    let halves = ends.map(|at| (&text[..at], Some(&text[at + 1..])));
    let all = [(text, None)].into_iter().chain(halves);
    all.filter_map(|(upstream, backend)| Some((outline.upstream(upstream)?, backend)))
}

fn unknown_target(text: &str, outline: &Outline) -> Mistake {
    match readings(text, outline).next() {
        Some((upstream, backend)) => {
            let (name, backend) = (&upstream.name, backend.unwrap_or_default());
            let there = some_of(upstream.backends.iter().map(|it| it.name.as_str()));
            (404, format!("no backend {backend} in {name}: {there}"))
        }
        None => unknown_upstream(text, outline),
    }
}

fn unknown_upstream(name: &str, outline: &Outline) -> Mistake {
    let there = some_of(outline.upstreams.iter().map(|it| it.name.as_str()));
    (404, format!("no upstream {name}: {there}"))
}

/// Names in a sentence, as far as a person would read them.
fn some_of<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN_MAX: usize = 10;
    let names: Vec<&str> = names.collect();
    let shown = names.len().min(SHOWN_MAX);
    let text = names[..shown].join(", ");
    match names.len() - shown {
        0 if shown == 0 => "there is none".to_owned(),
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

fn weight(request: &Request) -> Result<Option<u32>, Mistake> {
    match request.parameter("weight") {
        Some("file") => Ok(None),
        Some(_) => number(request, "weight", 0, WEIGHT_MAX),
        None => {
            let words = format!("`weight` is missing: 0 to {WEIGHT_MAX}, or `file`");
            Err((400, words))
        }
    }
}

fn add(request: &Request, outline: &Outline) -> Result<Action, Mistake> {
    let Some(upstream) = request.parameter("upstream").filter(|it| !it.is_empty()) else {
        return Err((400, "`upstream` is missing: its name".to_owned()));
    };
    let found = outline.upstream(upstream);
    let found = found.ok_or_else(|| unknown_upstream(upstream, outline))?;
    let Some(address) = request.parameter("address") else {
        return Err((
            400,
            "`address` is missing: HOST:PORT or unix:PATH".to_owned(),
        ));
    };
    let id = request.parameter("id").map(str::to_owned);
    let name = id.as_deref().unwrap_or(address);
    if found.backends.iter().any(|it| it.name == name) {
        return Err((409, format!("{upstream} has a backend {name} already")));
    }
    Ok(Action::Add {
        upstream: upstream.to_owned(),
        backend: NewBackend {
            address: address.to_owned(),
            id,
            weight: number(request, "weight", 0, WEIGHT_MAX)?,
        },
    })
}

fn number(request: &Request, name: &str, least: u32, most: u32) -> Result<Option<u32>, Mistake> {
    let Some(text) = request.parameter(name) else {
        return Ok(None);
    };
    let value = text.parse().ok().filter(|it| (least..=most).contains(it));
    match value {
        Some(value) => Ok(Some(value)),
        None => {
            let words = format!("`{name}` is `{text}`, must be {least} to {most}");
            Err((400, words))
        }
    }
}

/// What there is to see.
pub(crate) fn show(look: Look, view: &View<'_>) -> Answer {
    match look {
        Look::Page => show_page(true),
        Look::Live => Answer::text(200, "live"),
        Look::Ready => match view.readiness() {
            Ok(()) => Answer::text(200, "ready"),
            Err(why) => Answer::text(503, format!("not ready: {why}")),
        },
        Look::Metrics(form) => Answer::flow(form.content_type(), metrics::Scrape::new(form, view)),
        Look::Status => Answer::flow(JSON, Status::default()),
        Look::Why(question) => why::answer(question, view),
        Look::Routes => Answer::flow(JSON, Routes::default()),
    }
}

/// The page, with how things are or without: it holds nothing that has to be kept from anybody, and
/// asks for a token itself.
pub(crate) fn show_page(shows_rows: bool) -> Answer {
    Answer::flow(HTML, page::Page::new(shows_rows))
        .with("Content-Security-Policy", page::CONTENT_SECURITY_POLICY)
}

/// What came of an errand: as text, or for programs that want it as JSON.
pub(crate) fn reply(reply: &Reply, accept: &str) -> Answer {
    match reply {
        Reply::Told(json) => Answer::whole(200, JSON, json.clone().into_bytes()),
        Reply::Done(_) | Reply::Refused(_) | Reply::Crowded(_) => {
            mistake(reply.status(), reply.text(), accept.contains(JSON))
        }
    }
}

/// The answer to a request that is not understood: 405 says what would be (RFC 9110 section
/// 15.5.6).
pub(crate) fn mistaken(request: &Request, mistake: &Mistake, is_json: bool) -> Answer {
    let (status, words) = mistake;
    let answer = self::mistake(*status, words, is_json);
    match status {
        405 if is_action(&request.path) => answer.with("Allow", "POST"),
        405 => answer.with("Allow", "GET, HEAD"),
        _ => answer,
    }
}

/// A sentence as JSON or text.
pub(crate) fn mistake(status: u16, text: &str, is_json: bool) -> Answer {
    if !is_json {
        return Answer::text(status, text);
    }
    let mut out = Vec::new();
    let mut json = JsonWriter::new(&mut out);
    json.begin_object();
    json.field("ok", status == 200);
    json.text_field("message", text);
    json.end_object();
    out.push(b'\n');
    Answer::whole(status, JSON, out)
}
