//! What a supervisor and its workers say to each other: an order or a report a packet.
//!
//! Descriptors go along with an order. A worker of another version may be there while the binary
//! is replaced; both know [`WorkerOrder::Leave`], [`WorkerOrder::Drain`] and [`WorkerOrder::Stop`],
//! whose form never changes.

use std::net::SocketAddr;

use crate::core::address::UnresolvedName;
use crate::core::sessions::{SessionQuery, SessionsPart};
use crate::core::slots::Slots;
use crate::sys::channel::{MESSAGE_BYTES_MAX, MESSAGE_DESCRIPTORS_MAX};
use crate::tls::material::{Secret, TicketKey};
use crate::wire::codec::{Reader, Writer};
use crate::wire::value::WireValue;

/// Addresses of a name that are passed on, at most.
pub(crate) const ADDRESSES_MAX: usize = 32;
/// Bytes of a reason that are passed on, at most.
const REASON_BYTES_MAX: usize = 2048;

/// From the supervisor to a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WorkerOrder {
    /// The first one; with the board.
    Begin {
        /// The worker's row on the board.
        row: u8,
        /// The CPU it is to run on.
        cpu: Option<u16>,
        /// Whether it logs warnings and errors only.
        quiet: bool,
    },
    /// Listening sockets by their number; with as many descriptors.
    Sockets(Vec<u32>),
    /// What seals session tickets from now on, the first one, and opens them.
    TicketKeys(Vec<TicketKey>),
    /// Where access log lines go from now on: with a file, or without one standard output.
    AccessLog,
    /// Accept from the sockets in these slots, and no more from others.
    Accept(Slots),
    /// Adopt a configuration; with a bundle.
    Adopt {
        /// Numbers the configurations.
        round: u32,
    },
    /// A name has these addresses.
    Resolved(UnresolvedName, Vec<SocketAddr>),
    /// Something on the board has changed that should not wait for the next event.
    Look,
    /// Tell of sessions, or end one.
    Sessions {
        /// Numbers what is asked.
        ask: u32,
        /// What is asked.
        query: SessionQuery,
    },
    /// Log from this level up, whatever the configuration says.
    LogLevel(log::LevelFilter),
    /// End what runs on a backend of an upstream, or on all of them.
    Kick {
        /// The upstream's name.
        upstream: String,
        /// The backend's identity.
        backend: Option<String>,
    },
    /// End gracefully, as others have taken over the sockets: accept nothing any more.
    Leave,
    /// End gracefully; what is queued is for this worker to serve.
    Drain,
    /// End at once.
    Stop,
}

/// From a worker to the supervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WorkerReport {
    /// It serves, with the first configuration it was given.
    Ready,
    /// It accepts nothing any more.
    Left,
    /// A signal to it alone asks it to end; it serves until it is told how to.
    Asked,
    /// It has adopted a configuration.
    Adopted {
        /// As in the order.
        round: u32,
    },
    /// What was asked of sessions, or a part of it.
    Sessions {
        /// As in the order.
        ask: u32,
        /// What there is to tell.
        part: SessionsPart,
    },
    /// It cannot adopt a configuration, and goes on with the one it has.
    Refused {
        /// As in the order.
        round: u32,
        /// Why.
        reason: String,
    },
}

const DRAIN: u8 = 1;
const STOP: u8 = 2;
const BEGIN: u8 = 3;
const SOCKETS: u8 = 4;
const ACCESS_LOG: u8 = 5;
const ACCEPT: u8 = 6;
const ADOPT: u8 = 7;
const RESOLVED: u8 = 8;
const LOOK: u8 = 9;
const LEAVE: u8 = 10;
const TICKET_KEYS: u8 = 11;
const KICK: u8 = 12;
const LOG_LEVEL: u8 = 13;
const SESSIONS: u8 = 14;

const READY: u8 = 1;
const REFUSED: u8 = 3;
const LEFT: u8 = 4;
const ASKED: u8 = 5;
const ADOPTED: u8 = 6;
const TOLD_SESSIONS: u8 = 7;

