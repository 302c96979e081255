//! The programs that are compared, each with a configuration that is fair and fast: one worker or
//! thread, no logs, three backends in turn, kept connections to HTTP backends.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::certificates::NAME;
use crate::engine::Backends;

/// One row of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// As in `PEERS=`.
    pub name: &'static str,
    program: Program,
    tuning: Tuning,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    Direct,
    Floor,
    Weir,
    Nginx,
    Haproxy,
    Envoy,
    Traefik,
    Caddy,
    Sozu,
}

/// What differs between rows of one program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tuning {
    Plain,
    /// 64 KiB buffers.
    Buffers,
    /// splice(2).
    Splice,
}

/// Where a proxy listens and what is behind it.
#[derive(Clone, Debug)]
pub struct Setup<'a> {
    /// A folder for the configuration and whatever the program writes.
    pub folder: &'a Path,
    /// The proxy's port for L4.
    pub l4_port: u16,
    /// The proxy's port for HTTP.
    pub http_port: u16,
    /// What is behind it.
    pub backends: &'a Backends,
    /// Client connections that must be possible at once.
    pub connections_max: usize,
    /// What both ports speak TLS with; none is without TLS.
    pub tls: Option<SetupTls>,
}

/// Where the certificates are.
#[derive(Clone, Debug)]
pub struct SetupTls {
    /// The file of the certificate that clients ask for, with its key.
    pub certificate: PathBuf,
    /// A folder of more such files.
    pub others: Option<PathBuf>,
    /// The names that these are for; the file of a name is `NAME.pem`.
    pub other_names: Vec<String>,
}

const fn peer(name: &'static str, program: Program, tuning: Tuning) -> Peer {
    Peer {
        name,
        program,
        tuning,
    }
}

/// All of them, in the order of the report.
pub const ALL: &[Peer] = &[
    peer("direct", Program::Direct, Tuning::Plain),
    peer("floor", Program::Floor, Tuning::Plain),
    peer("floor-splice", Program::Floor, Tuning::Splice),
    peer("weir", Program::Weir, Tuning::Plain),
    peer("nginx", Program::Nginx, Tuning::Plain),
    peer("nginx-tuned", Program::Nginx, Tuning::Buffers),
    peer("haproxy", Program::Haproxy, Tuning::Plain),
    peer("haproxy-tuned", Program::Haproxy, Tuning::Buffers),
    peer("haproxy-splice", Program::Haproxy, Tuning::Splice),
    peer("envoy", Program::Envoy, Tuning::Plain),
    peer("traefik", Program::Traefik, Tuning::Plain),
    peer("caddy", Program::Caddy, Tuning::Plain),
    peer("sozu", Program::Sozu, Tuning::Plain),
    peer("sozu-splice", Program::Sozu, Tuning::Splice),
];

