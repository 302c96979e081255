//! The seam, and what bytes need on their way through the worker: scratch space, buffers and
//! kernel pipes.

use slab::Slab;

use crate::core::buffer::BufferPool;
use crate::core::layer::Kept;
use crate::net::{GENERATION_MAX, Net};
use crate::worker::keys::key_of;

/// Kernel pipes kept for reuse, and how many may exist at once. An unprivileged user gets 64
/// large ones (`pipe-user-pages-soft`, pipe(7)).
const PIPES_MAX: usize = 64;

/// What moving bytes needs, apart from the session itself.
pub(crate) struct IoSpace<N: Net> {
    pub(crate) net: N,
    pub(crate) scratch: Box<[u8]>,
    /// For text that is put together.
    pub(crate) scratch_text: Vec<u8>,
    pub(crate) buffers: BufferPool,
    pub(crate) pipes: PipePool<N>,
    /// What layers kept when that was last noted.
    pub(crate) layers_kept: Kept,
    /// The session that has its turn could not read for want of memory.
    pub(crate) is_short: bool,
    pub(crate) generation: u32,
    /// Events that were for an owner that had gone.
    pub(crate) stale_events: u64,
}

impl<N: Net> IoSpace<N> {
    /// A generation that no watched stream carries.
    pub(crate) fn next_generation(&mut self) -> u32 {
        self.generation = self.generation.wrapping_add(1) & GENERATION_MAX;
        self.generation
    }
}

/// Lends kernel pipes, at most [`PIPES_MAX`] at once.
pub(crate) struct PipePool<N: Net> {
    spare: Vec<N::Pipe>,
    lent: usize,
    pipes_max: usize,
    /// Pipes of responses, each with how many bytes are in it.
    filling: Slab<(N::Pipe, usize)>,
}

/// Names a pipe that [`PipePool::fetch`] lent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PipeKey(u32);

impl<N: Net> PipePool<N> {
    pub(crate) fn new(enabled: bool) -> Self {
        Self {
            spare: Vec::new(),
            lent: 0,
            pipes_max: if enabled { PIPES_MAX } else { 0 },
            filling: Slab::new(),
        }
    }

    /// The same as [`PipePool::take`], for who keeps no more than a key.
    pub(crate) fn fetch(&mut self, net: &mut N) -> Option<PipeKey> {
        let pipe = self.take(net)?;
        Some(PipeKey(key_of(self.filling.insert((pipe, 0)))))
    }

    /// A pipe that was fetched, and how many bytes are in it.
    pub(crate) fn get_mut(&mut self, key: PipeKey) -> &mut (N::Pipe, usize) {
        &mut self.filling[key.0 as usize]
    }

    /// How many bytes are in a pipe that was fetched.
    pub(crate) fn bytes(&self, key: PipeKey) -> usize {
        self.filling[key.0 as usize].1
    }

    /// Gives a pipe back that was fetched, if there is one; what is in it is lost.
    pub(crate) fn return_pipe(&mut self, key: &mut Option<PipeKey>) {
        if let Some(key) = key.take() {
            let (pipe, bytes) = self.filling.remove(key.0 as usize);
            self.give(pipe, bytes);
        }
    }

    /// An empty pipe, or none: then the bytes are copied.
    pub(crate) fn take(&mut self, net: &mut N) -> Option<N::Pipe> {
        if self.lent >= self.pipes_max {
            return None;
        }
        let pipe = self.spare.pop().or_else(|| net.pipe())?;
        self.lent += 1;
        Some(pipe)
    }

    /// Takes a pipe back that holds so many bytes. They would reach its next user, so it is
    /// closed unless it is empty.
    pub(crate) fn give(&mut self, pipe: N::Pipe, bytes: usize) {
        self.lent -= 1;
        if bytes == 0 {
            self.spare.push(pipe);
        }
    }

    pub(crate) fn lent(&self) -> usize {
        self.lent
    }

    /// Turns splicing on or off for flows to come.
    pub(crate) fn enable(&mut self, enabled: bool) {
        self.pipes_max = if enabled { PIPES_MAX } else { 0 };
    }
}
