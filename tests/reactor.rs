//! The seam: the reactor on the real kernel and the fake of the simulation keep one contract.

#[path = "seam/contract.rs"]
mod contract;
#[path = "sim/net.rs"]
mod sim_net;

/// The reactor, on loopback sockets.
mod on_the_kernel {
    use std::io::{ErrorKind, IoSlice, Read, Write};
    use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, Timespec};
    use socket2::{Domain, SockRef, Socket, Type};
    use weir::core::address::Address;
    use weir::core::readiness::Io;
    use weir::core::time::Tick;
    use weir::net::{Accept, Kind, Net, Target, Then};
    use weir::reactor::Reactor;
    use weir::sys::socket::{self, ListenerSocket};

    use crate::contract::{End, World, contract};

    struct Loopback {
        reactor: Reactor,
        origins: Vec<TcpListener>,
        /// Bound, but not listening: nobody else can come to listen on their ports.
        refusing: Vec<Socket>,
    }

    impl Loopback {
        fn new() -> Self {
            Self {
                reactor: Reactor::new().expect("epoll"),
                origins: Vec::new(),
                refusing: Vec::new(),
            }
        }

        fn origin_at(&self, at: &Address) -> &TcpListener {
            let is_at =
                |one: &&TcpListener| one.local_addr().ok().map(Address::Ip).as_ref() == Some(at);
            self.origins.iter().find(is_at).expect("an origin")
        }
    }

    /// Whether a connection waits to be accepted.
    fn is_readable(listener: impl AsFd) -> bool {
        let mut polled = [PollFd::new(&listener, PollFlags::IN)];
        rustix::event::poll(&mut polled, Some(&Timespec::default())).expect("a poll") > 0
    }

    const ANY_PORT: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

    fn peer(stream: TcpStream) -> TcpStream {
        let patience = Some(Duration::from_secs(5));
        stream.set_read_timeout(patience).expect("a socket option");
        stream.set_nodelay(true).expect("a socket option");
        stream
    }

    impl World for Loopback {
        type N = Reactor;
        type Peer = TcpStream;

        fn net(&mut self) -> &mut Reactor {
            &mut self.reactor
        }

        fn listen(&mut self) -> ListenerSocket {
            socket::listen(&Address::Ip(ANY_PORT.into()), 16, None).expect("listening")
        }

        fn connect_client(&mut self, to: &ListenerSocket) -> TcpStream {
            let address = to.local_address().expect("an IP address");
            peer(TcpStream::connect(address).expect("connected"))
        }

        fn origin(&mut self) -> Address {
            let origin = TcpListener::bind(ANY_PORT).expect("listening");
            let address = origin.local_addr().expect("bound");
            self.origins.push(origin);
            Address::Ip(address)
        }

        fn origin_peer(&mut self, at: &Address) -> TcpStream {
            let origin = self.origin_at(at);
            peer(origin.accept().expect("a connection").0)
        }

        fn origin_is_asked(&mut self, at: &Address) -> bool {
            is_readable(self.origin_at(at))
        }

        fn refusing(&mut self) -> Address {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket
                .bind(&SocketAddr::from(ANY_PORT).into())
                .expect("bound");
            let address = socket.local_addr().expect("bound").as_socket();
            self.refusing.push(socket);
            Address::Ip(address.expect("an IP address"))
        }

        fn send(&mut self, peer: &mut TcpStream, bytes: &[u8]) {
            peer.write_all(bytes).expect("sent");
        }

        fn close_write(&mut self, peer: &mut TcpStream) {
            peer.shutdown(Shutdown::Write).expect("shut down");
        }

        fn reset(&mut self, peer: TcpStream) {
            let at_once = Some(Duration::ZERO);
            SockRef::from(&peer)
                .set_linger(at_once)
                .expect("a socket option");
        }

        fn close(&mut self, peer: TcpStream) {
            drop(peer);
        }

        fn receive(&mut self, peer: &mut TcpStream, count: usize) -> Vec<u8> {
            let mut bytes = vec![0; count];
            peer.read_exact(&mut bytes).expect("received");
            bytes
        }

        fn end_seen(&mut self, peer: &mut TcpStream) -> End {
            match peer.read(&mut [0]) {
                Ok(0) => End::Clean,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => End::Reset,
                other => panic!("neither end nor reset: {other:?}"),
            }
        }
    }

    contract!(Loopback::new());

    const LISTENER: Target = Target {
        kind: Kind::Listener,
        key: 1,
        generation: 1,
    };

    #[test]
    fn a_unix_socket_is_connected_to_and_its_clients_have_no_address() {
        let file = format!("weir-reactor-{}", std::process::id());
        let address = Address::Unix(std::env::temp_dir().join(file));
        let listener = socket::listen(&address, 16, None).expect("listening");
        let mut reactor = Reactor::new().expect("epoll");
        let near = reactor.connect(&address).expect("connected");
        assert_eq!(reactor.connected(&near), Io::Ready(()));
        let Accept::Ready(far, None) = reactor.accept(&listener) else {
            panic!("it waits, and has no address");
        };
        assert_eq!(reactor.local_address(&far), None);
        let hello = reactor.write(&near, &[IoSlice::new(b"hello")], Then::More);
        assert_eq!(hello, Io::Ready(5));
        assert_eq!(reactor.read(&far, &mut [0; 9]), Io::Ready(5));
        reactor.stop_listening(listener);
        assert!(reactor.connect(&address).is_err(), "its file is gone");
    }

    /// Probes a listener that nobody accepts from. Its queue holds one connection, so any that
    /// came into it would keep later ones out.
    fn probe_often(listener: &Socket, count: usize) {
        let address = listener.local_addr().expect("bound").as_socket();
        let address = Address::Ip(address.expect("an IP address"));
        let mut reactor = Reactor::new().expect("epoll");
        for generation in 0..count {
            let target = Target {
                kind: Kind::Probe,
                key: 1,
                generation: u32::try_from(generation).expect("few"),
            };
            let stream = reactor.probe(&address).expect("started");
            reactor.watch(&stream, target).expect("watched");
            while reactor.connected(&stream) == Io::Blocked {
                reactor.wait(None, &mut Vec::new()).expect("a wait");
            }
            assert_eq!(reactor.connected(&stream), Io::Ready(()));
            reactor.close(stream);
        }
        assert!(!is_readable(listener), "nobody is to be accepted");
    }

    fn listener_of_one(address: SocketAddr) -> Socket {
        let listener = Socket::new(Domain::for_address(address), Type::STREAM, None);
        let listener = listener.expect("a socket");
        listener.bind(&address.into()).expect("bound");
        listener.listen(1).expect("listening");
        listener
    }

    #[test]
    fn probes_leave_the_queue_of_a_server_empty() {
        probe_often(&listener_of_one(ANY_PORT.into()), 1_000);
    }

    #[test]
    fn probes_leave_the_queue_of_a_server_of_ipv6_empty() {
        // Where there is no IPv6 there is nothing to probe.
        let address = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
        if TcpListener::bind(address).is_ok() {
            probe_often(&listener_of_one(address), 100);
        }
    }

    #[test]
    fn a_probe_of_a_unix_socket_is_accepted_and_ends_cleanly() {
        let file = format!("weir-reactor-probe-{}", std::process::id());
        let address = Address::Unix(std::env::temp_dir().join(file));
        let listener = socket::listen(&address, 16, None).expect("listening");
        let mut reactor = Reactor::new().expect("epoll");
        let near = reactor.probe(&address).expect("connected");
        assert_eq!(reactor.connected(&near), Io::Ready(()));
        reactor.close(near);
        let Accept::Ready(far, None) = reactor.accept(&listener) else {
            panic!("it waits, and has no address");
        };
        assert_eq!(reactor.read(&far, &mut [0; 9]), Io::Closed);
        reactor.stop_listening(listener);
    }

    #[test]
    fn a_stopped_listener_is_silent_though_someone_else_holds_it_open() {
        let mut world = Loopback::new();
        let listener = world.listen();
        let inherited = listener.as_fd().try_clone_to_owned().expect("a duplicate");
        let address = listener.local_address().expect("an IP address");
        world
            .reactor
            .watch_listener(&listener, LISTENER)
            .expect("watched");
        world.reactor.stop_listening(listener);
        let _client = TcpStream::connect(address).expect("the duplicate listens");
        let mut fired = Vec::new();
        world
            .reactor
            .wait(Some(Tick(0)), &mut fired)
            .expect("a poll");
        assert_eq!(fired, []);
        drop(inherited);
    }

    #[test]
    fn an_accepted_stream_knows_the_address_its_client_connected_to() {
        let mut world = Loopback::new();
        let listener = world.listen();
        let address = listener.local_address();
        let client = world.connect_client(&listener);
        let Accept::Ready(stream, from) = world.reactor.accept(&listener) else {
            panic!("it waits");
        };
        assert_eq!(from, client.local_addr().ok());
        assert_eq!(world.reactor.local_address(&stream), address);
    }
}

