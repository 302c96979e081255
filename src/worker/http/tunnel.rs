//! From an exchange whose backend has changed protocols to a plain relay of bytes.

use log::debug;

use crate::core::account::Purpose;
use crate::core::http::exchange::Link;
use crate::net::{Kind, Net, Side, Target};
use crate::worker::connect::Attempt;
use crate::worker::session::{Protocol, Session};
use crate::worker::shared::Shared;
use crate::worker::tcp::Relay;

/// Turns a session whose backend has changed protocols into a relay of bytes.
pub(super) fn adopt<N: Net>(key: u32, session: &mut Session<N>, shared: &mut Shared<N>) {
    let Protocol::Http(http) = &mut session.protocol else {
        return;
    };
    if !http
        .exchange
        .as_ref()
        .is_some_and(|x| x.state.link() == Link::Switched)
    {
        return;
    }
    let Some(mut exchange) = http.exchange.take() else {
        return;
    };
    let link = exchange
        .link
        .take()
        .and_then(|link| shared.remove_link(link));
    let Some(mut link) = link else {
        return;
    };
    let generation = shared.next_generation();
    let kind = Kind::Session(Side::Backend);
    let target = Target {
        kind,
        key,
        generation,
    };
    let net = &mut shared.transfer.net;
    if link.endpoint.rewatch(net, target).is_err() {
        // Without events the relay ends at its idle time at the latest.
        debug!("cannot watch a tunnel");
    }
    let attempt = std::mem::replace(&mut exchange.attempt, Attempt::new(0, 0));
    let timeout = exchange.site.routes[exchange.route].timeouts.tunnel;
    let mut relay = Relay::tunnel(attempt, link.endpoint, timeout);
    if !http.input.is_empty() {
        let buffers = &mut shared.transfer.buffers;
        relay.up.hold(buffers.hold(&[&http.input]));
        buffers.account_mut().free(Purpose::Input, &mut http.input);
    }
    if let Some(buffer) = http.output.take() {
        relay.down.hold(buffer);
    }
    shared.keep_spare(exchange);
    // The end of the client's direction may have been told before.
    session.client.expect_end();
    session.protocol = Protocol::Tcp(relay);
}
