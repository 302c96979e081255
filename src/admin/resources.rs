//! What can be asked for, by path.

use crate::admin::answer::{Answer, HTML, JSON};
use crate::admin::errand::{Action, Change, NewBackend, Reply, Target};
use crate::admin::json::JsonWriter;
use crate::admin::metrics::{self, Exposition};
use crate::admin::outline::Outline;
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
        (None, _) if ACTIONS.contains(&path) => Err((405, format!("{path} is done with POST"))),
        (None, _) => Err(unknown(path)),
    }
}

const ACTIONS: [&str; 13] = [
    "/reload",
    "/reopen",
    "/upgrade",
    "/quit",
    "/stop",
    "/drain",
    "/disable",
    "/enable",
    "/weight",
    "/add",
    "/remove",
    "/kick",
    "/log-level",
];

fn unknown(path: &str) -> Mistake {
    let there = "/, /live, /ready, /metrics, /status.json, /routes, /why, /config, /sessions \
                 and, with POST, ";
    (
        404,
        format!("no {path} here, but {there}{}", ACTIONS.join(", ")),
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
    Ok(SessionFilter {
        listener: listener.map(str::to_owned),
        backend: backend.map(|target| target.to_string()),
    })
}

/// The backend or upstream that is named, which must be there.
fn target(request: &Request, outline: &Outline) -> Result<Target, Mistake> {
    match request.parameter("target") {
        Some(text) => target_named(text, outline),
        None => {
            let words = "`target` is missing: UPSTREAM or UPSTREAM/BACKEND";
            Err((400, words.to_owned()))
        }
    }
}

fn target_named(text: &str, outline: &Outline) -> Result<Target, Mistake> {
    let (upstream, backend) = match text.split_once('/') {
        Some((upstream, backend)) => (upstream, Some(backend)),
        None => (text, None),
    };
    let found = find_upstream(outline, upstream)?;
    if let Some(backend) = backend
        && !found.backends.iter().any(|it| it.name == backend)
    {
        let there = some_of(found.backends.iter().map(|it| it.name.as_str()));
        return Err((404, format!("no backend {backend} in {upstream}: {there}")));
    }
    Ok(Target {
        upstream: upstream.to_owned(),
        backend: backend.map(str::to_owned),
    })
}

fn find_upstream<'a>(
    outline: &'a Outline,
    name: &str,
) -> Result<&'a crate::admin::outline::UpstreamOutline, Mistake> {
    outline.upstream(name).ok_or_else(|| {
        let there = some_of(outline.upstreams.iter().map(|it| it.name.as_str()));
        (404, format!("no upstream {name}: {there}"))
    })
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
    let upstream = request.parameter("upstream").unwrap_or_default();
    let found = find_upstream(outline, upstream)?;
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
        Reply::Done(_) | Reply::Refused(_) => {
            mistake(reply.status(), reply.text(), accept.contains(JSON))
        }
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