/// The fake of the simulation, in a world without accidents.
mod on_the_fake {
    use weir::core::address::Address;

    use crate::contract::{End, World, contract};
    use crate::sim_net::{Behaviour, PeerId, Settings, SimListener, SimNet};

    struct Fake {
        net: SimNet,
        origin_next: u16,
    }

    impl Fake {
        fn new() -> Self {
            Self {
                net: SimNet::new(1, Settings::plain()),
                origin_next: 1,
            }
        }

        fn address(&mut self, behaviour: Behaviour) -> Address {
            let address = Address::Ip(([192, 0, 2, 1], self.origin_next).into());
            self.origin_next += 1;
            self.net.world().origin_listen(&address, behaviour);
            address
        }

        /// As on loopback, what was done has arrived when the call returns.
        fn settle(&self) {
            self.net.world().settle();
        }
    }

    /// A peer and how much of what it received was looked at.
    struct FakePeer {
        id: PeerId,
        seen: usize,
    }

    impl World for Fake {
        type N = SimNet;
        type Peer = FakePeer;

        fn net(&mut self) -> &mut SimNet {
            &mut self.net
        }

        fn listen(&mut self) -> SimListener {
            self.net.listen()
        }

        fn connect_client(&mut self, to: &SimListener) -> FakePeer {
            let id = self.net.world().client_connect(to.id());
            self.net.world().peer_read_enabled(id, false);
            self.settle();
            FakePeer { id, seen: 0 }
        }

