//! The HTTP settings of one listener in the form that requests use.
//!
//! A request keeps the site it began with, so a reload never changes a request under way.

use std::sync::Arc;

use crate::board::{RouteColumn, name_key};
use crate::config::model::{self, Action, FixedResponse};
use crate::core::http::claims::Claims;
use crate::core::http::forwarded::Network;
use crate::core::http::head::HeadLimits;
use crate::core::http::https::{STRICT_TRANSPORT_SECURITY, hsts_line, hsts_value};
use crate::core::http::rewrite::FieldEdits;
use crate::core::http::route::{HostPattern, RouteTable, Rule};
use crate::core::http::trace::{TRACEPARENT, TRACESTATE};
use crate::core::table::Table;
use crate::worker::keys::UpstreamSlot;

/// What a listener does with requests.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) table: RouteTable,
    pub(crate) routes: Vec<Route>,
    pub(crate) trusted: Vec<Network>,
    pub(crate) via: Option<String>,
    pub(crate) forwarded: bool,
    /// The field that carries the id of a request; none where none does.
    pub(crate) request_id: Option<String>,
    /// What untrusted clients may not send.
    pub(crate) claims: Arc<Claims>,
    pub(crate) limits: HeadLimits,
    pub(crate) requests_max: Option<u64>,
    /// The path at which weir tells whether it is ready.
    pub(crate) monitor_path: Option<String>,
    pub(crate) error_pages: Vec<model::ErrorPage>,
    /// The line of each answer that goes over TLS; empty without one.
    hsts: Vec<u8>,
}

/// One route.
#[derive(Debug)]
pub(crate) struct Route {
    /// As in the access log.
    pub(crate) name: String,
    /// The key of its name on the board; 0 for one that is not in the file.
    pub(crate) key: u64,
    /// Whether the access log tells of its requests.
    pub(crate) is_logged: bool,
    pub strip_prefix: bool,
    request_edits: FieldEdits,
    /// The same for requests that get a `traceparent`; none where they get none.
    traced_edits: Option<FieldEdits>,
    /// Whether requests are told their id.
    pub(crate) tells_id: bool,
    response_edits: FieldEdits,
    /// The same over TLS, where they differ.
    secure_response_edits: Option<FieldEdits>,
    pub body_bytes_max: Option<u64>,
    pub abort_on_close: Option<bool>,
    /// They win over the upstream's.
    pub timeouts: model::TimeoutOverrides,
    pub(crate) act: Act,
    /// Where its responses are counted.
    pub(crate) column: RouteColumn,
}

/// What a route does.
#[derive(Debug)]
pub(crate) enum Act {
    /// Forward.
    Proxy(UpstreamSlot),
    /// Answer.
    Respond(Fixed),
    /// Send elsewhere.
    Redirect { status: u16, location: String },
    /// Send to the same place over https.
    ToHttps(model::HttpsRedirect),
}

impl Route {
    /// Whether requests may get a `traceparent`.
    pub(crate) fn may_trace(&self) -> bool {
        self.traced_edits.is_some()
    }

    /// How requests are edited, that get a `traceparent` or not.
    pub(crate) fn request_edits(&self, is_traced: bool) -> &FieldEdits {
        match &self.traced_edits {
            Some(edits) if is_traced => edits,
            Some(_) | None => &self.request_edits,
        }
    }

    /// How responses of backends are edited for a session.
    pub(crate) fn response_edits(&self, is_secure: bool) -> &FieldEdits {
        match &self.secure_response_edits {
            Some(edits) if is_secure => edits,
            Some(_) | None => &self.response_edits,
        }
    }
}

/// A fixed answer.
#[derive(Debug)]
pub(crate) struct Fixed {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) edits: FieldEdits,
}

