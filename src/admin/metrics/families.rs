//! All families, in the order in which they are written.

use std::fmt::Display;

use super::durations::{Seconds, backend_seconds, upstream_seconds};
use super::{Family, Item, Kind, Sink};
use crate::admin::observed::{Condition, Observed};
use crate::admin::outline::{BackendOutline, ListenerOutline, UpstreamOutline};
use crate::admin::view::View;
use crate::board::{
    BackendCell, BackendColumn, Cell, CodeClass, Column, Counted, CountedBackends,
    CountedHandshakes, CountedListeners, CountedRoutes, ListenerCell, RowState, Span,
};
use crate::core::access_log::Why;
use crate::core::handshake::Handshake;
use crate::core::http::oddity::Oddity;

const fn family(
    kind: Kind,
    name: &'static str,
    help: &'static str,
    samples: fn(&View<'_>, &mut Item, &mut Sink<'_>) -> bool,
) -> Family {
    Family {
        name,
        kind,
        help,
        samples,
    }
}

use Kind::{Counter, Gauge, Histogram, Summary};

pub(super) const FAMILIES: &[Family] = &[
    family(
        Gauge,
        "weir_build_info",
        "The version of weir.",
        |v, i, s| once(i, || s.sample(&[("version", &v.facts.version)], 1)),
    ),
    family(
        Gauge,
        "weir_start_time_seconds",
        "When weir was started, since 1970.",
        |v, i, s| once(i, || s.sample(&[], v.facts.started_unix_s)),
    ),
    family(
        Gauge,
        "weir_uptime_seconds",
        "For how long weir has been running.",
        |v, i, s| once(i, || s.sample(&[], uptime_s(v))),
    ),
    family(
        Gauge,
        "weir_ready",
        "Whether weir is ready: not while it starts or ends, nor before the first checks are over.",
        |v, i, s| once(i, || s.sample(&[], u8::from(v.readiness().is_ok()))),
    ),
    family(
        Gauge,
        "weir_config_reload_success",
        "Whether the last reload was adopted.",
        |v, i, s| once(i, || s.sample(&[], u8::from(v.facts.last_reload_done))),
    ),
    family(
        Gauge,
        "weir_config_last_reload_timestamp_seconds",
        "When the configuration that runs was adopted, since 1970.",
        |v, i, s| once(i, || s.sample(&[], v.facts.adopted_unix_s)),
    ),
    family(
        Counter,
        "weir_config_reloads",
        "Reloads of the configuration, by what came of them.",
        |v, i, s| {
            once(i, || {
                s.sample(&[("result", "done")], v.facts.reloads_done);
                s.sample(&[("result", "refused")], v.facts.reloads_refused);
            })
        },
    ),
    family(
        Gauge,
        "weir_workers_wanted",
        "Worker processes that there are to be; 0 for a process on its own.",
        |v, i, s| once(i, || s.sample(&[], v.facts.workers_wanted)),
    ),
    family(
        Counter,
        "weir_accept_rescues",
        "Times that the others began to accept for a worker that was stopped or stuck.",
        |v, i, s| once(i, || s.sample(&[], v.facts.rescues)),
    ),
    family(
        Gauge,
        "weir_worker_up",
        "Whether the row of the board belongs to a worker.",
        |v, i, s| worker(v, i, s, |_| 1),
    ),
    family(
        Gauge,
        "weir_worker_connections",
        "Client connections of a worker.",
        |v, i, s| worker(v, i, s, |row| row.sessions),
    ),
    family(
        Gauge,
        "weir_worker_backend_connections",
        "Connections of a worker to backends, idle ones and those of checks included.",
        |v, i, s| worker(v, i, s, |row| row.connections),
    ),
    family(
        Gauge,
        "weir_worker_beat_age_seconds",
        "For how long a worker that does not wait for events has given no sign of life.",
        |v, i, s| worker(v, i, s, |row| Seconds(v.beat_age_ms(row))),
    ),
    family(
        Counter,
        "weir_worker_busy_seconds",
        "For how long the loop of a worker did not wait for events.",
        |v, i, s| worker(v, i, s, |row| Seconds(row.busy_ms)),
    ),
    family(
        Gauge,
        "weir_worker_longest_turn_seconds",
        "The longest turn of the loop of a worker since it was started.",
        |v, i, s| worker(v, i, s, |row| Seconds(row.longest_turn_ms)),
    ),
    family(
        Gauge,
        "weir_worker_waiting_bytes",
        "Bytes that a worker keeps until somebody takes them.",
        |v, i, s| worker(v, i, s, |row| row.waiting_bytes),
    ),
    family(
        Gauge,
        "weir_worker_waiting_bytes_limit",
        "How many bytes a worker may keep.",
        |v, i, s| worker(v, i, s, |row| row.waiting_bytes_max),
    ),
    family(
        Gauge,
        "weir_worker_sockets",
        "Sockets of a worker, of clients and to backends.",
        |v, i, s| worker(v, i, s, |row| row.sessions + row.connections),
    ),
    family(
        Gauge,
        "weir_worker_descriptors_limit",
        "How many descriptors a worker may have; of these a few dozen are no sockets of sessions.",
        |v, i, s| worker(v, i, s, |row| row.descriptors_max),
    ),
    family(
        Counter,
        "weir_listener_accepted",
        "Connections accepted.",
        |v, i, s| listener(v, i, s, ListenerCell::Accepted),
    ),
    family(
        Gauge,
        "weir_listener_connections",
        "Connections that are there.",
        |v, i, s| listener(v, i, s, ListenerCell::Active),
    ),
    family(
        Counter,
        "weir_listener_bytes",
        "Bytes from clients (in) and to clients (out).",
        |v, i, s| {
            let cells = [
                ("in", ListenerCell::BytesIn),
                ("out", ListenerCell::BytesOut),
            ];
            listener_by(v, i, s, "direction", &cells)
        },
    ),
    family(
        Counter,
        "weir_listener_requests",
        "Requests received.",
        |v, i, s| {
            each_listener(v, i, |outline, column| {
                if outline.mode == "http" {
                    let labels = [("listener", outline.name.as_str())];
                    s.sample(&labels, total(v, column, ListenerCell::Requests));
                }
            })
        },
    ),
    family(
        Counter,
        "weir_listener_responses",
        "Responses, weir's own and those of backends, by the first digit of their status.",
        |v, i, s| {
            each_listener(v, i, |outline, column| {
                if outline.mode == "http" {
                    for class in CodeClass::ALL {
                        let name = outline.name.as_str();
                        let labels = [("listener", name), ("code_class", class.word())];
                        s.sample(&labels, total(v, column, class));
                    }
                }
            })
        },
    ),
    family(
        Counter,
        "weir_route_responses",
        "Responses of a route, by the first digit of their status: of the first 256 routes.",
        each_route,
    ),
    family(
        Counter,
        "weir_listener_rejected",
        "Connections closed because no backend was usable.",
        |v, i, s| listener(v, i, s, ListenerCell::Refused),
    ),
    family(
        Counter,
        "weir_listener_closed",
        "Sessions that ended otherwise than well: by a timeout, a reset, or the end of a drain.",
        |v, i, s| {
            let cells = [
                ("timeout", ListenerCell::TimedOut),
                ("reset", ListenerCell::Reset),
                ("cut", ListenerCell::Cut),
            ];
            listener_by(v, i, s, "reason", &cells)
        },
    ),
    family(
        Counter,
        "weir_listener_ends",
        "Requests (HTTP) and sessions (TCP) that have ended, by why; the same words as in the \
         access log.",
        |v, i, s| {
            each_listener(v, i, |outline, column| {
                for why in Why::ALL {
                    let labels = [("listener", outline.name.as_str()), ("why", why.words())];
                    s.sample(&labels, total(v, column, why));
                }
            })
        },
    ),
    family(
        Counter,
        "weir_listener_accept_pauses",
        "Times that accepting was paused at a limit.",
        |v, i, s| listener(v, i, s, ListenerCell::Paused),
    ),
    family(
        Counter,
        "weir_tls_handshakes",
        "Handshakes of clients, by how they ended.",
        each_handshakes,
    ),
    family(
        Gauge,
        "weir_certificate_expiry_timestamp_seconds",
        "When the first certificate of a listener expires, since 1970.",
        |v, i, s| {
            each_listener(v, i, |outline, _| {
                if let Some(expiry) = outline.expires_unix_s {
                    s.sample(&[("listener", &outline.name)], expiry);
                }
            })
        },
    ),
    family(
        Gauge,
        "weir_upstream_backends",
        "Backends of an upstream, by whether they can be used.",
        each_upstream,
    ),
    family(
        Histogram,
        "weir_connect_duration_seconds",
        "How long new connections to backends took to stand, with their TLS.",
        |v, i, s| upstream_seconds(v, i, s, Span::Connect),
    ),
    family(
        Histogram,
        "weir_first_byte_seconds",
        "From when a request had been sent until the first byte of its response.",
        |v, i, s| upstream_seconds(v, i, s, Span::FirstByte),
    ),
    family(
        Histogram,
        "weir_request_duration_seconds",
        "From the whole head of a request until it was over, with its answer.",
        |v, i, s| upstream_seconds(v, i, s, Span::Total),
    ),
    family(
        Summary,
        "weir_backend_response_seconds",
        "From when a request had been sent until the whole head of its response.",
        backend_seconds,
    ),
    family(
        Gauge,
        "weir_backend_up",
        "Whether a backend can be used: checks and traffic say nothing against it.",
        |v, i, s| {
            each_backend(v, i, |labels, column, _| {
                let is_up = Observed::of(v, column).condition == Condition::Up;
                s.sample(&labels, u8::from(is_up));
            })
        },
    ),
    family(
        Gauge,
        "weir_backend_service",
        "What an administrator lets a backend take: 0 all, 1 draining, 2 disabled.",
        |v, i, s| {
            each_backend(v, i, |labels, column, _| {
                let service = v.board.service(column);
                s.sample(&labels, service as u8);
            })
        },
    ),
    family(
        Gauge,
        "weir_backend_weight",
        "Its share of the traffic, as it is now.",
        |v, i, s| {
            each_backend(v, i, |labels, column, outline| {
                let weight = v.board.weight(column).unwrap_or(outline.weight);
                s.sample(&labels, weight);
            })
        },
    ),
    family(
        Gauge,
        "weir_backend_connections",
        "Connections (TCP) or requests in flight (HTTP).",
        |v, i, s| backend(v, i, s, BackendCell::Active),
    ),
    family(
        Counter,
        "weir_backend_picks",
        "Times that it was picked, for a connection (TCP) or a request (HTTP).",
        |v, i, s| backend(v, i, s, BackendCell::Picks),
    ),
    family(
        Counter,
        "weir_backend_bytes",
        "Bytes from a backend (in) and to it (out).",
        |v, i, s| {
            let cells = [("in", BackendCell::BytesIn), ("out", BackendCell::BytesOut)];
            backend_by(v, i, s, "direction", &cells)
        },
    ),
    family(
        Counter,
        "weir_backend_responses",
        "Responses of a backend, by the first digit of their status; classes without any are left \
         out.",
        |v, i, s| {
            each_backend(v, i, |labels, column, _| {
                for class in CodeClass::ALL {
                    let labels = [labels[0], labels[1], ("code_class", class.word())];
                    match v.board.total(column, class) {
                        0 => {}
                        count => s.sample(&labels, count),
                    }
                }
            })
        },
    ),
    family(
        Counter,
        "weir_backend_failures",
        "Connections that could not be made, and requests that were not answered well.",
        |v, i, s| {
            let cells = [
                ("connect", BackendCell::ConnectFailures),
                ("answer", BackendCell::AnswerFailures),
            ];
            backend_by(v, i, s, "reason", &cells)
        },
    ),
    family(
        Counter,
        "weir_backend_retries",
        "Attempts made here after another backend had failed.",
        |v, i, s| backend(v, i, s, BackendCell::Retries),
    ),
    family(
        Counter,
        "weir_backend_ejections",
        "Times that failures of real traffic put it out.",
        |v, i, s| backend(v, i, s, BackendCell::Ejections),
    ),
    family(
        Counter,
        "weir_backend_checks",
        "Health checks, by their result.",
        |v, i, s| {
            let cells = [
                ("passed", BackendCell::ProbesPassed),
                ("failed", BackendCell::ProbesFailed),
            ];
            backend_by(v, i, s, "result", &cells)
        },
    ),
    family(
        Counter,
        "weir_backend_check_seconds",
        "How long health checks took, all together.",
        |v, i, s| {
            each_backend(v, i, |labels, column, _| {
                let took_ms = v.board.total(column, BackendCell::ProbeMs);
                s.sample(&labels, Seconds(took_ms));
            })
        },
    ),
    family(
        Counter,
        "weir_odd_responses",
        "Responses that were odd and taken all the same, by kind.",
        |v, i, s| {
            once(i, || {
                for kind in Oddity::ALL {
                    let count = v.board.oddities(kind);
                    s.sample(&[("kind", kind.words())], count);
                }
            })
        },
    ),
    family(
        Counter,
        "weir_access_log_lines_lost",
        "Access log lines that could not be written.",
        |v, i, s| once(i, || s.sample(&[], v.board.lines_lost())),
    ),
];