        fn origin(&mut self) -> Address {
            self.address(Behaviour::Accept)
        }

        fn origin_peer(&mut self, at: &Address) -> FakePeer {
            let accepted = self.net.world().origin_accepted(at);
            FakePeer {
                id: accepted[0],
                seen: 0,
            }
        }

        fn origin_is_asked(&mut self, at: &Address) -> bool {
            self.settle();
            self.net.world().origin_is_asked(at)
        }

        fn refusing(&mut self) -> Address {
            self.address(Behaviour::Refuse)
        }

        fn send(&mut self, peer: &mut FakePeer, bytes: &[u8]) {
            self.net.world().peer_send(peer.id, bytes);
            self.settle();
        }

        fn close_write(&mut self, peer: &mut FakePeer) {
            self.net.world().peer_close_write(peer.id);
            self.settle();
        }

        fn reset(&mut self, peer: FakePeer) {
            self.net.world().peer_reset(peer.id);
            self.settle();
        }

        fn close(&mut self, peer: FakePeer) {
            self.net.world().peer_close(peer.id);
            self.settle();
        }

        fn receive(&mut self, peer: &mut FakePeer, count: usize) -> Vec<u8> {
            self.net.world().peer_read_exactly(peer.id, count);
            let world = self.net.world();
            let bytes = world.peer_received(peer.id)[peer.seen..].to_vec();
            peer.seen += count;
            bytes
        }