impl Peer {
    /// No proxy at all: clients connect to the backends.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.program == Program::Direct
    }

    /// A yardstick and not a proxy: left out when the best peer is looked for.
    #[must_use]
    pub fn is_yardstick(&self) -> bool {
        matches!(self.program, Program::Direct | Program::Floor)
    }

    /// Whether it can relay TCP as it is commonly distributed.
    #[must_use]
    pub fn has_l4(&self) -> bool {
        self.program != Program::Caddy
    }

    /// Whether it is set up here to speak TLS, below HTTP or TCP.
    #[must_use]
    pub fn has_tls(&self, is_http: bool) -> bool {
        let has = match self.program {
            Program::Weir | Program::Nginx | Program::Haproxy => true,
            // It hands TLS on where it relays TCP.
            Program::Sozu => is_http,
            _ => false,
        };
        has && self.tuning != Tuning::Splice
    }

    /// The program's file, if it is found: `NAME_BIN` in the environment, the project's own
    /// build folders, or `PATH`.
    #[must_use]
    pub fn find(&self) -> Option<PathBuf> {
        let (variable, name) = match self.program {
            Program::Direct => return None,
            Program::Floor => return sibling("floor"),
            Program::Weir => ("WEIR_BIN", "weir"),
            Program::Nginx => ("NGINX_BIN", "nginx"),
            Program::Haproxy => ("HAPROXY_BIN", "haproxy"),
            Program::Envoy => ("ENVOY_BIN", "envoy"),
            Program::Traefik => ("TRAEFIK_BIN", "traefik"),
            Program::Caddy => ("CADDY_BIN", "caddy"),
            // Whether sozu splices is decided when it is built.
            Program::Sozu if self.tuning == Tuning::Splice => ("SOZU_SPLICE_BIN", "sozu-splice"),
            Program::Sozu => ("SOZU_BIN", "sozu"),
        };
        if let Some(path) = std::env::var_os(variable) {
            return Some(PathBuf::from(path)).filter(|path| path.is_file());
        }
        if self.program == Program::Weir {
            let built = PathBuf::from("target/release/weir");
            return built.is_file().then(|| built.canonicalize().ok()).flatten();
        }
        in_path(name)
    }

    /// What the program says its version is, in one line.
    #[must_use]
    pub fn version(&self, program: &Path) -> String {
        let argument = match self.program {
            Program::Direct | Program::Floor => return String::from("of this bench"),
            Program::Traefik | Program::Caddy => "version",
            Program::Envoy | Program::Sozu => "--version",
            Program::Weir | Program::Nginx | Program::Haproxy => "-v",
        };
        let Ok(output) = Command::new(program).arg(argument).output() else {
            return String::from("unknown version");
        };
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text
            .lines()
            .map(str::trim)
            .find(|l| l.contains(|c: char| c.is_ascii_digit()));
        let line = line.unwrap_or("unknown version");
        // Envoy begins with its own path.
        line.trim_start_matches(&*program.to_string_lossy())
            .trim()
            .to_owned()
    }

    /// The command that runs it in the foreground; writes its configuration first.
    ///
    /// # Errors
    ///
    /// The configuration cannot be written.
    pub fn command(&self, program: &Path, setup: &Setup<'_>) -> io::Result<Command> {
        let mut command = Command::new(program);
        let write = |name: &str, text: String| -> io::Result<PathBuf> {
            let path = setup.folder.join(name);
            fs::write(&path, text)?;
            Ok(path)
        };
        match self.program {
            Program::Direct => {}
            Program::Floor => {
                if self.tuning == Tuning::Splice {
                    command.arg("--splice");
                }
                command.arg(floor_spec(setup.l4_port, &setup.backends.l4));
                command.arg(floor_spec(setup.http_port, &setup.backends.http));
            }
            Program::Weir => {
                command.arg("-c").arg(write("weir.yaml", weir(setup))?);
            }
            Program::Nginx => {
                let file = write("nginx.conf", nginx(setup, self.tuning))?;
                command.arg("-p").arg(setup.folder).arg("-c").arg(file);
                command.arg("-e").arg("stderr");
            }
            Program::Haproxy => {
                let file = write("haproxy.cfg", haproxy(setup, self.tuning))?;
                command.arg("-db").arg("-f").arg(file);
            }
            Program::Envoy => {
                let file = write("envoy.yaml", envoy(setup))?;
                command
                    .arg("-c")
                    .arg(file)
                    .args(["--concurrency", "1", "-l", "error"]);
                command.arg("--disable-hot-restart");
            }
            Program::Traefik => {
                let routes = write("traefik-routes.yaml", traefik_routes(setup))?;
                let file = write("traefik.yaml", traefik(setup, &routes))?;
                command.arg("--configFile").arg(file).env("GOMAXPROCS", "1");
            }
            Program::Caddy => {
                let file = write("Caddyfile", caddy(setup))?;
                command
                    .args(["run", "--adapter", "caddyfile", "--config"])
                    .arg(file);
                command.env("GOMAXPROCS", "1").env("HOME", setup.folder);
                command
                    .env("XDG_CONFIG_HOME", setup.folder)
                    .env("XDG_DATA_HOME", setup.folder);
            }
            Program::Sozu => {
                let file = write("sozu.toml", sozu(setup))?;
                command.arg("start").arg("-c").arg(file);
            }
        }
        Ok(command)
    }
}

/// A program built beside this one.
fn sibling(name: &str) -> Option<PathBuf> {
    let path = std::env::current_exe().ok()?.with_file_name(name);
    path.is_file().then_some(path)
}

