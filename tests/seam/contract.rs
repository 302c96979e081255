//! What every [`Net`] promises, as tests that run on any: the kernel and the fake must agree, so
//! that a simulation cannot pass on behaviour that no kernel shows.
//!
//! Each test gets a fresh world. Peers read only what a test asks them to.

use std::io::IoSlice;

use weir::core::address::Address;
use weir::core::readiness::{Io, Readiness};
use weir::core::time::Tick;
use weir::net::{Accept, Fired, Kind, Net, Target, Then};

/// A net and the peers around it.
pub(crate) trait World {
    type N: Net;
    /// The far end of a connection.
    type Peer;

    fn net(&mut self) -> &mut Self::N;
    fn listen(&mut self) -> Listener<Self>;
    fn connect_client(&mut self, to: &Listener<Self>) -> Self::Peer;
    /// An address that takes connections.
    fn origin(&mut self) -> Address;
    /// The far end of the oldest connection to an origin.
    fn origin_peer(&mut self, at: &Address) -> Self::Peer;
    /// Whether a connection waits for an origin to accept it.
    fn origin_is_asked(&mut self, at: &Address) -> bool;
    /// An address that refuses connections.
    fn refusing(&mut self) -> Address;
    fn send(&mut self, peer: &mut Self::Peer, bytes: &[u8]);
    fn close_write(&mut self, peer: &mut Self::Peer);
    fn reset(&mut self, peer: Self::Peer);
    /// Closes both directions, with nothing unread.
    fn close(&mut self, peer: Self::Peer);
    /// Reads exactly so many bytes.
    fn receive(&mut self, peer: &mut Self::Peer, count: usize) -> Vec<u8>;
    /// Reads on, expecting no more bytes.
    fn end_seen(&mut self, peer: &mut Self::Peer) -> End;
}

pub(crate) type Listener<W> = <<W as World>::N as Net>::Listener;
pub(crate) type Stream<W> = <<W as World>::N as Net>::Stream;

/// How a connection ends for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Clean,
    Reset,
}

