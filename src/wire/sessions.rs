//! What is asked of sessions and told of them, as bytes.

use crate::core::sessions::{
    SessionFilter, SessionName, SessionQuery, SessionRow, SessionState, SessionsPart,
};
use crate::wire::value::{choices, structures};

structures! {
    SessionName { key, generation }
    SessionFilter { listener, upstream, backend }
    SessionsPart { rows, next }
    SessionRow {
        name, listener, client, backend, state, age_ms, bytes_in, bytes_out, requests,
    }
}

choices! {
    SessionQuery { 0 = List { filter, from }, 1 = Kick(name) }
    SessionState {
        0 = Opening, 1 = Handshake, 2 = Idle, 3 = Head, 4 = Waiting, 5 = Connecting,
        6 = Request, 7 = Response, 8 = Relaying, 9 = Closing,
    }
}
