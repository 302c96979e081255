//! Real records of TLS in the place of the toy's: the handshake is done in memory when the worker's
//! side asks for its layer, so that both sides begin established.

use std::cell::RefCell;
use std::fmt;
use std::io::{ErrorKind, IoSlice};
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use weir::core::fault::Fault;
use weir::core::layer::{Kept, Layer, Sealed, Secured};
use weir::core::readiness::Io;
use weir::tls::material::{Certificate, Identity, ListenerMaterial};
use weir::tls::{
    Agreement, ClientParts, ClientSettings, Connection, ServerParts, ServerSettings, TicketKeys,
    certificates_in, key_in,
};

use super::World;
use super::toy::Toy;

const SPACE_BYTES: usize = 66 * 1024;

/// What stands between the bytes of a socket of the fake and those of a session.
#[derive(Debug)]
pub(crate) enum Records {
    Toy(Toy),
    Tls(Connection),
    /// What a configuration has asked for.
    Charged(Charged),
}

/// TLS from its first byte on, whose asymmetric cryptography takes time of the world.
#[derive(Debug)]
pub(crate) struct Charged {
    tls: Connection,
    clock: Clock,
    done_us: u32,
}

/// The world, for its clock.
struct Clock(Rc<RefCell<World>>);

impl fmt::Debug for Clock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Clock")
    }
}

impl Charged {
    pub(crate) fn new(tls: Connection, world: Rc<RefCell<World>>) -> Self {
        Self {
            tls,
            clock: Clock(world),
            done_us: 0,
        }
    }
}

/// The far end's side.
pub(crate) struct TlsPeer {
    layer: Connection,
    space: Vec<u8>,
    opened: Vec<u8>,
    pub(crate) has_ended: bool,
}

impl fmt::Debug for TlsPeer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TlsPeer")
    }
}

static SETTINGS: LazyLock<(ServerSettings, ClientSettings)> = LazyLock::new(|| {
    let identity = Identity {
        chain: certificates_in(include_bytes!("../certificates/two.pem")).expect("a certificate"),
        key: key_in(include_bytes!("../certificates/two.key")).expect("a key"),
    };
    let material = ListenerMaterial {
        certificates: vec![Certificate {
            identity,
            names: Vec::new(),
            client_auth: None,
        }],
        ..ListenerMaterial::default()
    };
    let server = ServerSettings::new(
        &ServerParts {
            listener: "in",
            agreement: &Agreement::default(),
            is_strict: false,
            material: &Arc::new(material),
        },
        &TicketKeys::default().into(),
    );
    let client = ClientSettings::new(&ClientParts {
        authorities: None,
        identity: None,
        protocols: &[],
    });
    (server.expect("good parts"), client.expect("good parts"))
});

/// Both sides of a connection, after their handshake.
pub(crate) fn pair() -> (Connection, TlsPeer) {
    let (server, client) = &*SETTINGS;
    let mut here = server.accept(None).expect("a site");
    let mut there = TlsPeer::new(client.connect("two.example").expect("a name"));
    let mut space = vec![0; SPACE_BYTES];
    while !there.layer.pending().is_empty() {
        let said = take_pending(&mut there.layer);
        let carried = here.carry(&mut space);
        space[carried..carried + said.len()].copy_from_slice(&said);
        let opened = here.on_received(&mut space[..carried + said.len()], &mut []);
        assert_eq!(opened, Ok(0), "nothing is sent so far");
        there.open(&take_pending(&mut here), &mut Vec::new());
    }
    assert!(here.is_established() && there.layer.is_established());
    (here, there)
}

fn take_pending(layer: &mut Connection) -> Vec<u8> {
    let pending = layer.pending().to_vec();
    layer.on_sent(pending.len());
    pending
}

impl TlsPeer {
    /// One end of a connection, before its handshake.
    pub(crate) fn new(layer: Connection) -> Self {
        Self {
            layer,
            space: vec![0; SPACE_BYTES],
            opened: vec![0; SPACE_BYTES],
            has_ended: false,
        }
    }

    pub(crate) fn is_established(&self) -> bool {
        self.layer.is_established()
    }

    /// What it has to say by itself, the handshake among it.
    pub(crate) fn take_pending(&mut self) -> Vec<u8> {
        take_pending(&mut self.layer)
    }

    /// Writes records of all of it.
    pub(crate) fn seal(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut taken = 0;
        while taken < bytes.len() {
            let from = [IoSlice::new(bytes)];
            let sealed = self.layer.seal(&from, taken, &mut self.space);
            assert!(sealed.taken > 0, "it is established");
            out.extend_from_slice(&self.space[..sealed.bytes]);
            taken += sealed.taken;
        }
    }