/// A program where `make bench-setup` puts it, in `PATH`, or where Debian puts servers.
fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let home = std::env::var_os("HOME")
        .map(PathBuf::from)
        .unwrap_or_default();
    let more = [
        PathBuf::from("/usr/sbin"),
        PathBuf::from("/usr/local/sbin"),
        home.join(".cargo/bin"),
    ];
    // Where `make bench-setup` puts what it installs; it is asked first, because PyPI packages
    // also put a script of the same name into PATH.
    let own = PathBuf::from("bench/target/peers/bin");
    let folders = std::iter::once(own)
        .chain(std::env::split_paths(&path))
        .chain(more);
    let mut files = folders.map(|folder| folder.join(name));
    files.find(|file| file.is_file())?.canonicalize().ok()
}

fn floor_spec(port: u16, backends: &[u16]) -> String {
    let backends: Vec<String> = backends.iter().map(u16::to_string).collect();
    format!("{port}={}", backends.join(","))
}

/// `each` for every port, with `{}` replaced by the number and `{port}` by the port.
fn for_each(ports: &[u16], each: impl Fn(usize, u16) -> String) -> String {
    ports
        .iter()
        .enumerate()
        .map(|(i, port)| each(i, *port))
        .collect()
}

fn weir(setup: &Setup<'_>) -> String {
    let list = |ports| for_each(ports, |_, port| format!("      - 127.0.0.1:{port}\n"));
    let mut text = String::from("log_level: warn\nstats_interval: off\nlisteners:\n");
    let (l4, http) = (setup.l4_port, setup.http_port);
    let tls = weir_tls(setup);
    let _ = writeln!(
        text,
        "  - {{listen: \"127.0.0.1:{l4}\", mode: tcp, {tls}upstream: l4}}"
    );
    let _ = writeln!(
        text,
        "  - {{listen: \"127.0.0.1:{http}\", mode: http, {tls}upstream: http}}"
    );
    text.push_str("upstreams:\n");
    for (name, ports) in [("l4", &setup.backends.l4), ("http", &setup.backends.http)] {
        let _ = writeln!(
            text,
            "  {name}:\n    algorithm: round_robin\n    health_check: off"
        );
        let _ = write!(text, "    backends:\n{}", list(ports));
    }
    text
}

/// The key `tls` of a listener, with what parts it from the next.
fn weir_tls(setup: &Setup<'_>) -> String {
    let Some(tls) = &setup.tls else {
        return String::new();
    };
    let main = format!("certificate: \"{}\"", tls.certificate.display());
    match &tls.others {
        None => format!("tls: {{{main}}}, "),
        Some(folder) => {
            let folder = folder.display();
            format!("tls: {{certificates: [{{{main}}}, {{directory: \"{folder}\"}}]}}, ")
        }
    }
}

fn nginx(setup: &Setup<'_>, tuning: Tuning) -> String {
    let servers = |ports| for_each(ports, |_, port| format!("server 127.0.0.1:{port};\n"));
    let tuned = tuning == Tuning::Buffers;
    let accept = if tuned { "multi_accept on;" } else { "" };
    let stream = if tuned { "proxy_buffer_size 64k;" } else { "" };
    let http = if tuned {
        "proxy_buffer_size 64k; proxy_buffers 4 64k; proxy_busy_buffers_size 128k;"
    } else {
        ""
    };
    // Debian keeps the stream module in a package and a file of its own.
    let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
    let module = if Path::new(module).is_file() {
        format!("load_module {module};")
    } else {
        String::new()
    };
    let (ssl, certificate, more) = nginx_tls(setup);
    let folder = setup.folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("{name}_temp_path {folder}/{name};\n"))
        .collect();
    format!(
        "{module}
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr error;
worker_rlimit_nofile {files};
events {{ worker_connections {connections}; {accept} }}
stream {{
  upstream l4 {{ {l4_servers} }}
  server {{
    listen 127.0.0.1:{l4}{ssl} backlog=4096; {certificate}
    proxy_pass l4; proxy_timeout 1h; {stream}
  }}
}}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 1h; tcp_nodelay on;
  {temporary}
  upstream http {{ {http_servers} keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{http_port}{ssl} backlog=4096; {certificate}
    location / {{
      proxy_pass http://http; proxy_http_version 1.1; proxy_set_header Connection \"\";
      proxy_set_header Host $host; proxy_max_temp_file_size 0; {http}
    }}
  }}
{more}}}
",
        connections = setup.connections_max * 2 + 200,
        files = setup.connections_max * 2 + 400,
        l4 = setup.l4_port,
        http_port = setup.http_port,
        l4_servers = servers(&setup.backends.l4),
        http_servers = servers(&setup.backends.http),
    )
}

