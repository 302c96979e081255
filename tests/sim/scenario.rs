//! What a seed draws: a configuration, a world, and what is going to happen when.
//!
//! A *calm* scenario has only accidents that no client may notice: small windows and segments,
//! events for nothing, aborted and late connections, limits, reloads of weights. In it every byte
//! must arrive. A *wild* one has everything else too.

use std::fmt::Write as _;

use weir::core::rng::Rng;

use crate::net::{Behaviour, Settings};

/// Numbers from the seed.
pub(crate) struct Draw(Rng);

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Rng::new(seed))
    }

    /// From `low` to `high`, both included.
    pub(crate) fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.0.below(high - low + 1)
    }

    pub(crate) fn size(&mut self, low: usize, high: usize) -> usize {
        usize::try_from(self.within(low as u64, high as u64)).expect("within a range of sizes")
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.0.below(100) < percent
    }

    pub(crate) fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.size(0, of.len() - 1)].clone()
    }
}

/// How the whole is brought to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// Wait until every session has ended by itself.
    Quiet,
    /// Drain at this tick.
    Drain(u64),
    /// Stop at this tick.
    Stop(u64),
}

/// Something that is done to the worker or its backends at a tick.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// A client connects to the listener of this index.
    Arrive(usize),
    /// A backend, by the index of its upstream and its own, changes.
    Behave(usize, usize, Behaviour),
    /// The clock jumps by milliseconds.
    Jump(u64),
    /// Another configuration.
    Reload(Box<Setup>),
    /// Descriptors run out, or are free again.
    Exhaust(bool),
}

/// The configuration, as far as it varies.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) listeners: Vec<ListenerSetup>,
    pub(crate) upstreams: Vec<UpstreamSetup>,
    connections_max: Option<u64>,
    splice: bool,
    pub(crate) has_stats: bool,
    buffer_kib: u64,
    connect_ms: u64,
    idle_ms: u64,
    half_closed_ms: u64,
    drain_ms: u64,
    pre_drain_ms: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct ListenerSetup {
    pub(crate) name: &'static str,
    upstream: usize,
    connections_max: Option<u64>,
}

#[derive(Clone, Debug)]
pub(crate) struct UpstreamSetup {
    algorithm: &'static str,
    /// Number of each backend (which makes its address), weight and limit.
    pub(crate) backends: Vec<(usize, u64, Option<u64>)>,
    pub(crate) check: Check,
    interval_ms: u64,
    tries: u64,
    eject_failures: u64,
    use_all: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    Off,
    Tcp,
    Http,
}

/// All that a seed decides in advance.
pub(crate) struct Scenario {
    pub(crate) is_calm: bool,
    pub(crate) setup: Setup,
    pub(crate) settings: Settings,
    /// The longest stream that this world carries in a reasonable number of steps.
    pub(crate) length_max: usize,
    pub(crate) finish: Finish,
    /// Sorted by tick, the last first.
    pub(crate) actions: Vec<(u64, Action)>,
}

/// The address of a backend.
pub(crate) fn backend_address(upstream: usize, number: usize) -> String {
    format!("10.1.{upstream}.{}:80", number + 1)
}

/// The name of a backend in the statistics.
pub(crate) fn backend_label(upstream: usize, number: usize) -> String {
    format!("u{upstream}/{}", backend_address(upstream, number))
}

const NAMES: [&str; 2] = ["one", "two"];
const ALGORITHMS: [&str; 4] = ["round_robin", "least_conn", "ip_hash", "random_two"];
const BACKENDS_MAX: usize = 4;
const STEPS_MAX: usize = 500;
const LENGTH_MAX: usize = 250_000;

impl Scenario {
    pub(crate) fn draw(draw: &mut Draw) -> Self {
        let is_calm = draw.chance(40);
        let setup = Setup::draw(draw, is_calm);
        let settings = settings(draw, is_calm);
        let step_bytes = *settings
            .window_bytes
            .end()
            .min(settings.segment_bytes.end());
        let length_max = (step_bytes * STEPS_MAX).min(LENGTH_MAX);
        let span_ms = draw.one(&[50, 1_000, 10_000]);
        let actions = actions(draw, &setup, is_calm, span_ms);
        let at = draw.within(0, span_ms * 2);
        let finish = match draw.within(0, 9) {
            0..4 => Finish::Quiet,
            9 if !is_calm => Finish::Stop(at),
            _ => Finish::Drain(at),
        };
        Self {
            is_calm,
            setup,
            settings,
            length_max,
            finish,
            actions,
        }
    }
}

