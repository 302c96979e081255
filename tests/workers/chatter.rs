//! Clients that keep their connections and talk on them all the time.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use crate::harness::{Peer, eventually};

/// Running clients. They stop when dropped.
#[derive(Debug)]
pub(crate) struct Chatter {
    stop: Arc<AtomicBool>,
    said: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<io::Result<()>>>,
}

impl Chatter {
    /// Connects so many clients, one after the other, to what echoes.
    pub(crate) fn start(address: SocketAddr, clients: usize) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let said = Arc::<AtomicUsize>::default();
        let start = |_| {
            let mut client = Peer::connect(address).expect("weir listens");
            let (stop, said) = (Arc::clone(&stop), Arc::clone(&said));
            thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    say(&mut client)?;
                    said.fetch_add(1, Ordering::SeqCst);
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
