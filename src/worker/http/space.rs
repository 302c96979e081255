//! Space and caches that all HTTP sessions of a worker use in turn, and its access log.

use crate::config::model;
use crate::core::http::head::{RequestHead, ResponseHead};
use crate::core::time::Tick;
use crate::net::Net;
use crate::worker::http::access_log::AccessLog;
use crate::worker::http::active::ActiveExchange;

/// Space and caches that all HTTP sessions of a worker use in turn.
pub(crate) struct HttpSpace {
    /// None while it is in use, as of the next.
    pub(crate) request_head: Option<Box<RequestHead>>,
    pub(crate) response_head: Option<Box<ResponseHead>>,
    /// What is about to be written.
    pub(crate) out: Vec<u8>,
    /// The canonical path of a request.
    pub(crate) path: Vec<u8>,
    /// A target that had to be completed: an absolute one without a path.
    pub(crate) completed: Vec<u8>,
    /// Exchanges that are over.
    #[expect(clippy::vec_box, reason = "a spare box is handed out as it is")]
    pub(crate) spare: Vec<Box<ActiveExchange>>,
    /// The date as HTTP writes it, and until when its second lasts.
    date: [u8; 29],
    date_until: Tick,
    pub(crate) log: Option<AccessLog>,
    /// The number of the worker, for the access log.
    pub(crate) worker: u32,
    /// Access log lines that were lost before the log was turned off, if ever.
    lines_lost_before: u64,
}

impl HttpSpace {
    pub(crate) fn new() -> Self {
        Self {
            request_head: None,
            response_head: None,
            out: Vec::new(),
            path: Vec::new(),
            completed: Vec::new(),
            spare: Vec::new(),
            date: crate::core::http::reply::imf_fixdate(0),
            date_until: Tick(0),
            log: None,
            worker: 0,
            lines_lost_before: 0,
        }
    }

    /// Adopts the form of the access log; lines that wait stay, and are lost when there is to be
    /// none.
    pub(crate) fn adopt_log(&mut self, settings: Option<&model::AccessLog>) {
        let earlier = self.log.take();
        self.log = settings.map(AccessLog::new);
        match (&mut self.log, earlier) {
            (Some(log), Some(earlier)) => log.inherit(earlier),
            (None, Some(mut earlier)) => {
                earlier.give_up();
                self.lines_lost_before += earlier.lost();
            }
            (_, None) => {}
        }
    }

    /// Access log lines that were lost.
    pub(crate) fn lines_lost(&self) -> u64 {
        self.lines_lost_before + self.log.as_ref().map_or(0, AccessLog::lost)
    }

    /// The present date as HTTP writes it, asked for and formatted once a second.
    pub(crate) fn date<N: Net>(&mut self, net: &N, now: Tick) -> [u8; 29] {
        if self.date_until <= now {
            let unix_ms = unix_ms(net);
            self.date_until = now.after_ms(1_000 - unix_ms % 1_000);
            self.date = crate::core::http::reply::imf_fixdate(unix_ms / 1_000);
        }
        self.date
    }
}

/// Wall time in milliseconds since the Unix epoch.
pub(crate) fn unix_ms<N: Net>(net: &N) -> u64 {
    let since = net.wall();
    let since = since.duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