fn uptime_s(view: &View<'_>) -> u64 {
    (view.unix_ms / 1000).saturating_sub(view.facts.started_unix_s)
}

/// The only samples of a family.
fn once(item: &mut Item, write: impl FnOnce()) -> bool {
    let is_first = item.at == 0;
    item.at = 1;
    if is_first {
        write();
    }
    is_first
}

fn each_worker(view: &View<'_>, item: &mut Item, write: impl FnOnce(&str, &RowState)) -> bool {
    let row = item.at;
    if row >= view.board.rows_used() {
        return false;
    }
    item.at += 1;
    if let Some(state) = view.worker(row) {
        write(&row.to_string(), &state);
    }
    true
}

fn worker<V: Display>(
    view: &View<'_>,
    item: &mut Item,
    sink: &mut Sink<'_>,
    get: impl FnOnce(&RowState) -> V,
) -> bool {
    each_worker(view, item, |worker, row| {
        sink.sample(&[("worker", worker)], get(row));
    })
}

/// The sum of a cell, 0 for what is not on the board.
fn total<K: Counted>(view: &View<'_>, column: Option<Column<K>>, cell: impl Cell<K>) -> u64 {
    column.map_or(0, |column| view.board.total(column, cell))
}

pub(super) fn find<K: Counted>(view: &View<'_>, item: &mut Item, name: &str) -> Option<Column<K>> {
    view.board.find_next(name, &mut item.column)
}