fn settings(draw: &mut Draw, is_calm: bool) -> Settings {
    let window = draw.one(&[(1, 20), (50, 600), (1_000, 9_000), (65_536, 65_536)]);
    let segment = draw.one(&[(1, 30), (1, 500), (1, 9_000), (65_536, 65_536)]);
    Settings {
        window_bytes: window.0..=window.1,
        segment_bytes: segment.0..=segment.1,
        delay_ms: 0..=draw.one(&[0, 3, 20]),
        jitter_ms: 0..=draw.one(&[0, 3]),
        pipe_slots: draw.one(&[1, 3, 16]),
        events_max: draw.one(&[1, 7, 1024]),
        interleave_percent: draw.one(&[0, 20, 60]),
        spurious_percent: draw.one(&[0, 20, 80]),
        stale_percent: draw.one(&[0, 50]),
        short_write_percent: draw.one(&[0, 30]),
        aborted_percent: draw.one(&[0, 0, 5]),
        exhausted_percent: if is_calm { 0 } else { draw.one(&[0, 0, 2]) },
        ..Settings::plain()
    }
}

fn actions(draw: &mut Draw, setup: &Setup, is_calm: bool, span_ms: u64) -> Vec<(u64, Action)> {
    let clients = draw.one(&[1, 5, 20, 40]);
    let mut actions = Vec::new();
    for _ in 0..clients {
        let listener = draw.size(0, setup.listeners.len() - 1);
        actions.push((draw.within(0, span_ms), Action::Arrive(listener)));
    }
    let mut reloaded = setup.clone();
    for _ in 0..draw.within(0, 2) {
        reloaded.change(draw, is_calm);
        let reload = Action::Reload(Box::new(reloaded.clone()));
        actions.push((draw.within(0, span_ms), reload));
    }
    // Whoever asks a backend over HTTP would find the clock's jump in the answer's delay.
    let asks = setup.upstreams.iter().any(|one| one.check == Check::Http);
    if !(is_calm && asks) && draw.chance(40) {
        // Where nobody may notice, a connection in the making is still in time behind it.
        let most = if is_calm { 2_500 } else { 5_000 };
        let jump = Action::Jump(draw.within(1, most));
        actions.push((draw.within(0, span_ms), jump));
    }
    if !is_calm {
        accidents(draw, setup, span_ms, &mut actions);
    }
    // Reloads stay in the order in which they were drawn.
    let mut at_reload: Vec<u64> = Vec::new();
    for (at, action) in &actions {
        if matches!(action, Action::Reload(_)) {
            at_reload.push(*at);
        }
    }
    at_reload.sort_unstable();
    let mut at_reload = at_reload.into_iter();
    for (at, action) in &mut actions {
        if matches!(action, Action::Reload(_)) {
            *at = at_reload.next().expect("one for each");
        }
    }
    actions.sort_by_key(|(at, _)| *at);
    actions.reverse();
    actions
}

fn accidents(draw: &mut Draw, setup: &Setup, span_ms: u64, actions: &mut Vec<(u64, Action)>) {
    let behaviours = [
        Behaviour::Accept,
        Behaviour::Accept,
        Behaviour::AcceptThenClose,
        Behaviour::AcceptThenReset,
        Behaviour::Refuse,
        Behaviour::Blackhole,
        Behaviour::Unreachable,
    ];
    for _ in 0..draw.within(0, 8) {
        let upstream = draw.size(0, setup.upstreams.len() - 1);
        let number = draw.size(0, BACKENDS_MAX - 1);
        let behave = Action::Behave(upstream, number, draw.one(&behaviours));
        let at = if draw.chance(30) {
            0
        } else {
            draw.within(0, span_ms)
        };
        actions.push((at, behave));
    }
    if draw.chance(20) {
        let at = draw.within(0, span_ms);
        actions.push((at, Action::Exhaust(true)));
        actions.push((at + draw.within(1, 500), Action::Exhaust(false)));
    }
}

impl Setup {
    fn draw(draw: &mut Draw, is_calm: bool) -> Self {
        let upstreams: Vec<_> = (0..draw.size(1, 2))
            .map(|_| UpstreamSetup::draw(draw, is_calm))
            .collect();
        let listeners = (0..draw.size(1, 2))
            .map(|k| ListenerSetup {
                name: NAMES[k],
                upstream: draw.size(0, upstreams.len() - 1),
                connections_max: perhaps(draw, 20, 1, 8),
            })
            .collect();
        let mut setup = Self {
            listeners,
            upstreams,
            connections_max: perhaps(draw, 20, 1, 10),
            splice: draw.chance(50),
            has_stats: draw.chance(30),
            buffer_kib: draw.one(&[8, 8, 16, 64]),
            connect_ms: 0,
            idle_ms: 0,
            half_closed_ms: 0,
            drain_ms: 0,
            pre_drain_ms: draw.one(&[0, 0, 50, 500]),
        };
        setup.draw_timeouts(draw, is_calm);
        setup
    }

