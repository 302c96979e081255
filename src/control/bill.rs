//! What serving a file costs at most, and whether this machine can pay it.

use std::fmt;
use std::time::Duration;

use crate::board::RINGS_BYTES_MAX;
use crate::cli::Args;
use crate::config::model::{AdminSocket, Config};
use crate::control::{connections_max, connections_possible, is_supervised, workers_wanted};
use crate::core::access_log::PENDING_BYTES_MAX;
use crate::core::handshake::HANDSHAKES_MAX;
use crate::core::memory_limit::{CONNECTION_BYTES, MemoryLimits, SPARE_PARTS};
use crate::core::slots::LOOK_ASLEEP_MS;
use crate::core::text::plural;
use crate::tls::material::Material;

/// Of a process at its start.
const PROCESS_BYTES: u64 = 2 << 20;
/// Of one end that is encrypted, once its handshake is over, and of a handshake besides.
const TLS_END_BYTES: u64 = 4 << 10;
const HANDSHAKE_BYTES: u64 = 16 << 10;
/// Of a certificate, besides what is in its files: as DER and as what is made of it.
const CERTIFICATE_BYTES: u64 = 4 << 10;
const DER_COPIES: u64 = 3;
const BACKEND_BYTES: u64 = 2 << 10;
const DESCRIPTORS_MAX: u64 = 1 << 20;
/// How often a supervisor looks after its workers in a thousand seconds.
const LOOKS: u64 = 1_000_000 / LOOK_ASLEEP_MS;

/// What a file costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bill {
    workers: u64,
    processes: u64,
    clients: u64,
    /// Of each process.
    descriptors: u64,
    descriptors_limit: u64,
    waiting_bytes: u64,
    sessions_bytes: u64,
    tables_bytes: u64,
    tls_bytes: u64,
    /// In a thousand seconds in which nobody comes.
    wakeups: u64,
}

impl Bill {
    /// Of a file that is served with these arguments, where there is so much.
    #[must_use]
    pub fn of(args: &Args, config: &Config, limits: &MemoryLimits, descriptors: u64) -> Self {
        // Where there is no limit, the kernel has one (fs.nr_open).
        let descriptors = descriptors.min(DESCRIPTORS_MAX);
        let workers = workers_wanted(args, config).max(1);
        let is_supervised = is_supervised(args, config);
        let count = workers as u64;
        let waiting = config
            .buffer_memory_bytes
            .unwrap_or_else(|| limits.waiting_bytes(workers)) as u64;
        let waiting = waiting + waiting / SPARE_PARTS as u64;
        let listening = config.listeners.len() * if is_supervised { workers } else { 0 };
        let each = connections_max(descriptors, listening) as u64;
        // A limit of the file holds for all together, and the kernel may lead nearly all to one.
        let possible = connections_possible(descriptors) as u64;
        let of_one = config
            .connections_max
            .map_or(each, |it| possible.min(it as u64));
        let clients = config.connections_max.map_or(each * count, |it| it as u64);
        let clients = clients.min(of_one * count);
        let backends: usize = config.upstreams.iter().map(|it| it.backends.len()).sum();
        let lines = config.access_log.as_ref().map_or(0, |_| PENDING_BYTES_MAX);
        let ends = encrypted_ends(config);
        let handshakes = clients.min(HANDSHAKES_MAX as u64 * count) * HANDSHAKE_BYTES;
        // What `weir ctl why` tells of, and lines of the access log that wait.
        let kept = (RINGS_BYTES_MAX + lines) as u64;
        let reserved = descriptors.saturating_sub(each * 2);
        // A supervisor, and who serves its admin door.
        let has_door = config.admin.socket != AdminSocket::Off || config.admin.listen.is_some();
        let supervisors = u64::from(is_supervised);
        let attending = supervisors * (1 + u64::from(has_door));
        let certificates = certificates_bytes(&config.material) * (count + supervisors);
        Self {
            workers: count,
            processes: count + attending,
            clients,
            descriptors: of_one * 2 + reserved,
            descriptors_limit: descriptors,
            waiting_bytes: waiting * count,
            sessions_bytes: clients * CONNECTION_BYTES,
            tables_bytes: (kept + backends as u64 * BACKEND_BYTES) * count,
            tls_bytes: certificates + ends * (clients * TLS_END_BYTES + handshakes),
            wakeups: wakeups(config, is_supervised),
        }
    }