fn each_listener(
    view: &View<'_>,
    item: &mut Item,
    write: impl FnOnce(&ListenerOutline, Option<Column<CountedListeners>>),
) -> bool {
    let Some(outline) = view.outline.listeners.get(item.at) else {
        return false;
    };
    item.at += 1;
    let column = find(view, item, &outline.column);
    write(outline, column);
    true
}

fn listener(view: &View<'_>, item: &mut Item, sink: &mut Sink<'_>, cell: ListenerCell) -> bool {
    each_listener(view, item, |outline, column| {
        let labels = [("listener", outline.name.as_str())];
        sink.sample(&labels, total(view, column, cell));
    })
}

/// The same of several cells, with a label that tells them apart.
fn listener_by(
    view: &View<'_>,
    item: &mut Item,
    sink: &mut Sink<'_>,
    label: &str,
    cells: &[(&str, ListenerCell)],
) -> bool {
    each_listener(view, item, |outline, column| {
        for (value, cell) in cells {
            let labels = [("listener", outline.name.as_str()), (label, value)];
            sink.sample(&labels, total(view, column, *cell));
        }
    })
}

fn each_handshakes(view: &View<'_>, item: &mut Item, sink: &mut Sink<'_>) -> bool {
    let Some(outline) = view.outline.listeners.get(item.at) else {
        return false;
    };
    item.at += 1;
    if outline.expects_hello {
        let column = find::<CountedHandshakes>(view, item, &outline.column);
        for ended in Handshake::ALL {
            let labels = [
                ("listener", outline.name.as_str()),
                ("result", ended.words()),
            ];
            sink.sample(&labels, total(view, column, ended));
        }
    }
    true
}