    /// Writes the mark of the end.
    pub(crate) fn seal_end(&mut self, out: &mut Vec<u8>) {
        self.layer.finish();
        out.extend(take_pending(&mut self.layer));
    }

    /// More bytes came: what they carry goes to `plain`, unless they say that this side was wrong.
    pub(crate) fn open(&mut self, mut wire: &[u8], plain: &mut Vec<u8>) {
        let mut into = std::mem::take(&mut self.opened);
        while !wire.is_empty() {
            let carried = self.layer.carry(&mut self.space);
            let count = wire.len().min(self.space.len() - carried);
            self.space[carried..carried + count].copy_from_slice(&wire[..count]);
            wire = &wire[count..];
            let opened = self
                .layer
                .on_received(&mut self.space[..carried + count], &mut into);
            plain.extend_from_slice(&into[..opened.unwrap_or(0)]);
            while let Io::Ready(count) = self.layer.read(&mut into) {
                plain.extend_from_slice(&into[..count]);
            }
        }
        self.opened = into;
        let fault = self.layer.fault();
        assert!(matches!(fault, None | Some(Fault::Alert(_))), "{fault:?}");
        self.has_ended = fault.is_none() && self.layer.has_ended();
    }
}

impl Records {
    fn inner(&self) -> &dyn Layer {
        match self {
            Self::Toy(toy) => toy,
            Self::Tls(tls) => tls,
            Self::Charged(charged) => &charged.tls,
        }
    }

    fn inner_mut(&mut self) -> &mut dyn Layer {
        match self {
            Self::Toy(toy) => toy,
            Self::Tls(tls) => tls,
            Self::Charged(charged) => &mut charged.tls,
        }
    }
}

impl Layer for Records {
    fn carry(&mut self, space: &mut [u8]) -> usize {
        self.inner_mut().carry(space)
    }

    fn on_received(&mut self, space: &mut [u8], into: &mut [u8]) -> Result<usize, ErrorKind> {
        let opened = self.inner_mut().on_received(space, into);
        if let Self::Charged(Charged {
            tls,
            clock,
            done_us,
        }) = self
        {
            let us = tls.take_work_us();
            clock.0.borrow_mut().work(us.into());
            *done_us += us;
        }
        opened
    }

    fn on_end(&mut self) {
        self.inner_mut().on_end();
    }

    fn read(&mut self, into: &mut [u8]) -> Io<usize> {
        self.inner_mut().read(into)
    }

    fn may_read(&self) -> bool {
        self.inner().may_read()
    }

    fn has_ended(&self) -> bool {
        self.inner().has_ended()
    }

    fn seal(&mut self, from: &[IoSlice<'_>], skipped: usize, space: &mut [u8]) -> Sealed {
        self.inner_mut().seal(from, skipped, space)
    }

    fn finish(&mut self) {
        self.inner_mut().finish();
    }

    fn pending(&self) -> &[u8] {
        self.inner().pending()
    }

    fn on_sent(&mut self, count: usize) {
        self.inner_mut().on_sent(count);
    }

    fn keep_pending(&mut self, sealed: &[u8]) {
        self.inner_mut().keep_pending(sealed);
    }

    fn kept(&self) -> Kept {
        self.inner().kept()
    }

    fn kept_noted(&mut self) -> &mut Kept {
        self.inner_mut().kept_noted()
    }

    fn has_partial(&self) -> bool {
        self.inner().has_partial()
    }

    fn missing(&self) -> usize {
        self.inner().missing()
    }

    fn record_bytes(&self, bytes: &[u8]) -> usize {
        self.inner().record_bytes(bytes)
    }

    fn is_established(&self) -> bool {
        self.inner().is_established()
    }

    fn work_left_us(&self) -> u32 {
        self.inner().work_left_us()
    }

    fn take_work_us(&mut self) -> u32 {
        match self {
            Self::Charged(charged) => std::mem::take(&mut charged.done_us),
            Self::Toy(_) | Self::Tls(_) => self.inner_mut().take_work_us(),
        }
    }

    fn fault(&self) -> Option<Fault> {
        self.inner().fault()
    }

    fn secured(&self) -> Option<Secured<'_>> {
        match self {
            Self::Toy(toy) => toy.secured(),
            // What is said over the toy is said over this as well.
            Self::Tls(_) => None,
            Self::Charged(charged) => charged.tls.secured(),
        }
    }
}