/// What `listen` says, what the servers say, and the servers of further certificates. Before its
/// version 1.23.4 nginx spoke TLS 1.3 only where it was told to.
fn nginx_tls(setup: &Setup<'_>) -> (&'static str, String, String) {
    let Some(tls) = &setup.tls else {
        return ("", String::new(), String::new());
    };
    let certificate = |file: &Path| {
        let file = file.display();
        format!("ssl_certificate {file}; ssl_certificate_key {file};")
    };
    let main = certificate(&tls.certificate);
    let port = setup.http_port;
    let mut more = String::new();
    for name in &tls.other_names {
        let file = tls.others.iter().map(|it| it.join(format!("{name}.pem")));
        let own: String = file.map(|file| certificate(&file)).collect();
        let _ = writeln!(
            more,
            "  server {{ listen 127.0.0.1:{port} ssl; server_name {name}; {own} return 404; }}"
        );
    }
    let main = format!("ssl_protocols TLSv1.2 TLSv1.3; {main}");
    (" ssl", main, more)
}

/// What `bind` says of certificates.
fn haproxy_tls(setup: &Setup<'_>) -> String {
    let Some(tls) = &setup.tls else {
        return String::new();
    };
    let mut text = format!(" ssl crt {}", tls.certificate.display());
    if let Some(folder) = &tls.others {
        let _ = write!(text, " crt {}", folder.display());
    }
    text
}

fn haproxy(setup: &Setup<'_>, tuning: Tuning) -> String {
    let servers = |ports| for_each(ports, |i, port| format!("  server s{i} 127.0.0.1:{port}\n"));
    let (global, defaults) = match tuning {
        Tuning::Plain => ("", ""),
        Tuning::Buffers => ("  tune.bufsize 65536\n", ""),
        Tuning::Splice => (
            "  tune.pipesize 1048576\n  maxpipes 200\n",
            "  option splice-auto\n",
        ),
    };
    format!(
        "global
  nbthread 1
  maxconn {connections}
{global}
defaults
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  balance roundrobin
{defaults}
listen l4
  mode tcp
  bind 127.0.0.1:{l4} backlog 4096{tls}
{l4_servers}
listen http
  mode http
  http-reuse always
  bind 127.0.0.1:{http} backlog 4096{tls}
{http_servers}
",
        connections = setup.connections_max + 50,
        tls = haproxy_tls(setup),
        l4 = setup.l4_port,
        http = setup.http_port,
        l4_servers = servers(&setup.backends.l4),
        http_servers = servers(&setup.backends.http),
    )
}