/// A route at a time; what is zero is left out.
fn each_route(view: &View<'_>, item: &mut Item, sink: &mut Sink<'_>) -> bool {
    let Some(listener) = view.outline.listeners.get(item.at) else {
        return false;
    };
    let Some(route) = listener.routes.get(item.within) else {
        item.at += 1;
        item.within = 0;
        return true;
    };
    item.within += 1;
    let name = route.column.as_deref();
    let column = name.and_then(|name| find::<CountedRoutes>(view, item, name));
    for class in CodeClass::ALL {
        let count = total(view, column, class);
        if count > 0 {
            let (listener, class) = (listener.name.as_str(), class.word());
            let labels = [
                ("listener", listener),
                ("route", &route.name),
                ("code_class", class),
            ];
            sink.sample(&labels, count);
        }
    }
    true
}

fn each_upstream(view: &View<'_>, item: &mut Item, sink: &mut Sink<'_>) -> bool {
    let Some(outline) = view.outline.upstreams.get(item.at) else {
        return false;
    };
    item.at += 1;
    let UpstreamOutline { name, backends, .. } = outline;
    let mut counts = [0_u64; 3];
    for backend in backends {
        let Some(column) = find::<CountedBackends>(view, item, &backend.column) else {
            continue;
        };
        let observed = Observed::of(view, column);
        counts[observed.condition as usize] += 1;
    }
    for (condition, count) in Condition::ALL.into_iter().zip(counts) {
        sink.sample(&[("upstream", name), ("state", condition.word())], count);
    }
    true
}