    fn memory_bytes(&self) -> u64 {
        let parts = [
            self.waiting_bytes,
            self.sessions_bytes,
            self.tables_bytes,
            self.tls_bytes,
        ];
        self.processes * PROCESS_BYTES + parts.iter().sum::<u64>()
    }

    /// What the machine cannot pay, with what to do.
    #[must_use]
    pub fn unpaid(&self, limits: &MemoryLimits) -> Vec<String> {
        let memory = self.memory_bytes();
        let short = limits.shared().filter(|(there, _)| *there < memory);
        let memory = short.map(|(there, whose)| {
            format!(
                "it may take {} of memory, and the {whose} has {}: lower `max_connections` or \
                 `buffers.memory`",
                mib(memory),
                mib(there)
            )
        });
        let is_short = self.descriptors > self.descriptors_limit;
        let descriptors = is_short.then(|| {
            format!(
                "{} clients may take {} descriptors in a process, and the limit (ulimit -n) is {}: \
                 others wait then",
                self.clients, self.descriptors, self.descriptors_limit
            )
        });
        memory.into_iter().chain(descriptors).collect()
    }
}

impl fmt::Display for Bill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            processes,
            clients,
            descriptors,
            ..
        } = self;
        write!(
            f,
            "at most {} of memory: {processes} process{} {}, waiting {}, {clients} client{} {}, \
             tables {}",
            mib(self.memory_bytes()),
            if *processes == 1 { "" } else { "es" },
            mib(processes * PROCESS_BYTES),
            mib(self.waiting_bytes),
            plural(*clients == 1),
            mib(self.sessions_bytes),
            mib(self.tables_bytes),
        )?;
        if self.tls_bytes > 0 {
            write!(f, ", TLS {}", mib(self.tls_bytes))?;
        }
        let each = if self.workers == 1 {
            ""
        } else {
            " in each worker"
        };
        write!(
            f,
            "; {descriptors} descriptors{each}; when idle about {}.{} wake-ups a second",
            self.wakeups / 1000,
            self.wakeups % 1000 / 100
        )
    }
}

/// What certificates, keys and authorities take in a process that has them.
fn certificates_bytes(material: &Material) -> u64 {
    let bytes = |ders: &[Vec<u8>]| ders.iter().map(Vec::len).sum::<usize>();
    let listeners = || material.listeners.iter().flatten();
    let shown = listeners().flat_map(|it| &it.certificates);
    let shown = shown.map(|it| &it.identity);
    let own = material.upstreams.iter().flatten();
    let own = own.filter_map(|it| it.identity.as_ref());
    let auths = listeners().flat_map(|it| &it.client_auths);
    let auths = auths.map(|it| bytes(&it.authorities) + bytes(&it.revoked));
    let believed = material.authorities.iter().map(|it| bytes(it)).chain(auths);
    let (mut count, mut ders) = (0, believed.sum::<usize>());
    for identity in shown.chain(own) {
        count += 1;
        ders += bytes(&identity.chain) + identity.key.bytes().len();
    }
    count * CERTIFICATE_BYTES + ders as u64 * DER_COPIES
}

/// How many ends of a session may be encrypted.
fn encrypted_ends(config: &Config) -> u64 {
    let clients = config.listeners.iter().any(|it| it.tls.is_some());
    let backends = config.upstreams.iter().any(|it| it.tls.is_some());
    u64::from(clients) + u64::from(backends)
}

/// A check wakes who does it twice; where several serve, it is told to others.
fn wakeups(config: &Config, is_supervised: bool) -> u64 {
    let (looks, each) = if is_supervised { (LOOKS, 4) } else { (0, 2) };
    let every = |interval: Duration, count: usize| {
        let ms = u64::try_from(interval.as_millis())
            .unwrap_or(u64::MAX)
            .max(1);
        count as u64 * each * 1_000_000 / ms
    };
    let checks = config.upstreams.iter().filter_map(|upstream| {
        let interval = upstream.health_check.as_ref()?.interval;
        Some(every(interval, upstream.backends.len()))
    });
    let lines = config
        .stats_interval
        .map_or(0, |interval| every(interval, 1));
    looks + lines + checks.sum::<u64>()
}