impl Site {
    /// The site of the listener with this column and these settings; `upstreams` gives the slot of
    /// each upstream of the configuration, `columns` are those of its first routes.
    ///
    /// # Errors
    /// What the configuration should have refused.
    pub(crate) fn new(
        column: &str,
        http: &model::Http,
        upstreams: &[UpstreamSlot],
        columns: &[RouteColumn],
    ) -> Result<Self, String> {
        let mut rules: Vec<Rule> = http.routes.iter().map(rule).collect();
        // Behind all others, so that one for the same requests wins over it.
        rules.extend(http.redirect_to_https.map(|_| all_requests()));
        let table =
            RouteTable::new(&rules).map_err(|error| format!("route {}: bad prefix", error.rule))?;
        let columns = columns.iter().copied();
        let columns = columns.chain(std::iter::repeat(RouteColumn::UNLISTED));
        let routes = http.routes.iter().zip(columns).map(|(settings, counted)| {
            let mut request_edits = edits(&settings.request_headers)?;
            let tells_id = take_over(&mut request_edits, http.request_id.as_deref())?;
            let name = settings.name();
            Ok(Route {
                key: name_key(Table::Routes, &model::route_column_name(column, &name)),
                name,
                is_logged: settings.access_log,
                strip_prefix: settings.strip_prefix,
                traced_edits: traced_edits(http, &request_edits)?,
                request_edits,
                tells_id,
                response_edits: edits(&settings.response_headers)?,
                secure_response_edits: secure_edits(http, &settings.response_headers)?,
                body_bytes_max: settings.body_bytes_max.or(http.body_bytes_max),
                abort_on_close: settings.abort_on_close,
                timeouts: settings.timeouts,
                column: counted,
                act: match &settings.action {
                    Action::Proxy(upstream) => Act::Proxy(upstreams[*upstream]),
                    Action::Respond(response) => Act::Respond(fixed(response)?),
                    Action::Redirect { status, location } => Act::Redirect {
                        status: *status,
                        location: location.clone(),
                    },
                },
            })
        });
        let mut routes = routes.collect::<Result<Vec<Route>, String>>()?;
        routes.extend(http.redirect_to_https.map(to_https));
        Ok(Self {
            table,
            routes,
            trusted: http.trusted_proxies.clone(),
            via: http.via.clone(),
            forwarded: http.forwarded,
            request_id: http.request_id.clone(),
            claims: Arc::new(claims(&http.forwarded_fields)?),
            limits: HeadLimits {
                head_bytes_max: http.head_bytes_max,
                fields_max: http.fields_max,
            },
            requests_max: http.requests_max,
            monitor_path: http.monitor_path.clone(),
            error_pages: http.error_pages.clone(),
            hsts: http
                .hsts
                .map_or_else(Vec::new, |it| hsts_line(it.as_secs())),
        })
    }

    /// What each answer of weir's own on a session says of staying with https.
    pub(crate) fn hsts(&self, is_secure: bool) -> &[u8] {
        if is_secure { &self.hsts } else { b"" }
    }

    /// Whether a route leads to this upstream.
    pub(crate) fn leads_to(&self, upstream: UpstreamSlot) -> bool {
        let is_route = |route: &Route| matches!(route.act, Act::Proxy(slot) if slot == upstream);
        self.routes.iter().any(is_route)
    }
}

fn rule(settings: &model::Route) -> Rule {
    Rule {
        host: settings.host.clone(),
        prefix: settings.prefix.clone(),
        methods: settings.methods.clone(),
    }
}

/// What no other route takes.
fn all_requests() -> Rule {
    Rule {
        host: HostPattern::Any,
        prefix: "/".to_owned(),
        methods: Vec::new(),
    }
}

fn to_https(redirect: model::HttpsRedirect) -> Route {
    Route {
        name: "redirect_to_https".to_owned(),
        key: 0,
        is_logged: true,
        strip_prefix: false,
        request_edits: FieldEdits::none(),
        traced_edits: None,
        tells_id: false,
        response_edits: FieldEdits::none(),
        secure_response_edits: None,
        body_bytes_max: None,
        abort_on_close: None,
        timeouts: model::TimeoutOverrides::default(),
        act: Act::ToHttps(redirect),
        column: RouteColumn::UNLISTED,
    }
}