/// The labels of a backend.
pub(super) type Labels<'a> = [(&'a str, &'a str); 2];

pub(super) fn each_backend(
    view: &View<'_>,
    item: &mut Item,
    write: impl FnOnce(Labels<'_>, BackendColumn, &BackendOutline),
) -> bool {
    let Some(upstream) = view.outline.upstreams.get(item.at) else {
        return false;
    };
    let Some(outline) = upstream.backends.get(item.within) else {
        item.at += 1;
        item.within = 0;
        return true;
    };
    item.within += 1;
    if let Some(column) = find(view, item, &outline.column) {
        let labels = [
            ("upstream", upstream.name.as_str()),
            ("backend", &outline.name),
        ];
        write(labels, column, outline);
    }
    true
}

fn backend(view: &View<'_>, item: &mut Item, sink: &mut Sink<'_>, cell: BackendCell) -> bool {
    each_backend(view, item, |labels, column, _| {
        sink.count(&labels, view.board.total(column, cell));
    })
}

/// The same of several cells, with a label that tells them apart.
fn backend_by(
    view: &View<'_>,
    item: &mut Item,
    sink: &mut Sink<'_>,
    label: &str,
    cells: &[(&str, BackendCell)],
) -> bool {
    each_backend(view, item, |labels, column, _| {
        for (value, cell) in cells {
            let labels = [labels[0], labels[1], (label, value)];
            sink.count(&labels, view.board.total(column, *cell));
        }
    })
}
