//! Clients that keep their connections and talk on them all the time.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::harness::{Peer, eventually, try_ask};

/// Between two things that a client says: others have work to do too.
const BREATH: Duration = Duration::from_millis(1);

/// Running clients. They stop when dropped.
#[derive(Debug)]
pub(crate) struct Chatter {
    stop: Arc<AtomicBool>,
    said: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<io::Result<()>>>,
}

impl Chatter {
    /// Connects so many clients, one after the other, to what echoes, if only after it was asked
    /// for its name.
    pub(crate) fn start(address: SocketAddr, clients: usize) -> Self {
        Self::begin(address, clients, false)
    }

    /// The same with clients who come again when they are cut: only who is refused has failed.
    pub(crate) fn of_regulars(address: SocketAddr, clients: usize) -> Self {
        Self::begin(address, clients, true)
    }

    fn begin(address: SocketAddr, clients: usize, are_regulars: bool) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let said = Arc::<AtomicUsize>::default();
        let start = |_| {
            let mut client = enter(address).expect("weir listens");
            let (stop, said) = (Arc::clone(&stop), Arc::clone(&said));
            thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    match say(&mut client) {
                        Ok(()) => {
                            said.fetch_add(1, Ordering::SeqCst);
                            thread::sleep(BREATH);
                        }
                        Err(_) if are_regulars => client = come_again(address)?,
                        Err(error) => return Err(error),
                    }
                }
                Ok(())
            })
        };
        let clients = (0..clients).map(start).collect();
        Self {
            stop,
            said,
            clients,
        }
    }

    /// Waits until so much more has been said and heard.
    pub(crate) fn wait_more(&self, times: usize) {
        let goal = self.said.load(Ordering::SeqCst) + times;
        eventually("the clients talk", || {
            (self.said.load(Ordering::SeqCst) >= goal).then_some(())
        });
    }

    /// Ends all clients: what failed.
    pub(crate) fn finish(mut self) -> Vec<String> {
        self.end()
    }

    fn end(&mut self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        let ends = self.clients.drain(..).map(JoinHandle::join);
        let ends = ends.map(|end| end.expect("a client does not panic"));
        ends.filter_map(|end| end.err().map(|error| error.to_string()))
            .collect()
    }
}

impl Drop for Chatter {
    fn drop(&mut self) {
        self.end();
    }
}

fn enter(address: SocketAddr) -> io::Result<Peer> {
    let mut client = Peer::connect(address)?;
    try_ask(&mut client)?;
    Ok(client)
}

/// Until one stays: more than one worker may be killed.
fn come_again(address: SocketAddr) -> io::Result<Peer> {
    loop {
        match enter(address) {
            Err(error) if error.kind() != io::ErrorKind::ConnectionRefused => {}
            outcome => return outcome,
        }
    }
}

/// Says something, and hears the same.
pub(crate) fn say(client: &mut Peer) -> io::Result<()> {
    client.write_all(b"still there?")?;
    let mut heard = [0; 12];
    client.read_exact(&mut heard)?;
    if &heard == b"still there?" {
        Ok(())
    } else {
        Err(io::Error::other("something else came back"))
    }
}