        fn end_seen(&mut self, peer: &mut FakePeer) -> End {
            self.net.world().peer_read_enabled(peer.id, true);
            self.settle();
            let world = self.net.world();
            assert_eq!(
                world.peer_received(peer.id).len(),
                peer.seen,
                "no more bytes"
            );
            match (world.peer_saw_reset(peer.id), world.peer_saw_end(peer.id)) {
                (true, _) => End::Reset,
                (false, true) => End::Clean,
                (false, false) => panic!("neither end nor reset"),
            }
        }
    }

    contract!(Fake::new());
}

/// What only the fake can be made to show.
mod only_on_the_fake {
    use std::io::IoSlice;

    use weir::core::address::Address;
    use weir::core::flow::{Flow, Step};
    use weir::core::readiness::{Io, Readiness};
    use weir::core::time::Tick;
    use weir::net::{Accept, Fired, Kind, Net, Target, Then};

    use crate::sim_net::{Behaviour, Calls, Settings, SimListener, SimNet, SimStream};

    const LISTENER: Target = Target {
        kind: Kind::Listener,
        key: 0,
        generation: 1,
    };

    fn end(kind: Kind) -> Target {
        Target {
            kind,
            key: 0,
            generation: 2,
        }
    }

    fn origin() -> Address {
        Address::Ip(([192, 0, 2, 1], 80).into())
    }

    fn listening(settings: Settings) -> (SimNet, SimListener) {
        let mut net = SimNet::new(1, settings);
        let listener = net.listen();
        net.watch_listener(&listener, LISTENER).expect("watched");
        (net, listener)
    }

    fn fired(net: &mut SimNet) -> Vec<Fired> {
        let mut fired = Vec::new();
        net.wait(None, &mut fired).expect("a wait");
        fired
    }

    fn open_and_leaked(net: &SimNet) -> (usize, usize) {
        let world = net.world();
        (world.open_streams(), world.leaked_streams())
    }

    #[test]
    fn no_event_comes_for_a_queue_that_waited_for_a_descriptor() {
        let (mut net, listener) = listening(Settings::plain());
        net.world().client_connect(listener.id());
        assert_eq!(fired(&mut net).len(), 1);
        net.world().exhaust(true);
        assert!(matches!(net.accept(&listener), Accept::Exhausted));
        net.world().exhaust(false);
        assert_eq!(fired(&mut net), []);
        assert!(net.world().is_asleep());
        let Accept::Ready(stream, _) = net.accept(&listener) else {
            panic!("it still waits");
        };
        net.close(stream);
    }

    #[test]
    fn an_aborted_connection_makes_way_for_the_next() {
        let (mut net, listener) = listening(Settings::plain());
        let gone = net.world().client_connect(listener.id());
        let next = net.world().client_connect(listener.id());
        net.world().abort_next_accepts(1);
        fired(&mut net);
        assert!(matches!(net.accept(&listener), Accept::Retry));
        let Accept::Ready(stream, _) = net.accept(&listener) else {
            panic!("another waits");
        };
        assert_eq!(stream.peer(), next);
        assert!(net.world().peer_saw_reset(gone));
        net.close(stream);
    }

    #[test]
    fn a_stream_that_is_dropped_is_a_leak_and_one_that_is_closed_is_none() {
        let mut net = SimNet::new(1, Settings::plain());
        let streams = [(), ()].map(|()| net.connect(&origin()).expect("started"));
        assert_eq!(open_and_leaked(&net), (2, 0));
        let [dropped, closed] = streams;
        drop(dropped);
        net.close(closed);
        assert_eq!(open_and_leaked(&net), (1, 1));
    }

