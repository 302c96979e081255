//! The seam: the reactor on the real kernel and the fake of the simulation keep one contract.

#[path = "seam/contract.rs"]
mod contract;
#[path = "sim/net.rs"]
mod sim_net;

/// The reactor, on loopback sockets.
mod on_the_kernel {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
    use std::time::Duration;

    use socket2::{Domain, SockRef, Socket, Type};
    use weir::core::address::Address;
    use weir::reactor::Reactor;
    use weir::sys::socket::{self, Listener};

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

        fn listen(&mut self) -> Listener {
            socket::listen(&Address::Ip(ANY_PORT.into()), 16, None).expect("listening")
        }

        fn connect_client(&mut self, to: &Listener) -> TcpStream {
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
            let is_at =
                |one: &&TcpListener| one.local_addr().ok().map(Address::Ip).as_ref() == Some(at);
            let origin = self.origins.iter().find(is_at).expect("an origin");
            peer(origin.accept().expect("a connection").0)
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