impl WorkerOrder {
    pub(crate) fn encode(&self) -> Secret {
        let mut to = Writer::default();
        match self {
            Self::Drain => to.u8(DRAIN),
            Self::Stop => to.u8(STOP),
            Self::Begin { row, cpu, quiet } => {
                to.u8(BEGIN);
                to.u8(*row);
                to.bool(cpu.is_some());
                to.u16(cpu.unwrap_or(0));
                to.bool(*quiet);
            }
            Self::Sockets(ids) => {
                to.u8(SOCKETS);
                to.count(ids.len());
                ids.iter().for_each(|&id| to.u32(id));
            }
            Self::AccessLog => to.u8(ACCESS_LOG),
            Self::TicketKeys(keys) => {
                to.u8(TICKET_KEYS);
                keys.write(&mut to);
            }
            Self::Accept(slots) => {
                to.u8(ACCEPT);
                to.u128(slots.bits());
            }
            Self::Adopt { round } => {
                to.u8(ADOPT);
                to.u32(*round);
            }
            Self::Resolved(name, addresses) => {
                to.u8(RESOLVED);
                to.text(&name.host);
                to.u16(name.port);
                to.addresses(addresses);
            }
            Self::Look => to.u8(LOOK),
            Self::Sessions { ask, query } => {
                to.u8(SESSIONS);
                to.u32(*ask);
                query.write(&mut to);
            }
            Self::LogLevel(level) => {
                to.u8(LOG_LEVEL);
                level.write(&mut to);
            }
            Self::Kick { upstream, backend } => {
                to.u8(KICK);
                to.text(upstream);
                backend.write(&mut to);
            }
            Self::Leave => to.u8(LEAVE),
        }
        bounded(to)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader::new(bytes);
        let order = match from.u8()? {
            DRAIN => Self::Drain,
            STOP => Self::Stop,
            BEGIN => {
                let row = from.u8()?;
                let is_pinned = from.bool()?;
                let cpu = from.u16()?;
                Self::Begin {
                    row,
                    cpu: is_pinned.then_some(cpu),
                    quiet: from.bool()?,
                }
            }
            SOCKETS => Self::Sockets(
                from.list(Reader::u32)
                    .filter(|ids| ids.len() <= MESSAGE_DESCRIPTORS_MAX)?,
            ),
            ACCESS_LOG => Self::AccessLog,
            TICKET_KEYS => Self::TicketKeys(WireValue::read(&mut from)?),
            ACCEPT => Self::Accept(Slots::from_bits(from.u128()?)),
            ADOPT => Self::Adopt { round: from.u32()? },
            RESOLVED => {
                let (host, port) = (from.text()?, from.u16()?);
                Self::Resolved(UnresolvedName { host, port }, from.addresses()?)
            }
            LOOK => Self::Look,
            SESSIONS => Self::Sessions {
                ask: from.u32()?,
                query: WireValue::read(&mut from)?,
            },
            LOG_LEVEL => Self::LogLevel(WireValue::read(&mut from)?),
            KICK => Self::Kick {
                upstream: from.text()?,
                backend: WireValue::read(&mut from)?,
            },
            LEAVE => Self::Leave,
            _ => return None,
        };
        from.end().map(|()| order)
    }
}

impl WorkerReport {
    pub(crate) fn encode(&self) -> Secret {
        let mut to = Writer::default();
        match self {
            Self::Ready => to.u8(READY),
            Self::Left => to.u8(LEFT),
            Self::Asked => to.u8(ASKED),
            Self::Sessions { ask, part } => {
                to.u8(TOLD_SESSIONS);
                to.u32(*ask);
                part.write(&mut to);
            }
            Self::Adopted { round } => {
                to.u8(ADOPTED);
                to.u32(*round);
            }
            Self::Refused { round, reason } => {
                to.u8(REFUSED);
                to.u32(*round);
                to.text(shortened(reason));
            }
        }
        bounded(to)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader::new(bytes);
        let report = match from.u8()? {
            READY => Self::Ready,
            LEFT => Self::Left,
            ASKED => Self::Asked,
            TOLD_SESSIONS => Self::Sessions {
                ask: from.u32()?,
                part: WireValue::read(&mut from)?,
            },
            ADOPTED => Self::Adopted { round: from.u32()? },
            REFUSED => Self::Refused {
                round: from.u32()?,
                reason: from.text()?,
            },
            _ => return None,
        };
        from.end().map(|()| report)
    }
}