    #[test]
    fn a_connection_into_a_black_hole_is_never_heard_of() {
        let mut net = SimNet::new(1, Settings::plain());
        net.world().origin_listen(&origin(), Behaviour::Blackhole);
        let stream = net.connect(&origin()).expect("started");
        net.watch(&stream, end(Kind::Backend)).expect("watched");
        assert_eq!(fired(&mut net), []);
        assert_eq!(net.connected(&stream), Io::Blocked);
        net.close(stream);
    }

    #[test]
    fn a_script_happens_at_its_tick_and_the_clock_stops_there() {
        let (mut net, listener) = listening(Settings::plain());
        let to = listener.id();
        net.world().schedule(Tick(40), move |world| {
            world.client_connect(to);
        });
        let mut fired = Vec::new();
        assert_eq!(
            net.wait(Some(Tick(30)), &mut fired).expect("a wait"),
            Tick(30)
        );
        assert_eq!(fired, []);
        assert_eq!(
            net.wait(Some(Tick(99)), &mut fired).expect("a wait"),
            Tick(40)
        );
        assert_eq!(fired.len(), 1);
    }

    #[test]
    fn an_event_of_a_closed_stream_may_still_come() {
        let mut settings = Settings::plain();
        settings.stale_percent = 100;
        let mut net = SimNet::new(1, settings);
        let stream = net.connect(&origin()).expect("started");
        net.watch(&stream, end(Kind::Backend)).expect("watched");
        net.close(stream);
        let stale = fired(&mut net);
        assert_eq!(stale.len(), 1);
        assert_eq!(stale[0].target, end(Kind::Backend));
    }

    /// One session between one client and one origin, by the rules of the loop and no more.
    struct Relay {
        net: SimNet,
        listener: SimListener,
        can_accept: bool,
        ends: Vec<(SimStream, Readiness)>,
        flows: [(Flow, Vec<u8>); 2],
        is_connected: bool,
    }

    impl Relay {
        fn turn(&mut self, retry_at: Option<Tick>) -> Option<Tick> {
            let mut fired = Vec::new();
            let now = self.net.wait(retry_at, &mut fired).expect("a wait");
            for one in fired {
                self.mark(one);
            }
            if self.ends.is_empty() && (self.can_accept || retry_at.is_some()) {
                self.accept();
            }
            if self.ends.len() == 1 && !self.connect() {
                return Some(now.after_ms(10));
            }
            if self.is_connected || self.confirm() {
                self.pump(0, 1);
                self.pump(1, 0);
            }
            let is_waiting = self.ends.is_empty() && self.can_accept;
            is_waiting.then(|| now.after_ms(10))
        }

        fn mark(&mut self, one: Fired) {
            match one.target.kind {
                Kind::Listener => self.can_accept = true,
                Kind::Client => self.ends[0].1.add(one.ready),
                Kind::Backend => self.ends[1].1.add(one.ready),
                Kind::Control | Kind::Probe => panic!("not watched"),
            }
        }

        fn accept(&mut self) {
            match self.net.accept(&self.listener) {
                Accept::Ready(stream, _) => {
                    self.net.watch(&stream, end(Kind::Client)).expect("watched");
                    self.ends.push((stream, Readiness::NONE));
                }
                Accept::Blocked => self.can_accept = false,
                Accept::Retry | Accept::Exhausted => self.can_accept = true,
                Accept::Failed(kind) => panic!("{kind:?}"),
            }
        }

        /// Whether it was started: there may be no descriptor for it.
        fn connect(&mut self) -> bool {
            let Ok(stream) = self.net.connect(&origin()) else {
                return false;
            };
            self.net
                .watch(&stream, end(Kind::Backend))
                .expect("watched");
            self.ends.push((stream, Readiness::NONE));
            true
        }

        fn confirm(&mut self) -> bool {
            if let Some((stream, ready)) = self.ends.get(1) {
                let is_told = ready.has(Readiness::WRITE);
                self.is_connected = is_told && self.net.connected(stream) == Io::Ready(());
            }
            self.is_connected
        }