fn envoy(setup: &Setup<'_>) -> String {
    let endpoints = |ports| {
        for_each(ports, |_, port| {
            format!(
                "          - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}\n"
            )
        })
    };
    let cluster = |name: &str, ports| {
        format!(
            "  - name: {name}
    type: STATIC
    lb_policy: ROUND_ROBIN
    circuit_breakers:
      thresholds:
      - {{max_connections: 1000000, max_pending_requests: 1000000, max_requests: 1000000, max_retries: 100}}
    load_assignment:
      cluster_name: {name}
      endpoints:
      - lb_endpoints:
{}",
            endpoints(ports)
        )
    };
    format!(
        "static_resources:
  listeners:
  - name: l4
    address: {{socket_address: {{address: 127.0.0.1, port_value: {l4}}}}}
    tcp_backlog_size: 4096
    filter_chains:
    - filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: l4
          cluster: l4
  - name: http
    address: {{socket_address: {{address: 127.0.0.1, port_value: {http}}}}}
    tcp_backlog_size: 4096
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: http
          generate_request_id: false
          route_config:
            virtual_hosts:
            - name: all
              domains: [\"*\"]
              routes:
              - match: {{prefix: \"/\"}}
                route: {{cluster: http, timeout: 0s}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
              suppress_envoy_headers: true
  clusters:
{}{}",
        cluster("l4", &setup.backends.l4),
        cluster("http", &setup.backends.http),
        l4 = setup.l4_port,
        http = setup.http_port,
    )
}

fn traefik(setup: &Setup<'_>, routes: &Path) -> String {
    format!(
        "global: {{checkNewVersion: false, sendAnonymousUsage: false}}
log: {{level: ERROR}}
entryPoints:
  l4: {{address: \"127.0.0.1:{}\"}}
  http: {{address: \"127.0.0.1:{}\"}}
serversTransport: {{maxIdleConnsPerHost: 1000}}
providers:
  file: {{filename: \"{}\", watch: false}}
",
        setup.l4_port,
        setup.http_port,
        routes.display()
    )
}

fn traefik_routes(setup: &Setup<'_>) -> String {
    let urls = for_each(&setup.backends.http, |_, port| {
        format!("          - url: \"http://127.0.0.1:{port}\"\n")
    });
    let addresses = for_each(&setup.backends.l4, |_, port| {
        format!("          - address: \"127.0.0.1:{port}\"\n")
    });
    format!(
        "http:
  routers:
    all: {{entryPoints: [http], rule: \"PathPrefix(`/`)\", service: backends}}
  services:
    backends:
      loadBalancer:
        servers:
{urls}tcp:
  routers:
    all: {{entryPoints: [l4], rule: \"HostSNI(`*`)\", service: backends}}
  services:
    backends:
      loadBalancer:
        servers:
{addresses}"
    )
}

fn caddy(setup: &Setup<'_>) -> String {
    let backends = for_each(&setup.backends.http, |_, port| format!(" 127.0.0.1:{port}"));
    format!(
        "{{
  admin off
  auto_https off
  persist_config off
  log {{
    output stderr
    level ERROR
  }}
}}
http://:{} {{
  bind 127.0.0.1
  reverse_proxy{backends} {{
    lb_policy round_robin
    transport http {{
      keepalive_idle_conns_per_host 1000
      compression off
    }}
  }}
}}
",
        setup.http_port
    )
}

fn sozu(setup: &Setup<'_>) -> String {
    let (protocol, frontends, l4) = match &setup.tls {
        None => (
            "http",
            sozu_frontend(setup.http_port, NAME, ""),
            sozu_l4(setup),
        ),
        Some(tls) => ("https", sozu_tls(setup, tls), String::new()),
    };
    format!(
        "command_socket = \"{folder}/sozu.sock\"
command_buffer_size = 16384
worker_count = 1
worker_automatic_restart = false
log_level = \"error\"
log_target = \"stdout\"
max_connections = {connections}
max_buffers = {buffers}
activate_listeners = true
front_timeout = 3600
back_timeout = 3600
[[listeners]]
protocol = \"{protocol}\"
address = \"127.0.0.1:{http}\"
[clusters.http]
protocol = \"http\"
load_balancing = \"ROUND_ROBIN\"
frontends = [ {frontends} ]
backends = {http_backends}
{l4}",
        folder = setup.folder.display(),
        connections = setup.connections_max,
        // Two for each connection, also idle ones.
        buffers = setup.connections_max * 2 + 200,
        http = setup.http_port,
        http_backends = sozu_backends(&setup.backends.http),
    )
}

fn sozu_l4(setup: &Setup<'_>) -> String {
    format!(
        "[[listeners]]
protocol = \"tcp\"
address = \"127.0.0.1:{port}\"
[clusters.l4]
protocol = \"tcp\"
load_balancing = \"ROUND_ROBIN\"
frontends = [ {{ address = \"127.0.0.1:{port}\" }} ]
backends = {backends}
",
        port = setup.l4_port,
        backends = sozu_backends(&setup.backends.l4),
    )
}

/// A frontend for each certificate, all with the one cluster behind them.
fn sozu_tls(setup: &Setup<'_>, tls: &SetupTls) -> String {
    let frontend = |name: &str, file: &Path| {
        let file = file.display();
        let files =
            format!(", certificate = \"{file}\", key = \"{file}\", certificate_chain = \"{file}\"");
        sozu_frontend(setup.http_port, name, &files)
    };
    let mut text = frontend(NAME, &tls.certificate);
    for name in &tls.other_names {
        if let Some(folder) = &tls.others {
            text += &frontend(name, &folder.join(format!("{name}.pem")));
        }
    }
    text
}

fn sozu_frontend(port: u16, name: &str, more: &str) -> String {
    format!("{{ address = \"127.0.0.1:{port}\", hostname = \"{name}\"{more} }}, ")
}

fn sozu_backends(ports: &[u16]) -> String {
    let items = for_each(ports, |_, port| {
        format!("{{ address = \"127.0.0.1:{port}\" }}, ")
    });
    format!("[ {items} ]")
}