/// The edits of responses over TLS: as a browser takes the first of several such fields (RFC 6797
/// section 8.1), that of the backend is left out, but what the route says wins.
fn secure_edits(
    http: &model::Http,
    settings: &model::HeaderEdits,
) -> Result<Option<FieldEdits>, String> {
    let is_hsts = |name: &String| name.eq_ignore_ascii_case(STRICT_TRANSPORT_SECURITY);
    let written = settings.set.iter().chain(&settings.add);
    let mut named = settings.remove.iter().chain(written.map(|(name, _)| name));
    let (Some(max_age), false) = (http.hsts, named.any(is_hsts)) else {
        return Ok(None);
    };
    let mut edits = edits(settings)?;
    let value = hsts_value(max_age.as_secs());
    let refused = |_| format!("field {STRICT_TRANSPORT_SECURITY} cannot be set");
    edits
        .set(STRICT_TRANSPORT_SECURITY.as_bytes(), &value)
        .map_err(refused)?;
    Ok(Some(edits))
}

/// Leaves out what came in the field that carries ids, unless the route says what becomes of it;
/// whether weir writes it.
#[inline(never)]
fn take_over(edits: &mut FieldEdits, name: Option<&str>) -> Result<bool, String> {
    match name {
        Some(name) if !edits.mention(name) => {
            let removed = edits.remove(name.as_bytes());
            removed.map_err(|_| format!("field {name} cannot carry ids"))?;
            Ok(true)
        }
        Some(_) | None => Ok(false),
    }
}

/// The edits of requests that get a `traceparent`; what came of a trace is left out.
#[inline(never)]
fn traced_edits(http: &model::Http, edits: &FieldEdits) -> Result<Option<FieldEdits>, String> {
    if !http.trace || edits.mention(TRACEPARENT) {
        return Ok(None);
    }
    let mut edits = edits.clone();
    for name in [TRACEPARENT, TRACESTATE] {
        let removed = edits.remove(name.as_bytes());
        removed.map_err(|_| format!("field {name} cannot be written"))?;
    }
    Ok(Some(edits))
}

fn claims(settings: &model::ForwardedFields) -> Result<Claims, String> {
    let mut claims = Claims::default();
    let refused = |name: &str| format!("field {name} cannot be listed");
    for name in &settings.drop {
        claims.drop(name.as_bytes()).map_err(|_| refused(name))?;
    }
    for name in &settings.keep {
        claims.keep(name.as_bytes()).map_err(|_| refused(name))?;
    }
    Ok(claims)
}

fn fixed(settings: &FixedResponse) -> Result<Fixed, String> {
    let mut edits = FieldEdits::none();
    for (name, value) in &settings.headers {
        edits
            .set(name.as_bytes(), value.as_bytes())
            .map_err(|_| format!("field {name} cannot be set"))?;
    }
    Ok(Fixed {
        status: settings.status,
        body: settings.body.clone(),
        edits,
    })
}

#[inline(never)]
fn edits(settings: &model::HeaderEdits) -> Result<FieldEdits, String> {
    let mut edits = FieldEdits::none();
    let refused = |name: &str| format!("field {name} cannot be edited");
    for name in &settings.remove {
        edits.remove(name.as_bytes()).map_err(|_| refused(name))?;
    }
    for (name, value) in &settings.set {
        edits
            .set(name.as_bytes(), value.as_bytes())
            .map_err(|_| refused(name))?;
    }
    for (name, value) in &settings.add {
        edits
            .add(name.as_bytes(), value.as_bytes())
            .map_err(|_| refused(name))?;
    }
    Ok(edits)
}