/// Rounded up.
fn mib(bytes: u64) -> String {
    let tenths = (bytes * 10).div_ceil(1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::tls::material::{Certificate, Identity, ListenerMaterial, Secret, UpstreamMaterial};

    const MIB: u64 = 1 << 20;

    fn bill(text: &str, limits: &MemoryLimits, descriptors: u64) -> Bill {
        let compiled = crate::config::compile("f", text, &mut |_| Ok(Vec::new()));
        let config = compiled.expect("it is good").config;
        Bill::of(&Args::of(PathBuf::new()), &config, limits, descriptors)
    }

    fn machine(mib: u64) -> MemoryLimits {
        MemoryLimits {
            machine: Some(mib * MIB),
            ..MemoryLimits::default()
        }
    }

    const LISTEN: &str = "listen: \":80\"\nmode: http\nbackends: [a:1, b:1]\n";

    #[test]
    fn the_bill_of_the_gateway_is_the_one_in_its_file() {
        let text = include_str!("../../conf/gateway.yaml");
        let bill = bill(text, &machine(32), 1024);
        let lines = text.lines().map(|line| line.trim_start_matches(['#', ' ']));
        let text = lines.collect::<Vec<_>>().join(" ");
        assert!(text.contains(&bill.to_string()), "{bill}");
        assert_eq!(bill.unpaid(&machine(32)), Vec::<String>::new());
    }

    #[test]
    fn what_waits_what_is_there_and_who_serves_is_paid_for() {
        let plain = bill(LISTEN, &machine(32), 128);
        assert_eq!(
            (plain.processes, plain.clients, plain.descriptors),
            (1, 48, 128)
        );
        assert_eq!(plain.waiting_bytes, 4 * MIB + MIB / 4);
        assert_eq!((plain.tls_bytes, plain.wakeups), (0, 200));
        let more = format!("{LISTEN}buffers: {{memory: 16MiB}}\nmax_connections: 100\n");
        let more = bill(&more, &machine(32), 128);
        assert_eq!(more.waiting_bytes, 17 * MIB);
        assert_eq!((more.clients, more.descriptors), (98, 228));
        let few = format!("{LISTEN}workers: 4\nmax_connections: 100\n");
        let few = bill(&few, &machine(1024), 1024);
        assert_eq!((few.clients, few.descriptors), (100, 268));
        let several = format!("{LISTEN}workers: 4\nhealth_check: {{interval: 2s}}\n");
        let several = bill(&several, &machine(1024), 1024);
        assert_eq!((several.processes, several.clients), (6, 4 * 478));
        assert_eq!(several.wakeups, 10_000 + 400 + 4_000);
        let tls = format!("{LISTEN}tls: {{certificate: c}}\nmax_connections: 1000\n");
        assert_eq!(bill(&tls, &machine(32), 4096).tls_bytes, (1000 * 20) << 10);
        let doorless = format!("{LISTEN}workers: 2\nadmin: off\n");
        assert_eq!(bill(&doorless, &machine(32), 1024).processes, 3);
    }

    #[test]
    fn certificates_are_paid_for_where_they_are_kept() {
        let identity = || Identity {
            chain: vec![vec![0; 700], vec![0; 300]],
            key: Secret::new(vec![0; 24]),
        };
        let certificate = || Certificate {
            identity: identity(),
            names: Vec::new(),
            client_auth: None,
        };
        let listener = ListenerMaterial {
            certificates: vec![certificate(), certificate()],
            ..ListenerMaterial::default()
        };
        let upstream = UpstreamMaterial {
            authorities: 0,
            identity: Some(identity()),
        };
        let material = Material {
            listeners: vec![None, Some(listener.into())],
            upstreams: vec![Some(upstream), None],
            authorities: vec![vec![vec![0; 1024]]],
        };
        assert_eq!(certificates_bytes(&material), (3 * (4 + 3) + 3) << 10);
    }

    #[test]
    fn a_machine_that_cannot_pay_is_told_of() {
        let text = format!("{LISTEN}buffers: {{memory: 64MiB}}\nmax_connections: 100\n");
        let bill = bill(&text, &machine(32), 128);
        let group = MemoryLimits {
            group: Some(16 * MIB),
            ..machine(32)
        };
        let told = bill.unpaid(&group).join("\n");
        for words in [
            "the control group has 16.0 MiB: lower `max_connections` or `buffers.memory`",
            "98 clients may take 228 descriptors in a process, and the limit (ulimit -n) is 128",
        ] {
            assert!(told.contains(words), "{told}");
        }
        assert!(bill.unpaid(&machine(32))[0].contains("the machine has 32.0 MiB"));
        assert_eq!(bill.unpaid(&MemoryLimits::default()).len(), 1);
    }
}
