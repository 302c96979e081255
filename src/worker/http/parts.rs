//! An HTTP session as its steps see it.

use std::net::SocketAddr;

use crate::core::time::Tick;
use crate::net::Net;
use crate::worker::http::client::Http;
use crate::worker::keys::SessionId;
use crate::worker::session::{Protocol, Session, Told};
use crate::worker::transport::Endpoint;
use crate::worker::turn::Turn;

/// Request Timeout (RFC 9110 section 15.5.9): the client is too slow with its request.
pub(crate) const REQUEST_TIMEOUT: u16 = 408;

/// What a step of the session asks for.
pub(crate) enum Next {
    /// Go on with the phase that is set now.
    Step,
    /// End the turn.
    Turn(Turn),
    /// Go on in another protocol.
    Switch,
}

/// A session in parts, so that they can be borrowed apart.
pub(crate) struct Parts<'a, N: Net> {
    pub(crate) id: SessionId,
    pub(crate) client: &'a mut Endpoint<N>,
    pub(crate) http: &'a mut Http,
    pub(crate) facts: Facts,
    told: Option<&'a Told>,
    /// When something last moved; the idle deadlines count from it.
    pub(crate) moved: &'a mut Tick,
}

impl<'a, N: Net> Parts<'a, N> {
    /// The parts of a session that speaks HTTP.
    pub(crate) fn of(key: u32, session: &'a mut Session<N>) -> Option<Self> {
        let (id, facts) = (session.id(key), Facts::of(session));
        let Protocol::Http(http) = &mut session.protocol else {
            return None;
        };
        Some(Self {
            id,
            client: &mut session.client,
            http,
            facts,
            told: session.told.as_deref(),
            moved: &mut session.moved,
        })
    }

    /// Where the client connected to, if a PROXY header has told that.
    pub(crate) fn destination(&self) -> Option<&'a SocketAddr> {
        self.told.and_then(Told::destination)
    }
}

/// What does not change over the life of a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) listener: u32,
}

impl Facts {
    pub(crate) fn of<N: Net>(session: &Session<N>) -> Self {
        Self {
            peer: session.peer,
            listener: session.listener,
        }
    }
}
