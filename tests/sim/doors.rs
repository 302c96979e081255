//! Listening sockets of siblings: accepted from while the worker is asked to, and not before.

use weir::board::ListenerCell;
use weir::config;
use weir::worker::{Opened, Slots};

use crate::net::ListenerId;
use crate::rig::{Rig, config_text};

/// After this a listener that was told to close has.
const HANDSHAKES_END_MS: u64 = 1_000;

/// A worker with a socket of its own, and that of its sibling in slot 1.
fn with_sibling() -> (Rig, ListenerId) {
    let text = config_text(&[1], "");
    let mut rig = Rig::still(&text);
    rig.worker.accept_from(Slots::NONE.with(0));
    let socket = rig.net.listen();
    let id = socket.id();
    let opened = Opened {
        slot: Some(1),
        socket,
    };
    let compiled = config::compile("f", &text, &mut |_| Ok(Vec::new())).expect("good");
    let adopted = rig
        .worker
        .adopt_sockets(compiled.config, vec![vec![opened]], false)
        .expect("the fake watches everything");
    assert_eq!(adopted.listeners_added, 0, "it is one more socket");
    (rig, id)
}

fn accepted(rig: &Rig) -> u64 {
    rig.listener_count(ListenerCell::Accepted)
}

#[test]
fn a_siblings_queue_waits_until_the_worker_is_asked_to_empty_it() {
    let (mut rig, sibling) = with_sibling();
    rig.world().client_connect(sibling);
    rig.client();
    rig.settle();
    assert_eq!(accepted(&rig), 1, "its own client only");
    rig.worker.accept_from(Slots::NONE.with(0).with(1));
    rig.world().client_connect(sibling);
    rig.settle();
    assert_eq!(accepted(&rig), 3, "those who waited and who came later");
    rig.worker.accept_from(Slots::NONE.with(0));
    rig.world().client_connect(sibling);
    rig.client();
    rig.settle();
    assert_eq!(accepted(&rig), 4, "its sibling is back");
}

#[test]
fn a_drain_takes_what_waits_in_its_own_queue_and_leaves_a_siblings() {
    let (mut rig, sibling) = with_sibling();
    let own = rig.client();
    rig.world().client_connect(sibling);
    rig.worker.drain();
    rig.pass(HANDSHAKES_END_MS, 10);
    assert_eq!(accepted(&rig), 1);
    assert_eq!(rig.worker.census().listeners_open, 0);
    rig.world().peer_reset(own);
    rig.settle();
    assert_eq!(rig.worker.stage(), weir::worker::Stage::Finished);
}

#[test]
fn a_drain_empties_the_queues_that_it_was_asked_to() {
    let (mut rig, sibling) = with_sibling();
    rig.worker.accept_from(Slots::NONE.with(0).with(1));
    rig.world().client_connect(sibling);
    rig.client();
    rig.worker.drain();
    rig.pass(HANDSHAKES_END_MS, 10);
    assert_eq!(accepted(&rig), 2);
    assert_eq!(rig.worker.census().listeners_open, 0);
}

#[test]
fn who_leaves_lets_others_serve_what_is_queued() {
    let (mut rig, _) = with_sibling();
    let client = rig.client();
    rig.settle();
    rig.client();
    rig.worker.leave();
    rig.settle();
    assert_eq!(accepted(&rig), 1, "only who came before");
    assert_eq!(rig.worker.census().listeners_open, 0);
    assert_eq!(rig.worker.stage(), weir::worker::Stage::Draining);
    rig.world().peer_reset(client);
    rig.settle();
    assert_eq!(rig.worker.stage(), weir::worker::Stage::Finished);
}