    fn draw_timeouts(&mut self, draw: &mut Draw, is_calm: bool) {
        let of = |draw: &mut Draw, calm: u64, wild: &[u64]| {
            if is_calm { calm } else { draw.one(wild) }
        };
        self.connect_ms = of(draw, 5_000, &[1, 30, 300, 5_000]);
        self.idle_ms = of(draw, 600_000, &[10, 200, 2_000, 30_000]);
        self.half_closed_ms = of(draw, 600_000, &[10, 200, 2_000, 30_000]);
        self.drain_ms = of(draw, 3_600_000, &[0, 10, 500, 30_000]);
    }

    fn change(&mut self, draw: &mut Draw, is_calm: bool) {
        self.splice = draw.chance(50);
        self.connections_max = perhaps(draw, 20, 1, 10);
        self.draw_timeouts(draw, is_calm);
        for upstream in &mut self.upstreams {
            upstream.algorithm = draw.one(&ALGORITHMS);
            for backend in &mut upstream.backends {
                backend.1 = draw.within(0, 5);
            }
            upstream.backends[0].1 = draw.within(1, 5);
        }
        if is_calm {
            return;
        }
        for upstream in &mut self.upstreams {
            upstream.check = draw.one(&[upstream.check, Check::Off, Check::Tcp, Check::Http]);
            upstream.interval_ms = draw.one(&[100, 1_000]);
            let count = draw.size(1, BACKENDS_MAX);
            let first = draw.size(0, BACKENDS_MAX - count);
            upstream.backends = (first..first + count)
                .map(|number| (number, draw.within(1, 5), perhaps(draw, 20, 1, 3)))
                .collect();
        }
        if self.listeners.len() == 2 && draw.chance(30) {
            self.listeners.pop();
        }
    }

    /// As a file.
    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "splice: {}\nstats_interval: {}\nbuffers: {{size: {}KiB, memory: {}KiB}}\n\
             timeouts: {{connect: {}ms, idle: {}ms, half_closed: {}ms, drain: {}ms, \
             pre_drain: {}ms}}\n",
            self.splice,
            if self.has_stats { "1s" } else { "0" },
            self.buffer_kib,
            self.buffer_kib * 4,
            self.connect_ms,
            self.idle_ms,
            self.half_closed_ms,
            self.drain_ms,
            self.pre_drain_ms,
        );
        if let Some(max) = self.connections_max {
            let _ = writeln!(text, "max_connections: {max}");
        }
        text.push_str("listeners:\n");
        for (k, listener) in self.listeners.iter().enumerate() {
            let _ = write!(
                text,
                "  - {{name: {}, listen: \"10.9.9.9:{}\", upstream: u{}",
                listener.name,
                80 + k,
                listener.upstream
            );
            if let Some(max) = listener.connections_max {
                let _ = write!(text, ", limits: {{max_connections: {max}}}");
            }
            text.push_str("}\n");
        }
        text.push_str("upstreams:\n");
        for (k, upstream) in self.upstreams.iter().enumerate() {
            upstream.write(k, &mut text);
        }
        text
    }
}

impl UpstreamSetup {
    fn draw(draw: &mut Draw, is_calm: bool) -> Self {
        let mut backends: Vec<_> = (0..draw.size(1, BACKENDS_MAX))
            .map(|number| {
                let max = if is_calm {
                    None
                } else {
                    perhaps(draw, 20, 1, 3)
                };
                (number, draw.within(0, 5), max)
            })
            .collect();
        backends[0].1 = draw.within(1, 5);
        Self {
            algorithm: draw.one(&ALGORITHMS),
            backends,
            check: draw.one(&[Check::Off, Check::Off, Check::Tcp, Check::Http]),
            interval_ms: draw.one(&[300, 1_000]),
            tries: draw.within(1, 4),
            eject_failures: draw.one(&[0, 1, 3]),
            use_all: draw.chance(30),
        }
    }

    fn write(&self, k: usize, text: &mut String) {
        let _ = write!(
            text,
            "  u{k}:\n    algorithm: {}\n    retries: {{tries: {}}}\n    when_all_down: {}\n    \
             passive: {{failures: {}, eject: 500ms}}\n",
            self.algorithm,
            self.tries,
            if self.use_all { "use_all" } else { "refuse" },
            self.eject_failures,
        );
        let path = match self.check {
            Check::Off => None,
            Check::Tcp => Some(""),
            Check::Http => Some(", path: /up"),
        };
        if let Some(path) = path {
            let _ = writeln!(
                text,
                "    health_check: {{interval: {}ms{path}}}",
                self.interval_ms
            );
        }
        text.push_str("    backends:\n");
        for &(number, weight, max) in &self.backends {
            let address = backend_address(k, number);
            let _ = write!(text, "      - {{address: \"{address}\", weight: {weight}");
            if let Some(max) = max {
                let _ = write!(text, ", max_connections: {max}");
            }
            text.push_str("}\n");
        }
    }
}

fn perhaps(draw: &mut Draw, percent: u64, low: u64, high: u64) -> Option<u64> {
    draw.chance(percent).then(|| draw.within(low, high))
}