fn shortened(text: &str) -> &str {
    let mut end = text.len().min(REASON_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Everything in a message has a bound, so that it fits.
fn bounded(to: Writer) -> Secret {
    let bytes = to.into_bytes();
    debug_assert!(
        bytes.bytes().len() <= MESSAGE_BYTES_MAX,
        "a message is too long"
    );
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::sessions::{SessionFilter, SessionName, SessionRow, SessionState};
    use crate::tls::material::TICKET_SECRET_BYTES;

    fn name() -> impl Strategy<Value = UnresolvedName> {
        ("[a-z.-]{1,253}", any::<u16>()).prop_map(|(host, port)| UnresolvedName { host, port })
    }

    fn ticket_key() -> impl Strategy<Value = TicketKey> {
        let secret = prop::collection::vec(any::<u8>(), TICKET_SECRET_BYTES);
        (any::<[u8; 16]>(), secret).prop_map(|(name, secret)| TicketKey {
            name,
            secret: Secret::new(secret),
        })
    }

    fn order() -> impl Strategy<Value = WorkerOrder> {
        let address = any::<(std::net::IpAddr, u16)>().prop_map(SocketAddr::from);
        let addresses = prop::collection::vec(address, 0..=ADDRESSES_MAX);
        let ids = prop::collection::vec(any::<u32>(), 0..=MESSAGE_DESCRIPTORS_MAX);
        prop_oneof![
            (any::<u8>(), any::<Option<u16>>(), any::<bool>())
                .prop_map(|(row, cpu, quiet)| WorkerOrder::Begin { row, cpu, quiet }),
            ids.prop_map(WorkerOrder::Sockets),
            any::<u128>().prop_map(|bits| WorkerOrder::Accept(Slots::from_bits(bits))),
            any::<u32>().prop_map(|round| WorkerOrder::Adopt { round }),
            (name(), addresses).prop_map(|(name, found)| WorkerOrder::Resolved(name, found)),
            Just(WorkerOrder::AccessLog),
            prop::collection::vec(ticket_key(), 0..4).prop_map(WorkerOrder::TicketKeys),
            Just(WorkerOrder::Look),
            Just(WorkerOrder::LogLevel(log::LevelFilter::Debug)),
            (any::<u32>(), query()).prop_map(|(ask, query)| WorkerOrder::Sessions { ask, query }),
            (".{0,99}", prop::option::of(".{0,99}"))
                .prop_map(|(upstream, backend)| WorkerOrder::Kick { upstream, backend }),
            Just(WorkerOrder::Leave),
            Just(WorkerOrder::Drain),
            Just(WorkerOrder::Stop),
        ]
    }

    fn query() -> impl Strategy<Value = SessionQuery> {
        let name = || prop::option::of(".{0,99}");
        let filter = (name(), name(), name());
        let filter = filter.prop_map(|(listener, upstream, backend)| SessionFilter {
            listener,
            upstream,
            backend,
        });
        prop_oneof![
            (filter, any::<u32>()).prop_map(|(filter, from)| SessionQuery::List { filter, from }),
            (any::<u32>(), any::<u32>())
                .prop_map(|(key, generation)| SessionQuery::Kick(SessionName { key, generation })),
        ]
    }

    fn part() -> impl Strategy<Value = SessionsPart> {
        let client = any::<Option<(std::net::IpAddr, u16)>>();
        let states = [SessionState::Idle, SessionState::Relaying];
        let row = (any::<[u32; 2]>(), any::<[u64; 4]>(), client, ".{0,99}");
        let row = (row, prop::sample::select(states.to_vec())).prop_map(|(row, state)| {
            let ([key, generation], [age_ms, bytes_in, bytes_out, requests], client, name) = row;
            SessionRow {
                name: SessionName { key, generation },
                listener: name.clone(),
                client: client.map(SocketAddr::from),
                backend: name,
                state,
                age_ms,
                bytes_in,
                bytes_out,
                requests,
            }
        });
        let rows = prop::collection::vec(row, 0..3);
        (rows, any::<Option<u32>>()).prop_map(|(rows, next)| SessionsPart { rows, next })
    }

    fn report() -> impl Strategy<Value = WorkerReport> {
        prop_oneof![
            Just(WorkerReport::Ready),
            Just(WorkerReport::Left),
            Just(WorkerReport::Asked),
            (any::<u32>(), part()).prop_map(|(ask, part)| WorkerReport::Sessions { ask, part }),
            any::<u32>().prop_map(|round| WorkerReport::Adopted { round }),
            (any::<u32>(), ".{0,500}")
                .prop_map(|(round, reason)| WorkerReport::Refused { round, reason }),
        ]
    }

    proptest! {
        #[test]
        fn an_order_is_understood_as_it_was_meant(order in order()) {
            let bytes = order.encode();
            let bytes = bytes.bytes();
            prop_assert!(bytes.len() <= MESSAGE_BYTES_MAX);
            prop_assert_eq!(WorkerOrder::decode(bytes), Some(order));
            prop_assert_eq!(WorkerOrder::decode(&bytes[..bytes.len() - 1]), None);
        }

        #[test]
        fn a_report_is_understood_as_it_was_meant(report in report()) {
            let bytes = report.encode();
            let bytes = bytes.bytes();
            prop_assert!(bytes.len() <= MESSAGE_BYTES_MAX);
            prop_assert_eq!(WorkerReport::decode(bytes), Some(report));
            prop_assert_eq!(WorkerReport::decode(&bytes[..bytes.len() - 1]), None);
        }

        #[test]
        fn nonsense_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..99)) {
            if let Some(order) = WorkerOrder::decode(&bytes) {
                let again = order.encode();
                prop_assert_eq!(again.bytes(), &bytes[..]);
            }
            let _ = WorkerReport::decode(&bytes);
        }
    }

    #[test]
    fn a_long_reason_is_shortened_to_whole_letters() {
        let reason = "ä".repeat(3000);
        let bytes = WorkerReport::Refused { round: 1, reason }.encode();
        let Some(WorkerReport::Refused { reason, .. }) = WorkerReport::decode(bytes.bytes()) else {
            panic!("not understood")
        };
        assert_eq!(reason, "ä".repeat(1024));
    }

    #[test]
    fn what_old_and_new_must_both_understand_stays_the_same() {
        assert_eq!(WorkerOrder::Drain.encode().bytes(), [1]);
        assert_eq!(WorkerOrder::Stop.encode().bytes(), [2]);
        assert_eq!(WorkerOrder::Leave.encode().bytes(), [10]);
    }
}