        fn pump(&mut self, source: usize, target: usize) {
            let (flow, held) = &mut self.flows[source];
            let mut space = [0; 50];
            loop {
                let step = flow.next(self.ends[source].1, self.ends[target].1, held.len());
                let (from, to) = (&self.ends[source].0, &self.ends[target].0);
                match step {
                    Step::Wait | Step::Done => return,
                    Step::Fill => match self.net.read(from, &mut space) {
                        Io::Ready(count) => held.extend(&space[..count]),
                        Io::Blocked => self.ends[source].1.clear(Readiness::READ),
                        Io::Closed => flow.on_source_end(),
                        Io::Failed(kind) => panic!("{kind:?}"),
                    },
                    Step::Drain => match self.net.write(to, &[IoSlice::new(held)], Then::More) {
                        Io::Ready(count) => drop(held.drain(..count)),
                        Io::Blocked => self.ends[target].1.clear(Readiness::WRITE),
                        Io::Closed => panic!("no outcome of a write"),
                        Io::Failed(kind) => panic!("{kind:?}"),
                    },
                    Step::Shutdown => {
                        self.net.shutdown(to);
                        flow.on_shutdown();
                    }
                }
            }
        }

        fn is_done(&self) -> bool {
            self.flows.iter().all(|(flow, _)| flow.is_done())
        }
    }

    fn text(from: usize, count: usize) -> Vec<u8> {
        let pattern = b"the quick brown fox jumps over the lazy dog; ";
        pattern
            .iter()
            .copied()
            .cycle()
            .skip(from)
            .take(count)
            .collect()
    }

    /// Relays both ways under this seed and checks that everything arrived.
    fn relay(seed: u64) -> (Tick, Calls) {
        let mut settings = Settings::hostile();
        settings.aborted_percent = 0;
        settings.stale_percent = 0;
        settings.exhausted_percent = 20;
        let mut net = SimNet::new(seed, settings);
        net.world().origin_listen(&origin(), Behaviour::Accept);
        let listener = net.listen();
        net.watch_listener(&listener, LISTENER).expect("watched");
        let client = net.world().client_connect(listener.id());
        net.world().peer_send(client, &text(0, 3000));
        net.world().peer_close_write(client);
        let mut relay = Relay {
            net: net.clone(),
            listener,
            can_accept: false,
            ends: Vec::new(),
            flows: Default::default(),
            is_connected: false,
        };
        let mut server = None;
        let mut retry_at = None;
        for _ in 0..100_000 {
            if relay.is_done() {
                break;
            }
            retry_at = relay.turn(retry_at);
            let mut world = net.world();
            assert!(!world.is_asleep(), "it hangs");
            for peer in world.origin_accepted(&origin()) {
                server = Some(peer);
                world.peer_send(peer, &text(7, 2000));
                world.peer_close_write(peer);
            }
        }
        for (stream, _) in relay.ends.drain(..) {
            net.close(stream);
        }
        while !net.world().is_asleep() {
            fired(&mut net);
        }
        let world = net.world();
        let server = server.expect("the origin was reached");
        assert!(
            world.peer_received(server) == text(0, 3000),
            "bytes up are lost"
        );
        assert!(
            world.peer_received(client) == text(7, 2000),
            "bytes down are lost"
        );
        assert!(world.peer_saw_end(server) && world.peer_saw_end(client));
        assert!(!world.peer_saw_reset(server) && !world.peer_saw_reset(client));
        assert_eq!((world.open_streams(), world.open_pipes()), (0, 0));
        (world.now(), world.calls())
    }

    #[test]
    fn a_relay_that_keeps_the_rules_loses_nothing_in_a_hostile_world() {
        for seed in 0..300 {
            relay(seed);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_run() {
        assert_eq!(relay(42), relay(42));
    }
}
