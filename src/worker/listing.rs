//! Which sessions there are, told in parts so that no turn takes long.

use crate::core::backend::BackendId;
use crate::core::sessions::{
    SessionFilter, SessionName, SessionQuery, SessionRow, SessionState, SessionsPart,
};
use crate::net::Net;
use crate::worker::Worker;
use crate::worker::http::client::{ClientPhase, Http};
use crate::worker::keys::{UpstreamSlot, key_of};
use crate::worker::relay::RelayPhase;
use crate::worker::session::{Protocol, Session};
use crate::worker::turn::CloseReason;

/// Places in the table that one part looks at.
const LOOKED_AT_MAX: usize = 1024;
/// Bytes of names that a part has room for, with what else there is to say of each session.
const PART_BYTES_MAX: usize = 3_000;
/// What a row takes besides its names.
const ROW_BYTES: usize = 96;

/// What a session is busy with.
struct Course {
    state: SessionState,
    upstream: Option<UpstreamSlot>,
    bytes_in: u64,
    bytes_out: u64,
    requests: u64,
}

impl<N: Net> Worker<N> {
    /// Tells of sessions, or ends one.
    #[cold]
    pub(crate) fn on_session_query(&mut self, query: &SessionQuery) -> SessionsPart {
        match query {
            SessionQuery::List { filter, from } => self.list_sessions(filter, *from),
            SessionQuery::Kick(name) => self.kick_session(*name),
        }
    }

    fn list_sessions(&self, filter: &SessionFilter, from: u32) -> SessionsPart {
        let mut part = SessionsPart::default();
        let (from, end) = (from as usize, self.sessions.capacity());
        let (last, mut bytes) = (from.saturating_add(LOOKED_AT_MAX).min(end), 0);
        let upstreams = &self.shared.upstreams;
        let (upstream, backend) = (filter.upstream.as_deref(), filter.backend.as_deref());
        let members = upstream.map_or(Vec::new(), |it| upstreams.named(it, backend));
        for index in from..last {
            if !self.is_meant(filter, &members, index) {
                continue;
            }
            let Some(row) = self.row_of(key_of(index)) else {
                continue;
            };
            bytes += ROW_BYTES + row.listener.len() + row.backend.len();
            if bytes > PART_BYTES_MAX && !part.rows.is_empty() {
                part.next = Some(key_of(index));
                return part;
            }
            part.rows.push(row);
        }
        part.next = (last < end).then(|| key_of(last));
        part
    }

    /// Whether a session is one of those that are asked for; these are the backends that are.
    fn is_meant(&self, filter: &SessionFilter, members: &[BackendId], index: usize) -> bool {
        let Some(session) = self.sessions.get(index) else {
            return false;
        };
        let listener = &self.shared.listeners[session.listener].name;
        let is_there = || match (session.backend(), &filter.upstream, &filter.backend) {
            (_, None, _) => true,
            (Some(id), Some(_), _) => members.contains(&id),
            (None, Some(name), None) => {
                let upstream = course_of(session).upstream;
                upstream.is_some_and(|it| self.shared.upstreams[it].name == *name)
            }
            (None, Some(_), Some(_)) => false,
        };
        filter.listener.as_ref().is_none_or(|it| it == listener) && is_there()
    }

    /// One that has had its last answer loses nothing.
    fn kick_session(&mut self, name: SessionName) -> SessionsPart {
        let row = self.row_of(name.key).filter(|row| row.name == name);
        if row.is_some() {
            let session = self.sessions.get(name.key as usize);
            let answered = session.and_then(Session::answered);
            self.close_session(name.key, answered.unwrap_or(CloseReason::Kicked));
            // Between two turns, of which the next may be far away.
            self.settle();
        }
        SessionsPart {
            rows: row.into_iter().collect(),
            next: None,
        }
    }

    fn row_of(&self, key: u32) -> Option<SessionRow> {
        let session = self.sessions.get(key as usize)?;
        let course = course_of(session);
        let upstreams = &self.shared.upstreams;
        let entry = session.backend();
        let entry = entry.and_then(|id| upstreams.entries[id.0 as usize].as_ref());
        let backend = match (entry, course.upstream) {
            (Some(entry), _) => entry.label.clone(),
            (None, Some(upstream)) => upstreams[upstream].name.clone(),
            (None, None) => String::new(),
        };
        Some(SessionRow {
            name: SessionName {
                key,
                generation: session.client.generation(),
            },
            listener: self.shared.listeners[session.listener].name.clone(),
            client: session.peer,
            backend,
            state: course.state,
            age_ms: self.shared.timers.now.since_ms(session.opened.tick()),
            bytes_in: course.bytes_in,
            bytes_out: course.bytes_out,
            requests: course.requests,
        })
    }
}

fn course_of<N: Net>(session: &Session<N>) -> Course {
    let of = |state| Course {
        state,
        upstream: None,
        bytes_in: 0,
        bytes_out: 0,
        requests: 0,
    };
    match &session.protocol {
        Protocol::Opening(opening) if opening.is_handshake => of(SessionState::Handshake),
        Protocol::Opening(_) => of(SessionState::Opening),
        Protocol::Http(http) => course_of_http(http),
        Protocol::Tcp(relay) => Course {
            upstream: Some(relay.attempt.upstream),
            bytes_in: relay.up.flow.moved_bytes(),
            bytes_out: relay.down.flow.moved_bytes(),
            ..of(match &relay.phase {
                RelayPhase::AwaitingDescriptor(_) => SessionState::Waiting,
                RelayPhase::Connecting(_) | RelayPhase::Greeting(_) => SessionState::Connecting,
                RelayPhase::Relaying(_) => SessionState::Relaying,
                RelayPhase::Settling(_) => SessionState::Closing,
            })
        },
    }
}

fn course_of_http(http: &Http) -> Course {
    let course = Course {
        state: match http.phase {
            ClientPhase::Idle(_) => SessionState::Idle,
            ClientPhase::Head(_) => SessionState::Head,
            ClientPhase::Exchange => SessionState::Request,
            ClientPhase::Discard(..) | ClientPhase::Linger(..) => SessionState::Closing,
        },
        upstream: None,
        bytes_in: 0,
        bytes_out: 0,
        requests: http.requests,
    };
    let Some(exchange) = &http.exchange else {
        return course;
    };
    let (bytes_in, bytes_out) = exchange.moved_bytes();
    Course {
        state: exchange.session_state(),
        upstream: Some(exchange.upstream()),
        bytes_in,
        bytes_out,
        ..course
    }
}
