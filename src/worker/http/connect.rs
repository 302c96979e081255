//! Gets an exchange its backend connection, parked or new, and another one when that fails.

use std::ops::ControlFlow::{Break, Continue};

use log::debug;

use crate::core::account::Purpose;
use crate::core::decision::TriedAt;
use crate::core::http::exchange::{Allowance, Progress, Recovery, or_end};
use crate::net::{ConnectError, Net};
use crate::worker::connect::{Dialed, NoBackend};
use crate::worker::health::FailedAt;
use crate::worker::http::active::ActiveExchange;
use crate::worker::http::parts::Parts;
use crate::worker::shared::Shared;
use crate::worker::turn::CloseReason;

impl<N: Net> Parts<'_, N> {
    /// Chooses a connection: a parked one of the picked backend, or a new one.
    pub(super) fn connect(
        &self,
        exchange: &mut ActiveExchange,
        shared: &mut Shared<N>,
        may_reuse: bool,
    ) -> Progress {
        loop {
            let backend = match &exchange.attempt.lease {
                Some(lease) => lease.backend,
                None => match exchange.attempt.pick(shared) {
                    Ok(backend) => backend,
                    Err(NoBackend) => {
                        if exchange.attempt.tried().is_empty() {
                            let (upstream, listener) =
                                (exchange.attempt.upstream, self.facts.listener);
                            shared.log_refused(upstream, listener, CloseReason::NoBackend);
                        }
                        return Break(exchange.state.on_no_backend());
                    }
                },
            };
            let is_repeatable = exchange.state.is_repeatable();
            if may_reuse
                && let Some(taken) = shared.take_parked(backend, self.id.key, is_repeatable)
            {
                exchange.connection = Some(taken.connection);
                exchange.idle_ms = taken.idle_ms;
                let now = shared.timers.moment;
                exchange.on_connected(true, now, now);
                return Continue(());
            }
            let dialed = match exchange.attempt.dial(shared, self.id.key) {
                Ok(connection) => Dialed::Started(connection),
                Err(ConnectError::Exhausted) => Dialed::NoDescriptor,
                Err(ConnectError::Failed(kind)) => {
                    exchange.state.on_connect_failed(false);
                    exchange.attempt.pass_over(shared, kind);
                    continue;
                }
            };
            self.on_dialed(exchange, shared, dialed);
            return Continue(());
        }
    }

    fn on_dialed(&self, exchange: &mut ActiveExchange, shared: &mut Shared<N>, dialed: Dialed) {
        match dialed {
            Dialed::Started(connection) => {
                exchange.connection = Some(connection);
                exchange.idle_ms = 0;
                exchange.dialed = shared.timers.moment;
                exchange.state.on_connecting(shared.timers.now);
            }
            Dialed::NoDescriptor => {
                shared.descriptor_queue.join(
                    &mut shared.timers,
                    self.id,
                    exchange.awaits_descriptor(),
                );
                exchange.state.on_waiting(shared.timers.now);
            }
        }
    }

    /// A connection could not be made: the next address, or the next backend.
    pub(super) fn on_connect_failed(
        &self,
        exchange: &mut ActiveExchange,
        shared: &mut Shared<N>,
        why: &str,
        is_timeout: bool,
    ) -> Progress {
        shared.close_backend(exchange);
        exchange.state.on_connect_failed(is_timeout);
        match exchange.attempt.reopen(shared, self.id.key, why) {
            Ok(dialed) => {
                self.on_dialed(exchange, shared, dialed);
                Continue(())
            }
            Err(NoBackend) => Break(exchange.state.on_no_backend()),
        }
    }

    /// The backend ended or failed: the end of its response, or another try.
    pub(super) fn on_backend_lost(
        &self,
        exchange: &mut ActiveExchange,
        shared: &mut Shared<N>,
        why: &str,
    ) -> Progress {
        let upstream = &mut shared.upstreams[exchange.attempt.upstream];
        let tries_max = upstream.settings.tries_max as usize;
        let recovery = or_end(exchange.state.on_backend_lost(Allowance {
            has_tries: exchange.attempt.tried().len() + 1 < tries_max,
            budget: &mut upstream.budget,
            now: shared.timers.now,
        }))?;
        shared.close_backend(exchange);
        let account = shared.io.buffers.account_mut();
        account.free(Purpose::Response, &mut exchange.response_head);
        match recovery {
            Recovery::SameBackend => exchange.attempt.note_failed(shared, TriedAt::Parked),
            Recovery::OtherBackend => exchange.attempt.give_up(shared, FailedAt::Answer, why),
            Recovery::GiveUp => {
                exchange.attempt.give_up(shared, FailedAt::Answer, why);
                return Break(exchange.state.on_no_backend());
            }
            Recovery::GiveUpStale => {
                exchange.attempt.note_failed(shared, TriedAt::Parked);
                return Break(exchange.state.on_no_backend());
            }
        }
        debug!("request sent again: {why}");
        self.connect(exchange, shared, false)
    }
}