/// Makes a test of each promise, for the world that the expression builds.
macro_rules! contract {
    ($world:expr; $($promise:ident)*) => {
        $(#[test] fn $promise() { crate::contract::$promise(&mut $world); })*
    };
    ($world:expr) => {
        $crate::contract::contract! { $world;
            an_arrival_is_one_event_and_unread_bytes_are_none
            new_bytes_are_an_event_beside_unread_ones
            a_stream_is_watched_once
            what_came_before_the_watch_is_its_first_event
            a_short_read_leaves_the_end_without_an_event
            bytes_come_before_the_end
            an_end_of_input_leaves_the_output_open
            a_shutdown_leaves_the_input_open
            both_directions_ended_set_every_bit
            a_reset_is_told_once_and_looks_clean_afterwards
            bytes_come_before_a_reset
            a_reset_after_the_end_is_a_clean_end_to_a_reader
            a_write_to_a_reset_connection_fails
            what_is_written_to_a_closed_peer_is_not_acknowledged
            a_connection_is_confirmed_when_it_is_writable
            a_refusal_is_told_once
            a_probe_is_confirmed_and_never_accepted
            a_probe_that_stays_is_accepted_and_reset
            a_probe_is_refused_as_a_connection_is
            a_blocked_write_is_followed_by_an_event_when_there_is_room
            no_event_for_room_comes_while_there_is_none
            random_bytes_are_drawn_anew
            slices_are_written_in_order
            filling_from_an_empty_stream_is_blocked
            filling_a_full_pipe_is_blocked_though_the_stream_has_bytes
            filling_at_the_end_of_the_stream_is_closed
            draining_an_empty_pipe_is_blocked
            what_is_filled_is_drained_in_order
            closing_delivers_what_was_written
            what_is_written_last_arrives_before_the_end
            closing_over_unread_bytes_resets
            a_reset_reaches_the_peer
            a_connection_is_an_event_of_its_listener
            connections_waiting_before_the_watch_are_its_first_event
            a_listener_that_stops_resets_those_who_wait
            a_listener_that_admits_no_more_keeps_its_queue
            a_wait_ends_when_it_was_told
        }
    };
}
pub(crate) use contract;

const ALL: Readiness = Readiness::ALL;

const TARGET: Target = Target {
    kind: Kind::Client,
    key: 3,
    generation: 1,
};

const LISTENER: Target = Target {
    kind: Kind::Listener,
    key: 0,
    generation: 1,
};

/// Long enough for anything that is to come; a test that passes never waits for it.
const PATIENCE_MS: u64 = 5000;

/// How long to listen for what is not to come.
const SILENCE_MS: u64 = 5;

fn now<W: World>(world: &mut W) -> Tick {
    world
        .net()
        .wait(Some(Tick(0)), &mut Vec::new())
        .expect("a poll")
}

/// Waits until `target` was reported with all these bits, and returns all it was reported with.
fn expect<W: World>(world: &mut W, target: Target, bits: Readiness) -> Readiness {
    let mut seen = Readiness::NONE;
    let mut fired: Vec<Fired> = Vec::new();
    let mut deadline = None;
    while !seen.has(bits) {
        let tick = world
            .net()
            .wait(deadline.or(Some(Tick(0))), &mut fired)
            .expect("a wait");
        let last = *deadline.get_or_insert_with(|| tick.after_ms(PATIENCE_MS));
        for one in fired.drain(..).filter(|one| one.target == target) {
            seen.add(one.ready);
        }
        assert!(
            seen.has(bits) || tick < last,
            "of {bits:?} only {seen:?} was reported"
        );
    }
    seen
}

/// Checks that `target` is not reported.
fn silence<W: World>(world: &mut W, target: Target) {
    let mut fired = Vec::new();
    let mut tick = world.net().wait(Some(Tick(0)), &mut fired).expect("a poll");
    let until = tick.after_ms(SILENCE_MS);
    while tick < until {
        tick = world.net().wait(Some(until), &mut fired).expect("a wait");
    }
    let reported = fired.iter().find(|one| one.target == target);
    assert_eq!(reported, None, "nothing happened to it");
}

/// A client's connection, accepted and not yet watched.
fn accepted<W: World>(world: &mut W) -> (W::Peer, Stream<W>) {
    let listener = world.listen();
    world
        .net()
        .watch_listener(&listener, LISTENER)
        .expect("watched");
    let peer = world.connect_client(&listener);
    expect(world, LISTENER, Readiness::READ);
    let stream = take(world, &listener);
    (peer, stream)
}

fn take<W: World>(world: &mut W, listener: &Listener<W>) -> Stream<W> {
    let Accept::Ready(stream, Some(_)) = world.net().accept(listener) else {
        panic!("a client waits");
    };
    stream
}

/// The same, watched, with the first event taken.
fn watched<W: World>(world: &mut W) -> (W::Peer, Stream<W>) {
    let (peer, stream) = accepted(world);
    world.net().watch(&stream, TARGET).expect("watched");
    assert_eq!(expect(world, TARGET, Readiness::WRITE), Readiness::WRITE);
    silence(world, TARGET);
    (peer, stream)
}

fn read<W: World>(world: &mut W, stream: &Stream<W>, most: usize) -> Io<Vec<u8>> {
    let mut into = vec![0; most];
    match world.net().read(stream, &mut into) {
        Io::Ready(count) => Io::Ready(into[..count].to_vec()),
        Io::Blocked => Io::Blocked,
        Io::Closed => Io::Closed,
        Io::Failed(kind) => Io::Failed(kind),
    }
}

fn write<W: World>(world: &mut W, stream: &Stream<W>, bytes: &[u8]) -> Io<usize> {
    world
        .net()
        .write(stream, &[IoSlice::new(bytes)], Then::More)
}

/// Writes until nothing more is taken, and returns how much was.
fn write_until_blocked<W: World>(world: &mut W, stream: &Stream<W>) -> usize {
    let chunk = [b'w'; 65_536];
    let mut total = 0;
    for _ in 0..10_000 {
        match write(world, stream, &chunk) {
            Io::Ready(count) => total += count,
            Io::Blocked => return total,
            other @ (Io::Closed | Io::Failed(_)) => panic!("{other:?}"),
        }
    }
    panic!("{total} bytes and room for more");
}

fn close_all<W: World>(world: &mut W, streams: impl IntoIterator<Item = Stream<W>>) {
    for stream in streams {
        world.net().close(stream);
    }
}

pub(crate) fn an_arrival_is_one_event_and_unread_bytes_are_none<W: World>(world: &mut W) {
    let (mut peer, stream) = watched(world);
    world.send(&mut peer, b"0123456789");
    expect(world, TARGET, Readiness::READ);
    assert_eq!(read(world, &stream, 4), Io::Ready(b"0123".to_vec()));
    silence(world, TARGET);
    assert_eq!(read(world, &stream, 40), Io::Ready(b"456789".to_vec()));
    assert_eq!(read(world, &stream, 40), Io::Blocked);
    close_all(world, [stream]);
}

pub(crate) fn new_bytes_are_an_event_beside_unread_ones<W: World>(world: &mut W) {
    let (mut peer, stream) = watched(world);
    world.send(&mut peer, b"a");
    expect(world, TARGET, Readiness::READ);
    silence(world, TARGET);
    world.send(&mut peer, b"b");
    expect(world, TARGET, Readiness::READ);
    assert_eq!(read(world, &stream, 9), Io::Ready(b"ab".to_vec()));
    close_all(world, [stream]);
}

pub(crate) fn a_stream_is_watched_once<W: World>(world: &mut W) {
    let (_peer, stream) = accepted(world);
    assert!(world.net().watch(&stream, TARGET).is_ok());
    assert!(world.net().watch(&stream, TARGET).is_err());
    close_all(world, [stream]);
}

pub(crate) fn what_came_before_the_watch_is_its_first_event<W: World>(world: &mut W) {
    let (mut peer, stream) = accepted(world);
    world.send(&mut peer, b"early");
    world.close_write(&mut peer);
    world.net().watch(&stream, TARGET).expect("watched");
    assert_eq!(expect(world, TARGET, ALL), ALL);
    close_all(world, [stream]);
}

pub(crate) fn a_short_read_leaves_the_end_without_an_event<W: World>(world: &mut W) {
    let (mut peer, stream) = accepted(world);
    world.send(&mut peer, b"0123456789");
    world.close_write(&mut peer);
    world.net().watch(&stream, TARGET).expect("watched");
    expect(world, TARGET, Readiness::READ | Readiness::CLOSING);
    assert_eq!(
        read(world, &stream, 4096),
        Io::Ready(b"0123456789".to_vec())
    );
    silence(world, TARGET);
    assert_eq!(read(world, &stream, 4096), Io::Closed);
    close_all(world, [stream]);
}

pub(crate) fn bytes_come_before_the_end<W: World>(world: &mut W) {
    let (mut peer, stream) = watched(world);
    world.send(&mut peer, b"last words");
    world.close_write(&mut peer);
    expect(world, TARGET, Readiness::READ | Readiness::CLOSING);
    assert_eq!(read(world, &stream, 5), Io::Ready(b"last ".to_vec()));
    assert_eq!(read(world, &stream, 5), Io::Ready(b"words".to_vec()));
    assert_eq!(read(world, &stream, 5), Io::Closed);
    assert_eq!(read(world, &stream, 5), Io::Closed);
    close_all(world, [stream]);
}

pub(crate) fn an_end_of_input_leaves_the_output_open<W: World>(world: &mut W) {
    let (mut peer, stream) = watched(world);
    world.close_write(&mut peer);
    expect(world, TARGET, Readiness::CLOSING);
    assert_eq!(read(world, &stream, 9), Io::Closed);
    assert_eq!(write(world, &stream, b"answer"), Io::Ready(6));
    assert_eq!(world.receive(&mut peer, 6), b"answer");
    close_all(world, [stream]);
    assert_eq!(world.end_seen(&mut peer), End::Clean);
}

pub(crate) fn a_shutdown_leaves_the_input_open<W: World>(world: &mut W) {
    let (mut peer, stream) = watched(world);
    assert_eq!(write(world, &stream, b"request"), Io::Ready(7));
    world.net().shutdown(&stream);
    assert_eq!(world.receive(&mut peer, 7), b"request");
    assert_eq!(world.end_seen(&mut peer), End::Clean);
    let refused = write(world, &stream, b"more");
    assert_eq!(refused, Io::Failed(std::io::ErrorKind::BrokenPipe));
    world.send(&mut peer, b"answer");
    expect(world, TARGET, Readiness::READ);
    assert_eq!(read(world, &stream, 9), Io::Ready(b"answer".to_vec()));
    close_all(world, [stream]);
}

pub(crate) fn both_directions_ended_set_every_bit<W: World>(world: &mut W) {
    let (mut peer, stream) = watched(world);
    world.net().shutdown(&stream);
    assert_eq!(world.end_seen(&mut peer), End::Clean);
    world.close_write(&mut peer);
    expect(world, TARGET, ALL);
    assert_eq!(read(world, &stream, 9), Io::Closed);
    close_all(world, [stream]);
}

pub(crate) fn a_reset_is_told_once_and_looks_clean_afterwards<W: World>(world: &mut W) {
    let (peer, stream) = watched(world);
    world.reset(peer);
    assert_eq!(expect(world, TARGET, ALL), ALL);
    let told = read(world, &stream, 9);
    assert_eq!(told, Io::Failed(std::io::ErrorKind::ConnectionReset));
    assert_eq!(read(world, &stream, 9), Io::Closed);
    close_all(world, [stream]);
}

pub(crate) fn bytes_come_before_a_reset<W: World>(world: &mut W) {
    let (mut peer, stream) = watched(world);
    world.send(&mut peer, b"last words");
    expect(world, TARGET, Readiness::READ);
    world.reset(peer);
    expect(world, TARGET, ALL);
    assert_eq!(read(world, &stream, 99), Io::Ready(b"last words".to_vec()));
    let told = read(world, &stream, 99);
    assert_eq!(told, Io::Failed(std::io::ErrorKind::ConnectionReset));
    close_all(world, [stream]);
}

pub(crate) fn a_reset_after_the_end_is_a_clean_end_to_a_reader<W: World>(world: &mut W) {
    let (mut peer, stream) = watched(world);
    world.close_write(&mut peer);
    expect(world, TARGET, Readiness::CLOSING);
    world.reset(peer);
    expect(world, TARGET, ALL);
    assert_eq!(read(world, &stream, 9), Io::Closed);
    let told = write(world, &stream, b"answer");
    assert_eq!(told, Io::Failed(std::io::ErrorKind::BrokenPipe));
    close_all(world, [stream]);
}

pub(crate) fn a_write_to_a_reset_connection_fails<W: World>(world: &mut W) {
    let (peer, stream) = watched(world);
    world.reset(peer);
    expect(world, TARGET, ALL);
    let told = write(world, &stream, b"answer");
    assert_eq!(told, Io::Failed(std::io::ErrorKind::ConnectionReset));
    let afterwards = write(world, &stream, b"answer");
    assert_eq!(afterwards, Io::Failed(std::io::ErrorKind::BrokenPipe));
    close_all(world, [stream]);
}

pub(crate) fn what_is_written_to_a_closed_peer_is_not_acknowledged<W: World>(world: &mut W) {
    let (mut peer, stream) = watched(world);
    assert_eq!(write(world, &stream, b"first"), Io::Ready(5));
    assert_eq!(world.receive(&mut peer, 5), b"first");
    // What was received is acknowledged with what is sent back, or after it.
    world.send(&mut peer, b"answer");
    expect(world, TARGET, Readiness::READ);
    assert_eq!(read(world, &stream, 9), Io::Ready(b"answer".to_vec()));
    assert_eq!(world.net().unacknowledged(&stream), Some(0));
    world.close(peer);
    expect(world, TARGET, Readiness::CLOSING);
    assert_eq!(write(world, &stream, b"second"), Io::Ready(6));
    assert_eq!(read(world, &stream, 9), Io::Closed);
    assert_eq!(world.net().unacknowledged(&stream), Some(6));
    silence(world, Target { key: 9, ..TARGET });
    assert_eq!(
        world.net().unacknowledged(&stream),
        Some(6),
        "after its reset"
    );
    close_all(world, [stream]);
}

pub(crate) fn a_connection_is_confirmed_when_it_is_writable<W: World>(world: &mut W) {
    let origin = world.origin();
    let stream = world.net().connect(&origin).expect("started");
    world.net().watch(&stream, TARGET).expect("watched");
    assert_eq!(expect(world, TARGET, Readiness::WRITE), Readiness::WRITE);
    assert_eq!(world.net().connected(&stream), Io::Ready(()));
    assert_eq!(write(world, &stream, b"hello"), Io::Ready(5));
    let mut peer = world.origin_peer(&origin);
    assert_eq!(world.receive(&mut peer, 5), b"hello");
    close_all(world, [stream]);
}

pub(crate) fn a_refusal_is_told_once<W: World>(world: &mut W) {
    let nowhere = world.refusing();
    let stream = world.net().connect(&nowhere).expect("started");
    world.net().watch(&stream, TARGET).expect("watched");
    assert_eq!(expect(world, TARGET, ALL), ALL);
    let refused = Io::Failed(std::io::ErrorKind::ConnectionRefused);
    assert_eq!(world.net().connected(&stream), refused);
    assert_eq!(world.net().connected(&stream), Io::Blocked);
    close_all(world, [stream]);
}

/// A probe that is established.
fn probed<W: World>(world: &mut W, at: &Address) -> Stream<W> {
    let stream = world.net().probe(at).expect("started");
    world.net().watch(&stream, TARGET).expect("watched");
    assert_eq!(expect(world, TARGET, Readiness::WRITE), Readiness::WRITE);
    assert_eq!(world.net().connected(&stream), Io::Ready(()));
    stream
}

pub(crate) fn a_probe_is_confirmed_and_never_accepted<W: World>(world: &mut W) {
    let origin = world.origin();
    let stream = probed(world, &origin);
    world.net().close(stream);
    silence(world, TARGET);
    assert!(!world.origin_is_asked(&origin));
}

pub(crate) fn a_probe_that_stays_is_accepted_and_reset<W: World>(world: &mut W) {
    let origin = world.origin();
    let stream = probed(world, &origin);
    let mut tick = now(world);
    let last = tick.after_ms(PATIENCE_MS);
    while !world.origin_is_asked(&origin) {
        assert!(tick < last, "never accepted");
        let next = tick.after_ms(1);
        let waited = world.net().wait(Some(next), &mut Vec::new());
        tick = waited.expect("a wait");
    }
    let mut peer = world.origin_peer(&origin);
    world.net().close(stream);
    assert_eq!(world.end_seen(&mut peer), End::Reset);
}

pub(crate) fn a_probe_is_refused_as_a_connection_is<W: World>(world: &mut W) {
    let nowhere = world.refusing();
    let stream = world.net().probe(&nowhere).expect("started");
    world.net().watch(&stream, TARGET).expect("watched");
    assert_eq!(expect(world, TARGET, ALL), ALL);
    let refused = Io::Failed(std::io::ErrorKind::ConnectionRefused);
    assert_eq!(world.net().connected(&stream), refused);
    close_all(world, [stream]);
}

pub(crate) fn a_blocked_write_is_followed_by_an_event_when_there_is_room<W: World>(world: &mut W) {
    let (mut peer, stream) = watched(world);
    let total = write_until_blocked(world, &stream);
    assert_eq!(world.receive(&mut peer, total).len(), total);
    expect(world, TARGET, Readiness::WRITE);
    assert!(matches!(write(world, &stream, b"more"), Io::Ready(_)));
    close_all(world, [stream]);
}

pub(crate) fn no_event_for_room_comes_while_there_is_none<W: World>(world: &mut W) {
    let (mut peer, stream) = watched(world);
    let total = write_until_blocked(world, &stream);
    silence(world, TARGET);
    // A little room is not worth an event either.
    world.receive(&mut peer, 100.min(total));
    silence(world, TARGET);
    close_all(world, [stream]);
}

pub(crate) fn slices_are_written_in_order<W: World>(world: &mut W) {
    let (mut peer, stream) = watched(world);
    let slices = [b"one ".as_slice(), b"", b"two ", b"three"].map(IoSlice::new);
    assert_eq!(
        world.net().write(&stream, &slices, Then::More),
        Io::Ready(13)
    );
    assert_eq!(world.receive(&mut peer, 13), b"one two three");
    close_all(world, [stream]);
}

pub(crate) fn filling_from_an_empty_stream_is_blocked<W: World>(world: &mut W) {
    let (_peer, stream) = watched(world);
    let pipe = world.net().pipe().expect("a pipe");
    assert_eq!(world.net().fill(&stream, &pipe, 4096), Io::Blocked);
    close_all(world, [stream]);
}

pub(crate) fn filling_a_full_pipe_is_blocked_though_the_stream_has_bytes<W: World>(world: &mut W) {
    let (mut peer, stream) = watched(world);
    let pipe = world.net().pipe().expect("a pipe");
    // Small segments, of which each takes a place in the pipe.
    let mut held = 0;
    let rest = loop {
        world.send(&mut peer, &[b's'; 100]);
        expect(world, TARGET, Readiness::READ);
        match world.net().fill(&stream, &pipe, 65_536) {
            Io::Ready(count) => held += count,
            Io::Blocked => break read(world, &stream, 65_536),
            other @ (Io::Closed | Io::Failed(_)) => panic!("{other:?}"),
        }
        assert!(held < 1 << 24, "the pipe takes no end of bytes");
    };
    assert_eq!(
        rest,
        Io::Ready(vec![b's'; 100]),
        "the pipe was full, the stream not empty"
    );
    world.send(&mut peer, b"another");
    expect(world, TARGET, Readiness::READ);
    world.close_write(&mut peer);
    expect(world, TARGET, Readiness::CLOSING);
    assert_eq!(world.net().fill(&stream, &pipe, 65_536), Io::Blocked);
    assert_eq!(world.net().drain(&pipe, &stream, held), Io::Ready(held));
    assert_eq!(world.net().fill(&stream, &pipe, 65_536), Io::Ready(7));
    close_all(world, [stream]);
}

pub(crate) fn filling_at_the_end_of_the_stream_is_closed<W: World>(world: &mut W) {
    let (mut peer, stream) = watched(world);
    let pipe = world.net().pipe().expect("a pipe");
    world.send(&mut peer, b"last words");
    world.close_write(&mut peer);
    expect(world, TARGET, Readiness::CLOSING);
    assert_eq!(world.net().fill(&stream, &pipe, 4), Io::Ready(4));
    assert_eq!(world.net().fill(&stream, &pipe, 4096), Io::Ready(6));
    assert_eq!(world.net().fill(&stream, &pipe, 4096), Io::Closed);
    close_all(world, [stream]);
}

pub(crate) fn draining_an_empty_pipe_is_blocked<W: World>(world: &mut W) {
    let (_peer, stream) = watched(world);
    let pipe = world.net().pipe().expect("a pipe");
    assert_eq!(world.net().drain(&pipe, &stream, 4096), Io::Blocked);
    close_all(world, [stream]);
}

pub(crate) fn what_is_filled_is_drained_in_order<W: World>(world: &mut W) {
    let (mut peer, stream) = watched(world);
    let pipe = world.net().pipe().expect("a pipe");
    world.send(&mut peer, b"one two three");
    expect(world, TARGET, Readiness::READ);
    assert_eq!(world.net().fill(&stream, &pipe, 4096), Io::Ready(13));
    assert_eq!(world.net().drain(&pipe, &stream, 4), Io::Ready(4));
    assert_eq!(world.net().drain(&pipe, &stream, 4096), Io::Ready(9));
    assert_eq!(world.receive(&mut peer, 13), b"one two three");
    close_all(world, [stream]);
}

pub(crate) fn closing_delivers_what_was_written<W: World>(world: &mut W) {
    let (mut peer, stream) = watched(world);
    assert_eq!(write(world, &stream, b"goodbye"), Io::Ready(7));
    close_all(world, [stream]);
    assert_eq!(world.receive(&mut peer, 7), b"goodbye");
    assert_eq!(world.end_seen(&mut peer), End::Clean);
}

pub(crate) fn what_is_written_last_arrives_before_the_end<W: World>(world: &mut W) {
    let slices = [IoSlice::new(b"last "), IoSlice::new(b"words")];
    let (mut peer, stream) = watched(world);
    assert_eq!(
        world.net().write(&stream, &slices[..1], Then::End),
        Io::Ready(5),
        "one slice"
    );
    world.net().shutdown(&stream);
    assert_eq!(world.receive(&mut peer, 5), b"last ");
    assert_eq!(world.end_seen(&mut peer), End::Clean);
    close_all(world, [stream]);
    let (mut peer, stream) = watched(world);
    assert_eq!(
        world.net().write(&stream, &slices, Then::End),
        Io::Ready(10),
        "two slices"
    );
    close_all(world, [stream]);
    assert_eq!(world.receive(&mut peer, 10), b"last words");
    assert_eq!(world.end_seen(&mut peer), End::Clean);
}

pub(crate) fn closing_over_unread_bytes_resets<W: World>(world: &mut W) {
    let (mut peer, stream) = watched(world);
    world.send(&mut peer, b"unread");
    expect(world, TARGET, Readiness::READ);
    close_all(world, [stream]);
    assert_eq!(world.end_seen(&mut peer), End::Reset);
}

pub(crate) fn a_reset_reaches_the_peer<W: World>(world: &mut W) {
    let (mut peer, stream) = watched(world);
    world.net().reset(stream);
    assert_eq!(world.end_seen(&mut peer), End::Reset);
}

pub(crate) fn a_connection_is_an_event_of_its_listener<W: World>(world: &mut W) {
    let listener = world.listen();
    world
        .net()
        .watch_listener(&listener, LISTENER)
        .expect("watched");
    silence(world, LISTENER);
    assert!(matches!(world.net().accept(&listener), Accept::Blocked));
    let _first = world.connect_client(&listener);
    expect(world, LISTENER, Readiness::READ);
    silence(world, LISTENER);
    let _second = world.connect_client(&listener);
    expect(world, LISTENER, Readiness::READ);
    let taken = [(), ()].map(|()| take(world, &listener));
    assert!(matches!(world.net().accept(&listener), Accept::Blocked));
    close_all(world, taken);
}

pub(crate) fn connections_waiting_before_the_watch_are_its_first_event<W: World>(world: &mut W) {
    let listener = world.listen();
    let _peer = world.connect_client(&listener);
    world
        .net()
        .watch_listener(&listener, LISTENER)
        .expect("watched");
    expect(world, LISTENER, Readiness::READ);
}

pub(crate) fn a_listener_that_stops_resets_those_who_wait<W: World>(world: &mut W) {
    let listener = world.listen();
    world
        .net()
        .watch_listener(&listener, LISTENER)
        .expect("watched");
    let mut peer = world.connect_client(&listener);
    expect(world, LISTENER, Readiness::READ);
    world.net().stop_listening(listener);
    assert_eq!(world.end_seen(&mut peer), End::Reset);
    silence(world, LISTENER);
}

pub(crate) fn a_listener_that_admits_no_more_keeps_its_queue<W: World>(world: &mut W) {
    let mut listener = world.listen();
    let _peer = world.connect_client(&listener);
    world.net().admit_no_more(&mut listener);
    world
        .net()
        .watch_listener(&listener, LISTENER)
        .expect("watched");
    expect(world, LISTENER, Readiness::READ);
    let taken = [take(world, &listener)];
    assert!(matches!(world.net().accept(&listener), Accept::Blocked));
    close_all(world, taken);
}

pub(crate) fn random_bytes_are_drawn_anew<W: World>(world: &mut W) {
    let mut drawn = [[0; 33]; 2];
    for bytes in &mut drawn {
        world.net().random(bytes).expect("bytes");
        // A run of nine that were left as they were: one in 2^72.
        assert!(bytes.windows(9).all(|run| run != [0; 9]));
    }
    assert_ne!(drawn[0], drawn[1]);
}

pub(crate) fn a_wait_ends_when_it_was_told<W: World>(world: &mut W) {
    let until = now(world).after_ms(3);
    let mut fired = Vec::new();
    assert!(world.net().wait(Some(until), &mut fired).expect("a wait") >= until);
    assert_eq!(fired, []);
}
