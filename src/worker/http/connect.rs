//! Gets an exchange its backend connection, parked or new, and another one when that fails.
//!
//! A request that got no answer is sent again only where the backend cannot have acted on it, or
//! where acting twice does no harm (RFC 9110 section 9.2.2).

use log::debug;

use crate::core::access_log::Why;
use crate::net::{ConnectError, Net};
use crate::worker::connect::{Dialed, NoBackend};
use crate::worker::http::Parts;
use crate::worker::http::exchange::{End, Exchange, Stage};
use crate::worker::shared::{FailedAt, Shared};

impl<N: Net> Parts<'_, N> {
    /// Chooses a connection: a parked one of the picked backend, or a new one.
    pub(super) fn connect(
        &self,
        exchange: &mut Exchange,
        shared: &mut Shared<N>,
        may_reuse: bool,
    ) -> Result<(), End> {
        loop {
            let backend = match &exchange.attempt.lease {
                Some(lease) => lease.backend,
                None => match exchange.attempt.pick(shared) {
                    Ok(backend) => backend,
                    Err(NoBackend) if exchange.attempt.tried.is_empty() => {
                        shared.log_refused(exchange.attempt.upstream, self.facts.listener);
                        return Err(End::Fail(503, Why::NoBackend));
                    }
                    Err(NoBackend) => return Err(End::Fail(502, Why::ConnectFailed)),
                },
            };
            let is_repeatable = exchange.facts.method.is_idempotent();
            if may_reuse && let Some(link) = shared.take_link(backend, self.owner, is_repeatable) {
                exchange.link = Some(link);
                exchange.is_reused = true;
                exchange.on_connected(shared.now, shared.now);
                return Ok(());
            }
            match exchange.attempt.dial(shared) {
                Ok(stream) => return self.open_link(exchange, shared, Dialed::Started(stream)),
                Err(ConnectError::Exhausted) => {
                    return self.open_link(exchange, shared, Dialed::Starved);
                }
                Err(ConnectError::Failed(kind)) => exchange.attempt.pass_over(shared, kind),
            }
        }
    }

    fn open_link(
        &self,
        exchange: &mut Exchange,
        shared: &mut Shared<N>,
        mut dialed: Dialed<N::Stream>,
    ) -> Result<(), End> {
        loop {
            let stream = match dialed {
                Dialed::Started(stream) => stream,
                Dialed::Starved => {
                    let is_fed = exchange.is_starving();
                    if !is_fed {
                        exchange.stage = Stage::Starving(shared.now);
                    }
                    shared.starve(self.owner, is_fed);
                    return Ok(());
                }
            };
            let Some(lease) = &exchange.attempt.lease else {
                shared.transfer.net.close(stream);
                return Err(End::Fail(502, Why::ConnectFailed));
            };
            match shared.open_link(stream, lease.backend, self.owner) {
                Ok(link) => {
                    exchange.link = Some(link);
                    exchange.is_reused = false;
                    exchange.stage = Stage::Connecting(shared.now);
                    return Ok(());
                }
                Err(error) => {
                    let next = exchange.attempt.reopen(shared, &error.to_string());
                    dialed = next.map_err(|NoBackend| End::Fail(502, Why::ConnectFailed))?;
                }
            }
        }
    }

    /// A connection could not be made: the next address, or the next backend.
    pub(super) fn on_connect_failed(
        &self,
        exchange: &mut Exchange,
        shared: &mut Shared<N>,
        why: &str,
        status: u16,
    ) -> Result<(), End> {
        if let Some(link) = exchange.link.take() {
            shared.close_link(link);
        }
        exchange.sent = 0;
        let code = if status == 504 {
            Why::ConnectTimeout
        } else {
            Why::ConnectFailed
        };
        match exchange.attempt.reopen(shared, why) {
            Ok(dialed) => self.open_link(exchange, shared, dialed),
            Err(NoBackend) => Err(End::Fail(status, code)),
        }
    }

    /// The backend failed before its answer began: sends the request again where that is safe.
    pub(super) fn retry_or_fail(
        &self,
        exchange: &mut Exchange,
        shared: &mut Shared<N>,
        why: &str,
    ) -> Result<(), End> {
        let was_reused = exchange.is_reused;
        let is_untouched = exchange.sent == 0;
        if let Some(link) = exchange.link.take() {
            shared.close_link(link);
        }
        exchange.response_head.clear();
        exchange.is_upload_dead = false;
        let may_replay =
            exchange.is_replayable && (is_untouched || exchange.facts.method.is_idempotent());
        let failed = Err(End::Fail(502, Why::BackendClosedBeforeHead));
        if was_reused && may_replay {
            // It had ended while it was parked: no fault of the backend's.
            exchange.sent = 0;
            exchange.stage = Stage::New;
            return self.connect(exchange, shared, false);
        }
        if was_reused {
            return failed;
        }
        let upstream = &mut shared.upstreams[exchange.attempt.upstream as usize];
        let has_tries = exchange.attempt.tried.len() + 1 < upstream.settings.tries_max as usize;
        let may_retry =
            may_replay && has_tries && (is_untouched || upstream.budget.try_retry(shared.now));
        exchange.attempt.give_up(shared, FailedAt::Answer, why);
        if !may_retry {
            return failed;
        }
        debug!("request sent again: {why}");
        exchange.sent = 0;
        exchange.stage = Stage::New;
        match self.connect(exchange, shared, false) {
            Err(End::Fail(..)) => failed,
            other => other,
        }
    }
}
