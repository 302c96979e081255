//! Routes as JSON: what leads where, and what has come of it.

use crate::admin::answer::{Flow, PART_BYTES, Progress};
use crate::admin::json::JsonWriter;
use crate::admin::outline::RouteOutline;
use crate::admin::steady::Steady;
use crate::admin::view::View;
use crate::board::{CodeClass, Column, CountedRoutes};

/// Routes that are being told.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    has_begun: bool,
    listener: usize,
    route: usize,
    /// Whether one stands before.
    needs_comma: bool,
    /// The number of the last column that was found: the next is seldom far from it.
    column: usize,
    steady: Steady,
}

impl Flow for Routes {
    fn go_on(&mut self, view: &View<'_>, out: &mut Vec<u8>) -> Progress {
        if !std::mem::replace(&mut self.has_begun, true) {
            out.extend_from_slice(b"{\"routes\":[");
        }
        while out.len() < PART_BYTES {
            let Some(listener) = view.outline.listeners.get(self.listener) else {
                out.extend_from_slice(b"]}\n");
                return Progress::Done;
            };
            let Some(route) = listener.routes.get(self.route) else {
                (self.listener, self.route) = (self.listener + 1, 0);
                continue;
            };
            self.route += 1;
            if std::mem::replace(&mut self.needs_comma, true) {
                out.push(b',');
            }
            let (begin, column) = (out.len(), &mut self.column);
            self.steady.read(view.board, || {
                out.truncate(begin);
                write(&listener.name, route, column, view, out);
            });
        }
        Progress::More
    }
}

fn write(
    listener: &str,
    route: &RouteOutline,
    last: &mut usize,
    view: &View<'_>,
    out: &mut Vec<u8>,
) {
    let upstream = view.outline.upstream(&route.leads_to);
    let upstream = upstream.filter(|_| route.is_proxied);
    let name = route.column.as_deref();
    let column = name.and_then(|name| view.board.find_next::<CountedRoutes>(name, last));
    let mut json = JsonWriter::new(out);
    json.begin_object();
    json.text_field("listener", listener);
    json.text_field("host", &route.host);
    json.text_field("path", &route.path);
    json.text_field("methods", &route.methods);
    json.text_field("leads_to", &route.leads_to);
    json.text_field("policy", upstream.map_or("", |it| &it.algorithm));
    json.key("responses");
    match column {
        Some(column) => responses(column, view, &mut json),
        None => json.plain("null"),
    }
    json.end_object();
}

fn responses(column: Column<CountedRoutes>, view: &View<'_>, json: &mut JsonWriter<'_>) {
    json.begin_object();
    for class in CodeClass::ALL {
        json.field(class.word(), view.board.total(column, class));
    }
    json.end_object();
}
